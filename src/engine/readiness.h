/* readiness.h -- the engine that moves bytes when a poller says so.
 *
 * SPDX-License-Identifier: MIT
 *
 * registry.c knows who has which fd and keeps the poller informed, by the steps
 * of slots.c; readiness.c waits and links events; readiness_io.c makes the
 * system calls, and readiness_datagram.c those of datagrams.
 */
#ifndef BKI_READINESS_H
#define BKI_READINESS_H

#include <errno.h>

#include "base/hint.h"
#include "engine/engine.h"
#include "engine/poller.h"
#include "loop/internal.h"

/* One per fd number. */
struct bki_slot {
    bk_io *occupant; /* borrowed; NULL: nobody. Its _is_added and _registered
                      * say what the poller knows of the number */

    /* Counts the registrations under this number: an event of an earlier one
     * does not match. */
    uint32_t generation;
    bool is_stale;    /* the number is in stale_fds */
    bool is_unproven; /* likewise in unproven_fds */
    bool is_shared;   /* there is a second io, see sharing.c */
};

struct bki_sharing {
    bk_io *second; /* borrowed: beside the occupant of its _slot */
};

struct bki_readiness {
    struct bki_engine base;
    struct bki_poller *poller; /* owned; NULL once shut */
    struct bki_slot *slots;    /* owned: by number */
    int *stale_fds;            /* owned: numbers whose lazy changes are due */
    int *unproven_fds;         /* owned: those of watches that were resumed */
    size_t slots_count;        /* of these arrays */
    size_t stale_count;
    size_t unproven_count;
    unsigned unproven_waits;      /* waits since there are such */
    struct bki_sharing *sharings; /* owned */
    size_t sharings_count;
    size_t sharings_max; /* how many there is room for */
    size_t polled_count; /* fds that the poller knows, without the wakers */
    struct bki_poller_event *events; /* owned: what the last wait found */
    size_t events_count;
    bk_io *accepting; /* borrowed: the io whose on_accept runs; NULL once it is
                       * no longer wanted */
    unsigned stale_waits; /* waits in a row with events of nobody */
};

static inline struct bki_readiness *
bki_readiness_of(const bk_io *io)
{
    return (struct bki_readiness *)(void *)io->_loop->engine;
}

/* The call was interrupted or there is nothing: the poller tells again. */
static inline bool
bki_readiness_is_again(ssize_t n)
{
    return n == -EAGAIN || n == -EINTR;
}

/* What a write has come to, which is counted: bytes taken, maybe none, or the
 * failure. */
static inline ssize_t
bki_readiness_written(bk_io *io, ssize_t n)
{
    if (BKI_LIKELY(n > 0)) {
        io->_loop->stats.bytes_sent += (uint64_t)n;
        return n;
    }
    return bki_readiness_is_again(n) ? 0 : n;
}

/* sharing.c: a number that two ios have, one for each direction. Both want
 * something; the poller is told what they want together. */

/* The other one under the same number, or NULL. */
bk_io *bki_sharing_mate(const struct bki_readiness *readiness, const bk_io *io);

/* Room for one more join, or -ENOMEM. */
int bki_sharing_reserve(struct bki_readiness *readiness);

/* io, which has no number, becomes the second under this one. */
void bki_sharing_join(struct bki_readiness *readiness, bk_io *io, int fd);

/* io leaves its number to the other one, if there is one (true). */
bool bki_sharing_part(struct bki_readiness *readiness, bk_io *io);

/* Want a direction as well. At once where that is due, see registry.c. On
 * failure it is not wanted. */
int bki_registry_want(bk_io *io, unsigned direction);

/* Want it no longer; what is queued of it is dropped. Never fails. */
void bki_registry_unwant(bk_io *io, unsigned direction);

/* Want exactly these, and tell the poller at once even if it knows: the number
 * may be another file's by now. On failure all is as it was, unless the fd has
 * gone. events is not 0. */
int bki_registry_watch(bk_io *io, unsigned events);

/* Want nothing for now. A watch may keep its registration; true if it does. */
bool bki_registry_pause(bk_io *io);

/* Want these again, without a word to the poller if it knows. */
int bki_registry_resume(bk_io *io, unsigned events);

/* Make sure of those that were resumed so, if a wait of this length may be the
 * one in which they are missed. */
void bki_registry_prove(struct bki_readiness *readiness, uint64_t timeout_ns);

/* Want nothing, and give up the number. */
void bki_registry_leave(bk_io *io);

/* Make the lazy changes. Those that fail stay in stale_fds; true if any did. */
bool bki_registry_apply(struct bki_readiness *readiness);

/* A hang-up on an fd that nobody wants to hear of is reported at every wait:
 * take it out until it is wanted again. False: it was a watch that is paused,
 * and the entry cannot be removed. */
bool bki_registry_silence(bk_io *io);

/* Make the poller forget everything, and tell it again. */
void bki_registry_rebuild(struct bki_readiness *readiness);

/* The calls of bki_engine_ops, see there. */
int bki_readiness_read_start(bk_io *io);
void bki_readiness_read_stop(bk_io *io);
ssize_t bki_readiness_write(bk_io *io, int fd, const struct iovec *iov,
                            int iov_count);
int bki_readiness_write_wait(bk_io *io);
void bki_readiness_write_stop(bk_io *io);
int bki_readiness_datagram_start(bk_io *io);
int bki_readiness_datagram_send(bk_io *io, int fd, struct mmsghdr *messages,
                                unsigned count);
int bki_readiness_accept_start(bk_io *io, int accepts_max);
void bki_readiness_accept_stop(bk_io *io);
int bki_readiness_connect(bk_io *io, const struct sockaddr *address,
                          socklen_t len);
int bki_readiness_watch(bk_io *io, unsigned events);
void bki_readiness_withdraw(bk_io *io);
void bki_readiness_close(bk_io *io);

#endif
