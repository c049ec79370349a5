/* own_poller.c -- a poller over pselect(2).
 *
 * SPDX-License-Identifier: MIT
 *
 * The loop says which fds it wants to know about, and then asks. Its own
 * eventfd, by which other threads wake it, is the first of them.
 */
#include "own_poller.h"

#include <errno.h>

#define SECOND_NS UINT64_C(1000000000)

static bool
is_known(const struct own_poller *self, int fd)
{
    return FD_ISSET(fd, &self->readable) || FD_ISSET(fd, &self->writable);
}

static void
put(struct own_poller *self, int fd, unsigned events)
{
    FD_CLR(fd, &self->readable);
    FD_CLR(fd, &self->writable);
    if ((events & BK_READABLE) != 0) {
        FD_SET(fd, &self->readable);
    }
    if ((events & BK_WRITABLE) != 0) {
        FD_SET(fd, &self->writable);
    }
}

static int
add(void *self, int fd, unsigned events)
{
    if (fd >= FD_SETSIZE) {
        return -EMFILE; /* an fd_set has no room for it */
    }
    if (is_known(self, fd)) {
        return -EEXIST;
    }
    put(self, fd, events);
    return 0;
}

static int
modify(void *self, int fd, unsigned events)
{
    if (fd >= FD_SETSIZE || !is_known(self, fd)) {
        return -ENOENT;
    }
    put(self, fd, events);
    return 0;
}

static int
remove_fd(void *self, int fd)
{
    return modify(self, fd, 0);
}

static int
wait_for_events(void *arg, uint64_t timeout_ns, bk_poller_event *events,
                size_t capacity)
{
    const struct timespec limit = {(time_t)(timeout_ns / SECOND_NS),
                                   (long)(timeout_ns % SECOND_NS)};
    struct own_poller ready = *(const struct own_poller *)arg;
    size_t count = 0;

    if (pselect(FD_SETSIZE, &ready.readable, &ready.writable, NULL,
                timeout_ns == BK_TIME_NEVER ? NULL : &limit, NULL) < 0) {
        return -errno;
    }
    for (int fd = 0; fd < FD_SETSIZE && count < capacity; fd++) {
        unsigned found = (FD_ISSET(fd, &ready.readable) ? BK_READABLE : 0u) |
                         (FD_ISSET(fd, &ready.writable) ? BK_WRITABLE : 0u);

        if (found != 0) {
            events[count++] = (bk_poller_event){fd, found};
        }
    }
    return (int)count;
}

static void
close_poller(void *self)
{
    (void)self; /* it holds nothing */
}

const bk_poller_ops own_poller = {
    "pselect", add, modify, remove_fd, wait_for_events, close_poller,
};
