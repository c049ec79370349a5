/* stream_transport.c -- the stream transport: life cycle and type.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Who holds a transport: its users, and the loop through the anchor, from
 * begin() until on_closed, but for the times in which CPython's loop would not
 * hold it either (bkpy_stream_review_hold). The core's queues and pollers hold
 * nothing, so a transport without anchor must be out of all of them, or be
 * released before it dies: dealloc does that.
 *
 * The core may look at a transport after a callback of ours, so while one is
 * open (self->reports) the anchor is let go from `later`, a node of its own in
 * the ready queue.
 *
 * Who closes the fd: the core, or the socket object as soon as there is one
 * (given at the start, or made for get_extra_info('socket')).
 */

#include "stream_transport.h"

#include "args.h"
#include "errors.h"
#include "server.h"
#include "socket.h"
#include "streams.h"

/* --- life cycle --- */

static void on_later(bk_handle *handle);

StreamTransportObject *
bkpy_stream_new(LoopObject *loop)
{
    PyTypeObject *tp = loop->state->StreamTransportType;
    StreamTransportObject *self;
    int r;

    if (bkpy_loop_check_closed(loop) < 0) {
        return NULL;
    }
    self = (StreamTransportObject *)tp->tp_alloc(tp, 0);
    if (self == NULL) {
        return NULL;
    }
    /* tp_alloc has zeroed it. */
    self->state = loop->state;
    self->loop = (LoopObject *)Py_NewRef(loop);
    self->fd = -1;
    bk_handle_init(&self->later, on_later);
    r = bk_transport_init(&self->core, loop->core, &bkpy_stream_plain, self);
    if (r < 0) {
        bkpy_error_set(self->state, r);
        Py_DECREF(self);
        return NULL;
    }
    return self;
}

static int
stream_transport_traverse(PyObject *op, visitproc visit, void *arg)
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->extra);
    Py_VISIT((PyObject *)self->loop);
    Py_VISIT(self->protocol);
    Py_VISIT(self->socket);
    Py_VISIT(self->server);
    Py_VISIT(self->context);
    Py_VISIT(self->lost_context);
    Py_VISIT(self->write_context);
    Py_VISIT(self->error);
    Py_VISIT(self->raised);
    Py_VISIT(self->waiter);
    Py_VISIT(self->empty_waiter);
    Py_VISIT(self->landing);
    Py_VISIT(self->dict);
    if (self->is_view_held) {
        Py_VISIT(self->view->obj);
    }
    return 0;
}

/* Members that other code may still ask for are left as they are when the
 * transport has a user, who gets None or an error from them. */
static int
stream_transport_clear(PyObject *op)
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    LoopObject *loop = self->loop;

    bkpy_stream_release(self);
    self->loop = NULL;
    Py_XDECREF(loop);
    Py_CLEAR(self->extra);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->socket);
    Py_CLEAR(self->server);
    Py_CLEAR(self->context);
    Py_CLEAR(self->lost_context);
    Py_CLEAR(self->write_context);
    Py_CLEAR(self->error);
    Py_CLEAR(self->raised);
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->empty_waiter);
    Py_CLEAR(self->landing);
    Py_CLEAR(self->dict);
    bkpy_spare_forget(&self->given);
    return 0;
}

void
bkpy_stream_release(StreamTransportObject *self)
{
    PyObject *server = self->server;

    (void)bk_handle_cancel(&self->later);
    if (self->loop == NULL) {
        return;
    }
    self->is_closing = true;
    if (self->fd >= 0) {
        bkpy_loop_forget_transport(self->loop, self->fd, (PyObject *)self);
    }
    bk_transport_release(&self->core);
    if (self->is_attached) {
        self->server = NULL;
        bkpy_server_detach(server, self);
        Py_DECREF(server);
    }
}

/* As CPython's __del__: an unclosed transport is closed, with a warning. */
static void
stream_transport_finalize(PyObject *op)
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    PyObject *pending;

    self->is_finalized = true;
    if (self->loop == NULL || self->protocol == NULL) {
        return; /* it has ended, or nobody has ever seen it */
    }
    pending = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) < 0) {
        PyErr_WriteUnraisable(op);
    }
    if (bkpy_stream_is_alive(self)) {
        bk_transport_flush(&self->core);
    }
    bkpy_stream_release(self);
    PyErr_SetRaisedException(pending);
}

static void
stream_transport_dealloc(PyObject *op)
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    PyTypeObject *tp = Py_TYPE(op);

    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return; /* somebody has taken a reference while it was shown */
    }
    PyObject_GC_UnTrack(op);
    if (self->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    (void)stream_transport_clear(op);
    if (self->is_view_held) {
        PyBuffer_Release(self->view);
    }
    PyMem_Free(self->view);
    tp->tp_free(op);
    Py_DECREF(tp);
}

/* --- what the loop holds --- */

