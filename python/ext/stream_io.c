/* stream_io.c -- from the core to the protocol: what a stream reports.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Each function here is called by the core and starts and ends without an
 * exception. Methods of the protocol are looked up at each call, as in asyncio.
 *
 * A receive and what comes of it run in self->context, what comes of the kernel
 * taking more in self->write_context: as the callbacks of add_reader and
 * add_writer do.
 */

#include "stream_transport.h"

#include <errno.h>

#include "log.h"
#include "socket.h"
#include "spare.h"
#include "tls.h"

BKPY_SHOWN_CALLBACK(read_ready, "_read_ready");
BKPY_SHOWN_CALLBACK(write_ready, "_write_ready");

/* Below this, receiving into the loop's scratch buffer and copying is cheaper
 * than allocating and trimming. */
#define LANDING_MIN (32u * 1024u)

/* --- scopes ---
 *
 * Most often, what was written is a reply on the same transport: that is sent
 * from here, with fewer frames above the system call than by way of the loop's
 * list (src/engine/readiness_io.c).
 */

static inline void
enter(StreamTransportObject *self, bkpy_scope *scope, PyObject *context)
{
    self->reports++;
    bkpy_scope_enter(scope, (PyObject *)self, self->loop, context);
}

static inline void
leave(StreamTransportObject *self, bkpy_scope *scope, const PyMethodDef *name)
{
    self->reports--;
    if (bkpy_stream_is_alive(self)) {
        bk_transport_flush(&self->core);
    }
    bkpy_scope_leave(scope, (PyObject *)self, name);
}

/* --- calling the protocol --- */

PyObject *
bkpy_stream_call_protocol(StreamTransportObject *self, PyObject *name,
                          PyObject *arg)
{
    PyObject *protocol = Py_NewRef(self->protocol);
    PyObject *stack[3] = {NULL, protocol, arg};
    size_t nargs = arg == NULL ? 1 : 2;
    PyObject *result = PyObject_VectorcallMethod(
        name, stack + 1, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);

    Py_DECREF(protocol);
    return result;
}

void
bkpy_stream_deliver(StreamTransportObject *self, PyObject *data)
{
    PyObject *result =
        bkpy_stream_call_protocol(self, self->state->str_data_received, data);

    if (result == NULL) {
        bkpy_stream_fail(self,
                         "Fatal error: protocol.data_received() call failed.");
    }
    Py_XDECREF(result);
}

bool
bkpy_stream_call_eof(StreamTransportObject *self)
{
    PyObject *result =
        bkpy_stream_call_protocol(self, self->state->str_eof_received, NULL);
    int is_kept_open = -1;

    if (result != NULL) {
        is_kept_open = PyObject_IsTrue(result);
        Py_DECREF(result);
    }
    if (is_kept_open < 0) {
        bkpy_stream_fail(self,
                         "Fatal error: protocol.eof_received() call failed.");
    }
    return is_kept_open != 0;
}

/* --- landings: where a receive goes --- */

static void
drop_landing(StreamTransportObject *self)
{
    if (self->landing != NULL && PyByteArray_CheckExact(self->landing)) {
        bkpy_stream_reader_trim(self, self->read_bytes);
    }
    Py_CLEAR(self->landing);
    if (self->is_view_held) {
        self->is_view_held = false;
        PyBuffer_Release(self->view);
    }
}

/* The next receive's size follows what this peer has been sending: it grows
 * when a receive filled its landing, and shrinks when it came nowhere near. */
static void
learn_size(StreamTransportObject *self, size_t len)
{
    uint32_t size = self->read_bytes;

    if (size == 0) {
        while (len >= LANDING_MIN && size < BK_READ_MAX && size <= len) {
            size = size == 0 ? LANDING_MIN : size * 2;
        }
    }
    else if (len >= size) {
        size = size < BK_READ_MAX ? size * 2 : size;
    }
    else if (len < size / 4) {
        size = size > LANDING_MIN ? size / 2 : 0;
    }
    self->read_bytes = size;
}

static int
land_bytes(StreamTransportObject *self, size_t len, void **ret_buf,
           size_t *ret_len)
{
    self->landing = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len);
    if (self->landing == NULL) {
        PyErr_Clear();
        return 0;
    }
    *ret_buf = PyBytes_AS_STRING(self->landing);
    *ret_len = len;
    return 1;
}

