/* handle_run.c -- running a handle.
 *
 * SPDX-License-Identifier: MIT
 */

#include "handle.h"

/* --- the thread-safe handle --- */

bool
bkpy_handle_is_guarded(const HandleObject *self)
{
    return BKPY_HAS_THREADSAFE_HANDLE && self->kind == BKPY_HANDLE_THREADSAFE;
}

/* The gate is a lock that the runner is taken to hold; it is only made when
 * somebody has to wait. */
static int
ensure_gate(HandleObject *self)
{
    PyObject *gate;
    PyObject *r;

    if (self->gate != NULL) {
        return 0;
    }
    gate = PyObject_CallNoArgs(self->loop->state->Lock);
    if (gate == NULL) {
        return -1;
    }
    r = PyObject_CallMethod(gate, "acquire", NULL);
    /* Another thread may have run meanwhile. */
    if (r != NULL && self->gate == NULL && self->runner != 0) {
        self->gate = Py_NewRef(gate);
    }
    Py_DECREF(gate);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

static int
pass_gate(PyObject *gate)
{
    PyObject *got = PyObject_CallMethod(gate, "acquire", NULL);
    PyObject *passed = NULL;

    if (got != NULL) {
        /* The next one that waits may pass as well. */
        passed = PyObject_CallMethod(gate, "release", NULL);
    }
    Py_XDECREF(got);
    Py_XDECREF(passed);
    return passed == NULL ? -1 : 0;
}

/* Wait until no other thread runs the callback. -1 with an exception. */
int
bkpy_handle_wait_for_runner(HandleObject *self)
{
    unsigned long me = PyThread_get_thread_ident();
    int r = 0;

    while (r == 0 && bkpy_handle_is_guarded(self) && self->runner != 0 &&
           self->runner != me) {
        r = ensure_gate(self);
        if (self->gate != NULL) {
            PyObject *gate = Py_NewRef(self->gate);

            r = pass_gate(gate);
            Py_DECREF(gate);
        }
    }
    return r;
}

static void
open_gate(HandleObject *self)
{
    PyObject *gate = self->gate;
    PyObject *r;

    self->runner = 0;
    self->gate = NULL;
    if (gate == NULL) {
        return;
    }
    r = PyObject_CallMethod(gate, "release", NULL);
    if (r == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(r);
    Py_DECREF(gate);
}

/* --- running --- */

/* The callback in its context; new reference or NULL with an exception. */
static PyObject *
call(HandleObject *self)
{
    PyObject *stack[1 + BKPY_INLINE_ARGS];
    PyObject *result;

    self->running++;
    if (self->nargs <= BKPY_INLINE_ARGS) {
        stack[0] = NULL;
        for (int i = 0; i < BKPY_INLINE_ARGS; i++) {
            stack[1 + i] = self->args[i];
        }
        result = bkpy_context_call(
            self->loop, self->context, self->callback, stack + 1,
            (size_t)self->nargs | PY_VECTORCALL_ARGUMENTS_OFFSET);
    }
    else {
        result = bkpy_context_call(self->loop, self->context, self->callback,
                                   &PyTuple_GET_ITEM(self->args[0], 0),
                                   (size_t)self->nargs);
    }
    self->running--;
    return result;
}

/* 'Exception in callback cb() at file:line'; NULL with an exception. */
static PyObject *
failure_message(HandleObject *self)
{
    PyObject *text = PyObject_CallMethod(self->loop->state->support,
                                         "format_callback", "O", self);
    PyObject *message;

    if (text == NULL) {
        return NULL;
    }
    message = PyUnicode_FromFormat("Exception in callback %S", text);
    Py_DECREF(text);
    return message;
}

void
bkpy_handle_report(HandleObject *self)
{
    bkpy_state *state = self->loop->state;
    PyObject *handled;
    PyObject *exc = bkpy_begin_handling(&handled);
    PyObject *message = failure_message(self);
    PyObject *context = NULL;
    PyObject *result = NULL;

    if (message != NULL) {
        context =
            Py_BuildValue("{OOOOOO}", state->str_message, message,
                          state->str_exception, exc, state->str_handle, self);
    }
    if (context != NULL && (self->source_traceback == NULL ||
                            PyDict_SetItem(context, state->str_source_traceback,
                                           self->source_traceback) == 0)) {
        result = PyObject_CallMethodOneArg(
            (PyObject *)self->loop, state->str_call_exception_handler, context);
    }
    Py_XDECREF(result);
    Py_XDECREF(context);
    Py_XDECREF(message);
    bkpy_end_handling(handled);
    Py_DECREF(exc);
}

static bool
is_exit_set(void)
{
    return PyErr_ExceptionMatches(PyExc_SystemExit) ||
           PyErr_ExceptionMatches(PyExc_KeyboardInterrupt);
}

/* asyncio's Handle._run(): 0, or -1 with what leaves it. */
BKPY_HOT static int
run(HandleObject *self)
{
    PyObject *result = call(self);

    if (result != NULL) {
        Py_DECREF(result);
    }
    else if (!is_exit_set()) {
        bkpy_handle_report(self);
    }
    if (self->is_dropped && self->running == 0) {
        PyObject *exc = PyErr_GetRaisedException();

        bkpy_handle_drop_call(self);
        if (exc != NULL) {
            PyErr_SetRaisedException(exc);
        }
    }
    return PyErr_Occurred() == NULL ? 0 : -1;
}

BKPY_HOT int
bkpy_handle_run(HandleObject *self)
{
    int r;

    if (!bkpy_handle_is_guarded(self)) {
        return run(self);
    }
    self->runner = PyThread_get_thread_ident();
    r = run(self);
    open_gate(self);
    return r;
}

/* Debug mode: slow callbacks are logged. */
static int
run_timed(HandleObject *self)
{
    LoopObject *loop = self->loop;
    double start, end;
    PyObject *result;

    if (bkpy_loop_time(loop, &start) < 0 || bkpy_handle_run(self) < 0 ||
        bkpy_loop_time(loop, &end) < 0) {
        return -1;
    }
    if (end - start < loop->slow_callback_duration) {
        return 0;
    }
    result = PyObject_CallMethod(loop->state->support, "report_slow", "Od",
                                 self, end - start);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
run_debug(HandleObject *self)
{
    int r;

    self->loop->current_handle = (PyObject *)self;
    r = run_timed(self);
    self->loop->current_handle = NULL;
    return r;
}

BKPY_HOT void
bkpy_handle_run_now(PyObject *handle)
{
    HandleObject *self = HandleObject_CAST(handle);
    LoopObject *loop = self->loop;
    int r;

    assert(PyErr_Occurred() == NULL);
    if (self->is_cancelled) {
        return;
    }
    r = loop->is_debug ? run_debug(self) : bkpy_handle_run(self);
    if (r < 0) {
        bkpy_loop_leave(loop);
    }
    assert(PyErr_Occurred() == NULL);
}
