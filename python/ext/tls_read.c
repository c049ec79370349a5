/* tls_read.c -- plain bytes to the user's protocol.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * As in asyncio, all that has come is read before data_received() is called
 * once; what was read before a failure is dropped. How much that can be is
 * bounded by the pump's marks for records.
 */

#include <errno.h>
#include <string.h>

#include "tls.h"

/* Most messages fit one record, which is read into memory of the stack. */
#define FIRST_BYTES 16384

/* --- by data_received() --- */

/* What is read in one go. */
struct plain {
    PyObject *bytes; /* owned: NULL while first is large enough */
    size_t len;
    char first[FIRST_BYTES];
};

static size_t
room_of(const struct plain *plain)
{
    size_t size = plain->bytes == NULL ? sizeof(plain->first)
                                       : (size_t)PyBytes_GET_SIZE(plain->bytes);

    return size - plain->len;
}

static char *
end_of(struct plain *plain)
{
    char *start =
        plain->bytes == NULL ? plain->first : PyBytes_AS_STRING(plain->bytes);

    return start + plain->len;
}

/* Room for what may be in the records that wait, and one more. */
static int
grow(TlsProtocolObject *self, struct plain *plain)
{
    size_t size = plain->len + bk_tls_pump_read_size(&self->pump) + FIRST_BYTES;

    if (plain->bytes != NULL) {
        return _PyBytes_Resize(&plain->bytes, (Py_ssize_t)size);
    }
    plain->bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)size);
    if (plain->bytes == NULL) {
        return -1;
    }
    memcpy(PyBytes_AS_STRING(plain->bytes), plain->first, plain->len);
    return 0;
}

/* Until there is no more: -EAGAIN, BK_EOF, or a failure. */
static ssize_t
read_all(TlsProtocolObject *self, struct plain *plain)
{
    for (;;) {
        ssize_t n;

        if (room_of(plain) == 0 && grow(self, plain) < 0) {
            return bkpy_tls_stash(self);
        }
        n = bk_tls_pump_read(&self->pump, end_of(plain), room_of(plain));
        if (n < 0) {
            return n;
        }
        plain->len += (size_t)n;
    }
}

/* New reference to what was read, or NULL with an exception. */
static PyObject *
finish(struct plain *plain)
{
    PyObject *bytes = plain->bytes;

    plain->bytes = NULL;
    if (bytes == NULL) {
        return PyBytes_FromStringAndSize(plain->first, (Py_ssize_t)plain->len);
    }
    (void)_PyBytes_Resize(&bytes, (Py_ssize_t)plain->len);
    return bytes;
}

/* Call a method of the user's protocol. 0, or a code. */
static int
call_app(TlsProtocolObject *self, PyObject *name, PyObject *arg)
{
    PyObject *app = self->app;
    PyObject *result;

    if (app == NULL) {
        return 0;
    }
    Py_INCREF(app);
    result = PyObject_CallMethodOneArg(app, name, arg);
    Py_DECREF(app);
    if (result == NULL) {
        return bkpy_tls_stash(self);
    }
    Py_DECREF(result);
    return 0;
}

static int
deliver(TlsProtocolObject *self, struct plain *plain)
{
    PyObject *bytes;
    int r;

    if (plain->len == 0) {
        return 0;
    }
    r = plain->bytes == NULL
            ? bkpy_tls_feed_reader(self, plain->first, plain->len)
            : 0;
    if (r != 0) {
        return r < 0 ? r : 0;
    }
    bytes = finish(plain);
    if (bytes == NULL) {
        return bkpy_tls_stash(self);
    }
    r = call_app(self, self->state->str_data_received, bytes);
    Py_DECREF(bytes);
    return r;
}

static int
read_copied(TlsProtocolObject *self)
{
    struct plain plain;
    ssize_t r;
    int delivered = 0;

    plain.bytes = NULL;
    plain.len = 0;
    r = read_all(self, &plain);
    if (r == -EAGAIN || r == BK_EOF) {
        delivered = deliver(self, &plain);
    }
    Py_XDECREF(plain.bytes);
    if (delivered < 0) {
        return delivered;
    }
    return r == -EAGAIN ? 0 : (int)r;
}

/* --- by buffer_updated() --- */

/* get_buffer(n) of the protocol: 0, or a code. */
static int
ask_buffer(TlsProtocolObject *self, Py_buffer *ret_view)
{
    PyObject *hint = PyLong_FromSize_t(bk_tls_pump_read_size(&self->pump));
    PyObject *app = Py_XNewRef(self->app);
    PyObject *buf = NULL;
    int r = -1;

    if (hint != NULL && app != NULL) {
        buf = PyObject_CallMethodOneArg(app, self->state->str_get_buffer, hint);
    }
    if (buf != NULL) {
        r = PyObject_GetBuffer(buf, ret_view, PyBUF_WRITABLE);
    }
    Py_XDECREF(hint);
    Py_XDECREF(app);
    Py_XDECREF(buf);
    return r < 0 ? bkpy_tls_stash(self) : 0;
}

/* Until it is full or there is no more: 0, -EAGAIN, BK_EOF, or a failure. A
 * buffer without room ends the connection, as in asyncio. */
static ssize_t
fill(TlsProtocolObject *self, const Py_buffer *view, size_t *ret_len)
{
    size_t len = (size_t)view->len;

    *ret_len = 0;
    if (len == 0) {
        return BK_EOF;
    }
    while (*ret_len < len) {
        ssize_t n = bk_tls_pump_read(&self->pump, (char *)view->buf + *ret_len,
                                     len - *ret_len);

        if (n < 0) {
            return n;
        }
        *ret_len += (size_t)n;
    }
    return 0;
}

static int
tell_updated(TlsProtocolObject *self, size_t len)
{
    PyObject *count;
    int r;

    if (len == 0) {
        return 0;
    }
    count = PyLong_FromSize_t(len);
    if (count == NULL) {
        return bkpy_tls_stash(self);
    }
    r = call_app(self, self->state->str_buffer_updated, count);
    Py_DECREF(count);
    return r;
}

static int
read_buffered(TlsProtocolObject *self)
{
    Py_buffer view;
    size_t len;
    ssize_t r = ask_buffer(self, &view);
    int told;

    if (r < 0) {
        return (int)r;
    }
    r = fill(self, &view, &len);
    PyBuffer_Release(&view);
    if (r == 0) {
        r = bkpy_tls_ops.call_soon(&self->pump, BK_TLS_STEP_READ, self);
    }
    if (r < 0 && r != -EAGAIN && r != BK_EOF) {
        return (int)r;
    }
    told = tell_updated(self, len);
    if (told < 0) {
        return told;
    }
    return r == -EAGAIN ? 0 : (int)r;
}

int
bkpy_tls_readable(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;

    return self->is_buffered ? read_buffered(self) : read_copied(self);
}
