/* endpoint.c -- a UDP endpoint of the library's own.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The local and the remote host may have several addresses each. As asyncio
 * does, the two are paired by family, the first of each, and the pairs are
 * tried until a socket can be bound and connected so.
 */

#include <errno.h>
#include <netdb.h>
#include <stdio.h>

#include "base/sys.h"
#include "net/datagram.h"

struct owned_endpoint {
    bk_datagram_transport transport; /* first: it is freed by its address */
    struct bki_owned owned;
};

/* What is tried, and where to. */
struct pair {
    int family;
    bk_address local;  /* len 0: not bound */
    bk_address remote; /* len 0: none */
};

enum { PAIRS_MAX = 2 }; /* INET and INET6 */

static void
release_endpoint(struct bki_owned *owned)
{
    struct owned_endpoint *self =
        BKI_CONTAINER_OF(owned, struct owned_endpoint, owned);

    bk_datagram_release(&self->transport);
}

void
bki_datagram_free(bk_datagram_transport *transport)
{
    struct owned_endpoint *self =
        BKI_CONTAINER_OF(transport, struct owned_endpoint, transport);

    bki_owned_remove(transport->_io._loop, &self->owned);
    bki_sys_free(self);
}

/* --- addresses --- */

/* The pair of this family, made if need be. */
static struct pair *
find_pair(struct pair *pairs, int *count, int family)
{
    for (int i = 0; i < *count; i++) {
        if (pairs[i].family == family) {
            return &pairs[i];
        }
    }
    if (*count == PAIRS_MAX) {
        return NULL;
    }
    pairs[*count] = (struct pair){.family = family};
    return &pairs[(*count)++];
}

static int
resolve(const char *host, uint16_t port, int family, bool is_remote,
        struct pair *pairs, int *count)
{
    const struct addrinfo hints = {.ai_family = family,
                                   .ai_socktype = SOCK_DGRAM};
    char service[sizeof("65535")];
    struct addrinfo *first;
    int r;

    if (host == NULL) {
        return 0;
    }
    (void)snprintf(service, sizeof(service), "%u", (unsigned)port);
    r = bki_sys_getaddrinfo(host, service, &hints, &first);
    if (r < 0) {
        return r;
    }
    for (const struct addrinfo *info = first; info != NULL;
         info = info->ai_next) {
        struct pair *pair = find_pair(pairs, count, info->ai_family);
        bk_address *end = NULL;

        if (pair != NULL) {
            end = is_remote ? &pair->remote : &pair->local;
        }
        if (end != NULL && end->len == 0) {
            (void)bki_address_from_sockaddr(info->ai_addr, info->ai_addrlen,
                                            end);
        }
    }
    bki_sys_freeaddrinfo(first);
    return 0;
}

static bool
is_complete(const struct pair *pair, const bk_datagram_options *options)
{
    return (options->local_host == NULL || pair->local.len > 0) &&
           (options->remote_host == NULL || pair->remote.len > 0);
}

/* --- the socket --- */

static int
set_up(int fd, const struct pair *pair, const bk_datagram_options *options)
{
    int r = 0;

    if (options->has_reuse_port) {
        r = bki_sys_setsockopt(fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (r == 0 && options->has_broadcast) {
        r = bki_sys_setsockopt(fd, SOL_SOCKET, SO_BROADCAST, 1);
    }
    if (r == 0 && pair->local.len > 0) {
        r = bki_sys_bind(fd, &pair->local.u.sa, pair->local.len);
    }
    if (r == 0 && pair->remote.len > 0 && !options->has_broadcast) {
        r = bki_sys_connect(fd, &pair->remote.u.sa, pair->remote.len);
    }
    return r;
}

/* The fd or the code. */
static int
open_pair(const struct pair *pair, const bk_datagram_options *options)
{
    int fd = bki_sys_socket(pair->family, SOCK_DGRAM, 0);
    int r;

    if (fd < 0) {
        return fd;
    }
    r = set_up(fd, pair, options);
    if (r < 0) {
        (void)bki_sys_close(fd);
        return r;
    }
    return fd;
}

/* The first failure counts, as in asyncio. *ret_pair is what was opened. */
static int
open_first(const struct pair *pairs, int count,
           const bk_datagram_options *options, const struct pair **ret_pair)
{
    int error = 0;

    for (int i = 0; i < count; i++) {
        int fd;

        if (!is_complete(&pairs[i], options)) {
            continue;
        }
        fd = open_pair(&pairs[i], options);
        if (fd >= 0) {
            *ret_pair = &pairs[i];
            return fd;
        }
        error = error == 0 ? fd : error;
    }
    return error == 0 ? -EADDRNOTAVAIL : error;
}

static int
open_endpoint(const bk_datagram_options *options, bk_address *ret_destination)
{
    struct pair pairs[PAIRS_MAX];
    const struct pair *opened;
    int count = 0;
    int r;

    if (options->local_host == NULL && options->remote_host == NULL) {
        (void)find_pair(pairs, &count, options->family);
    }
    r = resolve(options->local_host, options->local_port, options->family,
                false, pairs, &count);
    if (r == 0) {
        r = resolve(options->remote_host, options->remote_port, options->family,
                    true, pairs, &count);
    }
    if (r < 0) {
        return r;
    }
    r = open_first(pairs, count, options, &opened);
    if (r >= 0 && options->has_broadcast) {
        *ret_destination = opened->remote;
    }
    return r;
}

/* --- making it --- */

static bool
is_valid(const bk_datagram_options *options)
{
    bool has_host = options->local_host != NULL || options->remote_host != NULL;

    return options->family == AF_INET || options->family == AF_INET6 ||
           (options->family == AF_UNSPEC && has_host);
}

/* Takes the fd. */
static int
start_endpoint(struct owned_endpoint *made, int fd, bk_loop *loop,
               const bk_datagram_protocol *protocol, void *self)
{
    int r = bk_datagram_init(&made->transport, loop, protocol, self);

    if (r < 0) {
        (void)bki_sys_close(fd);
        return r;
    }
    r = bk_datagram_open_fd(&made->transport, fd);
    if (r == 0) {
        r = bk_datagram_start(&made->transport);
    }
    if (r < 0) {
        bk_datagram_release(&made->transport);
    }
    return r;
}

int
bk_loop_create_datagram_endpoint(bk_loop *loop,
                                 const bk_datagram_protocol *protocol,
                                 void *self, const bk_datagram_options *options,
                                 bk_datagram_transport **ret_transport)
{
    bk_address destination = {0};
    struct owned_endpoint *made;
    int r;

    if (loop == NULL || protocol == NULL || options == NULL ||
        ret_transport == NULL || !is_valid(options)) {
        return -EINVAL;
    }
    if (bk_loop_is_closed(loop)) {
        return -EBADF;
    }
    made = bki_sys_malloc(sizeof(*made));
    if (made == NULL) {
        return -ENOMEM;
    }
    r = open_endpoint(options, &destination);
    if (r >= 0) {
        r = start_endpoint(made, r, loop, protocol, self);
    }
    if (r < 0) {
        bki_sys_free(made);
        return r;
    }
    made->transport._destination = destination;
    made->transport._is_owned = true;
    bki_owned_add(loop, &made->owned, release_endpoint);
    *ret_transport = &made->transport;
    return 0;
}
