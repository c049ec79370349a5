/* future.c -- asyncio's futures, made and awaited without calls of their class.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Whatever waits makes a future, and a call of _asyncio.Future costs more than
 * all the rest of a wait: a dict of keyword arguments is made and taken apart,
 * and loop.get_debug() called. A new future outside debug mode, though, is zero
 * but for the pointer to its loop. Where that is known to be so
 * (future_layout.c), a future is made by putting the loop into the zeroed
 * memory that its class allocates; else by the call.
 *
 * A future that nobody has any more once its wait is over is made zero again
 * and kept, one for each loop: without the loop in it, so that they do not keep
 * each other alive, and unseen by the collector, as before it was made.
 */

#include "future.h"

BKPY_COLD static PyObject *
call_class(LoopObject *loop)
{
    PyObject *args[2] = {NULL, (PyObject *)loop};

    return PyObject_Vectorcall((PyObject *)loop->state->FutureType, args + 1,
                               0 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                               loop->state->names_loop);
}

PyObject *
bkpy_future_new(LoopObject *loop)
{
    return bkpy_loop_overrides(loop, BKPY_OWN_GET_DEBUG)
               ? call_class(loop)
               : bkpy_future_new_unasked(loop);
}

static PyObject *
take_spare(LoopObject *loop)
{
    PyObject *future = loop->spare_future;

    if (future != NULL) {
        loop->spare_future = NULL;
        PyObject_GC_Track(future);
    }
    return future;
}

BKPY_HOT PyObject *
bkpy_future_new_unasked(LoopObject *loop)
{
    const bkpy_state *state = loop->state;
    size_t offset = state->future_layout.loop;
    PyObject *future;

    if (offset == 0 || loop->is_debug) {
        return call_class(loop);
    }
    future = take_spare(loop);
    if (future == NULL) {
        future = state->FutureType->tp_alloc(state->FutureType, 0);
    }
    if (future != NULL) {
        bkpy_future_set_word(future, offset, (uintptr_t)Py_NewRef(loop));
    }
    return future;
}

/* --- awaiting --- */

BKPY_COLD static PySendResult
send_iterator(PyObject *future, PyObject *value, PyObject **ret)
{
    PyObject *iterator = Py_TYPE(future)->tp_as_async->am_await(future);
    PySendResult r;

    *ret = NULL;
    if (iterator == NULL) {
        return PYGEN_ERROR;
    }
    r = PyIter_Send(iterator, value, ret);
    Py_DECREF(iterator);
    return r;
}

BKPY_HOT PySendResult
bkpy_future_send(const bkpy_state *state, PyObject *future, PyObject *value,
                 PyObject **ret)
{
    const bkpy_future_layout *layout = &state->future_layout;
    PyObject *result;

    if (!layout->is_known || Py_TYPE(future) != state->FutureType) {
        return send_iterator(future, value, ret);
    }
    result = bkpy_future_object(future, layout->result);
    if (result != NULL &&
        bkpy_future_word(future, layout->state) == layout->is_finished) {
        *ret = Py_NewRef(result);
        return PYGEN_RETURN;
    }
    if (bkpy_future_is_idle(layout, future)) {
        bkpy_future_set_word(future, layout->awaited, layout->is_awaited);
        *ret = Py_NewRef(future);
        return PYGEN_NEXT;
    }
    return send_iterator(future, value, ret);
}

/* --- using it again --- */

/* As its class allocates it. */
static bool
is_zero(const bkpy_future_layout *layout, PyObject *future)
{
    static const char zeroes[BKPY_FUTURE_SIZE_MAX];

    return memcmp((const char *)future + sizeof(PyObject), zeroes,
                  layout->size - sizeof(PyObject)) == 0 &&
           !bkpy_has_managed_extras(future);
}

/* Done with None, and nobody else has it. What the collector has finalized
 * would not be so again, and so not tell of an exception in its next life. */
static bool
is_spent(LoopObject *loop, PyObject *future)
{
    const bkpy_state *state = loop->state;
    const bkpy_future_layout *layout = &state->future_layout;

    return Py_REFCNT(future) == 1 && Py_TYPE(future) == state->FutureType &&
           layout->is_reusable && !PyObject_GC_IsFinalized(future) &&
           bkpy_future_object(future, layout->loop) == (PyObject *)loop &&
           bkpy_future_object(future, layout->result) == Py_None &&
           bkpy_future_word(future, layout->state) == layout->is_finished;
}

static void
set_words(const bkpy_future_layout *layout, PyObject *future, PyObject *loop,
          PyObject *result, uintptr_t state)
{
    bkpy_future_set_word(future, layout->loop, (uintptr_t)loop);
    bkpy_future_set_word(future, layout->result, (uintptr_t)result);
    bkpy_future_set_word(future, layout->state, state);
}

BKPY_HOT void
bkpy_future_drop(LoopObject *loop, PyObject *future)
{
    const bkpy_future_layout *layout = &loop->state->future_layout;

    if (loop->spare_future != NULL || loop->is_closed ||
        !is_spent(loop, future)) {
        Py_DECREF(future);
        return;
    }
    set_words(layout, future, NULL, NULL, 0);
    if (!is_zero(layout, future)) {
        set_words(layout, future, (PyObject *)loop, Py_None,
                  layout->is_finished);
        Py_DECREF(future);
        return;
    }
    PyObject_GC_UnTrack(future);
    loop->spare_future = future;
    Py_DECREF(Py_None);
    Py_DECREF(loop); /* the caller has another one */
}

void
bkpy_future_clear_spare(LoopObject *loop)
{
    Py_XDECREF(take_spare(loop));
}
