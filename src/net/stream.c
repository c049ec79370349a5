/* stream.c -- a stream's life: open, start, close, lost.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * connection_made and connection_lost run from nodes of their own in the
 * ready queue, so neither is ever called from inside a call of the user; the
 * one exception is a close() that had to wait for the kernel: the writable
 * event that ends its flush is the place where asyncio calls connection_lost,
 * and nothing of the user's is on the stack there.
 *
 * From start until on_closed the transport's memory is lent. Callbacks may
 * close and abort, and may free only from on_closed on, so after a callback
 * the stream may be looked at, but its state may be any later one.
 */

#include <assert.h>
#include <errno.h>
#include <string.h>

#include "base/sys.h"
#include "net/internal.h"

/* asyncio's defaults. */
#define HIGH_BYTES_DEFAULT ((size_t)64 * 1024)
#define LOW_BYTES_DEFAULT  ((size_t)16 * 1024)

static const struct bki_io_ops stream_io_ops = {
    .on_alloc = bki_stream_on_alloc,
    .on_read = bki_stream_on_read,
    .on_writable = bki_stream_on_writable,
};

static void
on_start(bk_handle *handle)
{
    bk_transport *t = BKI_CONTAINER_OF(handle, bk_transport, _start);

    if (t->_protocol->connection_made != NULL) {
        t->_protocol->connection_made(t, t->_self);
    }
    bki_stream_read_start(t);
}

/* get_extra_info answers after the close as well, so what nobody has asked
 * for yet is asked now. */
static void
remember_names(bk_transport *t)
{
    bk_address ignored;

    if (!t->_is_owned && t->_kind == BKI_STREAM_SOCKET) {
        (void)bk_transport_getsockname(t, &ignored);
    }
}

/* Pipes are not counted as connections. */
static void
count_open(bk_transport *t, int change)
{
    if (t->_kind == BKI_STREAM_SOCKET) {
        t->_io._loop->stats.connections_open += (uint64_t)(int64_t)change;
    }
}

static void
call_lost(bk_transport *t)
{
    if (t->_protocol->connection_lost != NULL) {
        t->_protocol->connection_lost(t, t->_error, t->_self);
    }
    if (t->_state == BKI_STREAM_CLOSED) {
        return; /* released from inside, which calls nothing more */
    }
    remember_names(t);
    t->_io._loop->engine->ops->close(&t->_io);
    t->_state = BKI_STREAM_CLOSED;
    count_open(t, -1);
    if (t->_is_owned) {
        bki_transport_free(t);
    }
    else if (t->_protocol->on_closed != NULL) {
        t->_protocol->on_closed(t, t->_self);
    }
}

static void
on_lost(bk_handle *handle)
{
    bk_transport *t = BKI_CONTAINER_OF(handle, bk_transport, _lost);

    assert((handle->_flags & BKI_HANDLE_PLACEHOLDER) == 0);
    call_lost(t);
}

int
bk_transport_init(bk_transport *t, bk_loop *loop, const bk_protocol *protocol,
                  void *self)
{
    if (t == NULL || loop == NULL || protocol == NULL) {
        return -EINVAL;
    }
    if (bk_loop_is_closed(loop)) {
        return -EBADF;
    }
    memset(t, 0, sizeof(*t));
    bki_io_init(&t->_io, loop, &stream_io_ops);
    bk_handle_init(&t->_start, on_start);
    bk_handle_init(&t->_lost, on_lost);
    t->_protocol = protocol;
    t->_self = self;
    t->_high_bytes = HIGH_BYTES_DEFAULT;
    t->_low_bytes = LOW_BYTES_DEFAULT;
    loop->flush_stream = bki_stream_flush_alone;
    return 0;
}

static int
opened(bk_transport *t)
{
    t->_state = BKI_STREAM_OPEN;
    t->_io._loop->stats.connections_made++;
    count_open(t, 1);
    bki_socket_set_nodelay(bki_io_fileno(&t->_io));
    return 0;
}

int
bk_transport_open_fd(bk_transport *t, int fd)
{
    int r;

    if (t == NULL || t->_state != BKI_STREAM_NEW) {
        (void)bki_sys_close(fd);
        return -EINVAL;
    }
    r = bki_io_open_fd(&t->_io, fd);
    return r < 0 ? r : opened(t);
}

int
bk_transport_open_socket(bk_transport *t, const bk_socket_ops *socket_ops,
                         void *socket)
{
    int r;

    if (t == NULL || t->_state != BKI_STREAM_NEW) {
        return -EINVAL;
    }
    r = bki_io_open_socket(&t->_io, socket_ops, socket);
    return r < 0 ? r : opened(t);
}

int
bk_transport_start(bk_transport *t)
{
    bk_address ignored;
    int r;

    if (t->_state != BKI_STREAM_OPEN) {
        return -EINVAL;
    }
    if (t->_kind == BKI_STREAM_SOCKET) {
        /* A peer that resets the connection takes its name away. */
        (void)bk_transport_getpeername(t, &ignored);
    }
    r = bk_loop_schedule(t->_io._loop, &t->_start);
    if (r == 0) {
        t->_state = BKI_STREAM_STARTED;
    }
    return r;
}

