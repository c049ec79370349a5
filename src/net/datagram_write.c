/* datagram_write.c -- the sending half of a datagram transport.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * asyncio sends inside sendto(), and so do we, but for what is sent while a
 * burst is delivered: that leaves in one system call behind it. A queue that is
 * not empty is in one of two states: not blocked, and the transport in the
 * loop's list of those that hold sends back; blocked, and the engine calls
 * on_writable.
 *
 * What goes to where the socket is connected is never held back. Linux reports
 * a refusal there once, in the next send or receive, and when that is one of
 * several in sendmmsg(2), it is lost.
 *
 * error_received may do anything, so nothing is remembered across it but the
 * transport itself, and what is sent behind a burst, which is out of the queue
 * by then: so neither can it send that from inside, once for each failure, nor
 * does it find it waiting, for in asyncio those sends are still to come.
 */

#include <assert.h>
#include <errno.h>

#include "base/sys.h"
#include "net/datagram.h"

/* What waits for the kernel is on_writable's to send, and nobody else's. */
static bool
holds_back(const bk_datagram_transport *t)
{
    return t->_queued_count > 0 && !t->_is_blocked;
}

static bool
should_hold_back(const bk_datagram_transport *t,
                 const struct bki_datagram *datagram)
{
    const bk_loop *loop = t->_io._loop;

    return loop->is_delivering && datagram->address_len > 0 &&
           !t->_is_blocked && t->_queued_bytes <= t->_high_bytes &&
           !loop->is_write_through && bki_loop_is_own_thread(loop);
}

/* --- the list of those that hold sends back --- */

static void
link_unsent(bk_datagram_transport *t)
{
    if (bki_handle_state(&t->_unsent) == BKI_HANDLE_IDLE) {
        bki_handle_set_state(&t->_unsent, BKI_HANDLE_QUEUED);
        bki_list_append(&t->_io._loop->unsent, &t->_unsent);
    }
}

static void
unlink_unsent(bk_datagram_transport *t)
{
    (void)bki_ready_remove(t->_io._loop, &t->_unsent);
}

void
bki_datagrams_flush(bk_loop *loop)
{
    bk_handle *node;

    while ((node = bki_list_first(&loop->unsent)) != NULL) {
        bk_datagram_flush(
            BKI_CONTAINER_OF(node, bk_datagram_transport, _unsent));
    }
}

/* What a call of anybody else's wrote or holds back goes before a send of this
 * one: so there is at most one that holds back. */
static void
flush_others(bk_datagram_transport *t)
{
    bk_loop *loop = t->_io._loop;
    const bk_handle *first = bki_list_first(&loop->unsent);

    bki_loop_flush_streams(loop);
    if (first != NULL && first != &t->_unsent && bki_loop_is_own_thread(loop)) {
        bki_datagrams_flush(loop);
    }
}

/* --- the queue --- */

static size_t
size_in_queue(const bk_datagram_transport *t, const struct bki_packet *packet)
{
    return packet->datagram.len + t->_header_bytes;
}

static void
append(bk_datagram_transport *t, struct bki_packet *packet)
{
    bki_packets_append(&t->_queue, packet);
    t->_queued_count++;
    t->_queued_bytes += size_in_queue(t, packet);
}

static struct bki_packet *
take_first(bk_datagram_transport *t)
{
    struct bki_packet *packet = bki_packets_pop(&t->_queue);

    assert(packet != NULL);
    t->_queued_count--;
    t->_queued_bytes -= size_in_queue(t, packet);
    return packet;
}

static void
put_back(bk_datagram_transport *t, struct bki_packet *packet)
{
    bki_packets_prepend(&t->_queue, packet);
    t->_queued_count++;
    t->_queued_bytes += size_in_queue(t, packet);
}

bk_packet_queue
bki_datagram_take_queue(bk_datagram_transport *t)
{
    bk_packet_queue queue = t->_queue;

    unlink_unsent(t);
    t->_queue = (bk_packet_queue){0};
    t->_queued_count = 0;
    t->_queued_bytes = 0;
    return queue;
}

/* --- flow control --- */

static void
check_pause(bk_datagram_transport *t)
{
    if (t->_queued_bytes <= t->_high_bytes || t->_is_write_paused) {
        return;
    }
    t->_is_write_paused = true;
    if (t->_protocol->pause_writing != NULL) {
        t->_protocol->pause_writing(t, t->_self);
    }
}

