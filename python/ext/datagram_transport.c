/* datagram_transport.c -- the datagram transport: life cycle and type.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Who holds a transport is as with streams, see stream_transport.c. Unlike
 * there, the socket object is there from the start, and closes the fd.
 */

#include "datagram_transport.h"

#include <errno.h>

#include "args.h"
#include "errors.h"
#include "log.h"
#include "socket.h"

/* --- life cycle --- */

static DatagramTransportObject *
of_later(bk_handle *handle)
{
    return (DatagramTransportObject *)(void *)((char *)handle -
                                               offsetof(DatagramTransportObject,
                                                        later));
}

static int
datagram_transport_traverse(PyObject *op, visitproc visit, void *arg)
{
    DatagramTransportObject *self = DatagramTransportObject_CAST(op);

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->extra);
    Py_VISIT((PyObject *)self->loop);
    Py_VISIT(self->protocol);
    Py_VISIT(self->socket);
    Py_VISIT(self->address);
    Py_VISIT(self->context);
    Py_VISIT(self->lost_context);
    Py_VISIT(self->write_context);
    Py_VISIT(self->error);
    Py_VISIT(self->raised);
    Py_VISIT(self->send_error);
    Py_VISIT(self->waiter);
    Py_VISIT(self->dict);
    Py_VISIT(self->sender.object);
    Py_VISIT(self->target.object);
    return 0;
}

/* End at once, calling nothing. */
static void
release(DatagramTransportObject *self)
{
    (void)bk_handle_cancel(&self->later);
    if (self->loop == NULL) {
        return;
    }
    self->is_closing = true;
    if (self->fd >= 0) {
        bkpy_loop_forget_transport(self->loop, self->fd, (PyObject *)self);
    }
    bk_datagram_release(&self->core);
}

static int
datagram_transport_clear(PyObject *op)
{
    DatagramTransportObject *self = DatagramTransportObject_CAST(op);
    LoopObject *loop = self->loop;

    release(self);
    self->loop = NULL;
    Py_XDECREF((PyObject *)loop);
    Py_CLEAR(self->extra);
    Py_CLEAR(self->protocol);
    Py_CLEAR(self->socket);
    Py_CLEAR(self->address);
    Py_CLEAR(self->context);
    Py_CLEAR(self->lost_context);
    Py_CLEAR(self->write_context);
    Py_CLEAR(self->error);
    Py_CLEAR(self->raised);
    Py_CLEAR(self->send_error);
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->dict);
    Py_CLEAR(self->sender.object);
    Py_CLEAR(self->target.object);
    return 0;
}

/* As CPython's __del__: an unclosed transport is closed, with a warning. */
static void
datagram_transport_finalize(PyObject *op)
{
    DatagramTransportObject *self = DatagramTransportObject_CAST(op);
    PyObject *pending;

    self->is_finalized = true;
    if (self->loop == NULL || self->protocol == NULL) {
        return; /* it has ended, or nobody has ever seen it */
    }
    pending = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(op, 1, "unclosed transport %R", op) < 0) {
        PyErr_WriteUnraisable(op);
    }
    if (bkpy_datagram_is_alive(self)) {
        bk_datagram_flush(&self->core);
    }
    release(self);
    PyErr_SetRaisedException(pending);
}

static void
datagram_transport_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);

    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return; /* somebody has taken a reference while it was shown */
    }
    PyObject_GC_UnTrack(op);
    if (DatagramTransportObject_CAST(op)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    (void)datagram_transport_clear(op);
    tp->tp_free(op);
    Py_DECREF(tp);
}

/* --- what the loop holds --- */

static bool
wants_hold(const DatagramTransportObject *self)
{
    if (!bkpy_datagram_is_alive(self)) {
        return false;
    }
    return !self->is_started || self->is_closing || !self->is_paused ||
           self->write_context != NULL;
}

