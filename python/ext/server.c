/* server.c -- the base class of becket.Server: accepting connections.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The loop holds the server while it accepts (CPython's does so through its
 * selector). A listener's memory is part of the server.
 */

#include "server.h"

#include "socket.h"

/* --- life cycle --- */

static int
server_traverse(PyObject *op, visitproc visit, void *arg)
{
    ServerObject *self = ServerObject_CAST(op);

    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->loop);
    Py_VISIT(self->factory);
    Py_VISIT(self->ssl);
    Py_VISIT(self->context);
    for (Py_ssize_t i = 0; i < self->listeners_count; i++) {
        Py_VISIT(self->listeners[i].socket);
    }
    return 0;
}

/* The core looks at the listeners no more. Their sockets stay as they are:
 * those that were given are somebody else's, and the others warn when they are
 * collected open, which tells whoever has abandoned the server. */
static void
drop_listeners(ServerObject *self)
{
    Py_ssize_t count = self->listeners_count;

    self->listeners_count = 0;
    for (Py_ssize_t i = 0; i < count; i++) {
        struct server_listener *listener = &self->listeners[i];

        if (listener->is_open) {
            bk_listener_stop(&listener->core);
        }
        Py_CLEAR(listener->socket);
    }
    PyMem_Free(self->listeners);
    self->listeners = NULL;
}

static int
server_clear(PyObject *op)
{
    ServerObject *self = ServerObject_CAST(op);

    drop_listeners(self);
    Py_CLEAR(self->loop);
    Py_CLEAR(self->factory);
    Py_CLEAR(self->ssl);
    Py_CLEAR(self->context);
    return 0;
}

static void
server_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    (void)server_clear(op);
    tp->tp_free(op);
    Py_DECREF(tp);
}

static int
make_listeners(ServerObject *self, PyObject *sockets)
{
    PyObject *items = PySequence_Tuple(sockets);
    Py_ssize_t count;

    if (items == NULL) {
        return -1;
    }
    count = PyTuple_GET_SIZE(items);
    self->listeners = PyMem_Calloc((size_t)count + 1, sizeof(*self->listeners));
    if (self->listeners == NULL) {
        Py_DECREF(items);
        PyErr_NoMemory();
        return -1;
    }
    for (Py_ssize_t i = 0; i < count; i++) {
        self->listeners[i].server = self;
        self->listeners[i].socket = Py_NewRef(PyTuple_GET_ITEM(items, i));
    }
    self->listeners_count = count;
    Py_DECREF(items);
    return 0;
}

static int
server_init_parsed(ServerObject *self, PyObject *loop, PyObject *sockets,
                   PyObject *factory, int backlog)
{
    bkpy_state *state = bkpy_state_of_type(Py_TYPE((PyObject *)self));

    if (state == NULL) {
        return -1;
    }
    if (self->loop != NULL) {
        PyErr_SetString(PyExc_RuntimeError, "a Server is initialized once");
        return -1;
    }
    if (!PyObject_TypeCheck(loop, state->LoopType)) {
        PyErr_Format(PyExc_TypeError, "loop must be a becket loop, not %.200s",
                     Py_TYPE(loop)->tp_name);
        return -1;
    }
    if (make_listeners(self, sockets) < 0) {
        return -1;
    }
    self->state = state;
    self->loop = LoopObject_CAST(Py_NewRef(loop));
    self->factory = Py_NewRef(factory);
    self->accepts_max = backlog > 0 ? backlog : 1;
    if (BKPY_TRANSPORT_HAS_CONTEXT) {
        self->context = PyContext_CopyCurrent();
        return self->context == NULL ? -1 : 0;
    }
    return 0;
}

/* None, or (context, handshake timeout, shutdown timeout). */
static int
check_ssl(PyObject *ssl)
{
    if (ssl == Py_None || (PyTuple_Check(ssl) && PyTuple_GET_SIZE(ssl) == 3)) {
        return 0;
    }
    PyErr_Format(PyExc_TypeError,
                 "ssl must be None or (context, handshake timeout, shutdown "
                 "timeout), not %R",
                 ssl);
    return -1;
}

