/* stream_reader.c -- the direct path into asyncio.StreamReader.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * With asyncio's streams, each receive runs two small Python functions:
 * StreamReaderProtocol.data_received and StreamReader.feed_data. When both
 * objects are of exactly these classes and the methods are asyncio's own, in
 * class and instance, the same is done here without running Python. Whoever
 * replaces one of the methods, at any time, gets the ordinary calls.
 *
 * Reader and buffer are looked up anew for each receive, through the protocol's
 * weak reference: nothing is kept.
 */

#include "stream_transport.h"

#include <string.h>

#include "future.h"
#include "streams.h"

/* A read that asks for less is not worth a receive of its own size. */
#define ROOM_MIN (32 * 1024)

/* --- whose methods they are --- */

/* The reader that the protocol refers to, of our class now: true and a new
 * reference. It is NULL when the reader is gone, which makes asyncio drop the
 * data. */
static bool
find_reader(bkpy_state *state, PyObject *ref, PyObject **ret_reader)
{
    PyObject *reader = NULL;
    int r = -1;

    if (ref != NULL && PyWeakref_CheckRefExact(ref)) {
        r = PyWeakref_GetRef(ref, &reader);
    }
    if (r < 0) {
        PyErr_Clear();
    }
    if (r > 0 && !bkpy_reader_adopt(state, reader)) {
        Py_CLEAR(reader);
        r = -1;
    }
    *ret_reader = reader;
    return r >= 0;
}

/* find_reader(), if this method of the protocol is asyncio's. */
static bool
find_target(bkpy_state *state, PyObject *protocol, PyObject *method,
            PyObject **ret_reader)
{
    bkpy_protocol_view view;

    return bkpy_protocol_look(state, protocol, method, &view) &&
           find_reader(state, view.stream_reader_wr, ret_reader);
}

void
bkpy_reader_protocol_adopt(bkpy_state *state, PyObject *protocol)
{
    bkpy_protocol_view view;
    bkpy_attrs attrs;
    PyObject *reader;

    if (!bkpy_protocol_look(state, protocol, state->str_data_received, &view) ||
        view.stream_reader_wr == NULL ||
        !PyWeakref_CheckRefExact(view.stream_reader_wr) ||
        PyWeakref_GetRef(view.stream_reader_wr, &reader) <= 0) {
        return;
    }
    if ((bkpy_reader_look_at_new(state, reader, &attrs) &&
         bkpy_exchange_reader(state, protocol, reader, &view, &attrs)) ||
        bkpy_reader_adopt(state, reader)) {
        bkpy_exchange_callback(state, protocol, &view);
    }
    Py_DECREF(reader);
}

/* --- feeding --- */

/* 1, 0, or -1 with an exception. */
BKPY_COLD static int
is_cancelled(bkpy_state *state, PyObject *waiter)
{
    PyObject *cancelled =
        PyObject_CallMethodNoArgs(waiter, state->str_cancelled);
    int r = cancelled == NULL ? -1 : PyObject_IsTrue(cancelled);

    Py_XDECREF(cancelled);
    return r;
}

/* The same by the future's own method. A future that has been cancelled refuses
 * the result, which saves the question. */
BKPY_COLD static int
set_result(bkpy_state *state, PyObject *waiter)
{
    PyObject *args[2] = {waiter, Py_None};
    PyObject *result =
        PyObject_Vectorcall(state->future_set_result, args, 2, NULL);
    PyObject *exc;
    int r;

    if (result != NULL) {
        Py_DECREF(result);
        return 1;
    }
    exc = PyErr_GetRaisedException();
    r = is_cancelled(state, waiter);
    if (r == 0) {
        PyErr_SetRaisedException(exc);
        return -1;
    }
    Py_DECREF(exc);
    return r < 0 ? -1 : 0;
}

/* asyncio's "if not waiter.cancelled(): waiter.set_result(None)". 1, 0 if it
 * was cancelled, or -1. */
static inline int
wake_future(LoopObject *loop, PyObject *waiter)
{
    return bkpy_future_wake(loop, waiter) ? 1 : set_result(loop->state, waiter);
}

static int
wake(bkpy_state *state, PyObject *loop, PyObject *waiter)
{
    PyObject *result;
    int r;

    if (Py_TYPE(waiter) == state->FutureType) {
        return PyObject_TypeCheck(loop, state->LoopType)
                   ? wake_future(LoopObject_CAST(loop), waiter)
                   : set_result(state, waiter);
    }
    r = is_cancelled(state, waiter);
    if (r != 0) {
        return r < 0 ? -1 : 0;
    }
    result = PyObject_CallMethodOneArg(waiter, state->str_set_result, Py_None);
    Py_XDECREF(result);
    return result == NULL ? -1 : 1;
}

