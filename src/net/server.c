/* server.c -- a transport with a protocol for each accepted connection.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Connections do not know their server: it may be closed and freed while they
 * live. It has a list of them, which each leaves when it ends. The loop knows
 * its servers, and closes those that are left when it is closed, so that a
 * server may be freed before or after its loop.
 */

#include "becket/server.h"

#include <assert.h>
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
    bk_loop *loop;               /* borrowed; NULL once closed */
    const bk_protocol *protocol; /* borrowed */
    void *self;                  /* the user's */
    struct bki_server_calls calls;
    struct bki_socket_file *file;  /* owned: of a Unix socket; or NULL */
    struct bki_client *clients;    /* borrowed: its connections that live */
    size_t count;                  /* of sockets that are open */
    size_t sockets_max;            /* how many there is room for */
    struct server_socket *sockets; /* owned */
};

static int
choose_protocol(bk_server *server, bk_transport *transport)
{
    const bk_protocol *protocol = server->protocol;
    void *self = server->self;
    int r;

    if (server->calls.protocol_factory == NULL) {
        return 0;
    }
    r = server->calls.protocol_factory(server, &protocol, &self, server->self);
    if (r == 0) {
        bk_transport_set_protocol(transport, protocol, self);
    }
    return r;
}

static void
tell_error(bk_server *server, int error)
{
    if (server->calls.on_error != NULL) {
        server->calls.on_error(server, error, server->self);
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
        return;
    }
    bki_client_add(&server->clients, bki_transport_client(transport));
}

static void
release_server(struct bki_owned *owned)
{
    bk_server_close(BKI_CONTAINER_OF(owned, bk_server, owned));
}

int
bki_server_new(bk_loop *loop, const bk_protocol *protocol, void *self,
               const struct bki_server_calls *calls, size_t sockets_max,
               bk_server **ret_server)
{
    bk_server *server;

    if (loop == NULL || protocol == NULL) {
        return -EINVAL;
    }
    if (bk_loop_is_closed(loop)) {
        return -EBADF;
    }
    server = bki_sys_calloc(1, sizeof(*server));
    if (server == NULL) {
        return -ENOMEM;
    }
    server->sockets = bki_sys_calloc(sockets_max, sizeof(*server->sockets));
    if (server->sockets == NULL) {
        bki_sys_free(server);
        return -ENOMEM;
    }
    server->sockets_max = sockets_max;
    server->loop = loop;
    server->protocol = protocol;
    server->self = self;
    server->calls = *calls;
    bki_owned_add(loop, &server->owned, release_server);
    *ret_server = server;
    return 0;
}

int
bki_server_add(bk_server *server, int fd, int backlog)
{
    struct server_socket *slot = &server->sockets[server->count];
    int r;

    assert(server->count < server->sockets_max);
    r = bk_listener_init_fd(&slot->listener, server->loop, fd, backlog,
                            server_on_accept);
    if (r == 0) {
        slot->server = server;
        server->count++;
    }
    return r;
}

int
bki_server_listen(bk_server *server, int backlog)
{
    for (size_t i = 0; i < server->count; i++) {
        bk_listener *listener = &server->sockets[i].listener;
        int r = bki_sys_listen(bk_listener_fileno(listener), backlog);

        if (r == 0) {
            r = bk_listener_start(listener);
        }
        if (r < 0) {
            return r;
        }
    }
    return 0;
}

void
bki_server_own_file(bk_server *server, struct bki_socket_file *file)
{
    assert(server->file == NULL);
    server->file = file;
}

/* --- servers of addresses --- */

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
bind_one(bk_server *server, const struct addrinfo *info,
         const bk_server_options *options, int *skipped)
{
    const struct bki_bind_options bind_options = {
        .has_reuse_address = !options->has_reuse_address_off,
        .has_reuse_port = options->has_reuse_port,
        .has_keep_alive = options->has_keep_alive,
    };
    int fd =
        bki_sys_socket(info->ai_family, info->ai_socktype, info->ai_protocol);
    int r;

    if (fd < 0) {
        *skipped = fd;
        return 0;
    }
    r = bki_socket_bind(fd, info, &bind_options);
    if (r < 0) {
        (void)bki_sys_close(fd);
        *skipped = r;
        return r == -EADDRNOTAVAIL ? 0 : r;
    }
    return bki_server_add(server, fd, options->backlog);
}