static void
check_resume(bk_datagram_transport *t)
{
    if (!t->_is_write_paused || t->_queued_bytes > t->_low_bytes) {
        return;
    }
    t->_is_write_paused = false;
    if (t->_protocol->resume_writing != NULL) {
        t->_protocol->resume_writing(t, t->_self);
    }
}

static void
tell_blocked(bk_datagram_transport *t)
{
    if (t->_is_blocked_told) {
        return;
    }
    t->_is_blocked_told = true;
    if (t->_protocol->write_blocked != NULL) {
        t->_protocol->write_blocked(t, t->_self);
    }
}

static void
tell_drained(bk_datagram_transport *t)
{
    if (!t->_is_blocked_told) {
        return;
    }
    t->_is_blocked_told = false;
    if (t->_protocol->write_drained != NULL) {
        t->_protocol->write_drained(t, t->_self);
    }
}

/* The kernel takes no more: on_writable follows. */
static void
wait_writable(bk_datagram_transport *t)
{
    int r = t->_io._loop->engine->ops->write_wait(&t->_io);

    t->_is_blocked = true;
    if (r < 0) {
        bki_datagram_lose(t, r);
        return;
    }
    tell_blocked(t);
}

/* --- sending --- */

/* Never in a forked child: what its copy holds is the parent's to send. Asking
 * for the fd's number may run the socket object's code. */
static int
get_fd(const bk_datagram_transport *t, int *ret_fd)
{
    if (bki_loop_is_forked(t->_io._loop)) {
        return -ECHILD;
    }
    *ret_fd = bki_io_fileno(&t->_io);
    return t->_state == BKI_DATAGRAM_CLOSED ? -ECANCELED : 0;
}

static void
fill_message(struct mmsghdr *message, struct iovec *iov,
             const struct bki_datagram *datagram)
{
    iov->iov_base = (void *)(uintptr_t)datagram->data;
    iov->iov_len = datagram->len;
    *message = (struct mmsghdr){
        .msg_hdr = {.msg_name = (void *)(uintptr_t)datagram->address,
                    .msg_namelen = datagram->address_len,
                    .msg_iov = iov,
                    .msg_iovlen = 1},
    };
}

/* As many of the first packets as there are up to one that the embedder
 * transmits, in one call. 0: the kernel takes none, or there are none. */
static int
send_run(bk_datagram_transport *t, int fd, const bk_packet_queue *queue)
{
    struct mmsghdr messages[BKI_BURST_MAX];
    struct iovec iov[BKI_BURST_MAX];
    unsigned count = 0;

    for (const struct bki_packet *packet = queue->_head;
         packet != NULL && packet->transmit == NULL && count < BKI_BURST_MAX;
         packet = packet->next) {
        fill_message(&messages[count], &iov[count], &packet->datagram);
        count++;
    }
    if (count == 0) {
        return 0;
    }
    return t->_io._loop->engine->ops->datagram_send(&t->_io, fd, messages,
                                                    count);
}

/* What send_run() says has left the queue: one, if it has failed. */
static int
count_sent(int r)
{
    return r < 0 ? 1 : r;
}

/* Free what has left, and tell the failure. Either may run any code. */
static int
end_run(bk_datagram_transport *t, bk_packet_queue *sent, int r)
{
    bki_packets_drop(t->_io._loop, sent);
    if (r < 0) {
        bki_datagram_tell_error(t, r);
        return -1;
    }
    return r;
}

/* It may do anything to the transport: so the packet is out of the queue. */
static int
transmit_first(bk_datagram_transport *t)
{
    bk_loop *loop = t->_io._loop;
    struct bki_packet *packet = take_first(t);
    int r = packet->transmit(t, packet->owner);

    if (r == -EAGAIN && t->_state < BKI_DATAGRAM_LOST) {
        put_back(t, packet);
        return 0;
    }
    bki_packet_free(loop, packet);
    if (r < 0 && r != -EAGAIN) {
        bki_datagram_tell_error(t, r);
        return -1;
    }
    return 1;
}

/* Send from the front of the queue, which is not empty. How many packets have
 * left it; 0: the kernel takes none; -1: one, since it has failed, which was
 * told. */
