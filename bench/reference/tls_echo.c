/* SPDX-License-Identifier: MIT */
/* The least that an echo server over TLS can do.
 *
 *     tls_echo CERTIFICATE KEY
 *
 * One thread, level-triggered epoll, OpenSSL on the socket. It reads ahead, so
 * that a record is one receive; one scratch buffer holds what was decrypted.
 * Prints its port.
 *
 * Design notes. A connection owns memory only while the kernel does not take
 * its reply; until that is out, nothing more is read from it.
 */
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include "common.h"

#define SCRATCH_BYTES (256 * 1024)
#define EVENTS_MAX    256

struct connection {
    SSL *ssl; /* owned */
    int fd;
    char *rest;       /* owned: what the kernel did not take, or NULL */
    size_t rest_len;  /* bytes left of it */
    size_t rest_from; /* where they start */
};

static char scratch[SCRATCH_BYTES];

static void
require(int is_good, const char *what)
{
    if (!is_good) {
        fprintf(stderr, "%s: ", what);
        ERR_print_errors_fp(stderr);
        exit(1);
    }
}

static SSL_CTX *
make_context(const char *certificate, const char *key)
{
    SSL_CTX *context = SSL_CTX_new(TLS_server_method());

    require(context != NULL, "context");
    require(SSL_CTX_use_certificate_chain_file(context, certificate) == 1,
            certificate);
    require(SSL_CTX_use_PrivateKey_file(context, key, SSL_FILETYPE_PEM) == 1,
            key);
    SSL_CTX_set_mode(context, SSL_MODE_ENABLE_PARTIAL_WRITE |
                                  SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER);
    SSL_CTX_set_read_ahead(context, 1);
    return context;
}

static void
watch(int epoll, int operation, struct connection *c, uint32_t events)
{
    struct epoll_event event = {.events = events, .data.ptr = c};

    must(epoll_ctl(epoll, operation, c->fd, &event), "epoll_ctl");
}

static void
accept_all(int epoll, int listener, SSL_CTX *context)
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
        c->ssl = SSL_new(context);
        require(c->ssl != NULL && SSL_set_fd(c->ssl, fd) == 1, "connection");
        SSL_set_accept_state(c->ssl); /* the first read shakes hands */
        watch(epoll, EPOLL_CTL_ADD, c, EPOLLIN);
    }
}

static void
drop(struct connection *c)
{
    SSL_free(c->ssl);
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

/* As many bytes as the kernel takes; the rest is kept. */
static int
send_some(struct connection *c, const char *data, size_t len, size_t *ret_sent)
{
    size_t n;

    *ret_sent = 0;
    while (*ret_sent < len) {
        if (SSL_write_ex(c->ssl, data + *ret_sent, len - *ret_sent, &n) != 1) {
            return SSL_get_error(c->ssl, 0) == SSL_ERROR_WANT_WRITE ? 0 : -1;
        }
        *ret_sent += n;
    }
    return 0;
}

/* 1: there may be more to read, 0: not now, -1: the connection is lost. */
static int
echo_once(int epoll, struct connection *c)
{
    size_t n, sent;

    if (SSL_read_ex(c->ssl, scratch, sizeof(scratch), &n) != 1) {
        return SSL_get_error(c->ssl, 0) == SSL_ERROR_WANT_READ ? 0 : -1;
    }
    if (send_some(c, scratch, n, &sent) < 0) {
        return -1;
    }
    if (sent < n) {
        keep_rest(epoll, c, scratch + sent, n - sent);
        return 0;
    }
    return SSL_has_pending(c->ssl);
}

static void
echo(int epoll, struct connection *c)
{
    int r;

    do {
        r = echo_once(epoll, c);
    } while (r > 0);
    if (r < 0) {
        ERR_clear_error();
        drop(c);
    }
}

static void
send_rest(int epoll, struct connection *c)
{
    size_t n;

    if (send_some(c, c->rest + c->rest_from, c->rest_len, &n) < 0) {
        ERR_clear_error();
        drop(c);
        return;
    }
    c->rest_from += n;
    c->rest_len -= n;
    if (c->rest_len > 0) {
        return;
    }
    free(c->rest);
    c->rest = NULL;
    watch(epoll, EPOLL_CTL_MOD, c, EPOLLIN);
    if (SSL_has_pending(c->ssl)) {
        echo(epoll, c); /* of this the kernel does not tell any more */
    }
}

static void
serve(int epoll, int listener, SSL_CTX *context)
{
    struct epoll_event events[EVENTS_MAX];

    for (;;) {
        int n = epoll_wait(epoll, events, EVENTS_MAX, -1);

        must(n < 0 && errno == EINTR ? 0 : n, "epoll_wait");
        for (int i = 0; i < n; i++) {
            struct connection *c = events[i].data.ptr;

            if (c == NULL) {
                accept_all(epoll, listener, context);
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
    int epoll = epoll_create1(EPOLL_CLOEXEC);
    SSL_CTX *context;
    int listener;

    die_with_parent();
    if (argc != 3) {
        fputs("usage: tls_echo CERTIFICATE KEY\n", stderr);
        return 2;
    }
    must(epoll, "epoll_create1");
    must(signal(SIGPIPE, SIG_IGN) == SIG_ERR ? -1 : 0, "signal");
    context = make_context(argv[1], argv[2]);
    listener = listen_tcp();
    must(epoll_ctl(epoll, EPOLL_CTL_ADD, listener, &event), "epoll_ctl");
    serve(epoll, listener, context);
}
