/* server_accept.c -- connections that come in.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The turns are those of CPython's loop: it makes a task for each connection
 * that it accepts, so the protocol factory runs one turn after the accept, and
 * connection_made one turn later. Here a transport without protocol is made at
 * once, and its `later` node takes the task's place in the ready queue.
 *
 * The core may look at a listener after a callback of ours, so a server that
 * is dropped inside one is kept until the next turn.
 */

#include "server.h"

#include <errno.h>
#include <unistd.h>

#include "address.h"
#include "errors.h"
#include "log.h"
#include "tls.h"

BKPY_SHOWN_CALLBACK(accept_connection, "_accept_connection");
BKPY_SHOWN_CALLBACK(make_transport, "_accept_connection2");

/* --- a new connection --- */

/* With an exception set, take it. CPython tells nobody of a connection that
 * could not be set up, but in debug mode. */
static void
tell_failed(ServerObject *self, PyObject *protocol)
{
    if (bkpy_loop_take_exit(self->loop)) {
        return;
    }
    if (!self->loop->is_debug) {
        PyErr_Clear();
        return;
    }
    bkpy_loop_report(self->loop,
                     "Error on transport creation for incoming connection",
                     NULL, protocol, NULL);
}

/* Nobody has seen the transport, so it goes without a warning. */
static void
discard(StreamTransportObject *client)
{
    bkpy_stream_release(client);
    Py_CLEAR(client->protocol);
    Py_CLEAR(client->server);
    bkpy_anchor_drop(&client->anchor);
}

static PyObject *
none_to_null(PyObject *value)
{
    return value == Py_None ? NULL : value;
}

/* TLS between the client and its protocol. 0, or -1 with an exception. */
static int
begin_tls(ServerObject *self, StreamTransportObject *client, PyObject *protocol)
{
    const bkpy_tls_options options = {
        .app = protocol,
        .context = PyTuple_GET_ITEM(self->ssl, 0),
        .handshake_timeout = none_to_null(PyTuple_GET_ITEM(self->ssl, 1)),
        .shutdown_timeout = none_to_null(PyTuple_GET_ITEM(self->ssl, 2)),
        .is_server = true,
        .calls_connection_made = true,
    };
    TlsProtocolObject *tls = bkpy_tls_new(self->loop, &options);
    int r;

    if (tls == NULL) {
        return -1;
    }
    tls->is_accepted = true;
    r = bkpy_stream_begin(client, (PyObject *)tls);
    if (r < 0) {
        tls->app_transport->is_closed = true;
    }
    Py_DECREF(tls);
    return r;
}

static int
begin(ServerObject *self, StreamTransportObject *client, PyObject *protocol)
{
    return self->ssl == NULL ? bkpy_stream_begin(client, protocol)
                             : begin_tls(self, client, protocol);
}

static void
set_up(ServerObject *self, StreamTransportObject *client)
{
    PyObject *protocol = PyObject_CallNoArgs(self->factory);

    if (protocol == NULL || begin(self, client, protocol) < 0) {
        tell_failed(self, protocol);
        discard(client);
    }
    Py_XDECREF(protocol);
}

/* One turn after the accept; stands for CPython's _accept_connection2(). */
static void
on_accepted(bk_handle *handle)
{
    StreamTransportObject *client = bkpy_stream_of_later(handle);
    ServerObject *self = ServerObject_CAST(Py_NewRef(client->server));
    PyObject *context = PyContext_Copy(self->context);
    bkpy_scope scope;

    if (context == NULL) {
        PyErr_Clear(); /* without memory: the context of nobody */
    }
    if (BKPY_TRANSPORT_HAS_CONTEXT) {
        client->context = Py_XNewRef(context);
    }
    bkpy_scope_enter(&scope, (PyObject *)client, self->loop, context);
    set_up(self, client);
    bkpy_scope_leave(&scope, (PyObject *)client, &make_transport);
    Py_XDECREF(context);
    Py_DECREF(self);
}

/* In debug mode, as CPython: '%r got a new connection from %r: %r'. */
static void
log_accepted(ServerObject *self, StreamTransportObject *client,
             const bk_address *peer)
{
    PyObject *sock = bkpy_stream_socket(client);
    PyObject *address = NULL;

    if (sock != NULL && peer != NULL) {
        address = bkpy_bk_address_to_python(peer);
    }
    if (address == NULL) {
        PyErr_Clear();
        return;
    }
    bkpy_log("debug", NULL, "(sOOO)", "%r got a new connection from %r: %r",
             self, address, sock);
    Py_DECREF(address);
}

