/* coroutine.h -- what the types have in common that are coroutines in C.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKPY_COROUTINE_H
#define BKPY_COROUTINE_H

#include "module.h"

/* Make asyncio.iscoroutine() true of the type: it asks whether it is a
 * collections.abc.Coroutine. 0, or -1 with an exception. */
int bkpy_coroutine_register(PyTypeObject *type);

/* Raise StopIteration(value); the value's reference is taken. Always NULL. */
PyObject *bkpy_coroutine_return(bkpy_state *state, PyObject *value);

/* The coroutine that returned is done with: nothing keeps its value. */
void bkpy_coroutine_forget_value(bkpy_state *state);

static inline void
bkpy_coroutine_forget(bkpy_state *state)
{
    PyObject *exc = state->stop_iteration;

    if (exc != NULL && ((PyStopIterationObject *)exc)->value != Py_None) {
        bkpy_coroutine_forget_value(state);
    }
}

/* What send() or throw() of a coroutine gave, whose reference is taken, as the
 * slot am_send says it. */
PySendResult bkpy_coroutine_result(PyObject *yielded, PyObject **ret);

#endif