/* asyncio's _wakeup_waiter(). 1, 0 if there was nobody to wake, or -1. */
static int
wake_waiter(bkpy_state *state, PyObject *reader, const bkpy_attrs *attrs)
{
    PyObject *waiter = attrs->of[BKPY_READER_WAITER];
    PyObject *loop = attrs->of[BKPY_READER_LOOP];
    int r;

    if (waiter == Py_None) {
        return 0;
    }
    Py_INCREF(waiter);
    Py_INCREF(loop);
    r = bkpy_reader_set_waiter(state, reader, Py_None);
    if (r == 0) {
        r = wake(state, loop, waiter);
    }
    Py_DECREF(loop);
    Py_DECREF(waiter);
    return r;
}

/* A reader that can be fed without surprises. */
typedef struct {
    bkpy_attrs attrs;
    PyObject *buffer; /* borrowed: a bytearray */
    Py_ssize_t limit;
} reader_parts;

static bool
look_at_parts(bkpy_state *state, PyObject *reader, reader_parts *ret_parts)
{
    PyObject *const *of;

    if (!bkpy_reader_look(state, reader, &ret_parts->attrs)) {
        return false;
    }
    of = ret_parts->attrs.of;
    if (of[BKPY_READER_EOF] != Py_False ||
        !PyByteArray_CheckExact(of[BKPY_READER_BUFFER]) ||
        !PyLong_CheckExact(of[BKPY_READER_LIMIT])) {
        return false;
    }
    /* What an earlier receive has handed over, and nobody has fetched yet. */
    if (bkpy_handover_settle_reader(state, reader, of[BKPY_READER_TRANSPORT],
                                    NULL) < 0) {
        PyErr_Clear(); /* the ordinary call meets it again */
        return false;
    }
    ret_parts->buffer = of[BKPY_READER_BUFFER];
    ret_parts->limit = bkpy_long_as_size(of[BKPY_READER_LIMIT]);
    if (ret_parts->limit < 0) {
        PyErr_Clear();
    }
    return ret_parts->limit >= 0;
}

/* bytearray.extend(data) */
static int
extend(PyObject *buffer, const void *data, size_t len)
{
    Py_ssize_t size = PyByteArray_GET_SIZE(buffer);

    if (PyByteArray_Resize(buffer, size + (Py_ssize_t)len) < 0) {
        return -1;
    }
    memcpy(PyByteArray_AS_STRING(buffer) + size, data, len);
    return 0;
}

/* A transport that cannot be paused is forgotten, as in asyncio. */
BKPY_COLD static int
pause_transport(bkpy_state *state, PyObject *reader, PyObject *transport)
{
    PyObject *result =
        PyObject_CallMethodNoArgs(transport, state->str_pause_reading);

    if (result != NULL) {
        Py_DECREF(result);
        return PyObject_SetAttr(reader, state->str__paused, Py_True);
    }
    if (!PyErr_ExceptionMatches(PyExc_NotImplementedError)) {
        return -1;
    }
    PyErr_Clear();
    return PyObject_SetAttr(reader, state->str__transport, Py_None);
}

BKPY_COLD static int
check_pausing(bkpy_state *state, PyObject *reader)
{
    PyObject *transport = PyObject_GetAttr(reader, state->str__transport);
    PyObject *paused = PyObject_GetAttr(reader, state->str__paused);
    int r = 0;

    if (transport == NULL || paused == NULL) {
        r = -1;
    }
    else if (transport != Py_None) {
        r = PyObject_IsTrue(paused);
        if (r >= 0) {
            r = r == 1 ? 0 : pause_transport(state, reader, transport);
        }
    }
    Py_XDECREF(transport);
    Py_XDECREF(paused);
    return r;
}

static inline bool
is_full(Py_ssize_t size, Py_ssize_t limit)
{
    return size / 2 >= limit && size > limit * 2;
}

/* What feed_data() does once the buffer has been extended. */
static int
tell_reader(bkpy_state *state, PyObject *reader, const reader_parts *parts)
{
    /* Looked at now: waking may run code of the user's. */
    bool must_pause =
        is_full(PyByteArray_GET_SIZE(parts->buffer), parts->limit);

    if (wake_waiter(state, reader, &parts->attrs) < 0) {
        return -1;
    }
    return must_pause ? check_pausing(state, reader) : 0;
}

