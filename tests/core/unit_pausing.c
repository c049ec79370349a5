/* unit_pausing.c -- watches that are paused, and go on.
 *
 * SPDX-License-Identifier: MIT
 *
 * Whether the poller was told shows in the number of its system calls, which
 * builds with fault injection count.
 */
#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "engine_support.h"

static bk_watch watch;
static int events_seen;
static bool must_drain;

static void
on_event(bk_watch *w, unsigned events)
{
    ck_assert_uint_eq(events, BK_READABLE);
    events_seen++;
    if (must_drain) {
        drain(bk_watch_fd(w));
        bk_loop_stop(loop);
    }
}

/* The watch on an fd, which has been readable once. */
static void
setup_watch(int poller, int fd, int peer)
{
    events_seen = 0;
    must_drain = true;
    ck_assert_int_eq(bk_watch_init(&watch, loop, fd, on_event), 0);
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE), 0);
    support_send(peer, "x");
    support_run(loop);
    ck_assert_int_eq(events_seen, 1);
    ck_assert_int_eq(bk_watch_pause(&watch), poller == SUPPORT_EPOLL);
    ck_assert_uint_eq(bk_watch_get(&watch), 0);
}

static void
resume(void)
{
    ck_assert_int_eq(bk_watch_resume(&watch, BK_READABLE), 0);
    ck_assert_uint_eq(bk_watch_get(&watch), BK_READABLE);
}

/* So many turns pass while the loop has nothing to do for a while. */
static uint64_t
turns_of_a_rest(void)
{
    bk_loop_stats before;
    bk_loop_stats after;

    bk_loop_get_stats(loop, &before);
    ck_assert_int_eq(bk_loop_call_later(loop, 5 * MS, support_stop, loop, NULL),
                     0);
    support_run(loop);
    bk_loop_get_stats(loop, &after);
    return after.turns - before.turns;
}

static void
end(int poller, int fd)
{
    (void)poller;
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    ck_assert_int_eq(close(fd), 0);
    teardown_loop();
}

START_TEST(test_goes_on)
{
    setup_loop(_i);
    setup_watch(_i, fds[0], fds[1]);
    for (int i = 0; i < 3; i++) {
        resume();
        support_turns(loop, 2);
        ck_assert_int_eq(events_seen, 1 + i);
        support_send(fds[1], "x");
        support_run(loop);
        ck_assert_int_eq(events_seen, 2 + i);
        (void)bk_watch_pause(&watch);
    }
    end(_i, fds[0]);
}
END_TEST

START_TEST(test_arguments)
{
    static bk_watch zero;

    setup_loop(_i);
    ck_assert(!bk_watch_pause(NULL));
    ck_assert(!bk_watch_pause(&zero));
    ck_assert_int_eq(bk_watch_resume(NULL, BK_READABLE), -EINVAL);
    ck_assert_int_eq(bk_watch_resume(&zero, BK_READABLE), -EINVAL);
    setup_watch(_i, fds[0], fds[1]);
    ck_assert_int_eq(bk_watch_resume(&watch, 0), -EINVAL);
    ck_assert_int_eq(bk_watch_resume(&watch, 64), -EINVAL);
    ck_assert_int_eq(bk_watch_pause(&watch), _i == SUPPORT_EPOLL);
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    ck_assert(!bk_watch_pause(&watch));
    resume();
    end(_i, fds[0]);
}
END_TEST

/* What comes while it is paused waits for it, and does not keep the loop
 * awake. */
START_TEST(test_event_meanwhile)
{
    setup_loop(_i);
    setup_watch(_i, fds[0], fds[1]);
    support_send(fds[1], "x");
    support_turns(loop, 3);
    ck_assert_uint_le(turns_of_a_rest(), 3);
    ck_assert_int_eq(events_seen, 1);
    resume();
    support_run(loop);
    ck_assert_int_eq(events_seen, 2);
    end(_i, fds[0]);
}
END_TEST

