/* stream_writing.c -- the writing methods of the stream transport.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Exact bytes are lent to the core with a reference. Everything else may change
 * or run code of the user's when it is given up, so the core gets a copy.
 */

#include "stream_transport.h"

#include "args.h"
#include "errors.h"
#include "log.h"
#include "streams.h"
#include "written_data.h"

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

BKPY_COLD static void
refuse_write(const char *method)
{
    PyErr_Format(PyExc_RuntimeError, "Cannot call %s() after write_eof()",
                 method);
}

/* Writes and a sendfile would mix. */
BKPY_COLD static void
refuse_in_sendfile(const char *method)
{
    PyErr_Format(PyExc_RuntimeError, "unable to %s; sendfile is in progress",
                 method);
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

/* 0, or -1 with an exception. */
static int
check_open(const StreamTransportObject *self, const char *method)
{
    if (self->is_eof_asked) {
        refuse_write(method);
        return -1;
    }
    if (self->empty_waiter != NULL) {
        refuse_in_sendfile(method);
        return -1;
    }
    return 0;
}

/* Of data that may be written; -1 with an exception. */
static Py_ssize_t
length_to_write(StreamTransportObject *self, PyObject *data)
{
    if (!bkpy_is_written_data(data)) {
        refuse_type(data);
        return -1;
    }
    if (check_open(self, "write") < 0) {
        return -1;
    }
    return PyBytes_CheckExact(data) ? PyBytes_GET_SIZE(data)
                                    : PyObject_Size(data);
}

static inline void
begin_write(StreamTransportObject *self)
{
    self->is_receiving = false;
    bkpy_stream_begin_call(self);
}

/* With an exception set: data that cannot be sent loses the connection, as in
 * asyncio. */
BKPY_COLD static PyObject *
fail_write(StreamTransportObject *self)
{
    if (!bkpy_stream_is_alive(self)) {
        return NULL;
    }
    begin_write(self);
    bkpy_stream_fail(self, "Fatal write error on socket transport");
    return finish_write(self, 0);
}

/* What the data's own code has ended takes no more. */
BKPY_COLD static PyObject *
give_up_write(StreamTransportObject *self, Py_buffer *view)
{
    int r = check_open(self, "write");

    PyBuffer_Release(view);
    return r < 0 ? NULL : drop_write(self);
}

/* Data that may change after the call: copied, if the kernel does not take it
 * now. Memory that is not contiguous cannot be sent, as in asyncio. The type
 * may have a __len__ and a __buffer__ in Python, which can do anything to the
 * transport: so that is looked at again. */
static PyObject *
write_buffer(StreamTransportObject *self, PyObject *data)
{
    Py_buffer view;
    int r;

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return fail_write(self);
    }
    if (self->is_eof_asked || self->empty_waiter != NULL || !can_write(self)) {
        return give_up_write(self, &view);
    }
    begin_write(self);
    r = bk_transport_write(&self->core, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return finish_write(self, r);
}

BKPY_HOT PyObject *
bkpy_stream_write_data(StreamTransportObject *self, PyObject *data)
{
    Py_ssize_t len = length_to_write(self, data);

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
    if (!PyBytes_CheckExact(data)) {
        return write_buffer(self, data);
    }
    begin_write(self);
    return finish_write(self, write_bytes(self, data));
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
    /* What the lines' own code has done counts. */
    if (check_open(self, BKPY_WRITELINES_JOINS ? "write" : "writelines") < 0) {
        result = NULL;
    }
    else if (!can_write(self)) {
        result = drop_write(self);
    }
    else {
        begin_write(self);
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
    if (check_open(self, "writelines") < 0) {
        return NULL;
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
    (void)bk_transport_write_eof(&self->core);
    self->is_eof_asked = bk_transport_is_eof_asked(&self->core);
    return bkpy_stream_end_call(self) < 0 ? NULL : Py_NewRef(Py_None);
}