int
bk_transport_give_socket(bk_transport *t, const bk_socket_ops *socket_ops,
                         void *socket)
{
    if (socket_ops == NULL || t->_io._socket != NULL ||
        t->_state == BKI_STREAM_NEW) {
        return -EINVAL;
    }
    if (t->_state == BKI_STREAM_CLOSED) {
        return -EBADF;
    }
    bki_io_give_socket(&t->_io, socket_ops, socket);
    return 0;
}

void
bk_transport_release(bk_transport *t)
{
    bk_queue done = {._head = NULL};
    bk_loop *loop = t->_io._loop;

    if (loop == NULL || t->_state == BKI_STREAM_CLOSED) {
        return;
    }
    t->_is_flush_asked = false;
    (void)bki_stream_unlink_flush(t, false);
    (void)bk_handle_cancel(&t->_start);
    (void)bk_handle_cancel(&t->_lost);
    bki_queue_move(&done, &t->_queue);
    if (t->_state != BKI_STREAM_NEW) {
        count_open(t, -1);
    }
    t->_state = BKI_STREAM_CLOSED;
    t->_io._loop->engine->ops->close(&t->_io);
    if (t->_is_owned) {
        bki_transport_free(t);
    }
    bki_queue_release(loop, &done);
}

static void
mark_lost(bk_transport *t, int error)
{
    bki_stream_read_stop(t);
    t->_is_waiting = false;
    t->_io._loop->engine->ops->write_stop(&t->_io);
    t->_state = BKI_STREAM_LOST;
    t->_is_flush_asked = false;
    t->_error = error;
}

static void
tell_closing(bk_transport *t)
{
    if (t->_protocol->connection_closing != NULL) {
        t->_protocol->connection_closing(t, t->_error, t->_self);
    }
}

void
bki_stream_lose(bk_transport *t, int error)
{
    bk_loop *loop = t->_io._loop;
    bk_queue done = {._head = NULL};

    if (t->_state >= BKI_STREAM_LOST) {
        return;
    }
    bki_queue_move(&done, &t->_queue);
    mark_lost(t, error);
    if (!bki_stream_unlink_flush(t, true)) {
        (void)bk_loop_schedule(loop, &t->_lost);
    }
    tell_closing(t);
    bki_queue_release(loop, &done);
}

void
bki_stream_finish(bk_transport *t)
{
    assert(t->_queue._len == 0);
    mark_lost(t, 0);
    tell_closing(t);
    call_lost(t);
}

void
bk_transport_close(bk_transport *t)
{
    bki_stream_flush(t);
    if (!bki_stream_is_open(t)) {
        return;
    }
    if (t->_kind != BKI_STREAM_WRITER) { /* which hears whether it is read */
        bki_stream_read_stop(t);
    }
    t->_state = BKI_STREAM_CLOSING;
    if (t->_queue._len == 0) {
        bki_stream_lose(t, 0);
    }
}

void
bk_transport_abort(bk_transport *t, int error)
{
    bki_stream_flush(t);
    if (t->_state != BKI_STREAM_NEW) {
        bki_stream_lose(t, error);
    }
}

bool
bk_transport_is_closing(bk_transport *t)
{
    bki_stream_flush(t);
    return t->_state >= BKI_STREAM_CLOSING;
}

bool
bk_transport_is_lost(const bk_transport *t)
{
    return t->_state >= BKI_STREAM_LOST;
}

void
bk_transport_set_protocol(bk_transport *t, const bk_protocol *protocol,
                          void *self)
{
    bki_stream_flush(t);
    t->_protocol = protocol;
    t->_self = self;
}

void *
bk_transport_get_self(const bk_transport *t)
{
    return t->_self;
}

bk_loop *
bk_transport_loop(const bk_transport *t)
{
    return t->_io._loop;
}

int
bk_transport_fileno(const bk_transport *t)
{
    return bki_io_fileno(&t->_io);
}

/* Ask once; what the kernel told is kept, a failure is not. */
static int
get_name(bk_transport *t, bool is_peer, bk_address *known,
         bk_address *ret_address)
{
    int r = 0;

    if (known->len == 0) {
        r = bki_socket_get_name(bki_io_fileno(&t->_io), is_peer, known);
    }
    if (r == 0) {
        *ret_address = *known;
    }
    return r;
}

int
bk_transport_getpeername(bk_transport *t, bk_address *ret_address)
{
    return get_name(t, true, &t->_peername, ret_address);
}

int
bk_transport_getsockname(bk_transport *t, bk_address *ret_address)
{
    return get_name(t, false, &t->_sockname, ret_address);
}

int
bk_transport_get_sockaddr(const bk_transport *t, bool is_peer,
                          struct sockaddr *ret_address, socklen_t *len)
{
    int fd = bki_io_fileno(&t->_io);

    if (fd < 0) {
        return -EBADF;
    }
    return is_peer ? bki_sys_getpeername(fd, ret_address, len)
                   : bki_sys_getsockname(fd, ret_address, len);
}

void
bk_transport_set_peername(bk_transport *t, const bk_address *address)
{
    t->_peername = *address;
}
