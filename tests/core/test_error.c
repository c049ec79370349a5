/* test_error.c -- error.h.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <netdb.h>
#include <string.h>

#include "support.h"

START_TEST(test_names)
{
    ck_assert_str_eq(bk_err_name(-ECONNREFUSED), "ECONNREFUSED");
    ck_assert_str_eq(bk_err_name(-EAGAIN), "EAGAIN");
    ck_assert_str_eq(bk_err_name(BK_EOF), "BK_EOF");
    ck_assert_str_eq(bk_err_name(BK_EAI_NONAME), "BK_EAI_NONAME");
    ck_assert_str_eq(bk_err_name(BK_TLS_ERROR), "BK_TLS_ERROR");
    ck_assert_str_eq(bk_err_name(0), "BK_UNKNOWN");
    ck_assert_str_eq(bk_err_name(ECONNREFUSED), "BK_UNKNOWN");
    ck_assert_str_eq(bk_err_name(-99999), "BK_UNKNOWN");
}
END_TEST

START_TEST(test_words)
{
    ck_assert_str_eq(bk_strerror(0), "success");
    ck_assert_str_eq(bk_strerror(-ECONNREFUSED), "connection refused");
    ck_assert_str_eq(bk_strerror(-99999), "unknown error");
}
END_TEST

/* Every code of the header has a name and words of its own. */
START_TEST(test_all_codes_are_known)
{
    for (int code = BK_EAI_SOCKTYPE; code <= BK_EAI_ADDRFAMILY; code++) {
        ck_assert_str_ne(bk_err_name(code), "BK_UNKNOWN");
        ck_assert_str_ne(bk_strerror(code), "unknown error");
        ck_assert_int_ne(bk_err_to_eai(code), 0);
        for (int other = code + 1; other <= BK_EAI_ADDRFAMILY; other++) {
            ck_assert_str_ne(bk_err_name(code), bk_err_name(other));
            ck_assert_str_ne(bk_strerror(code), bk_strerror(other));
            ck_assert_int_ne(bk_err_to_eai(code), bk_err_to_eai(other));
        }
    }
}
END_TEST

START_TEST(test_eai)
{
    ck_assert_int_eq(bk_err_to_eai(BK_EAI_NONAME), EAI_NONAME);
    ck_assert_int_eq(bk_err_to_eai(BK_EAI_SOCKTYPE), EAI_SOCKTYPE);
    ck_assert_int_eq(bk_err_to_eai(BK_EOF), 0);
    ck_assert_int_eq(bk_err_to_eai(-ENOENT), 0);
    ck_assert_int_eq(bk_err_to_eai(0), 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("test_error");
    TCase *tcase = tcase_create("error");

    tcase_add_test(tcase, test_names);
    tcase_add_test(tcase, test_words);
    tcase_add_test(tcase, test_all_codes_are_known);
    tcase_add_test(tcase, test_eai);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
