/* SPDX-License-Identifier: MIT */
/* What the reference programs have in common. */
#include "common.h"

#include <arpa/inet.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/un.h>

static const char congestion[] = "reno"; /* as bench/load/peer.c */

void
fail(const char *what)
{
    perror(what);
    exit(1);
}

void
must(int result, const char *what)
{
    if (result < 0) {
        fail(what);
    }
}

void
die_with_parent(void)
{
    must(prctl(PR_SET_PDEATHSIG, SIGKILL), "prctl");
}

static int
open_socket(int family, int type)
{
    int fd = socket(family, type | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);

    must(fd, "socket");
    return fd;
}

static void
bind_anywhere(int fd)
{
    struct sockaddr_in address = {
        .sin_family = AF_INET,
        .sin_addr.s_addr = htonl(INADDR_LOOPBACK),
    };

    must(bind(fd, (struct sockaddr *)&address, sizeof(address)), "bind");
}

/* Whoever reads it connects at once. */
static void
tell_port(int fd)
{
    struct sockaddr_in address;
    socklen_t len = sizeof(address);

    must(getsockname(fd, (struct sockaddr *)&address, &len), "getsockname");
    printf("%d\n", ntohs(address.sin_port));
    must(fflush(stdout), "stdout");
}

int
listen_tcp(void)
{
    int fd = open_socket(AF_INET, SOCK_STREAM);
    int one = 1;

    /* Accepted sockets inherit both. */
    must(setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof(one)),
         "TCP_NODELAY");
    must(setsockopt(fd, IPPROTO_TCP, TCP_CONGESTION, congestion,
                    sizeof(congestion)),
         "TCP_CONGESTION");
    bind_anywhere(fd);
    must(listen(fd, SOMAXCONN), "listen");
    tell_port(fd);
    return fd;
}

int
bind_udp(void)
{
    int fd = open_socket(AF_INET, SOCK_DGRAM);

    bind_anywhere(fd);
    tell_port(fd);
    return fd;
}

int
listen_unix(void)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    socklen_t len = offsetof(struct sockaddr_un, sun_path); /* any name */
    int fd = open_socket(AF_UNIX, SOCK_STREAM);
    size_t name_len;

    must(bind(fd, (struct sockaddr *)&address, len), "bind");
    must(listen(fd, SOMAXCONN), "listen");
    len = sizeof(address);
    must(getsockname(fd, (struct sockaddr *)&address, &len), "getsockname");
    name_len = len - offsetof(struct sockaddr_un, sun_path) - 1;
    printf("%.*s\n", (int)name_len, address.sun_path + 1);
    must(fflush(stdout), "stdout");
    return fd;
}
