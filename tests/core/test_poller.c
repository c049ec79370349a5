/* test_poller.c -- poller.h: a poller from outside.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <string.h>
#include <unistd.h>

#include "support.h"

static bk_loop *loop;
static int fds[2];
static bk_watch watch;

static void
on_watch(bk_watch *w, unsigned events)
{
    (void)w;
    support_note((events & BK_READABLE) != 0 ? 'r' : 'w');
}

static void
setup(void)
{
    support_pair(fds);
    loop = support_new_loop(SUPPORT_EXTERNAL);
    ck_assert_int_eq(bk_watch_init(&watch, loop, fds[0], on_watch), 0);
}

static void
teardown(void)
{
    support_free_loop(loop);
    support_close_pair(fds);
}

/* The inbox's fd is the only one at first, and leaves before the close. */
START_TEST(test_life)
{
    ck_assert_str_eq(bk_loop_backend(loop), "test");
    ck_assert_uint_eq(support_external.known_count, 1);
    ck_assert_uint_eq(support_external.known[0].events, BK_READABLE);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_uint_eq(support_external.known_count, 0);
    ck_assert_uint_eq(support_external.closes, 1);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_uint_eq(support_external.closes, 1);
}
END_TEST

START_TEST(test_told_at_once)
{
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE), 0);
    ck_assert_uint_eq(support_external.adds, 2);
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE | BK_WRITABLE), 0);
    ck_assert_uint_eq(support_external.modifies, 1);
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    ck_assert_uint_eq(support_external.removes, 1);
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    ck_assert_uint_eq(support_external.removes, 1);
}
END_TEST

START_TEST(test_waited_for_every_turn)
{
    support_turns(loop, 3);
    ck_assert_uint_eq(support_external.waits, 3);
    ck_assert_uint_eq(support_external.timeout_ns, 0);
}
END_TEST

START_TEST(test_timeouts)
{
    bk_timer *timer = NULL;

    ck_assert_int_eq(
        bk_loop_call_later(loop, 20 * MS, support_stop, loop, NULL), 0);
    ck_assert_int_eq(bk_loop_run_forever(loop), 0);
    ck_assert_uint_le(support_external.timeout_ns, 20 * MS);
    ck_assert_uint_gt(support_external.timeout_ns, 0);

    /* One wait is a day at most; without a timer there is no limit. */
    support_external.wait_code = -EPIPE;
    ck_assert_int_eq(bk_loop_call_later(loop, 100 * 24 * 3600 * S, support_stop,
                                        loop, &timer),
                     0);
    ck_assert_int_eq(bk_loop_run_forever(loop), -EPIPE);
    ck_assert_uint_eq(support_external.timeout_ns, 24 * 3600 * S);
    ck_assert_int_eq(bk_timer_cancel(timer), 1);
    ck_assert_int_eq(bk_loop_run_forever(loop), -EPIPE);
    ck_assert(support_external.timeout_ns == BK_TIME_NEVER);
}
END_TEST

START_TEST(test_a_failing_wait_ends_the_run)
{
    bk_handle *handle = NULL;

    support_external.wait_code = -EIO;
    ck_assert_int_eq(bk_loop_call_soon(loop, support_stop, loop, &handle), 0);
    ck_assert_int_eq(bk_loop_run_forever(loop), -EIO);
    ck_assert(bk_handle_is_scheduled(handle));
    support_external.wait_code = 0;
    support_run(loop);
}
END_TEST

START_TEST(test_more_events_than_there_is_room_for)
{
    support_external.wait_code = 1 << 20;
    ck_assert_int_eq(bk_loop_run_forever(loop), -EINVAL);
}
END_TEST

START_TEST(test_an_interrupted_wait_does_not)
{
    support_external.wait_code = -EINTR;
    ck_assert_int_eq(bk_loop_call_soon(loop, support_stop, loop, NULL), 0);
    ck_assert_int_eq(bk_loop_run_forever(loop), 0);
}
END_TEST

