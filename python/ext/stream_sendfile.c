/* stream_sendfile.c -- what loop.sendfile() asks of a stream transport.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The file goes past the transport, so nothing may be queued meanwhile: writes
 * are refused as long as there is an _empty_waiter. It is first the future for
 * "all that was written has been sent", then those that sendfile.py puts in its
 * place while the socket takes no more. Whichever it is fails when the
 * connection has ended, so that no sendfile waits for ever.
 */

#include "stream_transport.h"

PyObject *
bkpy_get_sendfile_mode(PyObject *Py_UNUSED(op), void *closure)
{
    PyObject *constants = PyImport_ImportModule("asyncio.constants");
    PyObject *modes = NULL;
    PyObject *mode = NULL;

    if (constants != NULL) {
        modes = PyObject_GetAttrString(constants, "_SendfileMode");
        Py_DECREF(constants);
    }
    if (modes != NULL) {
        mode = PyObject_GetAttrString(modes, (const char *)closure);
        Py_DECREF(modes);
    }
    return mode;
}

PyObject *
bkpy_stream_get_protocol_paused(PyObject *op, void *Py_UNUSED(closure))
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);

    return PyBool_FromLong(bkpy_stream_is_alive(self) &&
                           bk_transport_is_writing_paused(&self->core));
}

PyObject *
bkpy_stream_get_empty_waiter(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *waiter = StreamTransportObject_CAST(op)->empty_waiter;

    return Py_NewRef(waiter == NULL ? Py_None : waiter);
}

int
bkpy_stream_set_empty_waiter(PyObject *op, PyObject *value,
                             void *Py_UNUSED(closure))
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);

    Py_XSETREF(self->empty_waiter, value == Py_None ? NULL : Py_XNewRef(value));
    return 0;
}

/* Ours, whatever user's code has put in its place meanwhile. */
static PyObject *
new_waiter(StreamTransportObject *self, bool is_empty)
{
    PyObject *waiter = bkpy_loop_create_future(self->loop);

    if (waiter == NULL) {
        return NULL;
    }
    if (is_empty && bkpy_future_set_result(self->state, waiter, Py_None) < 0) {
        Py_DECREF(waiter);
        return NULL;
    }
    Py_XSETREF(self->empty_waiter, Py_NewRef(waiter));
    return waiter;
}

PyObject *
bkpy_stream_make_empty_waiter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    bool is_empty;

    if (self->empty_waiter != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Empty waiter is already set");
        return NULL;
    }
    if (!bkpy_stream_is_alive(self)) {
        PyErr_SetString(PyExc_ConnectionError, "Connection is closed by peer");
        return NULL;
    }
    bkpy_stream_begin_call(self);
    is_empty = bk_transport_get_write_buffer_size(&self->core) == 0;
    if (bkpy_stream_end_call(self) < 0) {
        return NULL;
    }
    return new_waiter(self, is_empty);
}

PyObject *
bkpy_stream_reset_empty_waiter(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    Py_CLEAR(StreamTransportObject_CAST(op)->empty_waiter);
    Py_RETURN_NONE;
}

void
bkpy_stream_wake_sendfile(StreamTransportObject *self)
{
    PyObject *waiter = Py_XNewRef(self->empty_waiter);

    if (waiter == NULL) {
        return;
    }
    if (bkpy_future_set_result(self->state, waiter, Py_None) < 0) {
        PyErr_WriteUnraisable(waiter);
    }
    Py_DECREF(waiter);
}

void
bkpy_stream_fail_sendfile(StreamTransportObject *self)
{
    PyObject *waiter = Py_XNewRef(self->empty_waiter);
    PyObject *error;

    if (waiter == NULL) {
        return;
    }
    error = self->error != NULL
                ? Py_NewRef(self->error)
                : PyObject_CallFunction(PyExc_ConnectionError, "s",
                                        "Connection is closed by peer");
    if (error == NULL ||
        bkpy_future_set_exception(self->state, waiter, error) < 0) {
        PyErr_WriteUnraisable(waiter);
    }
    Py_XDECREF(error);
    Py_DECREF(waiter);
}