static int
send_first(bk_datagram_transport *t)
{
    bk_packet_queue sent = {0};
    int fd = -1;
    int r;

    if (t->_queue._head->transmit != NULL) {
        return transmit_first(t);
    }
    r = get_fd(t, &fd);
    if (r < 0) {
        sent = bki_datagram_take_queue(t);
        bki_packets_drop(t->_io._loop, &sent);
        return 0;
    }
    r = send_run(t, fd, &t->_queue);
    for (int i = 0; i < count_sent(r); i++) {
        bki_packets_append(&sent, take_first(t));
    }
    return end_run(t, &sent, r);
}

/* --- sending what was held back --- */

/* The same for what was taken out of the queue. */
static int
send_first_held(bk_datagram_transport *t, bk_packet_queue *held)
{
    bk_packet_queue sent = {0};
    int fd = -1;
    int r = t->_state == BKI_DATAGRAM_CLOSED ? -ECANCELED : get_fd(t, &fd);

    if (r < 0) {
        bki_packets_drop(t->_io._loop, held);
        return 0;
    }
    r = send_run(t, fd, held);
    for (int i = 0; i < count_sent(r); i++) {
        bki_packets_append(&sent, bki_packets_pop(held));
    }
    return end_run(t, &sent, r);
}

/* It waits for the kernel, behind what error_received had to leave there. */
static void
keep_held(bk_datagram_transport *t, bk_packet_queue *held)
{
    struct bki_packet *packet;

    if (t->_state >= BKI_DATAGRAM_LOST) {
        bki_packets_drop(t->_io._loop, held);
        return;
    }
    while ((packet = bki_packets_pop(held)) != NULL) {
        append(t, packet);
    }
    if (!t->_is_blocked) {
        wait_writable(t);
    }
    check_pause(t);
}

/* What error_received writes to streams goes before the rest, which in asyncio
 * is sent after it has returned; unless that would take along what streams were
 * given after all of these. */
static void
send_held(bk_datagram_transport *t, bk_packet_queue *held)
{
    bk_loop *loop = t->_io._loop;
    bool have_streams_more = loop->flush_head != NULL;
    int r = 1;

    while (r != 0 && held->_head != NULL && !t->_is_blocked) {
        r = send_first_held(t, held);
        if (r < 0 && !have_streams_more) {
            bki_loop_flush_streams(loop);
        }
    }
    if (held->_head != NULL) {
        keep_held(t, held);
    }
}

/* Nothing is held back meanwhile, or an error_received that sends again, and
 * fails again, would keep this going for ever. */
void
bk_datagram_flush(bk_datagram_transport *t)
{
    bk_loop *loop = t->_io._loop;
    bool is_delivering = loop->is_delivering;
    bk_packet_queue held;

    if (!holds_back(t)) {
        unlink_unsent(t);
        return;
    }
    held = bki_datagram_take_queue(t);
    loop->is_delivering = false;
    send_held(t, &held);
    loop->is_delivering = is_delivering;
}

/* 1: it is dealt with. 0: it has to wait. */
static int
send_now(bk_datagram_transport *t, const struct bki_datagram *datagram)
{
    struct mmsghdr message;
    struct iovec iov;
    int fd;
    int r = get_fd(t, &fd);

    if (r < 0) {
        return 1;
    }
    if (t->_queued_count > 0) {
        return 0;
    }
    fill_message(&message, &iov, datagram);
    r = t->_io._loop->engine->ops->datagram_send(&t->_io, fd, &message, 1);
    if (r < 0) {
        bki_datagram_tell_error(t, r);
        return 1;
    }
    if (r == 0 && t->_state < BKI_DATAGRAM_LOST) {
        wait_writable(t);
    }
    return r > 0 || t->_state >= BKI_DATAGRAM_LOST;
}

/* 1: it is dealt with. 0: it has to wait. Else the code for the sender. */
static int
try_send(bk_datagram_transport *t, struct bki_datagram *datagram)
{
    if (t->_state == BKI_DATAGRAM_NEW) {
        return -EINVAL;
    }
    flush_others(t);
    if (t->_state == BKI_DATAGRAM_CLOSED) {
        return 1;
    }
    if (datagram->address_len == 0 && t->_destination.len > 0) {
        datagram->address = &t->_destination.u.sa;
        datagram->address_len = t->_destination.len;
    }
    if (should_hold_back(t, datagram)) {
        return 0;
    }
    return bk_datagram_can_send(t) ? send_now(t, datagram) : 0;
}

