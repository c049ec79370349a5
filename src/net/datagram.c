/* datagram.c -- a datagram transport's life: open, start, close, lost.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * As of a stream, see stream.c: connection_made and connection_lost run from
 * nodes of their own in the ready queue, but after a close() that had to wait
 * for the kernel, whose last writable event calls connection_lost.
 *
 * Unlike a stream it does not end by itself: failures are told, and it stays
 * open until somebody closes it.
 */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/sys.h"
#include "net/datagram.h"

/* asyncio's defaults. */
#define HIGH_BYTES_DEFAULT   ((size_t)64 * 1024)
#define LOW_BYTES_DEFAULT    ((size_t)16 * 1024)
#define HEADER_BYTES_DEFAULT 8

static const struct bki_io_ops datagram_io_ops = {
    .on_burst = bki_datagram_on_burst,
    .on_datagrams = bki_datagram_on_datagrams,
    .on_writable = bki_datagram_on_writable,
};

static void
on_start(bk_handle *handle)
{
    bk_datagram_transport *t =
        BKI_CONTAINER_OF(handle, bk_datagram_transport, _start);

    if (t->_protocol->connection_made != NULL) {
        t->_protocol->connection_made(t, t->_self);
    }
    bki_datagram_read_start(t);
}

static void
call_lost(bk_datagram_transport *t)
{
    if (t->_protocol->connection_lost != NULL) {
        t->_protocol->connection_lost(t, t->_error, t->_self);
    }
    if (t->_state == BKI_DATAGRAM_CLOSED) {
        return; /* released from inside, which calls nothing more */
    }
    t->_state = BKI_DATAGRAM_CLOSED;
    t->_io._loop->engine->ops->close(&t->_io);
    if (t->_is_owned) {
        bki_datagram_free(t);
    }
    else if (t->_protocol->on_closed != NULL) {
        t->_protocol->on_closed(t, t->_self);
    }
}

static void
on_lost(bk_handle *handle)
{
    call_lost(BKI_CONTAINER_OF(handle, bk_datagram_transport, _lost));
}

int
bk_datagram_init(bk_datagram_transport *t, bk_loop *loop,
                 const bk_datagram_protocol *protocol, void *self)
{
    if (t == NULL || loop == NULL || protocol == NULL) {
        return -EINVAL;
    }
    if (bk_loop_is_closed(loop)) {
        return -EBADF;
    }
    memset(t, 0, sizeof(*t));
    bki_io_init(&t->_io, loop, &datagram_io_ops);
    bk_handle_init(&t->_start, on_start);
    bk_handle_init(&t->_lost, on_lost);
    t->_protocol = protocol;
    t->_self = self;
    t->_burst = 1;
    t->_high_bytes = HIGH_BYTES_DEFAULT;
    t->_low_bytes = LOW_BYTES_DEFAULT;
    t->_header_bytes = HEADER_BYTES_DEFAULT;
    loop->flush_unsent = bki_datagrams_flush;
    return 0;
}

int
bk_datagram_open_fd(bk_datagram_transport *t, int fd)
{
    int r;

    if (t == NULL || t->_state != BKI_DATAGRAM_NEW) {
        (void)bki_sys_close(fd);
        return -EINVAL;
    }
    r = bki_io_open_fd(&t->_io, fd);
    if (r == 0) {
        t->_state = BKI_DATAGRAM_OPEN;
    }
    return r;
}

int
bk_datagram_open_socket(bk_datagram_transport *t,
                        const bk_socket_ops *socket_ops, void *socket)
{
    int r;

    if (t == NULL || t->_state != BKI_DATAGRAM_NEW) {
        return -EINVAL;
    }
    r = bki_io_open_socket(&t->_io, socket_ops, socket);
    if (r == 0) {
        t->_state = BKI_DATAGRAM_OPEN;
    }
    return r;
}

int
bk_datagram_start(bk_datagram_transport *t)
{
    int r;

    if (t->_state != BKI_DATAGRAM_OPEN) {
        return -EINVAL;
    }
    r = bk_loop_schedule(t->_io._loop, &t->_start);
    if (r == 0) {
        t->_state = BKI_DATAGRAM_STARTED;
    }
    return r;
}

