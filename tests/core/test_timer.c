/* test_timer.c -- timer.h: never early, in order, gone when cancelled.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>

#include "support.h"

static bk_loop *loop;
static uint64_t fake_now_ns;

struct alarm {
    bk_timer timer; /* first */
    char letter;
    uint64_t fired_ns;
    void (*more)(struct alarm *alarm);
    struct alarm *other;
    int code;
};

static struct alarm alarms[8];

static void
on_alarm(bk_handle *handle)
{
    struct alarm *alarm = (struct alarm *)(void *)bk_timer_of(handle);

    alarm->fired_ns = bk_loop_time(loop);
    support_note(alarm->letter);
    ck_assert(!bk_timer_is_scheduled(&alarm->timer));
    if (alarm->more != NULL) {
        alarm->more(alarm);
    }
}

static void
init_alarms(void)
{
    for (int i = 0; i < 8; i++) {
        alarms[i] = (struct alarm){.letter = (char)('a' + i)};
        bk_timer_init(&alarms[i].timer, on_alarm);
    }
}

static void
setup(void)
{
    loop = support_new_loop(SUPPORT_EPOLL);
    init_alarms();
}

static uint64_t
fake_now(void *arg)
{
    (void)arg;
    return fake_now_ns;
}

/* A loop whose time stands still unless the test moves it. */
static void
setup_fake(void)
{
    const bk_loop_hooks hooks = {.now_ns = fake_now};

    loop = support_new_loop_with(SUPPORT_EPOLL, &hooks);
    fake_now_ns = 1000;
    init_alarms();
}

static void
teardown(void)
{
    support_free_loop(loop);
}

static void
at(int i, uint64_t when_ns)
{
    ck_assert_int_eq(bk_loop_schedule_at(loop, &alarms[i].timer, when_ns), 0);
    ck_assert_uint_eq(bk_timer_when(&alarms[i].timer), when_ns);
    ck_assert(bk_timer_is_scheduled(&alarms[i].timer));
}

static void
stop_loop(struct alarm *alarm)
{
    (void)alarm;
    bk_loop_stop(loop);
}

START_TEST(test_order)
{
    at(0, 3000);
    at(1, 2000);
    at(2, 3000);
    at(3, 1500);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "");
    fake_now_ns = 1999;
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "d");
    fake_now_ns = 2000;
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "db");
    fake_now_ns = 5000;
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "dbac");
}
END_TEST

START_TEST(test_equal_times_in_the_order_of_scheduling)
{
    for (int i = 7; i >= 0; i--) {
        at(i, 2000);
    }
    fake_now_ns = 2000;
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "hgfedcba");
}
END_TEST

START_TEST(test_equal_times_in_the_order_of_ranks)
{
    static const uint16_t ranks[] = {UINT16_MAX, 0, 7, 7, 1};

    for (int i = 0; i < 5; i++) {
        bk_timer_set_rank(&alarms[i].timer, ranks[i]);
        at(i, 2000);
    }
    at(5, 1999);
    at(6, 2001);
    fake_now_ns = 2001;
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "fbecdag");
}
END_TEST

START_TEST(test_a_time_that_has_passed)
{
    at(0, 0);
    at(1, 1000);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "ab");
}
END_TEST

static void
schedule_other_now(struct alarm *alarm)
{
    ck_assert_int_eq(
        bk_loop_schedule_at(loop, &alarm->other->timer, bk_loop_time(loop)), 0);
}

START_TEST(test_what_a_callback_schedules_for_now_waits_a_turn)
{
    alarms[0].more = schedule_other_now;
    alarms[0].other = &alarms[1];
    at(0, 1000);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "a");
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "ab");
}
END_TEST

START_TEST(test_cancel)
{
    ck_assert_int_eq(bk_timer_cancel(&alarms[0].timer), 0);
    at(0, 1000);
    at(1, 1000);
    at(2, 1000);
    ck_assert_int_eq(bk_timer_cancel(&alarms[1].timer), 1);
    ck_assert_int_eq(bk_timer_cancel(&alarms[1].timer), 0);
    ck_assert(!bk_timer_is_scheduled(&alarms[1].timer));
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "ac");
    ck_assert_int_eq(bk_timer_cancel(NULL), -EINVAL);
}
END_TEST

static void
cancel_other(struct alarm *alarm)
{
    alarm->code = bk_timer_cancel(&alarm->other->timer);
}