/* A datagram has to wait: for the kernel, or for the end of the delivery. */
static int
enqueue(bk_datagram_transport *t, struct bki_packet *packet)
{
    if (packet == NULL) {
        return -ENOMEM;
    }
    append(t, packet);
    if (t->_is_blocked) {
        check_pause(t);
        return 0;
    }
    link_unsent(t);
    if (t->_queued_bytes > t->_high_bytes) {
        bk_datagram_flush(t);
    }
    return 0;
}

int
bk_datagram_sendto(bk_datagram_transport *t, const void *data, size_t len,
                   const struct sockaddr *address, socklen_t address_len)
{
    struct bki_datagram datagram = {data, len, address,
                                    address != NULL ? address_len : 0};
    int r = try_send(t, &datagram);

    if (r != 0) {
        return r < 0 ? r : 0;
    }
    return enqueue(t, bki_packet_new_copy(t->_io._loop, &datagram));
}

int
bk_datagram_sendto_lent(bk_datagram_transport *t, const void *data, size_t len,
                        const struct sockaddr *address, socklen_t address_len,
                        bk_release_cb release, void *owner)
{
    struct bki_datagram datagram = {data, len, address,
                                    address != NULL ? address_len : 0};
    struct bki_packet *packet = NULL;
    int r = try_send(t, &datagram);

    if (r == 0) {
        packet = bki_packet_new_lent(t->_io._loop, &datagram, release, owner);
        r = enqueue(t, packet);
    }
    if (packet == NULL) {
        release(owner);
    }
    return r < 0 ? r : 0;
}

bool
bk_datagram_can_send(bk_datagram_transport *t)
{
    bk_datagram_flush(t);
    return t->_queued_count == 0;
}

int
bk_datagram_queue(bk_datagram_transport *t, size_t len, bk_transmit_cb transmit,
                  bk_release_cb release, void *owner)
{
    struct bki_packet *packet = NULL;
    int r = t->_state == BKI_DATAGRAM_NEW ? -EINVAL : 0;

    if (r == 0 && t->_state < BKI_DATAGRAM_LOST) {
        packet = bki_packet_new_transmit(t->_io._loop, len, transmit, release,
                                         owner);
        r = packet == NULL ? -ENOMEM : 0;
    }
    if (packet == NULL) {
        release(owner);
        return r;
    }
    append(t, packet);
    if (!t->_is_blocked) {
        wait_writable(t);
    }
    check_pause(t);
    return 0;
}

/* What resume_writing sends comes before the end of the queue is looked at, as
 * in asyncio. After a failure the next event goes on. */
void
bki_datagram_on_writable(bk_io *io)
{
    bk_datagram_transport *t = BKI_CONTAINER_OF(io, bk_datagram_transport, _io);
    int r = 1;

    while (r > 0 && t->_queued_count > 0) {
        r = send_first(t);
    }
    if (t->_state >= BKI_DATAGRAM_LOST) {
        return;
    }
    if (r <= 0) {
        wait_writable(t);
    }
    else {
        t->_is_blocked = false;
    }
    if (r < 0 || t->_state >= BKI_DATAGRAM_LOST) {
        return;
    }
    check_resume(t);
    if (t->_queued_count > 0 || t->_state >= BKI_DATAGRAM_LOST) {
        return;
    }
    if (t->_state == BKI_DATAGRAM_CLOSING) {
        bki_datagram_finish(t);
        return;
    }
    t->_io._loop->engine->ops->write_stop(&t->_io);
    tell_drained(t);
}

size_t
bk_datagram_get_write_buffer_size(bk_datagram_transport *t)
{
    bk_datagram_flush(t);
    return t->_queued_bytes;
}

int
bk_datagram_set_write_buffer_limits(bk_datagram_transport *t, size_t high_bytes,
                                    size_t low_bytes)
{
    if (high_bytes < low_bytes) {
        return -EINVAL;
    }
    bk_datagram_flush(t);
    t->_high_bytes = high_bytes;
    t->_low_bytes = low_bytes;
    check_pause(t);
    return 0;
}

void
bk_datagram_get_write_buffer_limits(const bk_datagram_transport *t,
                                    size_t *ret_high_bytes,
                                    size_t *ret_low_bytes)
{
    *ret_high_bytes = t->_high_bytes;
    *ret_low_bytes = t->_low_bytes;
}

void
bk_datagram_set_header_bytes(bk_datagram_transport *t, uint32_t header_bytes)
{
    t->_header_bytes = header_bytes;
}
