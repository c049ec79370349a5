/* unit_slab.c -- the cache of freed items.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/slab.h"

#include <errno.h>
#include <string.h>

#include "base/fault.h"
#include "support.h"

#ifdef __SANITIZE_ADDRESS__
enum { CACHED_MAX = 0 };
#else
enum { CACHED_MAX = 2 };
#endif

START_TEST(test_what_is_freed_is_used_next)
{
    struct bki_slab slab;
    char *items[4];

    bki_slab_init(&slab, 40, 2);
    for (int i = 0; i < 4; i++) {
        items[i] = bki_slab_alloc(&slab);
        ck_assert_ptr_nonnull(items[i]);
        memset(items[i], i, 40);
    }
    ck_assert_uint_eq(slab.used_count, 4);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(items[i][0], i);
        ck_assert_int_eq(items[i][39], i);
        bki_slab_free(&slab, items[i]);
    }
    ck_assert_uint_eq(slab.used_count, 0);
    ck_assert_uint_eq(slab.cached_count, CACHED_MAX);
    if (CACHED_MAX > 0) {
        ck_assert_ptr_eq(bki_slab_alloc(&slab), items[1]);
        bki_slab_free(&slab, items[1]);
    }
    bki_slab_free(&slab, NULL);
    bki_slab_fini(&slab);
    ck_assert_uint_eq(slab.cached_count, 0);
}
END_TEST

START_TEST(test_an_item_may_come_back_after_fini)
{
    struct bki_slab slab;
    void *item;

    bki_slab_init(&slab, 40, 2);
    item = bki_slab_alloc(&slab);
    bki_slab_fini(&slab);
    bki_slab_free(&slab, item);
    ck_assert_uint_eq(slab.used_count, 0);
    ck_assert_uint_eq(slab.cached_count, 0);
}
END_TEST

START_TEST(test_fini_of_zeros)
{
    struct bki_slab slab = {0};

    bki_slab_fini(&slab);
    ck_assert_ptr_null(slab.cached);
}
END_TEST

#ifdef BK_FAULT_INJECTION
START_TEST(test_no_memory)
{
    struct bki_slab slab;

    bki_slab_init(&slab, 40, 2);
    bki_fault_arm(BKI_SYS_MALLOC, 1, -ENOMEM);
    ck_assert_ptr_null(bki_slab_alloc(&slab));
    ck_assert(bki_fault_disarm());
    ck_assert_uint_eq(slab.used_count, 0);
    bki_slab_fini(&slab);
}
END_TEST
#endif

int
main(void)
{
    Suite *suite = suite_create("unit_slab");
    TCase *tcase = tcase_create("slab");

    tcase_add_test(tcase, test_what_is_freed_is_used_next);
    tcase_add_test(tcase, test_an_item_may_come_back_after_fini);
    tcase_add_test(tcase, test_fini_of_zeros);
#ifdef BK_FAULT_INJECTION
    tcase_add_test(tcase, test_no_memory);
#endif
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
