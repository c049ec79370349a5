/* datagram_read.c -- the receiving half of a datagram transport.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * asyncio receives one datagram per event and turn. Here a system call brings
 * several, and they are delivered in one turn as long as nobody can tell: as
 * soon as anything else is to run, the rest waits, and goes on in the next turn
 * at the place that I/O has there. So callbacks, stops and pauses come between
 * two datagrams where they would in asyncio.
 *
 * What the rest is copied for is then paid once too often, so the number to
 * receive follows what the protocol lets happen: it grows while whole bursts
 * are delivered, and falls back to what was delivered when one was broken off.
 * A protocol that schedules something for each datagram is served with one
 * receive per turn, as in asyncio.
 *
 * I/O and timers that become due meanwhile are not seen before the next turn.
 * Therefore a burst is bounded, in number and in time.
 */

#include <assert.h>
#include <errno.h>

#include "base/sys.h"
#include "net/datagram.h"

struct delivery {
    uint64_t timer_ns; /* when the first timer was due, at the beginning */
    uint64_t until_ns;
    int done;
};

/* Reading the clock costs as much as delivering half a datagram, so it is
 * looked at after 1, 2, 4, ... of them: the bound is exceeded at most twice. */
static bool
is_power_of_two(int n)
{
    return (n & (n - 1)) == 0;
}

static bool
may_go_on(const bk_datagram_transport *t, const struct delivery *delivery)
{
    const bk_loop *loop = t->_io._loop;

    if (!bk_datagram_is_reading(t) || !bki_ready_is_empty(loop)) {
        return false;
    }
    if (bki_heap_when(&loop->timers) == delivery->timer_ns &&
        !is_power_of_two(delivery->done)) {
        return true;
    }
    return bki_sys_monotonic_ns() < delivery->until_ns &&
           !bki_timers_are_due(loop);
}

static void
deliver_one(bk_datagram_transport *t, const struct bki_datagram *datagram)
{
    if (t->_protocol->datagram_received != NULL) {
        t->_protocol->datagram_received(t, datagram->data, datagram->len,
                                        datagram->address,
                                        datagram->address_len, t->_self);
    }
    bki_loop_flush_before(t->_io._loop, NULL);
}

static int
at_most(int n, int limit)
{
    return n < limit ? n : limit;
}

/* Broken off: that many at a time are enough. Whole: try more, unless fewer
 * were there. */
static void
learn_burst(bk_datagram_transport *t, int done, int count, bool is_whole)
{
    if (!is_whole) {
        t->_burst = done > 0 ? done : 1;
    }
    else if (count == t->_burst) {
        t->_burst = at_most(t->_burst * 2, BKI_BURST_MAX);
    }
    else if (count <= t->_burst / 4) {
        t->_burst /= 2;
    }
}

/* How many of them were delivered. */
static int
deliver_some(bk_datagram_transport *t, const struct bki_datagram *datagrams,
             int count)
{
    bk_loop *loop = t->_io._loop;
    struct delivery delivery = {
        .timer_ns = bki_heap_when(&loop->timers),
        .until_ns = bki_sys_monotonic_ns() + loop->delivery_ns_max,
    };
    bool is_whole = bk_datagram_is_reading(t);

    loop->is_delivering = count > 1;
    while (is_whole && delivery.done < count) {
        deliver_one(t, &datagrams[delivery.done++]);
        is_whole = may_go_on(t, &delivery);
    }
    loop->is_delivering = false;
    learn_burst(t, delivery.done, count, is_whole);
    return delivery.done;
}

/* Have what is left delivered in the next turn. */
static void
queue_rest(bk_datagram_transport *t)
{
    if (t->_received._head != NULL && t->_state == BKI_DATAGRAM_STARTED &&
        bk_datagram_is_reading(t) &&
        bki_handle_state(&t->_io._read) == BKI_HANDLE_IDLE) {
        bki_ready_push_found(t->_io._loop, &t->_io._read);
    }
}

/* Without memory for it the rest is lost, as it is when the kernel has none. */
static int
keep_rest(bk_datagram_transport *t, const struct bki_datagram *datagrams,
          int count)
{
    for (int i = 0; i < count; i++) {
        struct bki_packet *packet =
            bki_packet_new_copy(t->_io._loop, &datagrams[i]);

        if (packet == NULL) {
            return -ENOBUFS;
        }
        bki_packets_append(&t->_received, packet);
    }
    return 0;
}

