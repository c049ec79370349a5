/* test_loop.c -- loop.h: the turn, its end, other threads, forks.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

static bk_loop *loop;
static int fds[2];
static bk_watch watch;

static void
note_arg(void *arg)
{
    support_note(*(const char *)arg);
}

static void
call(bk_callback callback, void *arg)
{
    ck_assert_int_eq(bk_loop_call_soon(loop, callback, arg, NULL), 0);
}

static void
stop_loop(void *arg)
{
    (void)arg;
    bk_loop_stop(loop);
}

/* The order of one turn. */

static void
on_watch(bk_watch *w, unsigned events)
{
    (void)w;
    support_note((events & BK_READABLE) != 0 ? 'r' : 'w');
}

static void
watch_pair(unsigned events)
{
    support_pair(fds);
    ck_assert_int_eq(bk_watch_init(&watch, loop, fds[0], on_watch), 0);
    ck_assert_int_eq(bk_watch_set(&watch, events), 0);
}

static void
unwatch_pair(void)
{
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    support_close_pair(fds);
}

START_TEST(test_order_of_a_turn)
{
    loop = support_new_loop(_i);
    watch_pair(BK_READABLE | BK_WRITABLE);
    support_send(fds[1], "x");
    ck_assert_int_eq(bk_loop_call_at(loop, 0, note_arg, "t", NULL), 0);
    call(note_arg, "a");
    ck_assert_int_eq(bk_loop_call_soon_threadsafe(loop, note_arg, "i"), 0);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "airwt");
    unwatch_pair();
    support_free_loop(loop);
}
END_TEST

static void
send_x(void *arg)
{
    (void)arg;
    support_send(fds[1], "x");
    call(note_arg, "n");
}

/* A turn that has work still looks for I/O. */
START_TEST(test_a_busy_turn_polls)
{
    loop = support_new_loop(_i);
    watch_pair(BK_READABLE);
    call(send_x, NULL);
    support_turns(loop, 2);
    ck_assert_str_eq(support_log(), "nr");
    unwatch_pair();
    support_free_loop(loop);
}
END_TEST

/* stop and break. */

START_TEST(test_stop_lets_the_batch_finish)
{
    loop = support_new_loop(_i);
    call(note_arg, "a");
    call(stop_loop, NULL);
    call(note_arg, "b");
    ck_assert_int_eq(bk_loop_run_forever(loop), 0);
    ck_assert_str_eq(support_log(), "ab");
    support_free_loop(loop);
}
END_TEST

START_TEST(test_stop_before_a_run_is_one_turn_without_a_wait)
{
    loop = support_new_loop(_i);
    bk_loop_stop(loop);
    ck_assert_int_eq(bk_loop_run_forever(loop), 0);
    bk_loop_stop(loop);
    call(note_arg, "a");
    ck_assert_int_eq(bk_loop_run_forever(loop), 0);
    ck_assert_str_eq(support_log(), "a");
    /* It is forgotten with the run. */
    call(stop_loop, NULL);
    call(stop_loop, NULL);
    support_run(loop);
    ck_assert_int_eq(bk_loop_call_later(loop, MS, note_arg, "b", NULL), 0);
    ck_assert_int_eq(bk_loop_call_later(loop, MS, stop_loop, NULL, NULL), 0);
    support_run(loop);
    ck_assert_str_eq(support_log(), "ab");
    support_free_loop(loop);
}
END_TEST

static void *
stop_from_thread(void *arg)
{
    (void)arg;
    bk_loop_stop(loop);
    return NULL;
}

/* Most often the loop sleeps by then, sometimes it does not yet. */
START_TEST(test_stop_from_another_thread)
{
    loop = support_new_loop(_i);
    for (int i = 0; i < 200; i++) {
        pthread_t thread;

        ck_assert_int_eq(pthread_create(&thread, NULL, stop_from_thread, NULL),
                         0);
        support_run(loop);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
    }
    support_free_loop(loop);
}
END_TEST

static void *
send_stop(void *arg)
{
    (void)arg;
    if (bk_loop_call_soon_threadsafe(loop, stop_loop, NULL) != 0) {
        abort();
    }
    return NULL;
}

