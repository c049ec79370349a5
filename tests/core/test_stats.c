/* test_stats.c -- stats.h: the counters count what they say.
 *
 * SPDX-License-Identifier: MIT
 */
#include <pthread.h>
#include <string.h>

#include "support.h"

static bk_loop *loop;
static bk_loop_stats stats;

static void
setup(void)
{
    loop = support_new_loop(SUPPORT_EPOLL);
}

static void
teardown(void)
{
    support_free_loop(loop);
}

static void
do_nothing(void *arg)
{
    (void)arg;
}

static void
be_busy(void *arg)
{
    uint64_t until_ns = bk_clock_now() + *(const uint64_t *)arg;

    while (bk_clock_now() < until_ns) {
    }
}

static uint64_t
lag_sum(void)
{
    uint64_t sum = 0;

    for (int i = 0; i < BK_LAG_BUCKETS; i++) {
        sum += stats.lag_histogram[i];
    }
    return sum;
}

START_TEST(test_new_loop)
{
    static const bk_loop_stats zeros;

    memset(&stats, 0x5a, sizeof(stats));
    bk_loop_get_stats(loop, &stats);
    ck_assert_mem_eq(&stats, &zeros, sizeof(stats));
    bk_loop_get_stats(NULL, &stats);
    bk_loop_get_stats(loop, NULL);
}
END_TEST

START_TEST(test_turns_and_callbacks)
{
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(bk_loop_call_soon(loop, do_nothing, NULL, NULL), 0);
    }
    support_turns(loop, 5);
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_eq(stats.turns, 5);
    ck_assert_uint_eq(stats.callbacks, 3);
    ck_assert_uint_eq(stats.idle_ns, 0);
}
END_TEST

START_TEST(test_timers)
{
    bk_timer *timer = NULL;

    ck_assert_int_eq(
        bk_loop_call_at(loop, BK_TIME_NEVER, do_nothing, NULL, &timer), 0);
    ck_assert_int_eq(bk_loop_call_at(loop, 1, do_nothing, NULL, NULL), 0);
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_eq(stats.timers_scheduled, 2);
    support_turns(loop, 1);
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_eq(stats.timers_scheduled, 1);
    ck_assert_uint_eq(stats.timers_fired, 1);
    ck_assert_uint_eq(stats.callbacks, 1);
    ck_assert_int_eq(bk_timer_cancel(timer), 1);
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_eq(stats.timers_scheduled, 0);
}
END_TEST

START_TEST(test_busy_and_idle)
{
    const uint64_t busy_ns = 20 * MS;
    uint64_t start_ns = bk_clock_now();
    uint64_t total_ns;

    ck_assert_int_eq(
        bk_loop_call_soon(loop, be_busy, (void *)(uintptr_t)&busy_ns, NULL), 0);
    ck_assert_int_eq(
        bk_loop_call_later(loop, 60 * MS, support_stop, loop, NULL), 0);
    support_run(loop);
    total_ns = bk_clock_now() - start_ns;
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_ge(stats.busy_ns, 20 * MS);
    ck_assert_uint_ge(stats.idle_ns, 10 * MS);
    ck_assert_uint_le(stats.busy_ns + stats.idle_ns, total_ns);
}
END_TEST

static void
look_inside(void *arg)
{
    be_busy(arg);
    bk_loop_get_stats(loop, &stats);
}

START_TEST(test_busy_time_of_the_present_run)
{
    const uint64_t busy_ns = 5 * MS;

    ck_assert_int_eq(
        bk_loop_call_soon(loop, look_inside, (void *)(uintptr_t)&busy_ns, NULL),
        0);
    support_turns(loop, 1);
    ck_assert_uint_ge(stats.busy_ns, 5 * MS);
}
END_TEST

/* 20 ms: bucket 15 is from 16384 to 32767 microseconds. */
START_TEST(test_lag)
{
    const uint64_t busy_ns = 20 * MS;
    uint64_t in_bucket;

    ck_assert_int_eq(bk_loop_call_later(loop, MS, be_busy,
                                        (void *)(uintptr_t)&busy_ns, NULL),
                     0);
    ck_assert_int_eq(bk_loop_call_later(loop, MS, support_stop, loop, NULL), 0);
    support_run(loop);
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_ge(stats.lag_max_ns, 20 * MS);
    ck_assert_uint_eq(lag_sum(), stats.lag_samples);
    in_bucket = 0;
    for (int i = 15; i < BK_LAG_BUCKETS; i++) {
        in_bucket += stats.lag_histogram[i];
    }
    ck_assert_uint_eq(in_bucket, 1);
}
END_TEST