static void
begin_delivery(bk_datagram_transport *t)
{
    if (t->_protocol->delivery_begins != NULL) {
        t->_protocol->delivery_begins(t, t->_self);
    }
}

/* What was held back is sent last but one: its failures are told, and after
 * delivery_ended an embedder may free the transport. */
static void
end_delivery(bk_datagram_transport *t)
{
    bki_datagrams_flush(t->_io._loop);
    if (t->_protocol->delivery_ended != NULL) {
        t->_protocol->delivery_ended(t, t->_self);
    }
}

static void
deliver(bk_datagram_transport *t, const struct bki_datagram *datagrams,
        int count)
{
    int done = deliver_some(t, datagrams, count);
    int r = 0;

    if (bki_datagram_is_open(t)) {
        r = keep_rest(t, datagrams + done, count - done);
        queue_rest(t);
    }
    if (r < 0) {
        bki_datagram_tell_error(t, r);
    }
}

void
bki_datagram_on_datagrams(bk_io *io, const struct bki_datagram *datagrams,
                          int count)
{
    bk_datagram_transport *t = BKI_CONTAINER_OF(io, bk_datagram_transport, _io);

    /* Asking for the fd's number may have run any code. */
    if (!bki_datagram_is_open(t)) {
        return;
    }
    begin_delivery(t);
    if (count > 0) {
        deliver(t, datagrams, count);
    }
    else if (count == -ENOMEM) {
        bki_datagram_lose(t, count);
    }
    else {
        bki_datagram_tell_error(t, count);
    }
    end_delivery(t);
}

/* What an earlier turn has left. It may close the transport, which drops what
 * is in its queue, so these are taken out first. */
static void
deliver_rest(bk_datagram_transport *t)
{
    bk_loop *loop = t->_io._loop;
    struct bki_packet *packets[BKI_BURST_MAX];
    struct bki_datagram datagrams[BKI_BURST_MAX];
    int count = 0;
    int done;

    while (count < BKI_BURST_MAX && t->_received._head != NULL) {
        packets[count] = bki_packets_pop(&t->_received);
        datagrams[count] = packets[count]->datagram;
        count++;
    }
    begin_delivery(t);
    done = deliver_some(t, datagrams, count);
    for (int i = count - 1; i >= 0; i--) {
        if (i >= done && bki_datagram_is_open(t)) {
            bki_packets_prepend(&t->_received, packets[i]);
        }
        else {
            bki_packet_free(loop, packets[i]);
        }
    }
    queue_rest(t);
    end_delivery(t);
}

int
bki_datagram_on_burst(bk_io *io)
{
    bk_datagram_transport *t = BKI_CONTAINER_OF(io, bk_datagram_transport, _io);

    if (t->_received._head != NULL) {
        deliver_rest(t);
        return 0;
    }
    if (t->_protocol->readable != NULL) {
        begin_delivery(t);
        t->_protocol->readable(t, t->_self);
        end_delivery(t);
        return 0;
    }
    return t->_burst;
}

void
bki_datagram_read_start(bk_datagram_transport *t)
{
    int r;

    if (t->_state != BKI_DATAGRAM_STARTED || t->_is_read_paused) {
        return;
    }
    r = t->_io._loop->engine->ops->datagram_start(&t->_io);
    if (r < 0) {
        bki_datagram_lose(t, r);
        return;
    }
    queue_rest(t);
}

void
bki_datagram_read_stop(bk_datagram_transport *t)
{
    t->_io._loop->engine->ops->read_stop(&t->_io);
}

void
bk_datagram_pause_reading(bk_datagram_transport *t)
{
    if (!bk_datagram_is_reading(t)) {
        return;
    }
    t->_is_read_paused = true;
    bki_datagram_read_stop(t);
}

void
bk_datagram_resume_reading(bk_datagram_transport *t)
{
    if (!bki_datagram_is_open(t) || !t->_is_read_paused) {
        return;
    }
    t->_is_read_paused = false;
    bki_datagram_read_start(t);
}

bool
bk_datagram_is_reading(const bk_datagram_transport *t)
{
    return bki_datagram_is_open(t) && !t->_is_read_paused;
}
