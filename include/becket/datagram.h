/* datagram.h -- datagrams: UDP, Unix datagram sockets and their kind.
 *
 * SPDX-License-Identifier: MIT
 *
 *   open -> closing (sends what waits) -> closed
 *   abort leads from anywhere to closed; errors do not: they are told
 *
 * Receiving: what has arrived is received together and delivered one by one.
 * In between, everything has its turn that would have it if there were one
 * datagram per turn: callbacks that were scheduled, a stop, a pause. Only for
 * I/O and timers that become due meanwhile it may be up to 64 datagrams, or
 * 200 microseconds and the datagram under way, later.
 *
 * Sending: at once. But what is sent to an address while several datagrams are
 * delivered leaves together after the last of them; at the latest when the
 * high-water mark is passed or something is asked that could tell. So then
 * error_received comes later than from inside the call.
 *
 * asyncio: asyncio.DatagramTransport, asyncio.DatagramProtocol,
 * loop.create_datagram_endpoint.
 */
#ifndef BECKET_DATAGRAM_H
#define BECKET_DATAGRAM_H

#include "becket/address.h"
#include "becket/handle.h"
#include "becket/transport.h"
#include "becket/types.h"
#include "becket/watch.h"

BK_BEGIN_DECLS

/* What the user of an endpoint supplies. Members may be NULL. All run in the
 * loop's thread; self is what was given with the protocol. The transport may
 * be closed or aborted from inside any of them. */
struct bk_datagram_protocol {
    /* First of all, from its own place in the ready queue. Receiving starts
     * when it has returned, unless it paused reading or closed. */
    void (*connection_made)(bk_datagram_transport *transport, void *self);

    /* One datagram of len >= 0 bytes, at most BK_READ_MAX (a longer one is cut
     * off), and where it came from; both borrowed for the call. address_len 0:
     * the sender has no address, as a Unix socket that is not bound. */
    void (*datagram_received)(bk_datagram_transport *transport,
                              const void *data, size_t len,
                              const struct sockaddr *address,
                              socklen_t address_len, void *self);

    /* A receive failed, or the send of one datagram, which is then lost. The
     * transport stays open. From inside bk_datagram_sendto() when that sends at
     * once. */
    void (*error_received)(bk_datagram_transport *transport, int error,
                           void *self);

    /* For an embedder whose socket object does its own input and output: there
     * is something to receive. The library then receives nothing itself. */
    void (*readable)(bk_datagram_transport *transport, void *self);

    /* Around what one turn brings: all its datagram_received and what is sent
     * after them, a failed receive's error_received, readable. For what an
     * embedder does once for all of it. */
    void (*delivery_begins)(bk_datagram_transport *transport, void *self);
    void (*delivery_ended)(bk_datagram_transport *transport, void *self);

    /* As in bk_protocol. */
    void (*pause_writing)(bk_datagram_transport *transport, void *self);
    void (*resume_writing)(bk_datagram_transport *transport, void *self);
    void (*write_blocked)(bk_datagram_transport *transport, void *self);
    void (*write_drained)(bk_datagram_transport *transport, void *self);
    void (*connection_closing)(bk_datagram_transport *transport, int error,
                               void *self);

    /* Exactly once, after every other call but on_closed. error: 0 after
     * close() and abort(), else the negative code. The fd is still open, and
     * is closed when this returns. */
    void (*connection_lost)(bk_datagram_transport *transport, int error,
                            void *self);

    /* The fd is closed and the transport's memory is the caller's again. Only
     * for embedded transports; the library frees its own. */
    void (*on_closed)(bk_datagram_transport *transport, void *self);
};

/* Datagrams that wait. All private. */
typedef struct {
    struct bki_packet *_head; /* owned, oldest first */
    struct bki_packet *_tail;
} bk_packet_queue;

