/* stream_writing.c -- the writing methods of the stream transport.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Exact bytes are lent to the core with a reference. Everything else may change
 * or run code of the user's when it is given up, so the core gets a copy.
 */

#include "stream_transport.h"

#include <errno.h>

#include "args.h"
#include "errors.h"
#include "log.h"
#include "streams.h"
#include "written_data.h"

#define WRITE_ERROR "Fatal write error on socket transport"

static inline bool
can_write(const StreamTransportObject *self)
{
    return self->conn_lost == 0 && bkpy_stream_is_alive(self);
}

static int
write_bytes(StreamTransportObject *self, PyObject *data)
{
    int r = bk_transport_write_lent(&self->core, PyBytes_AS_STRING(data),
                                    (size_t)PyBytes_GET_SIZE(data),
                                    bkpy_release_bytes, Py_NewRef(data));

    return r;
}

/* Exact bytes with what is in data, which supports the buffer protocol. */
static PyObject *
to_bytes(PyObject *data)
{
    return PyBytes_CheckExact(data) ? Py_NewRef(data)
                                    : PyBytes_FromObject(data);
}

/* The type of the data may have a __buffer__ in Python. */
static int
get_buffer(StreamTransportObject *self, PyObject *data, Py_buffer *view)
{
    bool is_inside = self->is_in_data;
    int r;

    self->is_in_data = true;
    r = PyObject_GetBuffer(data, view, PyBUF_SIMPLE);
    self->is_in_data = is_inside;
    return r;
}

/* The end of the stream; or, inside of a write() whose data will be queued, a
 * promise of it. */
static void
ask_for_eof(StreamTransportObject *self)
{
    if (self->is_in_data &&
        bk_transport_get_write_buffer_size(&self->core) > 0) {
        self->is_eof_late = true;
        self->is_eof_asked = true;
        return;
    }
    (void)bk_transport_write_eof(&self->core);
    self->is_eof_asked = bk_transport_is_eof_asked(&self->core);
}

/* Not inside of another write(), which does it later. */
static void
keep_promise_of_eof(StreamTransportObject *self)
{
    if (!self->is_eof_late || self->is_in_data) {
        return;
    }
    self->is_eof_late = false;
    if (bkpy_stream_is_alive(self)) {
        (void)bk_transport_write_eof(&self->core);
    }
}

/* What write() was given has ended the stream: so asyncio's send() fails. */
BKPY_COLD static void
fail_after_eof(StreamTransportObject *self)
{
    if (can_write(self)) {
        bkpy_error_set(self->state, -EPIPE);
        bkpy_stream_fail(self, WRITE_ERROR);
    }
}

/* Data that may change after the call: copied, if the kernel does not take it
 * now. Memory that is not contiguous cannot be sent, as in asyncio. */
static int
write_buffer(StreamTransportObject *self, PyObject *data)
{
    Py_buffer view;
    int r;

    if (get_buffer(self, data, &view) < 0) {
        bkpy_stream_fail(self, WRITE_ERROR);
        keep_promise_of_eof(self);
        return 0;
    }
    r = bk_transport_write(&self->core, view.buf, (size_t)view.len);
    keep_promise_of_eof(self);
    PyBuffer_Release(&view);
    if (r == -EPIPE) {
        fail_after_eof(self);
        return 0;
    }
    return r;
}

/* After a write: its result as the method's. A transport that nothing holds
 * cannot wait for the end of the callback. */
static PyObject *
finish_write(StreamTransportObject *self, int r)
{
    if (self->anchor.owner == NULL && bkpy_stream_is_alive(self)) {
        bk_transport_flush(&self->core);
    }
    if (bkpy_stream_end_call(self) < 0) {
        return NULL;
    }
    if (r < 0) {
        return bkpy_error_set_memory(self->state, r);
    }
    Py_RETURN_NONE;
}

/* A write for which there is no connection. */
BKPY_COLD static PyObject *
drop_write(StreamTransportObject *self)
{
    if (self->conn_lost >= BKPY_WARN_AFTER_DROPPED) {
        bkpy_log("warning", NULL, "(s)", "socket.send() raised exception.");
    }
    self->conn_lost++;
    Py_RETURN_NONE;
}

BKPY_COLD static PyObject *
refuse_write(const char *method)
{
    PyErr_Format(PyExc_RuntimeError, "Cannot call %s() after write_eof()",
                 method);
    return NULL;
}

/* Writes and a sendfile would mix. */
BKPY_COLD static PyObject *
refuse_in_sendfile(const char *method)
{
    PyErr_Format(PyExc_RuntimeError, "unable to %s; sendfile is in progress",
                 method);
    return NULL;
}

BKPY_COLD static void
refuse_type(PyObject *data)
{
    PyObject *name = PyType_GetName(Py_TYPE(data));

    if (name != NULL) {
        PyErr_Format(PyExc_TypeError, BKPY_WRITE_EXPECTS ", not %R", name);
        Py_DECREF(name);
    }
}

/* Of data that may be written; -1 with an exception. */
static Py_ssize_t
length_to_write(StreamTransportObject *self, PyObject *data)
{
    if (!bkpy_is_written_data(data)) {
        refuse_type(data);
        return -1;
    }
    if (self->is_eof_asked) {
        refuse_write("write");
        return -1;
    }
    if (self->empty_waiter != NULL) {
        refuse_in_sendfile("write");
        return -1;
    }
    return PyBytes_CheckExact(data) ? PyBytes_GET_SIZE(data)
                                    : PyObject_Size(data);
}

