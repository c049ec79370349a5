/* watch.h -- watching a raw fd; and whose an fd is.
 *
 * SPDX-License-Identifier: MIT
 *
 * asyncio: loop.add_reader, add_writer, remove_reader, remove_writer.
 */
#ifndef BECKET_WATCH_H
#define BECKET_WATCH_H

#include "becket/handle.h"
#include "becket/poller.h"
#include "becket/types.h"

BK_BEGIN_DECLS

/* An fd that somebody else owns: a socket object of the embedder. The library
 * asks for its number at every system call and never keeps it, so an fd that
 * the owner closed early gives -EBADF and never another connection's data. */
typedef struct {
    /* The number now, or -1 once it is closed. */
    int (*fileno)(void *self);
    /* Close it. Called at most once, in the loop's thread. */
    void (*close)(void *self);
} bk_socket_ops;

/* One fd's place in the engine; embedded in watches, transports, listeners
 * and connectors. All private. */
struct bk_io {
    bk_handle _read;               /* queued when the fd can be read */
    bk_handle _write;              /* queued when the fd can be written */
    bk_loop *_loop;                /* borrowed; NULL before it is opened */
    const struct bki_io_ops *_ops; /* what the engine calls, src/engine */
    const bk_socket_ops *_socket;  /* NULL: the fd is _fd */
    void *_socket_self;            /* borrowed until _socket->close */
    int _fd;             /* owned unless borrowed; -1 with _socket, or closed */
    int _slot;           /* the number it is registered under; -1 */
    int _accepts_max;    /* per readiness event */
    uint8_t _interest;   /* BK_READABLE | BK_WRITABLE wanted */
    uint8_t _registered; /* what the poller was told */
    uint8_t _is_added;   /* the poller knows the fd */
    uint8_t _is_borrowed;   /* a watch: somebody else closes _fd */
    uint8_t _is_sharing;    /* another one may have the other direction */
    uint8_t _is_file;       /* read(2) and write(2), not recv(2) and send(2) */
    uint8_t _is_unpolled;   /* is always ready, and cannot be polled */
    uint8_t _is_write_owed; /* on_writable is still to come */
    uint8_t _is_waker;      /* no turn that has work looks at it */
    uint8_t _is_paused;     /* a watch: the poller knows more than is wanted */
};

/* events: the one direction that is ready. Called once per turn and direction
 * while the fd stays ready. The watch may be stopped or freed (after a stop)
 * from inside. Thread: loop. */
typedef void (*bk_watch_cb)(bk_watch *watch, unsigned events);

struct bk_watch {
    bk_io _io;
    bk_watch_cb _callback;
};

/* Prepare the caller's storage for this fd, which stays the caller's: it is
 * never closed here. An fd may have one watch for both directions, or one for
 * each. -EINVAL, -EBADF (fd < 0, or the loop is closed).
 * Thread: loop. */
BK_API int bk_watch_init(bk_watch *watch, bk_loop *loop, int fd,
                         bk_watch_cb callback);

/* Watch for these events (0: for none; the fd is then withdrawn). Told to the
 * kernel at once, so its errors arrive here: -EPERM for an fd that cannot be
 * polled, -EBADF, -EEXIST if a live transport has it, or another watch one of
 * these directions, -EINVAL for a watch that is all zero. Withdrawing never
 * fails otherwise. A queued event of a direction no longer wanted is dropped.
 * Thread: loop. */
BK_API int bk_watch_set(bk_watch *watch, unsigned events);

/* As bk_watch_set() with 0, for a watch that will soon want the same again: the
 * kernel may go on knowing the fd, until there is an event that nobody wants.
 * True if so; bk_watch_resume() then costs no system call. False: the fd is
 * withdrawn. Thread: loop. */
BK_API bool bk_watch_pause(bk_watch *watch);

/* As bk_watch_set(), for a watch that is paused. For the events that it had
 * before, the kernel is told only if the loop sleeps or some turns have passed
 * before there is an event, since the number may be another file's by then.
 * Thread: loop. */
BK_API int bk_watch_resume(bk_watch *watch, unsigned events);

/* Say that the watch only has to end a wait: whatever makes the fd ready is
 * noticed in another way while the loop is awake, as a signal is that a handler
 * has caught. While all watches are such and there is nothing else to poll, a
 * turn with work makes no system call, and the callback may run as late as
 * when the loop has nothing else to do. No effect on a watch that shares its
 * fd with another, and over when one comes. Thread: loop. */
BK_API void bk_watch_set_waker(bk_watch *watch, bool is_waker);

BK_API unsigned bk_watch_get(const bk_watch *watch);  /* Thread: loop. */
BK_API int bk_watch_fd(const bk_watch *watch);        /* Thread: loop. */
BK_API bk_loop *bk_watch_loop(const bk_watch *watch); /* Thread: loop. */

BK_END_DECLS

#endif
