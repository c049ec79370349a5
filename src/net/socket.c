/* socket.c -- names, options and owners of sockets.
 *
 * SPDX-License-Identifier: MIT
 */

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <netinet/tcp.h>

#include "base/sys.h"
#include "net/internal.h"

int
bki_socket_get_name(int fd, bool is_peer, bk_address *ret_address)
{
    struct sockaddr_storage storage;
    struct sockaddr *address = (struct sockaddr *)&storage;
    socklen_t len = sizeof(storage);
    int r;

    if (fd < 0) {
        return -EBADF;
    }
    r = is_peer ? bki_sys_getpeername(fd, address, &len)
                : bki_sys_getsockname(fd, address, &len);
    if (r < 0) {
        return r;
    }
    return bki_address_from_sockaddr(address, len, ret_address);
}

/* Sockets other than TCP refuse, which is one system call less than asking
 * for the family and protocol first. */
void
bki_socket_set_nodelay(int fd)
{
    (void)bki_sys_setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, 1);
}

static int
set_bind_options(int fd, const struct addrinfo *info,
                 const struct bki_bind_options *options)
{
    int r = 0;

    if (options->has_reuse_address) {
        r = bki_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, 1);
    }
    if (r == 0 && options->has_reuse_port) {
        r = bki_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (r == 0 && options->has_keep_alive) {
        r = bki_sys_setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, 1);
    }
    /* One socket for each family, as in asyncio: by default Linux would take
     * IPv4 on the IPv6 socket too and refuse to bind the second. */
    if (r == 0 && info->ai_family == AF_INET6) {
        r = bki_sys_setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, 1);
    }
    return r;
}

int
bki_socket_bind(int fd, const struct addrinfo *info,
                const struct bki_bind_options *options)
{
    int r = set_bind_options(fd, info, options);

    if (r < 0) {
        return r;
    }
    return bki_sys_bind(fd, info->ai_addr, info->ai_addrlen);
}

int
bki_io_open_fd(bk_io *io, int fd)
{
    if (fd < 0) {
        return -EBADF;
    }
    if (bk_loop_is_closed(io->_loop)) {
        (void)bki_sys_close(fd);
        return -EBADF;
    }
    io->_fd = fd;
    return 0;
}

int
bki_io_open_socket(bk_io *io, const bk_socket_ops *socket_ops, void *socket)
{
    if (socket_ops == NULL) {
        return -EINVAL;
    }
    if (bk_loop_is_closed(io->_loop) || socket_ops->fileno(socket) < 0) {
        return -EBADF;
    }
    io->_socket = socket_ops;
    io->_socket_self = socket;
    return 0;
}

/* What the poller knows of the number stays true; from now on changes are
 * told at once. */
void
bki_io_give_socket(bk_io *io, const bk_socket_ops *socket_ops, void *socket)
{
    assert(io->_socket == NULL);
    io->_socket = socket_ops;
    io->_socket_self = socket;
    io->_fd = -1;
}
