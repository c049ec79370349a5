/* coroutine.c -- what the types have in common that are coroutines in C.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Up to Python 3.14 at least, "await" asks a coroutine in C for its result
 * through tp_iternext: the result travels in a StopIteration, from which the
 * interpreter takes it at once. Making and freeing that exception costs more
 * than all else that such a coroutine does, so one of them is kept and used
 * again, unless somebody has kept it as well or it has been marked by a
 * traceback or the like.
 */

#include "coroutine.h"

int
bkpy_coroutine_register(PyTypeObject *type)
{
    PyObject *abc = PyImport_ImportModule("collections.abc");
    PyObject *coroutine =
        abc == NULL ? NULL : PyObject_GetAttrString(abc, "Coroutine");
    PyObject *result = NULL;

    if (coroutine != NULL) {
        result = PyObject_CallMethod(coroutine, "register", "O", type);
    }
    Py_XDECREF(coroutine);
    Py_XDECREF(abc);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* --- returning --- */

/* What is kept until the coroutine itself dies is no larger than this; for
 * more, the cost of an exception does not count. */
#define KEPT_MAX 16384

/* Nobody else has it, and nothing but its value is in it. The collector takes
 * its arguments when the interpreter ends, before the last coroutine. */
static bool
is_unmarked(const PyStopIterationObject *exc)
{
    return Py_REFCNT(exc) == 1 && exc->args != NULL &&
           Py_REFCNT(exc->args) == 1 && PyTuple_GET_SIZE(exc->args) == 1 &&
           exc->dict == NULL && exc->notes == NULL && exc->traceback == NULL &&
           exc->context == NULL && exc->cause == NULL && !exc->suppress_context;
}

/* Takes the reference. */
static void
set_value(PyStopIterationObject *exc, PyObject *value)
{
    PyObject *old_item = PyTuple_GET_ITEM(exc->args, 0);
    PyObject *old_value = exc->value;

    PyTuple_SET_ITEM(exc->args, 0, Py_NewRef(value));
    exc->value = value;
    Py_DECREF(old_item);
    Py_XDECREF(old_value);
}

/* The one that is kept, if it may be used again, or a new one. */
static PyObject *
find_stop_iteration(bkpy_state *state)
{
    PyObject *kept = state->stop_iteration;

    if (BKPY_HAS_FREE_LISTS && kept != NULL &&
        is_unmarked((PyStopIterationObject *)kept)) {
        return kept;
    }
    Py_XSETREF(state->stop_iteration,
               PyObject_CallOneArg(PyExc_StopIteration, Py_None));
    return state->stop_iteration;
}

/* An instance is made here in any case: PyErr_SetObject() takes a tuple for all
 * arguments, and an exception for the one to raise. */
BKPY_HOT PyObject *
bkpy_coroutine_return(bkpy_state *state, PyObject *value)
{
    PyObject *exc;

    if (PyBytes_CheckExact(value) && PyBytes_GET_SIZE(value) > KEPT_MAX) {
        exc = PyObject_CallOneArg(PyExc_StopIteration, value);
        Py_DECREF(value);
    }
    else {
        exc = Py_XNewRef(find_stop_iteration(state));
        if (exc != NULL) {
            set_value((PyStopIterationObject *)exc, value);
        }
        else {
            Py_DECREF(value);
        }
    }
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    return NULL;
}

BKPY_HOT void
bkpy_coroutine_forget_value(bkpy_state *state)
{
    PyStopIterationObject *exc = (PyStopIterationObject *)state->stop_iteration;

    if (is_unmarked(exc)) {
        set_value(exc, Py_NewRef(Py_None));
    }
}

PySendResult
bkpy_coroutine_result(PyObject *yielded, PyObject **ret)
{
    PyObject *exc;

    *ret = yielded;
    if (yielded != NULL) {
        return PYGEN_NEXT;
    }
    if (!PyErr_ExceptionMatches(PyExc_StopIteration)) {
        return PYGEN_ERROR;
    }
    exc = PyErr_GetRaisedException();
    *ret = PyObject_GetAttrString(exc, "value");
    Py_DECREF(exc);
    return *ret == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}
