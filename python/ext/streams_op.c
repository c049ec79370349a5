/* streams_op.c -- the coroutines of asyncio's streams: reads, and drain.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A StreamOp is a coroutine for asyncio (collections.abc.Coroutine). Its first
 * step, never its making, looks at the reader. If that has what is asked for,
 * the operation is done; otherwise it waits as asyncio's method does, for a
 * future that the reader has as its _waiter.
 *
 *   NEW --step--> DONE
 *   NEW --step--> WAITING --step--> WAITING or DONE
 *   WAITING --throw or close--> DONE
 *
 * At any time asyncio's own coroutine may take over: when something is not as
 * usual, when an exception is to be raised (with the traceback that asyncio
 * has), or when somebody looks at the frames. From NEW it just begins. In
 * WAITING it begins on a stand-in for the reader (becket._stand_in) that has it
 * wait at once, for a future of its own, the gate; from then on the stand-in
 * hands everything on to the reader. The operation goes on waiting for the
 * waiter, and then opens the gate.
 *
 * Most operations are awaited at once, and many are done at once. So the
 * collector sees one only when it waits or when the next one of its method is
 * made: until then it is the method's newborn.
 */

#include "streams.h"

#include <stddef.h>
#include <string.h>

#include "coroutine.h"
#include "future.h"

/* A busy server has about one operation under way for each connection; more
 * than that would only keep the memory of a burst (6 KiB a method). */
#define FREE_OPS_MAX 64

static inline bkpy_state *
state_of(const StreamOpObject *self)
{
    return self->method->state;
}

/* --- life cycle --- */

/* What the memory of a freed operation is while it is cached. The header
 * before it and the type in it must stay: PyObject_GC_Del() reads both. */
struct free_op {
    PyObject_HEAD
    void *next;
};

static StreamOpObject *
op_alloc(StreamMethodObject *method)
{
    PyTypeObject *tp = method->state->StreamOpType;
    struct free_op *cached = method->free_ops;

    if (cached == NULL) {
        return PyObject_GC_New(StreamOpObject, tp);
    }
    method->free_ops = cached->next;
    method->free_op_count--;
    return StreamOpObject_CAST(PyObject_Init((PyObject *)cached, tp));
}

/* is_seen: by the collector. What that has finalized would not be so again in
 * its next life. */
static void
op_free(StreamMethodObject *method, PyObject *op, bool is_seen)
{
    struct free_op *cached = (struct free_op *)(void *)op;

    if (!BKPY_HAS_FREE_LISTS || method->free_op_count >= FREE_OPS_MAX ||
        (is_seen && PyObject_GC_IsFinalized(op))) {
        PyObject_GC_Del(op);
        return;
    }
    cached->next = method->free_ops;
    method->free_ops = cached;
    method->free_op_count++;
}

void
bkpy_stream_op_free_cache(StreamMethodObject *method)
{
    struct free_op *cached = method->free_ops;

    method->free_ops = NULL;
    method->free_op_count = FREE_OPS_MAX;
    while (cached != NULL) {
        struct free_op *next = cached->next;

        PyObject_GC_Del(cached);
        cached = next;
    }
}

static void
see_newborn(StreamMethodObject *method)
{
    StreamOpObject *op = method->newborn;

    method->newborn = NULL;
    if (op != NULL) {
        PyObject_GC_Track(op);
    }
}

BKPY_HOT PyObject *
bkpy_stream_op_new(StreamMethodObject *method, PyObject *owner, PyObject *arg)
{
    StreamOpObject *self = op_alloc(method);

    if (self == NULL) {
        return NULL;
    }
    self->method = StreamMethodObject_CAST(Py_NewRef(method));
    self->owner = Py_NewRef(owner);
    self->arg = Py_XNewRef(arg);
    self->awaited = NULL;
    self->waiter = NULL;
    self->transport = NULL;
    self->handed = NULL;
    self->inner = NULL;
    self->gate = NULL;
    self->weakrefs = NULL;
    self->seen = 0;
    self->wants_min = 0;
    self->wants_max = 0;
    self->step = BKPY_OP_NEW;
    self->is_running = false;
    if (BKPY_HAS_FREE_LISTS) {
        see_newborn(method);
        method->newborn = self;
    }
    else { /* with free threads, methods are shared */
        PyObject_GC_Track(self);
    }
    return (PyObject *)self;
}

