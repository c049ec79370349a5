/* streams_attempt.c -- what the methods of asyncio's streams do, when all is as
 * usual.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Each attempt first looks whether it can go through, and touches nothing
 * unless it can; else asyncio's method does it, and raises what there is to
 * raise. The steps are those of asyncio/streams.py, in the same order, since
 * what they call (the loop, the transport) may be the user's.
 *
 * A method checks its argument and the reader's exception when it begins, and
 * not again after a wait.
 */

#include "streams.h"

#include <string.h>

#include "future.h"
#include "tls.h"
#include "written_data.h"

/* --- the buffer --- */

/* The buffer and the rest of what it takes to take bytes from it. */
typedef struct {
    bkpy_attrs attrs;
    const char *data;
    Py_ssize_t size;
    Py_ssize_t limit;
    bool is_eof;
    bool is_paused;
} reader_view;

static inline bool
is_bool(PyObject *obj)
{
    return obj == Py_True || obj == Py_False;
}

/* A bytearray of which nobody has a memoryview: it can be made smaller. */
static inline bool
is_free_buffer(PyObject *obj)
{
    return PyByteArray_CheckExact(obj) &&
           ((PyByteArrayObject *)obj)->ob_exports == 0;
}

/* After a wait, "self._waiter = None"; usually it is. */
static bool
forget_waiter(StreamOpObject *op, bool is_first, const bkpy_attrs *attrs)
{
    bkpy_state *state = op->method->state;

    if (is_first || attrs->of[BKPY_READER_WAITER] == Py_None) {
        return true;
    }
    if (bkpy_reader_set_waiter(state, op->owner, Py_None) < 0) {
        PyErr_Clear();
        return false;
    }
    return true;
}

/* No exception; false if not all of it is of asyncio's own types. */
BKPY_HOT static bool
view_reader(StreamOpObject *op, bool is_first, reader_view *ret)
{
    PyObject *const *of;

    if (!bkpy_reader_look(op->method->state, op->owner, &ret->attrs)) {
        return false;
    }
    of = ret->attrs.of;
    if (!forget_waiter(op, is_first, &ret->attrs) ||
        (is_first && of[BKPY_READER_EXCEPTION] != Py_None) ||
        !is_bool(of[BKPY_READER_EOF]) || !is_bool(of[BKPY_READER_PAUSED]) ||
        !is_free_buffer(of[BKPY_READER_BUFFER]) ||
        !PyLong_CheckExact(of[BKPY_READER_LIMIT])) {
        return false;
    }
    if (bkpy_handover_settle_reader(op->method->state, op->owner,
                                    of[BKPY_READER_TRANSPORT], op) < 0) {
        PyErr_Clear(); /* asyncio's method meets it again */
        return false;
    }
    ret->data = PyByteArray_AS_STRING(of[BKPY_READER_BUFFER]);
    ret->size = PyByteArray_GET_SIZE(of[BKPY_READER_BUFFER]);
    ret->is_eof = of[BKPY_READER_EOF] == Py_True;
    ret->is_paused = of[BKPY_READER_PAUSED] == Py_True;
    ret->limit = bkpy_long_as_size(of[BKPY_READER_LIMIT]);
    if (ret->limit == -1 && PyErr_Occurred()) {
        PyErr_Clear();
        return false;
    }
    return true;
}