/* Takes the fd. 0, or -1 with an exception. */
static int
take_connection(ServerObject *self, int fd, const bk_address *peer)
{
    LoopObject *loop = self->loop;
    StreamTransportObject *client = bkpy_stream_new(loop);
    int r;

    if (client == NULL) {
        (void)close(fd);
        return -1;
    }
    client->server = Py_NewRef((PyObject *)self);
    client->fd = fd;
    bk_handle_init(&client->later, on_accepted);
    r = bk_transport_open_fd(&client->core, fd);
    if (r == 0) {
        if (peer != NULL && peer->len > 0) {
            bk_transport_set_peername(&client->core, peer);
        }
        r = bk_loop_schedule(loop->core, &client->later);
    }
    if (r == 0) {
        bkpy_anchor_hold(loop, &client->anchor, (PyObject *)client);
        if (loop->is_debug) {
            log_accepted(self, client, peer);
        }
    }
    Py_DECREF(client);
    if (r < 0) {
        bkpy_error_set(self->state, r);
        return -1;
    }
    return 0;
}

/* --- what the listeners tell --- */

static bool
is_exhausted(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOBUFS ||
           error == -ENOMEM;
}

static PyObject *
show_socket(PyObject *sock)
{
    PyObject *trsock = PyImport_ImportModule("asyncio.trsock");
    PyObject *shown;

    if (trsock == NULL) {
        return NULL;
    }
    shown = PyObject_CallMethod(trsock, "TransportSocket", "O", sock);
    Py_DECREF(trsock);
    return shown;
}

/* {'message': ..., 'exception': exc, 'socket': ...}; NULL with an exception. */
static PyObject *
exhausted_context(struct server_listener *listener, PyObject *exc)
{
    bkpy_state *state = listener->server->state;
    PyObject *sock = show_socket(listener->socket);
    PyObject *context;

    if (sock == NULL) {
        return NULL;
    }
    context = Py_BuildValue("{OsOOOO}", state->str_message,
                            "socket.accept() out of system resource",
                            state->str_exception, exc, state->str_socket, sock);
    Py_DECREF(sock);
    return context;
}

/* The core pauses for a second. */
static void
report_exhausted(struct server_listener *listener, int error)
{
    LoopObject *loop = listener->server->loop;
    PyObject *exc = bkpy_error_new(loop->state, error);
    PyObject *context = exc == NULL ? NULL : exhausted_context(listener, exc);
    PyObject *result = NULL;

    if (context != NULL) {
        result = PyObject_CallMethodOneArg(
            (PyObject *)loop, loop->state->str_call_exception_handler, context);
    }
    if (result == NULL) {
        bkpy_loop_leave(loop);
    }
    Py_XDECREF(result);
    Py_XDECREF(context);
    Py_XDECREF(exc);
}

/* With an exception set, take it. */
static void
report_accept(ServerObject *self)
{
    bkpy_scope_report(self->loop, (PyObject *)self, &accept_connection, NULL,
                      self->context);
}

static void
fail_accept(struct server_listener *listener, int error)
{
    ServerObject *self = listener->server;
    bkpy_scope scope;

    if (error == -EBADF) {
        /* Its owner has closed the socket early; nothing can come of it. */
        bk_listener_stop(&listener->core);
        return;
    }
    if (!is_exhausted(error)) {
        bkpy_error_set(self->state, error);
        report_accept(self);
        return;
    }
    bkpy_scope_enter(&scope, (PyObject *)self, self->loop, self->context);
    report_exhausted(listener, error);
    bkpy_scope_leave(&scope, (PyObject *)self, &accept_connection);
}

static void
drop_reference(void *op)
{
    Py_DECREF((PyObject *)op);
}

/* Let go of the server, when the core has let go of the listener. */
static void
drop_after_callback(ServerObject *self)
{
    if (self->is_accepting || Py_REFCNT(self) > 1) {
        Py_DECREF(self); /* the anchor or somebody else holds it */
        return;
    }
    /* Without memory it is kept for good, which is safe. */
    (void)bk_loop_call_soon(self->loop->core, drop_reference, self, NULL);
}

void
bkpy_server_on_accept(bk_listener *core, int fd, const bk_address *peer)
{
    struct server_listener *listener = (struct server_listener *)(void *)core;
    ServerObject *self = listener->server;

    Py_INCREF(self);
    if (fd < 0) {
        fail_accept(listener, fd);
    }
    else if (take_connection(self, fd, peer) < 0) {
        report_accept(self);
    }
    drop_after_callback(self);
}