void
bk_datagram_release(bk_datagram_transport *t)
{
    bk_loop *loop = t->_io._loop;
    bk_packet_queue received = t->_received;
    bk_packet_queue unsent;

    if (loop == NULL || t->_state == BKI_DATAGRAM_CLOSED) {
        return;
    }
    unsent = bki_datagram_take_queue(t);
    t->_received = (bk_packet_queue){0};
    (void)bk_handle_cancel(&t->_start);
    (void)bk_handle_cancel(&t->_lost);
    t->_state = BKI_DATAGRAM_CLOSED;
    loop->engine->ops->close(&t->_io);
    if (t->_is_owned) {
        bki_datagram_free(t);
    }
    bki_packets_drop(loop, &received);
    bki_packets_drop(loop, &unsent);
}

static void
mark_lost(bk_datagram_transport *t, int error)
{
    bki_datagram_read_stop(t);
    t->_io._loop->engine->ops->write_stop(&t->_io);
    t->_state = BKI_DATAGRAM_LOST;
    t->_error = error;
}

static void
tell_closing(bk_datagram_transport *t)
{
    if (t->_protocol->connection_closing != NULL) {
        t->_protocol->connection_closing(t, t->_error, t->_self);
    }
}

void
bki_datagram_lose(bk_datagram_transport *t, int error)
{
    bk_loop *loop = t->_io._loop;
    bk_packet_queue received = t->_received;
    bk_packet_queue unsent;

    if (t->_state >= BKI_DATAGRAM_LOST) {
        return;
    }
    unsent = bki_datagram_take_queue(t);
    t->_received = (bk_packet_queue){0};
    mark_lost(t, error);
    (void)bk_loop_schedule(loop, &t->_lost);
    tell_closing(t);
    bki_packets_drop(loop, &received);
    bki_packets_drop(loop, &unsent);
}

void
bki_datagram_finish(bk_datagram_transport *t)
{
    assert(t->_queued_count == 0);
    mark_lost(t, 0);
    tell_closing(t);
    call_lost(t);
}

void
bki_datagram_tell_error(bk_datagram_transport *t, int error)
{
    if (t->_protocol->error_received != NULL &&
        t->_state < BKI_DATAGRAM_CLOSED) {
        t->_protocol->error_received(t, error, t->_self);
    }
}

void
bk_datagram_close(bk_datagram_transport *t)
{
    bk_packet_queue received;

    bk_datagram_flush(t);
    if (!bki_datagram_is_open(t)) {
        return;
    }
    bki_datagram_read_stop(t);
    t->_state = BKI_DATAGRAM_CLOSING;
    received = t->_received;
    t->_received = (bk_packet_queue){0};
    bki_packets_drop(t->_io._loop, &received);
    if (t->_queued_count == 0) {
        bki_datagram_lose(t, 0);
    }
}

void
bk_datagram_abort(bk_datagram_transport *t, int error)
{
    bk_datagram_flush(t);
    if (t->_state != BKI_DATAGRAM_NEW) {
        bki_datagram_lose(t, error);
    }
}

bool
bk_datagram_is_closing(const bk_datagram_transport *t)
{
    return t->_state >= BKI_DATAGRAM_CLOSING;
}

void
bk_datagram_set_protocol(bk_datagram_transport *t,
                         const bk_datagram_protocol *protocol, void *self)
{
    bk_datagram_flush(t);
    t->_protocol = protocol;
    t->_self = self;
}

void *
bk_datagram_get_self(const bk_datagram_transport *t)
{
    return t->_self;
}

bk_loop *
bk_datagram_loop(const bk_datagram_transport *t)
{
    return t->_io._loop;
}

int
bk_datagram_fileno(const bk_datagram_transport *t)
{
    return bki_io_fileno(&t->_io);
}

int
bk_datagram_getsockname(const bk_datagram_transport *t, bk_address *ret_address)
{
    return bki_socket_get_name(bki_io_fileno(&t->_io), false, ret_address);
}
