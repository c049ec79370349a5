/* unit_pollers.c -- epoll.c and poll.c by themselves.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/poller.h"

#include <errno.h>
#include <unistd.h>

#include "base/sys.h"
#include "support.h"

enum {
    POLLERS = 2,
    PAIRS = 10,
};

static struct bki_poller *poller;
static struct bki_poller_event events[64];
static int pairs[PAIRS][2];

static void
setup_poller(int index)
{
    ck_assert_int_eq(
        index == 0 ? bki_epoll_new(&poller) : bki_poll_new(&poller), 0);
    for (int i = 0; i < PAIRS; i++) {
        support_pair(pairs[i]);
    }
}

static void
teardown_poller(void)
{
    poller->ops->close(poller);
    poller->ops->free(poller);
    for (int i = 0; i < PAIRS; i++) {
        support_close_pair(pairs[i]);
    }
}

static int
wait_now(size_t capacity)
{
    return poller->ops->wait(poller, 0, NULL, events, capacity);
}

START_TEST(test_add_modify_remove)
{
    int fd;

    setup_poller(_i);
    fd = pairs[0][0];
    ck_assert_int_eq(poller->ops->modify(poller, fd, BK_READABLE, 1), -ENOENT);
    ck_assert_int_eq(poller->ops->remove(poller, fd), -ENOENT);
    ck_assert_int_eq(wait_now(64), 0);
    ck_assert_int_eq(poller->ops->add(poller, fd, BK_READABLE, 7), 0);
    ck_assert_int_eq(poller->ops->add(poller, fd, BK_READABLE, 8), -EEXIST);
    ck_assert_int_eq(wait_now(64), 0);
    support_send(pairs[0][1], "x");
    ck_assert_int_eq(wait_now(64), 1);
    ck_assert_int_eq(events[0].fd, fd);
    ck_assert_uint_eq(events[0].generation, 7);
    ck_assert_uint_eq(events[0].events, BK_READABLE);
    ck_assert_int_eq(
        poller->ops->modify(poller, fd, BK_READABLE | BK_WRITABLE, 9), 0);
    ck_assert_int_eq(wait_now(64), 1);
    ck_assert_uint_eq(events[0].generation, 9);
    ck_assert_uint_eq(events[0].events, BK_READABLE | BK_WRITABLE);
    ck_assert_int_eq(poller->ops->modify(poller, fd, BK_WRITABLE, 9), 0);
    ck_assert_int_eq(wait_now(64), 1);
    ck_assert_uint_eq(events[0].events, BK_WRITABLE);
    ck_assert_int_eq(poller->ops->remove(poller, fd), 0);
    ck_assert_int_eq(wait_now(64), 0);
    ck_assert_int_eq(poller->ops->remove(poller, fd), -ENOENT);
    teardown_poller();
}
END_TEST

/* More are ready than there is room for: each has its turn. */
START_TEST(test_nobody_starves)
{
    int counts[PAIRS] = {0};

    setup_poller(_i);
    for (int i = 0; i < PAIRS; i++) {
        ck_assert_int_eq(
            poller->ops->add(poller, pairs[i][0], BK_WRITABLE, (uint32_t)i), 0);
    }
    for (int round = 0; round < PAIRS; round++) {
        ck_assert_int_eq(wait_now(3), 3);
        for (int i = 0; i < 3; i++) {
            ck_assert_int_eq(events[i].fd, pairs[events[i].generation][0]);
            counts[events[i].generation]++;
        }
    }
    for (int i = 0; i < PAIRS; i++) {
        ck_assert_int_eq(counts[i], 3);
    }
    teardown_poller();
}
END_TEST

static uint64_t
wait_for(uint64_t timeout_ns)
{
    uint64_t start_ns = bki_sys_monotonic_ns();

    ck_assert_int_eq(poller->ops->wait(poller, timeout_ns, NULL, events, 64),
                     0);
    return bki_sys_monotonic_ns() - start_ns;
}

START_TEST(test_timeouts)
{
    uint64_t best_ns = UINT64_MAX;

    setup_poller(_i);
    for (int i = 0; i < 20; i++) {
        uint64_t passed_ns = wait_for(MS / 10);

        ck_assert_uint_ge(passed_ns, MS / 10);
        if (passed_ns < best_ns) {
            best_ns = passed_ns;
        }
    }
    ck_assert_uint_lt(best_ns, MS);
    ck_assert_uint_ge(wait_for(3 * MS), 3 * MS);
    teardown_poller();
}
END_TEST

START_TEST(test_bad_fd)
{
    int fd;

    setup_poller(_i);
    fd = dup(pairs[0][0]);
    ck_assert_int_eq(close(fd), 0);
    ck_assert_int_eq(poller->ops->add(poller, fd, BK_READABLE, 1), -EBADF);
    ck_assert_int_eq(poller->ops->add(poller, INT32_MAX, BK_READABLE, 1),
                     -EBADF);
    ck_assert_int_eq(wait_now(64), 0);
    teardown_poller();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("unit_pollers");
    TCase *tcase = tcase_create("pollers");

    tcase_add_loop_test(tcase, test_add_modify_remove, 0, POLLERS);
    tcase_add_loop_test(tcase, test_nobody_starves, 0, POLLERS);
    tcase_add_loop_test(tcase, test_timeouts, 0, POLLERS);
    tcase_add_loop_test(tcase, test_bad_fd, 0, POLLERS);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
