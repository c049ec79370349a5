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
 * io->_slot == number if and only if io is slots[number].occupant or shares the
 * slot with it. Whoever registers a number takes its slot over when the
 * occupant has lost it: its socket object says so, or the poller does, by not
 * knowing the number any more. The one that was put out then has no slot, so it
 * gets no events and says nothing to the poller about a number that is no
 * longer its own.
 *
 * A watch that is paused stays registered and wants nothing: reads that follow
 * each other would pay two system calls each. When it is resumed its number may
 * be another file's, of which the poller does not know. That shows when the
 * poller is told again, which is put off until something could be missed:
 * mostly the event comes first.
 *
 * A transport or listener also takes over from a watch on the same fd, as
 * CPython's do. Watches and pipes may share a number, one for each direction,
 * as when a terminal is read by one and written by another. A direction that
 * both want is the one's who asked for it last, as in CPython; but between two
 * watches the first one keeps it.
 *
 * In a forked child the poller is the parent's: it is told nothing.
 */
#include <assert.h>
#include <errno.h>

#include "engine/slots.h"

/* The poller is told of a watch that was resumed after so many waits. */
enum { UNPROVEN_WAITS_MAX = 32 };

static bool
is_immediate(const struct bki_readiness *r, const bk_io *io)
{
    return io->_is_borrowed || io->_socket != NULL ||
           r->poller->ops->is_external;
}

/* Somebody else wants these directions of the number. */
static void
lose(struct bki_readiness *r, bk_io *io, unsigned directions)
{
    io->_interest = (uint8_t)(io->_interest & ~directions);
    bki_slots_unqueue(io, directions);
    if (io->_interest == 0) {
        bki_slots_vacate(r, io);
    }
}

/* Whether io may not take what it wants from the other one. */
static bool
is_refused(const bk_io *io, const bk_io *other)
{
    return io->_is_borrowed && other->_is_borrowed &&
           (io->_interest & other->_interest) != 0;
}

/* Those under the number whose file has gone leave it, as far as they can be
 * asked. */
static void
expel_lost(struct bki_readiness *r, int fd)
{
    bk_io *io = r->slots[fd].occupant;
    bk_io *mate = bki_sharing_mate(r, io);

    if (mate != NULL && !mate->_is_borrowed && !bki_slots_has_number(mate)) {
        bki_slots_forget_interest(mate);
        bki_slots_vacate(r, mate);
    }
    if (!io->_is_borrowed && !bki_slots_has_number(io)) {
        bki_slots_forget_interest(io);
        bki_slots_vacate(r, io);
    }
}

/* Those under the number give up what io wants of it. */
static void
take_directions(struct bki_readiness *r, const bk_io *io, int fd)
{
    bk_io *holder = r->slots[fd].occupant;
    bk_io *mate = bki_sharing_mate(r, holder);

    lose(r, holder, io->_interest);
    if (mate != NULL) {
        lose(r, mate, io->_interest);
    }
}

/* The number becomes that of an io which has none, alone or beside the one
 * that is there. The poller has been told. */
static void
settle(struct bki_readiness *r, bk_io *io, int fd)
{
    unsigned events;

    if (r->slots[fd].occupant != NULL) {
        bki_sharing_join(r, io, fd);
    }
    else {
        r->slots[fd].occupant = io;
        io->_slot = fd;
    }
    events = bki_slots_wanted(r, fd);
    bki_slots_set_added(r, r->slots[fd].occupant, true);
    r->slots[fd].occupant->_registered = (uint8_t)events;
}

/* Register beside who is there. -ENOENT: the poller does not know the number,
 * so the file of who is there has gone. */
static int
share(struct bki_readiness *r, bk_io *io, int fd)
{
    bk_io *holder = r->slots[fd].occupant;
    bk_io *mate = bki_sharing_mate(r, holder);
    bool is_refusal =
        is_refused(io, holder) || (mate != NULL && is_refused(io, mate));
    unsigned events = bki_slots_wanted(r, fd);
    int e = bki_sharing_reserve(r);

    if (e == 0) {
        e = bki_slots_tell_modify(r, fd,
                                  is_refusal ? events : events | io->_interest,
                                  r->slots[fd].generation);
    }
    if (e < 0) {
        return e;
    }
    if (is_refusal) {
        return -EEXIST;
    }
    take_directions(r, io, fd);
    settle(r, io, fd);
    return 0;
}

/* The first registration under this number, with the interest that the io
 * has. */