/* The sender may still be at the eventfd when the loop is closed. */
START_TEST(test_close_while_a_sender_wakes_the_loop)
{
    for (int i = 0; i < 200; i++) {
        pthread_t thread;

        loop = support_new_loop(_i);
        ck_assert_int_eq(pthread_create(&thread, NULL, send_stop, NULL), 0);
        support_run(loop);
        ck_assert_int_eq(bk_loop_close(loop), 0);
        ck_assert_int_eq(pthread_join(thread, NULL), 0);
        support_free_loop(loop);
    }
}
END_TEST

static void
break_loop(void *arg)
{
    bk_loop_break(loop, *(const int *)arg);
}

START_TEST(test_break)
{
    static const int reset = -ECONNRESET;
    static const int positive = 7;

    loop = support_new_loop(_i);
    bk_loop_break(loop, -EPIPE); /* no run: nothing */
    call(break_loop, (void *)(uintptr_t)&reset);
    call(note_arg, "a");
    ck_assert_int_eq(bk_loop_run_forever(loop), -ECONNRESET);
    ck_assert(!bk_loop_is_running(loop));
    ck_assert_str_eq(support_log(), "");
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "a");
    call(break_loop, (void *)(uintptr_t)&positive);
    ck_assert_int_eq(bk_loop_run_forever(loop), -EINVAL);
    support_free_loop(loop);
}
END_TEST

START_TEST(test_break_wins_over_stop_and_clears_it)
{
    static const int reset = -ECONNRESET;

    loop = support_new_loop(_i);
    call(stop_loop, NULL);
    call(break_loop, (void *)(uintptr_t)&reset);
    ck_assert_int_eq(bk_loop_run_forever(loop), -ECONNRESET);
    ck_assert_int_eq(bk_loop_call_later(loop, MS, note_arg, "a", NULL), 0);
    ck_assert_int_eq(bk_loop_call_later(loop, MS, stop_loop, NULL, NULL), 0);
    support_run(loop);
    ck_assert_str_eq(support_log(), "a");
    support_free_loop(loop);
}
END_TEST

/* State. */

static void
check_inside(void *arg)
{
    int *codes = arg;

    ck_assert(bk_loop_is_running(loop));
    ck_assert(bk_loop_in_callback(loop));
    codes[0] = bk_loop_run_forever(loop);
    codes[1] = bk_loop_close(loop);
    bk_loop_free(loop); /* does nothing while it runs */
    bk_loop_stop(loop);
}

START_TEST(test_state)
{
    int codes[2] = {0};

    loop = support_new_loop(_i);
    ck_assert(!bk_loop_is_running(loop));
    ck_assert(!bk_loop_is_closed(loop));
    ck_assert(!bk_loop_is_forked(loop));
    ck_assert(!bk_loop_in_callback(loop));
    ck_assert(!bk_loop_has_pending_writes(loop));
    call(check_inside, codes);
    support_run(loop);
    ck_assert_int_eq(codes[0], -EBUSY);
    ck_assert_int_eq(codes[1], -EBUSY);
    ck_assert(!bk_loop_is_running(loop));
    ck_assert(!bk_loop_in_callback(loop));
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert(bk_loop_is_closed(loop));
    ck_assert_int_eq(bk_loop_run_forever(loop), -EBADF);
    bk_loop_stop(loop);
    bk_loop_flush(loop);
    support_free_loop(loop);
}
END_TEST

START_TEST(test_close_gives_back_every_fd)
{
    int before = support_open_fds();

    loop = support_new_loop(_i);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_int_eq(support_open_fds(), before);
    support_free_loop(loop);
}
END_TEST

START_TEST(test_write_through)
{
    loop = support_new_loop(_i);
    ck_assert(!bk_loop_get_write_through(loop));
    bk_loop_set_write_through(loop, true);
    ck_assert(bk_loop_get_write_through(loop));
    bk_loop_set_write_through(loop, false);
    ck_assert(!bk_loop_get_write_through(loop));
    support_free_loop(loop);
}
END_TEST

START_TEST(test_time)
{
    uint64_t before_ns = bk_clock_now();
    uint64_t now_ns;

    loop = support_new_loop(_i);
    now_ns = bk_loop_time(loop);
    ck_assert_uint_ge(now_ns, before_ns);
    ck_assert_uint_ge(bk_clock_now(), now_ns);
    ck_assert_uint_ge(bk_loop_time(NULL), now_ns);
    support_free_loop(loop);
}
END_TEST

/* Making one. */

