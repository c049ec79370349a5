/* sock_op.c -- the awaitables of sock_recv, sock_sendall and their family.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A SockOp is a coroutine for asyncio (collections.abc.Coroutine). Its first
 * step, never its making, tries the system call. Only if that would wait does
 * it register the fd, exactly as add_reader() or add_writer() would, and yield
 * a future. When the fd is ready the callback of the handle does the call and
 * sets the future's result, so bytes are taken at the time at which CPython's
 * loop takes them.
 *
 *   NEW --step--> DONE
 *   NEW --step--> WAITING --future done, step--> DONE
 *   WAITING --throw or close--> DONE (the fd is withdrawn)
 *
 * A handle is there for who can see one, or the context in which its callback
 * runs. Mostly nobody can: then the fd's watch calls the operation itself.
 *
 * An operation's memory comes from and goes back to its loop's free list.
 */

#include "sock_op.h"

#include "coroutine.h"
#include "handle.h"
#include "loop_watch.h"
#include "socket.h"

/* As many wait at once, in a burst (8 KiB a loop). */
#define FREE_OPS_MAX 64

/* --- life cycle --- */

/* What the memory of a freed operation is while it is cached. The header
 * before it and the type in it must stay: PyObject_GC_Del() reads both. */
struct free_op {
    PyObject_HEAD
    void *next;
};

static SockOpObject *
op_alloc(LoopObject *loop)
{
    struct free_op *cached = loop->free_sock_ops;

    if (cached == NULL) {
        return PyObject_GC_New(SockOpObject, loop->sock_op_type);
    }
    loop->free_sock_ops = cached->next;
    loop->free_sock_op_count--;
    return SockOpObject_CAST(
        PyObject_Init((PyObject *)cached, loop->sock_op_type));
}

/* loop: NULL if the operation has lost it. */
static void
op_free(LoopObject *loop, PyObject *op)
{
    struct free_op *cached = (struct free_op *)(void *)op;

    /* What has been finalized would not be so again in its next life. */
    if (!BKPY_HAS_FREE_LISTS || loop == NULL ||
        loop->free_sock_op_count >= FREE_OPS_MAX ||
        PyObject_GC_IsFinalized(op)) {
        PyObject_GC_Del(op);
        return;
    }
    cached->next = loop->free_sock_ops;
    loop->free_sock_ops = cached;
    loop->free_sock_op_count++;
}

void
bkpy_sock_op_free_cache(LoopObject *loop)
{
    struct free_op *cached = loop->free_sock_ops;

    loop->free_sock_ops = NULL;
    loop->free_sock_op_count = 0;
    while (cached != NULL) {
        struct free_op *next = cached->next;

        PyObject_GC_Del(cached);
        cached = next;
    }
}

PyObject *
bkpy_sock_op_new(PyObject *loop, const op_kind *kind, PyObject *sock,
                 PyObject *arg, PyObject *extra)
{
    SockOpObject *self = op_alloc(LoopObject_CAST(loop));

    if (self == NULL) {
        return NULL;
    }
    self->loop = LoopObject_CAST(Py_NewRef(loop));
    self->state = self->loop->state;
    self->kind = kind;
    self->sock = Py_NewRef(sock);
    self->arg = Py_XNewRef(arg);
    self->extra = Py_XNewRef(extra);
    self->future = NULL;
    self->awaited = NULL;
    self->watcher = NULL;
    self->weakrefs = NULL;
    self->sent = 0;
    self->fd = -1;
    self->step = OP_NEW;
    self->is_running = false;
    PyObject_GC_Track(self);
    return (PyObject *)self;
}

static int
sock_op_traverse(PyObject *op, visitproc visit, void *arg)
{
    SockOpObject *self = SockOpObject_CAST(op);

    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->loop);
    Py_VISIT(self->sock);
    Py_VISIT(self->arg);
    Py_VISIT(self->extra);
    Py_VISIT(self->future);
    Py_VISIT(self->awaited);
    if (self->watcher != op) {
        Py_VISIT(self->watcher);
    }
    return 0;
}

