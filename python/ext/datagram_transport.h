/* datagram_transport.h -- what the files of the datagram transport share.
 *
 * SPDX-License-Identifier: MIT
 *
 * datagram_transport.c  life cycle and type   datagram_method.c  methods
 * datagram_send.c       sendto()              datagram_peer.c    addresses
 * datagram_io.c         core -> protocol
 */
#ifndef BKPY_DATAGRAM_TRANSPORT_H
#define BKPY_DATAGRAM_TRANSPORT_H

#include <netinet/in.h>
#include <stddef.h>
#include <sys/un.h>

#include "loop.h"
#include "scope.h"

/* An address, and the object that stands for it in Python. Peers repeat
 * themselves, so the last one is kept. */
typedef struct {
    PyObject *object; /* owned; NULL: none yet. Immutable */
    socklen_t len;
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } u;
} bkpy_peer;

/* A datagram socket with its protocol.
 *
 *   new -> started -> lost (connection_lost is due) -> closed (loop is NULL)
 *
 * Closing the loop can end it in any state; the core then only takes a
 * release. bkpy_datagram_is_alive() tells whether the core may be used. */
typedef struct {
    PyObject_HEAD
    /* The slot `_extra` of asyncio.BaseTransport, so it must come first. An
     * owned dict: what get_extra_info() tells. */
    PyObject *extra;
    bkpy_state *state;      /* borrowed: our type keeps the module alive */
    LoopObject *loop;       /* owned; NULL once it has ended */
    PyObject *protocol;     /* owned; NULL before begin and once ended */
    PyObject *socket;       /* owned: the object that has the fd */
    PyObject *address;      /* owned: the only one to send to; NULL: any */
    PyObject *context;      /* owned: the reader's */
    PyObject *lost_context; /* owned: that of connection_lost, once it is due */
    /* Owned: of the send that the kernel did not take; NULL otherwise. */
    PyObject *write_context;
    PyObject *error;      /* owned: what connection_lost tells, NULL for None */
    PyObject *raised;     /* owned: raised in a trampoline, told afterwards */
    PyObject *send_error; /* owned: raised by the socket's method, to be told */
    PyObject *waiter;     /* owned future to wake once reading has started */
    PyObject *dict;       /* owned: attributes of the user's */
    PyObject *weakrefs;
    bkpy_anchor anchor; /* the loop's hold on us */
    bk_handle later;    /* wakes waiter; drops the anchor */
    bk_datagram_transport core;
    bkpy_scope scope;   /* of a delivery */
    bkpy_peer sender;   /* of the last datagram */
    bkpy_peer target;   /* of the last sendto() with another address */
    uint32_t calls;     /* how many calls of the user into core are open, */
    uint32_t reports;   /* and how many of the core to us */
    unsigned conn_lost; /* 1 once lost, then counts the sends dropped */
    int fd;             /* as a number to show, also after the close */
    int family;
    bool is_direct;     /* we receive and send; else the socket's methods */
    bool is_connected;  /* it has a peer: sent to without address */
    bool is_started;    /* reading has begun, or would have */
    bool is_paused;     /* pause_reading */
    bool is_closing;    /* close, abort, or a fatal failure */
    bool is_delivering; /* scope is entered */
    bool is_sending;    /* sendto() is under way, and takes its failure */
    bool is_finalized;  /* being deallocated: nothing may hold us */
} DatagramTransportObject;

static inline DatagramTransportObject *
DatagramTransportObject_CAST(PyObject *op)
{
    return (DatagramTransportObject *)op;
}

static inline bool
bkpy_datagram_is_alive(const DatagramTransportObject *self)
{
    return self->loop != NULL && !self->loop->is_closed;
}

/* --- datagram_transport.c --- */

/* As bkpy_stream_review_hold(): call after every change of what the loop may
 * still call it for. */
void bkpy_datagram_review_hold(DatagramTransportObject *self);

/* asyncio's _force_close: connection_lost(exc) follows, NULL for None. No
 * effect once it is due. */
void bkpy_datagram_lose(DatagramTransportObject *self, PyObject *exc);

/* With an exception set, take it: asyncio's _fatal_error. KeyboardInterrupt
 * and SystemExit end the run and leave the transport alone. */
void bkpy_datagram_fail(DatagramTransportObject *self, const char *message);

/* --- datagram_peer.c --- */

/* The object for where a datagram came from. New reference, or NULL with an
 * exception. */
PyObject *bkpy_datagram_sender(DatagramTransportObject *self,
                               const struct sockaddr *address, socklen_t len);

/* The address that this object stands for, kept by self until the next call;
 * NULL, without an exception, when only the socket's method knows. */
const bkpy_peer *bkpy_datagram_target(DatagramTransportObject *self,
                                      PyObject *object);

/* --- datagram_io.c --- */

/* How the core calls a protocol: receiving itself, and through the socket
 * object's methods. */
extern const bk_datagram_protocol bkpy_datagram_direct;
extern const bk_datagram_protocol bkpy_datagram_by_method;

/* error_received(exc) of the protocol. 0, or -1 with what it raised. */
int bkpy_datagram_tell_error(DatagramTransportObject *self, PyObject *exc);

/* --- datagram_send.c --- */

PyObject *bkpy_datagram_sendto(PyObject *op, PyObject *const *args,
                               Py_ssize_t nargs, PyObject *kwnames);

/* --- datagram_method.c --- */

extern PyMethodDef bkpy_datagram_methods[];
extern PyGetSetDef bkpy_datagram_getset[];
PyObject *bkpy_datagram_repr(PyObject *op);

/* Around each call into the core that a method of the user makes, as with
 * streams: end_call gives 0, or -1 with what has to leave the method. An
 * exception that is set already goes first. */
static inline void
bkpy_datagram_begin_call(DatagramTransportObject *self)
{
    self->calls++;
}

int bkpy_datagram_end_call(DatagramTransportObject *self);

#endif