START_TEST(test_backends)
{
    bk_loop_options options = {.backend = "auto"};

    support_leaks_begin();
    ck_assert_int_eq(bk_loop_new(NULL, &loop), 0);
    ck_assert_str_eq(bk_loop_backend(loop), "epoll");
    bk_loop_free(loop);
    ck_assert_int_eq(bk_loop_new(&options, &loop), 0);
    ck_assert_str_eq(bk_loop_backend(loop), "epoll");
    bk_loop_free(loop);
    options.backend = "poll";
    ck_assert_int_eq(bk_loop_new(&options, &loop), 0);
    ck_assert_str_eq(bk_loop_backend(loop), "poll");
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_str_eq(bk_loop_backend(loop), "poll");
    bk_loop_free(loop);
    options = support_options(SUPPORT_EXTERNAL);
    ck_assert_int_eq(bk_loop_new(&options, &loop), 0);
    ck_assert_str_eq(bk_loop_backend(loop), "test");
    bk_loop_free(loop);
    support_leaks_end();
}
END_TEST

START_TEST(test_bad_options)
{
    bk_loop_options options = {.backend = "io_uring"};

    support_leaks_begin();
    loop = NULL;
    ck_assert_int_eq(bk_loop_new(&options, &loop), -EINVAL);
    options = support_options(SUPPORT_EXTERNAL);
    options.backend = "epoll";
    ck_assert_int_eq(bk_loop_new(&options, &loop), -EINVAL);
    ck_assert_ptr_null(loop);
    ck_assert_int_eq(bk_loop_new(NULL, NULL), -EINVAL);
    bk_loop_free(NULL);
    support_leaks_end();
}
END_TEST

START_TEST(test_null_loop)
{
    ck_assert_int_eq(bk_loop_run_forever(NULL), -EINVAL);
    ck_assert_int_eq(bk_loop_close(NULL), -EINVAL);
    ck_assert(!bk_loop_is_running(NULL));
    ck_assert(bk_loop_is_closed(NULL));
    ck_assert(!bk_loop_is_forked(NULL));
    ck_assert(!bk_loop_in_callback(NULL));
    ck_assert(!bk_loop_has_pending_writes(NULL));
    ck_assert(!bk_loop_get_write_through(NULL));
    ck_assert_str_eq(bk_loop_backend(NULL), "");
    bk_loop_stop(NULL);
    bk_loop_break(NULL, -EINTR);
    bk_loop_flush(NULL);
    bk_loop_set_write_through(NULL, true);
}
END_TEST

/* Hooks. */

struct hook_log {
    int before_count;
    int after_count;
    int check_count;
    int check_code;
    bool is_blocked;
};

static struct hook_log hook_log;

static void
before_block(void *arg)
{
    struct hook_log *log = arg;

    ck_assert(!log->is_blocked);
    log->is_blocked = true;
    log->before_count++;
}

static void
after_block(void *arg)
{
    struct hook_log *log = arg;

    ck_assert(log->is_blocked);
    log->is_blocked = false;
    log->after_count++;
}

static int
check_signals(void *arg)
{
    struct hook_log *log = arg;

    ck_assert(!log->is_blocked);
    log->check_count++;
    return log->check_code;
}

static const bk_loop_hooks hooks = {
    .before_block = before_block,
    .after_block = after_block,
    .check_signals = check_signals,
    .arg = &hook_log,
};

START_TEST(test_block_hooks_only_where_the_wait_can_block)
{
    int around = _i == SUPPORT_EXTERNAL ? 0 : 1;

    loop = support_new_loop_with(_i, &hooks);
    support_turns(loop, 5);
    ck_assert_int_eq(hook_log.before_count, 0);
    ck_assert_int_eq(hook_log.check_count, 5);
    /* Far enough ahead for a busy machine: it must not be due at once. */
    ck_assert_int_eq(bk_loop_call_later(loop, 50 * MS, stop_loop, NULL, NULL),
                     0);
    ck_assert_int_eq(bk_loop_run_forever(loop), 0);
    ck_assert_int_ge(hook_log.before_count, around);
    ck_assert_int_le(hook_log.before_count, 2 * around);
    ck_assert_int_eq(hook_log.before_count, hook_log.after_count);
    support_free_loop(loop);
}
END_TEST

static void
be_busy(void *arg)
{
    const uint64_t *until_ns = arg;

    if (bk_clock_now() < *until_ns) {
        call(be_busy, arg);
    }
    else {
        bk_loop_stop(loop);
    }
}

