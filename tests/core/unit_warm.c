/* unit_warm.c -- tls/warm.c: which connections keep OpenSSL's buffers.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tls/warm.c"

#include <string.h>

#include "support.h"

#define SESSIONS (3 * WARM_MAX)

static bk_loop loop;
static bk_tls_pump pump;
static bk_tls_openssl_session sessions[SESSIONS];
static bool has_mode[SESSIONS];     /* as OpenSSL's API tells */
static bool is_releasing[SESSIONS]; /* as its record layer does */
static int freed[SESSIONS];
static int pending; /* of all of them */

/* An SSL is the address of its session. OpenSSL from 3.2 on: the record layer
 * hears of the mode when one is set. */
static size_t
index_of(const struct ssl_st *ssl)
{
    return (size_t)((const bk_tls_openssl_session *)(const void *)ssl -
                    sessions);
}

static long
fake_ctrl(struct ssl_st *ssl, int cmd, long num, void *arg)
{
    size_t i = index_of(ssl);

    ck_assert_ptr_null(arg);
    ck_assert(num == 0 || num == SSL_MODE_RELEASE_BUFFERS);
    if (cmd == SSL_CTRL_MODE) {
        has_mode[i] = has_mode[i] || num != 0;
        is_releasing[i] = has_mode[i];
    }
    else {
        ck_assert_int_eq(cmd, SSL_CTRL_CLEAR_MODE);
        has_mode[i] = has_mode[i] && num == 0;
    }
    return 0;
}

static int
fake_has_pending(const struct ssl_st *ssl)
{
    (void)ssl;
    return pending;
}

static int
fake_free_buffers(struct ssl_st *ssl)
{
    ck_assert(is_releasing[index_of(ssl)]);
    freed[index_of(ssl)]++;
    return 1;
}

static const bk_tls_openssl fakes = {
    .SSL_ctrl = fake_ctrl,
    .SSL_has_pending = fake_has_pending,
    .SSL_free_buffers = fake_free_buffers,
};

static void
set_up(void)
{
    pump._loop = &loop;
    for (size_t i = 0; i < SESSIONS; i++) {
        sessions[i] = (bk_tls_openssl_session){
            ._openssl = &fakes,
            ._ssl = (struct ssl_st *)(void *)&sessions[i],
            ._pump = &pump,
        };
        has_mode[i] = true;
        is_releasing[i] = true;
    }
}

/* As the engine does after a read. */
static void
read_some(size_t i)
{
    if (sessions[i]._is_warm) {
        sessions[i]._turn = loop.stats.turns;
    }
    else {
        bki_tls_warm_up(&sessions[i]);
    }
}

static void
read_range(size_t from, size_t to)
{
    for (size_t i = from; i < to; i++) {
        read_some(i);
    }
}

static void
expect_warm(size_t from, size_t to, bool is_warm)
{
    for (size_t i = from; i < to; i++) {
        ck_assert_int_eq(sessions[i]._is_warm, is_warm);
        ck_assert_int_eq(is_releasing[i], !is_warm);
    }
}

START_TEST(first_ones_are_warm)
{
    read_range(0, SESSIONS);
    expect_warm(0, WARM_MAX, true);
    expect_warm(WARM_MAX, SESSIONS, false);
    ck_assert_uint_eq(loop.tls_warm_count, WARM_MAX);
}
END_TEST

/* With more connections than places, nobody's buffers go back and forth. */
START_TEST(busy_ones_stay)
{
    for (int turn = 0; turn < 4 * STALE_TURNS; turn++) {
        loop.stats.turns++;
        read_range(0, SESSIONS);
    }
    expect_warm(0, WARM_MAX, true);
    for (size_t i = 0; i < SESSIONS; i++) {
        ck_assert_int_eq(freed[i], 0);
    }
}
END_TEST

START_TEST(stale_ones_make_room)
{
    read_range(0, WARM_MAX);
    loop.stats.turns += STALE_TURNS;
    read_range(0, 10);
    read_range(WARM_MAX, SESSIONS);
    expect_warm(0, 10, true);
    expect_warm(10, WARM_MAX, false);
    ck_assert_uint_eq(loop.tls_warm_count, WARM_MAX);
    for (size_t i = 0; i < WARM_MAX; i++) {
        ck_assert_int_eq(freed[i], i >= 10);
    }
}
END_TEST

START_TEST(all_are_cooled)
{
    ck_assert_ptr_null(loop.cool_tls);
    read_range(0, 10);
    loop.cool_tls(&loop);
    expect_warm(0, 10, false);
    ck_assert_uint_eq(loop.tls_warm_count, 0);
    for (size_t i = 0; i < 10; i++) {
        ck_assert_int_eq(freed[i], 1);
    }
    read_range(0, 10);
    expect_warm(0, 10, true);
}
END_TEST

/* OpenSSL then frees the buffers itself, when it is done with the record. */
START_TEST(buffers_in_use_are_not_freed)
{
    read_range(0, 5);
    sessions[0]._record_left = 1;
    sessions[1]._header_len = 1;
    sessions[2]._is_unframed = true;
    loop.cool_tls(&loop);
    read_some(4);
    pending = 1;
    loop.cool_tls(&loop);
    expect_warm(0, 5, false);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(freed[i], i >= 3);
    }
}
END_TEST

START_TEST(one_is_cooled)
{
    read_range(0, 3);
    bki_tls_cool(&sessions[1]);
    bki_tls_cool(&sessions[4]);
    ck_assert_uint_eq(loop.tls_warm_count, 2);
    expect_warm(1, 2, false);
    loop.cool_tls(&loop);
    for (size_t i = 0; i < 5; i++) {
        ck_assert_int_eq(freed[i], i < 3 || i == 4);
    }
}
END_TEST

START_TEST(only_warm_ones_keep_what_they_took)
{
    read_range(0, 2);
    for (size_t i = 0; i < 4; i++) {
        bki_tls_tidy(&sessions[i]);
        ck_assert_int_eq(freed[i], i >= 2);
    }
    sessions[3]._record_left = 1;
    bki_tls_tidy(&sessions[3]);
    ck_assert_int_eq(freed[3], 1);
}
END_TEST

static Suite *
warm_suite(void)
{
    Suite *suite = suite_create("unit_warm");
    TCase *tcase = tcase_create("warm");

    suite_add_tcase(suite, tcase);
    tcase_add_checked_fixture(tcase, set_up, NULL);
    tcase_add_test(tcase, first_ones_are_warm);
    tcase_add_test(tcase, busy_ones_stay);
    tcase_add_test(tcase, stale_ones_make_room);
    tcase_add_test(tcase, all_are_cooled);
    tcase_add_test(tcase, buffers_in_use_are_not_freed);
    tcase_add_test(tcase, one_is_cooled);
    tcase_add_test(tcase, only_warm_ones_keep_what_they_took);
    return suite;
}

int
main(void)
{
    return support_main(warm_suite());
}
