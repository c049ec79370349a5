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
 */

#include "sock_op.h"

#include "args.h"
#include "handle.h"
#include "socket.h"

/* --- life cycle --- */

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
    Py_VISIT(self->handle);
    return 0;
}

/* Take back the registration; other users of the fd are not touched. */
static void
op_unwatch(SockOpObject *self)
{
    int fd = self->fd;
    PyObject *handle = self->handle;

    self->fd = -1;
    self->handle = NULL;
    if (fd >= 0 && handle != NULL) {
        PyObject *pending = PyErr_GetRaisedException();

        if (bkpy_loop_unwatch_fd(self->loop, fd, self->kind->events, handle) <
            0) {
            PyErr_WriteUnraisable((PyObject *)self);
        }
        PyErr_SetRaisedException(pending);
    }
    Py_XDECREF(handle);
}

static void
op_finish(SockOpObject *self)
{
    self->step = OP_DONE;
    op_unwatch(self);
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
    PyTypeObject *tp = Py_TYPE(op);

    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return;
    }
    PyObject_GC_UnTrack(op);
    if (SockOpObject_CAST(op)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    (void)sock_op_clear(op);
    tp->tp_free(op);
    Py_DECREF(tp);
}

/* --- steps --- */

static bool
must_wait(void)
{
    return PyErr_ExceptionMatches(PyExc_BlockingIOError) ||
           PyErr_ExceptionMatches(PyExc_InterruptedError);
}

static int
check_socket(SockOpObject *self)
{
    PyObject *timeout;
    int is_blocking;

    if (self->state->SSLSocket != NULL) {
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
    PyObject *done;
    int is_done;

    if (self->step != OP_WAITING || self->future == NULL) {
        return 1;
    }
    done = PyObject_CallMethodNoArgs(self->future, self->state->str_done);
    if (done == NULL) {
        return -1;
    }
    is_done = PyObject_IsTrue(done);
    Py_DECREF(done);
    return is_done;
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

static PyObject *
op_attempt(SockOpObject *self)
{
    PyObject *result;

    self->is_running = true;
    result = self->kind->attempt(self);
    self->is_running = false;
    return result;
}

/* The handle's callback: the fd is ready. */
static PyObject *
sock_op_on_ready(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    SockOpObject *self = SockOpObject_CAST(op);
    int abandoned = check_not_running(self) < 0 ? -1 : is_abandoned(self);
    PyObject *result;

    if (abandoned != 0) {
        if (abandoned < 0) {
            return NULL;
        }
        Py_RETURN_NONE;
    }
    result = op_attempt(self);
    if (result == NULL) {
        if (must_wait()) {
            PyErr_Clear();
            Py_RETURN_NONE;
        }
        if (PyErr_ExceptionMatches(PyExc_KeyboardInterrupt) ||
            PyErr_ExceptionMatches(PyExc_SystemExit)) {
            return NULL;
        }
    }
    if (self->step == OP_WAITING && self->future != NULL) {
        op_settle(self, result);
    }
    Py_XDECREF(result);
    PyErr_Clear();
    Py_RETURN_NONE;
}

/* Watch the fd for the handle. The number is asked for last: whatever ran
 * before could have closed the socket, and somebody else could have it. */
static int
op_watch(SockOpObject *self)
{
    int fd = bkpy_socket_fileno(self->state, self->sock);

    if (fd == -2 || bkpy_loop_check_fd_free(self->loop, fd) < 0 ||
        bkpy_loop_watch_fd(self->loop, fd, self->kind->events, self->handle) <
            0) {
        return -1;
    }
    self->fd = fd;
    return 0;
}

/* Register the fd and give the future to wait for (new reference). */
static PyObject *
op_wait(SockOpObject *self)
{
    PyObject *on_ready = PyObject_GetAttrString((PyObject *)self, "_on_ready");

    if (on_ready == NULL) {
        return NULL;
    }
    self->handle =
        bkpy_handle_new(self->loop, on_ready, NULL, 0, NULL, BKPY_HANDLE_IO);
    Py_DECREF(on_ready);
    self->future = bkpy_loop_create_future(self->loop);
    if (self->handle == NULL || self->future == NULL ||
        PyObject_SetAttr(self->future,
                         self->state->str__asyncio_future_blocking,
                         Py_True) < 0 ||
        op_watch(self) < 0) {
        return NULL;
    }
    self->step = OP_WAITING;
    return Py_NewRef(self->future);
}

/* The result, or NULL with an exception, or the future to wait for. */
static PyObject *
op_try(SockOpObject *self, bool *ret_must_wait)
{
    PyObject *result;

    if (check_socket(self) < 0) {
        return NULL;
    }
    result = self->kind->attempt(self);
    if (result == NULL && must_wait()) {
        PyErr_Clear();
        result = op_wait(self);
        *ret_must_wait = result != NULL;
    }
    return result;
}

static PySendResult
op_first_step(SockOpObject *self, PyObject **ret)
{
    bool is_waiting = false;

    self->is_running = true;
    *ret = op_try(self, &is_waiting);
    self->is_running = false;
    if (is_waiting) {
        return PYGEN_NEXT;
    }
    op_finish(self);
    return *ret == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

static PySendResult
sock_op_send_slot(PyObject *op, PyObject *value, PyObject **ret)
{
    SockOpObject *self = SockOpObject_CAST(op);
    PyObject *future;

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
    if (self->step == OP_NEW) {
        return op_first_step(self, ret);
    }
    if (self->step == OP_DONE) {
        PyErr_SetString(PyExc_RuntimeError,
                        "cannot reuse already awaited coroutine");
        return PYGEN_ERROR;
    }
    future = Py_NewRef(self->future);
    op_finish(self);
    *ret = PyObject_CallMethod(future, "result", NULL);
    Py_DECREF(future);
    return *ret == NULL ? PYGEN_ERROR : PYGEN_RETURN;
}

/* StopIteration(value), also for a value that is a tuple or an exception. */
static void
raise_stop_iteration(PyObject *value)
{
    PyObject *exc = PyObject_CallOneArg(PyExc_StopIteration, value);

    if (exc != NULL) {
        PyErr_SetObject(PyExc_StopIteration, exc);
        Py_DECREF(exc);
    }
}

static PyObject *
sock_op_send(PyObject *op, PyObject *value)
{
    PyObject *result;
    PySendResult r = sock_op_send_slot(op, value, &result);

    if (r == PYGEN_RETURN) {
        raise_stop_iteration(result);
        Py_CLEAR(result);
    }
    return result;
}

static PyObject *
sock_op_iternext(PyObject *op)
{
    return sock_op_send(op, Py_None);
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

/* --- the loop's methods --- */

static PyObject *
op_new(PyObject *loop, const op_kind *kind, PyObject *sock, PyObject *arg,
       PyObject *extra)
{
    bkpy_state *state = LoopObject_CAST(loop)->state;
    PyTypeObject *tp = state->SockOpType;
    SockOpObject *self = SockOpObject_CAST(tp->tp_alloc(tp, 0));

    if (self == NULL) {
        return NULL;
    }
    self->loop = LoopObject_CAST(Py_NewRef(loop));
    self->state = state;
    self->kind = kind;
    self->sock = Py_NewRef(sock);
    self->arg = Py_XNewRef(arg);
    self->extra = Py_XNewRef(extra);
    self->fd = -1;
    return (PyObject *)self;
}

/* The methods differ in their parameters only. */
static PyObject *
op_from_args(PyObject *loop, const op_kind *kind, const bkpy_spec *spec,
             PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[3] = {NULL, NULL, NULL};

    if (bkpy_parse(args, nargs, kwnames, spec, values) < 0) {
        return NULL;
    }
    return op_new(loop, kind, values[0], values[1], values[2]);
}

PyObject *
loop_sock_recv(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_recv",
        .names = {"sock", "n"},
        .required = 2,
        .positional = 2,
    };

    return op_from_args(self, &bkpy_op_recv, &spec, args, nargs, kwnames);
}

PyObject *
loop_sock_recv_into(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_recv_into",
        .names = {"sock", "buf"},
        .required = 2,
        .positional = 2,
    };

    return op_from_args(self, &bkpy_op_recv_into, &spec, args, nargs, kwnames);
}

PyObject *
loop_sock_recvfrom(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_recvfrom",
        .names = {"sock", "bufsize"},
        .required = 2,
        .positional = 2,
    };

    return op_from_args(self, &bkpy_op_recvfrom, &spec, args, nargs, kwnames);
}

PyObject *
loop_sock_recvfrom_into(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_recvfrom_into",
        .names = {"sock", "buf", "nbytes"},
        .required = 2,
        .positional = 3,
    };

    return op_from_args(self, &bkpy_op_recvfrom_into, &spec, args, nargs,
                        kwnames);
}