/* The same for data (whose reference is taken) that goes to an operation. */
static int
hand_over(StreamOpObject *op, PyObject *reader, const reader_parts *parts,
          PyObject *data)
{
    bkpy_state *state = op->method->state;
    bool must_pause = is_full(PyBytes_GET_SIZE(data), parts->limit);
    int r;

    Py_INCREF(op);
    op->handed = data;
    r = wake_waiter(state, reader, &parts->attrs);
    if (r == 0) {
        r = bkpy_handover_settle(op);
    }
    if (r >= 0 && must_pause) {
        r = check_pausing(state, reader);
    }
    Py_DECREF(op);
    return r < 0 ? -1 : 1;
}

static int
feed(bkpy_state *state, StreamOpObject *reading, PyObject *reader,
     const bkpy_reader_input *in)
{
    StreamOpObject *op;
    reader_parts parts;
    PyObject *bytes;

    if (!look_at_parts(state, reader, &parts)) {
        return 0;
    }
    op = bkpy_handover_find(reading, reader, &parts.attrs, (Py_ssize_t)in->len);
    if (op != NULL) {
        bytes = in->bytes != NULL
                    ? Py_NewRef(in->bytes)
                    : PyBytes_FromStringAndSize(in->data, (Py_ssize_t)in->len);
        return bytes == NULL ? -1 : hand_over(op, reader, &parts, bytes);
    }
    if (extend(parts.buffer, in->data, in->len) < 0 ||
        tell_reader(state, reader, &parts) < 0) {
        return -1;
    }
    return 1;
}

static bool
find_data_target(StreamTransportObject *self, PyObject **ret_reader)
{
    return find_target(self->state, self->protocol,
                       self->state->str_data_received, ret_reader);
}

int
bkpy_reader_protocol_feed(bkpy_state *state, PyObject *protocol,
                          StreamOpObject *reading, const bkpy_reader_input *in)
{
    PyObject *reader;
    int r;

    if (!find_target(state, protocol, state->str_data_received, &reader)) {
        return 0;
    }
    if (reader == NULL) {
        return 1;
    }
    r = feed(state, reading, reader, in);
    Py_DECREF(reader);
    return r;
}

static int
feed_target(StreamTransportObject *self, const bkpy_reader_input *in)
{
    return bkpy_reader_protocol_feed(self->state, self->protocol, self->reading,
                                     in);
}

int
bkpy_stream_reader_feed(StreamTransportObject *self, const void *data,
                        size_t len)
{
    return feed_target(self, &(bkpy_reader_input){NULL, data, len});
}

int
bkpy_stream_reader_feed_bytes(StreamTransportObject *self, PyObject *data)
{
    return feed_target(self,
                       &(bkpy_reader_input){data, PyBytes_AS_STRING(data),
                                            (size_t)PyBytes_GET_SIZE(data)});
}

/* --- handing over, the short way --- */

/* The protocol is asyncio's, and its reader is the one that waits; false where
 * that does not show at once. */
static inline bool
is_readers_protocol(bkpy_state *state, PyObject *protocol, PyObject *reader)
{
    PyObject *const *values = bkpy_protocol_values(state, protocol);
    PyObject *ref;

    if (values == NULL) {
        PyErr_Clear();
        return false;
    }
    ref = values[state->protocol_layout.stream_reader_wr];
    return PyWeakref_CheckRefExact(ref) && bkpy_weakref_is_to(ref, reader);
}

/* Its buffer takes so many bytes without pausing the transport. */
static inline bool
has_room(const bkpy_attrs *attrs, Py_ssize_t size)
{
    PyObject *limit = attrs->of[BKPY_READER_LIMIT];
    Py_ssize_t value;

    if (!PyLong_CheckExact(limit)) {
        return false;
    }
    value = bkpy_long_as_size(limit);
    if (value < 0) {
        PyErr_Clear();
    }
    return value >= 0 && !is_full(size, value);
}

/* Whether it waits for so many bytes. */
static inline bool
can_be_handed(StreamOpObject *op, const bkpy_reader_feeder *from,
              Py_ssize_t size, bkpy_attrs *ret_attrs)
{
    bkpy_state *state = from->loop->state;

    return op->handed == NULL && Py_TYPE(op->waiter) == state->FutureType &&
           is_readers_protocol(state, from->protocol, op->owner) &&
           bkpy_reader_look(state, op->owner, ret_attrs) &&
           ret_attrs->of[BKPY_READER_EOF] == Py_False &&
           PyByteArray_CheckExact(ret_attrs->of[BKPY_READER_BUFFER]) &&
           has_room(ret_attrs, size) &&
           bkpy_handover_find(op, op->owner, ret_attrs, size) != NULL;
}

