/* slab.c -- memory for many short-lived objects of one size.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/slab.h"

#include <assert.h>

#include "base/sys.h"

struct bki_slab_item {
    struct bki_slab_item *next;
};

#ifdef __SANITIZE_ADDRESS__
enum { IS_CACHING = 0 };
#else
enum { IS_CACHING = 1 };
#endif

void
bki_slab_init(struct bki_slab *slab, size_t item_size, size_t cached_max)
{
    assert(item_size >= sizeof(struct bki_slab_item));
    *slab = (struct bki_slab){
        .item_size = item_size,
        .cached_max = IS_CACHING ? cached_max : 0,
    };
}

void
bki_slab_fini(struct bki_slab *slab)
{
    while (slab->cached != NULL) {
        struct bki_slab_item *item = slab->cached;

        slab->cached = item->next;
        bki_sys_free(item);
    }
    slab->cached_count = 0;
    slab->cached_max = 0;
}

void *
bki_slab_alloc(struct bki_slab *slab)
{
    struct bki_slab_item *item = slab->cached;

    if (item != NULL) {
        assert(slab->cached_count > 0);
        slab->cached = item->next;
        slab->cached_count--;
    }
    else {
        item = bki_sys_malloc(slab->item_size);
    }
    if (item != NULL) {
        slab->used_count++;
    }
    return item;
}

void
bki_slab_free(struct bki_slab *slab, void *memory)
{
    struct bki_slab_item *item = memory;

    if (item == NULL) {
        return;
    }
    assert(slab->used_count > 0);
    slab->used_count--;
    if (slab->cached_count >= slab->cached_max) {
        bki_sys_free(item);
        return;
    }
    item->next = slab->cached;
    slab->cached = item;
    slab->cached_count++;
}