static int
stream_op_traverse(PyObject *op, visitproc visit, void *arg)
{
    StreamOpObject *self = StreamOpObject_CAST(op);

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->method);
    Py_VISIT(self->owner);
    Py_VISIT(self->arg);
    Py_VISIT(self->awaited);
    Py_VISIT(self->transport);
    Py_VISIT(self->inner);
    Py_VISIT(self->gate);
    return 0;
}

/* What was handed over goes back. */
BKPY_COLD static void
give_back(StreamOpObject *self)
{
    PyObject *pending = PyErr_GetRaisedException();

    if (bkpy_handover_settle(self) < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    PyErr_SetRaisedException(pending);
}

/* Nothing waits any more. */
static void
end_wait(StreamOpObject *self)
{
    bkpy_handover_withdraw(self);
    if (self->handed != NULL) {
        give_back(self);
    }
}

BKPY_HOT static int
stream_op_clear(PyObject *op)
{
    StreamOpObject *self = StreamOpObject_CAST(op);

    end_wait(self);
    self->step = BKPY_OP_DONE;
    Py_CLEAR(self->awaited);
    Py_CLEAR(self->inner);
    Py_CLEAR(self->gate);
    Py_CLEAR(self->arg);
    Py_CLEAR(self->owner);
    return 0;
}

/* asyncio's "finally: self._waiter = None", for an operation that is given up
 * while it waits. */
static void
stop_waiting(StreamOpObject *self)
{
    end_wait(self);
    if (self->step == BKPY_OP_WAITING &&
        PyObject_SetAttr(self->owner, state_of(self)->str__waiter, Py_None) <
            0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
}

BKPY_COLD static PyObject *
begin_inner(StreamOpObject *self, PyObject *owner)
{
    PyObject *args[2] = {owner, self->arg};

    return PyObject_Vectorcall(self->method->original, args,
                               self->arg == NULL ? 1 : 2, NULL);
}

/* A coroutine of asyncio's that nobody awaits says so itself. */
BKPY_COLD static void
warn_unawaited(StreamOpObject *self)
{
    PyObject *inner = begin_inner(self, self->owner);

    if (inner == NULL) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_XDECREF(inner);
}

static void
stream_op_finalize(PyObject *op)
{
    StreamOpObject *self = StreamOpObject_CAST(op);
    PyObject *pending = PyErr_GetRaisedException();

    if (self->step == BKPY_OP_NEW && self->inner == NULL) {
        warn_unawaited(self);
    }
    else if (self->inner == NULL) {
        stop_waiting(self);
    }
    PyErr_SetRaisedException(pending);
}

/* Before it is done. False if it lives on. */
BKPY_COLD static bool
end_early(StreamOpObject *self)
{
    if (self->method->newborn == self) {
        see_newborn(self->method);
    }
    if (PyObject_CallFinalizerFromDealloc((PyObject *)self) < 0) {
        return false;
    }
    PyObject_GC_UnTrack(self);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs((PyObject *)self);
    }
    (void)stream_op_clear((PyObject *)self);
    return true;
}

BKPY_HOT static void
stream_op_dealloc(PyObject *op)
{
    StreamOpObject *self = StreamOpObject_CAST(op);
    StreamMethodObject *method = self->method;
    PyTypeObject *tp = Py_TYPE(op);
    bool is_seen;

    if (self->step != BKPY_OP_DONE && !end_early(self)) {
        return;
    }
    is_seen = method->newborn != self;
    if (is_seen) {
        PyObject_GC_UnTrack(op);
    }
    else {
        method->newborn = NULL;
    }
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    bkpy_coroutine_forget(method->state);
    op_free(method, op, is_seen);
    Py_DECREF(method);
    Py_DECREF(tp);
}

/* --- asyncio's coroutine takes over --- */

/* Have it wait where we do. becket._stand_in.begin(original, reader, seen,
 * arg) gives the coroutine and its gate. */
BKPY_COLD static int
take_over_waiting(StreamOpObject *self)
{
    PyObject *pair = PyObject_CallFunction(
        state_of(self)->begin_on_stand_in, "OOnO", self->method->original,
        self->owner, self->seen, self->arg == NULL ? Py_None : self->arg);

    if (pair == NULL) {
        return -1;
    }
    if (!PyArg_ParseTuple(pair, "OO", &self->inner, &self->gate)) {
        Py_DECREF(pair);
        return -1;
    }
    Py_INCREF(self->inner);
    Py_INCREF(self->gate);
    Py_DECREF(pair);
    return 0;
}

/* Have asyncio's coroutine take over at the place where we are. 0 or -1. */
BKPY_COLD static int
take_over(StreamOpObject *self)
{
    if (self->inner != NULL) {
        return 0;
    }
    if (self->method->newborn == self) {
        see_newborn(self->method);
    }
    if (self->step == BKPY_OP_WAITING) {
        return take_over_waiting(self);
    }
    self->inner = begin_inner(self, self->owner);
    return self->inner == NULL ? -1 : 0;
}

/* --- steps --- */

static inline void
op_finish(StreamOpObject *self)
{
    if (self->transport != NULL || self->handed != NULL ||
        self->awaited != NULL || self->inner != NULL || self->gate != NULL) {
        (void)stream_op_clear((PyObject *)self);
        return;
    }
    self->step = BKPY_OP_DONE;
    Py_CLEAR(self->arg);
    Py_CLEAR(self->owner);
}

/* Attempts and steps may run Python code, which must not end the operation
 * under them: 0, or -1 with the exception that a coroutine raises. */
static int
check_not_running(const StreamOpObject *self)
{
    if (self->is_running) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return -1;
    }
    return 0;
}

