/* test_address.c -- socket addresses and their text.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <string.h>

#include "support.h"

static void
expect_text(const bk_address *address, const char *text)
{
    char buf[BK_ADDRESS_TEXT_MAX];

    ck_assert_int_eq(bk_address_format(address, buf, sizeof(buf)),
                     (int)strlen(text));
    ck_assert_str_eq(buf, text);
}

START_TEST(ipv4_both_ways)
{
    bk_address address;

    ck_assert_int_eq(bk_address_parse("127.0.0.1", 80, AF_UNSPEC, &address), 0);
    ck_assert_int_eq(bk_address_family(&address), AF_INET);
    ck_assert_uint_eq(bk_address_port(&address), 80);
    ck_assert_uint_eq(address.len, sizeof(struct sockaddr_in));
    expect_text(&address, "127.0.0.1:80");
    ck_assert_int_eq(bk_address_parse("1.2.3.4", 65535, AF_INET, &address), 0);
    expect_text(&address, "1.2.3.4:65535");
}
END_TEST

START_TEST(ipv6_both_ways)
{
    bk_address address;

    ck_assert_int_eq(bk_address_parse("::1", 8080, AF_UNSPEC, &address), 0);
    ck_assert_int_eq(bk_address_family(&address), AF_INET6);
    ck_assert_uint_eq(bk_address_port(&address), 8080);
    ck_assert_uint_eq(address.len, sizeof(struct sockaddr_in6));
    expect_text(&address, "[::1]:8080");
    address.u.in6.sin6_scope_id = UINT32_MAX;
    expect_text(&address, "[::1%4294967295]:8080");
}
END_TEST

START_TEST(longest_text_fits)
{
    bk_address address;
    char buf[BK_ADDRESS_TEXT_MAX];

    ck_assert_int_eq(
        bk_address_parse("ffff:ffff:ffff:ffff:ffff:ffff:255.255.255.255", 65535,
                         AF_INET6, &address),
        0);
    address.u.in6.sin6_scope_id = UINT32_MAX;
    ck_assert_int_gt(bk_address_format(&address, buf, sizeof(buf)), 0);
}
END_TEST

START_TEST(what_is_no_literal_is_refused)
{
    static const char *const texts[] = {
        "",           "localhost", "127.0.0.1.", "127.1",      "256.0.0.1",
        " 127.0.0.1", "::1%lo",    "[::1]",      "1.2.3.4:80", ":::",
    };
    bk_address address = {.len = 99};

    for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
        ck_assert_msg(bk_address_parse(texts[i], 1, AF_UNSPEC, &address) ==
                          -EINVAL,
                      "'%s' was taken", texts[i]);
    }
    ck_assert_uint_eq(address.len, 99); /* untouched on failure */
}
END_TEST

START_TEST(family_must_fit)
{
    bk_address address;

    ck_assert_int_eq(bk_address_parse("::1", 1, AF_INET, &address), -EINVAL);
    ck_assert_int_eq(bk_address_parse("127.0.0.1", 1, AF_INET6, &address),
                     -EINVAL);
    ck_assert_int_eq(bk_address_parse("127.0.0.1", 1, AF_UNIX, &address),
                     -EINVAL);
    ck_assert_int_eq(bk_address_parse(NULL, 1, AF_INET, &address), -EINVAL);
    ck_assert_int_eq(bk_address_parse("::1", 1, AF_INET6, NULL), -EINVAL);
}
END_TEST

START_TEST(unknown_has_no_text)
{
    bk_address none = {0};
    bk_address other = {.len = 2, .u.sa.sa_family = AF_NETLINK};
    char buf[BK_ADDRESS_TEXT_MAX];

    ck_assert_int_eq(bk_address_family(&none), AF_UNSPEC);
    ck_assert_uint_eq(bk_address_port(&none), 0);
    ck_assert_int_eq(bk_address_format(&none, buf, sizeof(buf)), -EAFNOSUPPORT);
    ck_assert_uint_eq(bk_address_port(&other), 0);
    ck_assert_int_eq(bk_address_format(&other, buf, sizeof(buf)),
                     -EAFNOSUPPORT);
}
END_TEST

/* As the kernel tells them: a path with its NUL, an abstract name without. */
START_TEST(unix_paths)
{
    bk_address address = {.len = 2, .u.sa.sa_family = AF_UNIX};
    char *path = (char *)&address.u + sizeof(sa_family_t);

    expect_text(&address, "");
    ck_assert_uint_eq(bk_address_port(&address), 0);
    memcpy(path, "/run/x", 7);
    address.len = 2 + 7;
    expect_text(&address, "/run/x");
    memcpy(path, "\0name", 5);
    address.len = 2 + 5;
    expect_text(&address, "@name");
    memset(path, 'x', 26); /* the longest, without a NUL */
    address.len = 2 + 26;
    expect_text(&address, "xxxxxxxxxxxxxxxxxxxxxxxxxx");
}
END_TEST

START_TEST(short_buffer_is_left_alone)
{
    bk_address address;
    char buf[16] = "untouched";

    ck_assert_int_eq(bk_address_parse("127.0.0.1", 80, AF_INET, &address), 0);
    ck_assert_int_eq(bk_address_format(&address, buf, 12), -ENOSPC);
    ck_assert_str_eq(buf, "untouched");
    ck_assert_int_eq(bk_address_format(&address, buf, 13), 12);
    ck_assert_int_eq(bk_address_format(&address, buf, 0), -ENOSPC);
    ck_assert_int_eq(bk_address_format(&address, NULL, 13), -EINVAL);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("address");
    TCase *tcase = tcase_create("address");

    tcase_add_test(tcase, ipv4_both_ways);
    tcase_add_test(tcase, ipv6_both_ways);
    tcase_add_test(tcase, longest_text_fits);
    tcase_add_test(tcase, what_is_no_literal_is_refused);
    tcase_add_test(tcase, family_must_fit);
    tcase_add_test(tcase, unknown_has_no_text);
    tcase_add_test(tcase, unix_paths);
    tcase_add_test(tcase, short_buffer_is_left_alone);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
