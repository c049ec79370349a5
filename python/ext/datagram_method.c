/* datagram_method.c -- methods and attributes of the datagram transport.
 *
 * SPDX-License-Identifier: MIT
 *
 * All but sendto(), which is in datagram_send.c. get_extra_info() is asyncio's
 * own, over `_extra`; the methods of byte streams are asyncio's as well, and
 * raise NotImplementedError.
 */

#include "datagram_transport.h"

#include "args.h"
#include "log.h"
#include "water_marks.h"

/* --- calls into the core --- */

int
bkpy_datagram_end_call(DatagramTransportObject *self)
{
    PyObject *raised = self->raised;

    self->calls--;
    if (raised == NULL || self->calls > 0) {
        return 0;
    }
    self->raised = NULL;
    if (PyErr_Occurred()) {
        Py_DECREF(raised);
        return -1;
    }
    PyErr_SetRaisedException(raised);
    return -1;
}

static PyObject *
none_after_call(DatagramTransportObject *self)
{
    if (bkpy_datagram_end_call(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- closing --- */

/* The loop is closed, so connection_lost cannot be scheduled any more, which
 * is what asyncio says as well. */
static PyObject *
close_dead(DatagramTransportObject *self)
{
    if (self->loop == NULL || self->is_closing) {
        Py_RETURN_NONE;
    }
    self->is_closing = true;
    self->conn_lost++;
    (void)bkpy_loop_check_closed(self->loop);
    return NULL;
}

static PyObject *
datagram_transport_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    DatagramTransportObject *self = DatagramTransportObject_CAST(op);

    if (!bkpy_datagram_is_alive(self)) {
        return close_dead(self);
    }
    bkpy_datagram_begin_call(self);
    bk_datagram_close(&self->core);
    self->is_closing = true;
    bkpy_datagram_review_hold(self);
    return none_after_call(self);
}

static PyObject *
datagram_transport_abort(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    DatagramTransportObject *self = DatagramTransportObject_CAST(op);

    if (!bkpy_datagram_is_alive(self)) {
        return close_dead(self);
    }
    bkpy_datagram_begin_call(self);
    bkpy_datagram_lose(self, NULL);
    return none_after_call(self);
}

static PyObject *
datagram_transport_is_closing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(DatagramTransportObject_CAST(op)->is_closing);
}

/* --- reading --- */

static bool
is_reading(const DatagramTransportObject *self)
{
    return !self->is_paused && !self->is_closing;
}

static PyObject *
datagram_transport_is_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return PyBool_FromLong(is_reading(DatagramTransportObject_CAST(op)));
}

static PyObject *
datagram_transport_pause_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    DatagramTransportObject *self = DatagramTransportObject_CAST(op);

    if (!is_reading(self)) {
        Py_RETURN_NONE;
    }
    self->is_paused = true;
    if (!bkpy_datagram_is_alive(self)) {
        Py_RETURN_NONE;
    }
    bk_datagram_pause_reading(&self->core);
    bkpy_datagram_review_hold(self);
    if (self->loop->is_debug) {
        bkpy_log("debug", NULL, "(sO)", "%r pauses reading", self);
    }
    Py_RETURN_NONE;
}

/* Reading begins anew, in the context of whoever resumes it. Before it has
 * begun at all, its start still follows, with the context it was queued in. */
static int
renew_context(DatagramTransportObject *self)
{
    PyObject *context;

    if (!self->is_started) {
        return 0;
    }
    context = PyContext_CopyCurrent();
    if (context == NULL) {
        return -1;
    }
    Py_XSETREF(self->context, context);
    return 0;
}

static PyObject *
datagram_transport_resume_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    DatagramTransportObject *self = DatagramTransportObject_CAST(op);

    if (self->is_closing || !self->is_paused) {
        Py_RETURN_NONE;
    }
    if (!bkpy_datagram_is_alive(self)) {
        self->is_paused = false;
        return bkpy_loop_check_closed(self->loop) < 0 ? NULL
                                                      : Py_NewRef(Py_None);
    }
    if (renew_context(self) < 0) {
        return NULL;
    }
    self->is_paused = false;
    bkpy_datagram_begin_call(self);
    bk_datagram_resume_reading(&self->core);
    bkpy_datagram_review_hold(self);
    if (bkpy_datagram_end_call(self) < 0) {
        return NULL;
    }
    if (self->loop->is_debug) {
        bkpy_log("debug", NULL, "(sO)", "%r resumes reading", self);
    }
    Py_RETURN_NONE;
}