/* Take back the registration; other users of the fd are not touched. */
static void
op_unwatch(SockOpObject *self)
{
    int fd = self->fd;
    PyObject *watcher = self->watcher;

    self->fd = -1;
    self->watcher = NULL;
    if (fd >= 0 && watcher != NULL) {
        PyObject *pending = PyErr_GetRaisedException();

        if (bkpy_watch_end(self->loop, self->sock, fd, self->kind->events,
                           watcher) < 0) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        PyErr_SetRaisedException(pending);
    }
    if (watcher != (PyObject *)self) {
        Py_XDECREF(watcher);
    }
}

static void
op_finish(SockOpObject *self)
{
    self->step = OP_DONE;
    if (self->watcher != NULL) {
        op_unwatch(self);
    }
    Py_CLEAR(self->awaited);
    Py_CLEAR(self->future);
    Py_CLEAR(self->sock);
    Py_CLEAR(self->arg);
    Py_CLEAR(self->extra);
}

static int
sock_op_clear(PyObject *op)
{
    SockOpObject *self = SockOpObject_CAST(op);

    op_finish(self);
    Py_CLEAR(self->loop);
    return 0;
}

static void
sock_op_finalize(PyObject *op)
{
    SockOpObject *self = SockOpObject_CAST(op);
    PyObject *pending;

    if (self->step != OP_NEW || self->kind == NULL) {
        return;
    }
    pending = PyErr_GetRaisedException();
    if (PyErr_WarnFormat(PyExc_RuntimeWarning, 1,
                         "coroutine 'SelectorEventLoop.%s' was never awaited",
                         self->kind->name) < 0) {
        PyErr_WriteUnraisable(op);
    }
    PyErr_SetRaisedException(pending);
}