/* self._paused = False; self._transport.resume_reading() */
BKPY_COLD static int
resume_reading(bkpy_state *state, const bkpy_attrs *attrs)
{
    PyObject *transport = Py_NewRef(attrs->of[BKPY_READER_TRANSPORT]);
    PyObject *result = NULL;

    if (PyDict_SetItem(attrs->dict, state->str__paused, Py_False) == 0) {
        result =
            PyObject_CallMethodNoArgs(transport, state->str_resume_reading);
    }
    Py_DECREF(transport);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* del buffer[:size] */
static int
drop(PyObject *buffer, Py_ssize_t size)
{
    return size == PyByteArray_GET_SIZE(buffer)
               ? PyByteArray_Resize(buffer, 0)
               : PySequence_DelSlice(buffer, 0, size);
}

/* The first bytes of the buffer leave it. */
BKPY_HOT static bkpy_stream_outcome
take(StreamOpObject *op, const reader_view *view, Py_ssize_t size,
     PyObject **ret)
{
    PyObject *buffer = view->attrs.of[BKPY_READER_BUFFER];
    PyObject *bytes = PyBytes_FromStringAndSize(view->data, size);

    if (bytes == NULL) {
        return BKPY_STREAM_FAILED;
    }
    if ((size > 0 && drop(buffer, size) < 0) ||
        (view->is_paused && view->size - size <= view->limit &&
         resume_reading(op->method->state, &view->attrs) < 0)) {
        Py_DECREF(bytes);
        return BKPY_STREAM_FAILED;
    }
    *ret = bytes;
    return BKPY_STREAM_DONE;
}

/* What was handed to the operation, as if it had come through the buffer. */
static bkpy_stream_outcome
take_handed(StreamOpObject *op, const reader_view *view, PyObject **ret)
{
    PyObject *bytes = op->handed;

    if (view->size > 0) {
        return BKPY_STREAM_UNUSUAL;
    }
    op->handed = NULL;
    if (view->is_paused && view->limit >= 0 &&
        resume_reading(op->method->state, &view->attrs) < 0) {
        Py_DECREF(bytes);
        return BKPY_STREAM_FAILED;
    }
    *ret = bytes;
    return BKPY_STREAM_DONE;
}

/* A reader with nothing in its buffer that neither is paused nor has a waiter
 * nor an exception: no more is asked of most. All is borrowed. */
static inline bool
is_idle(const bkpy_attrs *attrs)
{
    PyObject *const *of = attrs->of;

    return of[BKPY_READER_WAITER] == Py_None &&
           of[BKPY_READER_EXCEPTION] == Py_None &&
           of[BKPY_READER_EOF] == Py_False &&
           of[BKPY_READER_PAUSED] == Py_False &&
           is_free_buffer(of[BKPY_READER_BUFFER]) &&
           PyByteArray_GET_SIZE(of[BKPY_READER_BUFFER]) == 0;
}

/* take_handed(), the short way; false if it is not. */
static inline bool
take_handed_shortly(StreamOpObject *op, PyObject **ret)
{
    bkpy_attrs attrs;

    if (op->handed == NULL ||
        !bkpy_reader_look(op->method->state, op->owner, &attrs) ||
        !is_idle(&attrs)) {
        return false;
    }
    *ret = op->handed;
    op->handed = NULL;
    return true;
}

/* --- waiting --- */

/* As "await waiter" begins; the waiter's reference is taken. */
static inline bkpy_stream_outcome
await(StreamOpObject *op, LoopObject *loop, PyObject *transport,
      PyObject *waiter, PyObject **ret)
{
    op->awaited = waiter;
    if (bkpy_future_send(op->method->state, waiter, Py_None, ret) !=
        PYGEN_NEXT) {
        return BKPY_STREAM_FAILED; /* of a future that is not done */
    }
    bkpy_handover_offer(op, loop, transport, waiter);
    return BKPY_STREAM_WAITING;
}

/* Mostly it is the transport's, which is known to be one of ours. */
static inline bool
is_loop_of(const bkpy_state *state, PyObject *transport, PyObject *loop)
{
    const TlsProtocolObject *tls;

    if (Py_TYPE(transport) == state->StreamTransportType) {
        return StreamTransportObject_CAST(transport)->loop == (void *)loop;
    }
    if (Py_TYPE(transport) != state->TlsTransportType) {
        return false;
    }
    tls = TlsTransportObject_CAST(transport)->tls;
    return tls != NULL && tls->loop == (void *)loop;
}

/* The loop, if it is ours and makes futures as we do; borrowed, or NULL. */
static LoopObject *
as_own_loop(bkpy_state *state, const bkpy_attrs *attrs)
{
    PyObject *transport = attrs->of[BKPY_READER_TRANSPORT];
    PyObject *loop = attrs->of[BKPY_READER_LOOP];

    if (!is_loop_of(state, transport, loop) &&
        !PyObject_TypeCheck(loop, state->LoopType)) {
        return NULL;
    }
    return bkpy_loop_makes_own_futures(LoopObject_CAST(loop))
               ? LoopObject_CAST(loop)
               : NULL;
}

/* asyncio's _wait_for_data(), where code of the user's may run in between. */
static __attribute__((noinline)) bkpy_stream_outcome
wait_slowly(StreamOpObject *op, LoopObject *loop, bool is_paused,
            const bkpy_attrs *attrs, PyObject **ret)
{
    bkpy_state *state = op->method->state;
    PyObject *transport = Py_NewRef(attrs->of[BKPY_READER_TRANSPORT]);
    bkpy_stream_outcome outcome = BKPY_STREAM_FAILED;
    PyObject *waiter = NULL;

    Py_INCREF(loop);
    if (!is_paused || resume_reading(state, attrs) == 0) {
        waiter = bkpy_future_new_unasked(loop);
    }
    if (waiter != NULL &&
        bkpy_reader_set_waiter(state, op->owner, waiter) == 0) {
        outcome = await(op, loop, transport, Py_NewRef(waiter), ret);
    }
    Py_XDECREF(waiter);
    Py_DECREF(transport);
    Py_DECREF(loop);
    return outcome;
}

/* The rest of it: self._waiter = self._loop.create_future(); await self._waiter
 * A future that is there makes no garbage collector run. */
BKPY_HOT static bkpy_stream_outcome
wait_on(StreamOpObject *op, bool is_paused, const bkpy_attrs *attrs,
        PyObject **ret)
{
    LoopObject *loop = as_own_loop(op->method->state, attrs);
    PyObject *waiter;

    if (loop == NULL) {
        return BKPY_STREAM_UNUSUAL;
    }
    if (is_paused || loop->spare_future == NULL || loop->is_debug ||
        attrs->of == attrs->walked) {
        return wait_slowly(op, loop, is_paused, attrs, ret);
    }
    waiter = bkpy_future_new_unasked(loop);
    (void)bkpy_attrs_put(attrs, BKPY_READER_WAITER, waiter);
    return await(op, loop, attrs->of[BKPY_READER_TRANSPORT], waiter, ret);
}

BKPY_HOT static bkpy_stream_outcome
wait_for_data(StreamOpObject *op, bool is_first, const reader_view *view,
              PyObject **ret)
{
    const bkpy_attrs *attrs = &view->attrs;

    if (view->is_eof ||
        (is_first && attrs->of[BKPY_READER_WAITER] != Py_None)) {
        return BKPY_STREAM_UNUSUAL;
    }
    return wait_on(op, view->is_paused, attrs, ret);
}

/* The same as a read begins with an idle reader; false if it is none. */
static inline bool
wait_shortly(StreamOpObject *op, bkpy_stream_outcome *ret_outcome,
             PyObject **ret)
{
    bkpy_state *state = op->method->state;
    bkpy_attrs attrs;

    if (!bkpy_reader_look(state, op->owner, &attrs) || !is_idle(&attrs) ||
        !bkpy_handover_is_settled(state, attrs.of[BKPY_READER_TRANSPORT])) {
        return false;
    }
    *ret_outcome = wait_on(op, false, &attrs, ret);
    return true;
}

/* --- the reads --- */

/* A number of bytes, which int(arg) is; false for anything else than a
 * positive int. */
static bool
to_size(PyObject *arg, Py_ssize_t *ret_size)
{
    if (arg == NULL || !PyLong_CheckExact(arg)) {
        return false;
    }
    *ret_size = bkpy_long_as_size(arg);
    if (*ret_size == -1 && PyErr_Occurred()) {
        PyErr_Clear();
    }
    return *ret_size > 0;
}

BKPY_HOT static bkpy_stream_outcome
attempt_read(StreamOpObject *op, bool is_first, PyObject **ret)
{
    bkpy_stream_outcome outcome;
    reader_view view;
    Py_ssize_t size;

    if (take_handed_shortly(op, ret)) {
        return BKPY_STREAM_DONE;
    }
    if (!to_size(op->arg, &size)) {
        return BKPY_STREAM_UNUSUAL;
    }
    op->wants_min = 1;
    op->wants_max = size;
    if (is_first && wait_shortly(op, &outcome, ret)) {
        return outcome;
    }
    if (!view_reader(op, is_first, &view)) {
        return BKPY_STREAM_UNUSUAL;
    }
    if (op->handed != NULL) {
        return take_handed(op, &view, ret);
    }
    if (is_first && view.size == 0 && !view.is_eof) {
        return wait_for_data(op, is_first, &view, ret);
    }
    return take(op, &view, Py_MIN(size, view.size), ret);
}

BKPY_HOT static bkpy_stream_outcome
attempt_readexactly(StreamOpObject *op, bool is_first, PyObject **ret)
{
    reader_view view;
    Py_ssize_t size;

    if (take_handed_shortly(op, ret)) {
        return BKPY_STREAM_DONE;
    }
    if (!to_size(op->arg, &size) || !view_reader(op, is_first, &view)) {
        return BKPY_STREAM_UNUSUAL;
    }
    if (op->handed != NULL) {
        return take_handed(op, &view, ret);
    }
    op->wants_min = size;
    op->wants_max = size;
    return view.size < size ? wait_for_data(op, is_first, &view, ret)
                            : take(op, &view, size, ret);
}

/* Take up to the end of the first separator. */
BKPY_HOT static bkpy_stream_outcome
take_until(StreamOpObject *op, bool is_first, const char *separator,
           Py_ssize_t size, PyObject **ret)
{
    reader_view view;
    Py_ssize_t offset = Py_MAX(0, op->seen + 1 - size);
    const char *found = NULL;

    if (!view_reader(op, is_first, &view)) {
        return BKPY_STREAM_UNUSUAL;
    }
    if (view.size - offset < size) {
        return wait_for_data(op, is_first, &view, ret);
    }
    found = memmem(view.data + offset, (size_t)(view.size - offset), separator,
                   (size_t)size);
    if (found != NULL) {
        return found - view.data > view.limit
                   ? BKPY_STREAM_UNUSUAL
                   : take(op, &view, found - view.data + size, ret);
    }
    if (view.size + 1 - size > view.limit || view.is_eof) {
        return BKPY_STREAM_UNUSUAL;
    }
    op->seen = view.size;
    return wait_for_data(op, is_first, &view, ret);
}

BKPY_HOT static bkpy_stream_outcome
attempt_readuntil(StreamOpObject *op, bool is_first, PyObject **ret)
{
    if (op->arg == NULL) {
        return take_until(op, is_first, "\n", 1, ret);
    }
    if (!PyBytes_CheckExact(op->arg) || PyBytes_GET_SIZE(op->arg) == 0) {
        return BKPY_STREAM_UNUSUAL;
    }
    return take_until(op, is_first, PyBytes_AS_STRING(op->arg),
                      PyBytes_GET_SIZE(op->arg), ret);
}

BKPY_HOT static bkpy_stream_outcome
attempt_readline(StreamOpObject *op, bool is_first, PyObject **ret)
{
    return take_until(op, is_first, "\n", 1, ret);
}

/* --- the writer --- */

/* What the methods ask of a transport of ours, of either kind. */
typedef struct {
    bool is_tls;
    bool takes_data;
} transport_view;

/* This method of a transport of ours, of this class and with these attributes
 * of the user's, is our own. */
static inline bool
has_method(bkpy_state *state, PyTypeObject *type, PyObject *dict,
           PyObject *method)
{
    if (!bkpy_transport_is_usual(state, type)) {
        return false;
    }
    if (dict != NULL && PyDict_Contains(dict, method) != 0) {
        PyErr_Clear();
        return false;
    }
    return true;
}

static bool
is_open_tls_transport(bkpy_state *state, PyObject *obj, PyObject *method,
                      transport_view *ret_view)
{
    *ret_view = (transport_view){.is_tls = true, .takes_data = true};
    return Py_TYPE(obj) == state->TlsTransportType &&
           bkpy_tls_transport_is_open(TlsTransportObject_CAST(obj)) &&
           has_method(state, Py_TYPE(obj), TlsTransportObject_CAST(obj)->dict,
                      method);
}

/* The transport is ours and open and has this method of ours. */
static inline bool
is_open_transport(bkpy_state *state, PyObject *obj, PyObject *method,
                  transport_view *ret_view)
{
    const StreamTransportObject *stream;

    if (Py_TYPE(obj) != state->StreamTransportType) {
        return is_open_tls_transport(state, obj, method, ret_view);
    }
    stream = StreamTransportObject_CAST(obj);
    *ret_view = (transport_view){.takes_data = !stream->is_eof_asked};
    return bkpy_stream_is_alive(stream) &&
           has_method(state, Py_TYPE(obj), stream->dict, method);
}

/* What asyncio's write() would hand to the transport, which raises of
 * anything else. */
static bool
is_writable(const transport_view *view, PyObject *data)
{
    return view->takes_data && bkpy_is_written_data(data);
}

BKPY_HOT static bkpy_stream_outcome
call_write(bkpy_state *state, PyObject *self, PyObject *data, PyObject **ret)
{
    transport_view view;
    PyObject *transport;
    bkpy_attrs attrs;

    if (!bkpy_writer_look(state, self, &attrs)) {
        return BKPY_STREAM_UNUSUAL;
    }
    transport = attrs.of[BKPY_WRITER_TRANSPORT];
    if (!is_open_transport(state, transport, state->str_write, &view) ||
        !is_writable(&view, data)) {
        return BKPY_STREAM_UNUSUAL;
    }
    Py_INCREF(transport);
    *ret = view.is_tls ? bkpy_tls_transport_write(transport, &data, 1, NULL)
                       : bkpy_stream_write_data(
                             StreamTransportObject_CAST(transport), data);
    Py_DECREF(transport);
    return *ret == NULL ? BKPY_STREAM_FAILED : BKPY_STREAM_DONE;
}

/* reader.exception() is None, or there is no reader. */
static bool
has_no_exception(bkpy_state *state, PyObject *reader)
{
    bkpy_attrs attrs;

    return reader == Py_None || (bkpy_reader_look(state, reader, &attrs) &&
                                 attrs.of[BKPY_READER_EXCEPTION] == Py_None);
}

BKPY_COLD static bool
lets_write_unusually(bkpy_state *state, PyObject *protocol)
{
    bkpy_protocol_view view;

    return bkpy_protocol_look(state, protocol, state->str__drain_helper,
                              &view) &&
           view.connection_lost == Py_False && view.paused == Py_False;
}

/* asyncio's _drain_helper() would return at once. */
static inline bool
lets_write(bkpy_state *state, PyObject *protocol)
{
    const bkpy_protocol_layout *layout = &state->protocol_layout;
    PyObject *const *values = bkpy_protocol_values(state, protocol);

    return values != NULL ? values[layout->connection_lost] == Py_False &&
                                values[layout->paused] == Py_False
                          : lets_write_unusually(state, protocol);
}

BKPY_HOT static bkpy_stream_outcome
attempt_drain(StreamOpObject *op, bool Py_UNUSED(is_first), PyObject **ret)
{
    bkpy_state *state = op->method->state;
    transport_view view;
    PyObject *transport;
    PyObject *protocol;
    bkpy_attrs attrs;
    int is_closing;
    bool is_open;

    if (!bkpy_writer_look(state, op->owner, &attrs) ||
        !has_no_exception(state, attrs.of[BKPY_WRITER_READER])) {
        return BKPY_STREAM_UNUSUAL;
    }
    transport = attrs.of[BKPY_WRITER_TRANSPORT];
    if (!is_open_transport(state, transport, state->str_is_closing, &view)) {
        return BKPY_STREAM_UNUSUAL;
    }
    protocol = Py_NewRef(attrs.of[BKPY_WRITER_PROTOCOL]);
    Py_INCREF(transport);
    is_closing =
        view.is_tls
            ? bkpy_tls_transport_is_closing(TlsTransportObject_CAST(transport))
            : bkpy_stream_is_closing(StreamTransportObject_CAST(transport));
    Py_DECREF(transport);
    is_open = is_closing == 0 && lets_write(state, protocol);
    Py_DECREF(protocol);
    if (!is_open) {
        return is_closing < 0 ? BKPY_STREAM_FAILED : BKPY_STREAM_UNUSUAL;
    }
    *ret = Py_NewRef(Py_None);
    return BKPY_STREAM_DONE;
}

/* --- the table --- */

const bkpy_stream_kind bkpy_stream_kinds[] = {
    {.name = "read", .parameter = "n", .attempt = attempt_read},
    {
        .name = "readexactly",
        .parameter = "n",
        .is_required = true,
        .attempt = attempt_readexactly,
    },
    {
        .name = "readuntil",
        .parameter = "separator",
        .attempt = attempt_readuntil,
    },
    {.name = "readline", .attempt = attempt_readline},
    {.name = "__anext__", .attempt = attempt_readline},
    {.name = "drain", .is_of_writer = true, .attempt = attempt_drain},
    {
        .name = "write",
        .parameter = "data",
        .is_required = true,
        .is_of_writer = true,
        .call = call_write,
    },
    {.name = NULL},
};
