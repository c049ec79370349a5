/* server.c -- a transport with a protocol for each accepted connection.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Connections do not know their server: it may be closed and freed while they
 * live. The loop knows its servers, and closes those that are left when it is
 * closed, so that a server may be freed before or after its loop.
 */

#include "becket/server.h"

#include <errno.h>
#include <netdb.h>
#include <stdio.h>
#include <string.h>

#include "base/sys.h"
#include "net/internal.h"

/* asyncio's default for create_server(backlog=...). */
#define BACKLOG_DEFAULT 100

/* One listening socket of a server. */
struct server_socket {
    bk_listener listener;
    bk_server *server; /* borrowed: it owns this */
};

struct bk_server {
    struct bki_owned owned;
    bk_loop *loop;                 /* borrowed; NULL once closed */
    const bk_protocol *protocol;   /* borrowed */
    void *self;                    /* the user's */
    bk_server_options options;     /* host is not kept */
    size_t count;                  /* of sockets that are open */
    struct server_socket *sockets; /* owned */
};

static int
choose_protocol(bk_server *server, bk_transport *transport)
{
    const bk_protocol *protocol = server->protocol;
    void *self = server->self;
    int r;

    if (server->options.protocol_factory == NULL) {
        return 0;
    }
    r = server->options.protocol_factory(server, &protocol, &self,
                                         server->self);
    if (r == 0) {
        bk_transport_set_protocol(transport, protocol, self);
    }
    return r;
}

static void
tell_error(bk_server *server, int error)
{
    if (server->options.on_error != NULL) {
        server->options.on_error(server, error, server->self);
    }
}

/* The factory is asked when nothing can fail any more: what it makes is only
 * given back through connection_lost. */
static void
server_on_accept(bk_listener *listener, int fd, const bk_address *peer)
{
    bk_server *server =
        BKI_CONTAINER_OF(listener, struct server_socket, listener)->server;
    bk_transport *transport;
    int r = fd;

    if (fd >= 0) {
        r = bki_transport_new(server->loop, server->protocol, server->self, fd,
                              peer, &transport);
    }
    if (r < 0) {
        tell_error(server, r);
        return;
    }
    r = bk_transport_start(transport);
    if (r == 0) {
        r = choose_protocol(server, transport);
    }
    if (r < 0) {
        bk_transport_release(transport);
    }
}

static bool
is_same(const struct addrinfo *a, const struct addrinfo *b)
{
    return a->ai_family == b->ai_family && a->ai_socktype == b->ai_socktype &&
           a->ai_protocol == b->ai_protocol && a->ai_addrlen == b->ai_addrlen &&
           memcmp(a->ai_addr, b->ai_addr, a->ai_addrlen) == 0;
}

/* asyncio makes a set of the addresses. */
static bool
is_repeated(const struct addrinfo *first, const struct addrinfo *info)
{
    for (const struct addrinfo *other = first; other != info;
         other = other->ai_next) {
        if (is_same(other, info)) {
            return true;
        }
    }
    return false;
}

/* Bind one address. Like asyncio, pass over families that the system does not
 * have and addresses that no interface has; *skipped remembers why. */
static int
bind_one(bk_server *server, const struct addrinfo *info, int *skipped)
{
    struct server_socket *slot = &server->sockets[server->count];
    const struct bki_bind_options options = {
        .has_reuse_address = !server->options.has_reuse_address_off,
        .has_reuse_port = server->options.has_reuse_port,
        .has_keep_alive = server->options.has_keep_alive,
    };
    int fd =
        bki_sys_socket(info->ai_family, info->ai_socktype, info->ai_protocol);
    int r;

    if (fd < 0) {
        *skipped = fd;
        return 0;
    }
    r = bki_socket_bind(fd, info, &options);
    if (r < 0) {
        (void)bki_sys_close(fd);
        *skipped = r;
        return r == -EADDRNOTAVAIL ? 0 : r;
    }
    r = bk_listener_init_fd(&slot->listener, server->loop, fd,
                            server->options.backlog, server_on_accept);
    if (r == 0) {
        slot->server = server;
        server->count++;
    }
    return r;
}

