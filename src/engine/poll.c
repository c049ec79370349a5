/* poll.c -- the portable poller, over poll(2).
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * fds[] is dense; index_of[fd] finds an fd's place. The system call gets a
 * copy: while it runs the embedder's lock is released, and another thread may
 * change what is watched.
 */
#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/sys.h"
#include "engine/poller.h"
#include "loop/internal.h"

struct poll_poller {
    struct bki_poller base;
    struct pollfd *fds;           /* owned: what is watched */
    uint32_t *generations;        /* owned: of the same places */
    struct pollfd *copy;          /* owned: what the kernel sees */
    uint32_t *copied_generations; /* owned */
    size_t count;
    size_t capacity;      /* of fds and generations */
    size_t copy_capacity; /* of the copies */
    int *index_of;        /* owned: by fd; -1 for an fd that is not watched */
    size_t index_capacity;
    size_t start; /* where the last wait that found too much left off */
};

static struct poll_poller *
poll_of(struct bki_poller *poller)
{
    return (struct poll_poller *)(void *)poller;
}

static short
bits_of(unsigned events)
{
    int bits = 0;

    if ((events & BK_READABLE) != 0) {
        bits |= POLLIN;
    }
    if ((events & BK_WRITABLE) != 0) {
        bits |= POLLOUT;
    }
    return (short)bits;
}

/* As epoll.c has it, and POLLNVAL like an error: the call that follows tells
 * which. */
static unsigned
events_of(short bits)
{
    unsigned all = (unsigned)(unsigned short)bits;

    return ((all & ~(unsigned)POLLOUT) != 0 ? (unsigned)BK_READABLE : 0) |
           ((all & ~(unsigned)POLLIN) != 0 ? (unsigned)BK_WRITABLE : 0);
}

static int
find(const struct poll_poller *self, int fd)
{
    return (size_t)fd < self->index_capacity ? self->index_of[fd] : -1;
}

/* Make *memory hold so many items; on failure it is as it was. */
static int
grow_array(void *memory, size_t item_size, size_t count)
{
    void **array = memory;
    void *grown;

    if (count > SIZE_MAX / item_size) {
        return -ENOMEM;
    }
    grown = bki_sys_realloc(*array, count * item_size);
    if (grown == NULL) {
        return -ENOMEM;
    }
    *array = grown;
    return 0;
}

static int
grow_places(struct poll_poller *self)
{
    size_t capacity = self->capacity == 0 ? 64 : self->capacity * 2;

    if (self->count < self->capacity) {
        return 0;
    }
    if (grow_array(&self->fds, sizeof(*self->fds), capacity) < 0 ||
        grow_array(&self->generations, sizeof(uint32_t), capacity) < 0) {
        return -ENOMEM;
    }
    self->capacity = capacity;
    return 0;
}

/* Only before a wait: during one the kernel has them. */
static int
copy_places(struct poll_poller *self)
{
    if (self->copy_capacity < self->count) {
        size_t capacity = self->capacity;

        if (grow_array(&self->copy, sizeof(*self->copy), capacity) < 0 ||
            grow_array(&self->copied_generations, sizeof(uint32_t), capacity) <
                0) {
            return -ENOMEM;
        }
        self->copy_capacity = capacity;
    }
    if (self->count > 0) {
        memcpy(self->copy, self->fds, self->count * sizeof(*self->fds));
        memcpy(self->copied_generations, self->generations,
               self->count * sizeof(uint32_t));
    }
    return 0;
}

static int
grow_index(struct poll_poller *self, int fd)
{
    size_t capacity = self->index_capacity == 0 ? 64 : self->index_capacity;

    if ((size_t)fd < self->index_capacity) {
        return 0;
    }
    while (capacity <= (size_t)fd) {
        capacity *= 2;
    }
    if (grow_array(&self->index_of, sizeof(int), capacity) < 0) {
        return -ENOMEM;
    }
    for (size_t i = self->index_capacity; i < capacity; i++) {
        self->index_of[i] = -1;
    }
    self->index_capacity = capacity;
    return 0;
}

