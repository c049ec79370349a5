/* handle.c -- asyncio.Handle and asyncio.TimerHandle.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A handle embeds its node of the core's queues. While it is queued, the queue
 * owns one reference; the trampoline, a successful cancel, or the closing of
 * the loop gives it up.
 *
 * callback and args stay after the call, as in asyncio: an exception handler
 * shows them. cancel() drops them at once, which breaks cycles; but while the
 * callback runs it only hides them, since the call uses them without
 * references of its own, and run() drops them when the last call has ended.
 *
 * loop and context are never NULL in a finished handle, and tp_clear leaves
 * them alone: every cycle through them also passes the loop or the context,
 * which clear their own sides. So methods need not check.
 *
 * A handle's memory comes from and goes back to its loop's free list.
 *
 * While its loop runs a queued handle cannot be garbage. So the collector, who
 * would come for every few thousand of them, sees a handle of call_soon() only
 * once it has left the queue and somebody else has it, or when the run ends.
 */

#include "handle.h"

#include <errno.h>
#include <stddef.h>

#include "errors.h"

/* A busy server queues a few hundred handles in a turn; more than that would
 * only keep the memory of a burst (45 KiB a loop). */
#define FREE_HANDLES_MAX 256

/* --- life cycle --- */

/* What the memory of a freed handle is while it waits in the list. The header
 * before it and the type in it must stay: PyObject_GC_Del() reads both. */
struct free_handle {
    PyObject_HEAD
    void *next;
};

static HandleObject *
handle_alloc(LoopObject *loop, PyTypeObject *tp)
{
    struct free_handle *cached = loop->free_handles;

    if (cached == NULL) {
        return PyObject_GC_New(HandleObject, tp);
    }
    loop->free_handles = cached->next;
    loop->free_handle_count--;
    return HandleObject_CAST(PyObject_Init((PyObject *)cached, tp));
}

/* Takes the memory of a handle that is dead but for its type. */
static void
handle_free(LoopObject *loop, PyObject *op)
{
    struct free_handle *cached = (struct free_handle *)(void *)op;

    if (!BKPY_HAS_FREE_LISTS || loop == NULL ||
        loop->free_handle_count >= FREE_HANDLES_MAX) {
        PyObject_GC_Del(op);
        return;
    }
    cached->next = loop->free_handles;
    loop->free_handles = cached;
    loop->free_handle_count++;
}

void
bkpy_handle_free_cache(LoopObject *loop)
{
    struct free_handle *cached = loop->free_handles;

    loop->free_handles = NULL;
    loop->free_handle_count = 0;
    while (cached != NULL) {
        struct free_handle *next = cached->next;

        PyObject_GC_Del(cached);
        cached = next;
    }
}

static void on_handle(bk_handle *node);
static void on_timer(bk_handle *node);

static int
set_args(HandleObject *self, PyObject *const *args, Py_ssize_t nargs)
{
    if (nargs > BKPY_INLINE_ARGS) {
        PyObject *tuple = PyTuple_New(nargs);

        if (tuple == NULL) {
            return -1;
        }
        for (Py_ssize_t i = 0; i < nargs; i++) {
            PyTuple_SET_ITEM(tuple, i, Py_NewRef(args[i]));
        }
        self->args[0] = tuple;
    }
    else {
        for (Py_ssize_t i = 0; i < nargs; i++) {
            self->args[i] = Py_NewRef(args[i]);
        }
    }
    self->nargs = nargs;
    return 0;
}

/* Debug mode: where it was made, as asyncio's list of frames. */
static int
set_source(HandleObject *self)
{
    PyObject *frame = (PyObject *)PyEval_GetFrame();

    self->source_traceback =
        PyObject_CallMethod(self->loop->state->support, "extract_stack", "O",
                            frame == NULL ? Py_None : frame);
    return self->source_traceback == NULL ? -1 : 0;
}

