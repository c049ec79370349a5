/* test_signal.c -- signals as callbacks of the loop.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "support.h"

enum {
    STORM_THREADS = 4,
    STORM_SIGNALS = 5000,
};

static bk_loop *loop;
static unsigned calls;

/* A letter for each signal that the tests send. */
static void
note(bk_loop *of, int signum, void *arg)
{
    ck_assert_ptr_eq(of, loop);
    ck_assert(bk_loop_in_callback(of));
    ck_assert_str_eq(arg, "arg");
    support_note(signum == SIGUSR1 ? 'a' : signum == SIGUSR2 ? 'b' : 'c');
}

static void
add(int signum)
{
    ck_assert_int_eq(bk_loop_add_signal_handler(loop, signum, note, "arg"), 0);
}

static void
raise_all(const int *signums, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        ck_assert_int_eq(raise(signums[i]), 0);
    }
}

static void
expect(const char *log)
{
    ck_assert_str_eq(support_log(), log);
    support_log_clear();
}

static void (*handler_of(int signum))(int)
{
    struct sigaction action;

    ck_assert_int_eq(sigaction(signum, NULL, &action), 0);
    return action.sa_handler;
}

static void
own_handler(int signum)
{
    (void)signum;
    calls++;
}

static void
begin(int poller)
{
    loop = support_new_loop(poller);
    support_log_clear();
    calls = 0;
}

static void
end(void)
{
    support_free_loop(loop);
}

/* -- telling --------------------------------------------------------------- */

START_TEST(runs_in_a_turn)
{
    begin(_i);
    add(SIGUSR1);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    expect("");
    support_turns(loop, 1);
    expect("a");
    support_turns(loop, 2);
    expect("");
    end();
}
END_TEST

START_TEST(in_the_order_of_the_first_ones)
{
    static const int signums[] = {SIGUSR2, SIGUSR1, SIGHUP, SIGUSR1};

    begin(_i);
    add(SIGUSR1);
    add(SIGUSR2);
    add(SIGHUP);
    raise_all(signums, 4);
    support_turns(loop, 1);
    expect("bac");
    support_turns(loop, 1);
    expect("a");
    end();
}
END_TEST

static void
note_x(void *arg)
{
    (void)arg;
    support_note('x');
}

/* As what another thread hands in: it keeps its place among the callbacks. */
START_TEST(between_callbacks)
{
    begin(_i);
    add(SIGUSR1);
    ck_assert_int_eq(bk_loop_call_soon(loop, note_x, NULL, NULL), 0);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ck_assert_int_eq(bk_loop_call_soon(loop, note_x, NULL, NULL), 0);
    support_turns(loop, 1);
    expect("xax");
    end();
}
END_TEST

START_TEST(each_delivery_once)
{
    begin(_i);
    add(SIGUSR1);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(raise(SIGUSR1), 0);
    }
    support_turns(loop, 10);
    expect("aaaaa");
    end();
}
END_TEST

static void
stop_it(bk_loop *of, int signum, void *arg)
{
    (void)signum;
    (void)arg;
    bk_loop_stop(of);
}

static void *
signal_own_thread(void *arg)
{
    (void)arg;
    ck_assert_int_eq(pthread_kill(pthread_self(), SIGUSR1), 0);
    return NULL;
}

static void
kill_oneself(void *arg)
{
    (void)arg;
    ck_assert_int_eq(kill(getpid(), SIGUSR1), 0);
}

/* The kernel delivers it to a thread that is not the loop's. */
START_TEST(wakes_the_loop_from_another_thread)
{
    pthread_t thread;

    begin(_i);
    ck_assert_int_eq(bk_loop_add_signal_handler(loop, SIGUSR1, stop_it, NULL),
                     0);
    ck_assert_int_eq(pthread_create(&thread, NULL, signal_own_thread, NULL), 0);
    support_run(loop);
    ck_assert_int_eq(pthread_join(thread, NULL), 0);
    end();
}
END_TEST