static bool
wants_hold(const StreamTransportObject *self)
{
    if (!bkpy_stream_is_alive(self)) {
        return false;
    }
    return !self->is_started || self->is_closing ||
           self->write_context != NULL || !(self->is_paused || self->is_at_eof);
}

void
bkpy_stream_review_hold(StreamTransportObject *self)
{
    if (wants_hold(self)) {
        if (!self->is_finalized) {
            bkpy_anchor_hold(self->loop, &self->anchor, (PyObject *)self);
        }
    }
    else if (self->anchor.owner == NULL || !bkpy_stream_is_alive(self)) {
        return;
    }
    else if (self->reports == 0 && self->waiter == NULL) {
        bkpy_anchor_drop(&self->anchor);
    }
    else {
        /* -EBUSY: it is on its way already. */
        (void)bk_loop_schedule(self->loop->core, &self->later);
    }
}

static void
wake_waiter(StreamTransportObject *self)
{
    PyObject *waiter = self->waiter;

    if (waiter == NULL) {
        return;
    }
    self->waiter = NULL;
    if (bkpy_future_set_result(self->state, waiter, Py_None) < 0) {
        PyErr_WriteUnraisable(waiter);
    }
    Py_DECREF(waiter);
}

static void
on_later(bk_handle *handle)
{
    StreamTransportObject *self = bkpy_stream_of_later(handle);

    Py_INCREF(self);
    wake_waiter(self);
    if (!wants_hold(self)) {
        bkpy_anchor_drop(&self->anchor);
    }
    Py_DECREF(self);
}

/* --- beginning --- */

PyObject *
bkpy_stream_callback_context(const StreamTransportObject *self)
{
    if (BKPY_TRANSPORT_HAS_CONTEXT && self->context != NULL) {
        return Py_NewRef(self->context);
    }
    return PyContext_CopyCurrent();
}

int
bkpy_stream_set_protocol(StreamTransportObject *self, PyObject *protocol)
{
    bkpy_state *state = self->state;
    const bk_protocol *calls = &bkpy_stream_plain;
    int is_buffered = PyObject_IsInstance(protocol, state->BufferedProtocol);

    if (is_buffered < 0) {
        return -1;
    }
    if (Py_TYPE(protocol) == state->TlsProtocolType) {
        calls = &bkpy_stream_tls;
    }
    else if (is_buffered) {
        calls = &bkpy_stream_buffered;
    }
    else if ((PyObject *)Py_TYPE(protocol) == state->StreamReaderProtocol) {
        calls = &bkpy_stream_reader;
    }
    if (bkpy_stream_is_alive(self)) {
        bk_transport_set_protocol(&self->core, calls, self);
    }
    Py_XSETREF(self->protocol, Py_NewRef(protocol));
    if (calls == &bkpy_stream_reader) {
        bkpy_reader_protocol_adopt(state, protocol);
    }
    self->seeks_writer = calls == &bkpy_stream_reader;
    return 0;
}

/* A real handle, so that what connection_made raises is reported like what
 * any other callback raises. */
static PyObject *
queue_connection_made(StreamTransportObject *self)
{
    PyObject *args[1] = {(PyObject *)self};
    PyObject *context = bkpy_stream_callback_context(self);
    PyObject *callback;
    PyObject *handle = NULL;

    if (context == NULL) {
        return NULL;
    }
    callback =
        PyObject_GetAttr(self->protocol, self->state->str_connection_made);
    if (callback != NULL) {
        handle = bkpy_loop_call_soon(self->loop, callback, args, 1, context);
        Py_DECREF(callback);
    }
    Py_DECREF(context);
    return handle;
}

/* The start of reading, and after it the waking of who waits for the
 * connection. */
static int
queue_start(StreamTransportObject *self)
{
    int r;

    if (!BKPY_TRANSPORT_HAS_CONTEXT) {
        Py_XSETREF(self->context, PyContext_CopyCurrent());
        if (self->context == NULL) {
            return -1;
        }
    }
    r = bk_transport_start(&self->core);
    if (r == 0 && self->waiter != NULL) {
        r = bk_loop_schedule(self->loop->core, &self->later);
    }
    if (r < 0) {
        bkpy_error_set(self->state, r);
        return -1;
    }
    bkpy_anchor_hold(self->loop, &self->anchor, (PyObject *)self);
    return 0;
}

int
bkpy_stream_begin(StreamTransportObject *self, PyObject *protocol)
{
    PyObject *made;
    int r;

    bk_handle_init(&self->later, on_later); /* server.c had another use of it */
    self->fd = bk_transport_fileno(&self->core);
    if (BKPY_TRANSPORT_HAS_CONTEXT && self->context == NULL) {
        self->context = PyContext_CopyCurrent();
        if (self->context == NULL) {
            return -1;
        }
    }
    if (bkpy_stream_remember_names(self) < 0 ||
        bkpy_stream_set_protocol(self, protocol) < 0) {
        return -1;
    }
    if (self->server != NULL && bkpy_server_attach(self->server, self) < 0) {
        return -1;
    }
    if (bkpy_loop_note_transport(self->loop, self->fd, (PyObject *)self) < 0) {
        return -1;
    }
    made = queue_connection_made(self);
    if (made == NULL) {
        return -1;
    }
    r = queue_start(self);
    if (r < 0) {
        PyObject *exc = PyErr_GetRaisedException();
        PyObject *ignored =
            PyObject_CallMethodNoArgs(made, self->state->str_cancel);

        Py_XDECREF(ignored);
        PyErr_SetRaisedException(exc);
    }
    Py_DECREF(made);
    return r;
}

