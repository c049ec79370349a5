/* unit_registry.c -- who has which fd, and what the poller is told.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/readiness.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "engine_support.h"

/* The socket object was closed, and its number is another connection's. */
START_TEST(test_a_socket_closed_too_early)
{
    int others[2];

    setup_loop(_i);
    support_pair(others);
    borrow(0, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ck_assert_int_eq(dup3(others[0], fds[0], O_CLOEXEC), fds[0]);
    ck_assert_int_eq(close(others[0]), 0);
    owners[0].socket_fd = -1;
    own(1, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[1].io), 0);

    /* The first one's words do not reach the second one's registration. */
    ops()->read_stop(&owners[0].io);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), -EBADF);
    ck_assert_int_eq(write_some(&owners[0], 10), -EBADF);
    ops()->close(&owners[0].io);
    ck_assert_int_eq(owners[0].socket_closes, 1);

    support_send(others[1], "secret");
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].reads, 0);
    ck_assert_int_eq(owners[1].reads, 1);
    ck_assert_int_eq(owners[1].read_n, 6);
    ck_assert_int_eq(close(others[1]), 0);
    teardown_loop();
}
END_TEST

/* The poller forgets the number, so that nothing keeps the loop awake. */
START_TEST(test_leaving_after_the_socket_was_closed)
{
    bk_loop_stats before;
    bk_loop_stats after;

    setup_loop(_i);
    borrow(0, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ck_assert_int_eq(close(fds[0]), 0);
    owners[0].socket_fd = -1;
    ops()->close(&owners[0].io);
    bk_loop_get_stats(loop, &before);
    ck_assert_int_eq(bk_loop_call_later(loop, 5 * MS, support_stop, loop, NULL),
                     0);
    support_run(loop);
    bk_loop_get_stats(loop, &after);
    ck_assert_uint_le(after.turns - before.turns, 3);
    if (_i == SUPPORT_EXTERNAL) {
        ck_assert_uint_eq(support_external.known_count, 1);
    }
    teardown_loop();
}
END_TEST

/* A lazy change of an fd that a socket object has taken, and has closed; the
 * number is a stranger's by the time of the change. */
START_TEST(test_a_lazy_change_of_a_lost_number)
{
    int strangers[2];

    setup_loop(_i);
    support_pair(strangers);
    own(0, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    support_turns(loop, 1);
    ops()->read_stop(&owners[0].io);
    support_turns(loop, 1);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0); /* due now */
    owners[0].io._fd = -1;
    borrow(0, fds[0]);
    ck_assert_int_eq(dup3(strangers[0], fds[0], O_CLOEXEC), fds[0]);
    owners[0].socket_fd = -1;
    support_send(strangers[1], "secret");
    if (_i != SUPPORT_EXTERNAL) {
        support_turns(loop, 2);
        ck_assert_int_eq(owners[0].reads, 0);
    }
    ck_assert_int_eq(close(fds[0]), 0);
    support_close_pair(strangers);
    teardown_loop();
}
END_TEST

/* Closed between the event and its turn in the batch. */
static void
close_other_socket(struct owner *owner)
{
    (void)owner;
    ck_assert_int_eq(close(owners[1].socket_fd), 0);
    owners[1].socket_fd = -1;
}

START_TEST(test_a_socket_closed_while_its_event_is_queued)
{
    int others[2];

    setup_loop(_i);
    support_pair(others);
    borrow(0, fds[0]);
    borrow(1, others[0]);
    owners[0].more = close_other_socket;
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ck_assert_int_eq(ops()->read_start(&owners[1].io), 0);
    support_send(fds[1], "x");
    support_send(others[1], "secret");
    support_turns(loop, 1);
    if (owners[1].reads > 0 && owners[1].read_n > 0) {
        ck_assert_int_eq(owners[1].read_n, 6); /* it came first */
    }
    else {
        ck_assert_int_eq(owners[1].read_n, -EBADF);
    }
    ck_assert_int_eq(close(others[1]), 0);
    teardown_loop();
}
END_TEST

static void
on_watch_note(bk_watch *watch, unsigned events)
{
    (void)watch;
    (void)events;
    support_note('w');
}

START_TEST(test_two_owners_of_one_fd)
{
    bk_watch watch;

    setup_loop(_i);
    own(0, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ck_assert_int_eq(ops()->watch(&owners[1].io, BK_READABLE), -EBADF);
    borrow(1, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[1].io), -EEXIST);
    owners[1].socket_fd = -1;

    ck_assert_int_eq(bk_watch_init(&watch, loop, fds[0], on_watch_note), 0);
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE), -EEXIST);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].reads, 1);
    teardown_loop();
}
END_TEST