BKPY_HOT PyObject *
bkpy_stream_write_data(StreamTransportObject *self, PyObject *data)
{
    Py_ssize_t len = length_to_write(self, data);
    int r;

    if (len < 0) {
        return NULL;
    }
    if (len == 0) {
        Py_RETURN_NONE;
    }
    if (!can_write(self)) {
        return drop_write(self);
    }
    if (self->seeks_writer) {
        bkpy_writer_adopt_caller(self->loop, (PyObject *)self);
    }
    self->is_receiving = false;
    bkpy_stream_begin_call(self);
    r = PyBytes_CheckExact(data) ? write_bytes(self, data)
                                 : write_buffer(self, data);
    return finish_write(self, r);
}

BKPY_HOT PyObject *
bkpy_stream_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "write",
        .names = {"data"},
        .required = 1,
        .positional = 1,
    };
    PyObject *data = bkpy_parse_one(&spec, args, nargs, kwnames);

    return data == NULL
               ? NULL
               : bkpy_stream_write_data(StreamTransportObject_CAST(op), data);
}

static PyObject *
line_type_error(PyObject *item, Py_ssize_t index)
{
    if (BKPY_WRITELINES_JOINS) {
        PyErr_Format(PyExc_TypeError,
                     "sequence item %zd: expected a bytes-like object, %.80s "
                     "found",
                     index, Py_TYPE(item)->tp_name);
    }
    else {
        PyErr_Format(
            PyExc_TypeError,
            "memoryview: a bytes-like object is required, not '%.200s'",
            Py_TYPE(item)->tp_name);
    }
    return NULL;
}

/* A tuple of exact bytes: all of the list is looked at before any is sent. */
static PyObject *
lines_to_bytes(PyObject *lines)
{
    PyObject *items = PySequence_Tuple(lines);
    PyObject *result;

    if (items == NULL) {
        return NULL;
    }
    result = PyTuple_New(PyTuple_GET_SIZE(items));
    for (Py_ssize_t i = 0; result != NULL && i < PyTuple_GET_SIZE(items); i++) {
        PyObject *item = PyTuple_GET_ITEM(items, i);
        PyObject *bytes = PyObject_CheckBuffer(item) ? to_bytes(item)
                                                     : line_type_error(item, i);

        if (bytes == NULL) {
            Py_CLEAR(result);
        }
        else {
            PyTuple_SET_ITEM(result, i, bytes);
        }
    }
    Py_DECREF(items);
    return result;
}

/* One system call for all, and one look at the water marks. */
static int
write_all(StreamTransportObject *self, PyObject *lines)
{
    int r = 0;

    bk_transport_cork(&self->core);
    for (Py_ssize_t i = 0; r == 0 && i < PyTuple_GET_SIZE(lines); i++) {
        r = write_bytes(self, PyTuple_GET_ITEM(lines, i));
    }
    bk_transport_uncork(&self->core);
    return r;
}

/* asyncio's writelines() calls add_writer() anew, unlike write(), while more
 * is left to send; so what comes of it runs in this context. */
static void
renew_write_context(StreamTransportObject *self)
{
    PyObject *context;

    if (BKPY_WRITELINES_JOINS || self->write_context == NULL) {
        return;
    }
    context = bkpy_stream_callback_context(self);
    if (context == NULL) {
        PyErr_Clear(); /* the old one will do */
        return;
    }
    Py_SETREF(self->write_context, context);
}

static PyObject *
writelines(StreamTransportObject *self, PyObject *list_of_data)
{
    PyObject *lines = lines_to_bytes(list_of_data);
    PyObject *result;
    int r;

    if (lines == NULL) {
        return NULL;
    }
    if (self->is_eof_asked) {
        result = refuse_write("write");
    }
    else if (self->empty_waiter != NULL) {
        result = refuse_in_sendfile("write");
    }
    else if (!can_write(self)) {
        result = drop_write(self);
    }
    else {
        self->is_receiving = false;
        bkpy_stream_begin_call(self);
        r = write_all(self, lines);
        renew_write_context(self);
        result = finish_write(self, r);
    }
    Py_DECREF(lines);
    return result;
}

PyObject *
bkpy_stream_writelines(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "writelines",
        .names = {"list_of_data"},
        .required = 1,
        .positional = 1,
    };
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    PyObject *list_of_data = bkpy_parse_one(&spec, args, nargs, kwnames);
    int is_true;

    if (list_of_data == NULL) {
        return NULL;
    }
    if (BKPY_WRITELINES_JOINS) {
        return writelines(self, list_of_data);
    }
    if (self->is_eof_asked) {
        return refuse_write("writelines");
    }
    if (self->empty_waiter != NULL) {
        return refuse_in_sendfile("writelines");
    }
    is_true = PyObject_IsTrue(list_of_data);
    if (is_true <= 0) {
        return is_true < 0 ? NULL : Py_NewRef(Py_None);
    }
    return writelines(self, list_of_data);
}

PyObject *
bkpy_stream_write_eof(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);

    if (!bkpy_stream_is_alive(self)) {
        Py_RETURN_NONE;
    }
    bkpy_stream_begin_call(self);
    ask_for_eof(self);
    return bkpy_stream_end_call(self) < 0 ? NULL : Py_NewRef(Py_None);
}
