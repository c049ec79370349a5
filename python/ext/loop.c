/* loop.c -- the loop's type: its life.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * becket._core.Loop is the base of becket.SelectorEventLoop, which adds the
 * control plane in Python. A subclass may forget to call __init__(): core is
 * NULL then, and every method that needs it raises RuntimeError.
 *
 * What the loop owns: one reference to each handle that is queued in the core,
 * what queued wake-ups of futures hold, one reference to each object in its
 * list of anchors, its watches. All are visited by the garbage collector but
 * for handles that other threads sent and the loop has not seen yet; those keep
 * it alive until it is run or closed.
 *
 * release() drops everything. It runs once, from close(), tp_clear or
 * dealloc; is_closed is set first, so that nothing that destructors call can
 * add to what is being emptied.
 */

#include "loop.h"

#include <errno.h>

#include "future.h"
#include "handle.h"
#include "peers.h"
#include "sock_op.h"
#include "spare.h"

/* asyncio's default of slow_callback_duration, in seconds. */
#define SLOW_CALLBACK_DURATION 0.1

/* --- anchors --- */

void
bkpy_anchor_hold(LoopObject *self, bkpy_anchor *anchor, PyObject *owner)
{
    bkpy_anchor *head = &self->anchors;

    if (anchor->owner != NULL) {
        return;
    }
    anchor->owner = Py_NewRef(owner);
    anchor->next = head;
    anchor->prev = head->prev;
    head->prev->next = anchor;
    head->prev = anchor;
}

void
bkpy_anchor_drop(bkpy_anchor *anchor)
{
    PyObject *owner = anchor->owner;

    if (owner == NULL) {
        return;
    }
    anchor->next->prev = anchor->prev;
    anchor->prev->next = anchor->next;
    anchor->next = NULL;
    anchor->prev = NULL;
    anchor->owner = NULL;
    Py_DECREF(owner);
}

/* --- life cycle --- */

static PyObject *
loop_new(PyTypeObject *tp, PyObject *Py_UNUSED(args), PyObject *Py_UNUSED(kw))
{
    bkpy_state *state = bkpy_state_of_type(tp);
    LoopObject *self;

    if (state == NULL) {
        return NULL;
    }
    self = LoopObject_CAST(tp->tp_alloc(tp, 0));
    if (self == NULL) {
        return NULL;
    }
    self->state = state;
    self->anchors.next = &self->anchors;
    self->anchors.prev = &self->anchors;
    self->handle_type = (PyTypeObject *)Py_NewRef(state->HandleType);
    self->timer_handle_type = (PyTypeObject *)Py_NewRef(state->TimerHandleType);
    self->sock_op_type = (PyTypeObject *)Py_NewRef(state->SockOpType);
    self->slow_callback_duration = SLOW_CALLBACK_DURATION;
    return (PyObject *)self;
}

/* Options of the core from __init__'s arguments. -1 with an exception. */
static int
make_options(LoopObject *self, PyObject *backend, bk_loop_options *ret)
{
    *ret = (bk_loop_options){0};
    bkpy_loop_hooks(self, &ret->hooks);
    if (self->poller != NULL) {
        if (backend != Py_None) {
            PyErr_SetString(PyExc_ValueError,
                            "backend and selector exclude each other");
            return -1;
        }
        ret->poller = &bkpy_external_poller;
        ret->poller_self = self;
        return 0;
    }
    if (backend != Py_None) {
        ret->backend = PyUnicode_AsUTF8(backend);
        return ret->backend == NULL ? -1 : 0;
    }
    return 0;
}

static int
open_core(LoopObject *self, PyObject *backend)
{
    bk_loop_options options;
    int r;

    if (make_options(self, backend, &options) < 0) {
        return -1;
    }
    r = bk_loop_new(&options, &self->core);
    if (r == 0) {
        return 0;
    }
    if (r == -EINVAL && options.backend != NULL) {
        PyErr_Format(PyExc_ValueError, "unknown backend %R", backend);
    }
    else {
        bkpy_loop_raise(self, r);
    }
    return -1;
}

static int
loop_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"backend", "selector", NULL};
    LoopObject *self = LoopObject_CAST(op);
    PyObject *backend = Py_None;
    PyObject *selector = Py_None;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "|OO:Loop", names, &backend,
                                     &selector)) {
        return -1;
    }
    if (self->core != NULL) {
        PyErr_SetString(PyExc_RuntimeError,
                        "the event loop is initialized already");
        return -1;
    }
    Py_XSETREF(self->watches, PyDict_New());
    if (self->watches == NULL) {
        return -1;
    }
    Py_XSETREF(self->poller, selector == Py_None ? NULL : Py_NewRef(selector));
    if (open_core(self, backend) < 0) {
        Py_CLEAR(self->poller);
        return -1;
    }
    return 0;
}

struct visit {
    visitproc visit;
    void *arg;
};

static int
visit_handle(bk_handle *node, void *arg)
{
    const struct visit *v = arg;
    PyObject *handle = bkpy_handle_of(node);

    return handle == NULL ? bkpy_wakeup_visit(node, v->visit, v->arg)
                          : v->visit(handle, v->arg);
}

