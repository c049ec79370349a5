/* connect.c -- outgoing connections.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A connector resolves its name, then has one socket at a time, which it owns
 * until the transport takes the fd. It ends in one place, finish(), which
 * tells the user and frees it:
 *
 *   resolving -> trying an address -> ... -> finish
 *       \-- cancel: the lookup's callback    |
 *            trying: cancel closes the socket, and _end is queued
 *
 * Everything here runs from the ready queue, never inside the user's call.
 */

#include "becket/connect.h"

#include <assert.h>
#include <errno.h>
#include <netdb.h>
#include <stdio.h>

#include "becket/resolver.h"
#include "becket/unix_socket.h"

#include "base/sys.h"
#include "net/internal.h"

struct bk_connector {
    bk_io io; /* the address that is tried */
    struct bki_owned owned;
    bk_handle start; /* of a Unix socket: no name has to be resolved */
    bk_handle end;   /* finish after a cancel */
    bk_loop *loop;   /* borrowed */
    const bk_protocol *protocol;
    void *self; /* the user's */
    bk_connect_cb on_connect;
    bk_lookup *lookup;      /* borrowed; NULL once it was delivered */
    struct addrinfo *found; /* owned */
    struct addrinfo *next;  /* of found, or unix_info; what to try next */
    struct addrinfo unix_info;
    struct sockaddr_un unix_address;
    bk_address local; /* len 0: not bound */
    int error;        /* of the address tried last */
    bool is_cancelled;
    bool is_ending; /* on_connect runs, or end is queued */
};

static void
free_connector(bk_connector *connector)
{
    connector->loop->engine->ops->close(&connector->io);
    bki_sys_freeaddrinfo(connector->found);
    bki_sys_free(connector);
}

static void
release_connector(struct bki_owned *owned)
{
    bk_connector *connector = BKI_CONTAINER_OF(owned, bk_connector, owned);

    (void)bk_handle_cancel(&connector->start);
    (void)bk_handle_cancel(&connector->end);
    free_connector(connector);
}

static void
finish(bk_connector *connector, int error, bk_transport *transport)
{
    connector->is_ending = true;
    bki_owned_remove(connector->loop, &connector->owned);
    if (connector->on_connect != NULL) {
        connector->on_connect(connector, error, transport, connector->self);
    }
    free_connector(connector);
}

static void
on_end(bk_handle *handle)
{
    finish(BKI_CONTAINER_OF(handle, bk_connector, end), -ECANCELED, NULL);
}

/* The fd moves from the connector to a transport. */
static void
succeed(bk_connector *connector)
{
    bk_io *io = &connector->io;
    int fd = io->_fd;
    bk_transport *transport;
    int r;

    connector->loop->engine->ops->withdraw(io);
    io->_fd = -1;
    r = bki_transport_new(connector->loop, connector->protocol, connector->self,
                          fd, NULL, &transport);
    if (r < 0) {
        finish(connector, r, NULL);
        return;
    }
    r = bk_transport_start(transport);
    if (r < 0) {
        bk_transport_release(transport);
        transport = NULL;
    }
    finish(connector, r, transport);
}

static int
bind_local(const bk_connector *connector, int fd, int family)
{
    const bk_address *local = &connector->local;

    if (local->len == 0) {
        return 0;
    }
    if (bk_address_family(local) != family) {
        return -EADDRNOTAVAIL; /* asyncio: no matching local address */
    }
    return bki_sys_bind(fd, &local->u.sa, local->len);
}

static int
try_address(bk_connector *connector, const struct addrinfo *info)
{
    bk_io *io = &connector->io;
    int fd =
        bki_sys_socket(info->ai_family, info->ai_socktype, info->ai_protocol);
    int r;

    if (fd < 0) {
        return fd;
    }
    r = bki_io_open_fd(io, fd);
    if (r == 0) {
        r = bind_local(connector, fd, info->ai_family);
    }
    if (r == 0) {
        r = connector->loop->engine->ops->connect(io, info->ai_addr,
                                                  info->ai_addrlen);
    }
    if (r < 0) {
        connector->loop->engine->ops->close(io);
    }
    return r;
}

/* Until one connects, or there are none left. */
static void
try_next(bk_connector *connector)
{
    while (connector->next != NULL) {
        const struct addrinfo *info = connector->next;

        connector->next = info->ai_next;
        connector->error = try_address(connector, info);
        if (connector->error == 0) {
            return;
        }
    }
    finish(connector, connector->error, NULL);
}

static void
connector_on_connect(bk_io *io, int error)
{
    bk_connector *connector = BKI_CONTAINER_OF(io, bk_connector, io);

    if (error == 0) {
        succeed(connector);
        return;
    }
    connector->loop->engine->ops->close(io);
    connector->error = error;
    try_next(connector);
}

