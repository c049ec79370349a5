/* scope.c -- Python code that runs as a callback of the loop does.
 *
 * SPDX-License-Identifier: MIT
 */

#include "scope.h"

#include "handle.h"

PyObject *
bkpy_scope_enter_copy(PyObject *context)
{
    PyErr_Clear();
    context = PyContext_Copy(context);
    if (context == NULL || PyContext_Enter(context) < 0) {
        PyErr_Clear();
        Py_CLEAR(context);
    }
    return context;
}

/* A handle for messages that show one; NULL with an exception. */
static PyObject *
new_shown_handle(LoopObject *loop, PyObject *owner, const PyMethodDef *name,
                 PyObject *arg, PyObject *context)
{
    PyObject *callback = PyCFunction_New((PyMethodDef *)(uintptr_t)name, owner);
    PyObject *handle;

    if (callback == NULL) {
        return NULL;
    }
    handle = bkpy_handle_new(loop, callback, &arg, arg == NULL ? 0 : 1, context,
                             BKPY_HANDLE_IO);
    Py_DECREF(callback);
    return handle;
}

static void
report_slow(const bkpy_scope *scope, PyObject *owner, const PyMethodDef *name)
{
    LoopObject *loop = scope->loop;
    double seconds = (double)(bk_clock_now() - scope->since_ns) / 1e9;
    PyObject *handle;
    PyObject *result = NULL;

    if (seconds < loop->slow_callback_duration) {
        return;
    }
    handle = new_shown_handle(loop, owner, name, NULL, scope->context);
    if (handle != NULL) {
        result = PyObject_CallMethod(loop->state->support, "report_slow", "Od",
                                     handle, seconds);
        Py_DECREF(handle);
    }
    if (result == NULL) {
        PyErr_WriteUnraisable(owner);
    }
    Py_XDECREF(result);
}

void
bkpy_scope_end(bkpy_scope *scope, PyObject *owner, const PyMethodDef *name)
{
    if (scope->since_ns != 0) {
        report_slow(scope, owner, name);
    }
    if (scope->context != NULL) {
        if (PyContext_Exit(scope->context) < 0) {
            PyErr_WriteUnraisable(owner);
        }
        Py_DECREF(scope->context);
    }
    Py_DECREF(scope->loop);
    Py_DECREF(owner);
}

void
bkpy_scope_report(LoopObject *loop, PyObject *owner, const PyMethodDef *name,
                  PyObject *arg, PyObject *context)
{
    PyObject *exc;
    PyObject *handle;

    if (bkpy_loop_take_exit(loop)) {
        return;
    }
    exc = PyErr_GetRaisedException();
    handle = new_shown_handle(loop, owner, name, arg, context);
    if (handle == NULL) {
        PyErr_WriteUnraisable(owner);
        PyErr_SetRaisedException(exc);
        bkpy_loop_report(loop, "Exception in callback", NULL, NULL, NULL);
        return;
    }
    PyErr_SetRaisedException(exc);
    bkpy_handle_report(HandleObject_CAST(handle));
    if (PyErr_Occurred()) {
        bkpy_loop_leave(loop);
    }
    Py_DECREF(handle);
}

bool
bkpy_is_exit_set(void)
{
    return PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) ||
           PyErr_ExceptionMatches(PyExc_SystemExit);
}
