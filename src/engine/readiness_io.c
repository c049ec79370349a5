/* readiness_io.c -- the system calls that the readiness engine makes.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The run_ functions are the callbacks of an io's two nodes. What they call
 * may free the io, so nothing is read afterwards; accepting, which goes on, is
 * told through the engine's accepting pointer.
 *
 * The fd's number is asked for right before each system call, after foreign
 * code has run.
 *
 * A system call costs more where it is called from deep: the kernel's calls
 * have pushed the caller's own out of the processor's stack of return
 * addresses, so that each return afterwards is mispredicted, at some 5 ns. On
 * the way from an event to the reply's send there are as few frames as can be:
 * what hands over does so by a tail call.
 */
#include <assert.h>
#include <errno.h>
#include <netinet/in.h>
#include <string.h>

#include "becket/error.h"

#include "base/hint.h"
#include "base/sys.h"
#include "engine/readiness.h"

static bk_io *
io_of_read(bk_handle *handle)
{
    return (bk_io *)(void *)((char *)handle - offsetof(bk_io, _read));
}

static bk_io *
io_of_write(bk_handle *handle)
{
    return (bk_io *)(void *)((char *)handle - offsetof(bk_io, _write));
}

void
bki_io_init(bk_io *io, bk_loop *loop, const struct bki_io_ops *ops)
{
    *io = (bk_io){._loop = loop, ._ops = ops, ._fd = -1, ._slot = -1};
    io->_read._flags = BKI_HANDLE_IS_IO;
    io->_write._flags = BKI_HANDLE_IS_IO;
}

/* One receive: what more there is, the next turn finds, after everybody else
 * has had theirs. */
BKI_HOT static void
run_read(bk_handle *handle)
{
    bk_io *io = io_of_read(handle);
    struct bki_buffer buf;
    ssize_t n;

    if (BKI_UNLIKELY(io->_is_unpolled)) {
        bki_ready_push(io->_loop, handle); /* ready in the next turn, too */
    }
    buf = io->_ops->on_alloc(io);
    if (BKI_UNLIKELY(buf.data == NULL)) {
        return;
    }
    assert(buf.len > 0);
    n = BKI_UNLIKELY(io->_is_file)
            ? bki_sys_read(bki_io_fileno(io), buf.data, buf.len)
            : bki_sys_recv(bki_io_fileno(io), buf.data, buf.len);
    if (BKI_LIKELY(n > 0)) {
        io->_loop->stats.bytes_received += (uint64_t)n;
    }
    else if (n == 0) {
        n = BK_EOF;
    }
    else if (bki_readiness_is_again(n)) {
        n = -EAGAIN;
    }
    io->_ops->on_read(io, n);
}

/* A file that epoll refuses never makes anybody wait: /dev/null is such. */
int
bki_readiness_read_start(bk_io *io)
{
    int r;

    io->_read._callback = run_read;
    r = bki_registry_want(io, BK_READABLE);
    if (r != -EPERM || !io->_is_file) {
        return r;
    }
    if (!io->_is_unpolled) {
        io->_is_unpolled = 1;
        bki_ready_push(io->_loop, &io->_read);
    }
    return 0;
}

/* What is queued goes in any case. */
void
bki_readiness_read_stop(bk_io *io)
{
    io->_is_unpolled = 0;
    bki_registry_unwant(io, BK_READABLE);
}

/* The direction stays wanted while on_writable runs, since most often it
 * writes, and is blocked again. Once nothing was owed any more, the next event
 * finds out and withdraws it. */
static void
run_write(bk_handle *handle)
{
    bk_io *io = io_of_write(handle);

    if (!io->_is_write_owed) {
        bki_registry_unwant(io, BK_WRITABLE);
        return;
    }
    io->_is_write_owed = 0;
    io->_ops->on_writable(io);
}

static ssize_t
send_socket(int fd, const struct iovec *iov, int iov_count)
{
    return iov_count == 1 ? bki_sys_send(fd, iov->iov_base, iov->iov_len)
                          : bki_sys_sendmsg(fd, iov, iov_count);
}

static ssize_t
write_file(int fd, const struct iovec *iov, int iov_count)
{
    return iov_count == 1 ? bki_sys_write(fd, iov->iov_base, iov->iov_len)
                          : bki_sys_writev(fd, iov, iov_count);
}

ssize_t
bki_readiness_write(bk_io *io, int fd, const struct iovec *iov, int iov_count)
{
    assert(iov_count > 0);
    assert(iov_count <= BKI_IOV_MAX);
    return bki_readiness_written(io, io->_is_file
                                         ? write_file(fd, iov, iov_count)
                                         : send_socket(fd, iov, iov_count));
}

