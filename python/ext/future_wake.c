/* future_wake.c -- waking who waits for a future.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * set_result() of a future calls loop.call_soon(callback, future,
 * context=context), through the loop's class and with a dict of keywords, for
 * each callback that waits. Most often it is one, a task's wake-up, and the
 * loop's call_soon() is ours: then the same handle is what nobody ever sees.
 * So instead of it a wake-up is queued, which holds what the handle would, and
 * does what it does. The handle is made up for where it shows: in debug mode,
 * and in the report of an exception.
 *
 * The loop owns what a queued wake-up holds, and its traverse visits it.
 */

#include "future.h"

#include "handle.h"
#include "scope.h"

/* A busy server wakes a few hundred tasks in a turn; more than that would only
 * keep the memory of a burst (18 KiB a loop). */
#define FREE_WAKEUPS_MAX 256

typedef struct wakeup {
    bk_handle node;      /* first */
    LoopObject *loop;    /* borrowed: the queue is its */
    PyObject *callback;  /* owned */
    PyObject *context;   /* owned */
    PyObject *future;    /* owned */
    struct wakeup *next; /* while it is cached */
} wakeup;

static void on_wakeup(bk_handle *node);

static wakeup *
wakeup_of(bk_handle *node)
{
    return bk_handle_callback(node) == on_wakeup ? (wakeup *)(void *)node
                                                 : NULL;
}

/* --- memory --- */

static wakeup *
wakeup_alloc(LoopObject *loop)
{
    wakeup *self = loop->free_wakeups;

    if (self == NULL) {
        return PyMem_Malloc(sizeof(*self));
    }
    loop->free_wakeups = self->next;
    loop->free_wakeup_count--;
    return self;
}

static void
wakeup_free(LoopObject *loop, wakeup *self)
{
    if (loop->free_wakeup_count >= FREE_WAKEUPS_MAX) {
        PyMem_Free(self);
        return;
    }
    self->next = loop->free_wakeups;
    loop->free_wakeups = self;
    loop->free_wakeup_count++;
}

void
bkpy_wakeups_free(LoopObject *loop)
{
    wakeup *self = loop->free_wakeups;

    loop->free_wakeups = NULL;
    while (self != NULL) {
        wakeup *next = self->next;

        PyMem_Free(self);
        self = next;
    }
}

int
bkpy_wakeup_visit(bk_handle *node, visitproc visit, void *arg)
{
    wakeup *self = wakeup_of(node);

    if (self != NULL) {
        Py_VISIT(self->callback);
        Py_VISIT(self->context);
        Py_VISIT(self->future);
    }
    return 0;
}

void
bkpy_wakeup_drop(bk_handle *node)
{
    wakeup *self = wakeup_of(node);

    if (self != NULL) {
        Py_DECREF(self->callback);
        Py_DECREF(self->context);
        Py_DECREF(self->future);
        PyMem_Free(self);
    }
}

/* --- running --- */

/* The handle that call_soon() would have made when it was not in debug mode;
 * NULL with an exception. */
static HandleObject *
make_handle(const wakeup *self)
{
    PyObject *op = bkpy_handle_new(self->loop, self->callback, &self->future, 1,
                                   self->context, BKPY_HANDLE_IO);

    if (op != NULL) {
        Py_CLEAR(HandleObject_CAST(op)->source_traceback);
    }
    return (HandleObject *)op;
}

BKPY_COLD static void
run_as_handle(const wakeup *self)
{
    HandleObject *handle = make_handle(self);

    if (handle == NULL) {
        bkpy_loop_leave(self->loop);
        return;
    }
    bkpy_handle_run_now((PyObject *)handle);
    Py_DECREF(handle);
}

/* With an exception set that is to be reported, take it, as a handle does. */
BKPY_COLD static void
report(const wakeup *self)
{
    PyObject *exc = PyErr_GetRaisedException();
    HandleObject *handle = make_handle(self);

    if (handle == NULL) {
        PyErr_WriteUnraisable((PyObject *)self->loop);
        PyErr_SetRaisedException(exc);
        bkpy_loop_leave(self->loop);
        return;
    }
    PyErr_SetRaisedException(exc);
    bkpy_handle_report(handle);
    if (PyErr_Occurred() != NULL) {
        bkpy_loop_leave(self->loop);
    }
    Py_DECREF(handle);
}

/* callback(future); the short way to a task's wake-up. */
static inline PyObject *
call(const wakeup *self)
{
    PyObject *callback = self->callback;

    if (Py_IS_TYPE(callback, &PyCFunction_Type) &&
        PyCFunction_GET_FLAGS(callback) == METH_O) {
        PyCFunction function = PyCFunction_GET_FUNCTION(callback);

        return function(PyCFunction_GET_SELF(callback), self->future);
    }
    return PyObject_CallOneArg(callback, self->future);
}

static void
run(const wakeup *self)
{
    PyObject *result = NULL;

    if (PyContext_Enter(self->context) == 0) {
        result = bkpy_context_leave(self->loop, self->context, call(self));
    }
    if (result != NULL) {
        Py_DECREF(result);
    }
    else if (bkpy_is_exit_set()) {
        bkpy_loop_leave(self->loop);
    }
    else {
        report(self);
    }
}

BKPY_HOT static void
on_wakeup(bk_handle *node)
{
    wakeup self = *wakeup_of(node);

    wakeup_free(self.loop, wakeup_of(node));
    if (self.loop->is_debug) {
        run_as_handle(&self);
    }
    else {
        run(&self);
    }
    assert(PyErr_Occurred() == NULL);
    Py_DECREF(self.callback);
    Py_DECREF(self.context);
    bkpy_future_drop(self.loop, self.future);
}

/* --- waking --- */

/* One callback waits for the future, which is pending. */
static bool
is_simple(const bkpy_future_layout *layout, PyObject *future)
{
    return bkpy_future_is_idle(layout, future) &&
           bkpy_future_object(future, layout->callback) != NULL &&
           bkpy_future_object(future, layout->context) != NULL &&
           bkpy_future_object(future, layout->others) == NULL;
}

/* Queue a wake-up that holds nothing yet; NULL, and no exception, if that does
 * not go. */
static wakeup *
queue_wakeup(LoopObject *loop)
{
    wakeup *self = wakeup_alloc(loop);

    if (self == NULL) {
        return NULL;
    }
    bk_handle_init(&self->node, on_wakeup);
    self->loop = loop;
    if (bk_loop_schedule(loop->core, &self->node) < 0) {
        wakeup_free(loop, self);
        return NULL;
    }
    return self;
}

/* The callback and its context move from the future to the wake-up. */
BKPY_HOT bool
bkpy_future_wake(LoopObject *loop, PyObject *future)
{
    const bkpy_future_layout *layout = &loop->state->future_layout;
    wakeup *self;

    if (!layout->is_known || loop->is_debug || loop->is_closed ||
        bkpy_future_object(future, layout->loop) != (PyObject *)loop ||
        bkpy_loop_overrides(loop, BKPY_OWN_CALL_SOON) ||
        !is_simple(layout, future)) {
        return false;
    }
    self = queue_wakeup(loop);
    if (self == NULL) {
        return false;
    }
    self->callback = bkpy_future_object(future, layout->callback);
    self->context = bkpy_future_object(future, layout->context);
    self->future = Py_NewRef(future);
    bkpy_future_set_word(future, layout->callback, 0);
    bkpy_future_set_word(future, layout->context, 0);
    bkpy_future_set_word(future, layout->result, (uintptr_t)Py_NewRef(Py_None));
    bkpy_future_set_word(future, layout->state, layout->is_finished);
    return true;
}