/* --- the loop's method --- */

/* Whoever made the socket keeps it until here; from here on it is ours. */
static int
open_socket(StreamTransportObject *self, PyObject *sock)
{
    int r = bk_transport_open_socket(&self->core,
                                     bkpy_socket_ops(self->state, sock), sock);

    if (r < 0) {
        bkpy_error_set(self->state, r);
        return -1;
    }
    self->socket = Py_NewRef(sock);
    return 0;
}

static PyObject *
none_to_null(PyObject *value)
{
    return value == NULL || value == Py_None ? NULL : Py_NewRef(value);
}

static int
check_server(bkpy_state *state, PyObject *server)
{
    if (server == NULL || server == Py_None ||
        PyObject_TypeCheck(server, state->ServerType)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError, "server must be a becket Server, not %.200s",
                 Py_TYPE(server)->tp_name);
    return -1;
}

PyObject *
loop_make_stream_transport(PyObject *op, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "_make_stream_transport",
        .names = {"sock", "protocol", "waiter", "extra", "server", "context"},
        .required = 2,
        .positional = 6,
    };
    LoopObject *loop = LoopObject_CAST(op);
    StreamTransportObject *self;
    PyObject *values[6];

    if (bkpy_parse(args, nargs, kwnames, &spec, values) < 0 ||
        check_server(loop->state, values[4]) < 0 ||
        bkpy_loop_check_sock_free(loop, values[0]) < 0) {
        return NULL;
    }
    self = bkpy_stream_new(loop);
    if (self == NULL) {
        return NULL;
    }
    if (open_socket(self, values[0]) < 0) {
        Py_DECREF(self);
        return NULL;
    }
    self->waiter = none_to_null(values[2]);
    self->extra = none_to_null(values[3]);
    self->server = none_to_null(values[4]);
    self->context = none_to_null(values[5]);
    if (bkpy_stream_begin(self, values[1]) < 0) {
        PyObject *exc = PyErr_GetRaisedException();

        Py_DECREF(self);
        PyErr_SetRaisedException(exc);
        return NULL;
    }
    return (PyObject *)self;
}

/* --- the type --- */

static PyMemberDef stream_transport_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(StreamTransportObject, dict),
     Py_READONLY, NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET,
     offsetof(StreamTransportObject, weakrefs), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot stream_transport_slots[] = {
    {Py_tp_doc, "A connected stream socket with its protocol."},
    {Py_tp_traverse, stream_transport_traverse},
    {Py_tp_clear, stream_transport_clear},
    {Py_tp_finalize, stream_transport_finalize},
    {Py_tp_dealloc, stream_transport_dealloc},
    {Py_tp_repr, bkpy_stream_repr},
    {Py_tp_methods, bkpy_stream_methods},
    {Py_tp_members, stream_transport_members},
    {Py_tp_getset, bkpy_stream_getset},
    {0, NULL},
};

/* Not immutable: its base is a class in Python. */
static PyType_Spec stream_transport_spec = {
    .name = "becket.StreamTransport",
    .basicsize = sizeof(StreamTransportObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = stream_transport_slots,
};

/* asyncio.Transport, if its instances are what our struct begins with. */
static PyObject *
import_base(void)
{
    PyObject *transports = PyImport_ImportModule("asyncio.transports");
    PyObject *base;

    if (transports == NULL) {
        return NULL;
    }
    base = PyObject_GetAttrString(transports, "Transport");
    Py_DECREF(transports);
    if (base == NULL) {
        return NULL;
    }
    if (!PyType_Check(base) || ((PyTypeObject *)base)->tp_basicsize !=
                                   offsetof(StreamTransportObject, state)) {
        PyErr_Format(PyExc_ImportError,
                     "becket does not know the layout of asyncio.Transport in "
                     "Python %s",
                     Py_GetVersion());
        Py_DECREF(base);
        return NULL;
    }
    return base;
}

int
bkpy_stream_transport_setup(PyObject *module, bkpy_state *state)
{
    PyObject *base = import_base();

    if (base == NULL) {
        return -1;
    }
    state->StreamTransportType = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &stream_transport_spec, base);
    Py_DECREF(base);
    if (state->StreamTransportType == NULL ||
        PyModule_AddType(module, state->StreamTransportType) < 0) {
        return -1;
    }
    return 0;
}