/* Paused in the very turn that has found it ready. */
static void
pause_now(void *arg)
{
    (void)arg;
    (void)bk_watch_pause(&watch);
}

START_TEST(test_queued_event_is_dropped)
{
    setup_loop(_i);
    setup_watch(_i, fds[0], fds[1]);
    resume();
    support_send(fds[1], "x");
    ck_assert_int_eq(bk_loop_call_soon(loop, pause_now, NULL, NULL), 0);
    support_turns(loop, 2);
    ck_assert_int_eq(events_seen, 1);
    end(_i, fds[0]);
}
END_TEST

/* Other events than before: the kernel is told. */
START_TEST(test_other_events)
{
    setup_loop(_i);
    setup_watch(_i, fds[0], fds[1]);
    ck_assert_int_eq(bk_watch_resume(&watch, BK_READABLE | BK_WRITABLE), 0);
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE), 0);
    support_send(fds[1], "x");
    support_run(loop);
    ck_assert_int_eq(events_seen, 2);
    end(_i, fds[0]);
}
END_TEST

/* The fd is closed while the watch is paused, and the number is another
 * file's. Neither a loop that sleeps nor one that is busy misses it. */
START_TEST(test_number_is_another_files)
{
    bool is_busy = _i % 2 != 0;
    int poller = _i / 2;
    int others[2];

    setup_loop(poller);
    support_pair(others);
    setup_watch(poller, others[0], others[1]);
    ck_assert_int_eq(dup3(fds[0], others[0], O_CLOEXEC), others[0]);
    resume();
    support_send(fds[1], "x");
    if (is_busy) {
        support_turns(loop, 100);
    }
    else {
        support_run(loop);
    }
    ck_assert_int_eq(events_seen, 2);
    ck_assert_int_eq(close(others[1]), 0);
    ck_assert_int_eq(close(fds[0]), 0);
    end(poller, others[0]);
}
END_TEST

/* The same, and whoever has the number now is known to the loop. */
START_TEST(test_number_is_another_owners)
{
    int others[2];
    int number;

    setup_loop(_i);
    support_pair(others);
    number = others[0];
    setup_watch(_i, number, others[1]);
    ck_assert_int_eq(dup3(fds[0], number, O_CLOEXEC), number);
    own(0, number);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ck_assert_int_eq(bk_watch_resume(&watch, BK_READABLE), -EEXIST);
    ck_assert(!bk_watch_pause(&watch));
    support_send(fds[1], "x");
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].reads, 1);
    ck_assert_int_eq(events_seen, 1);
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    support_send(fds[1], "x");
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].reads, 2);
    ck_assert_int_eq(close(others[1]), 0);
    ck_assert_int_eq(close(fds[0]), 0);
    teardown_loop();
}
END_TEST

/* Closed, but a copy lives, of which epoll goes on to report: the set is made
 * anew, and who else is in it is still heard. */
START_TEST(test_closed_while_a_copy_lives)
{
    int others[2];
    int copy;

    setup_loop(_i);
    support_pair(others);
    setup_watch(_i, others[0], others[1]);
    own(0, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    copy = dup(others[0]);
    ck_assert_int_ge(copy, 0);
    ck_assert_int_eq(close(others[0]), 0);
    support_send(others[1], "x");
    support_turns(loop, 5);
    ck_assert_uint_le(turns_of_a_rest(), 3);
    ck_assert_int_eq(events_seen, 1);
    support_send(fds[1], "x");
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].reads, 1);
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    ck_assert_int_eq(close(copy), 0);
    ck_assert_int_eq(close(others[1]), 0);
    teardown_loop();
}
END_TEST

/* Closed while it is waited for again: nothing comes, and nothing turns. */
START_TEST(test_closed_after_it_went_on)
{
    int others[2];

    setup_loop(_i);
    support_pair(others);
    setup_watch(_i, others[0], others[1]);
    resume();
    ck_assert_int_eq(close(others[0]), 0);
    if (_i == SUPPORT_EPOLL) { /* poll() says so at each wait */
        ck_assert_uint_le(turns_of_a_rest(), 3);
        ck_assert_int_eq(events_seen, 1);
    }
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    ck_assert_int_eq(close(others[1]), 0);
    ck_assert_int_eq(close(fds[0]), 0);
    teardown_loop();
}
END_TEST

