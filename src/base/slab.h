/* slab.h -- memory for many short-lived objects of one size.
 *
 * SPDX-License-Identifier: MIT
 *
 * A bounded cache of freed items in front of malloc: what is freed is used
 * next, while it is warm, and a burst does not stay allocated for ever. Each
 * item is an allocation of its own, so an item may outlive bki_slab_fini() as
 * long as the struct itself is there to give it back to. Under
 * AddressSanitizer nothing is cached, so that it sees every misuse.
 *
 * Not thread-safe: a slab belongs to its loop's thread.
 */
#ifndef BKI_SLAB_H
#define BKI_SLAB_H

#include <stddef.h>

struct bki_slab_item;

struct bki_slab {
    struct bki_slab_item *cached; /* owned: freed items, newest first */
    size_t item_size;
    size_t cached_count;
    size_t cached_max; /* 0 after fini */
    size_t used_count; /* items that are out */
};

/* item_size is at least the size of a pointer. At most cached_max freed items
 * are kept. */
void bki_slab_init(struct bki_slab *slab, size_t item_size, size_t cached_max);

/* Free what is cached and cache nothing more. Accepts a zeroed struct. */
void bki_slab_fini(struct bki_slab *slab);

/* An item, not cleared, or NULL without memory. */
void *bki_slab_alloc(struct bki_slab *slab);

/* Give it back; NULL is a no-op. */
void bki_slab_free(struct bki_slab *slab, void *item);

#endif
