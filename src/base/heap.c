/* heap.c -- an indexed 4-ary min-heap of timers.
 *
 * SPDX-License-Identifier: MIT
 *
 * Four children instead of two: half the depth, and the four keys that a
 * step down compares are neighbours in memory.
 */
#include "base/heap.h"

#include <assert.h>
#include <errno.h>

#include "base/sys.h"

enum {
    ARITY = 4,
    CAPACITY_MIN = 64,
    SEQUENCE_BITS = 48,
};

static bool
is_before(const struct bki_heap_entry *a, const struct bki_heap_entry *b)
{
    if (a->when_ns != b->when_ns) {
        return a->when_ns < b->when_ns;
    }
    return a->order < b->order;
}

static void
put(struct bki_heap *heap, size_t index, struct bki_heap_entry entry)
{
    heap->entries[index] = entry;
    entry.timer->_index = index;
}

/* Move the entry towards the root from a hole at index. */
static void
sift_up(struct bki_heap *heap, size_t index, struct bki_heap_entry entry)
{
    while (index > 0) {
        size_t parent = (index - 1) / ARITY;

        if (!is_before(&entry, &heap->entries[parent])) {
            break;
        }
        put(heap, index, heap->entries[parent]);
        index = parent;
    }
    put(heap, index, entry);
}

/* The earliest of a node's children; count if it has none. */
static size_t
first_child(const struct bki_heap *heap, size_t index)
{
    size_t first = index * ARITY + 1;
    size_t end = first + ARITY;

    if (first >= heap->count) {
        return heap->count;
    }
    if (end > heap->count) {
        end = heap->count;
    }
    for (size_t i = first + 1; i < end; i++) {
        if (is_before(&heap->entries[i], &heap->entries[first])) {
            first = i;
        }
    }
    return first;
}

/* Move the entry away from the root from a hole at index. */
static void
sift_down(struct bki_heap *heap, size_t index, struct bki_heap_entry entry)
{
    for (;;) {
        size_t child = first_child(heap, index);

        if (child >= heap->count || !is_before(&heap->entries[child], &entry)) {
            break;
        }
        put(heap, index, heap->entries[child]);
        index = child;
    }
    put(heap, index, entry);
}

/* After a burst of timers give most of the array back; not all, so that a
 * heap that stays about as large does not allocate at each turn. */
static void
shrink(struct bki_heap *heap)
{
    size_t capacity = heap->capacity / 2;
    struct bki_heap_entry *entries;

    if (heap->capacity <= CAPACITY_MIN || heap->count > heap->capacity / 8) {
        return;
    }
    entries = bki_sys_realloc(heap->entries, capacity * sizeof(*entries));
    if (entries != NULL) {
        heap->entries = entries;
        heap->capacity = capacity;
    }
}

static int
grow(struct bki_heap *heap)
{
    size_t capacity = heap->capacity == 0 ? CAPACITY_MIN : heap->capacity * 2;
    struct bki_heap_entry *entries;

    if (capacity > SIZE_MAX / sizeof(*entries)) {
        return -ENOMEM;
    }
    entries = bki_sys_realloc(heap->entries, capacity * sizeof(*entries));
    if (entries == NULL) {
        return -ENOMEM;
    }
    heap->entries = entries;
    heap->capacity = capacity;
    return 0;
}

void
bki_heap_init(struct bki_heap *heap)
{
    *heap = (struct bki_heap){0};
}

void
bki_heap_fini(struct bki_heap *heap)
{
    bki_sys_free(heap->entries);
    *heap = (struct bki_heap){0};
}

static uint64_t
order_of(struct bki_heap *heap, const bk_timer *timer)
{
    uint64_t rank = timer->_handle._rank;

    return rank << SEQUENCE_BITS | heap->sequence++;
}

int
bki_heap_push(struct bki_heap *heap, bk_timer *timer, uint64_t when_ns)
{
    assert(timer->_index == BKI_HEAP_NONE);
    if (heap->count == heap->capacity) {
        int r = grow(heap);

        if (r < 0) {
            return r;
        }
    }
    heap->count++;
    sift_up(heap, heap->count - 1,
            (struct bki_heap_entry){
                .when_ns = when_ns,
                .order = order_of(heap, timer),
                .timer = timer,
            });
    return 0;
}

void
bki_heap_remove(struct bki_heap *heap, bk_timer *timer)
{
    size_t index = (size_t)timer->_index;
    struct bki_heap_entry last;

    assert(index < heap->count);
    assert(heap->entries[index].timer == timer);
    timer->_index = BKI_HEAP_NONE;
    heap->count--;
    last = heap->entries[heap->count];
    if (index < heap->count) {
        if (index > 0 &&
            is_before(&last, &heap->entries[(index - 1) / ARITY])) {
            sift_up(heap, index, last);
        }
        else {
            sift_down(heap, index, last);
        }
    }
    shrink(heap);
}

bk_timer *
bki_heap_first(const struct bki_heap *heap)
{
    return heap->count == 0 ? NULL : heap->entries[0].timer;
}