/* The same signal ends the wait of its own thread. */
START_TEST(wakes_the_loop_in_its_wait)
{
    pid_t child;
    pid_t parent = getpid();

    begin(_i);
    ck_assert_int_eq(bk_loop_add_signal_handler(loop, SIGUSR1, stop_it, NULL),
                     0);
    child = fork();
    if (child == 0) {
        _exit(kill(parent, SIGUSR1));
    }
    support_run(loop);
    ck_assert_int_eq(waitpid(child, NULL, 0), child);
    end();
}
END_TEST

START_TEST(from_a_callback)
{
    begin(_i);
    ck_assert_int_eq(bk_loop_add_signal_handler(loop, SIGUSR1, stop_it, NULL),
                     0);
    ck_assert_int_eq(bk_loop_call_soon(loop, kill_oneself, NULL, NULL), 0);
    support_run(loop);
    end();
}
END_TEST

START_TEST(errno_stays)
{
    begin(_i);
    add(SIGUSR1);
    errno = ENOTTY;
    (void)raise(SIGUSR1);
    ck_assert_int_eq(errno, ENOTTY);
    support_turns(loop, 1);
    expect("a");
    end();
}
END_TEST

START_TEST(interrupted_calls_go_on)
{
    struct sigaction action;

    begin(_i);
    add(SIGUSR1);
    ck_assert_int_eq(sigaction(SIGUSR1, NULL, &action), 0);
    ck_assert_int_ne(action.sa_flags & SA_RESTART, 0);
    ck_assert_int_ne(action.sa_flags & SA_ONSTACK, 0);
    end();
}
END_TEST

/* -- adding and removing --------------------------------------------------- */

static void
note_other(bk_loop *of, int signum, void *arg)
{
    (void)of;
    (void)signum;
    support_note(*(char *)arg);
}

START_TEST(another_handler_replaces)
{
    begin(_i);
    add(SIGUSR1);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ck_assert_int_eq(bk_loop_add_signal_handler(loop, SIGUSR1, note_other, "z"),
                     0);
    support_turns(loop, 1);
    expect("z");
    ck_assert_int_eq(bk_loop_remove_signal_handler(loop, SIGUSR1), 1);
    ck_assert(handler_of(SIGUSR1) == SIG_DFL);
    end();
}
END_TEST

START_TEST(bad_arguments)
{
    static const int not_caught[] = {SIGKILL, SIGSTOP, SIGSEGV,
                                     SIGBUS,  SIGFPE,  SIGILL};
    static const int not_signals[] = {0, -1, 65, 1000, INT32_MIN, INT32_MAX};

    begin(_i);
    for (size_t i = 0; i < 6; i++) {
        ck_assert_int_eq(
            bk_loop_add_signal_handler(loop, not_caught[i], note, NULL),
            -EPERM);
        ck_assert_int_eq(bk_loop_remove_signal_handler(loop, not_caught[i]), 0);
        ck_assert_int_eq(
            bk_loop_add_signal_handler(loop, not_signals[i], note, NULL),
            -EINVAL);
        ck_assert_int_eq(bk_loop_remove_signal_handler(loop, not_signals[i]),
                         -EINVAL);
    }
    /* The C library's own. */
    ck_assert_int_eq(bk_loop_add_signal_handler(loop, 32, note, NULL), -EINVAL);
    ck_assert_int_eq(bk_loop_add_signal_handler(loop, SIGUSR1, NULL, NULL),
                     -EINVAL);
    ck_assert_int_eq(bk_loop_add_signal_handler(NULL, SIGUSR1, note, NULL),
                     -EINVAL);
    ck_assert_int_eq(bk_loop_remove_signal_handler(NULL, SIGUSR1), -EINVAL);
    ck_assert_int_eq(bk_loop_remove_signal_handler(loop, SIGUSR1), 0);
    ck_assert_int_eq(bk_loop_add_signal_handler(loop, SIGRTMAX, note, "arg"),
                     0);
    ck_assert_int_eq(raise(SIGRTMAX), 0);
    support_turns(loop, 1);
    expect("c");
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_int_eq(bk_loop_add_signal_handler(loop, SIGUSR1, note, NULL),
                     -EBADF);
    ck_assert_int_eq(bk_loop_remove_signal_handler(loop, SIGRTMAX), 0);
    end();
}
END_TEST