static int
loop_traverse(PyObject *op, visitproc visit, void *arg)
{
    LoopObject *self = LoopObject_CAST(op);
    struct visit v = {visit, arg};

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->watches);
    Py_VISIT(self->poller);
    Py_VISIT(self->poller_error);
    Py_VISIT(self->exit);
    Py_VISIT(self->task_factory);
    Py_VISIT(self->handle_type);
    Py_VISIT(self->timer_handle_type);
    Py_VISIT(self->sock_op_type);
    for (bkpy_anchor *a = self->anchors.next; a != &self->anchors;
         a = a->next) {
        Py_VISIT(a->owner);
    }
    return self->core == NULL ? 0 : bk_loop_visit(self->core, visit_handle, &v);
}

/* Handles that are still queued. Their destructors may run any Python code. */
static void
release_handles(LoopObject *self)
{
    bk_handle *node;

    while ((node = bk_loop_pop(self->core)) != NULL) {
        PyObject *handle = bkpy_handle_of(node);

        if (handle != NULL) {
            bkpy_handle_dequeued(handle);
        }
        else {
            bkpy_wakeup_drop(node);
        }
    }
}

/* Drop everything, once. The loop does not run. Returns what the core says. */
static int
release(LoopObject *self)
{
    int r;

    if (self->core == NULL || self->is_closed) {
        return 0;
    }
    self->is_closed = true;
    self->is_executor_shut = true;
    release_handles(self);
    r = bk_loop_close(self->core);
    bkpy_future_clear_spare(self);
    bkpy_spares_clear(self);
    bkpy_peers_clear(self);
    bkpy_watches_close(self);
    while (self->anchors.next != &self->anchors) {
        bkpy_anchor_drop(self->anchors.next);
    }
    return r;
}

static int
loop_clear(PyObject *op)
{
    LoopObject *self = LoopObject_CAST(op);

    (void)release(self);
    Py_CLEAR(self->watches);
    Py_CLEAR(self->poller);
    Py_CLEAR(self->poller_error);
    Py_CLEAR(self->exit);
    Py_CLEAR(self->task_factory);
    return 0;
}

static void
warn_unclosed(PyObject *op)
{
    if (PyErr_ResourceWarning(op, 1, "unclosed event loop %R", op) < 0) {
        PyErr_WriteUnraisable(op);
    }
}

/* loop.close(), which our base class does not have. */
static void
close_as_user(PyObject *op)
{
    PyObject *close, *r;

    if (PyObject_GetOptionalAttrString(op, "close", &close) == 0) {
        r = loop_close_core(op, NULL);
    }
    else {
        r = close == NULL ? NULL : PyObject_CallNoArgs(close);
    }
    if (r == NULL) {
        PyErr_WriteUnraisable(op);
    }
    Py_XDECREF(close);
    Py_XDECREF(r);
}

/* asyncio's __del__(). */
static void
loop_finalize(PyObject *op)
{
    LoopObject *self = LoopObject_CAST(op);
    PyObject *exc;

    if (self->core == NULL || self->is_closed) {
        return;
    }
    exc = PyErr_GetRaisedException();
    warn_unclosed(op);
    if (self->thread_id == 0) {
        close_as_user(op);
    }
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
}

static void
loop_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);
    LoopObject *self = LoopObject_CAST(op);

    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    (void)loop_clear(op);
    bk_loop_free(self->core);
    bkpy_transports_free(self);
    bkpy_handle_free_cache(self);
    bkpy_wakeups_free(self);
    bkpy_sock_op_free_cache(self);
    PyMem_Free(self->sock_landing);
    Py_XDECREF(self->context_keyword);
    Py_XDECREF(self->handle_type);
    Py_XDECREF(self->timer_handle_type);
    Py_XDECREF(self->sock_op_type);
    tp->tp_free(op);
    Py_DECREF(tp);
}

PyObject *
loop_close_core(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    LoopObject *self = LoopObject_CAST(op);
    int r;

    if (self->thread_id != 0) {
        PyErr_SetString(PyExc_RuntimeError,
                        "Cannot close a running event loop");
        return NULL;
    }
    r = release(self);
    if (r < 0 || self->poller_error != NULL) {
        return bkpy_loop_raise(self, r);
    }
    Py_RETURN_NONE;
}

/* --- the type --- */

static PyType_Slot loop_slots[] = {
    {Py_tp_doc, "The event loop's data plane; see becket.SelectorEventLoop."},
    {Py_tp_new, loop_new},
    {Py_tp_init, loop_init},
    {Py_tp_traverse, loop_traverse},
    {Py_tp_clear, loop_clear},
    {Py_tp_finalize, loop_finalize},
    {Py_tp_dealloc, loop_dealloc},
    {Py_tp_repr, bkpy_loop_repr},
    {Py_tp_methods, bkpy_loop_methods},
    {Py_tp_getset, bkpy_loop_getset},
    {Py_tp_members, bkpy_loop_members},
    {0, NULL},
};

static PyType_Spec loop_spec = {
    .name = "becket._core.Loop",
    .basicsize = sizeof(LoopObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = loop_slots,
};

int
bkpy_loop_setup(PyObject *module, bkpy_state *state)
{
    state->LoopType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &loop_spec, NULL);
    if (state->LoopType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->LoopType);
}
