/* slots.c -- who is under which number, and what is wanted there.
 *
 * SPDX-License-Identifier: MIT
 *
 * The steps that registry.c is made of. None of them decides.
 */
#include "engine/slots.h"

#include <assert.h>
#include <errno.h>

#include "base/sys.h"

enum { SLOTS_MIN = 64 };

/* A number from here on must be of an open fd, which the limit of the process
 * bounds, before there is made room for it: a caller's mistake shall cost no
 * more than 1 MiB. */
enum { UNCHECKED_FDS = 1 << 16 };

/* Whether the poller may be told. An external one may have run code that
 * closed the loop. */
static int
check_poller(const struct bki_readiness *r)
{
    if (r->poller == NULL) {
        return -EBADF;
    }
    return bki_loop_is_forked(r->base.loop) ? -ECHILD : 0;
}

int
bki_slots_tell_add(struct bki_readiness *r, int fd, unsigned events,
                   uint32_t generation)
{
    int e = check_poller(r);

    if (e < 0) {
        return e;
    }
    return r->poller->ops->add(r->poller, fd, events, generation);
}

int
bki_slots_tell_modify(struct bki_readiness *r, int fd, unsigned events,
                      uint32_t generation)
{
    int e = check_poller(r);

    if (e < 0) {
        return e;
    }
    return r->poller->ops->modify(r->poller, fd, events, generation);
}

int
bki_slots_tell_remove(struct bki_readiness *r, int fd)
{
    int e = check_poller(r);

    return e < 0 ? e : r->poller->ops->remove(r->poller, fd);
}
static bool
is_polled(const bk_io *io)
{
    return io->_is_added && !io->_is_waker && !io->_is_paused;
}

/* After a change of that. */
static void
count_polled(struct bki_readiness *r, const bk_io *io, bool was_polled)
{
    if (is_polled(io) && !was_polled) {
        r->polled_count++;
    }
    if (!is_polled(io) && was_polled) {
        assert(r->polled_count > 0);
        r->polled_count--;
    }
}

void
bki_slots_set_added(struct bki_readiness *r, bk_io *io, bool is_added)
{
    bool was_polled = is_polled(io);

    io->_is_added = is_added;
    io->_is_paused = 0;
    count_polled(r, io, was_polled);
    if (!is_added) {
        io->_registered = 0;
    }
}

void
bki_slots_set_paused(struct bki_readiness *r, bk_io *io, bool is_paused)
{
    bool was_polled = is_polled(io);

    io->_is_paused = is_paused;
    count_polled(r, io, was_polled);
}

void
bki_slots_set_waker(bk_io *io, bool is_waker)
{
    struct bki_readiness *r = bki_readiness_of(io);
    bool was_polled = is_polled(io);

    io->_is_waker = is_waker && bki_sharing_mate(r, io) == NULL;
    count_polled(r, io, was_polled);
}

void
bki_slots_unqueue(bk_io *io, unsigned directions)
{
    if ((directions & BK_READABLE) != 0) {
        (void)bki_ready_remove(io->_loop, &io->_read);
    }
    if ((directions & BK_WRITABLE) != 0) {
        (void)bki_ready_remove(io->_loop, &io->_write);
    }
}

unsigned
bki_slots_wanted(const struct bki_readiness *r, int fd)
{
    const bk_io *holder = r->slots[fd].occupant;
    const bk_io *mate = bki_sharing_mate(r, holder);

    return mate == NULL ? holder->_interest
                        : (unsigned)(holder->_interest | mate->_interest);
}

void
bki_slots_vacate(struct bki_readiness *r, bk_io *io)
{
    if (io->_slot < 0) {
        return;
    }
    if (!bki_sharing_part(r, io)) {
        assert(r->slots[io->_slot].occupant == io);
        bki_slots_set_added(r, io, false);
        r->slots[io->_slot].occupant = NULL;
    }
    io->_slot = -1;
}

void
bki_slots_forget_interest(bk_io *io)
{
    io->_interest = 0;
    bki_slots_unqueue(io, BK_READABLE | BK_WRITABLE);
}

int
bki_slots_grow(struct bki_readiness *r, int fd)
{
    size_t count = r->slots_count == 0 ? SLOTS_MIN : r->slots_count;
    struct bki_slot *slots;
    int *fds;

    if ((size_t)fd < r->slots_count) {
        return 0;
    }
    if (fd >= UNCHECKED_FDS) {
        int e = bki_sys_check_open(fd);

        if (e < 0) {
            return e;
        }
    }
    while (count <= (size_t)fd) {
        count *= 2;
    }
    /* Room for every number, so that marking one cannot fail. */
    fds = bki_sys_realloc(r->stale_fds, count * sizeof(*fds));
    if (fds == NULL) {
        return -ENOMEM;
    }
    r->stale_fds = fds;
    fds = bki_sys_realloc(r->unproven_fds, count * sizeof(*fds));
    if (fds == NULL) {
        return -ENOMEM;
    }
    r->unproven_fds = fds;
    slots = bki_sys_realloc(r->slots, count * sizeof(*slots));
    if (slots == NULL) {
        return -ENOMEM;
    }
    r->slots = slots;
    for (size_t i = r->slots_count; i < count; i++) {
        slots[i] = (struct bki_slot){0};
    }
    r->slots_count = count;
    return 0;
}

bool
bki_slots_has_number(const bk_io *io)
{
    return !io->_is_borrowed && bki_io_fileno(io) == io->_slot;
}