/* Due, and out of the heap already. */
START_TEST(test_cancel_in_the_same_batch)
{
    alarms[0].more = cancel_other;
    alarms[0].other = &alarms[1];
    at(0, 1000);
    at(1, 1000);
    at(2, 1000);
    support_turns(loop, 1);
    ck_assert_int_eq(alarms[0].code, 1);
    ck_assert_str_eq(support_log(), "ac");
}
END_TEST

static void
cancel_other_by_handle(struct alarm *alarm)
{
    alarm->code = bk_handle_cancel(&alarm->other->timer._handle);
}

START_TEST(test_cancel_by_its_handle)
{
    alarms[0].more = cancel_other_by_handle;
    alarms[0].other = &alarms[1];
    at(0, 1000);
    at(1, 9000);
    support_turns(loop, 1);
    ck_assert_int_eq(alarms[0].code, 1);
    ck_assert(!bk_timer_is_scheduled(&alarms[1].timer));
    fake_now_ns = 10000;
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "a");
}
END_TEST

START_TEST(test_move)
{
    at(0, 2000);
    at(1, 2000);
    at(0, 3000); /* later */
    at(2, 9000);
    at(2, 1500); /* earlier */
    at(1, 2000); /* same time, but behind who came since */
    fake_now_ns = 2500;
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "cb");
    fake_now_ns = 9999;
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "cba");
}
END_TEST

static void
move_other(struct alarm *alarm)
{
    alarm->code = bk_loop_schedule_at(loop, &alarm->other->timer, 5000);
}

START_TEST(test_move_of_one_that_is_due)
{
    alarms[0].more = move_other;
    alarms[0].other = &alarms[1];
    at(0, 1000);
    at(1, 1000);
    support_turns(loop, 2);
    ck_assert_int_eq(alarms[0].code, 0);
    ck_assert_str_eq(support_log(), "a");
    fake_now_ns = 5000;
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "ab");
}
END_TEST

START_TEST(test_never)
{
    fake_now_ns = BK_TIME_NEVER;
    at(0, BK_TIME_NEVER);
    at(1, BK_TIME_NEVER - 1);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "b");
}
END_TEST

static void
note_arg(void *arg)
{
    support_note(*(const char *)arg);
}

START_TEST(test_call_later_and_call_at)
{
    bk_timer *timer = NULL;

    ck_assert_int_eq(bk_loop_call_later(loop, 500, note_arg, "x", &timer), 0);
    ck_assert_uint_eq(bk_timer_when(timer), 1500);
    ck_assert_int_eq(bk_loop_call_at(loop, 1400, note_arg, "y", NULL), 0);
    ck_assert_int_eq(bk_loop_call_at(loop, 1450, note_arg, "z", &timer), 0);
    ck_assert_int_eq(bk_timer_cancel(timer), 1);
    ck_assert_int_eq(
        bk_loop_call_later(loop, BK_TIME_NEVER, note_arg, "n", &timer), 0);
    ck_assert(bk_timer_when(timer) == BK_TIME_NEVER);
    ck_assert_int_eq(
        bk_loop_call_later(loop, BK_TIME_NEVER - 5, note_arg, "o", &timer), 0);
    ck_assert(bk_timer_when(timer) == BK_TIME_NEVER);
    fake_now_ns = 2000;
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "yx");
}
END_TEST

START_TEST(test_bad_arguments)
{
    bk_timer empty = {0};
    bk_timer *timer = &empty;

    ck_assert_int_eq(bk_loop_schedule_at(NULL, &alarms[0].timer, 0), -EINVAL);
    ck_assert_int_eq(bk_loop_schedule_at(loop, NULL, 0), -EINVAL);
    ck_assert_int_eq(bk_loop_schedule_at(loop, &empty, 0), -EINVAL);
    ck_assert_int_eq(bk_loop_call_later(NULL, 0, note_arg, "", &timer),
                     -EINVAL);
    ck_assert_int_eq(bk_loop_call_later(loop, 0, NULL, "", &timer), -EINVAL);
    ck_assert_int_eq(bk_loop_call_at(NULL, 0, note_arg, "", &timer), -EINVAL);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_int_eq(bk_loop_schedule_at(loop, &alarms[0].timer, 0), -EBADF);
    ck_assert_int_eq(bk_loop_call_at(loop, 0, note_arg, "", &timer), -EBADF);
    ck_assert_int_eq(bk_loop_call_later(loop, 0, note_arg, "", &timer), -EBADF);
    ck_assert_ptr_eq(timer, &empty);
}
END_TEST