int
bki_readiness_write_wait(bk_io *io)
{
    int r;

    io->_write._callback = run_write;
    r = bki_registry_want(io, BK_WRITABLE);
    if (r == 0) {
        io->_is_write_owed = 1;
    }
    return r;
}

void
bki_readiness_write_stop(bk_io *io)
{
    io->_is_write_owed = 0;
    bki_registry_unwant(io, BK_WRITABLE);
}

/* What goes away when somebody closes something. */
static bool
is_shortage(int code)
{
    return code == -EMFILE || code == -ENFILE || code == -ENOBUFS ||
           code == -ENOMEM;
}

/* False: no more for now. */
static bool
accept_one(bk_io *io)
{
    struct sockaddr_storage storage;
    socklen_t len = sizeof(storage);
    bk_address peer = {0};
    int fd =
        bki_sys_accept(bki_io_fileno(io), (struct sockaddr *)&storage, &len);

    if (fd == -ECONNABORTED) {
        return true;
    }
    if (bki_readiness_is_again(fd)) {
        return false;
    }
    if (fd < 0) {
        if (is_shortage(fd)) {
            bki_readiness_accept_stop(io);
        }
        io->_ops->on_accept(io, fd, &peer);
        return false;
    }
    if (len <= sizeof(peer.u)) {
        memcpy(&peer.u, &storage, len);
        peer.len = len;
    }
    io->_ops->on_accept(io, fd, &peer);
    return true;
}

static void
run_accept(bk_handle *handle)
{
    bk_io *io = io_of_read(handle);
    struct bki_readiness *readiness = bki_readiness_of(io);
    int accepts_max = io->_accepts_max;

    readiness->accepting = io;
    for (int i = 0; i < accepts_max; i++) {
        if (!accept_one(io) || readiness->accepting != io) {
            break;
        }
    }
    readiness->accepting = NULL;
}

int
bki_readiness_accept_start(bk_io *io, int accepts_max)
{
    assert(accepts_max > 0);
    io->_read._callback = run_accept;
    io->_accepts_max = accepts_max;
    return bki_registry_want(io, BK_READABLE);
}

static void
stop_accepting(bk_io *io)
{
    struct bki_readiness *readiness = bki_readiness_of(io);

    if (readiness->accepting == io) {
        readiness->accepting = NULL;
    }
}

void
bki_readiness_accept_stop(bk_io *io)
{
    stop_accepting(io);
    bki_registry_unwant(io, BK_READABLE);
}

static void
run_connect(bk_handle *handle)
{
    bk_io *io = io_of_write(handle);
    int error = 0;
    int r = bki_sys_getsockopt(bki_io_fileno(io), SOL_SOCKET, SO_ERROR, &error);

    bki_registry_unwant(io, BK_WRITABLE);
    io->_ops->on_connect(io, r < 0 ? r : -error);
}

/* -EINTR: it goes on by itself, connect(2). -EAGAIN is a failure: a Unix
 * socket whose peer's backlog is full will not connect by itself. */
int
bki_readiness_connect(bk_io *io, const struct sockaddr *address, socklen_t len)
{
    int r = bki_sys_connect(bki_io_fileno(io), address, len);

    io->_write._callback = run_connect;
    if (r == 0) {
        bki_ready_push(io->_loop, &io->_write);
        return 0;
    }
    if (r != -EINPROGRESS && r != -EINTR) {
        return r;
    }
    return bki_registry_want(io, BK_WRITABLE);
}

static void
run_watch_read(bk_handle *handle)
{
    bk_io *io = io_of_read(handle);

    io->_ops->on_ready(io, BK_READABLE);
}

static void
run_watch_write(bk_handle *handle)
{
    bk_io *io = io_of_write(handle);

    io->_ops->on_ready(io, BK_WRITABLE);
}

int
bki_readiness_watch(bk_io *io, unsigned events)
{
    if (events == 0) {
        bki_registry_leave(io);
        return 0;
    }
    io->_read._callback = run_watch_read;
    io->_write._callback = run_watch_write;
    return bki_registry_watch(io, events);
}

void
bki_readiness_withdraw(bk_io *io)
{
    stop_accepting(io);
    io->_is_write_owed = 0;
    io->_is_unpolled = 0;
    bki_registry_leave(io);
}

/* The socket object comes last: it may run any code. */
void
bki_readiness_close(bk_io *io)
{
    const bk_socket_ops *socket = io->_socket;
    void *socket_self = io->_socket_self;
    int fd = io->_fd;

    bki_readiness_withdraw(io);
    io->_socket = NULL;
    io->_socket_self = NULL;
    io->_fd = -1;
    if (socket != NULL) {
        socket->close(socket_self);
    }
    else if (fd >= 0 && !io->_is_borrowed) {
        (void)bki_sys_close(fd);
    }
}
