/* loop_run.c -- running the loop: the core's hooks, signals, and what ends a
 * run.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * An exception that has to leave run_forever() cannot pass through the core:
 * it is kept in loop->exit, the core is told to end the run, and _run() raises
 * it. The first one counts; one that comes on top of it (from a destructor,
 * say) is written as unraisable.
 *
 * This is the only file that gives up the GIL: the core calls before_block()
 * and after_block() around bare system calls, and touches nothing in between
 * that another thread could see through a call into the loop.
 */

#include "loop.h"

#include <errno.h>

#include "handle.h"

/* --- what ends a run --- */

/* Takes the exception that is set. */
static void
set_exit(LoopObject *self)
{
    if (self->exit != NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
        return;
    }
    self->exit = PyErr_GetRaisedException();
}

static bool
is_running_here(const LoopObject *self)
{
    return self->thread_id != 0 &&
           self->thread_id == PyThread_get_thread_ident();
}

bool
bkpy_loop_take_exit(LoopObject *self)
{
    assert(PyErr_Occurred() != NULL);
    if (!PyErr_ExceptionMatches(PyExc_SystemExit) &&
        !PyErr_ExceptionMatches(PyExc_KeyboardInterrupt)) {
        return false;
    }
    if (!is_running_here(self)) {
        return false;
    }
    set_exit(self);
    bk_loop_break(self->core, -ECANCELED);
    return true;
}

void
bkpy_loop_leave(LoopObject *self)
{
    assert(PyErr_Occurred() != NULL);
    if (!is_running_here(self)) {
        PyErr_WriteUnraisable((PyObject *)self);
        return;
    }
    set_exit(self);
    bk_loop_break(self->core, -ECANCELED);
}

/* {'message': ..., 'exception': ..., ...} or NULL with an exception. */
static PyObject *
make_report(LoopObject *self, const char *message, PyObject *exc,
            PyObject *const entries[3])
{
    bkpy_state *state = self->state;
    PyObject *const names[3] = {state->str_transport, state->str_protocol,
                                state->str_handle};
    PyObject *context = Py_BuildValue("{OsOO}", state->str_message, message,
                                      state->str_exception, exc);

    for (int i = 0; i < 3 && context != NULL; i++) {
        if (entries[i] != NULL &&
            PyDict_SetItem(context, names[i], entries[i]) < 0) {
            Py_CLEAR(context);
        }
    }
    return context;
}

void
bkpy_loop_report(LoopObject *self, const char *message, PyObject *transport,
                 PyObject *protocol, PyObject *handle)
{
    PyObject *const entries[3] = {transport, protocol, handle};
    PyObject *exc, *before, *context;
    PyObject *result = NULL;

    assert(PyErr_Occurred() != NULL);
    if (bkpy_loop_take_exit(self)) {
        return;
    }
    exc = bkpy_begin_handling(&before);
    context = make_report(self, message, exc, entries);
    if (context != NULL) {
        result = PyObject_CallMethodOneArg(
            (PyObject *)self, self->state->str_call_exception_handler, context);
    }
    if (result == NULL) {
        bkpy_loop_leave(self);
    }
    Py_XDECREF(result);
    Py_XDECREF(context);
    bkpy_end_handling(before);
    Py_DECREF(exc);
}

/* --- hooks --- */

static void
before_block(void *arg)
{
    LoopObject *self = arg;

    self->blocked = PyEval_SaveThread();
}

static void
after_block(void *arg)
{
    LoopObject *self = arg;
    PyThreadState *blocked = self->blocked;

    self->blocked = NULL;
    PyEval_RestoreThread(blocked);
}

/* A thread of this interpreter's may be waiting for the GIL. Our own state
 * and the list's head are all that is looked at: others may go away. */
static bool
is_contended(void *Py_UNUSED(arg))
{
    PyThreadState *own = PyThreadState_Get();
    PyInterpreterState *interpreter = PyThreadState_GetInterpreter(own);

    return PyInterpreterState_ThreadHead(interpreter) != own ||
           PyThreadState_Next(own) != NULL;
}

/* Once a turn. */
static int
check_signals(void *arg)
{
    LoopObject *self = arg;

    self->turn++;
    if (PyErr_CheckSignals() < 0) {
        set_exit(self);
    }
    return self->exit == NULL ? 0 : -ECANCELED;
}

/* The user's time(), if there is one. What it raises ends the run. */
static uint64_t
now_ns(void *arg)
{
    LoopObject *self = arg;
    double seconds;
    uint16_t rank;

    if (!bkpy_loop_overrides(self, BKPY_OWN_TIME)) {
        return bk_clock_now();
    }
    if (bkpy_loop_time(self, &seconds) == 0) {
        self->last_time_ns = bkpy_seconds_to_ns(seconds, &rank);
    }
    else {
        /* A stop, not a break, since it may be asked before the wait, which
         * must then not sleep. */
        set_exit(self);
        bk_loop_stop(self->core);
    }
    return self->last_time_ns;
}

void
bkpy_loop_hooks(LoopObject *self, bk_loop_hooks *ret_hooks)
{
    *ret_hooks = (bk_loop_hooks){
        .before_block = before_block,
        .after_block = after_block,
        .is_contended = is_contended,
        .check_signals = check_signals,
        .now_ns = now_ns,
        .arg = self,
    };
}

/* --- _run() --- */

static int
check_can_run(LoopObject *self)
{
    if (bkpy_loop_check_closed(self) < 0) {
        return -1;
    }
    if (bk_loop_is_forked(self->core)) {
        PyErr_SetString(PyExc_RuntimeError,
                        "this event loop belongs to the parent process; "
                        "a forked child needs a new one");
        return -1;
    }
    if (self->thread_id != 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "This event loop is already running");
        return -1;
    }
    return 0;
}

static PyObject *
run_result(LoopObject *self, int r)
{
    PyObject *exc = self->exit;

    if (exc != NULL) {
        self->exit = NULL;
        PyErr_SetRaisedException(exc);
        return NULL;
    }
    if (r < 0) {
        return bkpy_loop_raise(self, r);
    }
    Py_RETURN_NONE;
}

PyObject *
loop_run(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    LoopObject *self = LoopObject_CAST(op);
    PyObject *result;
    int r;

    if (check_can_run(self) < 0) {
        return NULL;
    }
    Py_INCREF(op);
    self->thread_id = PyThread_get_thread_ident();
    r = bk_loop_run_forever(self->core);
    self->thread_id = 0;
    bkpy_handle_track_queued(self);
    result = run_result(self, r);
    Py_DECREF(op);
    return result;
}
