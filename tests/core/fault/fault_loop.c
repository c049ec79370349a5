/* fault_loop.c -- each system call of the loop made to fail in turn.
 *
 * SPDX-License-Identifier: MIT
 *
 * A scenario is run again and again, each time with the next call failing,
 * until it makes fewer calls than that. It may end early with a code, but it
 * always ends, and leaves nothing behind.
 */
#include "base/fault.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

enum { NTH_MAX = 2000 }; /* more calls than any scenario makes */

static const int codes[] = {-ENOMEM, -EMFILE, -EINTR, -EBADF};

enum { CODES = sizeof(codes) / sizeof(codes[0]) };

static bk_loop *loop;
static int fds[2];
static int runs_count;

static void
count_run(void *arg)
{
    (void)arg;
    runs_count++;
}

static void
on_watch(bk_watch *watch, unsigned events)
{
    char bytes[16];
    ssize_t n = read(bk_watch_fd(watch), bytes, sizeof(bytes));

    (void)events;
    if (n > 0) {
        runs_count++;
    }
    else if (n == 0 || errno != EAGAIN) {
        (void)bk_watch_set(watch, 0);
    }
}

/* A run that ends by itself, whatever is missing. */
static void
run_bounded(void)
{
    for (int i = 0; i < 20; i++) {
        bk_loop_stop(loop);
        (void)bk_loop_run_forever(loop);
    }
}

static void
do_everything(void)
{
    bk_watch watch;
    bk_watch other;

    for (int i = 0; i < 5; i++) {
        (void)bk_loop_call_soon(loop, count_run, NULL, NULL);
        (void)bk_loop_call_soon_threadsafe(loop, count_run, NULL);
        (void)bk_loop_call_later(loop, (uint64_t)i, count_run, NULL, NULL);
    }
    if (bk_watch_init(&watch, loop, fds[0], on_watch) == 0) {
        (void)bk_watch_set(&watch, BK_READABLE);
        (void)bk_watch_set(&watch, BK_READABLE | BK_WRITABLE);
    }
    if (bk_watch_init(&other, loop, fds[1], on_watch) == 0) {
        (void)bk_watch_set(&other, BK_WRITABLE);
    }
    run_bounded();
    (void)bk_watch_set(&watch, 0);
    (void)bk_watch_set(&other, 0);
    run_bounded();
}

static void
run_scenario(int poller)
{
    bk_loop_options options = support_options(poller);

    loop = NULL;
    if (bk_loop_new(&options, &loop) == 0) {
        do_everything();
        bk_loop_free(loop);
    }
    else {
        ck_assert_ptr_null(loop);
    }
}

static void
sweep(int poller, int code)
{
    for (unsigned nth = 1;; nth++) {
        ck_assert_uint_lt(nth, NTH_MAX);
        support_leaks_begin();
        bki_fault_arm(BKI_SYS_ANY, nth, code);
        run_scenario(poller);
        if (!bki_fault_disarm()) {
            support_leaks_end();
            return;
        }
        support_leaks_end();
    }
}

START_TEST(test_every_call_once)
{
    support_pair(fds);
    sweep(_i / CODES, codes[_i % CODES]);
    support_close_pair(fds);
}
END_TEST

/* From the nth call on, all of them: memory does not come back. */
START_TEST(test_no_memory_any_more)
{
    static const enum bki_sys_call allocations[] = {
        BKI_SYS_MALLOC, BKI_SYS_CALLOC, BKI_SYS_REALLOC};

    support_pair(fds);
    for (size_t i = 0; i < 3; i++) {
        for (unsigned nth = 1; nth < 50; nth++) {
            support_leaks_begin();
            bki_fault_arm_all(allocations[i], nth, -ENOMEM);
            run_scenario(_i);
            (void)bki_fault_disarm();
            support_leaks_end();
        }
    }
    support_close_pair(fds);
}
END_TEST

/* The codes arrive. */

static void
fail_new(int poller, enum bki_sys_call call, int code)
{
    bk_loop_options options = support_options(poller);

    loop = NULL;
    support_leaks_begin();
    bki_fault_arm(call, 1, code);
    ck_assert_int_eq(bk_loop_new(&options, &loop), code);
    ck_assert(bki_fault_disarm());
    ck_assert_ptr_null(loop);
    support_leaks_end();
}