START_TEST(what_it_did_before_comes_back)
{
    begin(_i);
    (void)signal(SIGUSR1, SIG_IGN);
    (void)signal(SIGUSR2, own_handler);
    add(SIGUSR1);
    add(SIGUSR2);
    add(SIGHUP);
    ck_assert_int_eq(bk_loop_remove_signal_handler(loop, SIGUSR1), 1);
    ck_assert_int_eq(bk_loop_remove_signal_handler(loop, SIGUSR2), 1);
    ck_assert_int_eq(bk_loop_remove_signal_handler(loop, SIGUSR2), 0);
    ck_assert(handler_of(SIGUSR1) == SIG_IGN);
    ck_assert(handler_of(SIGUSR2) == own_handler);
    ck_assert(handler_of(SIGHUP) != SIG_DFL);
    ck_assert_int_eq(raise(SIGUSR2), 0);
    ck_assert_uint_eq(calls, 1);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert(handler_of(SIGHUP) == SIG_DFL);
    end();
    expect("");
}
END_TEST

START_TEST(the_program_has_changed_it_since)
{
    begin(_i);
    add(SIGUSR1);
    (void)signal(SIGUSR1, own_handler);
    ck_assert_int_eq(bk_loop_remove_signal_handler(loop, SIGUSR1), 1);
    ck_assert(handler_of(SIGUSR1) == own_handler);
    end();
}
END_TEST

START_TEST(removed_with_something_pending)
{
    begin(_i);
    add(SIGUSR1);
    add(SIGUSR2);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ck_assert_int_eq(raise(SIGUSR2), 0);
    ck_assert_int_eq(bk_loop_remove_signal_handler(loop, SIGUSR1), 1);
    support_turns(loop, 3);
    expect("b");
    ck_assert_int_eq(raise(SIGUSR2), 0);
    end();
    expect("");
}
END_TEST

static void
remove_it(bk_loop *of, int signum, void *arg)
{
    (void)arg;
    support_note('r');
    ck_assert_int_eq(bk_loop_remove_signal_handler(of, signum), 1);
}

static void
remove_and_add(bk_loop *of, int signum, void *arg)
{
    remove_it(of, signum, arg);
    add(signum);
}

static void
break_it(bk_loop *of, int signum, void *arg)
{
    (void)signum;
    (void)arg;
    support_note('k');
    bk_loop_break(of, -EIO);
}

START_TEST(removed_from_inside)
{
    begin(_i);
    ck_assert_int_eq(bk_loop_add_signal_handler(loop, SIGUSR1, remove_it, NULL),
                     0);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    support_turns(loop, 3);
    expect("r");
    ck_assert_int_eq(
        bk_loop_add_signal_handler(loop, SIGUSR1, remove_and_add, NULL), 0);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    support_turns(loop, 3);
    expect("r");
    ck_assert_int_eq(raise(SIGUSR1), 0);
    support_turns(loop, 1);
    expect("a");
    end();
}
END_TEST

START_TEST(a_break_loses_nothing)
{
    begin(_i);
    ck_assert_int_eq(bk_loop_add_signal_handler(loop, SIGUSR1, break_it, NULL),
                     0);
    add(SIGUSR2);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ck_assert_int_eq(raise(SIGUSR2), 0);
    ck_assert_int_eq(bk_loop_run_forever(loop), -EIO);
    ck_assert_int_eq(bk_loop_run_forever(loop), -EIO);
    support_turns(loop, 1);
    expect("kbk");
    end();
}
END_TEST

/* It is no handle of the embedder's. */
START_TEST(not_seen_by_pop_and_visit)
{
    begin(_i);
    add(SIGUSR1);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    ck_assert_ptr_null(bk_loop_pop(loop));
    ck_assert_int_eq(raise(SIGUSR1), 0);
    support_turns(loop, 3);
    expect("aa");
    end();
}
END_TEST

/* -- several loops --------------------------------------------------------- */

