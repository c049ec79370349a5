/* registry.c -- who has which fd, and what the poller knows of it.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A number is not an fd. A user may close an fd that is watched, and the
 * number comes back as somebody else's. Three kinds of owners:
 *
 *   ours      only the io closes it. The number is the io's from the first
 *             registration to close. Changes of interest wait for
 *             bki_registry_apply(), before the wait; most cancel out.
 *   a socket  an object outside knows the number, and is asked each time.
 *   borrowed  a watch: a bare number, nobody can be asked.
 *
 * The last two are told to the poller at once, and nothing stays registered
 * without interest. So are all of them with an external poller, which runs
 * foreign code and shall do so where CPython's loop would.
 *
 * slots[number].occupant == io if and only if io->_slot == number. Whoever
 * registers a number takes its slot over when the occupant has lost it: its
 * socket object says so, or the poller does, by not knowing the number any
 * more. The one that was put out then has no slot, so it gets no events and
 * says nothing to the poller about a number that is no longer its own.
 *
 * A transport or listener also takes over from a watch on the same fd, as
 * CPython's do; between two watches the first one stays.
 *
 * In a forked child the poller is the parent's: it is told nothing.
 */
#include <assert.h>
#include <errno.h>

#include "base/sys.h"
#include "engine/readiness.h"

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

static int
tell_add(struct bki_readiness *r, int fd, unsigned events, uint32_t generation)
{
    int e = check_poller(r);

    if (e < 0) {
        return e;
    }
    return r->poller->ops->add(r->poller, fd, events, generation);
}

static int
tell_modify(struct bki_readiness *r, int fd, unsigned events,
            uint32_t generation)
{
    int e = check_poller(r);

    if (e < 0) {
        return e;
    }
    return r->poller->ops->modify(r->poller, fd, events, generation);
}

/* Most callers can do nothing about a failure: either the fd has gone, and its
 * entry with it, or the entry shows itself by events of nobody. */
static int
tell_remove(struct bki_readiness *r, int fd)
{
    int e = check_poller(r);

    return e < 0 ? e : r->poller->ops->remove(r->poller, fd);
}

static bool
is_immediate(const struct bki_readiness *r, const bk_io *io)
{
    return io->_is_borrowed || io->_socket != NULL ||
           r->poller->ops->is_external;
}

static void
set_added(struct bki_readiness *r, bk_io *io, bool is_added)
{
    if (is_added && !io->_is_added) {
        r->added_count++;
    }
    if (!is_added && io->_is_added) {
        assert(r->added_count > 0);
        r->added_count--;
    }
    io->_is_added = is_added;
    if (!is_added) {
        io->_registered = 0;
    }
}

static void
unqueue(bk_io *io, unsigned directions)
{
    if ((directions & BK_READABLE) != 0) {
        (void)bki_ready_remove(io->_loop, &io->_read);
    }
    if ((directions & BK_WRITABLE) != 0) {
        (void)bki_ready_remove(io->_loop, &io->_write);
    }
}

/* Give up the number without a word to the poller. */
static void
vacate(struct bki_readiness *r, bk_io *io)
{
    if (io->_slot < 0) {
        return;
    }
    assert(r->slots[io->_slot].occupant == io);
    set_added(r, io, false);
    r->slots[io->_slot].occupant = NULL;
    io->_slot = -1;
}

/* Give up the number and have the poller forget it. Safe also when the fd has
 * gone and the number is another file's: whoever of ours has registered that
 * has taken the slot over, and the poller is told by nobody else. */
static void
drop(struct bki_readiness *r, bk_io *io)
{
    if (io->_is_added) {
        (void)tell_remove(r, io->_slot);
    }
    vacate(r, io);
}

/* Want nothing any more; whatever is queued is forgotten. */
static void
forget_interest(bk_io *io)
{
    io->_interest = 0;
    unqueue(io, BK_READABLE | BK_WRITABLE);
}