START_TEST(test_new_tells_why)
{
    fail_new(SUPPORT_EPOLL, BKI_SYS_CALLOC, -ENOMEM);
    fail_new(SUPPORT_EPOLL, BKI_SYS_MALLOC, -ENOMEM);
    fail_new(SUPPORT_EPOLL, BKI_SYS_REALLOC, -ENOMEM);
    fail_new(SUPPORT_EPOLL, BKI_SYS_EVENTFD, -EMFILE);
    fail_new(SUPPORT_EPOLL, BKI_SYS_EPOLL_CREATE, -ENFILE);
    fail_new(SUPPORT_EPOLL, BKI_SYS_EPOLL_CREATE, -ENOSYS); /* no fallback */
    fail_new(SUPPORT_EPOLL, BKI_SYS_EPOLL_CTL, -ENOSPC);
    fail_new(SUPPORT_POLL, BKI_SYS_CALLOC, -ENOMEM);
    fail_new(SUPPORT_POLL, BKI_SYS_REALLOC, -ENOMEM);
    fail_new(SUPPORT_EXTERNAL, BKI_SYS_EVENTFD, -EMFILE);
}
END_TEST

START_TEST(test_auto_falls_back)
{
    static const int missing[] = {-ENOSYS, -EPERM};

    for (size_t i = 0; i < 2; i++) {
        bki_fault_arm(BKI_SYS_EPOLL_CREATE, 1, missing[i]);
        ck_assert_int_eq(bk_loop_new(NULL, &loop), 0);
        ck_assert(bki_fault_disarm());
        ck_assert_str_eq(bk_loop_backend(loop), "poll");
        support_turns(loop, 1);
        bk_loop_free(loop);
    }
    loop = NULL;
    bki_fault_arm(BKI_SYS_EPOLL_CREATE, 1, -EMFILE);
    ck_assert_int_eq(bk_loop_new(NULL, &loop), -EMFILE);
    ck_assert(bki_fault_disarm());
    ck_assert_ptr_null(loop);
}
END_TEST

static uint64_t
wait_for_timer(uint64_t delay_ns)
{
    uint64_t start_ns = bk_loop_time(loop);
    uint64_t passed_ns;

    ck_assert_int_eq(
        bk_loop_call_later(loop, delay_ns, support_stop, loop, NULL), 0);
    support_run(loop);
    passed_ns = bk_loop_time(loop) - start_ns;
    ck_assert_uint_ge(passed_ns, delay_ns);
    return passed_ns;
}

/* Milliseconds then, and not one early. */
START_TEST(test_without_epoll_pwait2)
{
    static const int missing[] = {-ENOSYS, -EPERM};

    for (size_t i = 0; i < 2; i++) {
        bk_loop_stats stats;

        loop = support_new_loop(SUPPORT_EPOLL);
        bki_fault_arm(BKI_SYS_EPOLL_PWAIT2, 1, missing[i]);
        (void)wait_for_timer(MS / 10);
        (void)wait_for_timer(2 * MS);
        ck_assert_uint_eq(bki_fault_count(BKI_SYS_EPOLL_PWAIT2), 1);
        ck_assert(bki_fault_disarm());
        bk_loop_get_stats(loop, &stats);
        ck_assert_uint_le(stats.turns, 6); /* rounded up: it does not spin */
        support_free_loop(loop);
    }
}
END_TEST

/* Any other failure of the wait ends the run, and the loop is still good. */
START_TEST(test_a_failing_wait)
{
    loop = support_new_loop(SUPPORT_EPOLL);
    bki_fault_arm(BKI_SYS_EPOLL_WAIT, 1, -EBADF);
    ck_assert_int_eq(bk_loop_run_forever(loop), -EBADF);
    ck_assert(bki_fault_disarm());
    support_turns(loop, 2);
    support_free_loop(loop);

    loop = support_new_loop(SUPPORT_POLL);
    bki_fault_arm(BKI_SYS_POLL, 1, -ENOMEM);
    ck_assert_int_eq(bk_loop_run_forever(loop), -ENOMEM);
    ck_assert(bki_fault_disarm());
    support_turns(loop, 2);
    support_free_loop(loop);
}
END_TEST

/* A signal that comes in the middle is nothing to whoever begins to watch. */
START_TEST(test_a_signal_while_watching_begins)
{
    bk_watch watch;

    support_pair(fds);
    loop = support_new_loop(SUPPORT_POLL);
    ck_assert_int_eq(bk_watch_init(&watch, loop, fds[0], on_watch), 0);
    bki_fault_arm_all(BKI_SYS_POLL, 1, -EINTR);
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE), 0);
    (void)bki_fault_disarm();
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    support_free_loop(loop);
    support_close_pair(fds);
}
END_TEST

static void
watch_something(void)
{
    bk_watch watch;

    /* Fork is noticed also without the page that the kernel wipes. */
    ck_assert_int_eq(bk_watch_init(&watch, loop, fds[0], on_watch), 0);
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE), -ECHILD);
    ck_assert_int_eq(bk_loop_run_forever(loop), -ECHILD);
}

