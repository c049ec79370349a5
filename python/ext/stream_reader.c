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

/* --- whose methods they are --- */

/* obj.name is this function, bound to obj. 1, 0, or -1 with an exception. */
static int
has_method(PyObject *obj, PyObject *name, PyObject *function)
{
    PyObject *method = PyObject_GetAttr(obj, name);
    int is_same;

    if (method == NULL) {
        return -1;
    }
    is_same = PyMethod_Check(method) &&
              PyMethod_GET_FUNCTION(method) == function &&
              PyMethod_GET_SELF(method) == obj;
    Py_DECREF(method);
    return is_same;
}

/* The reader of the protocol: 1 and a new reference, 0 for the ordinary call,
 * -1 with an exception. *ret_reader is NULL when the reader is gone, which
 * makes asyncio drop the data. */
static int
find_reader(bkpy_state *state, PyObject *protocol, PyObject **ret_reader)
{
    PyObject *ref = PyObject_GetAttr(protocol, state->str__stream_reader_wr);
    PyObject *reader = NULL;
    int r;

    if (ref == NULL) {
        PyErr_Clear();
        return 0;
    }
    r = PyWeakref_CheckRefExact(ref) ? PyWeakref_GetRef(ref, &reader)
                                     : (ref == Py_None ? 0 : -2);
    Py_DECREF(ref);
    if (r < 0) {
        return r == -2 ? 0 : -1;
    }
    if (reader != NULL && (PyObject *)Py_TYPE(reader) != state->StreamReader) {
        Py_DECREF(reader);
        return 0;
    }
    *ret_reader = reader;
    return 1;
}

typedef struct {
    PyObject *protocol_name;     /* borrowed: data_received or eof_received */
    PyObject *protocol_function; /* borrowed, asyncio's; NULL: never direct */
    PyObject *reader_name;       /* feed_data or feed_eof */
    PyObject *reader_function;
} method_pair;

/* find_reader(), if the methods are asyncio's. The protocol is held by the
 * caller: a property in its class may take it from the transport. */
static int
find_target_of(bkpy_state *state, PyObject *protocol, const method_pair *pair,
               PyObject **ret_reader)
{
    PyObject *reader;
    int r = has_method(protocol, pair->protocol_name, pair->protocol_function);

    if (r <= 0) {
        return r;
    }
    r = find_reader(state, protocol, &reader);
    if (r <= 0) {
        return r;
    }
    if (reader != NULL) {
        r = has_method(reader, pair->reader_name, pair->reader_function);
        if (r <= 0) {
            Py_DECREF(reader);
            return r;
        }
    }
    *ret_reader = reader;
    return 1;
}

static int
find_target(StreamTransportObject *self, const method_pair *pair,
            PyObject **ret_reader)
{
    PyObject *protocol;
    int r;

    if (pair->protocol_function == NULL || pair->reader_function == NULL) {
        return 0;
    }
    protocol = Py_NewRef(self->protocol);
    r = find_target_of(self->state, protocol, pair, ret_reader);
    Py_DECREF(protocol);
    return r;
}

/* --- feeding --- */

static int
wake_waiter(bkpy_state *state, PyObject *reader)
{
    PyObject *waiter = PyObject_GetAttr(reader, state->str__waiter);
    int r = 0;

    if (waiter == NULL) {
        return -1;
    }
    if (waiter != Py_None) {
        r = PyObject_SetAttr(reader, state->str__waiter, Py_None);
        if (r == 0) {
            r = bkpy_future_set_result(state, waiter, Py_None);
        }
    }
    Py_DECREF(waiter);
    return r;
}

/* What a reader without surprises has: 1, 0 for the ordinary call, -1. */
typedef struct {
    PyObject *buffer; /* owned: a bytearray */
    Py_ssize_t limit;
} reader_parts;

