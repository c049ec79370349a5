/* unit_list.c -- the list of handles.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/list.h"

#include "support.h"

enum { NODES = 6 };

static bk_handle nodes[NODES];

static void
fill(struct bki_list *list, int from, int to)
{
    bki_list_init(list);
    for (int i = from; i < to; i++) {
        bki_list_append(list, &nodes[i]);
    }
}

static void
check_is(const struct bki_list *list, const int *expected, int count)
{
    int i = 0;

    BK_LIST_FOREACH (node, list) {
        ck_assert_int_lt(i, count);
        ck_assert_ptr_eq(node, &nodes[expected[i]]);
        ck_assert_ptr_eq(node->_next->_prev, node);
        i++;
    }
    ck_assert_int_eq(i, count);
    ck_assert_int_eq(bki_list_is_empty(list), count == 0);
}

START_TEST(test_append_remove_pop)
{
    struct bki_list list;

    fill(&list, 0, 4);
    bki_list_remove(&nodes[1]);
    check_is(&list, (int[]){0, 2, 3}, 3);
    bki_list_remove(&nodes[3]);
    check_is(&list, (int[]){0, 2}, 2);
    ck_assert_ptr_eq(bki_list_pop(&list), &nodes[0]);
    ck_assert_ptr_eq(bki_list_pop(&list), &nodes[2]);
    ck_assert_ptr_null(bki_list_pop(&list));
    check_is(&list, NULL, 0);
}
END_TEST

START_TEST(test_splice_front)
{
    struct bki_list front;
    struct bki_list back;

    fill(&front, 0, 2);
    fill(&back, 2, 5);
    bki_list_splice_front(&back, &front);
    check_is(&front, NULL, 0);
    check_is(&back, (int[]){0, 1, 2, 3, 4}, 5);

    bki_list_splice_front(&back, &front);
    check_is(&back, (int[]){0, 1, 2, 3, 4}, 5);

    bki_list_splice_front(&front, &back);
    check_is(&front, (int[]){0, 1, 2, 3, 4}, 5);
    check_is(&back, NULL, 0);

    /* A node leaves the list that it came into by the splice. */
    bki_list_remove(&nodes[0]);
    bki_list_remove(&nodes[4]);
    bki_list_append(&front, &nodes[5]);
    check_is(&front, (int[]){1, 2, 3, 5}, 4);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("unit_list");
    TCase *tcase = tcase_create("list");

    tcase_add_test(tcase, test_append_remove_pop);
    tcase_add_test(tcase, test_splice_front);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