/* Always ready for 50 ms: others get in now and then, not 100000 times. */
START_TEST(test_a_busy_loop_gives_way)
{
    uint64_t until_ns = bk_clock_now() + 50 * MS;

    loop = support_new_loop_with(_i, &hooks);
    call(be_busy, &until_ns);
    ck_assert_int_eq(bk_loop_run_forever(loop), 0);
    if (_i == SUPPORT_EXTERNAL) {
        ck_assert_int_eq(hook_log.before_count, 0);
    }
    else {
        ck_assert_int_ge(hook_log.before_count, 1);
        ck_assert_int_le(hook_log.before_count, 5);
    }
    support_free_loop(loop);
}
END_TEST

/* What a thread is told that waits for the lock. */
static struct {
    uint64_t last_ns;
    int offers;
    int pauses; /* longer than CPython lets a thread wait */
} waiter;

static void
offer(void *arg)
{
    uint64_t now_ns = bk_clock_now();

    (void)arg;
    waiter.offers++;
    waiter.pauses += now_ns - waiter.last_ns > 5 * MS;
    waiter.last_ns = now_ns;
}

static bool
always(void *arg)
{
    (void)arg;
    return true;
}

static void
be_busy_for_three_pauses(void *arg)
{
    if (waiter.pauses < 3) {
        call(be_busy_for_three_pauses, arg);
    }
    else {
        bk_loop_stop(loop);
    }
}

/* Each offer is as good as it is short; what is sure is a pause. */
START_TEST(test_a_busy_loop_offers_often_and_then_pauses)
{
    static const bk_loop_hooks offering = {
        .before_block = offer,
        .is_contended = always,
    };

    loop = support_new_loop_with(_i, &offering);
    waiter.last_ns = bk_clock_now();
    call(be_busy_for_three_pauses, NULL);
    ck_assert_int_eq(bk_loop_run_forever(loop), 0);
    ck_assert_int_ge(waiter.offers, 100);
    support_free_loop(loop);
}
END_TEST

START_TEST(test_check_signals_ends_the_run)
{
    loop = support_new_loop_with(_i, &hooks);
    call(note_arg, "a");
    hook_log.check_code = -EINTR;
    ck_assert_int_eq(bk_loop_run_forever(loop), -EINTR);
    ck_assert_str_eq(support_log(), "");
    hook_log.check_code = 0;
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "a");
    support_free_loop(loop);
}
END_TEST

/* I/O found in the wait that a signal ended is found again. */
START_TEST(test_a_run_that_a_signal_ended_loses_no_event)
{
    loop = support_new_loop_with(_i, &hooks);
    watch_pair(BK_READABLE);
    support_send(fds[1], "x");
    hook_log.check_code = -EINTR;
    ck_assert_int_eq(bk_loop_run_forever(loop), -EINTR);
    ck_assert_str_eq(support_log(), "");
    hook_log.check_code = 0;
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "r");
    unwatch_pair();
    support_free_loop(loop);
}
END_TEST

static void
on_signal(int number)
{
    (void)number;
}

static void *
send_signals(void *arg)
{
    pthread_t *loop_thread = arg;

    while (__atomic_load_n(&hook_log.check_count, __ATOMIC_SEQ_CST) < 3) {
        (void)pthread_kill(*loop_thread, SIGUSR1);
        (void)usleep(1000); /* let the loop go to sleep again */
    }
    bk_loop_stop(loop);
    return NULL;
}

static int
count_checks(void *arg)
{
    (void)arg;
    (void)__atomic_add_fetch(&hook_log.check_count, 1, __ATOMIC_SEQ_CST);
    return 0;
}

START_TEST(test_a_signal_ends_the_wait)
{
    const bk_loop_hooks counting = {.check_signals = count_checks};
    struct sigaction action = {.sa_handler = on_signal};
    pthread_t self = pthread_self();
    pthread_t thread;

    ck_assert_int_eq(sigaction(SIGUSR1, &action, NULL), 0);
    loop = support_new_loop_with(_i, &counting);
    ck_assert_int_eq(pthread_create(&thread, NULL, send_signals, &self), 0);
    support_run(loop);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    ck_assert_int_ge(hook_log.check_count, 3);
    support_free_loop(loop);
}
END_TEST

/* Forks. */

static void
on_any(bk_watch *w, unsigned events)
{
    (void)w;
    (void)events;
    support_note('r');
}

