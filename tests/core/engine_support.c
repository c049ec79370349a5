/* engine_support.c -- an io with an owner that writes down what it is told.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine_support.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

bk_loop *loop;
int fds[2];

struct owner owners[3];

static struct owner *
owner_of(bk_io *io)
{
    return (struct owner *)(void *)io;
}

static void
do_more(struct owner *owner)
{
    if (owner->more != NULL) {
        owner->more(owner);
    }
}

static struct bki_buffer
on_alloc(bk_io *io)
{
    struct owner *owner = owner_of(io);

    return (struct bki_buffer){
        .data = owner->has_no_buffer ? NULL : owner->buf,
        .len = sizeof(owner->buf),
    };
}

static void
on_read(bk_io *io, ssize_t n)
{
    owner_of(io)->reads++;
    owner_of(io)->read_n = n;
    do_more(owner_of(io));
}

static void
on_writable(bk_io *io)
{
    owner_of(io)->writables++;
    do_more(owner_of(io));
}

static void
on_accept(bk_io *io, int fd, const bk_address *peer)
{
    struct owner *owner = owner_of(io);

    if (fd < 0) {
        owner->accept_error = fd;
    }
    else {
        ck_assert_int_eq(bk_address_family(peer), AF_INET);
        ck_assert_int_ne(fcntl(fd, F_GETFL) & O_NONBLOCK, 0);
        ck_assert_int_ne(fcntl(fd, F_GETFD) & FD_CLOEXEC, 0);
        ck_assert_int_eq(close(fd), 0);
        owner->accepts++;
    }
    do_more(owner);
}

static void
on_connect(bk_io *io, int error)
{
    owner_of(io)->connects++;
    owner_of(io)->connect_error = error;
    do_more(owner_of(io));
}

static void
on_ready(bk_io *io, unsigned events)
{
    owner_of(io)->ready |= events;
    do_more(owner_of(io));
}

const struct bki_io_ops owner_ops = {
    .on_alloc = on_alloc,
    .on_read = on_read,
    .on_writable = on_writable,
    .on_accept = on_accept,
    .on_connect = on_connect,
    .on_ready = on_ready,
};

static int
socket_fileno(void *self)
{
    return ((struct owner *)self)->socket_fd;
}

static void
socket_close(void *self)
{
    struct owner *owner = self;

    owner->socket_closes++;
    if (owner->socket_fd >= 0) {
        ck_assert_int_eq(close(owner->socket_fd), 0);
        owner->socket_fd = -1;
    }
}

static const bk_socket_ops socket_ops = {socket_fileno, socket_close};

const struct bki_engine_ops *
ops(void)
{
    return loop->engine->ops;
}

void
setup_loop(int poller)
{
    support_leaks_begin();
    loop = support_new_loop(poller);
    for (int i = 0; i < 3; i++) {
        owners[i] = (struct owner){.socket_fd = -1};
        bki_io_init(&owners[i].io, loop, &owner_ops);
    }
    support_pair(fds);
}

void
teardown_loop(void)
{
    for (int i = 0; i < 3; i++) {
        ops()->close(&owners[i].io);
        ck_assert_int_eq(bki_io_fileno(&owners[i].io), -1);
    }
    (void)close(fds[1]);
    support_free_loop(loop);
}

void
own(int i, int fd)
{
    owners[i].io._fd = fd;
}

void
borrow(int i, int fd)
{
    owners[i].socket_fd = fd;
    owners[i].io._socket = &socket_ops;
    owners[i].io._socket_self = &owners[i];
}

ssize_t
write_some(struct owner *owner, size_t len)
{
    static char data[1 << 20];
    struct iovec iov[2] = {{data, len / 2}, {data, len - len / 2}};
    ssize_t n = ops()->write(&owner->io, bki_io_fileno(&owner->io), iov, 2);
    int r = 0;

    /* What a stream does with the answer. */
    if (n >= 0 && (size_t)n < len) {
        r = ops()->write_wait(&owner->io);
    }
    else if (n >= 0) {
        ops()->write_stop(&owner->io);
    }
    return r < 0 ? r : n;
}

void
drain(int fd)
{
    char buf[65536];

    while (read(fd, buf, sizeof(buf)) > 0) {
    }
}

void
fill(struct owner *owner)
{
    ssize_t n;

    do {
        n = write_some(owner, 1 << 20);
        ck_assert_int_ge(n, 0);
    } while (n == 1 << 20);
}

int
listen_somewhere(struct sockaddr_in *ret_address)
{
    socklen_t len = sizeof(*ret_address);
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    *ret_address = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)ret_address, len), 0);
    ck_assert_int_eq(listen(fd, 50), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)ret_address, &len), 0);
    return fd;
}

int
new_socket(void)
{
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(fd, 0);
    return fd;
}