static void
handle_init(HandleObject *self, LoopObject *loop, PyObject *callback,
            bkpy_handle_kind kind)
{
    self->loop = (LoopObject *)Py_NewRef(loop);
    self->callback = Py_NewRef(callback);
    self->context = NULL;
    for (int i = 0; i < BKPY_INLINE_ARGS; i++) {
        self->args[i] = NULL;
    }
    self->nargs = 0;
    self->source_traceback = NULL;
    self->repr = NULL;
    self->weakrefs = NULL;
    self->gate = NULL;
    self->runner = 0;
    self->running = 0;
    self->kind = (uint8_t)kind;
    self->is_cancelled = false;
    self->is_dropped = false;
    self->is_queued = false;
    self->when = 0.0;
    self->when_object = NULL;
    if (kind == BKPY_HANDLE_TIMER) {
        bk_timer_init(&self->node.timer, on_timer);
    }
    else {
        bk_handle_init(&self->node.handle, on_handle);
    }
}

/* Whether a handle is going to be queued by a loop that runs. */
static bool
is_alive_while_queued(const LoopObject *loop, bkpy_handle_kind kind)
{
    return BKPY_HAS_FREE_LISTS && loop->thread_id != 0 && !loop->is_debug &&
           (kind == BKPY_HANDLE_SOON || kind == BKPY_HANDLE_THREADSAFE);
}

BKPY_HOT PyObject *
bkpy_handle_new(LoopObject *loop, PyObject *callback, PyObject *const *args,
                Py_ssize_t nargs, PyObject *context, bkpy_handle_kind kind)
{
    HandleObject *self =
        handle_alloc(loop, kind == BKPY_HANDLE_TIMER ? loop->timer_handle_type
                                                     : loop->handle_type);

    if (self == NULL) {
        return NULL;
    }
    handle_init(self, loop, callback, kind);
    self->context =
        context != NULL ? Py_NewRef(context) : PyContext_CopyCurrent();
    if (self->context == NULL || set_args(self, args, nargs) < 0 ||
        (loop->is_debug && set_source(self) < 0)) {
        Py_DECREF(self);
        return NULL;
    }
    if (!is_alive_while_queued(loop, kind)) {
        PyObject_GC_Track(self);
    }
    return (PyObject *)self;
}

int
bkpy_handle_traverse(PyObject *op, visitproc visit, void *arg)
{
    HandleObject *self = HandleObject_CAST(op);

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->loop);
    Py_VISIT(self->callback);
    Py_VISIT(self->context);
    for (int i = 0; i < BKPY_INLINE_ARGS; i++) {
        Py_VISIT(self->args[i]);
    }
    Py_VISIT(self->source_traceback);
    Py_VISIT(self->repr);
    Py_VISIT(self->gate);
    Py_VISIT(self->when_object);
    return 0;
}

void
bkpy_handle_drop_call(HandleObject *self)
{
    self->is_dropped = true;
    if (self->running > 0) {
        return;
    }
    Py_CLEAR(self->callback);
    for (int i = 0; i < BKPY_INLINE_ARGS; i++) {
        Py_CLEAR(self->args[i]);
    }
}

int
bkpy_handle_clear(PyObject *op)
{
    HandleObject *self = HandleObject_CAST(op);

    bkpy_handle_drop_call(self);
    Py_CLEAR(self->source_traceback);
    Py_CLEAR(self->when_object);
    return 0;
}

BKPY_HOT void
bkpy_handle_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    HandleObject *self = HandleObject_CAST(op);
    LoopObject *loop = self->loop;

    PyObject_GC_UnTrack(op);
    /* Handles can hold each other in a chain of any length (call_soon(f, h)
     * again and again): without this it would overflow the C stack. */
    Py_TRASHCAN_BEGIN(op, bkpy_handle_dealloc);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    (void)bkpy_handle_clear(op);
    Py_XDECREF(self->repr);
    Py_XDECREF(self->gate);
    Py_XDECREF(self->context);
    handle_free(loop, op);
    Py_XDECREF(loop);
    Py_DECREF(tp);
    Py_TRASHCAN_END;
}

