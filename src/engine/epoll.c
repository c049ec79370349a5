/* epoll.c -- the poller over epoll(7).
 *
 * SPDX-License-Identifier: MIT
 *
 * Level-triggered: with no second receive after a short one, an edge would
 * lose an end of file.
 */
#include <assert.h>
#include <errno.h>

#include "base/hint.h"
#include "base/sys.h"
#include "engine/poller.h"
#include "loop/internal.h"

/* Events fetched at once. The kernel hands out the rest, in turn, at the next
 * wait; 12 KiB that stay in the cache. */
enum { EVENTS_MAX = 1024 };

struct epoll_poller {
    struct bki_poller base;
    int fd;          /* owned; -1 once closed */
    bool has_pwait2; /* until the kernel says that it has not */
    struct epoll_event events[EVENTS_MAX];
};

static struct epoll_poller *
epoll_of(struct bki_poller *poller)
{
    return (struct epoll_poller *)(void *)poller;
}

static int
control(struct bki_poller *poller, int op, int fd, unsigned events,
        uint32_t generation)
{
    struct epoll_event event = {
        .events = ((events & BK_READABLE) != 0 ? (uint32_t)EPOLLIN : 0) |
                  ((events & BK_WRITABLE) != 0 ? (uint32_t)EPOLLOUT : 0),
        .data.u64 = (uint64_t)generation << 32 | (uint32_t)fd,
    };

    return bki_sys_epoll_ctl(epoll_of(poller)->fd, op, fd, &event);
}

static int
epoll_add(struct bki_poller *poller, int fd, unsigned events,
          uint32_t generation)
{
    return control(poller, EPOLL_CTL_ADD, fd, events, generation);
}

static int
epoll_modify(struct bki_poller *poller, int fd, unsigned events,
             uint32_t generation)
{
    return control(poller, EPOLL_CTL_MOD, fd, events, generation);
}

static int
epoll_remove(struct bki_poller *poller, int fd)
{
    return control(poller, EPOLL_CTL_DEL, fd, 0, 0);
}

/* epoll_wait does for no timeout and for ever. Between, its milliseconds are
 * rounded up, so it is used only where there is nothing better: -ENOSYS before
 * Linux 5.11, -EPERM in sandboxes that do not know the newer call. */
static int
wait_in_kernel(struct epoll_poller *self, uint64_t timeout_ns, int capacity)
{
    if (self->has_pwait2 && timeout_ns != 0 && timeout_ns != BK_TIME_NEVER) {
        int r =
            bki_sys_epoll_pwait2(self->fd, self->events, capacity, timeout_ns);

        if (r != -ENOSYS && r != -EPERM) {
            return r;
        }
        self->has_pwait2 = false;
    }
    return bki_sys_epoll_wait(self->fd, self->events, capacity, timeout_ns);
}

/* An error or a hang-up is both directions; data alone is not, as in Python's
 * selectors. */
static unsigned
events_of(uint32_t bits)
{
    return ((bits & ~(uint32_t)EPOLLOUT) != 0 ? (unsigned)BK_READABLE : 0) |
           ((bits & ~(uint32_t)EPOLLIN) != 0 ? (unsigned)BK_WRITABLE : 0);
}

BKI_HOT static int
epoll_wait_events(struct bki_poller *poller, uint64_t timeout_ns,
                  bk_loop *hooks, struct bki_poller_event *events,
                  size_t capacity)
{
    struct epoll_poller *self = epoll_of(poller);
    int room = capacity < EVENTS_MAX ? (int)capacity : EVENTS_MAX;
    int count;

    if (hooks != NULL) {
        bki_loop_block(hooks);
    }
    count = wait_in_kernel(self, timeout_ns, room);
    if (hooks != NULL) {
        bki_loop_unblock(hooks);
    }
    for (int i = 0; i < count; i++) {
        uint64_t data = self->events[i].data.u64;

        events[i] = (struct bki_poller_event){
            .fd = (int)(uint32_t)data,
            .generation = (uint32_t)(data >> 32),
            .events = events_of(self->events[i].events),
        };
    }
    return count;
}

/* A new set, since an entry whose fd is closed while a copy of it lives can be
 * reached no more. */
static int
epoll_reset(struct bki_poller *poller)
{
    struct epoll_poller *self = epoll_of(poller);
    int fd = bki_sys_epoll_create();

    if (fd < 0) {
        return fd;
    }
    (void)bki_sys_close(self->fd);
    self->fd = fd;
    return 0;
}

static void
epoll_close(struct bki_poller *poller)
{
    struct epoll_poller *self = epoll_of(poller);

    if (self->fd >= 0) {
        (void)bki_sys_close(self->fd);
        self->fd = -1;
    }
}

static void
epoll_free(struct bki_poller *poller)
{
    epoll_close(poller);
    bki_sys_free(poller);
}

static const struct bki_poller_ops epoll_ops = {
    .has_generations = true,
    .can_watch_nothing = true,
    .is_in_kernel = true,
    .add = epoll_add,
    .modify = epoll_modify,
    .remove = epoll_remove,
    .wait = epoll_wait_events,
    .reset = epoll_reset,
    .close = epoll_close,
    .free = epoll_free,
};

int
bki_epoll_new(struct bki_poller **ret_poller)
{
    struct epoll_poller *self = bki_sys_calloc(1, sizeof(*self));
    int fd;

    if (self == NULL) {
        return -ENOMEM;
    }
    fd = bki_sys_epoll_create();
    if (fd < 0) {
        bki_sys_free(self);
        return fd;
    }
    self->base.ops = &epoll_ops;
    self->base.name = "epoll";
    self->fd = fd;
    self->has_pwait2 = true;
    *ret_poller = &self->base;
    return 0;
}