static int
server_init(PyObject *op, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop",    "sockets", "protocol_factory",
                            "backlog", "ssl",     NULL};
    ServerObject *self = ServerObject_CAST(op);
    PyObject *loop, *sockets, *factory, *ssl = Py_None;
    int backlog;

    if (!PyArg_ParseTupleAndKeywords(args, kwargs, "OOOi|O:Server", names,
                                     &loop, &sockets, &factory, &backlog,
                                     &ssl) ||
        check_ssl(ssl) < 0 ||
        server_init_parsed(self, loop, sockets, factory, backlog) < 0) {
        return -1;
    }
    Py_XSETREF(self->ssl, ssl == Py_None ? NULL : Py_NewRef(ssl));
    return 0;
}

/* --- clients --- */

int
bkpy_server_attach(PyObject *op, StreamTransportObject *client)
{
    ServerObject *self = ServerObject_CAST(op);

    if (self->is_closed) {
        PyErr_SetString(PyExc_AssertionError, "the server is closed");
        return -1;
    }
    client->client_prev = NULL;
    client->client_next = self->clients;
    if (self->clients != NULL) {
        self->clients->client_prev = client;
    }
    self->clients = client;
    self->clients_count++;
    client->is_attached = true;
    return 0;
}

static void
unlink_client(ServerObject *self, StreamTransportObject *client)
{
    StreamTransportObject *next = client->client_next;
    StreamTransportObject *prev = client->client_prev;

    if (prev == NULL) {
        self->clients = next;
    }
    else {
        prev->client_next = next;
    }
    if (next != NULL) {
        next->client_prev = prev;
    }
    client->client_next = NULL;
    client->client_prev = NULL;
    client->is_attached = false;
    self->clients_count--;
}

void
bkpy_server_detach(PyObject *op, StreamTransportObject *client)
{
    ServerObject *self = ServerObject_CAST(op);
    PyObject *result;

    unlink_client(self, client);
    if (!self->is_closed || self->clients_count > 0) {
        return;
    }
    /* By its text: the module's names may be gone when the last ones die. */
    result = PyObject_CallMethod(op, "_wakeup", NULL);
    if (result == NULL) {
        PyErr_WriteUnraisable(op);
    }
    Py_XDECREF(result);
}

static PyObject *
server_get_clients(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ServerObject *self = ServerObject_CAST(op);
    Py_ssize_t count = self->clients_count;
    PyObject *list = PyList_New(count);
    StreamTransportObject *client = self->clients;
    Py_ssize_t i;

    if (list == NULL) {
        return NULL;
    }
    /* Making the list may have collected some. */
    for (i = 0; i < count && client != NULL; i++) {
        PyList_SET_ITEM(list, i, Py_NewRef((PyObject *)client));
        client = client->client_next;
    }
    if (i < count && PyList_SetSlice(list, i, count, NULL) < 0) {
        Py_CLEAR(list);
    }
    return list;
}

/* --- starting and stopping --- */

static int
check_usable(ServerObject *self)
{
    if (self->loop == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "Server.__init__() was not called");
        return -1;
    }
    return 0;
}

static void
stop_listeners(ServerObject *self)
{
    for (Py_ssize_t i = 0; i < self->listeners_count; i++) {
        if (self->listeners[i].is_open) {
            bk_listener_stop(&self->listeners[i].core);
        }
    }
    self->is_accepting = false;
}

static int
start_listener(ServerObject *self, struct server_listener *listener)
{
    int r = 0;

    if (!listener->is_open) {
        PyObject *sock = listener->socket;

        r = bk_listener_init_socket(&listener->core, self->loop->core,
                                    bkpy_socket_ops(self->state, sock), sock,
                                    self->accepts_max, bkpy_server_on_accept);
        listener->is_open = r == 0;
    }
    if (r == 0) {
        r = bk_listener_start(&listener->core);
    }
    if (r < 0) {
        bkpy_loop_raise(self->loop, r);
        return -1;
    }
    return 0;
}

static int
start_listeners(ServerObject *self)
{
    self->is_accepting = true;
    for (Py_ssize_t i = 0; i < self->listeners_count; i++) {
        if (start_listener(self, &self->listeners[i]) < 0) {
            stop_listeners(self);
            return -1;
        }
    }
    return 0;
}

/* Accepting happens in the context of whoever begins it. */
static int
renew_context(ServerObject *self)
{
    PyObject *context = PyContext_CopyCurrent();

    if (context == NULL) {
        return -1;
    }
    Py_XSETREF(self->context, context);
    return 0;
}

