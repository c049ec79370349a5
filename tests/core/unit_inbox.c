/* unit_inbox.c -- waking a loop that sleeps, step by step.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "loop/internal.h"
#include "support.h"

static bk_loop *loop;

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

/* How often the eventfd was written to since the last look. */
static uint64_t
writes_count(void)
{
    uint64_t count = 0;

    if (read(loop->wake._fd, &count, sizeof(count)) < 0) {
        ck_assert_int_eq(errno, EAGAIN);
    }
    return count;
}

START_TEST(test_only_a_sleeper_is_woken_and_once)
{
    bki_inbox_wake(loop);
    ck_assert_uint_eq(writes_count(), 0);
    ck_assert(bki_inbox_fall_asleep(loop));
    bki_inbox_wake(loop);
    bki_inbox_wake(loop);
    bk_loop_stop(loop);
    ck_assert_uint_eq(writes_count(), 1);
    ck_assert_uint_eq(loop->is_asleep, 0);
    ck_assert_uint_eq(loop->wakers_count, 0);
}
END_TEST

START_TEST(test_who_has_work_does_not_sleep)
{
    ck_assert_int_eq(bk_loop_call_soon_threadsafe(loop, do_nothing, NULL), 0);
    ck_assert(!bki_inbox_fall_asleep(loop));
    ck_assert_uint_eq(loop->is_asleep, 0);
    support_turns(loop, 1);
    ck_assert(bki_inbox_fall_asleep(loop));
    bki_inbox_awake(loop);
    bk_loop_stop(loop);
    ck_assert(!bki_inbox_fall_asleep(loop));
    ck_assert_uint_eq(writes_count(), 0);
}
END_TEST

static void
wait_for_child(pid_t pid)
{
    int status = 0;

    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 42);
}

/* The eventfd is the parent's as well. */
START_TEST(test_a_forked_child_does_not_wake_its_parent)
{
    pid_t pid;

    ck_assert(bki_inbox_fall_asleep(loop));
    pid = fork();
    if (pid == 0) {
        (void)bk_loop_call_soon_threadsafe(loop, do_nothing, NULL);
        bk_loop_stop(loop);
        bk_loop_free(loop);
        _exit(42);
    }
    wait_for_child(pid);
    ck_assert_uint_eq(writes_count(), 0);
    bki_inbox_awake(loop);
}
END_TEST

/* A child that was forked in the middle of a wake-up would wait for ever for
 * the sender, whose thread it does not have. */
START_TEST(test_close_in_a_child_without_the_sender)
{
    pid_t pid;

    loop->wakers_count = 1;
    pid = fork();
    if (pid == 0) {
        bk_loop_free(loop);
        _exit(42);
    }
    wait_for_child(pid);
    loop->wakers_count = 0;
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("unit_inbox");
    TCase *tcase = tcase_create("inbox");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_only_a_sleeper_is_woken_and_once);
    tcase_add_test(tcase, test_who_has_work_does_not_sleep);
    tcase_add_test(tcase, test_a_forked_child_does_not_wake_its_parent);
    tcase_add_test(tcase, test_close_in_a_child_without_the_sender);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