/* --- the write buffer --- */

/* 0, or -1 with an exception. */
static int
write_buffer_size(DatagramTransportObject *self, size_t *ret_size)
{
    *ret_size = 0;
    if (!bkpy_datagram_is_alive(self)) {
        return 0;
    }
    bkpy_datagram_begin_call(self);
    *ret_size = bk_datagram_get_write_buffer_size(&self->core);
    return bkpy_datagram_end_call(self);
}

static PyObject *
datagram_transport_get_write_buffer_size(PyObject *op,
                                         PyObject *Py_UNUSED(ignored))
{
    size_t size;
    int r = write_buffer_size(DatagramTransportObject_CAST(op), &size);

    return r < 0 ? NULL : PyLong_FromSize_t(size);
}

static PyObject *
datagram_transport_get_write_buffer_limits(PyObject *op,
                                           PyObject *Py_UNUSED(ignored))
{
    size_t high, low;

    bk_datagram_get_write_buffer_limits(&DatagramTransportObject_CAST(op)->core,
                                        &high, &low);
    return Py_BuildValue("NN", PyLong_FromSize_t(low), PyLong_FromSize_t(high));
}

static PyObject *
datagram_transport_set_write_buffer_limits(PyObject *op, PyObject *const *args,
                                           Py_ssize_t nargs, PyObject *kwnames)
{
    DatagramTransportObject *self = DatagramTransportObject_CAST(op);
    size_t high, low;

    if (bkpy_parse_water_marks(args, nargs, kwnames, &high, &low) < 0) {
        return NULL;
    }
    if (self->loop != NULL && self->loop->is_closed) {
        Py_RETURN_NONE;
    }
    bkpy_datagram_begin_call(self);
    (void)bk_datagram_set_write_buffer_limits(&self->core, high, low);
    return none_after_call(self);
}

/* --- the protocol --- */

static PyObject *
datagram_transport_set_protocol(PyObject *op, PyObject *const *args,
                                Py_ssize_t nargs, PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "set_protocol",
        .names = {"protocol"},
        .required = 1,
        .positional = 1,
    };
    DatagramTransportObject *self = DatagramTransportObject_CAST(op);
    PyObject *protocol;

    if (bkpy_parse(args, nargs, kwnames, &spec, &protocol) < 0) {
        return NULL;
    }
    bkpy_datagram_begin_call(self);
    if (bkpy_datagram_is_alive(self)) {
        bk_datagram_flush(&self->core);
    }
    Py_XSETREF(self->protocol, Py_NewRef(protocol));
    return none_after_call(self);
}

static PyObject *
none_if_null(PyObject *value)
{
    return Py_NewRef(value == NULL ? Py_None : value);
}

static PyObject *
datagram_transport_get_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return none_if_null(DatagramTransportObject_CAST(op)->protocol);
}

/* --- repr --- */

/* ' read=polling write=<idle, bufsize=0>'; NULL with an exception. */
static PyObject *
describe_io(DatagramTransportObject *self)
{
    bool is_polling = self->is_started && is_reading(self);
    size_t size;

    if (write_buffer_size(self, &size) < 0) {
        return NULL;
    }
    return PyUnicode_FromFormat(" read=%s write=<%s, bufsize=%zu>",
                                is_polling ? "polling" : "idle",
                                size > 0 ? "polling" : "idle", size);
}

PyObject *
bkpy_datagram_repr(PyObject *op)
{
    DatagramTransportObject *self = DatagramTransportObject_CAST(op);
    const char *stage = self->is_closing ? " closing" : "";
    PyObject *name = PyType_GetName(Py_TYPE(op));
    PyObject *io;
    PyObject *text;

    if (name == NULL) {
        return NULL;
    }
    io = bkpy_datagram_is_alive(self) ? describe_io(self)
                                      : PyUnicode_FromString("");
    if (io == NULL) {
        Py_DECREF(name);
        return NULL;
    }
    if (self->loop == NULL) {
        stage = " closed";
    }
    text = PyUnicode_FromFormat("<%U%s fd=%d%U>", name, stage, self->fd, io);
    Py_DECREF(name);
    Py_DECREF(io);
    return text;
}