static int
grow_slots(struct bki_readiness *r, int fd)
{
    size_t count = r->slots_count == 0 ? SLOTS_MIN : r->slots_count;
    struct bki_slot *slots;
    int *stale_fds;

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
    /* Room for every number, so that marking one stale cannot fail. */
    stale_fds = bki_sys_realloc(r->stale_fds, count * sizeof(*stale_fds));
    if (stale_fds == NULL) {
        return -ENOMEM;
    }
    r->stale_fds = stale_fds;
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

/* Whether the occupant certainly still has the number. A watch cannot be
 * asked. */
static bool
has_number(const bk_io *io)
{
    return !io->_is_borrowed && bki_io_fileno(io) == io->_slot;
}

/* The first registration under this number, with the interest that the io
 * has. */
static int
enroll(struct bki_readiness *r, bk_io *io, int fd)
{
    uint32_t generation;
    bk_io *occupant;
    int e = grow_slots(r, fd);

    if (e < 0) {
        return e;
    }
    occupant = r->slots[fd].occupant;
    assert(occupant != io);
    if (occupant != NULL && has_number(occupant)) {
        return -EEXIST;
    }
    generation = r->slots[fd].generation + 1;
    e = tell_add(r, fd, io->_interest, generation);
    if (e == -EEXIST &&
        (occupant == NULL || !occupant->_is_borrowed || !io->_is_borrowed)) {
        /* A leftover, or a watch that a transport supersedes. */
        e = tell_modify(r, fd, io->_interest, generation);
    }
    if (e < 0) {
        return e;
    }
    if (r->slots[fd].occupant != NULL) {
        forget_interest(r->slots[fd].occupant);
        vacate(r, r->slots[fd].occupant);
    }
    r->slots[fd].occupant = io;
    r->slots[fd].generation = generation;
    io->_slot = fd;
    set_added(r, io, true);
    io->_registered = io->_interest;
    return 0;
}

/* Register again under the number that the io has: it was taken out, or the
 * poller no longer knows it, since the fd was closed and the number is another
 * file's. What is queued is then about the old one. */
static int
enroll_again(struct bki_readiness *r, bk_io *io)
{
    struct bki_slot *slot = &r->slots[io->_slot];
    int e;

    set_added(r, io, false);
    unqueue(io, BK_READABLE | BK_WRITABLE);
    e = tell_add(r, io->_slot, io->_interest, slot->generation + 1);
    if (e < 0) {
        return e;
    }
    slot->generation++;
    set_added(r, io, true);
    io->_registered = io->_interest;
    return 0;
}

/* Tell the poller the interest of an io that has a slot. */
static int
update(struct bki_readiness *r, bk_io *io)
{
    int e;

    assert(io->_slot >= 0);
    if (io->_interest == 0 && !r->poller->ops->can_watch_nothing) {
        if (io->_is_added) {
            (void)tell_remove(r, io->_slot);
            set_added(r, io, false);
        }
        return 0;
    }
    if (!io->_is_added) {
        return io->_interest != 0 ? enroll_again(r, io) : 0;
    }
    e = tell_modify(r, io->_slot, io->_interest,
                    r->slots[io->_slot].generation);
    if (e == -ENOENT) {
        return enroll_again(r, io);
    }
    if (e == 0) {
        io->_registered = io->_interest;
    }
    return e;
}

/* Tell the poller at once about an io whose number somebody else may have
 * closed. After a failure it has a slot only if the poller has it as before. */
static int
update_now(struct bki_readiness *r, bk_io *io, int fd)
{
    int e;

    if (io->_slot >= 0 && io->_slot != fd) {
        drop(r, io);
    }
    if (fd < 0) {
        return -EBADF;
    }
    if (io->_slot < 0) {
        return enroll(r, io, fd);
    }
    e = update(r, io);
    if (e < 0 && (!io->_is_added || e == -EBADF)) {
        drop(r, io);
    }
    return e;
}

static void
mark_stale(struct bki_readiness *r, bk_io *io)
{
    struct bki_slot *slot = &r->slots[io->_slot];

    if (slot->is_stale) {
        return;
    }
    assert(r->stale_count < r->slots_count);
    slot->is_stale = true;
    r->stale_fds[r->stale_count++] = io->_slot;
}

int
bki_registry_want(bk_io *io, unsigned direction)
{
    struct bki_readiness *r = bki_readiness_of(io);
    uint8_t before = io->_interest;
    int e = 0;

    if (r->poller == NULL) {
        return -EBADF;
    }
    if ((before & direction) != 0 && io->_slot >= 0) {
        return 0;
    }
    io->_interest = (uint8_t)(before | direction);
    if (io->_slot < 0 || is_immediate(r, io)) {
        e = update_now(r, io, bki_io_fileno(io));
    }
    else {
        mark_stale(r, io);
    }
    if (e < 0) {
        io->_interest = io->_slot < 0 ? 0 : before;
    }
    return e;
}

/* What could not be told now is told before the wait: until then events that
 * nobody wants are masked. */
static void
unwant_now(struct bki_readiness *r, bk_io *io)
{
    int e;

    if (io->_interest == 0) {
        bki_registry_leave(io);
        return;
    }
    e = update_now(r, io, bki_io_fileno(io));
    if (io->_slot < 0) {
        forget_interest(io);
    }
    else if (e < 0) {
        mark_stale(r, io);
    }
}

void
bki_registry_unwant(bk_io *io, unsigned direction)
{
    struct bki_readiness *r = bki_readiness_of(io);

    unqueue(io, direction);
    if ((io->_interest & direction) == 0) {
        return;
    }
    io->_interest = (uint8_t)(io->_interest & ~direction);
    if (r->poller == NULL || io->_slot < 0) {
        return;
    }
    if (is_immediate(r, io)) {
        unwant_now(r, io);
    }
    else {
        mark_stale(r, io);
    }
}

int
bki_registry_watch(bk_io *io, unsigned events)
{
    struct bki_readiness *r = bki_readiness_of(io);
    uint8_t before = io->_interest;
    int e;

    assert(events != 0);
    if (r->poller == NULL) {
        return -EBADF;
    }
    io->_interest = (uint8_t)events;
    e = update_now(r, io, bki_io_fileno(io));
    if (io->_slot < 0) {
        forget_interest(io);
        return e;
    }
    if (e < 0) {
        io->_interest = before;
        return e;
    }
    unqueue(io, ~events);
    return 0;
}

void
bki_registry_leave(bk_io *io)
{
    forget_interest(io);
    drop(bki_readiness_of(io), io);
}

/* What was ours when the change was made may have a socket object since, and
 * that may have been closed. */
static int
apply_one(struct bki_readiness *r, bk_io *io)
{
    if (io->_socket != NULL && !has_number(io)) {
        drop(r, io);
        forget_interest(io);
        return 0;
    }
    return io->_interest == io->_registered ? 0 : update(r, io);
}

bool
bki_registry_apply(struct bki_readiness *r)
{
    size_t kept = 0;

    for (size_t i = 0; i < r->stale_count; i++) {
        struct bki_slot *slot = &r->slots[r->stale_fds[i]];
        bk_io *io = slot->occupant;

        slot->is_stale = false;
        if (io == NULL || apply_one(r, io) == 0) {
            continue;
        }
        slot->is_stale = true;
        r->stale_fds[kept++] = r->stale_fds[i];
    }
    r->stale_count = kept;
    return kept > 0;
}

void
bki_registry_silence(bk_io *io)
{
    struct bki_readiness *r = bki_readiness_of(io);

    if (io->_is_added && tell_remove(r, io->_slot) != -ENOMEM) {
        set_added(r, io, false);
    }
}

/* Those that cannot be told again now are told before the next wait. */
void
bki_registry_rebuild(struct bki_readiness *r)
{
    if (r->poller->ops->reset == NULL || bki_loop_is_forked(r->base.loop) ||
        r->poller->ops->reset(r->poller) < 0) {
        return;
    }
    for (size_t fd = 0; fd < r->slots_count; fd++) {
        bk_io *io = r->slots[fd].occupant;
        int e;

        if (io == NULL || !io->_is_added) {
            continue;
        }
        set_added(r, io, false);
        if (!io->_is_borrowed && !has_number(io)) {
            vacate(r, io);
            forget_interest(io);
            continue;
        }
        e = update(r, io);
        if (e == -EBADF && io->_is_borrowed) {
            vacate(r, io);
            forget_interest(io);
        }
        else if (e < 0) {
            mark_stale(r, io);
        }
    }
}
