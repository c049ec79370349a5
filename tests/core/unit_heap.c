/* unit_heap.c -- the heap against a plain array, with random operations.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/heap.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#include "base/fault.h"
#include "support.h"

enum {
    TIMERS = 2000,
    OPERATIONS = 200000,
};

static bk_timer timers[TIMERS];
static uint64_t whens[TIMERS];
static uint64_t orders[TIMERS]; /* 0: not in the heap */

static void
on_timer(bk_handle *handle)
{
    (void)handle;
}

static void
check_structure(const struct bki_heap *heap)
{
    for (size_t i = 0; i < heap->count; i++) {
        const struct bki_heap_entry *entry = &heap->entries[i];
        const struct bki_heap_entry *parent =
            &heap->entries[i == 0 ? 0 : (i - 1) / 4];

        ck_assert_uint_eq(entry->timer->_index, i);
        ck_assert(parent->when_ns < entry->when_ns ||
                  (parent->when_ns == entry->when_ns &&
                   parent->order <= entry->order));
    }
}

/* The oracle: walk over all. */
static int
earliest(void)
{
    int best = -1;

    for (int i = 0; i < TIMERS; i++) {
        if (orders[i] == 0) {
            continue;
        }
        if (best < 0 || whens[i] < whens[best] ||
            (whens[i] == whens[best] && orders[i] < orders[best])) {
            best = i;
        }
    }
    return best;
}

static void
check_first(const struct bki_heap *heap)
{
    int best = earliest();
    const bk_timer *first = bki_heap_first(heap);

    ck_assert_ptr_eq(first, best < 0 ? NULL : &timers[best]);
    ck_assert(bki_heap_when(heap) == (best < 0 ? BK_TIME_NEVER : whens[best]));
}

START_TEST(test_random_operations)
{
    struct bki_heap heap;
    uint64_t order = 0;
    unsigned seed = (unsigned)time(NULL);

    printf("# seed %u\n", seed);
    bki_heap_init(&heap);
    for (int i = 0; i < TIMERS; i++) {
        bk_timer_init(&timers[i], on_timer);
    }
    for (int i = 0; i < OPERATIONS; i++) {
        int n = rand_r(&seed) % TIMERS;

        if (orders[n] != 0) {
            bki_heap_remove(&heap, &timers[n]);
            orders[n] = 0;
            ck_assert(timers[n]._index == BKI_HEAP_NONE);
        }
        else {
            /* Few different times, so that many are equal. */
            whens[n] = (uint64_t)(rand_r(&seed) % 100);
            orders[n] = ++order;
            ck_assert_int_eq(bki_heap_push(&heap, &timers[n], whens[n]), 0);
        }
        if (i % 1000 == 0) {
            check_structure(&heap);
            check_first(&heap);
        }
    }
    while (heap.count > 0) {
        int best = earliest();

        ck_assert_ptr_eq(bki_heap_first(&heap), &timers[best]);
        bki_heap_remove(&heap, &timers[best]);
        orders[best] = 0;
    }
    ck_assert_uint_le(heap.capacity, 64);
    bki_heap_fini(&heap);
}
END_TEST

START_TEST(test_equal_times_keep_their_order)
{
    struct bki_heap heap;

    bki_heap_init(&heap);
    for (int i = 0; i < TIMERS; i++) {
        bk_timer_init(&timers[i], on_timer);
        ck_assert_int_eq(bki_heap_push(&heap, &timers[i], 7), 0);
    }
    for (int i = 0; i < TIMERS; i++) {
        ck_assert_ptr_eq(bki_heap_first(&heap), &timers[i]);
        bki_heap_remove(&heap, &timers[i]);
    }
    bki_heap_fini(&heap);
}
END_TEST

#ifdef BK_FAULT_INJECTION
START_TEST(test_no_memory)
{
    struct bki_heap heap;

    bki_heap_init(&heap);
    bk_timer_init(&timers[0], on_timer);
    bki_fault_arm(BKI_SYS_REALLOC, 1, -ENOMEM);
    ck_assert_int_eq(bki_heap_push(&heap, &timers[0], 1), -ENOMEM);
    ck_assert(bki_fault_disarm());
    ck_assert_uint_eq(heap.count, 0);
    ck_assert(timers[0]._index == BKI_HEAP_NONE);
    ck_assert_int_eq(bki_heap_push(&heap, &timers[0], 1), 0);
    bki_heap_fini(&heap);
}
END_TEST
#endif

int
main(void)
{
    Suite *suite = suite_create("unit_heap");
    TCase *tcase = tcase_create("heap");

    tcase_add_test(tcase, test_random_operations);
    tcase_add_test(tcase, test_equal_times_keep_their_order);
#ifdef BK_FAULT_INJECTION
    tcase_add_test(tcase, test_no_memory);
#endif
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