static int
bind_all(bk_server *server, const struct addrinfo *first,
         const bk_server_options *options)
{
    int skipped = -EADDRNOTAVAIL;

    for (const struct addrinfo *info = first; info != NULL;
         info = info->ai_next) {
        int r = 0;

        if (!is_repeated(first, info)) {
            r = bind_one(server, info, options, &skipped);
        }
        if (r < 0) {
            return r;
        }
    }
    return server->count > 0 ? 0 : skipped;
}

static int
create_for(bk_loop *loop, const bk_protocol *protocol, void *self,
           const struct addrinfo *first, const bk_server_options *options,
           bk_server **ret_server)
{
    const struct bki_server_calls calls = {
        .protocol_factory = options->protocol_factory,
        .on_error = options->on_error,
    };
    size_t count = 0;
    bk_server *server;
    int r;

    for (const struct addrinfo *info = first; info != NULL;
         info = info->ai_next) {
        count++;
    }
    r = bki_server_new(loop, protocol, self, &calls, count, &server);
    if (r < 0) {
        return r;
    }
    r = bind_all(server, first, options);
    if (r == 0) {
        r = bki_server_listen(server, options->backlog);
    }
    if (r < 0) {
        bk_server_free(server);
        return r;
    }
    *ret_server = server;
    return 0;
}

static bool
is_valid(const bk_server_options *options)
{
    return options != NULL && options->backlog >= 0 &&
           (options->family == AF_UNSPEC || options->family == AF_INET ||
            options->family == AF_INET6);
}

static int
resolve(const bk_server_options *options, struct addrinfo **ret_first)
{
    const struct addrinfo hints = {.ai_family = options->family,
                                   .ai_socktype = SOCK_STREAM,
                                   .ai_flags = AI_PASSIVE};
    const char *host = options->host;
    char service[sizeof("65535")];

    if (host != NULL && host[0] == '\0') {
        host = NULL;
    }
    (void)snprintf(service, sizeof(service), "%u", (unsigned)options->port);
    return bki_sys_getaddrinfo(host, service, &hints, ret_first);
}

int
bk_loop_create_server(bk_loop *loop, const bk_protocol *protocol, void *self,
                      const bk_server_options *options, bk_server **ret_server)
{
    struct addrinfo *first;
    bk_server_options chosen;
    int r;

    if (loop == NULL || protocol == NULL || ret_server == NULL ||
        !is_valid(options)) {
        return -EINVAL;
    }
    if (bk_loop_is_closed(loop)) {
        return -EBADF;
    }
    chosen = *options;
    if (chosen.backlog == 0) {
        chosen.backlog = BACKLOG_DEFAULT;
    }
    r = resolve(&chosen, &first);
    if (r < 0) {
        return r;
    }
    r = create_for(loop, protocol, self, first, &chosen, ret_server);
    bki_sys_freeaddrinfo(first);
    return r;
}

void
bk_server_close(bk_server *server)
{
    bool is_forked;

    if (server->loop == NULL) {
        return;
    }
    is_forked = bki_loop_is_forked(server->loop);
    bki_owned_remove(server->loop, &server->owned);
    server->loop = NULL;
    for (size_t i = 0; i < server->count; i++) {
        bk_listener_close(&server->sockets[i].listener);
    }
    if (is_forked) {
        bki_sys_free(server->file); /* the file is the parent's */
    }
    else {
        bki_socket_file_remove(server->file);
    }
    server->file = NULL;
}

/* Callbacks on the way may end any connection, also one whose turn is yet to
 * come: each stays in one list or the other until it leaves by itself. */
static void
end_clients(bk_server *server, void (*end)(bk_transport *transport))
{
    struct bki_client *rest = server->clients;

    server->clients = NULL;
    if (rest != NULL) {
        rest->link = &rest;
    }
    while (rest != NULL) {
        struct bki_client *client = rest;

        bki_client_remove(client);
        bki_client_add(&server->clients, client);
        end(bki_client_transport(client));
    }
}

static void
abort_client(bk_transport *transport)
{
    bk_transport_abort(transport, 0);
}

void
bk_server_close_clients(bk_server *server)
{
    end_clients(server, bk_transport_close);
}

void
bk_server_abort_clients(bk_server *server)
{
    end_clients(server, abort_client);
}

void
bk_server_free(bk_server *server)
{
    if (server == NULL) {
        return;
    }
    bk_server_close(server);
    while (server->clients != NULL) {
        bki_client_remove(server->clients);
    }
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