/* --- queueing --- */

PyObject *
bkpy_handle_of(const bk_handle *node)
{
    bk_handle_cb callback = bk_handle_callback(node);

    if (callback != on_handle && callback != on_timer) {
        return NULL;
    }
    return (PyObject *)((uintptr_t)node - offsetof(HandleObject, node));
}

/* The queue's reference, taken before the call that queues the node: from then
 * on the loop's thread may run it. */
static void
queue_takes(HandleObject *self)
{
    self->is_queued = true;
    Py_INCREF(self);
}

static int
queue_result(HandleObject *self, int r)
{
    if (r < 0) {
        bkpy_handle_dequeued((PyObject *)self);
        /* No system call is made here: it is our own memory that is short. */
        (void)(r == -ENOMEM ? PyErr_NoMemory()
                            : bkpy_loop_raise(self->loop, r));
        return -1;
    }
    return 0;
}

static void
track(PyObject *handle)
{
    if (!PyObject_GC_IsTracked(handle)) {
        PyObject_GC_Track(handle);
    }
}

/* Drop the queue's reference. */
static void
leave_queue(PyObject *handle)
{
    if (Py_REFCNT(handle) > 1) {
        track(handle);
    }
    Py_DECREF(handle);
}

static int
track_queued(bk_handle *node, void *Py_UNUSED(arg))
{
    PyObject *handle = bkpy_handle_of(node);

    if (handle != NULL) {
        track(handle);
    }
    return 0;
}

void
bkpy_handle_track_queued(LoopObject *loop)
{
    (void)bk_loop_visit_ready(loop->core, track_queued, NULL);
}

BKPY_HOT int
bkpy_handle_schedule(PyObject *handle)
{
    HandleObject *self = HandleObject_CAST(handle);

    queue_takes(self);
    return queue_result(self,
                        bk_loop_schedule(self->loop->core, &self->node.handle));
}

int
bkpy_handle_schedule_threadsafe(PyObject *handle)
{
    HandleObject *self = HandleObject_CAST(handle);

    queue_takes(self);
    return queue_result(self, bk_loop_schedule_threadsafe(self->loop->core,
                                                          &self->node.handle));
}

int
bkpy_handle_schedule_at(PyObject *handle, double when, PyObject *when_object)
{
    HandleObject *self = HandleObject_CAST(handle);
    uint16_t rank;
    uint64_t when_ns = bkpy_seconds_to_ns(when, &rank);

    self->when = when;
    self->when_object = Py_XNewRef(when_object);
    bk_timer_set_rank(&self->node.timer, rank);
    queue_takes(self);
    return queue_result(self, bk_loop_schedule_at(self->loop->core,
                                                  &self->node.timer, when_ns));
}

void
bkpy_handle_dequeued(PyObject *handle)
{
    HandleObject *self = HandleObject_CAST(handle);

    if (self->is_queued) {
        self->is_queued = false;
        leave_queue(handle);
    }
}

/* Take it out of the core's queues if that can be done now. What another
 * thread has sent stays under way and is passed over when it arrives. */
static void
unqueue(HandleObject *self)
{
    int r;

    if (!self->is_queued) {
        return;
    }
    r = self->kind == BKPY_HANDLE_TIMER ? bk_timer_cancel(&self->node.timer)
                                        : bk_handle_cancel(&self->node.handle);
    if (r == 1) {
        bkpy_handle_dequeued((PyObject *)self);
    }
}

BKPY_HOT static void
on_handle(bk_handle *node)
{
    PyObject *op = bkpy_handle_of(node);

    HandleObject_CAST(op)->is_queued = false;
    bkpy_handle_run_now(op);
    leave_queue(op);
}

