/* owned.c -- what the library allocates for C users.
 *
 * SPDX-License-Identifier: MIT
 *
 * Transports of servers and connectors end by themselves, after
 * connection_lost. Those that are left when the loop closes would end never,
 * so the loop keeps a list and releases them.
 */

#include <errno.h>

#include "base/sys.h"
#include "net/internal.h"

static void
free_owned(bk_loop *loop)
{
    while (loop->owned_head != NULL) {
        struct bki_owned *owned = loop->owned_head;

        bki_owned_remove(loop, owned);
        owned->release(owned);
    }
}

void
bki_owned_add(bk_loop *loop, struct bki_owned *owned,
              void (*release)(struct bki_owned *owned))
{
    owned->release = release;
    owned->prev = NULL;
    owned->next = loop->owned_head;
    if (owned->next != NULL) {
        owned->next->prev = owned;
    }
    loop->owned_head = owned;
    loop->free_owned = free_owned;
}

void
bki_owned_remove(bk_loop *loop, struct bki_owned *owned)
{
    if (owned->prev != NULL) {
        owned->prev->next = owned->next;
    }
    else if (loop->owned_head == owned) {
        loop->owned_head = owned->next;
    }
    if (owned->next != NULL) {
        owned->next->prev = owned->prev;
    }
    owned->next = NULL;
    owned->prev = NULL;
}

struct owned_transport {
    bk_transport transport; /* first: a transport is freed by its address */
    struct bki_owned owned;
    struct bki_client client; /* of a server; or in no list */
};

void
bki_client_add(struct bki_client **head, struct bki_client *client)
{
    client->next = *head;
    client->link = head;
    if (client->next != NULL) {
        client->next->link = &client->next;
    }
    *head = client;
}

void
bki_client_remove(struct bki_client *client)
{
    if (client->link == NULL) {
        return;
    }
    *client->link = client->next;
    if (client->next != NULL) {
        client->next->link = client->link;
    }
    client->next = NULL;
    client->link = NULL;
}

struct bki_client *
bki_transport_client(bk_transport *transport)
{
    return &BKI_CONTAINER_OF(transport, struct owned_transport, transport)
                ->client;
}

bk_transport *
bki_client_transport(struct bki_client *client)
{
    return &BKI_CONTAINER_OF(client, struct owned_transport, client)->transport;
}

static void
release_transport(struct bki_owned *owned)
{
    struct owned_transport *self =
        BKI_CONTAINER_OF(owned, struct owned_transport, owned);

    bk_transport_release(&self->transport);
}

void
bki_transport_free(bk_transport *transport)
{
    struct owned_transport *self =
        BKI_CONTAINER_OF(transport, struct owned_transport, transport);

    bki_client_remove(&self->client);
    bki_owned_remove(transport->_io._loop, &self->owned);
    bki_sys_free(self);
}

int
bki_transport_alloc(bk_loop *loop, const bk_protocol *protocol, void *self,
                    bk_transport **ret_transport)
{
    struct owned_transport *made = bki_sys_malloc(sizeof(*made));
    int r;

    if (made == NULL) {
        return -ENOMEM;
    }
    r = bk_transport_init(&made->transport, loop, protocol, self);
    if (r < 0) {
        bki_sys_free(made);
        return r;
    }
    made->transport._is_owned = true;
    made->client = (struct bki_client){0};
    bki_owned_add(loop, &made->owned, release_transport);
    *ret_transport = &made->transport;
    return 0;
}

int
bki_transport_new(bk_loop *loop, const bk_protocol *protocol, void *self,
                  int fd, const bk_address *peer, bk_transport **ret_transport)
{
    bk_transport *transport;
    int r = bki_transport_alloc(loop, protocol, self, &transport);

    if (r < 0) {
        (void)bki_sys_close(fd);
        return r;
    }
    r = bk_transport_open_fd(transport, fd);
    if (r < 0) {
        bk_transport_release(transport);
        return r;
    }
    if (peer != NULL) {
        bk_transport_set_peername(transport, peer);
    }
    *ret_transport = transport;
    return 0;
}
