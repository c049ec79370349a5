/* readiness.c -- the readiness engine: waiting, and linking what was found.
 *
 * SPDX-License-Identifier: MIT
 */
#include <assert.h>
#include <errno.h>

#include "base/hint.h"
#include "base/sys.h"
#include "engine/slots.h"

/* Room for what one wait finds; no poller hands out more at once. */
enum { EVENTS_MAX = 1024 };

/* An event of nobody may be the last word of an fd that was withdrawn while
 * the wait ran. One that comes back at the next wait is of an entry that
 * cannot be removed. */
enum { STALE_WAITS_MAX = 2 };

static struct bki_readiness *
readiness_of(struct bki_engine *engine)
{
    return (struct bki_readiness *)(void *)engine;
}

static inline void
queue_io(bk_loop *loop, bk_handle *handle)
{
    if (bki_handle_state(handle) == BKI_HANDLE_IDLE) {
        bki_ready_push(loop, handle);
    }
}

/* The reader before the writer, as in CPython. */
static void
queue_ready(bk_loop *loop, bk_io *io, unsigned ready)
{
    if ((ready & BK_READABLE) != 0) {
        queue_io(loop, &io->_read);
    }
    if (BKI_UNLIKELY((ready & BK_WRITABLE) != 0)) {
        queue_io(loop, &io->_write);
    }
}

/* The one that reads before the one that writes, as above. */
BKI_COLD static void
queue_shared(struct bki_readiness *r, bk_io *io, unsigned ready)
{
    bk_io *mate = bki_sharing_mate(r, io);
    bk_loop *loop = r->base.loop;

    queue_ready(loop, io, ready & io->_interest & BK_READABLE);
    queue_ready(loop, mate, ready & mate->_interest);
    queue_ready(loop, io, ready & io->_interest & BK_WRITABLE);
}

/* False: the event is of nobody. */
static bool
link_event(struct bki_readiness *r, const struct bki_poller_event *event)
{
    bk_loop *loop = r->base.loop;
    const struct bki_slot *slot;
    bk_io *io;

    if (BKI_UNLIKELY((size_t)event->fd >= r->slots_count)) {
        return false;
    }
    slot = &r->slots[event->fd];
    io = slot->occupant;
    if (BKI_UNLIKELY(io == NULL || slot->generation != event->generation)) {
        return false;
    }
    if (BKI_UNLIKELY(io == &loop->wake)) {
        bki_inbox_drain(loop);
        return true;
    }
    loop->stats.events++;
    if (BKI_UNLIKELY(slot->is_shared)) {
        queue_shared(r, io, event->events);
        return true;
    }
    if (BKI_UNLIKELY(io->_interest == 0)) {
        return bki_registry_silence(io);
    }
    queue_ready(loop, io, event->events & io->_interest);
    return true;
}

/* Changes of interest that the poller refused: let the directions that are
 * wanted try, their system calls find out what is wrong. */
BKI_COLD static void
link_stale(struct bki_readiness *r)
{
    for (size_t i = 0; i < r->stale_count; i++) {
        const struct bki_slot *slot = &r->slots[r->stale_fds[i]];
        bk_io *io = slot->occupant;

        if (io != NULL && slot->is_shared) {
            queue_shared(r, io, BK_READABLE | BK_WRITABLE);
        }
        else if (io != NULL && io != &r->base.loop->wake) {
            queue_ready(r->base.loop, io, io->_interest);
        }
    }
}

BKI_HOT static void
readiness_link_events(struct bki_engine *engine)
{
    struct bki_readiness *r = readiness_of(engine);
    bool is_clean = true;

    for (size_t i = 0; i < r->events_count; i++) {
        is_clean = link_event(r, &r->events[i]) && is_clean;
    }
    r->events_count = 0;
    if (r->stale_count > 0) {
        link_stale(r);
    }
    r->stale_waits = is_clean ? 0 : r->stale_waits + 1;
    if (r->stale_waits >= STALE_WAITS_MAX) {
        r->stale_waits = 0;
        bki_registry_rebuild(r);
    }
}

/* A poller without generations: the number stands for who has it now. */
static void
stamp_events(struct bki_readiness *r)
{
    for (size_t i = 0; i < r->events_count; i++) {
        size_t fd = (size_t)r->events[i].fd;

        if (fd < r->slots_count) {
            r->events[i].generation = r->slots[fd].generation;
        }
    }
}