static int
enroll(struct bki_readiness *r, bk_io *io, int fd)
{
    uint32_t generation;
    bk_io *occupant;
    int e = bki_slots_grow(r, fd);

    if (e < 0) {
        return e;
    }
    if (r->slots[fd].occupant != NULL) {
        expel_lost(r, fd);
    }
    occupant = r->slots[fd].occupant;
    assert(occupant != io);
    if (occupant != NULL && occupant->_is_sharing && io->_is_sharing) {
        e = share(r, io, fd);
        if (e != -ENOENT) {
            return e;
        }
    }
    else if (occupant != NULL && !occupant->_is_borrowed) {
        return -EEXIST;
    }
    generation = r->slots[fd].generation + 1;
    e = bki_slots_tell_add(r, fd, io->_interest, generation);
    if (e == -EEXIST &&
        (occupant == NULL || !occupant->_is_borrowed || !io->_is_borrowed)) {
        /* A leftover, or a watch that a transport supersedes. */
        e = bki_slots_tell_modify(r, fd, io->_interest, generation);
    }
    if (e < 0) {
        return e;
    }
    while ((occupant = r->slots[fd].occupant) != NULL) {
        bki_slots_forget_interest(occupant);
        bki_slots_vacate(r, occupant);
    }
    r->slots[fd].generation = generation;
    settle(r, io, fd);
    return 0;
}

/* Register again a number that was taken out, or that the poller no longer
 * knows, since the fd was closed and the number is another file's. What is
 * queued is then about the old one. */
static int
enroll_again(struct bki_readiness *r, int fd)
{
    struct bki_slot *slot = &r->slots[fd];
    bk_io *mate = bki_sharing_mate(r, slot->occupant);
    unsigned events = bki_slots_wanted(r, fd);
    int e;

    bki_slots_set_added(r, slot->occupant, false);
    bki_slots_unqueue(slot->occupant, BK_READABLE | BK_WRITABLE);
    if (mate != NULL) {
        bki_slots_unqueue(mate, BK_READABLE | BK_WRITABLE);
    }
    e = bki_slots_tell_add(r, fd, events, slot->generation + 1);
    if (e < 0) {
        return e;
    }
    slot->generation++;
    bki_slots_set_added(r, slot->occupant, true);
    slot->occupant->_registered = (uint8_t)events;
    return 0;
}

/* Tell the poller what is wanted under a number. */
static int
update(struct bki_readiness *r, int fd)
{
    bk_io *holder = r->slots[fd].occupant;
    unsigned events = bki_slots_wanted(r, fd);
    int e;

    if (events == 0 && !r->poller->ops->can_watch_nothing) {
        if (holder->_is_added) {
            (void)bki_slots_tell_remove(r, fd);
            bki_slots_set_added(r, holder, false);
        }
        return 0;
    }
    if (!holder->_is_added) {
        return events != 0 ? enroll_again(r, fd) : 0;
    }
    e = bki_slots_tell_modify(r, fd, events, r->slots[fd].generation);
    if (e == -ENOENT) {
        return enroll_again(r, fd);
    }
    if (e == 0) {
        holder->_registered = (uint8_t)events;
    }
    return e;
}

static void
mark_stale(struct bki_readiness *r, int fd)
{
    struct bki_slot *slot = &r->slots[fd];

    if (slot->is_stale) {
        return;
    }
    assert(r->stale_count < r->slots_count);
    slot->is_stale = true;
    r->stale_fds[r->stale_count++] = fd;
}

/* Who has shared the number has left it. */
static void
update_left(struct bki_readiness *r, bk_io *io)
{
    int fd = io->_slot;
    int e = update(r, fd);

    if (e < 0 && (!io->_is_added || e == -EBADF)) {
        bki_slots_vacate(r, io);
        bki_slots_forget_interest(io);
    }
    else if (e < 0) {
        mark_stale(r, fd);
    }
}

/* Give up the number and have the poller forget it. Safe also when the fd has
 * gone and the number is another file's: whoever of ours has registered that
 * has taken the slot over, and the poller is told by nobody else. */
static void
drop(struct bki_readiness *r, bk_io *io)
{
    bk_io *mate = bki_sharing_mate(r, io);

    if (mate != NULL) {
        bki_slots_vacate(r, io);
        update_left(r, mate);
        return;
    }
    if (io->_is_added) {
        (void)bki_slots_tell_remove(r, io->_slot);
    }
    bki_slots_vacate(r, io);
}

/* Tell the poller at once about an io whose number somebody else may have
 * closed. After a failure it has a slot only if the poller has it as before. */
static int
update_now(struct bki_readiness *r, bk_io *io, int fd)
{
    bk_io *mate;
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
    mate = bki_sharing_mate(r, io);
    if (mate != NULL && is_refused(io, mate)) {
        return -EEXIST;
    }
    if (mate != NULL) {
        lose(r, mate, io->_interest);
    }
    e = update(r, fd);
    if (e < 0 && (!r->slots[fd].occupant->_is_added || e == -EBADF)) {
        drop(r, io);
    }
    return e;
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
        mark_stale(r, io->_slot);
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
        bki_slots_forget_interest(io);
    }
    else if (e < 0) {
        mark_stale(r, io->_slot);
    }
}

