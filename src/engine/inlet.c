/* inlet.c -- where several datagrams are received at once.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/inlet.h"

#include <assert.h>
#include <string.h>

#include "becket/transport.h"

#include "base/sys.h"

/* A datagram of an Ethernet frame fits. */
#define SLOT_BYTES ((size_t)2048)

/* A cache line further each, so that the slots' first lines, which are all
 * that most datagrams have, do not compete for the same few places in it. */
#define SLOT_STRIDE (SLOT_BYTES + 64)

/* A large datagram's beginning is moved in front of its rest, so the place for
 * the rest keeps that much free. */
#define LARGE_BYTES ((size_t)BK_READ_MAX)

#define SLOTS_BYTES (SLOT_STRIDE * BKI_BURST_MAX)

struct bki_inlet {
    struct mmsghdr messages[BKI_BURST_MAX];
    struct iovec parts[BKI_BURST_MAX][2];
    struct sockaddr_storage addresses[BKI_BURST_MAX];
    struct bki_datagram datagrams[BKI_BURST_MAX];
    char memory[]; /* all slots, then all large places */
};

static char *
slot_of(struct bki_inlet *inlet, int i)
{
    return inlet->memory + (size_t)i * SLOT_STRIDE;
}

static char *
large_of(struct bki_inlet *inlet, int i)
{
    return inlet->memory + SLOTS_BYTES + (size_t)i * LARGE_BYTES;
}

struct bki_inlet *
bki_inlet_new(void)
{
    struct bki_inlet *inlet = bki_sys_malloc(sizeof(*inlet) + SLOTS_BYTES +
                                             LARGE_BYTES * BKI_BURST_MAX);

    if (inlet == NULL) {
        return NULL;
    }
    for (int i = 0; i < BKI_BURST_MAX; i++) {
        inlet->parts[i][0] = (struct iovec){slot_of(inlet, i), SLOT_BYTES};
        inlet->parts[i][1] = (struct iovec){large_of(inlet, i) + SLOT_BYTES,
                                            LARGE_BYTES - SLOT_BYTES};
        inlet->messages[i] = (struct mmsghdr){
            .msg_hdr = {.msg_name = &inlet->addresses[i],
                        .msg_iov = inlet->parts[i],
                        .msg_iovlen = 2},
        };
    }
    return inlet;
}

void
bki_inlet_free(struct bki_inlet *inlet)
{
    bki_sys_free(inlet);
}

static struct bki_datagram
describe(struct bki_inlet *inlet, int i)
{
    const struct mmsghdr *message = &inlet->messages[i];
    struct bki_datagram datagram = {
        .data = slot_of(inlet, i),
        .len = message->msg_len,
        .address = message->msg_hdr.msg_name,
        .address_len = message->msg_hdr.msg_namelen,
    };

    if (datagram.len > SLOT_BYTES) {
        datagram.data =
            memcpy(large_of(inlet, i), slot_of(inlet, i), SLOT_BYTES);
    }
    return datagram;
}

int
bki_inlet_receive(struct bki_inlet *inlet, int fd, int count,
                  const struct bki_datagram **ret_datagrams)
{
    int n;

    assert(count > 0);
    assert(count <= BKI_BURST_MAX);
    for (int i = 0; i < count; i++) {
        inlet->messages[i].msg_hdr.msg_namelen = sizeof(inlet->addresses[i]);
    }
    n = bki_sys_recvmmsg(fd, inlet->messages, (unsigned)count);
    for (int i = 0; i < n; i++) {
        inlet->datagrams[i] = describe(inlet, i);
    }
    *ret_datagrams = inlet->datagrams;
    return n;
}
