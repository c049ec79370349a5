/* heap.h -- an indexed 4-ary min-heap of timers.
 *
 * SPDX-License-Identifier: MIT
 *
 * Keys (when, order) stand in the array beside the pointers, so that sifting
 * reads one run of memory and touches a timer only to write its new index.
 * Equal times leave in the order of their ranks, and equal ranks in the order
 * in which they came.
 */
#ifndef BKI_HEAP_H
#define BKI_HEAP_H

#include "becket/timer.h"

/* The index of a timer that is in no heap. */
#define BKI_HEAP_NONE UINT64_MAX

struct bki_heap_entry {
    uint64_t when_ns;
    uint64_t order;  /* the rank, and below it the sequence */
    bk_timer *timer; /* borrowed */
};

struct bki_heap {
    struct bki_heap_entry *entries; /* owned */
    size_t count;
    size_t capacity;
    uint64_t sequence; /* of the next timer: 48 bits, a million a second for 8
                        * years */
};

void bki_heap_init(struct bki_heap *heap);

/* Free the array. The timers in it are just forgotten. */
void bki_heap_fini(struct bki_heap *heap);

/* Put in a timer that is in no heap. -ENOMEM: nothing has changed. */
int bki_heap_push(struct bki_heap *heap, bk_timer *timer, uint64_t when_ns);

/* Take out a timer that is in this heap. */
void bki_heap_remove(struct bki_heap *heap, bk_timer *timer);

/* The earliest, which stays in, or NULL. */
bk_timer *bki_heap_first(const struct bki_heap *heap);

/* When the earliest is due, or BK_TIME_NEVER. */
static inline uint64_t
bki_heap_when(const struct bki_heap *heap)
{
    return heap->count == 0 ? BK_TIME_NEVER : heap->entries[0].when_ns;
}

#endif