static PyObject *
server_start_accepting(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ServerObject *self = ServerObject_CAST(op);

    if (check_usable(self) < 0 || bkpy_loop_check_closed(self->loop) < 0) {
        return NULL;
    }
    if (self->is_closed) {
        PyErr_Format(PyExc_RuntimeError, "server %R is closed", op);
        return NULL;
    }
    if (self->is_accepting) {
        Py_RETURN_NONE;
    }
    if (!BKPY_TRANSPORT_HAS_CONTEXT && renew_context(self) < 0) {
        return NULL;
    }
    if (start_listeners(self) < 0) {
        return NULL;
    }
    bkpy_anchor_hold(self->loop, &self->anchor, op);
    Py_RETURN_NONE;
}

static PyObject *
server_stop_accepting(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ServerObject *self = ServerObject_CAST(op);

    if (check_usable(self) < 0) {
        return NULL;
    }
    stop_listeners(self);
    bkpy_anchor_drop(&self->anchor);
    Py_RETURN_NONE;
}

/* 0, or -1 with an exception: what sock.close() raised. */
static int
close_listener(struct server_listener *listener)
{
    PyObject *result;

    if (listener->is_open) {
        bk_listener_close(&listener->core);
        return 0;
    }
    result = PyObject_CallMethodNoArgs(listener->socket,
                                       listener->server->state->str_close);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static PyObject *
server_close_listeners(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    ServerObject *self = ServerObject_CAST(op);
    int r = 0;

    if (check_usable(self) < 0) {
        return NULL;
    }
    bkpy_loop_flush(self->loop); /* clients in the backlog are reset */
    if (self->is_closed) {
        Py_RETURN_NONE;
    }
    self->is_closed = true;
    self->is_accepting = false;
    for (Py_ssize_t i = 0; i < self->listeners_count && r == 0; i++) {
        r = close_listener(&self->listeners[i]);
    }
    bkpy_anchor_drop(&self->anchor);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

/* --- the type --- */

static PyObject *
server_get_loop(PyObject *op, void *Py_UNUSED(closure))
{
    LoopObject *loop = ServerObject_CAST(op)->loop;

    return Py_NewRef(loop == NULL ? Py_None : (PyObject *)loop);
}

static PyObject *
server_get_active_count(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromSsize_t(ServerObject_CAST(op)->clients_count);
}

static PyMethodDef server_methods[] = {
    {"_start_accepting", server_start_accepting, METH_NOARGS,
     "_start_accepting($self, /)\n--\n\n"
     "Accept connections on all sockets, which must be listening."},
    {"_stop_accepting", server_stop_accepting, METH_NOARGS,
     "_stop_accepting($self, /)\n--\n\n"
     "Accept no more; the sockets stay open."},
    {"_close_listeners", server_close_listeners, METH_NOARGS,
     "_close_listeners($self, /)\n--\n\n"
     "Accept no more, and close the sockets."},
    {"_clients", server_get_clients, METH_NOARGS,
     "_clients($self, /)\n--\n\n"
     "Return a list of the transports that are connected."},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef server_getset[] = {
    {"_loop", server_get_loop, NULL, NULL, NULL},
    {"_active_count", server_get_active_count, NULL, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyType_Slot server_slots[] = {
    {Py_tp_doc, "Accepts connections on listening sockets."},
    {Py_tp_new, PyType_GenericNew},
    {Py_tp_init, server_init},
    {Py_tp_traverse, server_traverse},
    {Py_tp_clear, server_clear},
    {Py_tp_dealloc, server_dealloc},
    {Py_tp_methods, server_methods},
    {Py_tp_getset, server_getset},
    {0, NULL},
};

static PyType_Spec server_spec = {
    .name = "becket._core.Server",
    .basicsize = sizeof(ServerObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC | Py_TPFLAGS_BASETYPE |
             Py_TPFLAGS_IMMUTABLETYPE,
    .slots = server_slots,
};

int
bkpy_server_setup(PyObject *module, bkpy_state *state)
{
    state->ServerType =
        (PyTypeObject *)PyType_FromModuleAndSpec(module, &server_spec, NULL);
    if (state->ServerType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->ServerType);
}