BKPY_HOT static int
plain_get_buffer(bk_transport *Py_UNUSED(t), void **ret_buf, size_t *ret_len,
                 void *op)
{
    StreamTransportObject *self = op;

    self->is_receiving = true;
    return self->read_bytes == 0
               ? 0
               : land_bytes(self, self->read_bytes, ret_buf, ret_len);
}

/* As recv_into(buf): a writable, contiguous buffer. 0 or -1. */
static int
hold_view(StreamTransportObject *self, PyObject *buf)
{
    if (self->view == NULL) {
        self->view = PyMem_Malloc(sizeof(*self->view));
    }
    if (self->view == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    if (!PyObject_CheckBuffer(buf) ||
        PyObject_GetBuffer(buf, self->view, PyBUF_WRITABLE) < 0) {
        PyErr_Format(PyExc_TypeError,
                     "recv_into() argument 1 must be read-write bytes-like "
                     "object, not %.100s",
                     Py_TYPE(buf)->tp_name);
        return -1;
    }
    self->is_view_held = true;
    return 0;
}

/* get_buffer(-1) of the protocol, not empty; NULL with an exception. */
static PyObject *
ask_buffer(StreamTransportObject *self)
{
    PyObject *hint = PyLong_FromLong(-1);
    PyObject *buf;
    Py_ssize_t len;

    if (hint == NULL) {
        return NULL;
    }
    buf = bkpy_stream_call_protocol(self, self->state->str_get_buffer, hint);
    Py_DECREF(hint);
    if (buf == NULL) {
        return NULL;
    }
    len = PyObject_Size(buf);
    if (len == 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "get_buffer() returned an empty buffer");
    }
    if (len <= 0) {
        Py_CLEAR(buf);
    }
    return buf;
}

static int
find_buffer(StreamTransportObject *self)
{
    PyObject *buf = ask_buffer(self);
    int r;

    if (buf == NULL) {
        bkpy_stream_fail(self,
                         "Fatal error: protocol.get_buffer() call failed.");
        return -1;
    }
    r = hold_view(self, buf);
    Py_DECREF(buf);
    if (r < 0) {
        bkpy_stream_fail(self, "Fatal read error on socket transport");
    }
    return r;
}

static int
buffered_get_buffer(bk_transport *Py_UNUSED(t), void **ret_buf, size_t *ret_len,
                    void *op)
{
    StreamTransportObject *self = op;
    bkpy_scope scope;
    int r;

    enter(self, &scope, self->context);
    r = find_buffer(self);
    leave(self, &scope, &read_ready);
    if (r < 0) {
        return -EAGAIN; /* nothing is received; the next event asks anew */
    }
    self->is_receiving = true;
    *ret_buf = self->view->buf;
    *ret_len = (size_t)self->view->len;
    return 1;
}

static void
on_buffer_unused(bk_transport *Py_UNUSED(t), void *op)
{
    drop_landing(op);
}

/* --- what was received --- */

/* The loop runs, and so lives until this has returned. */
BKPY_HOT static void
receive(StreamTransportObject *self, const void *data, size_t len)
{
    LoopObject *loop = self->loop;
    PyObject *bytes;
    bkpy_scope scope;

    enter(self, &scope, self->context);
    bytes = bkpy_spare_new(loop, data, len);
    if (bytes != NULL) {
        bkpy_stream_deliver(self, bytes);
    }
    else {
        bkpy_stream_fail(self, "Fatal read error on socket transport");
    }
    leave(self, &scope, &read_ready);
    if (bytes != NULL) {
        bkpy_spare_drop(loop, bytes); /* what wrote it has sent it by now */
    }
}

BKPY_HOT static void
on_data_received(bk_transport *Py_UNUSED(t), const void *data, size_t len,
                 void *op)
{
    StreamTransportObject *self = op;

    self->is_receiving = false;
    learn_size(self, len);
    receive(self, data, len);
}