static int
check_not_done(const StreamOpObject *self)
{
    if (self->step == BKPY_OP_DONE) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
        return -1;
    }
    return 0;
}

/* Whether it can take a step with this value; false with an exception. */
BKPY_COLD static bool
can_step(const StreamOpObject *self, bool is_new, PyObject *value)
{
    if (check_not_running(self) < 0 || check_not_done(self) < 0) {
        return false;
    }
    if (is_new && value != Py_None) {
        PyErr_SetString(
            PyExc_TypeError,
            "can't send non-None value to a just-started coroutine");
        return false;
    }
    return true;
}

/* Let asyncio's coroutine go on; what we waited for is over. */
BKPY_COLD static PySendResult
step_inner(StreamOpObject *self, PyObject *value, PyObject **ret)
{
    PyObject *gate = self->gate;

    self->gate = NULL;
    if (gate != NULL) {
        PyObject *opened = PyObject_CallMethodOneArg(
            gate, state_of(self)->str_set_result, Py_None);

        Py_DECREF(gate);
        if (opened == NULL) {
            return PYGEN_ERROR;
        }
        Py_DECREF(opened);
    }
    return PyIter_Send(self->inner, value, ret);
}

/* When an attempt could not do it. */
BKPY_COLD static PySendResult
leave_to_inner(StreamOpObject *self, PyObject **ret)
{
    end_wait(self);
    return take_over(self) < 0 ? PYGEN_ERROR : step_inner(self, Py_None, ret);
}

static inline PySendResult
op_attempt(StreamOpObject *self, bool is_first, PyObject **ret)
{
    bkpy_stream_outcome outcome =
        self->method->kind->attempt(self, is_first, ret);

    if (outcome == BKPY_STREAM_DONE) {
        return PYGEN_RETURN;
    }
    if (outcome == BKPY_STREAM_WAITING) {
        self->step = BKPY_OP_WAITING;
        if (self->method->newborn == self) {
            see_newborn(self->method);
        }
        return PYGEN_NEXT;
    }
    return outcome == BKPY_STREAM_FAILED ? PYGEN_ERROR
                                         : leave_to_inner(self, ret);
}

/* asyncio's coroutine raises what the waiter has raised. */
BKPY_COLD static PySendResult
raise_in_inner(StreamOpObject *self, PyObject **ret)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *result;

    if (take_over(self) < 0) {
        PyErr_SetRaisedException(exc);
        return PYGEN_ERROR;
    }
    result =
        PyObject_CallMethodOneArg(self->inner, state_of(self)->str_throw, exc);
    Py_DECREF(exc);
    return bkpy_coroutine_result(result, ret);
}