/* As in CPython, where the transport's reader replaces the user's. */
START_TEST(test_a_transport_supersedes_a_watch)
{
    bk_watch watch;

    setup_loop(_i);
    ck_assert_int_eq(bk_watch_init(&watch, loop, fds[0], on_watch_note), 0);
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE), 0);
    own(0, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].reads, 1);
    ck_assert_uint_eq(bk_watch_get(&watch), 0);
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].reads, 2);
    ck_assert_str_eq(support_log(), "");
    teardown_loop();
}
END_TEST

/* The fd goes from one io to another. */
START_TEST(test_withdraw_and_hand_over)
{
    setup_loop(_i);
    own(0, fds[0]);
    support_send(fds[1], "x");
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ops()->withdraw(&owners[0].io);
    owners[0].io._fd = -1;
    own(1, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[1].io), 0);
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].reads, 0);
    ck_assert_int_eq(owners[1].reads, 1);
    teardown_loop();
}
END_TEST

/* A library's fd takes a socket object in the middle. */
START_TEST(test_given_to_a_socket)
{
    setup_loop(_i);
    own(0, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    owners[0].io._fd = -1;
    borrow(0, fds[0]);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].reads, 1);
    ops()->read_stop(&owners[0].io);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].reads, 1);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].reads, 2);
    ops()->close(&owners[0].io);
    ops()->close(&owners[0].io);
    ck_assert_int_eq(owners[0].socket_closes, 1);
    teardown_loop();
}
END_TEST

/* A hang-up is reported also to who wants nothing; the loop sleeps all the
 * same, and the end is not lost. */
START_TEST(test_hang_up_of_a_paused_fd)
{
    bk_loop_stats before;
    bk_loop_stats after;

    setup_loop(_i);
    own(0, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ops()->read_stop(&owners[0].io);
    ck_assert_int_eq(close(fds[1]), 0);
    fds[1] = -1;
    support_turns(loop, 1);
    bk_loop_get_stats(loop, &before);
    ck_assert_int_eq(bk_loop_call_later(loop, 5 * MS, support_stop, loop, NULL),
                     0);
    support_run(loop);
    bk_loop_get_stats(loop, &after);
    ck_assert_uint_le(after.turns - before.turns, 3);
    ck_assert_int_eq(owners[0].reads, 0);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].read_n, BK_EOF);
    teardown_loop();
}
END_TEST

START_TEST(test_closed_loop)
{
    struct sockaddr_in address;

    setup_loop(_i);
    own(0, fds[0]);
    own(1, listen_somewhere(&address));
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), -EBADF);
    ck_assert_int_eq(ops()->accept_start(&owners[1].io, 1), -EBADF);
    ck_assert_int_eq(ops()->watch(&owners[0].io, BK_READABLE), -EBADF);
    ops()->read_stop(&owners[0].io);
    ops()->withdraw(&owners[0].io);
    teardown_loop();
}
END_TEST

#ifdef BK_FAULT_INJECTION

static void
fill_again(struct owner *owner)
{
    if (owner->writables < 5) {
        fill(owner);
        drain(fds[1]);
    }
}

static unsigned
ctl_count(void)
{
    return bki_fault_count(BKI_SYS_EPOLL_CTL);
}

/* An fd of the library's own is registered once, and told of again only when
 * its interest has changed by the time of the wait. */
START_TEST(test_lazy_changes)
{
    setup_loop(SUPPORT_EPOLL);
    own(0, fds[0]);
    bki_fault_arm(BKI_SYS_ANY, 0, 0);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ck_assert_uint_eq(ctl_count(), 1);
    for (int i = 0; i < 10; i++) {
        ops()->read_stop(&owners[0].io);
        ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    }
    support_turns(loop, 3);
    ck_assert_uint_eq(ctl_count(), 1);
    ops()->read_stop(&owners[0].io);
    support_turns(loop, 3);
    ck_assert_uint_eq(ctl_count(), 2);
    fill(&owners[0]);
    support_turns(loop, 1);
    ck_assert_uint_eq(ctl_count(), 3);
    owners[0].more = fill_again;
    drain(fds[1]);
    support_turns(loop, 4); /* blocked again each time: nothing to tell */
    ck_assert_int_eq(owners[0].writables, 4);
    ck_assert_uint_eq(ctl_count(), 3);
    teardown_loop();
}
END_TEST