static void
sock_op_dealloc(PyObject *op)
{
    SockOpObject *self = SockOpObject_CAST(op);
    PyTypeObject *tp = Py_TYPE(op);
    LoopObject *loop;

    if (self->step != OP_DONE && PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    if (self->step != OP_DONE) {
        op_finish(self);
    }
    bkpy_coroutine_forget(self->state);
    loop = self->loop;
    op_free(loop, op);
    Py_XDECREF(loop);
    Py_DECREF(tp);
}

/* --- steps --- */

/* Is it a socket of the class that everybody uses? Nothing of the user's runs
 * in its methods. */
static bool
has_usual_socket(const SockOpObject *self)
{
    return Py_TYPE(self->sock) == self->state->SocketType;
}

static int
check_socket(SockOpObject *self)
{
    PyObject *timeout;
    int is_blocking;

    if (self->state->SSLSocket != NULL && !has_usual_socket(self)) {
        int is_ssl = PyObject_IsInstance(self->sock, self->state->SSLSocket);

        if (is_ssl > 0) {
            PyErr_SetString(PyExc_TypeError,
                            "Socket cannot be of type SSLSocket");
        }
        if (is_ssl != 0) {
            return -1;
        }
    }
    if (!self->loop->is_debug) {
        return 0;
    }
    timeout = PyObject_CallMethod(self->sock, "gettimeout", NULL);
    if (timeout == NULL) {
        return -1;
    }
    is_blocking = timeout == Py_None ? 1 : PyObject_IsTrue(timeout);
    Py_DECREF(timeout);
    if (is_blocking > 0) {
        PyErr_SetString(PyExc_ValueError, "the socket must be non-blocking");
    }
    return is_blocking == 0 ? 0 : -1;
}

/* The result, or the exception that is set, goes to the future. */
static void
op_settle(SockOpObject *self, PyObject *result)
{
    PyObject *future = Py_NewRef(self->future);
    int r;

    op_unwatch(self);
    if (result != NULL) {
        r = bkpy_future_set_result(self->state, future, result);
    }
    else {
        PyObject *exc = PyErr_GetRaisedException();

        r = bkpy_future_set_exception(self->state, future, exc);
        Py_DECREF(exc);
    }
    if (r < 0) {
        PyErr_WriteUnraisable((PyObject *)self);
    }
    Py_DECREF(future);
}

/* True when the future is done: whoever waited has been cancelled. */
static int
is_abandoned(SockOpObject *self)
{
    if (self->step != OP_WAITING || self->future == NULL) {
        return 1;
    }
    return bkpy_future_is_done(self->state, self->future);
}

/* Attempts and steps may run Python code, which must not end the operation
 * under them: 0, or -1 with the exception that a coroutine raises. */
static int
check_not_running(const SockOpObject *self)
{
    if (self->is_running) {
        PyErr_SetString(PyExc_ValueError, "coroutine already executing");
        return -1;
    }
    return 0;
}

/* The result; NULL with an exception, or without: it would have to wait. */
static PyObject *
op_attempt(SockOpObject *self)
{
    PyObject *result = self->kind->attempt(self);

    if (result == NULL && PyErr_Occurred() != NULL &&
        (PyErr_ExceptionMatches(PyExc_BlockingIOError) ||
         PyErr_ExceptionMatches(PyExc_InterruptedError))) {
        PyErr_Clear();
    }
    return result;
}

/* The fd is ready: 0, or -1 with an exception that ends the run. */
static int
op_run(SockOpObject *self)
{
    int abandoned = check_not_running(self) < 0 ? -1 : is_abandoned(self);
    PyObject *result;

    if (abandoned != 0) {
        return abandoned < 0 ? -1 : 0;
    }
    self->is_running = true;
    result = op_attempt(self);
    self->is_running = false;
    if (result == NULL) {
        if (PyErr_Occurred() == NULL) {
            return 0;
        }
        if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) ||
            PyErr_ExceptionMatches(PyExc_SystemExit)) {
            return -1;
        }
    }
    if (self->step == OP_WAITING && self->future != NULL) {
        op_settle(self, result);
    }
    Py_XDECREF(result);
    PyErr_Clear();
    return 0;
}

/* The handle's callback. */
static PyObject *
sock_op_on_ready(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return op_run(SockOpObject_CAST(op)) < 0 ? NULL : Py_NewRef(Py_None);
}

void
bkpy_sock_op_run_now(PyObject *op)
{
    LoopObject *loop = SockOpObject_CAST(op)->loop;

    assert(PyErr_Occurred() == NULL);
    Py_INCREF(loop);
    if (op_run(SockOpObject_CAST(op)) < 0) {
        bkpy_loop_leave(loop);
    }
    Py_DECREF(loop);
}

/* --- waiting --- */

/* Whether nobody can see a handle of ours, nor in which context it runs. */
static bool
needs_no_handle(const SockOpObject *self)
{
    LoopObject *loop = self->loop;

    return has_usual_socket(self) && !loop->is_debug && loop->poller == NULL &&
           !bkpy_loop_overrides(loop, BKPY_OWN_CALL_SOON);
}

static int
make_watcher(SockOpObject *self)
{
    PyObject *on_ready;

    if (needs_no_handle(self)) {
        self->watcher = (PyObject *)self;
        return 0;
    }
    on_ready = PyObject_GetAttrString((PyObject *)self, "_on_ready");
    if (on_ready == NULL) {
        return -1;
    }
    self->watcher =
        bkpy_handle_new(self->loop, on_ready, NULL, 0, NULL, BKPY_HANDLE_IO);
    Py_DECREF(on_ready);
    return self->watcher == NULL ? -1 : 0;
}

/* Watch the fd. The number is asked for last: whatever ran before could have
 * closed the socket, and somebody else could have it. */