struct bk_datagram_transport {
    bk_io _io;
    bk_handle _start;  /* connection_made, then the start of receiving */
    bk_handle _lost;   /* connection_lost */
    bk_handle _unsent; /* in the loop's list of those that hold sends back */
    const bk_datagram_protocol *_protocol; /* borrowed */
    void *_self;
    bk_packet_queue _received; /* what was received and is not delivered yet */
    bk_packet_queue _queue;    /* what is to be sent */
    size_t _queued_count;      /* of _queue */
    size_t _queued_bytes;      /* with _header_bytes for each */
    size_t _high_bytes;
    size_t _low_bytes;
    bk_address _destination; /* of a send without address; len 0: none */
    int _error;              /* what connection_lost will tell */
    int _burst;              /* how many to receive at once; learned */
    uint32_t _header_bytes;  /* counted for each datagram that waits */
    uint8_t _state;          /* enum in src/net/datagram.h */
    uint8_t _is_read_paused;
    uint8_t _is_write_paused; /* pause_writing was called last */
    uint8_t _is_blocked;      /* the kernel takes no more for now */
    uint8_t _is_blocked_told; /* write_blocked was called last */
    uint8_t _is_owned;        /* the library allocated it */
};

/* Prepare the caller's storage. The protocol is borrowed until on_closed.
 * -EINVAL, -EBADF (closed loop). Thread: loop. */
BK_API int bk_datagram_init(bk_datagram_transport *transport, bk_loop *loop,
                            const bk_datagram_protocol *protocol, void *self);

/* Give it its socket, non-blocking, of any kind that sends message by message
 * (SOCK_DGRAM, SOCK_RAW, SOCK_SEQPACKET), bound or connected or neither. The
 * first form takes the fd (on failure too); the second leaves it to a socket
 * object, which the library closes through socket_ops and otherwise only
 * borrows. Nothing is called yet. -EBADF, -EINVAL. Thread: loop. */
BK_API int bk_datagram_open_fd(bk_datagram_transport *transport, int fd);
BK_API int bk_datagram_open_socket(bk_datagram_transport *transport,
                                   const bk_socket_ops *socket_ops,
                                   void *socket);

/* Queue connection_made (if there is one) and the start of receiving. From
 * here on the transport is lent until on_closed. -EINVAL: not open.
 * Thread: loop. */
BK_API int bk_datagram_start(bk_datagram_transport *transport);

/* As bk_transport_release(). Thread: loop. */
BK_API void bk_datagram_release(bk_datagram_transport *transport);

/* Send one datagram of len >= 0 bytes. address NULL: to where the socket is
 * connected, or to what bk_loop_create_datagram_endpoint() was told. Failures
 * arrive in error_received. 0: sent, or waiting for the kernel to take it, or
 * dropped since the transport is closed. -ENOMEM. -EINVAL: not open yet. The
 * first form copies a datagram that has to wait. The second keeps the caller's
 * memory, lent until release(owner) (which is called on failure too).
 * Thread: loop. */
BK_API int bk_datagram_sendto(bk_datagram_transport *transport,
                              const void *data, size_t len,
                              const struct sockaddr *address,
                              socklen_t address_len);
BK_API int bk_datagram_sendto_lent(bk_datagram_transport *transport,
                                   const void *data, size_t len,
                                   const struct sockaddr *address,
                                   socklen_t address_len, bk_release_cb release,
                                   void *owner);

/* For an embedder that sends by itself: whether it may do so now. What was held
 * back is sent first; false when datagrams wait for the kernel.
 * Thread: loop. */
BK_API bool bk_datagram_can_send(bk_datagram_transport *transport);

/* And the datagram of len bytes that it could not send: it waits in the queue
 * until transmit gives something other than -EAGAIN: 0 or a failure for
 * error_received. transmit may run any code. owner is given to both, lent until
 * release (called on failure too). -ENOMEM, -EINVAL. Thread: loop. */
typedef int (*bk_transmit_cb)(bk_datagram_transport *transport, void *owner);
BK_API int bk_datagram_queue(bk_datagram_transport *transport, size_t len,
                             bk_transmit_cb transmit, bk_release_cb release,
                             void *owner);