/* Everything that the child does with its copy. */
static void
child_of_fork(void)
{
    bk_loop *other = NULL;

    ck_assert(bk_loop_is_forked(loop));
    ck_assert_int_eq(bk_loop_run_forever(loop), -ECHILD);
    if (bk_watch_get(&watch) != 0) {
        ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE | BK_WRITABLE),
                         -ECHILD);
        ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    }
    ck_assert_int_eq(bk_loop_call_soon_threadsafe(loop, note_arg, "x"), 0);
    bk_loop_stop(loop);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    support_free_loop(loop);

    ck_assert_int_eq(bk_loop_new(NULL, &other), 0);
    ck_assert(!bk_loop_is_forked(other));
    bk_loop_stop(other);
    ck_assert_int_eq(bk_loop_run_forever(other), 0);
    bk_loop_free(other);
}

static void
fork_and_wait(void (*child)(void))
{
    pid_t pid = fork();
    int status = 0;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        child();
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 0);
}

/* The parent's registrations outlive what the child does. */
START_TEST(test_fork)
{
    support_pair(fds);
    loop = support_new_loop(_i);
    ck_assert_int_eq(bk_watch_init(&watch, loop, fds[0], on_any), 0);
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE), 0);
    fork_and_wait(child_of_fork);
    ck_assert(!bk_loop_is_forked(loop));
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "r");
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    support_free_loop(loop);
    support_close_pair(fds);
}
END_TEST

static void
fork_in_callback(void *arg)
{
    int *is_child = arg;
    pid_t pid = fork();
    int status = 0;

    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        *is_child = 1;
        return;
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status));
    ck_assert_int_eq(WEXITSTATUS(status), 42);
    bk_loop_stop(loop);
}

/* A child that returns into the parent's loop leaves it at the next turn. */
START_TEST(test_fork_in_a_callback)
{
    int is_child = 0;
    int r;

    loop = support_new_loop(_i);
    call(fork_in_callback, &is_child);
    r = bk_loop_run_forever(loop);
    if (is_child) {
        _exit(r == -ECHILD && bk_loop_close(loop) == 0 ? 42 : 1);
    }
    ck_assert_int_eq(r, 0);
    support_free_loop(loop);
}
END_TEST

/* Two loops in two threads have nothing in common. */

static void
run_some(void *arg)
{
    int *left = arg;

    (*left)--;
}

static void *
run_own_loop(void *arg)
{
    bk_loop *own = NULL;
    int left = 1000;

    (void)arg;
    if (bk_loop_new(NULL, &own) != 0) {
        abort();
    }
    while (left > 0) {
        if (bk_loop_call_soon(own, run_some, &left, NULL) != 0) {
            abort();
        }
        bk_loop_stop(own);
        if (bk_loop_run_forever(own) != 0) {
            abort();
        }
    }
    bk_loop_free(own);
    return NULL;
}

START_TEST(test_a_loop_in_each_thread)
{
    pthread_t threads[4];

    support_leaks_begin();
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, run_own_loop, NULL),
                         0);
    }
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    support_leaks_end();
}
END_TEST

static void
add_for_every_poller(TCase *tcase)
{
    tcase_add_loop_test(tcase, test_order_of_a_turn, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_a_busy_turn_polls, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_stop_lets_the_batch_finish, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase,
                        test_stop_before_a_run_is_one_turn_without_a_wait, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_stop_from_another_thread, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_close_while_a_sender_wakes_the_loop, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_break, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_break_wins_over_stop_and_clears_it, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_state, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_close_gives_back_every_fd, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_write_through, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_time, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_block_hooks_only_where_the_wait_can_block,
                        0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_a_busy_loop_gives_way, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_a_busy_loop_offers_often_and_then_pauses, 0,
                        SUPPORT_EXTERNAL);
    tcase_add_loop_test(tcase, test_check_signals_ends_the_run, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_a_run_that_a_signal_ended_loses_no_event, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_a_signal_ends_the_wait, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_fork, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_fork_in_a_callback, 0, SUPPORT_POLLERS);
}

int
main(void)
{
    Suite *suite = suite_create("test_loop");
    TCase *every = tcase_create("every poller");
    TCase *once = tcase_create("once");

    add_for_every_poller(every);
    suite_add_tcase(suite, every);
    tcase_add_test(once, test_backends);
    tcase_add_test(once, test_bad_options);
    tcase_add_test(once, test_null_loop);
    tcase_add_test(once, test_a_loop_in_each_thread);
    suite_add_tcase(suite, once);
    return support_main(suite);
}