static int
op_watch(SockOpObject *self)
{
    int fd = bkpy_socket_fileno(self->state, self->sock);

    if (fd == -2 || bkpy_loop_check_fd_free(self->loop, fd) < 0 ||
        bkpy_watch_begin(self->loop, self->sock, fd, self->kind->events,
                         self->watcher) < 0) {
        return -1;
    }
    self->fd = fd;
    return 0;
}

/* The iterator of a new future, which is to be asked for it. */
static int
make_future(SockOpObject *self)
{
    PyAsyncMethods *methods;

    self->future = bkpy_loop_create_future(self->loop);
    if (self->future == NULL) {
        return -1;
    }
    methods = Py_TYPE(self->future)->tp_as_async;
    if (methods == NULL || methods->am_await == NULL) {
        PyErr_Format(PyExc_TypeError, "%.100s object is no future",
                     Py_TYPE(self->future)->tp_name);
        return -1;
    }
    self->awaited = methods->am_await(self->future);
    return self->awaited == NULL ? -1 : 0;
}

/* Register the fd and yield the future to wait for. */
static PySendResult
op_wait(SockOpObject *self, PyObject **ret)
{
    PySendResult r;

    if (make_watcher(self) < 0 || make_future(self) < 0 || op_watch(self) < 0) {
        return PYGEN_ERROR;
    }
    self->step = OP_WAITING;
    r = PyIter_Send(self->awaited, Py_None, ret);
    assert(r != PYGEN_RETURN);
    return r;
}

static PySendResult
op_try(SockOpObject *self, PyObject **ret)
{
    if (check_socket(self) < 0) {
        return PYGEN_ERROR;
    }
    bkpy_loop_flush(self->loop); /* what transports wrote before */
    *ret = op_attempt(self);
    if (*ret != NULL) {
        return PYGEN_RETURN;
    }
    return PyErr_Occurred() != NULL ? PYGEN_ERROR : op_wait(self, ret);
}

static PySendResult
sock_op_send_slot(PyObject *op, PyObject *value, PyObject **ret)
{
    SockOpObject *self = SockOpObject_CAST(op);
    PySendResult r;

    *ret = NULL;
    if (check_not_running(self) < 0) {
        return PYGEN_ERROR;
    }
    if (self->step == OP_NEW && value != Py_None) {
        PyErr_SetString(
            PyExc_TypeError,
            "can't send non-None value to a just-started coroutine");
        return PYGEN_ERROR;
    }
    if (self->step == OP_DONE) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    self->is_running = true;
    r = self->step == OP_NEW ? op_try(self, ret)
                             : PyIter_Send(self->awaited, value, ret);
    self->is_running = false;
    if (r != PYGEN_NEXT) {
        op_finish(self);
    }
    return r;
}

static PyObject *
sock_op_send(PyObject *op, PyObject *value)
{
    PyObject *result;
    PySendResult r = sock_op_send_slot(op, value, &result);

    return r == PYGEN_RETURN
               ? bkpy_coroutine_return(SockOpObject_CAST(op)->state, result)
               : result;
}

/* NULL without an exception is the end with None. */
static PyObject *
sock_op_iternext(PyObject *op)
{
    PyObject *result;
    PySendResult r = sock_op_send_slot(op, Py_None, &result);

    if (r == PYGEN_RETURN && result == Py_None) {
        Py_CLEAR(result);
    }
    else if (r == PYGEN_RETURN) {
        return bkpy_coroutine_return(SockOpObject_CAST(op)->state, result);
    }
    return result;
}

