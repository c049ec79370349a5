/* engine.h -- what moves bytes for the transports.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The transport layer above is the same for every engine. A readiness engine
 * does non-blocking system calls when a poller (poller.h) says that an fd is
 * ready; a completion engine has the kernel do them. Therefore:
 *
 *  - An operation completes exactly once, never from inside the call that
 *    began it, always through a node of the loop's ready queue (_read or
 *    _write of the io).
 *  - Memory that the kernel can see during an operation belongs to the engine.
 *    on_alloc is asked only when the bytes are there (or can be fetched
 *    without waiting), so a caller's buffer is lent for one call.
 *  - close withdraws what is in flight, then closes the fd.
 *
 * All is Thread: loop. Codes are 0, a count, or a negative code of error.h.
 */
#ifndef BKI_ENGINE_H
#define BKI_ENGINE_H

#include <sys/types.h>
#include <sys/uio.h>

#include "becket/address.h"
#include "becket/loop.h"
#include "becket/watch.h"

struct bki_engine;

/* A datagram that was received. The memory is the engine's, or whoever's who
 * hands it on. */
struct bki_datagram {
    const void *data;
    size_t len; /* may be 0 */
    const struct sockaddr *address;
    socklen_t address_len; /* 0: the sender has no address */
};

/* Memory to receive into. By value, so that nothing points into the frame of
 * who asks: it can leave by a tail call (see run_read). */
struct bki_buffer {
    void *data; /* NULL: none */
    size_t len;
};

/* Most that one event brings. A system call costs about what handing over one
 * small datagram does, so more would save less than 2 % of it. */
enum { BKI_BURST_MAX = 64 };

/* What the owner of an io is told. Called from the ready queue's nodes; the
 * owner may stop, close or free the io from inside any of them, so the engine
 * looks at nothing afterwards. */
struct bki_io_ops {
    /* Where to put up to BK_READ_MAX bytes: a buffer of at least one byte.
     * None: the owner has dealt with it; nothing is received. */
    struct bki_buffer (*on_alloc)(bk_io *io);

    /* Follows each on_alloc that gave a buffer. n > 0: bytes received, BK_EOF,
     * -EAGAIN: nothing there after all (the buffer is free again), else the
     * failure. After BK_EOF and failures the owner calls read_stop or close. */
    void (*on_read)(bk_io *io, ssize_t n);

    /* How many datagrams to receive now, up to BKI_BURST_MAX; 0: none, the
     * owner has done something else. */
    int (*on_burst)(bk_io *io);

    /* Follows on_burst unless there was nothing after all. count > 0: so many
     * datagrams, borrowed for the call; else the failure. */
    void (*on_datagrams)(bk_io *io, const struct bki_datagram *datagrams,
                         int count);

    /* After a write that was not taken whole: more can be written. */
    void (*on_writable)(bk_io *io);

    /* As bk_accept_cb. After -EMFILE, -ENFILE, -ENOBUFS, -ENOMEM the engine
     * has stopped accepting. Several per event, at most what accept_start was
     * told; the engine re-checks after each that it is still wanted. */
    void (*on_accept)(bk_io *io, int fd, const bk_address *peer);

    /* The connect has ended: 0 or a negative code. */
    void (*on_connect)(bk_io *io, int error);

    /* A raw fd is ready: one direction. */
    void (*on_ready)(bk_io *io, unsigned events);
};

struct bki_engine_ops {
    const char *name;

    /* Close the poller. The fds of ios stay with their owners, who may still
     * close or withdraw them; whatever begins something then is -EBADF. In a
     * forked child nothing is said to the kernel but close(2). */
    void (*shut)(struct bki_engine *engine);

    /* Free the engine's memory; no io may be used afterwards. An external
     * poller that was not shut is left open. */
    void (*free)(struct bki_engine *engine);

    /* Transports. The first start registers the fd, and says if that failed.
     * What follows is lazy for an fd that the library alone closes: told to
     * the kernel before the wait, and only if something has changed by then.
     * An fd with a socket object is registered and withdrawn at once. */
    int (*read_start)(bk_io *io);
    void (*read_stop)(bk_io *io);

    /* Send what can be sent without waiting; bytes taken, 0 if none, or the
     * failure. fd is the io's number now: asking a socket object for it may
     * run any code, so the caller asks before it looks at what it sends. At
     * most BKI_IOV_MAX parts; iov_count > 0. */
    ssize_t (*write)(bk_io *io, int fd, const struct iovec *iov, int iov_count);

    /* on_writable comes once, unless write_stop is called. Apart from write,
     * since an external poller may run any code when it is told. */
    int (*write_wait)(bk_io *io);
    void (*write_stop)(bk_io *io);

    /* Datagrams. Begin as with read_start; read_stop ends it. send: one call
     * for at most BKI_BURST_MAX; how many were taken, 0 if none, or the failure
     * of the first. After a count that is less, the next call tells what is
     * wrong with the one behind it. Waiting is write_wait's. */
    int (*datagram_start)(bk_io *io);
    int (*datagram_send)(bk_io *io, int fd, struct mmsghdr *messages,
                         unsigned count);

    int (*accept_start)(bk_io *io, int accepts_max);
    void (*accept_stop)(bk_io *io);

    /* Begin connecting; 0: on_connect comes, later also if it is connected
     * already. */
    int (*connect)(bk_io *io, const struct sockaddr *address, socklen_t len);

    /* Raw fds: this interest, at once. */
    int (*watch)(bk_io *io, unsigned events);

    /* See bk_watch_pause() and bk_watch_resume(). */
    bool (*pause)(bk_io *io);
    int (*resume)(bk_io *io, unsigned events);

    /* Whether a turn with work may leave this one out, see wait. */
    void (*set_waker)(bk_io *io, bool is_waker);

    /* Withdraw all interest and queued nodes, at once; the fd stays open, and
     * may be given to another io. */
    void (*withdraw)(bk_io *io);

    /* Withdraw, then close the fd, or have the socket object closed. Sets
     * the io to "no fd". Idempotent. */
    void (*close)(bk_io *io);

    /* One wait, into private memory: nothing is linked while it runs. 0, or a
     * negative code (-EINTR included). timeout_ns may be BK_TIME_NEVER. The
     * loop's block hooks are called around the bare system call when
     * can_release is set and the poller is our own. A wait of 0 may be left
     * out while nothing but wakers is watched; the inbox's eventfd is one. */
    int (*wait)(struct bki_engine *engine, uint64_t timeout_ns,
                bool can_release);

    /* Link what the last wait found into the ready queue. */
    void (*link_events)(struct bki_engine *engine);
};

/* First member of every engine. */
struct bki_engine {
    const struct bki_engine_ops *ops;
    bk_loop *loop;       /* borrowed: the loop owns the engine */
    const char *backend; /* "epoll", "poll", or an external poller's name */
};

/* Make the engine that the options ask for. */
int bki_engine_choose(bk_loop *loop, const bk_loop_options *options,
                      struct bki_engine **ret_engine);

/* An io without an fd, for this owner. */
void bki_io_init(bk_io *io, bk_loop *loop, const struct bki_io_ops *ops);

/* The fd's number now, -1 once closed. */
static inline int
bki_io_fileno(const bk_io *io)
{
    return io->_socket != NULL ? io->_socket->fileno(io->_socket_self)
                               : io->_fd;
}

#endif
