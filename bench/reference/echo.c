/* SPDX-License-Identifier: MIT */
/* The least that an echo server can do: what every loop is held against.
 *
 *     echo [--unix]
 *
 * One thread, level-triggered epoll, one scratch buffer for all connections,
 * one recv and one send per message. Prints its port, or its abstract name, and
 * serves until it is killed or its parent dies.
 *
 * Design notes. A connection owns memory only while the kernel does not take
 * its reply; until that is out, nothing more is read from it.
 */
#include <errno.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

/* As much as becket's own scratch buffer takes in one receive. */
#define SCRATCH_BYTES (256 * 1024)
#define EVENTS_MAX    256

struct connection {
    int fd;
    char *rest;       /* owned: what the kernel did not take, or NULL */
    size_t rest_len;  /* bytes left of it */
    size_t rest_from; /* where they start */
};

static char scratch[SCRATCH_BYTES];

static void
watch(int epoll, int operation, struct connection *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};

    must(epoll_ctl(epoll, operation, c->fd, &event), "epoll_ctl");
}

static void
accept_all(int epoll, int listener)
{
    for (;;) {
        int fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC);
        struct connection *c;

        if (fd < 0 && errno == EAGAIN) {
            return;
        }
        must(fd, "accept4");
        c = calloc(1, sizeof(*c));
        if (c == NULL) {
            fail("calloc");
        }
        c->fd = fd;
        watch(epoll, EPOLL_CTL_ADD, c, EPOLLIN);
    }
}

static void
drop(struct connection *c)
{
    (void)close(c->fd);
    free(c->rest);
    free(c);
}

static void
keep_rest(int epoll, struct connection *c, const char *data, size_t len)
{
    c->rest = malloc(len);
    if (c->rest == NULL) {
        fail("malloc");
    }
    memcpy(c->rest, data, len);
    c->rest_len = len;
    c->rest_from = 0;
    watch(epoll, EPOLL_CTL_MOD, c, EPOLLOUT);
}

static void
send_rest(int epoll, struct connection *c)
{
    ssize_t n = send(c->fd, c->rest + c->rest_from, c->rest_len, MSG_NOSIGNAL);

    if (n < 0) {
        drop(c);
        return;
    }
    c->rest_from += (size_t)n;
    c->rest_len -= (size_t)n;
    if (c->rest_len == 0) {
        free(c->rest);
        c->rest = NULL;
        watch(epoll, EPOLL_CTL_MOD, c, EPOLLIN);
    }
}

static void
echo(int epoll, struct connection *c)
{
    ssize_t n = recv(c->fd, scratch, sizeof(scratch), 0);
    ssize_t sent;

    if (n <= 0) {
        drop(c);
        return;
    }
    sent = send(c->fd, scratch, (size_t)n, MSG_NOSIGNAL);
    if (sent == n) {
        return;
    }
    if (sent < 0 && errno != EAGAIN) {
        drop(c);
        return;
    }
    sent = sent < 0 ? 0 : sent;
    keep_rest(epoll, c, scratch + sent, (size_t)(n - sent));
}

static void
serve(int epoll, int listener)
{
    struct epoll_event events[EVENTS_MAX];

    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS_MAX, -1);

        must(n < 0 && errno == EINTR ? 0 : n, "epoll_wait");
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;

            if (c == NULL) {
                accept_all(epoll, listener);
            }
            else if (c->rest != NULL) {
                send_rest(epoll, c);
            }
            else {
                echo(epoll, c);
            }
        }
    }
}

int
main(int argc, char **argv)
{
    struct epoll_event event = {.events = EPOLLIN, .data.ptr = NULL};
    bool is_unix = argc > 1 && strcmp(argv[1], "--unix") == 0;
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    int listener;

    die_with_parent();
    must(epoll, "epoll_create1");
    listener = is_unix ? listen_unix() : listen_tcp();
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event), "epoll_ctl");
    serve(epoll, listener);
}