/* Stop receiving, send what waits, then connection_lost(0). What was received
 * and is not delivered yet is dropped, as what the kernel has. Idempotent. */
BK_API void bk_datagram_close(bk_datagram_transport *transport);

/* Drop what waits, then connection_lost with error (0 or a negative code). No
 * effect once connection_lost is in the queue. Thread: loop. */
BK_API void bk_datagram_abort(bk_datagram_transport *transport, int error);

/* Idempotent; no effect when closing. Thread: loop. */
BK_API void bk_datagram_pause_reading(bk_datagram_transport *transport);
BK_API void bk_datagram_resume_reading(bk_datagram_transport *transport);

/* Not paused and not closing. Thread: loop. */
BK_API bool bk_datagram_is_reading(const bk_datagram_transport *transport);

/* True from close() or abort() on. Thread: loop. */
BK_API bool bk_datagram_is_closing(const bk_datagram_transport *transport);

/* Send now what is held back. Thread: loop. */
BK_API void bk_datagram_flush(bk_datagram_transport *transport);

/* Bytes that wait for the kernel, a header counted for each datagram. Sends
 * first. Thread: loop. */
BK_API size_t
bk_datagram_get_write_buffer_size(bk_datagram_transport *transport);

/* Water marks as of bk_transport. */
BK_API int bk_datagram_set_write_buffer_limits(bk_datagram_transport *transport,
                                               size_t high_bytes,
                                               size_t low_bytes);
BK_API void
bk_datagram_get_write_buffer_limits(const bk_datagram_transport *transport,
                                    size_t *ret_high_bytes,
                                    size_t *ret_low_bytes);

/* How many bytes a datagram that waits counts beyond its own: 8 (UDP's header)
 * unless set before the first send. Without any, empty datagrams could wait in
 * any number. Thread: loop. */
BK_API void bk_datagram_set_header_bytes(bk_datagram_transport *transport,
                                         uint32_t header_bytes);

/* Change the protocol; takes effect with the next call. Sends first.
 * Thread: loop. */
BK_API void bk_datagram_set_protocol(bk_datagram_transport *transport,
                                     const bk_datagram_protocol *protocol,
                                     void *self);
BK_API void *bk_datagram_get_self(const bk_datagram_transport *transport);

BK_API bk_loop *bk_datagram_loop(const bk_datagram_transport *transport);

/* The fd's number now, or -1. Borrowed. Thread: loop. */
BK_API int bk_datagram_fileno(const bk_datagram_transport *transport);

/* The socket's own address now. -EBADF, -EAFNOSUPPORT (a family that does not
 * fit bk_address). Thread: loop. */
BK_API int bk_datagram_getsockname(const bk_datagram_transport *transport,
                                   bk_address *ret_address);

typedef struct {
    const char *local_host;  /* literal or name; NULL: not bound by us */
    uint16_t local_port;     /* 0: one that the system chooses */
    const char *remote_host; /* NULL: not connected */
    uint16_t remote_port;
    int family; /* AF_UNSPEC, AF_INET, AF_INET6; needed without any host */
    bool has_reuse_port;
    /* Allow the broadcast address. With a remote host the socket is then not
     * connected, but sends without an address go there. */
    bool has_broadcast;
} bk_datagram_options;

/* Make a UDP endpoint with this protocol, owned by the library until it has
 * told connection_lost. connection_made runs after this returns. Names are
 * resolved in this call, which may then block; use literals where that matters.
 * The addresses are tried in turn. For other sockets: bk_datagram_init().
 * -EADDRINUSE, BK_EAI_x, -EINVAL, -ENOMEM, -EBADF, ... Thread: loop. */
BK_API int bk_loop_create_datagram_endpoint(
    bk_loop *loop, const bk_datagram_protocol *protocol, void *self,
    const bk_datagram_options *options, bk_datagram_transport **ret_transport);

BK_END_DECLS

#endif