static void
tell_updated(StreamTransportObject *self, size_t len)
{
    PyObject *count = PyLong_FromSize_t(len);
    PyObject *result = NULL;

    if (count != NULL) {
        result = bkpy_stream_call_protocol(
            self, self->state->str_buffer_updated, count);
        Py_DECREF(count);
    }
    if (result == NULL) {
        bkpy_stream_fail(self,
                         "Fatal error: protocol.buffer_updated() call failed.");
    }
    Py_XDECREF(result);
}

static void
deliver_landing(StreamTransportObject *self, size_t len)
{
    PyObject *bytes = self->landing;

    self->landing = NULL;
    learn_size(self, len);
    if (_PyBytes_Resize(&bytes, (Py_ssize_t)len) < 0) {
        bkpy_stream_fail(self, "Fatal read error on socket transport");
        return;
    }
    bkpy_stream_deliver(self, bytes);
    Py_DECREF(bytes);
}

/* get_buffer may have changed the protocol, so what the landing is decides. */
static void
on_buffer_updated(bk_transport *Py_UNUSED(t), size_t len, void *op)
{
    StreamTransportObject *self = op;
    bool is_view = self->is_view_held;
    bkpy_scope scope;

    self->is_receiving = false;
    enter(self, &scope, self->context);
    if (is_view) {
        drop_landing(self);
        tell_updated(self, len);
    }
    else {
        deliver_landing(self, len);
    }
    leave(self, &scope, &read_ready);
}

/* In the scope: the answer to the end of what the peer sends. */
static bool
end_reading(StreamTransportObject *self, bool is_kept_open)
{
    if (!is_kept_open) {
        self->is_closing = true;
        bk_transport_close(&self->core);
    }
    /* When the run ends here, the next one tells of the end again. */
    self->is_at_eof = is_kept_open && self->loop->exit == NULL;
    bkpy_stream_review_hold(self);
    return is_kept_open;
}

static bool
on_eof_received(bk_transport *Py_UNUSED(t), void *op)
{
    StreamTransportObject *self = op;
    bkpy_scope scope;
    bool is_kept_open;

    self->is_receiving = false;
    drop_landing(self);
    enter(self, &scope, self->context);
    if (self->loop->is_debug) {
        bkpy_log("debug", NULL, "(sO)", "%r received EOF", self);
    }
    is_kept_open = end_reading(self, bkpy_stream_call_eof(self));
    leave(self, &scope, &read_ready);
    return is_kept_open;
}

/* --- the direct path of asyncio's streams --- */

BKPY_HOT static int
reader_get_buffer(bk_transport *Py_UNUSED(t), void **ret_buf, size_t *ret_len,
                  void *op)
{
    StreamTransportObject *self = op;
    size_t len = self->read_bytes;
    size_t room = len == 0 ? 0 : bkpy_stream_reader_room(self, len);

    self->is_receiving = true;
    if (room > 0) {
        return land_bytes(self, room, ret_buf, ret_len);
    }
    /* Nothing may run between the reservation and the receive. */
    if (self->socket != NULL &&
        !bkpy_socket_is_direct(self->state, self->socket)) {
        return 0;
    }
    if (len == 0 || !bkpy_stream_reader_reserve(self, len)) {
        return 0;
    }
    *ret_buf = PyByteArray_AS_STRING(self->landing) +
               PyByteArray_GET_SIZE(self->landing) - len;
    *ret_len = len;
    return 1;
}

/* In the scope: bytes to the reader. */
static void
feed_bytes(StreamTransportObject *self, PyObject *bytes)
{
    int r = bkpy_stream_reader_feed_bytes(self, bytes);

    if (r == 0) {
        bkpy_stream_deliver(self, bytes);
    }
    else if (r < 0) {
        bkpy_stream_fail(self,
                         "Fatal error: protocol.data_received() call failed.");
    }
}

static void
reader_bytes_updated(StreamTransportObject *self, size_t len)
{
    PyObject *bytes = self->landing;
    bkpy_scope scope;

    self->landing = NULL;
    self->is_receiving = false;
    learn_size(self, len);
    enter(self, &scope, self->context);
    if (_PyBytes_Resize(&bytes, (Py_ssize_t)len) == 0) {
        feed_bytes(self, bytes);
        Py_DECREF(bytes);
    }
    else {
        bkpy_stream_fail(self, "Fatal read error on socket transport");
    }
    leave(self, &scope, &read_ready);
}