/* One loop's timer is no other's to move. */
START_TEST(test_timer_of_another_loop)
{
    bk_loop *other = NULL;

    ck_assert_int_eq(bk_loop_new(NULL, &other), 0);
    at(0, 5000);
    ck_assert_int_eq(bk_loop_schedule_at(other, &alarms[0].timer, 0), -EBUSY);
    ck_assert_int_eq(bk_timer_cancel(&alarms[0].timer), 1);
    ck_assert_int_eq(bk_loop_schedule_at(other, &alarms[0].timer, 0), 0);
    ck_assert_int_eq(bk_timer_cancel(&alarms[0].timer), 1);
    bk_loop_free(other);
}
END_TEST

START_TEST(test_close_drops_timers)
{
    at(0, 5000);
    ck_assert_int_eq(bk_loop_call_at(loop, 5000, note_arg, "x", NULL), 0);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert(!bk_timer_is_scheduled(&alarms[0].timer));
    ck_assert_int_eq(bk_timer_cancel(&alarms[0].timer), 0);
}
END_TEST

/* The real clock. */

START_TEST(test_never_early)
{
    uint64_t whens[8];
    uint64_t start_ns = bk_loop_time(loop);

    for (int i = 0; i < 8; i++) {
        whens[i] = start_ns + (uint64_t)i * 700000 + 123;
        at(i, whens[i]);
    }
    alarms[7].more = stop_loop;
    support_run(loop);
    ck_assert_str_eq(support_log(), "abcdefgh");
    for (int i = 0; i < 8; i++) {
        ck_assert_uint_ge(alarms[i].fired_ns, whens[i]);
    }
}
END_TEST

static uint64_t
shortest_wait_ns(uint64_t delay_ns)
{
    uint64_t best_ns = UINT64_MAX;

    for (int i = 0; i < 20; i++) {
        uint64_t start_ns = bk_loop_time(loop);

        alarms[0].more = stop_loop;
        at(0, start_ns + delay_ns);
        support_run(loop);
        ck_assert_uint_ge(alarms[0].fired_ns, start_ns + delay_ns);
        if (alarms[0].fired_ns - start_ns < best_ns) {
            best_ns = alarms[0].fired_ns - start_ns;
        }
    }
    return best_ns;
}

/* Rounding up to milliseconds would make it 1 ms at least. The best of some
 * tries, since a busy machine wakes late. */
START_TEST(test_waits_are_shorter_than_a_millisecond)
{
    ck_assert_uint_lt(shortest_wait_ns(MS / 5), MS);
}
END_TEST

/* A wait that is one system call, not many short ones. */
START_TEST(test_waiting_does_not_spin)
{
    bk_loop_stats stats;

    alarms[0].more = stop_loop;
    at(0, bk_loop_time(loop) + 30 * MS);
    support_run(loop);
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_le(stats.turns, 3);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("test_timer");
    TCase *fake = tcase_create("fake clock");
    TCase *real = tcase_create("real clock");

    tcase_add_checked_fixture(fake, setup_fake, teardown);
    tcase_add_test(fake, test_order);
    tcase_add_test(fake, test_equal_times_in_the_order_of_scheduling);
    tcase_add_test(fake, test_equal_times_in_the_order_of_ranks);
    tcase_add_test(fake, test_a_time_that_has_passed);
    tcase_add_test(fake, test_what_a_callback_schedules_for_now_waits_a_turn);
    tcase_add_test(fake, test_cancel);
    tcase_add_test(fake, test_cancel_in_the_same_batch);
    tcase_add_test(fake, test_cancel_by_its_handle);
    tcase_add_test(fake, test_move);
    tcase_add_test(fake, test_move_of_one_that_is_due);
    tcase_add_test(fake, test_never);
    tcase_add_test(fake, test_call_later_and_call_at);
    tcase_add_test(fake, test_bad_arguments);
    tcase_add_test(fake, test_timer_of_another_loop);
    tcase_add_test(fake, test_close_drops_timers);
    suite_add_tcase(suite, fake);
    tcase_add_checked_fixture(real, setup, teardown);
    tcase_add_test(real, test_never_early);
    tcase_add_test(real, test_waits_are_shorter_than_a_millisecond);
    tcase_add_test(real, test_waiting_does_not_spin);
    suite_add_tcase(suite, real);
    return support_main(suite);
}