PyObject *
loop_sock_sendall(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_sendall",
        .names = {"sock", "data"},
        .required = 2,
        .positional = 2,
    };

    return op_from_args(self, &bkpy_op_sendall, &spec, args, nargs, kwnames);
}

PyObject *
loop_sock_sendto(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_sendto",
        .names = {"sock", "data", "address"},
        .required = 3,
        .positional = 3,
    };

    return op_from_args(self, &bkpy_op_sendto, &spec, args, nargs, kwnames);
}

PyObject *
loop_sock_accept(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_accept",
        .names = {"sock"},
        .required = 1,
        .positional = 1,
    };

    return op_from_args(self, &bkpy_op_accept, &spec, args, nargs, kwnames);
}

PyObject *
loop_sock_connect_resolved(PyObject *self, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "_sock_connect",
        .names = {"sock", "address"},
        .required = 2,
        .positional = 2,
    };

    return op_from_args(self, &bkpy_op_connect, &spec, args, nargs, kwnames);
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

/* asyncio.iscoroutine() asks collections.abc.Coroutine. */
static int
register_as_coroutine(PyTypeObject *type)
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

int
bkpy_sock_op_setup(PyObject *module, bkpy_state *state)
{
    state->SockOpType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &sock_op_spec, NULL);
    if (state->SockOpType == NULL ||
        PyModule_AddType(module, state->SockOpType) < 0) {
        return -1;
    }
    return register_as_coroutine(state->SockOpType);
}