START_TEST(test_loop_is_closed)
{
    setup_loop(_i);
    setup_watch(_i, fds[0], fds[1]);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_int_eq(bk_watch_resume(&watch, BK_READABLE), -EBADF);
    ck_assert(!bk_watch_pause(&watch));
    ck_assert_int_eq(close(fds[0]), 0);
    teardown_loop();
}
END_TEST

#ifdef BK_FAULT_INJECTION

static unsigned
ctl_count(void)
{
    return bki_fault_count(BKI_SYS_EPOLL_CTL);
}

START_TEST(test_costs_no_call)
{
    setup_loop(SUPPORT_EPOLL);
    setup_watch(SUPPORT_EPOLL, fds[0], fds[1]);
    must_drain = false;
    bki_fault_arm(BKI_SYS_ANY, 0, 0);
    for (int i = 0; i < 100; i++) {
        resume();
        support_send(fds[1], "x");
        support_turns(loop, 1);
        ck_assert_int_eq(events_seen, 2 + i);
        drain(fds[0]);
        ck_assert(bk_watch_pause(&watch));
    }
    ck_assert_uint_le(ctl_count(), 4); /* now and then it makes sure */

    /* Before it sleeps as well, once. */
    bki_fault_arm(BKI_SYS_ANY, 0, 0);
    resume();
    (void)turns_of_a_rest();
    (void)turns_of_a_rest();
    ck_assert_uint_eq(ctl_count(), 1);
    (void)bki_fault_disarm();
    end(SUPPORT_EPOLL, fds[0]);
}
END_TEST

/* Busy turns poll for others than one that is paused. */
START_TEST(test_is_not_polled)
{
    setup_loop(SUPPORT_EPOLL);
    setup_watch(SUPPORT_EPOLL, fds[0], fds[1]);
    bki_fault_arm(BKI_SYS_ANY, 0, 0);
    support_turns(loop, 100);
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_EPOLL_WAIT), 0);
    resume();
    support_turns(loop, 10);
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_EPOLL_WAIT), 10);
    (void)bki_fault_disarm();
    end(SUPPORT_EPOLL, fds[0]);
}
END_TEST

/* The kernel has no memory to make sure: the direction may try. */
START_TEST(test_refused_proof)
{
    setup_loop(SUPPORT_EPOLL);
    setup_watch(SUPPORT_EPOLL, fds[0], fds[1]);
    must_drain = false;
    resume();
    bki_fault_arm(BKI_SYS_EPOLL_CTL, 1, -ENOMEM);
    (void)turns_of_a_rest();
    (void)bki_fault_disarm();
    support_send(fds[1], "x");
    support_turns(loop, 2);
    ck_assert_int_ge(events_seen, 2);
    drain(fds[0]);
    end(SUPPORT_EPOLL, fds[0]);
}
END_TEST

static void
add_faults(TCase *tcase)
{
    tcase_add_test(tcase, test_costs_no_call);
    tcase_add_test(tcase, test_is_not_polled);
    tcase_add_test(tcase, test_refused_proof);
}

#else

static void
add_faults(TCase *tcase)
{
    (void)tcase;
}

#endif

int
main(void)
{
    Suite *suite = suite_create("unit_pausing");
    TCase *every = tcase_create("every poller");

    tcase_add_loop_test(every, test_goes_on, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_arguments, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_event_meanwhile, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_queued_event_is_dropped, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_other_events, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_number_is_another_files, 0, 2);
    tcase_add_loop_test(every, test_number_is_another_owners, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_closed_while_a_copy_lives, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_closed_after_it_went_on, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_loop_is_closed, 0, SUPPORT_POLLERS);
    add_faults(every);
    suite_add_tcase(suite, every);
    return support_main(suite);
}