/* throw(exc), and the older throw(type, value=None, traceback=None). */
static PyObject *
sock_op_throw(PyObject *op, PyObject *const *args, Py_ssize_t nargs)
{
    PyObject *value = nargs > 1 && args[1] != Py_None ? args[1] : NULL;

    if (nargs < 1 || nargs > 3) {
        PyErr_SetString(PyExc_TypeError, "throw() takes 1 to 3 arguments");
        return NULL;
    }
    if (check_not_running(SockOpObject_CAST(op)) < 0) {
        return NULL;
    }
    op_finish(SockOpObject_CAST(op));
    if (PyExceptionInstance_Check(args[0])) {
        PyErr_SetObject((PyObject *)Py_TYPE(args[0]), args[0]);
    }
    else if (PyExceptionClass_Check(args[0])) {
        PyErr_SetObject(args[0], value);
    }
    else {
        PyErr_Format(PyExc_TypeError,
                     "exceptions must be classes or instances deriving from "
                     "BaseException, not %s",
                     Py_TYPE(args[0])->tp_name);
    }
    return NULL;
}

static PyObject *
sock_op_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    if (check_not_running(SockOpObject_CAST(op)) < 0) {
        return NULL;
    }
    op_finish(SockOpObject_CAST(op));
    Py_RETURN_NONE;
}

static PyObject *
sock_op_get_name(PyObject *op, void *Py_UNUSED(closure))
{
    return PyUnicode_FromString(SockOpObject_CAST(op)->kind->name);
}

static PyObject *
sock_op_get_await(PyObject *op, void *Py_UNUSED(closure))
{
    PyObject *future = SockOpObject_CAST(op)->future;

    return Py_NewRef(future == NULL ? Py_None : future);
}

static PyObject *
sock_op_get_running(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(SockOpObject_CAST(op)->is_running);
}

static PyObject *
sock_op_repr(PyObject *op)
{
    return PyUnicode_FromFormat("<coroutine object SelectorEventLoop.%s at "
                                "%p>",
                                SockOpObject_CAST(op)->kind->name, op);
}

/* --- the type --- */

static PyMethodDef sock_op_methods[] = {
    {"send", sock_op_send, METH_O,
     "send($self, value, /)\n--\n\nGo on; StopIteration holds the result."},
    {"throw", (PyCFunction)(void (*)(void))sock_op_throw, METH_FASTCALL,
     "throw($self, /, *args)\n--\n\nWithdraw the fd and raise this."},
    {"close", sock_op_close, METH_NOARGS,
     "close($self, /)\n--\n\nWithdraw the fd."},
    {"_on_ready", sock_op_on_ready, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef sock_op_getset[] = {
    {"__name__", sock_op_get_name, NULL, NULL, NULL},
    {"__qualname__", sock_op_get_name, NULL, NULL, NULL},
    {"cr_await", sock_op_get_await, NULL, NULL, NULL},
    {"cr_running", sock_op_get_running, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef sock_op_members[] = {
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(SockOpObject, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot sock_op_slots[] = {
    {Py_tp_doc, "One sock_*() call: awaitable once, a coroutine for asyncio."},
    {Py_tp_traverse, sock_op_traverse},
    {Py_tp_clear, sock_op_clear},
    {Py_tp_finalize, sock_op_finalize},
    {Py_tp_dealloc, sock_op_dealloc},
    {Py_tp_repr, sock_op_repr},
    {Py_tp_iternext, sock_op_iternext},
    {Py_tp_iter, PyObject_SelfIter},
    {Py_am_await, PyObject_SelfIter},
    {Py_am_send, sock_op_send_slot},
    {Py_tp_methods, sock_op_methods},
    {Py_tp_getset, sock_op_getset},
    {Py_tp_members, sock_op_members},
    {0, NULL},
};

static PyType_Spec sock_op_spec = {
    .name = "becket._core.SockOp",
    .basicsize = sizeof(SockOpObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_IMMUTABLETYPE | Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = sock_op_slots,
};

int
bkpy_sock_op_setup(PyObject *module, bkpy_state *state)
{
    state->SockOpType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &sock_op_spec, NULL);
    if (state->SockOpType == NULL ||
        PyModule_AddType(module, state->SockOpType) < 0) {
        return -1;
    }
    return bkpy_coroutine_register(state->SockOpType);
}
