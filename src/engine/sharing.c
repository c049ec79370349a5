/* sharing.c -- two ios under one number.
 *
 * SPDX-License-Identifier: MIT
 *
 * Hardly any fd is shared, so the second io is not in the slot but in a list,
 * which is searched only where the slot says that there is one.
 */
#include <assert.h>
#include <errno.h>

#include "base/sys.h"
#include "engine/slots.h"

enum { SHARINGS_MIN = 4 };

static struct bki_sharing *
find(const struct bki_readiness *r, int fd)
{
    assert(r->slots[fd].is_shared);
    for (size_t i = 0; i < r->sharings_count; i++) {
        if (r->sharings[i].second->_slot == fd) {
            return &r->sharings[i];
        }
    }
    assert(false);
    return NULL;
}

bk_io *
bki_sharing_mate(const struct bki_readiness *r, const bk_io *io)
{
    const struct bki_slot *slot;

    if (io->_slot < 0 || !r->slots[io->_slot].is_shared) {
        return NULL;
    }
    slot = &r->slots[io->_slot];
    return slot->occupant == io ? find(r, io->_slot)->second : slot->occupant;
}

int
bki_sharing_reserve(struct bki_readiness *r)
{
    size_t max = r->sharings_max == 0 ? SHARINGS_MIN : r->sharings_max * 2;
    struct bki_sharing *sharings;

    if (r->sharings_count < r->sharings_max) {
        return 0;
    }
    sharings = bki_sys_realloc(r->sharings, max * sizeof(*sharings));
    if (sharings == NULL) {
        return -ENOMEM;
    }
    r->sharings = sharings;
    r->sharings_max = max;
    return 0;
}

void
bki_sharing_join(struct bki_readiness *r, bk_io *io, int fd)
{
    assert(r->slots[fd].occupant != NULL);
    assert(!r->slots[fd].is_shared);
    assert(r->sharings_count < r->sharings_max);
    bki_slots_set_waker(r->slots[fd].occupant, false);
    io->_is_waker = 0;
    r->sharings[r->sharings_count++].second = io;
    r->slots[fd].is_shared = true;
    io->_slot = fd;
}

bool
bki_sharing_part(struct bki_readiness *r, bk_io *io)
{
    struct bki_slot *slot = &r->slots[io->_slot];
    struct bki_sharing *sharing;

    if (!slot->is_shared) {
        return false;
    }
    sharing = find(r, io->_slot);
    if (slot->occupant == io) {
        slot->occupant = sharing->second;
        slot->occupant->_is_added = io->_is_added;
        slot->occupant->_registered = io->_registered;
        io->_is_added = 0;
        io->_registered = 0;
    }
    *sharing = r->sharings[--r->sharings_count];
    slot->is_shared = false;
    return true;
}