/* While nothing but the inbox is watched, nothing is waited for. */
START_TEST(test_busy_turns_without_io_make_no_call)
{
    setup_loop(_i);
    bki_fault_arm(BKI_SYS_ANY, 0, 0);
    support_turns(loop, 100);
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_ANY), 0);
    own(0, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    support_turns(loop, 100);
    ck_assert_uint_ge(bki_fault_count(_i == SUPPORT_EPOLL ? BKI_SYS_EPOLL_WAIT
                                                          : BKI_SYS_POLL),
                      100);
    teardown_loop();
}
END_TEST

static int watched;

static void
on_watch(bk_watch *watch, unsigned events)
{
    ck_assert_uint_eq(events, BK_READABLE);
    ck_assert_int_ge(bk_watch_fd(watch), 0);
    watched++;
}

static unsigned
poll_count(int poller)
{
    return bki_fault_count(poller == SUPPORT_EPOLL ? BKI_SYS_EPOLL_WAIT
                                                   : BKI_SYS_POLL);
}

/* A watch that only wakes the loop is looked at when there is no work. */
START_TEST(test_busy_turns_leave_out_wakers)
{
    bk_watch watch;

    setup_loop(_i);
    ck_assert_int_eq(bk_watch_init(&watch, loop, fds[0], on_watch), 0);
    bk_watch_set_waker(&watch, true);
    ck_assert_int_eq(bk_watch_set(&watch, BK_READABLE), 0);
    support_send(fds[1], "x");
    bki_fault_arm(BKI_SYS_ANY, 0, 0);
    support_turns(loop, 100);
    ck_assert_uint_eq(bki_fault_count(BKI_SYS_ANY), 0);
    ck_assert_int_eq(watched, 0);
    /* A turn without work. */
    ck_assert_int_eq(bk_loop_call_later(loop, 5 * MS, support_stop, loop, NULL),
                     0);
    support_run(loop);
    ck_assert_int_gt(watched, 0);

    watched = 0;
    bk_watch_set_waker(&watch, false);
    bki_fault_arm(BKI_SYS_ANY, 0, 0);
    support_turns(loop, 10);
    ck_assert_uint_eq(poll_count(_i), 10);
    ck_assert_int_eq(watched, 10);
    bk_watch_set_waker(&watch, true);
    support_turns(loop, 10);
    ck_assert_uint_eq(poll_count(_i), 10);
    (void)bki_fault_disarm();
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    ck_assert_int_eq(close(fds[0]), 0);
    teardown_loop();
}
END_TEST

/* A waker that shares its fd, and a waker beside another watch. */
START_TEST(test_wakers_among_others)
{
    bk_watch reader;
    bk_watch writer;

    setup_loop(_i);
    ck_assert_int_eq(bk_watch_init(&reader, loop, fds[0], on_watch), 0);
    ck_assert_int_eq(bk_watch_init(&writer, loop, fds[0], on_watch), 0);
    bk_watch_set_waker(&reader, true);
    ck_assert_int_eq(bk_watch_set(&reader, BK_READABLE), 0);
    ck_assert_int_eq(bk_watch_set(&writer, BK_WRITABLE), 0);
    bk_watch_set_waker(&writer, true);
    ck_assert_int_eq(bk_watch_set(&writer, 0), 0);
    bki_fault_arm(BKI_SYS_ANY, 0, 0);
    support_turns(loop, 10);
    ck_assert_uint_eq(poll_count(_i), 10); /* the reader is an ordinary one */
    (void)bki_fault_disarm();
    bk_watch_set_waker(&reader, true);
    own(1, fds[1]);
    ck_assert_int_eq(ops()->read_start(&owners[1].io), 0);
    support_turns(loop, 1);
    bki_fault_arm(BKI_SYS_ANY, 0, 0);
    support_turns(loop, 10);
    ck_assert_uint_eq(poll_count(_i), 10);
    (void)bki_fault_disarm();
    ck_assert_int_eq(bk_watch_set(&reader, 0), 0);
    ck_assert_int_eq(close(fds[0]), 0);
    teardown_loop();
}
END_TEST

/* A change that the kernel refuses is tried again, and nobody waits for an
 * event that cannot come. */
START_TEST(test_refused_change)
{
    int reads;

    setup_loop(SUPPORT_EPOLL);
    own(0, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ops()->read_stop(&owners[0].io);
    support_turns(loop, 1);
    support_send(fds[1], "x");
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    bki_fault_arm_all(BKI_SYS_EPOLL_CTL, 1, -ENOMEM);
    ck_assert_int_eq(
        bk_loop_call_later(loop, 20 * MS, support_stop, loop, NULL), 0);
    support_run(loop);
    ck_assert(bki_fault_disarm());
    reads = owners[0].reads;
    ck_assert_int_ge(reads, 3);
    ck_assert_int_eq(owners[0].read_n, -EAGAIN);
    support_send(fds[1], "yy");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].read_n, 2);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].reads, reads + 1);
    teardown_loop();
}
END_TEST

