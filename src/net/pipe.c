/* pipe.c -- transports of one direction.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A pipe is a stream whose io reads and writes instead of receiving and
 * sending, and tells one half of what a stream is told. That nobody reads any
 * more shows as the writing end being readable, so it waits for that too; a
 * terminal or a device does not tell.
 */

#include "becket/pipe.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/stat.h>

#include "becket/error.h"

#include "base/sys.h"
#include "net/internal.h"

static void
tell_eof(bk_transport *t)
{
    if (t->_protocol->eof_received != NULL) {
        (void)t->_protocol->eof_received(t, t->_self);
    }
}

static void
reader_on_read(bk_io *io, ssize_t n)
{
    bk_transport *t = BKI_CONTAINER_OF(io, bk_transport, _io);

    if (n != BK_EOF) {
        bki_stream_on_read(io, n);
        return;
    }
    tell_eof(t);
    if (!t->_io._loop->is_breaking) { /* else the next run meets it again */
        bk_transport_close(t);
    }
}

/* Readable: nobody reads any more. (Or a socket's peer has sent something,
 * which asyncio takes for that, too.) */
static struct bki_buffer
writer_on_alloc(bk_io *io)
{
    bk_transport *t = BKI_CONTAINER_OF(io, bk_transport, _io);

    tell_eof(t);
    if (!t->_io._loop->is_breaking) {
        bki_stream_lose(t, t->_queue._len > 0 ? -EPIPE : 0);
    }
    return (struct bki_buffer){.data = NULL};
}

static const struct bki_io_ops reader_io_ops = {
    .on_alloc = bki_stream_on_alloc,
    .on_read = reader_on_read,
};

static const struct bki_io_ops writer_io_ops = {
    .on_alloc = writer_on_alloc,
    .on_writable = bki_stream_on_writable,
};

/* A pipe of packets keeps the boundaries of writes. */
static int
classify_fifo(bk_transport *t, int fd)
{
    int flags = bki_sys_get_flags(fd);

    if (flags < 0) {
        return flags;
    }
    t->_is_immediate = (flags & O_DIRECT) != 0;
    t->_is_atomic = !t->_is_immediate;
    return 0;
}

static int
classify_socket(bk_transport *t, int fd)
{
    int type;
    int r = bki_sys_getsockopt(fd, SOL_SOCKET, SO_TYPE, &type);

    if (r < 0) {
        return r;
    }
    t->_is_immediate = type != SOCK_STREAM;
    return 0;
}

/* How this file is written to, and whether it tells that nobody reads. */
static int
classify(bk_transport *t, int fd)
{
    struct stat status;
    int r = bki_sys_fstat(fd, &status);

    if (r < 0) {
        return r;
    }
    if (S_ISFIFO(status.st_mode)) {
        return classify_fifo(t, fd);
    }
    if (S_ISSOCK(status.st_mode)) {
        return classify_socket(t, fd);
    }
    if (!S_ISCHR(status.st_mode)) {
        return -EOPNOTSUPP;
    }
    t->_is_immediate = true;
    if (t->_kind == BKI_STREAM_WRITER) {
        t->_is_read_paused = true;
    }
    return 0;
}

static int
open_end(bk_transport *t, bk_pipe_end end, int fd)
{
    bool is_reader = end == BK_PIPE_READ;
    int r;

    t->_kind = is_reader ? BKI_STREAM_READER : BKI_STREAM_WRITER;
    t->_io._ops = is_reader ? &reader_io_ops : &writer_io_ops;
    t->_io._is_file = 1;
    r = classify(t, fd);
    if (r == 0) {
        r = bki_sys_set_nonblocking(fd);
    }
    if (r == 0) {
        t->_state = BKI_STREAM_OPEN;
    }
    return r;
}

static bool
can_open(const bk_transport *t, bk_pipe_end end)
{
    return t != NULL && t->_state == BKI_STREAM_NEW &&
           (end == BK_PIPE_READ || end == BK_PIPE_WRITE);
}

int
bk_transport_open_pipe_fd(bk_transport *t, bk_pipe_end end, int fd)
{
    int r;

    if (!can_open(t, end)) {
        if (fd >= 0) {
            (void)bki_sys_close(fd);
        }
        return -EINVAL;
    }
    r = bki_io_open_fd(&t->_io, fd);
    if (r < 0) {
        return r;
    }
    r = open_end(t, end, fd);
    if (r < 0) {
        t->_io._fd = -1;
        (void)bki_sys_close(fd);
    }
    return r;
}

int
bk_transport_open_pipe(bk_transport *t, bk_pipe_end end,
                       const bk_socket_ops *file_ops, void *file)
{
    int r;

    if (!can_open(t, end)) {
        return -EINVAL;
    }
    r = bki_io_open_socket(&t->_io, file_ops, file);
    if (r < 0) {
        return r;
    }
    t->_io._is_sharing = 1;
    r = open_end(t, end, file_ops->fileno(file));
    if (r < 0) {
        t->_io._socket = NULL;
        t->_io._socket_self = NULL;
    }
    return r;
}

static int
connect_pipe(bk_loop *loop, const bk_protocol *protocol, void *self,
             bk_pipe_end end, int fd, bk_transport **ret_transport)
{
    bk_transport *transport;
    int r = bki_transport_alloc(loop, protocol, self, &transport);

    if (r < 0) {
        if (fd >= 0) {
            (void)bki_sys_close(fd);
        }
        return r;
    }
    r = bk_transport_open_pipe_fd(transport, end, fd);
    if (r == 0) {
        r = bk_transport_start(transport);
    }
    if (r < 0) {
        bk_transport_release(transport);
        return r;
    }
    *ret_transport = transport;
    return 0;
}

int
bk_loop_connect_read_pipe(bk_loop *loop, const bk_protocol *protocol,
                          void *self, int fd, bk_transport **ret_transport)
{
    return connect_pipe(loop, protocol, self, BK_PIPE_READ, fd, ret_transport);
}

int
bk_loop_connect_write_pipe(bk_loop *loop, const bk_protocol *protocol,
                           void *self, int fd, bk_transport **ret_transport)
{
    return connect_pipe(loop, protocol, self, BK_PIPE_WRITE, fd, ret_transport);
}
