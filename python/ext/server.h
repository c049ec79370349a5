/* server.h -- the base class of becket.Server: accepting connections.
 *
 * SPDX-License-Identifier: MIT
 *
 * What Python sees of it: __init__(loop, sockets, protocol_factory, backlog,
 * ssl=None), ssl being (context, handshake timeout, shutdown timeout);
 * _start_accepting(), _stop_accepting(), _close_listeners(), _clients();
 * _loop, _active_count. It calls _wakeup() when it is closed and its last
 * client has gone.
 */
#ifndef BKPY_SERVER_H
#define BKPY_SERVER_H

#include "stream_transport.h"

struct ServerObject;

/* One listening socket. */
struct server_listener {
    bk_listener core;            /* first: on_accept gets its address */
    struct ServerObject *server; /* borrowed: it owns this */
    PyObject *socket;            /* owned; the fd is the object's */
    bool is_open;                /* core has been initialized */
};

typedef struct ServerObject {
    PyObject_HEAD
    bkpy_state *state; /* borrowed: our type keeps the module alive */
    LoopObject *loop;  /* owned; NULL before __init__ */
    PyObject *factory; /* owned: makes a protocol */
    PyObject *ssl;     /* owned tuple, or NULL: without TLS */
    PyObject *context; /* owned: that of _start_accepting() */
    struct server_listener *listeners; /* owned */
    Py_ssize_t listeners_count;
    int accepts_max;                /* per readiness event: the backlog */
    StreamTransportObject *clients; /* borrowed list, see server.h */
    Py_ssize_t clients_count;
    bkpy_anchor anchor; /* the loop's hold while accepting */
    bool is_accepting;
    bool is_closed; /* _close_listeners() */
} ServerObject;

static inline ServerObject *
ServerObject_CAST(PyObject *op)
{
    return (ServerObject *)op;
}

/* Count and list a client, as CPython's Server._attach(): not a reference, so
 * that an abandoned transport can be collected. 0, or -1 with AssertionError
 * when the server has been closed meanwhile. client->server owns the server. */
int bkpy_server_attach(PyObject *server, StreamTransportObject *client);

/* The client has ended. May call _wakeup(). No exception is set on return. */
void bkpy_server_detach(PyObject *server, StreamTransportObject *client);

/* Each listener's, server_accept.c. */
void bkpy_server_on_accept(bk_listener *core, int fd, const bk_address *peer);

#endif