static const struct bki_io_ops connector_io_ops = {
    .on_connect = connector_on_connect,
};

static void
on_resolved(bk_lookup *lookup, int error, struct addrinfo *found, void *self)
{
    bk_connector *connector = self;

    (void)lookup;
    connector->lookup = NULL;
    connector->found = found;
    connector->next = found;
    if (connector->is_cancelled) {
        finish(connector, -ECANCELED, NULL);
    }
    else if (error < 0) {
        finish(connector, error, NULL);
    }
    else {
        connector->error = -EADDRNOTAVAIL; /* if there is no address at all */
        try_next(connector);
    }
}

static void
on_start(bk_handle *handle)
{
    try_next(BKI_CONTAINER_OF(handle, bk_connector, start));
}

static int
set_local(bk_connector *connector, const bk_connect_options *options)
{
    if (options->local_host == NULL) {
        return 0;
    }
    return bk_address_parse(options->local_host, options->local_port, AF_UNSPEC,
                            &connector->local);
}

static int
begin(bk_connector *connector, const bk_connect_options *options)
{
    const struct addrinfo hints = {.ai_family = options->family,
                                   .ai_socktype = SOCK_STREAM};
    char service[sizeof("65535")];
    int r = set_local(connector, options);

    if (r < 0) {
        return r;
    }
    (void)snprintf(service, sizeof(service), "%u", (unsigned)options->port);
    return bk_loop_getaddrinfo(connector->loop, options->host, service, &hints,
                               on_resolved, connector, &connector->lookup);
}

/* A connector with nothing to connect to yet. */
static int
new_connector(bk_loop *loop, const bk_protocol *protocol, void *self,
              bk_connect_cb on_connect, bk_connector **ret_connector)
{
    bk_connector *connector;

    if (loop == NULL || protocol == NULL) {
        return -EINVAL;
    }
    if (bk_loop_is_closed(loop)) {
        return -EBADF;
    }
    connector = bki_sys_calloc(1, sizeof(*connector));
    if (connector == NULL) {
        return -ENOMEM;
    }
    bki_io_init(&connector->io, loop, &connector_io_ops);
    bk_handle_init(&connector->start, on_start);
    bk_handle_init(&connector->end, on_end);
    connector->loop = loop;
    connector->protocol = protocol;
    connector->self = self;
    connector->on_connect = on_connect;
    *ret_connector = connector;
    return 0;
}

/* With what its beginning has come to. */
static int
begun(bk_connector *connector, int r, bk_connector **ret_connector)
{
    if (r < 0) {
        free_connector(connector);
        return r;
    }
    bki_owned_add(connector->loop, &connector->owned, release_connector);
    if (ret_connector != NULL) {
        *ret_connector = connector;
    }
    return 0;
}

int
bk_loop_create_connection(bk_loop *loop, const bk_protocol *protocol,
                          void *self, const bk_connect_options *options,
                          bk_connect_cb on_connect,
                          bk_connector **ret_connector)
{
    bk_connector *connector;
    int r;

    if (options == NULL) {
        return -EINVAL;
    }
    r = new_connector(loop, protocol, self, on_connect, &connector);
    if (r < 0) {
        return r;
    }
    return begun(connector, begin(connector, options), ret_connector);
}

static int
begin_unix(bk_connector *connector, const char *path, size_t path_len)
{
    struct addrinfo *info = &connector->unix_info;
    int r = bki_unix_address_init(&connector->unix_address, &info->ai_addrlen,
                                  path, path_len);

    if (r < 0) {
        return r;
    }
    info->ai_family = AF_UNIX;
    info->ai_socktype = SOCK_STREAM;
    info->ai_addr = (struct sockaddr *)&connector->unix_address;
    connector->next = info;
    return bk_loop_schedule(connector->loop, &connector->start);
}

int
bk_loop_create_unix_connection(bk_loop *loop, const bk_protocol *protocol,
                               void *self, const char *path, size_t path_len,
                               bk_connect_cb on_connect,
                               bk_connector **ret_connector)
{
    bk_connector *connector;
    int r = new_connector(loop, protocol, self, on_connect, &connector);

    if (r < 0) {
        return r;
    }
    return begun(connector, begin_unix(connector, path, path_len),
                 ret_connector);
}

void
bk_connector_cancel(bk_connector *connector)
{
    if (connector->is_ending || connector->is_cancelled) {
        return;
    }
    connector->is_cancelled = true;
    if (connector->lookup != NULL) {
        bk_lookup_cancel(connector->lookup);
        return;
    }
    (void)bk_handle_cancel(&connector->start);
    connector->loop->engine->ops->close(&connector->io);
    (void)bk_loop_schedule(connector->loop, &connector->end);
}