/* Another function, since the address tells what a node is. */
static void
on_timer(bk_handle *node)
{
    on_handle(node);
}

/* --- methods --- */

/* Debug mode keeps what it was, for the log of slow callbacks. */
static int
freeze_repr(HandleObject *self)
{
    if (!self->loop->is_debug || self->repr != NULL) {
        return 0;
    }
    self->repr = PyObject_Repr((PyObject *)self);
    return self->repr == NULL ? -1 : 0;
}

static int
tell_timer_cancelled(HandleObject *self)
{
    LoopObject *loop = self->loop;
    PyObject *r;

    if (self->kind != BKPY_HANDLE_TIMER ||
        !bkpy_loop_overrides(loop, BKPY_OWN_TIMER_CANCELLED)) {
        return 0;
    }
    r = PyObject_CallMethodOneArg((PyObject *)loop,
                                  loop->state->str__timer_handle_cancelled,
                                  (PyObject *)self);
    Py_XDECREF(r);
    return r == NULL ? -1 : 0;
}

static int
cancel(HandleObject *self)
{
    if (bkpy_handle_wait_for_runner(self) < 0) {
        return -1;
    }
    if (self->is_cancelled) {
        return 0;
    }
    if (tell_timer_cancelled(self) < 0) {
        return -1;
    }
    self->is_cancelled = true;
    if (freeze_repr(self) < 0) {
        return -1;
    }
    /* The caller holds a reference, so the queue's was not the last. */
    unqueue(self);
    bkpy_handle_drop_call(self);
    return 0;
}

void
bkpy_handle_cancel(PyObject *handle)
{
    Py_INCREF(handle);
    if (cancel(HandleObject_CAST(handle)) < 0) {
        PyErr_WriteUnraisable(handle);
    }
    Py_DECREF(handle);
}

bool
bkpy_handle_is_cancelled(PyObject *handle)
{
    return HandleObject_CAST(handle)->is_cancelled;
}

PyDoc_STRVAR(cancel_doc, "cancel($self, /)\n--\n\n"
                         "Do not call the callback.");