/* Every 64th, and the first three. */
START_TEST(test_lag_is_sampled)
{
    support_turns(loop, 640);
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_eq(stats.lag_samples, 12);
    ck_assert_uint_eq(lag_sum(), 12);
}
END_TEST

static void
hand_on(void *arg)
{
    ck_assert_int_eq(bk_loop_call_soon(loop, be_busy, arg, NULL), 0);
    ck_assert_int_eq(bk_loop_call_later(loop, MS, support_stop, loop, NULL), 0);
}

/* As a task does that a timer has woken. */
START_TEST(test_lag_of_what_was_woken)
{
    const uint64_t busy_ns = 20 * MS;

    support_turns(loop, 10);
    ck_assert_int_eq(bk_loop_call_later(loop, MS, hand_on,
                                        (void *)(uintptr_t)&busy_ns, NULL),
                     0);
    support_run(loop);
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_ge(stats.lag_max_ns, 20 * MS);
}
END_TEST

static void *
wake_loop(void *arg)
{
    (void)arg;
    ck_assert_int_eq(bk_loop_call_soon_threadsafe(loop, support_stop, loop), 0);
    return NULL;
}

/* The inbox is no event that a program can see. */
START_TEST(test_wakeups_are_no_events)
{
    bool is_seen = false;

    for (int i = 0; i < 100 && !is_seen; i++) {
        pthread_t thread;

        ck_assert_int_eq(pthread_create(&thread, NULL, wake_loop, NULL), 0);
        support_run(loop);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        bk_loop_get_stats(loop, &stats);
        is_seen = stats.wakeups > 0;
        ck_assert_uint_eq(stats.callbacks, (uint64_t)i + 1);
    }
    ck_assert(is_seen);
    ck_assert_uint_eq(stats.events, 0);
}
END_TEST

/* Once it has woken, it sleeps as well as before. */
START_TEST(test_sleep_after_a_wakeup)
{
    pthread_t thread;
    uint64_t wakeups;
    uint64_t turns;

    do {
        ck_assert_int_eq(pthread_create(&thread, NULL, wake_loop, NULL), 0);
        support_run(loop);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        bk_loop_get_stats(loop, &stats);
    } while (stats.wakeups == 0 && stats.turns < 1000);
    wakeups = stats.wakeups;
    turns = stats.turns;
    ck_assert_int_eq(bk_loop_call_later(loop, 5 * MS, support_stop, loop, NULL),
                     0);
    support_run(loop);
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_eq(stats.wakeups, wakeups);
    ck_assert_uint_le(stats.turns - turns, 3);
}
END_TEST

static void
on_watch(bk_watch *watch, unsigned events)
{
    (void)watch;
    (void)events;
}

START_TEST(test_events)
{
    bk_watch watch;
    int fds[2];

    support_pair(fds);
    ck_assert_int_eq(bk_watch_init(&watch, loop, fds[0], on_watch), 0);
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE | BK_WRITABLE), 0);
    support_send(fds[1], "x");
    support_turns(loop, 2);
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_eq(stats.events, 2);
    ck_assert_uint_eq(stats.callbacks, 4);
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    support_close_pair(fds);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("test_stats");
    TCase *tcase = tcase_create("stats");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_new_loop);
    tcase_add_test(tcase, test_turns_and_callbacks);
    tcase_add_test(tcase, test_timers);
    tcase_add_test(tcase, test_busy_and_idle);
    tcase_add_test(tcase, test_busy_time_of_the_present_run);
    tcase_add_test(tcase, test_lag);
    tcase_add_test(tcase, test_lag_is_sampled);
    tcase_add_test(tcase, test_lag_of_what_was_woken);
    tcase_add_test(tcase, test_wakeups_are_no_events);
    tcase_add_test(tcase, test_sleep_after_a_wakeup);
    tcase_add_test(tcase, test_events);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