static inline PySendResult
op_resume(StreamOpObject *self, PyObject *value, PyObject **ret)
{
    PySendResult r;

    if (self->awaited == NULL) {
        return step_inner(self, value, ret);
    }
    r = bkpy_future_send(state_of(self), self->awaited, value, ret);
    if (r == PYGEN_NEXT) {
        return r;
    }
    Py_CLEAR(self->awaited);
    if (r == PYGEN_RETURN && self->inner == NULL) {
        Py_CLEAR(*ret);
        bkpy_handover_withdraw(self);
        return op_attempt(self, false, ret);
    }
    end_wait(self);
    if (r == PYGEN_ERROR) {
        return raise_in_inner(self, ret);
    }
    Py_CLEAR(*ret);
    return step_inner(self, Py_None, ret);
}

static inline PySendResult
op_step(StreamOpObject *self, PyObject *value, PyObject **ret)
{
    bool is_new = self->step == BKPY_OP_NEW && self->inner == NULL;
    PySendResult r;

    *ret = NULL;
    if ((self->is_running || self->step == BKPY_OP_DONE || value != Py_None) &&
        !can_step(self, is_new, value)) {
        return PYGEN_ERROR;
    }
    self->is_running = true;
    r = is_new ? op_attempt(self, true, ret) : op_resume(self, value, ret);
    self->is_running = false;
    if (r != PYGEN_NEXT) {
        op_finish(self);
    }
    return r;
}

static PySendResult
stream_op_send_slot(PyObject *op, PyObject *value, PyObject **ret)
{
    return op_step(StreamOpObject_CAST(op), value, ret);
}

static PyObject *
stream_op_send(PyObject *op, PyObject *value)
{
    PyObject *result;
    PySendResult r = stream_op_send_slot(op, value, &result);

    return r == PYGEN_RETURN ? bkpy_coroutine_return(
                                   state_of(StreamOpObject_CAST(op)), result)
                             : result;
}

/* NULL without an exception is the end with None. */
BKPY_HOT static PyObject *
stream_op_iternext(PyObject *op)
{
    PyObject *result;
    PySendResult r = op_step(StreamOpObject_CAST(op), Py_None, &result);

    if (r == PYGEN_RETURN && result == Py_None) {
        Py_CLEAR(result);
    }
    else if (r == PYGEN_RETURN) {
        return bkpy_coroutine_return(state_of(StreamOpObject_CAST(op)), result);
    }
    return result;
}

/* throw(exc), and the older throw(type, value=None, traceback=None). */
static PyObject *
stream_op_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    StreamOpObject *self = StreamOpObject_CAST(op);
    PyObject *stack[4];
    PyObject *result;

    if (nargs < 1 || nargs > 3) {
        PyErr_SetString(PyExc_TypeError, "throw() takes 1 to 3 arguments");
        return NULL;
    }
    if (check_not_running(self) < 0 || check_not_done(self) < 0 ||
        take_over(self) < 0) {
        return NULL;
    }
    end_wait(self);
    Py_CLEAR(self->awaited);
    Py_CLEAR(self->gate);
    stack[0] = self->inner;
    memcpy(stack + 1, args, (size_t)nargs * sizeof(*args));
    self->is_running = true;
    result = PyObject_VectorcallMethod(state_of(self)->str_throw, stack,
                                       (size_t)nargs + 1, NULL);
    self->is_running = false;
    if (result == NULL) {
        op_finish(self);
    }
    return result;
}

static PyObject *
stream_op_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamOpObject *self = StreamOpObject_CAST(op);
    PyObject *result = Py_None;

    if (check_not_running(self) < 0) {
        return NULL;
    }
    if (self->inner != NULL) {
        self->is_running = true;
        result =
            PyObject_CallMethodNoArgs(self->inner, state_of(self)->str_close);
        self->is_running = false;
        Py_XDECREF(result);
    }
    else {
        stop_waiting(self);
    }
    op_finish(self);
    return result == NULL ? NULL : Py_NewRef(Py_None);
}

/* --- what a coroutine shows --- */

static PyObject *
stream_op_get_of_function(PyObject *op, void *name)
{
    return PyObject_GetAttrString(StreamOpObject_CAST(op)->method->original,
                                  name);
}

/* Frames are asyncio's, so its coroutine has to be there to show them. */
static PyObject *
stream_op_get_of_inner(PyObject *op, void *name)
{
    StreamOpObject *self = StreamOpObject_CAST(op);

    if (self->step == BKPY_OP_DONE ||
        (self->is_running && self->inner == NULL)) {
        Py_RETURN_NONE;
    }
    return take_over(self) < 0 ? NULL
                               : PyObject_GetAttrString(self->inner, name);
}