START_TEST(test_fork_without_the_page)
{
    static const enum bki_sys_call calls[] = {BKI_SYS_MMAP, BKI_SYS_MADVISE};

    support_pair(fds);
    for (size_t i = 0; i < 2; i++) {
        pid_t pid;
        int status = 0;

        bki_fault_arm(calls[i], 1, -EINVAL);
        loop = support_new_loop(SUPPORT_EPOLL);
        ck_assert(bki_fault_disarm());
        ck_assert(!bk_loop_is_forked(loop));
        support_turns(loop, 1);
        pid = fork();
        if (pid == 0) {
            ck_assert(bk_loop_is_forked(loop));
            watch_something();
            support_free_loop(loop);
            _exit(42);
        }
        ck_assert_int_eq(waitpid(pid, &status, 0), pid);
        ck_assert(WIFEXITED(status));
        ck_assert_int_eq(WEXITSTATUS(status), 42);
        support_free_loop(loop);
    }
    support_close_pair(fds);
}
END_TEST

static void *
wake_loop(void *arg)
{
    (void)arg;
    if (bk_loop_call_soon_threadsafe(loop, support_stop, loop) != 0) {
        abort();
    }
    return NULL;
}

START_TEST(test_call_soon_threadsafe_without_memory)
{
    pthread_t thread;

    loop = support_new_loop(SUPPORT_EPOLL);
    bki_fault_arm(BKI_SYS_MALLOC, 1, -ENOMEM);
    ck_assert_int_eq(bk_loop_call_soon_threadsafe(loop, support_stop, loop),
                     -ENOMEM);
    ck_assert(bki_fault_disarm());
    ck_assert_int_eq(pthread_create(&thread, NULL, wake_loop, NULL), 0);
    support_run(loop);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    support_free_loop(loop);
}
END_TEST

/* The set that cannot be made anew yet is made anew later, and what cannot be
 * told now is told then. */
START_TEST(test_rebuild_that_fails)
{
    bk_loop_stats before;
    bk_loop_stats after;
    bk_watch zombie;
    bk_watch watch;
    int others[2];
    int copy;

    support_pair(fds);
    support_pair(others);
    loop = support_new_loop(SUPPORT_EPOLL);
    ck_assert_int_eq(bk_watch_init(&zombie, loop, others[0], on_watch), 0);
    ck_assert_int_eq(bk_watch_init(&watch, loop, fds[0], on_watch), 0);
    ck_assert_int_eq(bk_watch_set(&zombie, BK_WRITABLE), 0);
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE), 0);
    copy = dup(others[0]);
    ck_assert_int_eq(close(others[0]), 0);
    ck_assert_int_eq(bk_watch_set(&zombie, 0), 0);
    bki_fault_arm_all(BKI_SYS_EPOLL_CREATE, 1, -EMFILE);
    support_turns(loop, 10);
    ck_assert(bki_fault_disarm());
    bki_fault_arm_all(BKI_SYS_EPOLL_CTL, (unsigned)_i, -ENOMEM);
    support_turns(loop, 10);
    ck_assert(bki_fault_disarm());
    bk_loop_get_stats(loop, &before);
    (void)wait_for_timer(5 * MS);
    bk_loop_get_stats(loop, &after);
    ck_assert_uint_le(after.turns - before.turns, 3);
    runs_count = 0;
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(runs_count, 1);
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    ck_assert_int_eq(close(copy), 0);
    ck_assert_int_eq(close(others[1]), 0);
    bk_loop_free(loop);
    support_close_pair(fds);
}
END_TEST

static void
add_tests(TCase *tcase)
{
    tcase_add_loop_test(tcase, test_every_call_once, 0,
                        SUPPORT_POLLERS * CODES);
    tcase_add_loop_test(tcase, test_no_memory_any_more, 0, SUPPORT_POLLERS);
    tcase_add_test(tcase, test_new_tells_why);
    tcase_add_test(tcase, test_auto_falls_back);
    tcase_add_test(tcase, test_without_epoll_pwait2);
    tcase_add_test(tcase, test_a_failing_wait);
    tcase_add_test(tcase, test_a_signal_while_watching_begins);
    tcase_add_test(tcase, test_fork_without_the_page);
    tcase_add_test(tcase, test_call_soon_threadsafe_without_memory);
    tcase_add_loop_test(tcase, test_rebuild_that_fails, 1, 3);
}

int
main(void)
{
    Suite *suite = suite_create("fault_loop");
    TCase *tcase = tcase_create("faults");

    add_tests(tcase);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