START_TEST(every_loop_is_told)
{
    bk_loop *other;

    begin(_i);
    ck_assert_int_eq(bk_loop_new(NULL, &other), 0);
    add(SIGUSR1);
    ck_assert_int_eq(
        bk_loop_add_signal_handler(other, SIGUSR1, note_other, "o"), 0);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    support_turns(loop, 1);
    support_turns(other, 1);
    expect("ao");
    ck_assert_int_eq(bk_loop_remove_signal_handler(loop, SIGUSR1), 1);
    ck_assert_int_eq(raise(SIGUSR1), 0);
    support_turns(loop, 1);
    support_turns(other, 1);
    expect("o");
    bk_loop_free(other);
    ck_assert(handler_of(SIGUSR1) == SIG_DFL);
    end();
}
END_TEST

struct worker {
    pthread_t thread;
    bk_loop *loop;
    unsigned calls;
};

static void
count(bk_loop *of, int signum, void *arg)
{
    struct worker *worker = arg;

    (void)signum;
    if (++worker->calls == STORM_THREADS * STORM_SIGNALS) {
        bk_loop_stop(of);
    }
}

static void *
run_worker(void *arg)
{
    struct worker *worker = arg;

    support_run(worker->loop);
    return NULL;
}

static void *
storm(void *arg)
{
    (void)arg;
    for (int i = 0; i < STORM_SIGNALS; i++) {
        ck_assert_int_eq(pthread_kill(pthread_self(), SIGUSR1), 0);
    }
    return NULL;
}

/* Each is delivered before the next is sent, so none may be missing. */
START_TEST(storms_lose_nothing)
{
    struct worker workers[2];
    pthread_t threads[STORM_THREADS];

    support_leaks_begin();
    for (int i = 0; i < 2; i++) {
        /* There is one external poller only. */
        bk_loop_options options = support_options(i == 0 ? _i : SUPPORT_EPOLL);

        workers[i].calls = 0;
        ck_assert_int_eq(bk_loop_new(&options, &workers[i].loop), 0);
        ck_assert_int_eq(bk_loop_add_signal_handler(workers[i].loop, SIGUSR1,
                                                    count, &workers[i]),
                         0);
        ck_assert_int_eq(
            pthread_create(&workers[i].thread, NULL, run_worker, &workers[i]),
            0);
    }
    for (int i = 0; i < STORM_THREADS; i++) {
        ck_assert_int_eq(pthread_create(&threads[i], NULL, storm, NULL), 0);
    }
    for (int i = 0; i < STORM_THREADS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_join(workers[i].thread, NULL), 0);
        bk_loop_free(workers[i].loop);
    }
    support_leaks_end();
}
END_TEST

static bool is_over; /* atomic */

static void *
storm_until_over(void *arg)
{
    (void)arg;
    while (!__atomic_load_n(&is_over, __ATOMIC_SEQ_CST)) {
        ck_assert_int_eq(pthread_kill(pthread_self(), SIGUSR1), 0);
    }
    return NULL;
}

/* What on_signal() walks changes all the time. */
START_TEST(added_and_removed_in_a_storm)
{
    pthread_t threads[2];

    begin(_i);
    (void)signal(SIGUSR1, SIG_IGN);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, storm_until_over, NULL), 0);
    }
    for (int i = 0; i < 2000; i++) {
        bk_loop *other = NULL;

        add(SIGUSR1);
        if (i % 10 == 0) {
            ck_assert_int_eq(bk_loop_new(NULL, &other), 0);
            ck_assert_int_eq(
                bk_loop_add_signal_handler(other, SIGUSR1, note_other, "o"), 0);
        }
        ck_assert_int_eq(bk_loop_remove_signal_handler(loop, SIGUSR1), 1);
        bk_loop_free(other);
    }
    __atomic_store_n(&is_over, true, __ATOMIC_SEQ_CST);
    for (int i = 0; i < 2; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    ck_assert(handler_of(SIGUSR1) == SIG_IGN);
    end();
}
END_TEST

/* -- fork ------------------------------------------------------------------ */

static int
status_of(pid_t child)
{
    int status;

    ck_assert_int_gt(child, 0);
    ck_assert_int_eq(waitpid(child, &status, 0), child);
    return status;
}

