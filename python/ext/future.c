/* future.c -- asyncio's futures, made without a call of their class.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Whatever waits makes a future, and a call of _asyncio.Future costs more than
 * all the rest of a wait: a dict of keyword arguments is made and taken apart,
 * and loop.get_debug() called. A new future outside debug mode, though, is zero
 * but for the pointer to its loop. Whether that is so is looked up at import,
 * in a future that its class has made: every word of it. Where it is, a future
 * is made by putting the loop into the zeroed memory that its class allocates;
 * where it is not (free-threaded builds note the thread), by the call.
 */

#include "future.h"

#include <string.h>

static PyObject *
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

PyObject *
bkpy_future_new_unasked(LoopObject *loop)
{
    const bkpy_state *state = loop->state;
    PyObject *future;

    if (state->future_loop_offset == 0 || loop->is_debug) {
        return call_class(loop);
    }
    future = state->FutureType->tp_alloc(state->FutureType, 0);
    if (future != NULL) {
        Py_INCREF(loop);
        memcpy((char *)future + state->future_loop_offset, &loop, sizeof(loop));
    }
    return future;
}

/* --- set-up --- */

static inline void *
word_at(PyObject *obj, size_t offset)
{
    void *word;

    memcpy(&word, (const char *)obj + offset, sizeof(word));
    return word;
}

/* The only word of the object that is not zero, if that is this pointer. Its
 * offset, or 0. */
static size_t
find_only_word(PyObject *obj, const void *pointer)
{
    size_t size = (size_t)Py_TYPE(obj)->tp_basicsize;
    size_t found = 0;

    if (size % sizeof(void *) != 0) {
        return 0;
    }
    for (size_t i = sizeof(PyObject); i < size; i += sizeof(void *)) {
        const void *word = word_at(obj, i);

        if (word == pointer && found == 0) {
            found = i;
        }
        else if (word != NULL) {
            return 0;
        }
    }
    return found;
}

/* An object that is loop enough for a future. */
static PyObject *
make_stand_in(void)
{
    PyObject *types = PyImport_ImportModule("types");
    PyObject *stand_in = NULL;

    if (types != NULL) {
        PyObject *cls = PyObject_GetAttrString(types, "SimpleNamespace");
        PyObject *attrs = Py_BuildValue("{sO}", "get_debug", &PyBool_Type);

        if (cls != NULL && attrs != NULL) {
            stand_in = PyObject_VectorcallDict(cls, NULL, 0, attrs);
        }
        Py_XDECREF(cls);
        Py_XDECREF(attrs);
        Py_DECREF(types);
    }
    return stand_in;
}

int
bkpy_future_setup(PyObject *Py_UNUSED(module), bkpy_state *state)
{
    PyTypeObject *type = state->FutureType;
    PyObject *args[2] = {NULL, make_stand_in()};
    PyObject *future = NULL;

    state->future_set_result =
        PyObject_GetAttr((PyObject *)type, state->str_set_result);
    state->future_done = PyObject_GetAttr((PyObject *)type, state->str_done);
    if (args[1] != NULL && state->future_set_result != NULL &&
        state->future_done != NULL) {
        future = PyObject_Vectorcall((PyObject *)type, args + 1,
                                     0 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                     state->names_loop);
    }
    /* A class that can change may not be passed over. */
    if (future != NULL && Py_TYPE(future) == type &&
        PyType_HasFeature(type, Py_TPFLAGS_IMMUTABLETYPE)) {
        state->future_loop_offset = find_only_word(future, args[1]);
    }
    Py_XDECREF(args[1]);
    Py_XDECREF(future);
    return future == NULL ? -1 : 0;
}