static int
bind_all(bk_server *server, const struct addrinfo *first)
{
    int skipped = -EADDRNOTAVAIL;

    for (const struct addrinfo *info = first; info != NULL;
         info = info->ai_next) {
        int r = 0;

        if (!is_repeated(first, info)) {
            r = bind_one(server, info, &skipped);
        }
        if (r < 0) {
            return r;
        }
    }
    return server->count > 0 ? 0 : skipped;
}

/* Only once all are bound: nobody connects to a server that then fails. */
static int
listen_all(bk_server *server)
{
    for (size_t i = 0; i < server->count; i++) {
        bk_listener *listener = &server->sockets[i].listener;
        int r = bki_sys_listen(bk_listener_fileno(listener),
                               server->options.backlog);

        if (r == 0) {
            r = bk_listener_start(listener);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

static int
open_addresses(bk_server *server, const struct addrinfo *first)
{
    size_t count = 0;
    int r;

    for (const struct addrinfo *info = first; info != NULL;
         info = info->ai_next) {
        count++;
    }
    server->sockets = bki_sys_calloc(count, sizeof(*server->sockets));
    if (server->sockets == NULL) {
        return -ENOMEM;
    }
    r = bind_all(server, first);
    return r < 0 ? r : listen_all(server);
}

static int
open_server(bk_server *server)
{
    const struct addrinfo hints = {.ai_family = server->options.family,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE};
    const char *host = server->options.host;
    struct addrinfo *first;
    char service[sizeof("65535")];
    int r;

    if (host != NULL && host[0] == '\0') {
        host = NULL;
    }
    (void)snprintf(service, sizeof(service), "%u",
                   (unsigned)server->options.port);
    r = bki_sys_getaddrinfo(host, service, &hints, &first);
    if (r < 0) {
        return r;
    }
    r = open_addresses(server, first);
    bki_sys_freeaddrinfo(first);
    return r;
}

static void
release_server(struct bki_owned *owned)
{
    bk_server_close(BKI_CONTAINER_OF(owned, bk_server, owned));
}

static bool
is_valid(const bk_server_options *options)
{
    return options != NULL && options->backlog >= 0 &&
           (options->family == AF_UNSPEC || options->family == AF_INET ||
            options->family == AF_INET6);
}

int
bk_loop_create_server(bk_loop *loop, const bk_protocol *protocol, void *self,
                      const bk_server_options *options, bk_server **ret_server)
{
    bk_server *server;
    int r;

    if (loop == NULL || protocol == NULL || ret_server == NULL ||
        !is_valid(options)) {
        return -EINVAL;
    }
    if (bk_loop_is_closed(loop)) {
        return -EBADF;
    }
    server = bki_sys_calloc(1, sizeof(*server));
    if (server == NULL) {
        return -ENOMEM;
    }
    server->loop = loop;
    server->protocol = protocol;
    server->self = self;
    server->options = *options;
    if (server->options.backlog == 0) {
        server->options.backlog = BACKLOG_DEFAULT;
    }
    bki_owned_add(loop, &server->owned, release_server);
    r = open_server(server);
    server->options.host = NULL;
    if (r < 0) {
        bk_server_free(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

void
bk_server_close(bk_server *server)
{
    if (server->loop == NULL) {
        return;
    }
    bki_owned_remove(server->loop, &server->owned);
    server->loop = NULL;
    for (size_t i = 0; i < server->count; i++) {
        bk_listener_close(&server->sockets[i].listener);
    }
}

void
bk_server_free(bk_server *server)
{
    if (server == NULL) {
        return;
    }
    bk_server_close(server);
    bki_sys_free(server->sockets);
    bki_sys_free(server);
}

int
bk_server_getsockname(const bk_server *server, size_t index,
                      bk_address *ret_address)
{
    if (index >= server->count) {
        return -ENOENT;
    }
    return bki_socket_get_name(
        bk_listener_fileno(&server->sockets[index].listener), false,
        ret_address);
}
