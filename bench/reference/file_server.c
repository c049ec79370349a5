/* SPDX-License-Identifier: MIT */
/* The least that a server of one file can do.
 *
 *     file_server BYTES
 *
 * One thread, level-triggered epoll, one scratch buffer. For each byte that it
 * receives it sends the whole file, with sendfile. Prints its port.
 */
#include <errno.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/mman.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

#define SCRATCH_BYTES 4096
#define EVENTS_MAX    256
#define FDS_MAX       4096

struct server {
    int epoll;
    int listener;
    int file;
    off_t size;
    off_t left[FDS_MAX]; /* bytes that a connection has still to get */
};

static void
make_file(struct server *s, const char *size)
{
    s->file = memfd_create("file", MFD_CLOEXEC);
    must(s->file, "memfd_create");
    s->size = (off_t)strtol(size, NULL, 10);
    for (off_t i = 0; i < s->size; i++) {
        unsigned char byte = (unsigned char)i; /* as bench/load/main.c */

        must((int)pwrite(s->file, &byte, 1, i), "pwrite");
    }
}

static void
watch(struct server *s, int operation, int fd, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.fd = fd};

    must(epoll_ctl(s->epoll, operation, fd, &event), "epoll_ctl");
}

static void
accept_all(struct server *s)
{
    for (;;) {
        int flags = SOCK_NONBLOCK | SOCK_CLOEXEC;
        int fd = accept4(s->listener, NULL, NULL, flags);

        if (fd < 0 && errno == EAGAIN) {
            return;
        }
        must(fd < FDS_MAX ? fd : -1, "accept4");
        s->left[fd] = 0;
        watch(s, EPOLL_CTL_ADD, fd, EPOLLIN);
    }
}

/* As much as the kernel takes; true: all of it. */
static int
send_file(struct server *s, int fd)
{
    while (s->left[fd] > 0) {
        off_t from = s->size - s->left[fd] % s->size;
        size_t most;
        ssize_t n;

        from = from == s->size ? 0 : from;
        most = (size_t)(s->size - from);
        n = sendfile(fd, s->file, &from, most);
        if (n < 0) {
            return errno == EAGAIN ? 0 : -1;
        }
        s->left[fd] -= n;
    }
    return 1;
}

static void
handle(struct server *s, int fd, uint32_t events)
{
    static char scratch[SCRATCH_BYTES];
    int is_sending = s->left[fd] > 0;
    int r;

    if (!is_sending) {
        ssize_t n = recv(fd, scratch, sizeof(scratch), 0);

        s->left[fd] = n > 0 ? n * s->size : -1;
    }
    r = s->left[fd] > 0 && !(events & EPOLLERR) ? send_file(s, fd) : -1;
    if (r < 0) {
        (void)close(fd);
    }
    else if (r == is_sending) {
        watch(s, EPOLL_CTL_MOD, fd, r == 1 ? EPOLLIN : EPOLLOUT);
    }
}

static void
serve(struct server *s)
{
    struct epoll_event events[EVENTS_MAX];

    for (;;) {
        int n = epoll_wait(s->epoll, events, EVENTS_MAX, -1);

        must(n < 0 && errno == EINTR ? 0 : n, "epoll_wait");
        for (int i = 0; i < n; i++) {
            if (events[i].data.fd == s->listener) {
                accept_all(s);
            }
            else {
                handle(s, events[i].data.fd, events[i].events);
            }
        }
    }
}

int
main(int argc, char **argv)
{
    static struct server s;

    die_with_parent();
    if (argc != 2) {
        fputs("usage: file_server BYTES\n", stderr);
        return 2;
    }
    make_file(&s, argv[1]);
    s.epoll = epoll_create1(EPOLL_CLOEXEC);
    must(s.epoll, "epoll_create1");
    s.listener = listen_tcp();
    watch(&s, EPOLL_CTL_ADD, s.listener, EPOLLIN);
    serve(&s);
}