/* What was received is in the reader's buffer already. */
static void
reader_buffer_updated(bk_transport *t, size_t len, void *op)
{
    StreamTransportObject *self = op;
    bkpy_scope scope;

    if (self->landing == NULL) {
        on_buffer_updated(t, len, op);
        return;
    }
    if (PyBytes_CheckExact(self->landing)) {
        reader_bytes_updated(self, len);
        return;
    }
    self->is_receiving = false;
    bkpy_stream_reader_trim(self, self->read_bytes - len);
    learn_size(self, len);
    enter(self, &scope, self->context);
    if (bkpy_stream_reader_tell(self) < 0) {
        bkpy_stream_fail(self,
                         "Fatal error: protocol.data_received() call failed.");
    }
    leave(self, &scope, &read_ready);
}

BKPY_HOT static void
reader_data_received(bk_transport *Py_UNUSED(t), const void *data, size_t len,
                     void *op)
{
    StreamTransportObject *self = op;
    PyObject *exc;
    bkpy_scope scope;
    int r;

    self->is_receiving = false;
    learn_size(self, len);
    r = bkpy_stream_reader_hand(self, data, len);
    if (r > 0) {
        return;
    }
    exc = PyErr_GetRaisedException();
    enter(self, &scope, self->context);
    PyErr_SetRaisedException(exc);
    if (r == 0) {
        r = bkpy_stream_reader_feed(self, data, len);
    }
    if (r < 0) {
        bkpy_stream_fail(self,
                         "Fatal error: protocol.data_received() call failed.");
    }
    leave(self, &scope, &read_ready);
    if (r == 0) {
        receive(self, data, len);
    }
}

static bool
reader_eof_received(bk_transport *t, void *op)
{
    StreamTransportObject *self = op;
    bkpy_scope scope;
    bool is_kept_open = true;
    int r;

    if (self->loop->is_debug) {
        return on_eof_received(t, op);
    }
    self->is_receiving = false;
    drop_landing(self);
    enter(self, &scope, self->context);
    r = bkpy_stream_reader_feed_eof(self, &is_kept_open);
    if (r < 0) {
        bkpy_stream_fail(self,
                         "Fatal error: protocol.eof_received() call failed.");
    }
    if (r != 0) {
        is_kept_open = end_reading(self, is_kept_open);
    }
    leave(self, &scope, &read_ready);
    return r == 0 ? on_eof_received(t, op) : is_kept_open;
}

/* --- TLS, which takes what is received without a copy --- */

static int
tls_get_buffer(bk_transport *Py_UNUSED(t), void **Py_UNUSED(ret_buf),
               size_t *Py_UNUSED(ret_len), void *op)
{
    StreamTransportObject *self = op;

    self->is_receiving = true;
    return 0; /* the loop's own */
}

BKPY_HOT static void
tls_data_received(bk_transport *Py_UNUSED(t), const void *data, size_t len,
                  void *op)
{
    StreamTransportObject *self = op;
    bkpy_scope scope;

    self->is_receiving = false;
    enter(self, &scope, self->context);
    if (bkpy_tls_receive(self->protocol, data, len) < 0) {
        bkpy_stream_fail(self,
                         "Fatal error: protocol.buffer_updated() call failed.");
    }
    leave(self, &scope, &read_ready);
}

static bool
tls_eof_received(bk_transport *Py_UNUSED(t), void *op)
{
    StreamTransportObject *self = op;
    bkpy_scope scope;
    bool is_kept_open = true;

    self->is_receiving = false;
    enter(self, &scope, self->context);
    if (self->loop->is_debug) {
        bkpy_log("debug", NULL, "(sO)", "%r received EOF", self);
    }
    if (bkpy_tls_receive_eof(self->protocol, &is_kept_open) < 0) {
        bkpy_stream_fail(self,
                         "Fatal error: protocol.eof_received() call failed.");
    }
    is_kept_open = end_reading(self, is_kept_open);
    leave(self, &scope, &read_ready);
    return is_kept_open;
}

static void
tls_flushing(bk_transport *Py_UNUSED(t), void *op)
{
    StreamTransportObject *self = op;

    self->reports++;
    if (bkpy_tls_flush(self->protocol) < 0) {
        if (self->calls > 0 && bkpy_is_exit_set()) {
            Py_XSETREF(self->raised, PyErr_GetRaisedException());
        }
        else {
            bkpy_stream_fail(self, "Fatal error on SSL protocol");
        }
    }
    self->reports--;
}

