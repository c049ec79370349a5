/* listener.c -- listening sockets.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A listener whose accept fails for want of fds or memory would be ready
 * again at once, for ever. It pauses for a second, as in asyncio, and the
 * connections wait in the kernel's backlog meanwhile. Stopping, starting and
 * closing go through the pause: _is_accepting says what the owner wants.
 */

#include "becket/server.h"

#include <errno.h>
#include <string.h>

#include "base/sys.h"
#include "net/internal.h"

/* asyncio.constants.ACCEPT_RETRY_DELAY */
#define ACCEPT_RETRY_NS UINT64_C(1000000000)

#define BACKLOG_DEFAULT 100

static bool
is_exhausted(int error)
{
    return error == -EMFILE || error == -ENFILE || error == -ENOBUFS ||
           error == -ENOMEM;
}

static int
accept_start(bk_listener *listener)
{
    bk_io *io = &listener->_io;

    return io->_loop->engine->ops->accept_start(io, listener->_accepts_max);
}

/* The engine has stopped. Without memory for the timer it goes on at once:
 * a busy loop is better than a deaf one. */
static void
pause_accepting(bk_listener *listener)
{
    bk_loop *loop = listener->_io._loop;

    if (bk_loop_schedule_at(loop, &listener->_retry,
                            bk_loop_time(loop) + ACCEPT_RETRY_NS) < 0) {
        (void)accept_start(listener);
    }
}

static void
listener_on_retry(bk_handle *handle)
{
    bk_listener *listener =
        BKI_CONTAINER_OF(bk_timer_of(handle), bk_listener, _retry);
    int r;

    if (!listener->_is_accepting) {
        return;
    }
    r = accept_start(listener);
    if (r < 0) {
        pause_accepting(listener);
        listener->_accept(listener, r, NULL);
    }
}

/* A peer that gave up while it waited (ECONNABORTED) is nobody's error. */
static void
listener_on_accept(bk_io *io, int fd, const bk_address *peer)
{
    bk_listener *listener = BKI_CONTAINER_OF(io, bk_listener, _io);

    if (is_exhausted(fd)) {
        pause_accepting(listener);
    }
    if (fd != -ECONNABORTED) {
        listener->_accept(listener, fd, peer);
    }
}

static const struct bki_io_ops listener_io_ops = {
    .on_accept = listener_on_accept,
};

static int
init_listener(bk_listener *listener, bk_loop *loop, int accepts_max,
              bk_accept_cb on_accept)
{
    if (listener == NULL || loop == NULL || on_accept == NULL ||
        accepts_max < 1) {
        return -EINVAL;
    }
    if (bk_loop_is_closed(loop)) {
        return -EBADF;
    }
    memset(listener, 0, sizeof(*listener));
    bki_io_init(&listener->_io, loop, &listener_io_ops);
    bk_timer_init(&listener->_retry, listener_on_retry);
    listener->_accept = on_accept;
    listener->_accepts_max = accepts_max;
    return 0;
}

int
bk_listener_init_fd(bk_listener *listener, bk_loop *loop, int fd,
                    int accepts_max, bk_accept_cb on_accept)
{
    int r = init_listener(listener, loop, accepts_max, on_accept);

    if (r < 0) {
        if (fd >= 0) {
            (void)bki_sys_close(fd);
        }
        return r;
    }
    return bki_io_open_fd(&listener->_io, fd);
}

int
bk_listener_init_socket(bk_listener *listener, bk_loop *loop,
                        const bk_socket_ops *socket_ops, void *socket,
                        int accepts_max, bk_accept_cb on_accept)
{
    int r = init_listener(listener, loop, accepts_max, on_accept);

    return r < 0 ? r : bki_io_open_socket(&listener->_io, socket_ops, socket);
}

int
bk_listener_start(bk_listener *listener)
{
    int r;

    if (listener->_is_closed || bk_loop_is_closed(listener->_io._loop)) {
        return -EBADF;
    }
    if (listener->_is_accepting) {
        return 0;
    }
    r = accept_start(listener);
    listener->_is_accepting = r == 0;
    return r;
}

void
bk_listener_stop(bk_listener *listener)
{
    bk_loop *loop = listener->_io._loop;

    if (!listener->_is_accepting) {
        return;
    }
    listener->_is_accepting = false;
    (void)bk_timer_cancel(&listener->_retry);
    loop->engine->ops->accept_stop(&listener->_io);
}

void
bk_listener_close(bk_listener *listener)
{
    if (listener->_io._loop == NULL || listener->_is_closed) {
        return;
    }
    bk_listener_stop(listener);
    listener->_is_closed = true;
    listener->_io._loop->engine->ops->close(&listener->_io);
}

int
bk_listener_fileno(const bk_listener *listener)
{
    return bki_io_fileno(&listener->_io);
}