/* --- attributes --- */

static PyObject *
get_loop(PyObject *op, void *Py_UNUSED(closure))
{
    return none_if_null((PyObject *)DatagramTransportObject_CAST(op)->loop);
}

/* Whoever uses the socket sees what was sent before. */
static PyObject *
get_sock(PyObject *op, void *Py_UNUSED(closure))
{
    DatagramTransportObject *self = DatagramTransportObject_CAST(op);

    if (self->loop == NULL) {
        Py_RETURN_NONE;
    }
    if (bkpy_datagram_is_alive(self)) {
        bkpy_datagram_begin_call(self);
        bk_datagram_flush(&self->core);
        if (bkpy_datagram_end_call(self) < 0) {
            return NULL;
        }
    }
    return none_if_null(self->socket);
}

static PyObject *
get_protocol(PyObject *op, void *Py_UNUSED(closure))
{
    return none_if_null(DatagramTransportObject_CAST(op)->protocol);
}

static PyObject *
get_address(PyObject *op, void *Py_UNUSED(closure))
{
    return none_if_null(DatagramTransportObject_CAST(op)->address);
}

static PyObject *
get_sock_fd(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(DatagramTransportObject_CAST(op)->fd);
}

static PyObject *
get_closing(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(DatagramTransportObject_CAST(op)->is_closing);
}

static PyObject *
get_paused(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(DatagramTransportObject_CAST(op)->is_paused);
}

static PyObject *
get_conn_lost(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(DatagramTransportObject_CAST(op)->conn_lost);
}

static PyObject *
get_max_size(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure))
{
    return PyLong_FromLong(BK_READ_MAX);
}

/* --- the tables --- */

#define METHOD(name, function, parameters, text)                               \
    {                                                                          \
        name, (PyCFunction)(void (*)(void))function,                           \
            METH_FASTCALL | METH_KEYWORDS,                                     \
            name "($self, /" parameters ")\n--\n\n" text                       \
    }
#define NOARGS(name, function, text)                                           \
    {                                                                          \
        name, function, METH_NOARGS, name "($self, /)\n--\n\n" text            \
    }

PyMethodDef bkpy_datagram_methods[] = {
    METHOD("sendto", bkpy_datagram_sendto, ", data, addr=None",
           "Send one datagram; failures arrive in error_received()."),
    NOARGS("close", datagram_transport_close,
           "Send what waits for the kernel, then end."),
    NOARGS("abort", datagram_transport_abort, "End, and drop what waits."),
    NOARGS("is_closing", datagram_transport_is_closing,
           "True from close(), abort() or a fatal failure on."),
    NOARGS("is_reading", datagram_transport_is_reading,
           "True unless paused or closing."),
    NOARGS("pause_reading", datagram_transport_pause_reading,
           "Receive nothing more until resume_reading()."),
    NOARGS("resume_reading", datagram_transport_resume_reading,
           "Receive again."),
    NOARGS("get_write_buffer_size", datagram_transport_get_write_buffer_size,
           "Return how many bytes wait for the kernel."),
    NOARGS("get_write_buffer_limits",
           datagram_transport_get_write_buffer_limits,
           "Return (low, high) of the water marks."),
    METHOD("set_write_buffer_limits",
           datagram_transport_set_write_buffer_limits, ", high=None, low=None",
           "Set the marks at which writing is paused and resumed."),
    METHOD("set_protocol", datagram_transport_set_protocol, ", protocol",
           "Call this protocol from now on."),
    NOARGS("get_protocol", datagram_transport_get_protocol,
           "Return the protocol; None once it has ended."),
    {NULL, NULL, 0, NULL},
};

/* Private in asyncio, and yet read by packages and by asyncio itself. */
PyGetSetDef bkpy_datagram_getset[] = {
    {"_loop", get_loop, NULL, NULL, NULL},
    {"_sock", get_sock, NULL, NULL, NULL},
    {"_sock_fd", get_sock_fd, NULL, NULL, NULL},
    {"_protocol", get_protocol, NULL, NULL, NULL},
    {"_address", get_address, NULL, NULL, NULL},
    {"_closing", get_closing, NULL, NULL, NULL},
    {"_paused", get_paused, NULL, NULL, NULL},
    {"_conn_lost", get_conn_lost, NULL, NULL, NULL},
    {"max_size", get_max_size, NULL, NULL, NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
