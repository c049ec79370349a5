/* datagram.h -- what the files of the datagram transport share.
 *
 * SPDX-License-Identifier: MIT
 *
 * datagram.c        life cycle            datagram_read.c   receiving
 * datagram_write.c  sending               packet.c          what waits
 * endpoint.c        making one of the library's own
 */
#ifndef BKI_NET_DATAGRAM_H
#define BKI_NET_DATAGRAM_H

#include "becket/datagram.h"

#include "net/internal.h"

/* A transport's life, in this order; abort leaves out what lies between. */
enum bki_datagram_state {
    BKI_DATAGRAM_NEW,     /* no fd yet */
    BKI_DATAGRAM_OPEN,    /* has its fd, not started */
    BKI_DATAGRAM_STARTED, /* connection_made is queued or was called */
    BKI_DATAGRAM_CLOSING, /* close() sends what waits */
    BKI_DATAGRAM_LOST,    /* connection_lost is queued or runs */
    BKI_DATAGRAM_CLOSED,  /* the fd is gone */
};

/* A datagram that waits: to be sent, or to be delivered. */
struct bki_packet {
    struct bki_packet *next;
    struct bki_datagram datagram; /* address NULL: see bk_datagram_sendto */
    bk_transmit_cb transmit;      /* NULL: the library sends it */
    bk_release_cb release;        /* NULL: the bytes are behind the struct */
    void *owner;                  /* given to both */
    struct sockaddr_in6 address;  /* of INET and INET6 */
    bool is_from_slab;
};

/* --- packet.c --- */

/* Each of these gives NULL without memory. The first keeps the bytes, lent
 * until release; the second has the embedder transmit them; the third copies
 * them. */
struct bki_packet *bki_packet_new_lent(bk_loop *loop,
                                       const struct bki_datagram *datagram,
                                       bk_release_cb release, void *owner);
struct bki_packet *bki_packet_new_transmit(bk_loop *loop, size_t len,
                                           bk_transmit_cb transmit,
                                           bk_release_cb release, void *owner);
struct bki_packet *bki_packet_new_copy(bk_loop *loop,
                                       const struct bki_datagram *datagram);

/* Give back the memory, and what was lent. The callback may run any code. */
void bki_packet_free(bk_loop *loop, struct bki_packet *packet);

void bki_packets_append(bk_packet_queue *queue, struct bki_packet *packet);
void bki_packets_prepend(bk_packet_queue *queue, struct bki_packet *packet);
struct bki_packet *bki_packets_pop(bk_packet_queue *queue); /* NULL: empty */

/* Free all that were in it; the queue is empty before anything is called. */
void bki_packets_drop(bk_loop *loop, bk_packet_queue *queue);

/* --- datagram.c --- */

static inline bool
bki_datagram_is_open(const bk_datagram_transport *transport)
{
    return transport->_state == BKI_DATAGRAM_OPEN ||
           transport->_state == BKI_DATAGRAM_STARTED;
}

/* End it: asyncio's _force_close. No effect once it is lost. */
void bki_datagram_lose(bk_datagram_transport *transport, int error);

/* A flush that close() began has ended, in the transport's own I/O callback:
 * connection_lost(0) follows from here, as in asyncio. */
void bki_datagram_finish(bk_datagram_transport *transport);

void bki_datagram_tell_error(bk_datagram_transport *transport, int error);

/* endpoint.c: free one of the library's own, which has ended. */
void bki_datagram_free(bk_datagram_transport *transport);

/* --- datagram_read.c --- */

/* Begin or end receiving, as far as the state allows. */
void bki_datagram_read_start(bk_datagram_transport *transport);
void bki_datagram_read_stop(bk_datagram_transport *transport);
int bki_datagram_on_burst(bk_io *io);
void bki_datagram_on_datagrams(bk_io *io, const struct bki_datagram *datagrams,
                               int count);

/* --- datagram_write.c --- */

/* The loop's flush_unsent. */
void bki_datagrams_flush(bk_loop *loop);

/* Take out what waits to be sent, for the caller to drop, and hold nothing back
 * any more. */
bk_packet_queue bki_datagram_take_queue(bk_datagram_transport *transport);
void bki_datagram_on_writable(bk_io *io);

#endif