BKI_HOT static int
readiness_wait(struct bki_engine *engine, uint64_t timeout_ns, bool can_release)
{
    struct bki_readiness *r = readiness_of(engine);
    const struct bki_poller_ops *ops = r->poller->ops;
    int found;

    r->events_count = 0;
    if (r->unproven_count > 0) {
        bki_registry_prove(r, timeout_ns);
    }
    if (r->stale_count > 0 && bki_registry_apply(r)) {
        timeout_ns = 0;
    }
    if (timeout_ns == 0 && r->polled_count == 0 && !can_release &&
        !ops->is_external) {
        return 0;
    }
    found = ops->wait(r->poller, timeout_ns, can_release ? r->base.loop : NULL,
                      r->events, EVENTS_MAX);
    if (found < 0) {
        return found;
    }
    assert(found <= EVENTS_MAX);
    r->events_count = (size_t)found;
    if (!ops->has_generations) {
        stamp_events(r);
    }
    return 0;
}

static void
forget_registration(bk_io *io)
{
    io->_interest = 0;
    io->_registered = 0;
    io->_is_added = 0;
    io->_is_paused = 0;
    io->_slot = -1;
}

/* The ios stay with their owners and forget what they were registered for. */
static void
readiness_shut(struct bki_engine *engine)
{
    struct bki_readiness *r = readiness_of(engine);

    if (r->poller == NULL) {
        return;
    }
    for (size_t fd = 0; fd < r->slots_count; fd++) {
        if (r->slots[fd].occupant != NULL) {
            forget_registration(r->slots[fd].occupant);
            r->slots[fd].occupant = NULL;
            r->slots[fd].is_shared = false;
        }
    }
    while (r->sharings_count > 0) {
        forget_registration(r->sharings[--r->sharings_count].second);
    }
    r->polled_count = 0;
    r->stale_count = 0;
    r->unproven_count = 0;
    r->events_count = 0;
    r->poller->ops->close(r->poller);
    r->poller->ops->free(r->poller);
    r->poller = NULL;
}

static void
readiness_free(struct bki_engine *engine)
{
    struct bki_readiness *r = readiness_of(engine);

    if (r->poller != NULL) {
        r->poller->ops->free(r->poller);
    }
    bki_sys_free(r->slots);
    bki_sys_free(r->stale_fds);
    bki_sys_free(r->unproven_fds);
    bki_sys_free(r->sharings);
    bki_sys_free(r->events);
    bki_sys_free(r);
}

static const struct bki_engine_ops readiness_ops = {
    .name = "readiness",
    .shut = readiness_shut,
    .free = readiness_free,
    .read_start = bki_readiness_read_start,
    .read_stop = bki_readiness_read_stop,
    .write = bki_readiness_write,
    .write_wait = bki_readiness_write_wait,
    .write_stop = bki_readiness_write_stop,
    .datagram_start = bki_readiness_datagram_start,
    .datagram_send = bki_readiness_datagram_send,
    .accept_start = bki_readiness_accept_start,
    .accept_stop = bki_readiness_accept_stop,
    .connect = bki_readiness_connect,
    .watch = bki_readiness_watch,
    .pause = bki_registry_pause,
    .resume = bki_registry_resume,
    .set_waker = bki_slots_set_waker,
    .withdraw = bki_readiness_withdraw,
    .close = bki_readiness_close,
    .wait = readiness_wait,
    .link_events = readiness_link_events,
};

int
bki_readiness_new(bk_loop *loop, struct bki_poller *poller,
                  struct bki_engine **ret_engine)
{
    struct bki_readiness *r = bki_sys_calloc(1, sizeof(*r));

    if (r == NULL) {
        poller->ops->free(poller);
        return -ENOMEM;
    }
    r->base.ops = &readiness_ops;
    r->base.loop = loop;
    r->base.backend = poller->name;
    r->poller = poller;
    r->events = bki_sys_malloc(EVENTS_MAX * sizeof(*r->events));
    if (r->events == NULL) {
        readiness_free(&r->base);
        return -ENOMEM;
    }
    *ret_engine = &r->base;
    return 0;
}
