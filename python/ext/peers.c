/* peers.c -- the addresses that datagrams came from lately, as Python has them.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A table of sets of two, with no order: what is new takes the place of the
 * older one of its set. So its size is fixed, a find looks at two entries, and
 * whoever sends from many addresses only makes it useless.
 */

#include "peers.h"

#include <netinet/in.h>
#include <stdint.h>
#include <string.h>

#include "address.h"

/* 10 KB, once per loop that has several senders of datagrams. */
#define SETS_BITS 7
#define WAYS      2

struct peer {
    PyObject *object; /* owned, or NULL */
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } u;
};

struct bkpy_peers {
    struct peer sets[1 << SETS_BITS][WAYS];
};

/* Bytes of an address that the table takes; 0: it does not. */
static size_t
size_of(const struct sockaddr *address, socklen_t len)
{
    if (len == sizeof(struct sockaddr_in) && address->sa_family == AF_INET) {
        return len;
    }
    if (len == sizeof(struct sockaddr_in6) && address->sa_family == AF_INET6) {
        return len;
    }
    return 0;
}

/* Both kinds of address are words of four bytes. */
static size_t
set_of(const struct sockaddr *address, size_t size)
{
    const uint64_t odd = 0x9e3779b97f4a7c15; /* of the golden ratio */
    uint64_t hash = 0;

    for (size_t i = 0; i < size; i += sizeof(uint32_t)) {
        uint32_t word;

        memcpy(&word, (const char *)address + i, sizeof(word));
        hash = (hash ^ word) * odd;
        hash ^= hash >> 32;
    }
    return hash >> (64 - SETS_BITS);
}

static bool
is_peer(const struct peer *peer, const struct sockaddr *address, size_t size)
{
    return peer->object != NULL && peer->u.sa.sa_family == address->sa_family &&
           memcmp(&peer->u, address, size) == 0;
}

/* Dropping the older one runs no code: str and int have none. */
static void
keep(struct peer *set, PyObject *object, const struct sockaddr *address,
     size_t size)
{
    PyObject *before = set[1].object;

    set[1] = set[0];
    set[0].object = Py_NewRef(object);
    memcpy(&set[0].u, address, size);
    Py_XDECREF(before);
}

PyObject *
bkpy_peers_find(LoopObject *loop, const struct sockaddr *address, socklen_t len)
{
    size_t size = size_of(address, len);
    struct peer *set;
    PyObject *object;

    if (size > 0 && loop->peers == NULL && !loop->is_closed) {
        loop->peers = PyMem_Calloc(1, sizeof(*loop->peers));
    }
    if (size == 0 || loop->peers == NULL) {
        return bkpy_address_to_python(address, len);
    }
    set = loop->peers->sets[set_of(address, size)];
    for (int i = 0; i < WAYS; i++) {
        if (is_peer(&set[i], address, size)) {
            return Py_NewRef(set[i].object);
        }
    }
    object = bkpy_address_to_python(address, len);
    if (object != NULL) {
        keep(set, object, address, size);
    }
    return object;
}

void
bkpy_peers_clear(LoopObject *loop)
{
    struct bkpy_peers *peers = loop->peers;

    loop->peers = NULL;
    if (peers == NULL) {
        return;
    }
    for (size_t i = 0; i < 1 << SETS_BITS; i++) {
        for (size_t j = 0; j < WAYS; j++) {
            Py_XDECREF(peers->sets[i][j].object);
        }
    }
    PyMem_Free(peers);
}