/* A direction that was refused is asked for again the next time. */
START_TEST(test_refused_direction)
{
    ssize_t n;

    setup_loop(SUPPORT_EPOLL);
    borrow(0, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    bki_fault_arm_all(BKI_SYS_EPOLL_CTL, 1, -ENOMEM);
    do {
        n = write_some(&owners[0], 1 << 20);
    } while (n > 0);
    ck_assert(bki_fault_disarm());
    ck_assert_int_eq(n, -ENOMEM);
    drain(fds[1]);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].writables, 0);
    fill(&owners[0]);
    drain(fds[1]);
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].writables, 1);
    teardown_loop();
}
END_TEST

/* A hang-up of a paused fd that cannot be taken out yet. */
START_TEST(test_refused_removal)
{
    bk_loop_stats before;
    bk_loop_stats after;

    setup_loop(SUPPORT_EPOLL);
    own(0, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ops()->read_stop(&owners[0].io);
    support_turns(loop, 1);
    ck_assert_int_eq(close(fds[1]), 0);
    fds[1] = -1;
    bki_fault_arm_all(BKI_SYS_EPOLL_CTL, 1, -ENOMEM);
    support_turns(loop, 5);
    ck_assert(bki_fault_disarm());
    support_turns(loop, 1);
    bk_loop_get_stats(loop, &before);
    ck_assert_int_eq(bk_loop_call_later(loop, 5 * MS, support_stop, loop, NULL),
                     0);
    support_run(loop);
    bk_loop_get_stats(loop, &after);
    ck_assert_uint_le(after.turns - before.turns, 3);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].read_n, BK_EOF);
    teardown_loop();
}
END_TEST

START_TEST(test_refused_registration)
{
    struct sockaddr_in address;
    int listener;

    setup_loop(SUPPORT_EPOLL);
    listener = listen_somewhere(&address);
    own(0, new_socket());
    own(1, fds[0]);
    bki_fault_arm_all(BKI_SYS_EPOLL_CTL, 1, -ENOSPC);
    ck_assert_int_eq(ops()->read_start(&owners[1].io), -ENOSPC);
    ck_assert_int_eq(ops()->connect(&owners[0].io, (struct sockaddr *)&address,
                                    sizeof(address)),
                     -ENOSPC);
    ck_assert(bki_fault_disarm());
    support_send(fds[1], "x");
    support_turns(loop, 2);
    ck_assert_int_eq(owners[1].reads, 0);
    ck_assert_int_eq(owners[0].connects, 0);
    ck_assert_int_eq(ops()->read_start(&owners[1].io), 0);
    support_turns(loop, 1);
    ck_assert_int_eq(owners[1].reads, 1);
    ck_assert_int_eq(close(listener), 0);
    teardown_loop();
}
END_TEST

static void
add_faults(TCase *tcase)
{
    tcase_add_test(tcase, test_lazy_changes);
    tcase_add_loop_test(tcase, test_busy_turns_without_io_make_no_call, 0,
                        SUPPORT_EXTERNAL);
    tcase_add_loop_test(tcase, test_busy_turns_leave_out_wakers, 0,
                        SUPPORT_EXTERNAL);
    tcase_add_loop_test(tcase, test_wakers_among_others, 0, SUPPORT_EXTERNAL);
    tcase_add_test(tcase, test_refused_change);
    tcase_add_test(tcase, test_refused_direction);
    tcase_add_test(tcase, test_refused_removal);
    tcase_add_test(tcase, test_refused_registration);
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
    Suite *suite = suite_create("unit_registry");
    TCase *every = tcase_create("every poller");

    tcase_add_loop_test(every, test_a_socket_closed_too_early, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_leaving_after_the_socket_was_closed, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_a_lazy_change_of_a_lost_number, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_a_socket_closed_while_its_event_is_queued,
                        0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_two_owners_of_one_fd, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_a_transport_supersedes_a_watch, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_withdraw_and_hand_over, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_given_to_a_socket, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_hang_up_of_a_paused_fd, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_closed_loop, 0, SUPPORT_POLLERS);
    add_faults(every);
    suite_add_tcase(suite, every);
    return support_main(suite);
}