/* --- flow control --- */

/* A method that tells the protocol something, and has no say in it. */
static void
report_notice(StreamTransportObject *self, const char *message)
{
    bkpy_loop_report(self->loop, message, (PyObject *)self, self->protocol,
                     NULL);
}

/* Called from inside the write, and so without a scope of its own. */
static void
on_pause_writing(bk_transport *Py_UNUSED(t), void *op)
{
    StreamTransportObject *self = op;
    PyObject *result;

    self->reports++;
    result =
        bkpy_stream_call_protocol(self, self->state->str_pause_writing, NULL);
    self->reports--;
    if (result != NULL) {
        Py_DECREF(result);
    }
    else if (self->calls > 0 && bkpy_is_exit_set()) {
        Py_XSETREF(self->raised, PyErr_GetRaisedException());
    }
    else {
        report_notice(self, "protocol.pause_writing() failed");
    }
}

static void
on_resume_writing(bk_transport *Py_UNUSED(t), void *op)
{
    StreamTransportObject *self = op;
    PyObject *result;
    bkpy_scope scope;

    enter(self, &scope, self->write_context);
    result =
        bkpy_stream_call_protocol(self, self->state->str_resume_writing, NULL);
    if (result == NULL) {
        report_notice(self, "protocol.resume_writing() failed");
    }
    Py_XDECREF(result);
    leave(self, &scope, &write_ready);
}

/* Inside a callback of the core. */
static void
review_hold(StreamTransportObject *self)
{
    self->reports++;
    bkpy_stream_review_hold(self);
    self->reports--;
}

/* The kernel has not taken all: this write is what add_writer is called for in
 * asyncio. */
static void
on_write_blocked(bk_transport *Py_UNUSED(t), void *op)
{
    StreamTransportObject *self = op;
    PyObject *context = bkpy_stream_callback_context(self);

    if (context == NULL) {
        PyErr_Clear();
        context = Py_XNewRef(self->write_context);
    }
    Py_XSETREF(self->write_context, context);
    review_hold(self);
}

static void
on_write_drained(bk_transport *Py_UNUSED(t), void *op)
{
    StreamTransportObject *self = op;
    PyObject *context = self->write_context;

    self->write_context = NULL;
    review_hold(self);
    Py_XDECREF(context);
    bkpy_stream_wake_sendfile(self);
}

/* --- start --- */

static void
on_started(bk_transport *Py_UNUSED(t), void *op)
{
    StreamTransportObject *self = op;

    self->is_started = true;
    review_hold(self);
}

/* --- the tables --- */

#define COMMON_CALLS                                                           \
    .connection_made = on_started, .buffer_unused = on_buffer_unused,          \
    .pause_writing = on_pause_writing, .resume_writing = on_resume_writing,    \
    .write_blocked = on_write_blocked, .write_drained = on_write_drained,      \
    .connection_closing = bkpy_stream_on_closing,                              \
    .connection_lost = bkpy_stream_on_lost, .on_closed = bkpy_stream_on_closed

const bk_protocol bkpy_stream_plain = {
    COMMON_CALLS,
    .get_buffer = plain_get_buffer,
    .buffer_updated = on_buffer_updated,
    .data_received = on_data_received,
    .eof_received = on_eof_received,
};

const bk_protocol bkpy_stream_buffered = {
    COMMON_CALLS,
    .get_buffer = buffered_get_buffer,
    .buffer_updated = on_buffer_updated,
    .data_received = on_data_received,
    .eof_received = on_eof_received,
};

const bk_protocol bkpy_stream_reader = {
    COMMON_CALLS,
    .get_buffer = reader_get_buffer,
    .buffer_updated = reader_buffer_updated,
    .data_received = reader_data_received,
    .eof_received = reader_eof_received,
};

const bk_protocol bkpy_stream_tls = {
    COMMON_CALLS,
    .get_buffer = tls_get_buffer,
    .data_received = tls_data_received,
    .eof_received = tls_eof_received,
    .flushing = tls_flushing,
};
