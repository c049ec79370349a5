/* SPDX-License-Identifier: MIT */
/* The server under test, and how to connect to it. */
#include "peer.h"

#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>

#define PATIENCE_SECONDS  10
/* A whole request fits, whatever the kernel's first guess is. */
#define SEND_BUFFER_BYTES (512 * 1024)

/* Every kernel has it, and it sets no timers between two segments, as BBR
 * does: those are not the loop's. The servers do the same.
 */
static const char congestion[] = "reno";

static int
set_option(int fd, int level, int name, int value)
{
    int r = setsockopt(fd, level, name, &value, sizeof(value));

    return r < 0 ? -errno : 0;
}

static int
set_patience(int fd)
{
    struct timeval t = {.tv_sec = PATIENCE_SECONDS};

    if (setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &t, sizeof(t)) < 0 ||
        setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &t, sizeof(t)) < 0) {
        return -errno;
    }
    return 0;
}

static int
set_tcp_options(int fd)
{
    int r = set_option(fd, IPPROTO_TCP, TCP_NODELAY, 1);

    if (r == 0 && setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion,
                             sizeof(congestion)) < 0) {
        r = -errno;
    }
    return r;
}

static int
set_options(int fd, enum transport transport)
{
    int r = set_option(fd, SOL_SOCKET, SO_SNDBUF, SEND_BUFFER_BYTES);

    if (r == 0 && (transport == TCP || transport == TLS)) {
        r = set_tcp_options(fd);
    }
    return r == 0 ? set_patience(fd) : r;
}

static int
connect_to_port(int fd, int port)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
        .sin_port = htons((uint16_t)port),
    };

    return connect(fd, (struct sockaddr *)&address, sizeof(address));
}

/* An abstract name starts with a zero byte and ends with the address. */
static int
connect_to_name(int fd, const char *name)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    size_t len = strlen(name);

    if (len >= sizeof(address.sun_path)) {
        errno = ENAMETOOLONG;
        return -1;
    }
    memcpy(address.sun_path + 1, name, len);
    len += offsetof(struct sockaddr_un, sun_path) + 1;
    return connect(fd, (struct sockaddr *)&address, (socklen_t)len);
}

int
peer_connect(const struct peer *peer, int *fd)
{
    int family = peer->transport == UNIX ? AF_UNIX : AF_INET;
    int type = peer->transport == UDP ? SOCK_DGRAM : SOCK_STREAM;
    int r;

    *fd = socket(family, type | SOCK_CLOEXEC, 0);
    if (*fd < 0) {
        return -errno;
    }
    r = set_options(*fd, peer->transport);
    if (r < 0) {
        return r;
    }
    r = peer->transport == UNIX ? connect_to_name(*fd, peer->name)
                                : connect_to_port(*fd, peer->port);
    return r < 0 ? -errno : 0;
}