/* poll(2) finds out about a bad fd only when it waits; whoever adds one shall
 * be told at once, as epoll_ctl tells. (poll(2) itself, without a wait, may
 * still be interrupted by a signal.) */
static int
poll_add(struct bki_poller *poller, int fd, unsigned events,
         uint32_t generation)
{
    struct poll_poller *self = poll_of(poller);
    int r;

    if (find(self, fd) >= 0) {
        return -EEXIST;
    }
    r = bki_sys_check_open(fd);
    if (r == 0) {
        r = grow_index(self, fd);
    }
    if (r == 0) {
        r = grow_places(self);
    }
    if (r < 0) {
        return r;
    }
    self->fds[self->count] =
        (struct pollfd){.fd = fd, .events = bits_of(events)};
    self->generations[self->count] = generation;
    self->index_of[fd] = (int)self->count;
    self->count++;
    return 0;
}

static int
poll_modify(struct bki_poller *poller, int fd, unsigned events,
            uint32_t generation)
{
    struct poll_poller *self = poll_of(poller);
    int i = find(self, fd);

    if (i < 0) {
        return -ENOENT;
    }
    self->fds[i].events = bits_of(events);
    self->generations[i] = generation;
    return 0;
}

/* The last one takes the place. */
static int
poll_remove(struct bki_poller *poller, int fd)
{
    struct poll_poller *self = poll_of(poller);
    int i = find(self, fd);

    if (i < 0) {
        return -ENOENT;
    }
    self->count--;
    self->fds[i] = self->fds[self->count];
    self->generations[i] = self->generations[self->count];
    self->index_of[self->fds[i].fd] = i;
    self->index_of[fd] = -1;
    return 0;
}

/* When more fds are ready than there is room for, the next wait begins where
 * this one left off, so that none starves. */
static int
collect(struct poll_poller *self, size_t watched, size_t ready,
        struct bki_poller_event *events, size_t capacity)
{
    size_t found = 0;
    size_t i = self->start < watched ? self->start : 0;

    for (size_t seen = 0; seen < watched && found < ready; seen++) {
        if (self->copy[i].revents != 0) {
            if (found == capacity) {
                break;
            }
            events[found++] = (struct bki_poller_event){
                .fd = self->copy[i].fd,
                .generation = self->copied_generations[i],
                .events = events_of(self->copy[i].revents),
            };
        }
        i = i + 1 < watched ? i + 1 : 0;
    }
    self->start = found < ready ? i : 0;
    return (int)found;
}

static int
poll_wait_events(struct bki_poller *poller, uint64_t timeout_ns, bk_loop *hooks,
                 struct bki_poller_event *events, size_t capacity)
{
    struct poll_poller *self = poll_of(poller);
    size_t watched = self->count;
    int r = copy_places(self);

    if (r < 0) {
        return r;
    }
    if (hooks != NULL) {
        bki_loop_block(hooks);
    }
    r = bki_sys_poll(self->copy, watched, timeout_ns);
    if (hooks != NULL) {
        bki_loop_unblock(hooks);
    }
    return r <= 0 ? r : collect(self, watched, (size_t)r, events, capacity);
}

static void
poll_close(struct bki_poller *poller)
{
    (void)poller; /* it has nothing in the kernel */
}

static void
poll_free(struct bki_poller *poller)
{
    struct poll_poller *self = poll_of(poller);

    bki_sys_free(self->fds);
    bki_sys_free(self->generations);
    bki_sys_free(self->copy);
    bki_sys_free(self->copied_generations);
    bki_sys_free(self->index_of);
    bki_sys_free(self);
}

static const struct bki_poller_ops poll_ops = {
    .has_generations = true,
    .add = poll_add,
    .modify = poll_modify,
    .remove = poll_remove,
    .wait = poll_wait_events,
    .close = poll_close,
    .free = poll_free,
};

int
bki_poll_new(struct bki_poller **ret_poller)
{
    struct poll_poller *self = bki_sys_calloc(1, sizeof(*self));

    if (self == NULL) {
        return -ENOMEM;
    }
    self->base.ops = &poll_ops;
    self->base.name = "poll";
    *ret_poller = &self->base;
    return 0;
}