static PyObject *
handle_cancel(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (cancel(HandleObject_CAST(op)) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyDoc_STRVAR(cancelled_doc, "cancelled($self, /)\n--\n\n"
                            "True if it was cancelled.");

static PyObject *
handle_cancelled(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HandleObject *self = HandleObject_CAST(op);

    if (bkpy_handle_wait_for_runner(self) < 0) {
        return NULL;
    }
    return PyBool_FromLong(self->is_cancelled);
}

PyDoc_STRVAR(get_context_doc, "get_context($self, /)\n--\n\n"
                              "The context in which the callback runs.");

static PyObject *
handle_get_context(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return Py_NewRef(HandleObject_CAST(op)->context);
}

PyDoc_STRVAR(run_doc, "_run($self, /)\n--\n\n"
                      "Call the callback as the loop does.");

static PyObject *
handle_run(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    HandleObject *self = HandleObject_CAST(op);

    if (self->callback == NULL || self->is_dropped) {
        if (bkpy_handle_is_guarded(self)) {
            Py_RETURN_NONE;
        }
        PyErr_SetString(PyExc_TypeError, "the handle has been cancelled");
        return NULL;
    }
    if (bkpy_handle_run(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

PyObject *
bkpy_handle_repr(PyObject *op)
{
    HandleObject *self = HandleObject_CAST(op);

    if (self->repr != NULL) {
        return Py_NewRef(self->repr);
    }
    return PyObject_CallMethod(self->loop->state->support, "format_handle", "O",
                               op);
}

/* --- attributes --- */

/* isinstance(handle, asyncio.Handle) holds, and repr() shows that name. */
static PyObject *
handle_get_class(PyObject *op, void *Py_UNUSED(closure))
{
    HandleObject *self = HandleObject_CAST(op);
    bkpy_state *state = self->loop->state;
    PyObject *type = state->Handle;

    if (self->kind == BKPY_HANDLE_TIMER) {
        type = state->TimerHandle;
    }
    else if (bkpy_handle_is_guarded(self)) {
        type = state->ThreadSafeHandle;
    }
    return Py_NewRef(type != NULL ? type : (PyObject *)Py_TYPE(op));
}

static PyObject *
handle_get_callback(PyObject *op, void *Py_UNUSED(closure))
{
    HandleObject *self = HandleObject_CAST(op);

    return Py_NewRef(self->is_dropped ? Py_None : self->callback);
}

static PyObject *
handle_get_args(PyObject *op, void *Py_UNUSED(closure))
{
    HandleObject *self = HandleObject_CAST(op);
    PyObject *tuple;

    if (self->is_dropped) {
        Py_RETURN_NONE;
    }
    if (self->nargs > BKPY_INLINE_ARGS) {
        return Py_NewRef(self->args[0]);
    }
    tuple = PyTuple_New(self->nargs);
    for (Py_ssize_t i = 0; i < self->nargs && tuple != NULL; i++) {
        PyTuple_SET_ITEM(tuple, i, Py_NewRef(self->args[i]));
    }
    return tuple;
}

static PyObject *
handle_get_loop(PyObject *op, void *Py_UNUSED(closure))
{
    return Py_NewRef(HandleObject_CAST(op)->loop);
}

static PyObject *
handle_get_context_attr(PyObject *op, void *Py_UNUSED(closure))
{
    return handle_get_context(op, NULL);
}

static PyObject *
handle_get_cancelled(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(HandleObject_CAST(op)->is_cancelled);
}

static PyObject *
handle_get_source_traceback(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *traceback = HandleObject_CAST(op)->source_traceback;

    return Py_NewRef(traceback != NULL ? traceback : Py_None);
}

static PyObject *
handle_get_repr(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *repr = HandleObject_CAST(op)->repr;

    return Py_NewRef(repr != NULL ? repr : Py_None);
}

/* --- the type --- */

static PyMethodDef handle_methods[] = {
    {"cancel", handle_cancel, METH_NOARGS, cancel_doc},
    {"cancelled", handle_cancelled, METH_NOARGS, cancelled_doc},
    {"_run", handle_run, METH_NOARGS, run_doc},
    /* The last entry, so that a Python without it ends the table here. */
    {BKPY_HAS_HANDLE_CONTEXT ? "get_context" : NULL, handle_get_context,
     METH_NOARGS, get_context_doc},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef handle_getset[] = {
    {"__class__", handle_get_class, NULL, NULL, NULL},
    {"_callback", handle_get_callback, NULL, NULL, NULL},
    {"_args", handle_get_args, NULL, NULL, NULL},
    {"_context", handle_get_context_attr, NULL, NULL, NULL},
    {"_loop", handle_get_loop, NULL, NULL, NULL},
    {"_cancelled", handle_get_cancelled, NULL, NULL, NULL},
    {"_source_traceback", handle_get_source_traceback, NULL, NULL, NULL},
    {"_repr", handle_get_repr, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef handle_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(HandleObject, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot handle_slots[] = {
    {Py_tp_doc, "A callback that the loop will call."},
    {Py_tp_traverse, bkpy_handle_traverse},
    {Py_tp_clear, bkpy_handle_clear},
    {Py_tp_dealloc, bkpy_handle_dealloc},
    {Py_tp_repr, bkpy_handle_repr},
    {Py_tp_methods, handle_methods},
    {Py_tp_getset, handle_getset},
    {Py_tp_members, handle_members},
    {0, NULL},
};

static PyType_Spec handle_spec = {
    .name = "becket._core.Handle",
    .basicsize = sizeof(HandleObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = handle_slots,
};

int
bkpy_handle_setup(PyObject *module, bkpy_state *state)
{
    state->HandleType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &handle_spec, NULL);
    if (state->HandleType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->HandleType);
}
