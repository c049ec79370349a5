/* poller.h -- a poller supplied from outside.
 *
 * SPDX-License-Identifier: MIT
 *
 * A poller tells which fds are ready. The library has its own (epoll, poll);
 * an embedder may hand in another one, as asyncio.SelectorEventLoop(selector)
 * does. It is level-triggered: an fd that stays ready is reported again.
 */
#ifndef BECKET_POLLER_H
#define BECKET_POLLER_H

#include "becket/types.h"

BK_BEGIN_DECLS

enum {
    BK_READABLE = 1 << 0,
    BK_WRITABLE = 1 << 1,
};

typedef struct {
    int fd;
    unsigned events; /* BK_READABLE | BK_WRITABLE; a hang-up is both */
} bk_poller_event;

/* All are called in the loop's thread and return 0 or a negative code. */
typedef struct {
    const char *name;

    /* Start, change and end watching an fd; events is not 0. add of a known
     * fd: -EEXIST. modify or remove of an unknown one: -ENOENT. */
    int (*add)(void *self, int fd, unsigned events);
    int (*modify)(void *self, int fd, unsigned events);
    int (*remove)(void *self, int fd);

    /* Wait until an fd is ready or timeout_ns has passed (BK_TIME_NEVER: no
     * limit), write up to capacity events, return how many. -EINTR: a signal
     * came. Every other failure ends the run with this code. fds that the loop
     * does not know are ignored. The loop's before_block and after_block are
     * not called around it. */
    int (*wait)(void *self, uint64_t timeout_ns, bk_poller_event *events,
                size_t capacity);

    /* The loop is closed; self is not used again. Not called when
     * bk_loop_new() fails. */
    void (*close)(void *self);
} bk_poller_ops;

BK_END_DECLS

#endif
