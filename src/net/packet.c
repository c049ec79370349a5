/* packet.c -- datagrams that wait.
 *
 * SPDX-License-Identifier: MIT
 */

#include <assert.h>
#include <string.h>

#include "base/slab.h"
#include "base/sys.h"
#include "net/datagram.h"

/* Freed packets to keep, 112 bytes each: a burst is answered without malloc,
 * and so is one while another waits. */
#define PACKETS_CACHED_MAX (2 * BKI_BURST_MAX)

static struct bki_packet *
alloc_packet(bk_loop *loop, size_t behind)
{
    struct bki_packet *packet;

    if (behind > SIZE_MAX - sizeof(*packet)) {
        return NULL;
    }
    if (behind == 0 && loop->packets.item_size == 0) {
        bki_slab_init(&loop->packets, sizeof(*packet), PACKETS_CACHED_MAX);
    }
    packet = behind == 0 ? bki_slab_alloc(&loop->packets)
                         : bki_sys_malloc(sizeof(*packet) + behind);
    if (packet != NULL) {
        packet->next = NULL;
        packet->transmit = NULL;
        packet->release = NULL;
        packet->owner = NULL;
        packet->is_from_slab = behind == 0;
    }
    return packet;
}

/* Bytes that an address needs behind the struct. */
static size_t
address_room(const struct bki_datagram *datagram)
{
    return datagram->address_len > sizeof(struct sockaddr_in6)
               ? datagram->address_len
               : 0;
}

static void
keep_address(struct bki_packet *packet, const struct bki_datagram *datagram,
             void *behind)
{
    void *to = address_room(datagram) > 0 ? behind : &packet->address;

    packet->datagram.address = NULL;
    packet->datagram.address_len = datagram->address_len;
    if (datagram->address_len > 0) {
        memcpy(to, datagram->address, datagram->address_len);
        packet->datagram.address = to;
    }
}

struct bki_packet *
bki_packet_new_lent(bk_loop *loop, const struct bki_datagram *datagram,
                    bk_release_cb release, void *owner)
{
    struct bki_packet *packet = alloc_packet(loop, address_room(datagram));

    assert(release != NULL);
    if (packet == NULL) {
        return NULL;
    }
    packet->datagram.data = datagram->data;
    packet->datagram.len = datagram->len;
    keep_address(packet, datagram, packet + 1);
    packet->release = release;
    packet->owner = owner;
    return packet;
}

struct bki_packet *
bki_packet_new_transmit(bk_loop *loop, size_t len, bk_transmit_cb transmit,
                        bk_release_cb release, void *owner)
{
    const struct bki_datagram datagram = {.len = len};
    struct bki_packet *packet =
        bki_packet_new_lent(loop, &datagram, release, owner);

    if (packet != NULL) {
        packet->transmit = transmit;
    }
    return packet;
}

struct bki_packet *
bki_packet_new_copy(bk_loop *loop, const struct bki_datagram *datagram)
{
    size_t address_len = address_room(datagram);
    struct bki_packet *packet;
    char *behind;

    if (datagram->len > SIZE_MAX - address_len) {
        return NULL;
    }
    packet = alloc_packet(loop, address_len + datagram->len);
    if (packet == NULL) {
        return NULL;
    }
    behind = (char *)(packet + 1);
    keep_address(packet, datagram, behind);
    behind += address_len;
    if (datagram->len > 0) {
        memcpy(behind, datagram->data, datagram->len);
    }
    packet->datagram.data = behind;
    packet->datagram.len = datagram->len;
    return packet;
}

void
bki_packet_free(bk_loop *loop, struct bki_packet *packet)
{
    bk_release_cb release = packet->release;
    void *owner = packet->owner;

    if (packet->is_from_slab) {
        bki_slab_free(&loop->packets, packet);
    }
    else {
        bki_sys_free(packet);
    }
    if (release != NULL) {
        release(owner);
    }
}

void
bki_packets_append(bk_packet_queue *queue, struct bki_packet *packet)
{
    packet->next = NULL;
    if (queue->_tail == NULL) {
        queue->_head = packet;
    }
    else {
        queue->_tail->next = packet;
    }
    queue->_tail = packet;
}

void
bki_packets_prepend(bk_packet_queue *queue, struct bki_packet *packet)
{
    packet->next = queue->_head;
    queue->_head = packet;
    if (queue->_tail == NULL) {
        queue->_tail = packet;
    }
}

struct bki_packet *
bki_packets_pop(bk_packet_queue *queue)
{
    struct bki_packet *packet = queue->_head;

    if (packet == NULL) {
        return NULL;
    }
    queue->_head = packet->next;
    if (queue->_head == NULL) {
        queue->_tail = NULL;
    }
    return packet;
}

void
bki_packets_drop(bk_loop *loop, bk_packet_queue *queue)
{
    struct bki_packet *packet = queue->_head;

    *queue = (bk_packet_queue){0};
    while (packet != NULL) {
        struct bki_packet *next = packet->next;

        bki_packet_free(loop, packet);
        packet = next;
    }
}