/* Nothing of the user's runs, so the order does not matter. */
BKPY_HOT int
bkpy_reader_hand(const bkpy_reader_feeder *from, const void *data, size_t len)
{
    StreamOpObject *op = from->reading;
    bkpy_attrs attrs;
    PyObject *bytes;

    if (op == NULL || !can_be_handed(op, from, (Py_ssize_t)len, &attrs) ||
        attrs.of == attrs.walked) {
        return 0;
    }
    bytes = bkpy_spare_lend(from->loop, from->given, data, len);
    if (bytes == NULL) {
        return -1;
    }
    if (!bkpy_future_wake(from->loop, op->waiter)) {
        Py_DECREF(bytes);
        return 0;
    }
    op->handed = bytes;
    (void)bkpy_attrs_put(&attrs, BKPY_READER_WAITER, Py_None);
    return 1;
}

BKPY_HOT int
bkpy_stream_reader_hand(StreamTransportObject *self, const void *data,
                        size_t len)
{
    const bkpy_reader_feeder from = {self->loop, self->protocol, self->reading,
                                     &self->given};

    return bkpy_reader_hand(&from, data, len);
}

/* --- receiving into the buffer --- */

size_t
bkpy_stream_reader_room(StreamTransportObject *self, size_t len)
{
    const StreamOpObject *op = self->reading;

    /* Less than there may be: a receive into the scratch buffer gets it all. */
    if (op == NULL || op->handed != NULL || op->wants_max < ROOM_MIN ||
        op->wants_min > (Py_ssize_t)len) {
        return 0;
    }
    return Py_MIN(len, (size_t)op->wants_max);
}

/* Nothing runs between a reservation and its end, so nobody sees the buffer
 * with room in it that is not filled yet. */
bool
bkpy_stream_reader_reserve(StreamTransportObject *self, size_t len)
{
    PyObject *reader = NULL;
    reader_parts parts;

    if (!BKPY_HAS_BYTEARRAY_TRIM || !find_data_target(self, &reader) ||
        reader == NULL) {
        return false;
    }
    if (look_at_parts(self->state, reader, &parts)) {
        if (PyByteArray_Resize(parts.buffer,
                               PyByteArray_GET_SIZE(parts.buffer) +
                                   (Py_ssize_t)len) == 0) {
            self->landing = Py_NewRef(parts.buffer);
        }
        PyErr_Clear(); /* the ordinary way will meet it again */
    }
    Py_DECREF(reader);
    return self->landing != NULL;
}

void
bkpy_stream_reader_trim(StreamTransportObject *self, size_t unused)
{
    PyObject *buffer = self->landing;

    self->landing = NULL;
    bkpy_bytearray_trim(buffer,
                        PyByteArray_GET_SIZE(buffer) - (Py_ssize_t)unused);
    Py_DECREF(buffer);
}

int
bkpy_stream_reader_tell(StreamTransportObject *self)
{
    PyObject *reader = NULL;
    reader_parts parts;
    int r = 1;

    if (find_data_target(self, &reader) && reader != NULL &&
        look_at_parts(self->state, reader, &parts) &&
        tell_reader(self->state, reader, &parts) < 0) {
        r = -1;
    }
    Py_XDECREF(reader);
    return r;
}

/* --- the end --- */

/* StreamReaderProtocol.eof_received() gives true, but over TLS. */
static int
keeps_open(bkpy_state *state, PyObject *protocol, bool *ret_is_kept_open)
{
    PyObject *over_ssl = PyObject_GetAttr(protocol, state->str__over_ssl);
    int r;

    if (over_ssl == NULL) {
        return -1;
    }
    r = PyObject_IsTrue(over_ssl);
    Py_DECREF(over_ssl);
    if (r < 0) {
        return -1;
    }
    *ret_is_kept_open = r == 0;
    return 1;
}

static int
feed_eof(bkpy_state *state, PyObject *reader)
{
    bkpy_attrs attrs;

    if (!bkpy_reader_look(state, reader, &attrs)) {
        return 0;
    }
    if (PyDict_SetItem(attrs.dict, state->str__eof, Py_True) < 0 ||
        wake_waiter(state, reader, &attrs) < 0) {
        return -1;
    }
    return 1;
}

int
bkpy_stream_reader_feed_eof(StreamTransportObject *self, bool *ret_is_kept_open)
{
    bkpy_state *state = self->state;
    PyObject *reader;
    int r = 1;

    if (!find_target(state, self->protocol, state->str_eof_received, &reader)) {
        return 0;
    }
    if (reader != NULL) {
        r = feed_eof(state, reader);
        Py_DECREF(reader);
    }
    return r == 1 ? keeps_open(state, self->protocol, ret_is_kept_open) : r;
}