static int
take_parts(bkpy_state *state, PyObject *reader, reader_parts *ret_parts)
{
    PyObject *eof = PyObject_GetAttr(reader, state->str__eof);
    PyObject *limit = NULL;
    PyObject *buffer = NULL;
    bool is_usual = false;

    if (eof == Py_False) {
        limit = PyObject_GetAttr(reader, state->str__limit);
    }
    if (limit != NULL && PyLong_Check(limit)) {
        ret_parts->limit = PyLong_AsSsize_t(limit);
        buffer = PyObject_GetAttr(reader, state->str__buffer);
        is_usual = buffer != NULL && PyByteArray_CheckExact(buffer) &&
                   ret_parts->limit >= 0;
    }
    Py_XDECREF(eof);
    Py_XDECREF(limit);
    if (!is_usual) {
        PyErr_Clear(); /* the ordinary call raises it again */
        Py_XDECREF(buffer);
        return 0;
    }
    ret_parts->buffer = buffer;
    return 1;
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
static int
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

static int
check_limit(bkpy_state *state, PyObject *reader, const reader_parts *parts)
{
    PyObject *transport, *paused;
    int r = 0;

    if (PyByteArray_GET_SIZE(parts->buffer) / 2 < parts->limit ||
        PyByteArray_GET_SIZE(parts->buffer) <= parts->limit * 2) {
        return 0;
    }
    transport = PyObject_GetAttr(reader, state->str__transport);
    paused = PyObject_GetAttr(reader, state->str__paused);
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

/* What feed_data() does once the buffer has been extended. */
static int
tell_reader(bkpy_state *state, PyObject *reader, const reader_parts *parts)
{
    if (wake_waiter(state, reader) < 0) {
        return -1;
    }
    return check_limit(state, reader, parts);
}

static int
feed(bkpy_state *state, PyObject *reader, const void *data, size_t len)
{
    reader_parts parts = {.limit = -1};
    int r = take_parts(state, reader, &parts);

    if (r <= 0) {
        return r;
    }
    if (extend(parts.buffer, data, len) < 0 ||
        tell_reader(state, reader, &parts) < 0) {
        r = -1;
    }
    Py_DECREF(parts.buffer);
    return r;
}

/* find_target() for data. */
static int
find_data_target(StreamTransportObject *self, PyObject **ret_reader)
{
    bkpy_state *state = self->state;
    const method_pair pair = {
        .protocol_name = state->str_data_received,
        .protocol_function = state->original_data_received,
        .reader_name = state->str_feed_data,
        .reader_function = state->original_feed_data,
    };

    return find_target(self, &pair, ret_reader);
}

int
bkpy_stream_reader_feed(StreamTransportObject *self, const void *data,
                        size_t len)
{
    PyObject *reader;
    int r = find_data_target(self, &reader);

    if (r == 1 && reader != NULL) {
        r = feed(self->state, reader, data, len);
        Py_DECREF(reader);
    }
    return r;
}

/* --- receiving into the buffer --- */

/* Nothing runs between a reservation and its end, so nobody sees the buffer
 * with room in it that is not filled yet. */
bool
bkpy_stream_reader_reserve(StreamTransportObject *self, size_t len)
{
    reader_parts parts = {.limit = -1};
    PyObject *reader = NULL;
    int r = BKPY_HAS_BYTEARRAY_TRIM ? find_data_target(self, &reader) : 0;

    if (r == 1 && reader != NULL) {
        (void)take_parts(self->state, reader, &parts);
        Py_DECREF(reader);
    }
    if (parts.buffer != NULL &&
        PyByteArray_Resize(parts.buffer, PyByteArray_GET_SIZE(parts.buffer) +
                                             (Py_ssize_t)len) < 0) {
        Py_CLEAR(parts.buffer);
    }
    PyErr_Clear(); /* the ordinary way will meet it again */
    self->landing = parts.buffer;
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
    bkpy_state *state = self->state;
    reader_parts parts = {.limit = -1};
    PyObject *reader = NULL;
    PyObject *protocol = Py_NewRef(self->protocol);
    int r = find_reader(state, protocol, &reader);

    Py_DECREF(protocol);
    if (r <= 0 || reader == NULL) {
        return r;
    }
    r = take_parts(state, reader, &parts);
    if (r == 1) {
        r = tell_reader(state, reader, &parts);
        Py_DECREF(parts.buffer);
    }
    Py_DECREF(reader);
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

int
bkpy_stream_reader_feed_eof(StreamTransportObject *self, bool *ret_is_kept_open)
{
    bkpy_state *state = self->state;
    const method_pair pair = {
        .protocol_name = state->str_eof_received,
        .protocol_function = state->original_eof_received,
        .reader_name = state->str_feed_eof,
        .reader_function = state->original_feed_eof,
    };
    PyObject *reader;
    int r = find_target(self, &pair, &reader);

    if (r <= 0) {
        return r;
    }
    if (reader != NULL) {
        r = PyObject_SetAttr(reader, state->str__eof, Py_True);
        if (r == 0) {
            r = wake_waiter(state, reader);
        }
        Py_DECREF(reader);
        if (r < 0) {
            return -1;
        }
    }
    return keeps_open(state, self->protocol, ret_is_kept_open);
}

/* --- set-up --- */

/* The method of an asyncio class, if it is still asyncio's own: a function
 * that was defined in the module of that class. Else NULL without an
 * exception, and the direct path stays shut. */
static PyObject *
find_original(PyObject *cls, PyObject *name, PyObject *namespace)
{
    PyObject *function = PyObject_GetAttr(cls, name);

    if (function == NULL) {
        PyErr_Clear();
        return NULL;
    }
    if (!PyFunction_Check(function) ||
        PyFunction_GET_GLOBALS(function) != namespace) {
        Py_CLEAR(function);
    }
    return function;
}

int
bkpy_stream_reader_setup(PyObject *Py_UNUSED(module), bkpy_state *state)
{
    PyObject *streams = PyImport_ImportModule("asyncio.streams");
    PyObject *namespace;

    if (streams == NULL) {
        return -1;
    }
    namespace = PyModule_GetDict(streams);
    state->original_data_received = find_original(
        state->StreamReaderProtocol, state->str_data_received, namespace);
    state->original_eof_received = find_original(
        state->StreamReaderProtocol, state->str_eof_received, namespace);
    state->original_feed_data =
        find_original(state->StreamReader, state->str_feed_data, namespace);
    state->original_feed_eof =
        find_original(state->StreamReader, state->str_feed_eof, namespace);
    Py_DECREF(streams);
    return 0;
}
