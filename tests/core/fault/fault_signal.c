/* fault_signal.c -- each system call of signal handlers made to fail.
 *
 * SPDX-License-Identifier: MIT
 *
 * Whatever fails, a handler that was added is told each signal, one that was
 * not added leaves the signal as it was, and nothing is left.
 */
#include "base/fault.h"

#include <errno.h>
#include <signal.h>
#include <stddef.h>

#include "support.h"

enum { NTH_MAX = 200 }; /* more calls than the scenario makes */

static const int codes[] = {-ENOMEM, -EBADF};

enum { CODES = sizeof(codes) / sizeof(codes[0]) };

static int told;
static int passed_by;

static void
on_signal(bk_loop *loop, int signum, void *arg)
{
    (void)loop;
    (void)signum;
    (void)arg;
    told++;
}

static void
handle_otherwise(int signum)
{
    (void)signum;
    passed_by++;
}

static void
run_scenario(int poller)
{
    bk_loop_options options = support_options(poller);
    bk_loop *loop;
    int added = 0;

    told = 0;
    passed_by = 0;
    if (bk_loop_new(&options, &loop) < 0) {
        return;
    }
    added += bk_loop_add_signal_handler(loop, SIGUSR1, on_signal, NULL) == 0;
    added += bk_loop_add_signal_handler(loop, SIGUSR2, on_signal, NULL) == 0;
    (void)raise(SIGUSR1);
    (void)raise(SIGUSR2);
    for (int i = 0; i < 5; i++) {
        bk_loop_stop(loop);
        (void)bk_loop_run_forever(loop);
    }
    ck_assert_int_eq(told, added);
    ck_assert_int_eq(passed_by, 2 - added);
    (void)bk_loop_remove_signal_handler(loop, SIGUSR1);
    bk_loop_free(loop);
    (void)raise(SIGUSR1);
    (void)raise(SIGUSR2);
    ck_assert_int_eq(told, added);
    ck_assert_int_eq(passed_by, 4 - added);
}

START_TEST(test_every_call_once)
{
    unsigned nth = 0;
    bool has_failed;

    (void)signal(SIGUSR1, handle_otherwise);
    (void)signal(SIGUSR2, handle_otherwise);
    do {
        support_leaks_begin();
        bki_fault_arm(BKI_SYS_ANY, ++nth, codes[_i % CODES]);
        run_scenario(_i / CODES);
        has_failed = bki_fault_disarm();
        support_leaks_end();
        ck_assert_uint_lt(nth, NTH_MAX);
    } while (has_failed);
    ck_assert_uint_gt(nth, 10);
    ck_assert_int_eq(told, 2);
}
END_TEST

START_TEST(test_adding_tells_why)
{
    bk_loop *loop = support_new_loop(SUPPORT_EPOLL);

    bki_fault_arm(BKI_SYS_SIGACTION, 1, -EINVAL);
    ck_assert_int_eq(bk_loop_add_signal_handler(loop, SIGUSR1, on_signal, NULL),
                     -EINVAL);
    bki_fault_arm(BKI_SYS_CALLOC, 1, -ENOMEM);
    ck_assert_int_eq(bk_loop_add_signal_handler(loop, SIGUSR1, on_signal, NULL),
                     -ENOMEM);
    ck_assert(bki_fault_disarm());
    support_free_loop(loop);
}
END_TEST

static void
add_tests(TCase *tcase)
{
    tcase_add_loop_test(tcase, test_every_call_once, 0,
                        SUPPORT_POLLERS * CODES);
    tcase_add_test(tcase, test_adding_tells_why);
}

int
main(void)
{
    Suite *suite = suite_create("fault_signal");
    TCase *tcase = tcase_create("signal");

    add_tests(tcase);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