void
bki_registry_unwant(bk_io *io, unsigned direction)
{
    struct bki_readiness *r = bki_readiness_of(io);

    bki_slots_unqueue(io, direction);
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
        mark_stale(r, io->_slot);
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
    bki_slots_set_paused(r, io, false);
    io->_interest = (uint8_t)events;
    e = update_now(r, io, bki_io_fileno(io));
    if (io->_slot < 0) {
        bki_slots_forget_interest(io);
        return e;
    }
    if (e < 0) {
        io->_interest = before;
        return e;
    }
    bki_slots_unqueue(io, ~events);
    return 0;
}

void
bki_registry_leave(bk_io *io)
{
    bki_slots_forget_interest(io);
    drop(bki_readiness_of(io), io);
}

static bool
can_pause(const struct bki_readiness *r, const bk_io *io)
{
    return r->poller != NULL && r->poller->ops->is_in_kernel && io->_is_added &&
           !r->slots[io->_slot].is_shared && !r->slots[io->_slot].is_stale &&
           io->_registered == io->_interest &&
           !bki_loop_is_forked(r->base.loop);
}

bool
bki_registry_pause(bk_io *io)
{
    struct bki_readiness *r = bki_readiness_of(io);

    assert(io->_is_borrowed);
    if (io->_interest == 0) {
        return io->_is_paused;
    }
    if (!can_pause(r, io)) {
        bki_registry_leave(io);
        return false;
    }
    bki_slots_forget_interest(io);
    bki_slots_set_paused(r, io, true);
    return true;
}

static void
mark_unproven(struct bki_readiness *r, int fd)
{
    struct bki_slot *slot = &r->slots[fd];

    if (slot->is_unproven) {
        return;
    }
    if (r->unproven_count == 0) {
        r->unproven_waits = 0;
    }
    assert(r->unproven_count < r->slots_count);
    slot->is_unproven = true;
    r->unproven_fds[r->unproven_count++] = fd;
}

int
bki_registry_resume(bk_io *io, unsigned events)
{
    struct bki_readiness *r = bki_readiness_of(io);

    if (!io->_is_paused || io->_registered != events ||
        bki_loop_is_forked(r->base.loop)) {
        return bki_registry_watch(io, events);
    }
    io->_interest = (uint8_t)events;
    bki_slots_set_paused(r, io, false);
    mark_unproven(r, io->_slot);
    return 0;
}

/* An fd that has been closed is no concern of the poller's any more. Whatever
 * else it refuses, the direction may try. */
static void
prove_one(struct bki_readiness *r, int fd)
{
    bk_io *io = r->slots[fd].occupant;
    int e;

    if (io == NULL || !io->_is_borrowed || !io->_is_added || io->_is_paused) {
        return;
    }
    e = update(r, fd);
    if (e < 0 && e != -EBADF) {
        bki_slots_set_added(r, io, false);
        mark_stale(r, fd);
    }
}

void
bki_registry_prove(struct bki_readiness *r, uint64_t timeout_ns)
{
    if (timeout_ns == 0 && r->unproven_waits++ < UNPROVEN_WAITS_MAX) {
        return;
    }
    for (size_t i = 0; i < r->unproven_count; i++) {
        r->slots[r->unproven_fds[i]].is_unproven = false;
        prove_one(r, r->unproven_fds[i]);
    }
    r->unproven_count = 0;
}

/* What was ours when the change was made may have a socket object since, and
 * that may have been closed. */
static int
apply_one(struct bki_readiness *r, bk_io *io)
{
    if (io->_socket != NULL && !bki_slots_has_number(io)) {
        drop(r, io);
        bki_slots_forget_interest(io);
        return 0;
    }
    return bki_slots_wanted(r, io->_slot) == io->_registered
               ? 0
               : update(r, io->_slot);
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

bool
bki_registry_silence(bk_io *io)
{
    struct bki_readiness *r = bki_readiness_of(io);

    if (io->_is_paused) {
        bool is_removed = bki_slots_tell_remove(r, io->_slot) == 0;

        bki_slots_vacate(r, io);
        return is_removed;
    }
    if (io->_is_added && bki_slots_tell_remove(r, io->_slot) != -ENOMEM) {
        bki_slots_set_added(r, io, false);
    }
    return true;
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
        bki_slots_set_added(r, io, false);
        while (io != NULL && !io->_is_borrowed && !bki_slots_has_number(io)) {
            bki_slots_vacate(r, io);
            bki_slots_forget_interest(io);
            io = r->slots[fd].occupant;
        }
        if (io == NULL) {
            continue;
        }
        e = update(r, (int)fd);
        if (e == -EBADF && io->_is_borrowed) {
            bki_slots_vacate(r, io);
            bki_slots_forget_interest(io);
        }
        else if (e < 0) {
            mark_stale(r, (int)fd);
        }
    }
}