START_TEST(a_childs_signal_is_the_childs)
{
    pid_t child;

    begin(_i);
    (void)signal(SIGTERM, SIG_DFL); /* check has a handler of its own */
    add(SIGTERM);
    child = fork();
    if (child == 0) {
        (void)raise(SIGTERM);
        _exit(0); /* not reached: it does what it did before */
    }
    ck_assert_int_eq(WTERMSIG(status_of(child)), SIGTERM);
    support_turns(loop, 2);
    expect("");
    ck_assert_int_eq(raise(SIGTERM), 0);
    support_turns(loop, 1);
    expect("c");
    end();
}
END_TEST

static int
run_child(int poller)
{
    bk_loop_options options = support_options(poller);
    bk_loop *copy = loop;

    if (bk_loop_add_signal_handler(copy, SIGUSR1, note, "arg") != -ECHILD ||
        bk_loop_new(&options, &loop) < 0) {
        return 2;
    }
    add(SIGUSR1);
    (void)raise(SIGUSR1);
    support_turns(loop, 1);
    bk_loop_free(copy);
    (void)raise(SIGUSR1);
    support_turns(loop, 1);
    if (strcmp(support_log(), "aa") != 0) {
        return 3;
    }
    if (handler_of(SIGUSR2) != SIG_IGN || handler_of(SIGHUP) != SIG_DFL) {
        return 4;
    }
    bk_loop_free(loop);
    return handler_of(SIGUSR1) == own_handler ? 0 : 5;
}

START_TEST(a_childs_own_loop_works)
{
    pid_t child;

    begin(_i);
    (void)signal(SIGUSR1, own_handler);
    (void)signal(SIGUSR2, SIG_IGN);
    add(SIGUSR1);
    add(SIGUSR2);
    add(SIGHUP);
    child = fork();
    if (child == 0) {
        _exit(run_child(_i));
    }
    ck_assert_int_eq(status_of(child), 0);
    ck_assert_int_eq(raise(SIGUSR2), 0);
    support_turns(loop, 1);
    expect("b");
    end();
}
END_TEST

START_TEST(a_child_frees_its_copy)
{
    pid_t child;

    begin(_i);
    (void)signal(SIGUSR1, own_handler);
    add(SIGUSR1);
    child = fork();
    if (child == 0) {
        bk_loop_free(loop);
        (void)raise(SIGUSR1);
        _exit(calls == 1 && handler_of(SIGUSR1) == own_handler ? 0 : 1);
    }
    ck_assert_int_eq(status_of(child), 0);
    end();
}
END_TEST

static void
add_telling(Suite *suite)
{
    TCase *tcase = tcase_create("telling");

    tcase_add_loop_test(tcase, runs_in_a_turn, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, in_the_order_of_the_first_ones, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, between_callbacks, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, each_delivery_once, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, wakes_the_loop_from_another_thread, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, wakes_the_loop_in_its_wait, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, from_a_callback, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, errno_stays, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, interrupted_calls_go_on, 0, SUPPORT_POLLERS);
    suite_add_tcase(suite, tcase);
}

static void
add_changing(Suite *suite)
{
    TCase *tcase = tcase_create("adding and removing");

    tcase_add_loop_test(tcase, another_handler_replaces, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, bad_arguments, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, what_it_did_before_comes_back, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, the_program_has_changed_it_since, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, removed_with_something_pending, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, removed_from_inside, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, a_break_loses_nothing, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, not_seen_by_pop_and_visit, 0, SUPPORT_POLLERS);
    suite_add_tcase(suite, tcase);
}

static void
add_several(Suite *suite)
{
    TCase *tcase = tcase_create("several loops, forks");

    tcase_add_loop_test(tcase, every_loop_is_told, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, storms_lose_nothing, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, added_and_removed_in_a_storm, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, a_childs_signal_is_the_childs, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, a_childs_own_loop_works, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, a_child_frees_its_copy, 0, SUPPORT_POLLERS);
    suite_add_tcase(suite, tcase);
}

int
main(void)
{
    Suite *suite = suite_create("signal");

    add_telling(suite);
    add_changing(suite);
    add_several(suite);
    return support_main(suite);
}