void
bkpy_datagram_review_hold(DatagramTransportObject *self)
{
    if (wants_hold(self)) {
        if (!self->is_finalized) {
            bkpy_anchor_hold(self->loop, &self->anchor, (PyObject *)self);
        }
    }
    else if (self->anchor.owner == NULL || !bkpy_datagram_is_alive(self)) {
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
wake_waiter(DatagramTransportObject *self)
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
    DatagramTransportObject *self = of_later(handle);

    Py_INCREF(self);
    wake_waiter(self);
    if (!wants_hold(self)) {
        bkpy_anchor_drop(&self->anchor);
    }
    Py_DECREF(self);
}

/* --- ending it --- */

void
bkpy_datagram_lose(DatagramTransportObject *self, PyObject *exc)
{
    if (!bkpy_datagram_is_alive(self)) {
        return;
    }
    /* What is held back would have been sent before. */
    bk_datagram_flush(&self->core);
    if (self->conn_lost > 0) {
        return;
    }
    self->error = Py_XNewRef(exc);
    self->calls++;
    bk_datagram_abort(&self->core, exc == NULL ? 0 : -ECONNABORTED);
    self->calls--;
}

void
bkpy_datagram_fail(DatagramTransportObject *self, const char *message)
{
    PyObject *exc;

    if (bkpy_loop_take_exit(self->loop)) {
        return;
    }
    exc = PyErr_GetRaisedException();
    PyErr_SetRaisedException(Py_NewRef(exc));
    bkpy_loop_report(self->loop, message, (PyObject *)self, self->protocol,
                     NULL);
    bkpy_datagram_lose(self, exc);
    Py_DECREF(exc);
}

/* --- beginning --- */

/* A real handle, so that what connection_made raises is reported like what
 * any other callback raises. */
static PyObject *
queue_connection_made(DatagramTransportObject *self)
{
    PyObject *args[1] = {(PyObject *)self};
    PyObject *callback =
        PyObject_GetAttr(self->protocol, self->state->str_connection_made);
    PyObject *handle;

    if (callback == NULL) {
        return NULL;
    }
    handle = bkpy_loop_call_soon(self->loop, callback, args, 1, NULL);
    Py_DECREF(callback);
    return handle;
}

/* The start of reading, and after it the waking of who waits for it. */
static int
queue_start(DatagramTransportObject *self)
{
    int r;

    self->context = PyContext_CopyCurrent();
    if (self->context == NULL) {
        return -1;
    }
    r = bk_datagram_start(&self->core);
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

static int
queue_all(DatagramTransportObject *self)
{
    PyObject *made = queue_connection_made(self);
    int r;

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

/* 'socket', 'sockname' and 'peername' as CPython's transport has them. */
static int
fill_extra(DatagramTransportObject *self)
{
    PyObject *result;
    PyObject *peername;
    int is_connected = -1;

    if (self->extra == NULL) {
        self->extra = PyDict_New();
    }
    if (self->extra == NULL) {
        return -1;
    }
    result = PyObject_CallMethod(self->state->support, "fill_extra_info", "OOO",
                                 self->extra, self, self->socket);
    if (result == NULL) {
        return -1;
    }
    Py_DECREF(result);
    peername = PyDict_GetItemWithError(self->extra, self->state->str_peername);
    if (peername != NULL) {
        is_connected = PyObject_IsTrue(peername);
    }
    self->is_connected = is_connected == 1;
    return is_connected < 0 && PyErr_Occurred() ? -1 : 0;
}

/* How to receive and send: directly where we know what the socket's methods
 * would do. */
static int
choose_calls(DatagramTransportObject *self)
{
    static const char *const methods[] = {"recvfrom", "send", "sendto",
                                          "fileno", NULL};
    PyObject *family = PyObject_GetAttrString(self->socket, "family");
    int is_plain = bkpy_socket_has_plain(self->state, self->socket, methods);

    if (family == NULL || is_plain < 0) {
        Py_XDECREF(family);
        return -1;
    }
    self->family = PyLong_Check(family) ? PyLong_AsInt(family) : -1;
    Py_DECREF(family);
    if (self->family == -1 && PyErr_Occurred()) {
        return -1;
    }
    self->is_direct =
        is_plain && (self->family == AF_INET || self->family == AF_INET6 ||
                     self->family == AF_UNIX);
    if (!self->is_direct) {
        bk_datagram_set_protocol(&self->core, &bkpy_datagram_by_method, self);
    }
    return 0;
}

static DatagramTransportObject *
new_transport(LoopObject *loop)
{
    PyTypeObject *tp = loop->state->DatagramTransportType;
    DatagramTransportObject *self;
    int r;

    if (bkpy_loop_check_closed(loop) < 0) {
        return NULL;
    }
    self = DatagramTransportObject_CAST(tp->tp_alloc(tp, 0));
    if (self == NULL) {
        return NULL;
    }
    /* tp_alloc has zeroed it. */
    self->state = loop->state;
    self->loop = (LoopObject *)Py_NewRef((PyObject *)loop);
    self->fd = -1;
    bk_handle_init(&self->later, on_later);
    r = bk_datagram_init(&self->core, loop->core, &bkpy_datagram_direct, self);
    if (r < 0) {
        bkpy_error_set(self->state, r);
        Py_DECREF(self);
        return NULL;
    }
    bk_datagram_set_header_bytes(&self->core, BKPY_DATAGRAM_HEADER_BYTES);
    return self;
}

/* Whoever made the socket keeps it until here; from here on it is ours. */
static int
open_socket(DatagramTransportObject *self, PyObject *sock)
{
    int r = bk_datagram_open_socket(&self->core,
                                    bkpy_socket_ops(self->state, sock), sock);

    if (r < 0) {
        bkpy_error_set(self->state, r);
        return -1;
    }
    self->socket = Py_NewRef(sock);
    self->fd = bk_datagram_fileno(&self->core);
    return 0;
}

static PyObject *
none_to_null(PyObject *value)
{
    return value == NULL || value == Py_None ? NULL : Py_NewRef(value);
}

/* Take the socket, then everything that can fail, then the queue. */
static int
begin(DatagramTransportObject *self, PyObject *sock, PyObject *protocol)
{
    if (open_socket(self, sock) < 0 || choose_calls(self) < 0 ||
        fill_extra(self) < 0 ||
        bkpy_loop_note_transport(self->loop, self->fd, (PyObject *)self) < 0) {
        return -1;
    }
    self->protocol = Py_NewRef(protocol);
    if (queue_all(self) < 0) {
        Py_CLEAR(self->protocol); /* nobody has seen it: no warning */
        return -1;
    }
    return 0;
}

PyObject *
loop_make_datagram_transport(PyObject *op, PyObject *const *args,
                             Py_ssize_t nargs, PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "_make_datagram_transport",
        .names = {"sock", "protocol", "address", "waiter", "extra"},
        .required = 2,
        .positional = 5,
    };
    LoopObject *loop = LoopObject_CAST(op);
    DatagramTransportObject *self;
    PyObject *values[5];

    if (bkpy_parse(args, nargs, kwnames, &spec, values) < 0 ||
        bkpy_loop_check_sock_free(loop, values[0]) < 0) {
        return NULL;
    }
    self = new_transport(loop);
    if (self == NULL) {
        return NULL;
    }
    self->address = none_to_null(values[2]);
    self->waiter = none_to_null(values[3]);
    self->extra = none_to_null(values[4]);
    if (begin(self, values[0], values[1]) < 0) {
        PyObject *exc = PyErr_GetRaisedException();

        Py_DECREF(self);
        PyErr_SetRaisedException(exc);
        return NULL;
    }
    return (PyObject *)self;
}

/* --- the type --- */

static PyMemberDef datagram_transport_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(DatagramTransportObject, dict),
     Py_READONLY, NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET,
     offsetof(DatagramTransportObject, weakrefs), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot datagram_transport_slots[] = {
    {Py_tp_doc, "A datagram socket with its protocol."},
    {Py_tp_traverse, datagram_transport_traverse},
    {Py_tp_clear, datagram_transport_clear},
    {Py_tp_finalize, datagram_transport_finalize},
    {Py_tp_dealloc, datagram_transport_dealloc},
    {Py_tp_repr, bkpy_datagram_repr},
    {Py_tp_methods, bkpy_datagram_methods},
    {Py_tp_members, datagram_transport_members},
    {Py_tp_getset, bkpy_datagram_getset},
    {0, NULL},
};

/* Not immutable: its bases are classes in Python. */
static PyType_Spec datagram_transport_spec = {
    .name = "becket.DatagramTransport",
    .basicsize = sizeof(DatagramTransportObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = datagram_transport_slots,
};

/* As CPython's, it is an asyncio.Transport as well. Their instances are what
 * our struct begins with. */
static PyObject *
import_bases(void)
{
    PyObject *transports = PyImport_ImportModule("asyncio.transports");
    PyObject *first = NULL;
    PyObject *second = NULL;
    PyObject *bases = NULL;

    if (transports == NULL) {
        return NULL;
    }
    first = PyObject_GetAttrString(transports, "Transport");
    if (first != NULL) {
        second = PyObject_GetAttrString(transports, "DatagramTransport");
    }
    if (second != NULL && PyType_Check(first) && PyType_Check(second) &&
        ((PyTypeObject *)first)->tp_basicsize ==
            offsetof(DatagramTransportObject, state)) {
        bases = PyTuple_Pack(2, first, second);
    }
    else if (second != NULL) {
        PyErr_Format(PyExc_ImportError,
                     "becket does not know the layout of asyncio.Transport in "
                     "Python %s",
                     Py_GetVersion());
    }
    Py_XDECREF(first);
    Py_XDECREF(second);
    Py_DECREF(transports);
    return bases;
}

int
bkpy_datagram_transport_setup(PyObject *module, bkpy_state *state)
{
    PyObject *bases = import_bases();

    if (bases == NULL) {
        return -1;
    }
    state->DatagramTransportType = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &datagram_transport_spec, bases);
    Py_DECREF(bases);
    if (state->DatagramTransportType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->DatagramTransportType);
}