START_TEST(test_failing_changes)
{
    support_external.add_code = -ENOSPC;
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE), -ENOSPC);
    ck_assert_uint_eq(bk_watch_get(&watch), 0);
    support_external.add_code = 0;
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE), 0);
    support_external.add_code = -ENOMEM;
    ck_assert_int_eq(bk_watch_set(&watch, BK_WRITABLE), -ENOMEM);
    ck_assert_uint_eq(bk_watch_get(&watch), BK_READABLE);
    support_external.add_code = 0;
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "r");
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
}
END_TEST

/* A poller may hold fds of others, and may report nonsense. */
START_TEST(test_foreign_fds)
{
    bk_loop_stats stats;

    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE), 0);
    support_send(fds[1], "x");
    support_external.foreign_fd = 1 << 20;
    support_turns(loop, 3);
    support_external.foreign_fd = fds[1];
    support_turns(loop, 3);
    support_external.foreign_fd = -7;
    support_turns(loop, 3);
    ck_assert_str_eq(support_log(), "rrrrrrrrr");
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_eq(stats.events, 9);
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
}
END_TEST

/* Code that runs inside the wait uses the loop. */
static void
use_loop(struct support_poller *poller)
{
    poller->on_wait = NULL;
    ck_assert_int_eq(bk_watch_set(&watch, BK_WRITABLE), 0);
    ck_assert_int_eq(bk_loop_call_soon(loop, support_stop, loop, NULL), 0);
    ck_assert_int_eq(bk_loop_close(loop), -EBUSY);
}

START_TEST(test_the_wait_uses_the_loop)
{
    support_external.on_wait = use_loop;
    support_run(loop);
    ck_assert_str_eq(support_log(), "w");
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
}
END_TEST

START_TEST(test_missing_members)
{
    bk_poller_ops ops[6];
    bk_loop *other = NULL;

    for (int i = 0; i < 6; i++) {
        bk_loop_options options = {.poller = &ops[i],
                                   .poller_self = &support_external};

        ops[i] = support_poller_ops;
        if (i == 0) {
            ops[i].name = NULL;
        }
        else if (i == 1) {
            ops[i].add = NULL;
        }
        else if (i == 2) {
            ops[i].modify = NULL;
        }
        else if (i == 3) {
            ops[i].remove = NULL;
        }
        else if (i == 4) {
            ops[i].wait = NULL;
        }
        else {
            ops[i].close = NULL;
        }
        ck_assert_int_eq(bk_loop_new(&options, &other), -EINVAL);
    }
    ck_assert_ptr_null(other);
}
END_TEST

/* A loop that cannot be made leaves the poller to its owner. */
START_TEST(test_a_poller_that_refuses_the_inbox)
{
    struct support_poller poller;
    bk_loop_options options = {.poller = &support_poller_ops,
                               .poller_self = &poller};
    bk_loop *other = NULL;
    int before = support_open_fds();

    support_poller_init(&poller);
    poller.add_code = -EPERM;
    ck_assert_int_eq(bk_loop_new(&options, &other), -EPERM);
    ck_assert_ptr_null(other);
    ck_assert_uint_eq(poller.closes, 0);
    ck_assert_uint_eq(poller.known_count, 0);
    ck_assert_int_eq(support_open_fds(), before);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("test_poller");
    TCase *tcase = tcase_create("poller");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_life);
    tcase_add_test(tcase, test_told_at_once);
    tcase_add_test(tcase, test_waited_for_every_turn);
    tcase_add_test(tcase, test_timeouts);
    tcase_add_test(tcase, test_a_failing_wait_ends_the_run);
    tcase_add_test(tcase, test_more_events_than_there_is_room_for);
    tcase_add_test(tcase, test_an_interrupted_wait_does_not);
    tcase_add_test(tcase, test_failing_changes);
    tcase_add_test(tcase, test_foreign_fds);
    tcase_add_test(tcase, test_the_wait_uses_the_loop);
    tcase_add_test(tcase, test_missing_members);
    tcase_add_test(tcase, test_a_poller_that_refuses_the_inbox);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