static PyObject *
stream_op_get_running(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(StreamOpObject_CAST(op)->is_running);
}

static PyObject *
stream_op_get_suspended(PyObject *op, void *name)
{
    StreamOpObject *self = StreamOpObject_CAST(op);

    if (self->inner != NULL) {
        return PyObject_GetAttrString(self->inner, name);
    }
    return PyBool_FromLong(self->step == BKPY_OP_WAITING && !self->is_running);
}

#if BKPY_COROUTINES_HAVE_STATE
static PyObject *
stream_op_get_state(PyObject *op, void *name)
{
    StreamOpObject *self = StreamOpObject_CAST(op);

    if (self->is_running) {
        return PyUnicode_FromString("CORO_RUNNING");
    }
    if (self->inner != NULL) {
        return PyObject_GetAttrString(self->inner, name);
    }
    switch (self->step) {
    case BKPY_OP_DONE:
        return PyUnicode_FromString("CORO_CLOSED");
    case BKPY_OP_WAITING:
        return PyUnicode_FromString("CORO_SUSPENDED");
    default:
        return PyUnicode_FromString("CORO_CREATED");
    }
}
#endif

static PyObject *
stream_op_repr(PyObject *op)
{
    PyObject *name = stream_op_get_of_function(op, "__qualname__");
    PyObject *text = NULL;

    if (name != NULL) {
        text = PyUnicode_FromFormat("<coroutine object %S at %p>", name, op);
        Py_DECREF(name);
    }
    return text;
}

/* --- the type --- */

static PyMethodDef stream_op_methods[] = {
    {"send", stream_op_send, METH_O,
     "send($self, value, /)\n--\n\nGo on; StopIteration holds the result."},
    {"throw", (PyCFunction)(void (*)(void))stream_op_throw, METH_FASTCALL,
     "throw($self, /, *args)\n--\n\nRaise this where it waits."},
    {"close", stream_op_close, METH_NOARGS, "close($self, /)\n--\n\nGive up."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef stream_op_getset[] = {
    {"__name__", stream_op_get_of_function, NULL, NULL, "__name__"},
    {"__qualname__", stream_op_get_of_function, NULL, NULL, "__qualname__"},
    {"cr_code", stream_op_get_of_function, NULL, NULL, "__code__"},
    {"cr_frame", stream_op_get_of_inner, NULL, NULL, "cr_frame"},
    {"cr_await", stream_op_get_of_inner, NULL, NULL, "cr_await"},
    {"cr_origin", stream_op_get_of_inner, NULL, NULL, "cr_origin"},
    {"cr_running", stream_op_get_running, NULL, NULL, NULL},
    {"cr_suspended", stream_op_get_suspended, NULL, NULL, "cr_suspended"},
#if BKPY_COROUTINES_HAVE_STATE
    {"cr_state", stream_op_get_state, NULL, NULL, "cr_state"},
#endif
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef stream_op_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(StreamOpObject, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot stream_op_slots[] = {
    {Py_tp_doc, "A read or a drain: awaitable once, a coroutine for asyncio."},
    {Py_tp_traverse, stream_op_traverse},
    {Py_tp_clear, stream_op_clear},
    {Py_tp_finalize, stream_op_finalize},
    {Py_tp_dealloc, stream_op_dealloc},
    {Py_tp_repr, stream_op_repr},
    {Py_tp_iternext, stream_op_iternext},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, stream_op_send_slot},
    {Py_tp_methods, stream_op_methods},
    {Py_tp_getset, stream_op_getset},
    {Py_tp_members, stream_op_members},
    {0, NULL},
};

static PyType_Spec stream_op_spec = {
    .name = "becket._core.StreamOp",
    .basicsize = sizeof(StreamOpObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = stream_op_slots,
};

int
bkpy_stream_op_setup(PyObject *module, bkpy_state *state)
{
    state->StreamOpType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &stream_op_spec, NULL);
    if (state->StreamOpType == NULL ||
        PyModule_AddType(module, state->StreamOpType) < 0) {
        return -1;
    }
    return bkpy_coroutine_register(state->StreamOpType);
}
