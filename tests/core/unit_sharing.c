/* unit_sharing.c -- two ios under one number, one for each direction.
 *
 * SPDX-License-Identifier: MIT
 */
#include "engine/readiness.h"

#include <errno.h>
#include <fcntl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/fault.h"
#include "engine_support.h"

static int
file_fileno(void *self)
{
    return ((struct owner *)self)->socket_fd;
}

/* The test closes the file itself, after both. */
static void
file_close(void *self)
{
    struct owner *owner = self;

    owner->socket_fd = -1;
    owner->socket_closes++;
}

static const bk_socket_ops file_ops = {file_fileno, file_close};

/* As a pipe has its file: somebody else's, and shared. */
static void
share_fd(int i, int fd)
{
    owners[i].socket_fd = fd;
    owners[i].io._socket = &file_ops;
    owners[i].io._socket_self = &owners[i];
    owners[i].io._is_sharing = 1;
}

/* The first two owners share fds[0]: 0 reads, and 1 waits until it can write,
 * which it can already. */
static void
setup_pair(int poller)
{
    setup_loop(poller);
    share_fd(0, fds[0]);
    share_fd(1, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ck_assert_int_eq(ops()->write_wait(&owners[1].io), 0);
}

static void
teardown_pair(void)
{
    ops()->close(&owners[0].io);
    ops()->close(&owners[1].io);
    ck_assert_int_eq(close(fds[0]), 0);
    teardown_loop();
}

static void
expect(int reads, int writables)
{
    ck_assert_int_eq(owners[0].reads, reads);
    ck_assert_int_eq(owners[1].writables, writables);
}

START_TEST(test_each_gets_its_own)
{
    setup_pair(_i);
    support_turns(loop, 1);
    expect(0, 1);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    expect(1, 1);
    ck_assert_int_eq(ops()->write_wait(&owners[1].io), 0);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    expect(2, 2);
    ck_assert_int_eq(owners[0].writables, 0);
    ck_assert_int_eq(owners[1].reads, 0);
    teardown_pair();
}
END_TEST

START_TEST(test_the_other_one_stays)
{
    setup_pair(_i);
    ops()->withdraw(&owners[0].io); /* which had the number first */
    support_send(fds[1], "x");
    support_turns(loop, 1);
    expect(0, 1);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ops()->withdraw(&owners[1].io); /* which has it longer now */
    support_turns(loop, 1);
    expect(1, 1);
    ops()->withdraw(&owners[0].io);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    expect(1, 1);
    if (_i == SUPPORT_EXTERNAL) {
        ck_assert_uint_eq(support_external.known_count, 1);
    }
    teardown_pair();
}
END_TEST

/* The poller is told of the number once, and of what is wanted of it. */
START_TEST(test_what_the_poller_is_told)
{
    unsigned adds;

    setup_loop(SUPPORT_EXTERNAL);
    adds = support_external.adds;
    share_fd(0, fds[0]);
    share_fd(1, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ck_assert_uint_eq(support_external.known[1].events, BK_READABLE);
    ck_assert_int_eq(ops()->write_wait(&owners[1].io), 0);
    ck_assert_uint_eq(support_external.known[1].events,
                      BK_READABLE | BK_WRITABLE);
    ops()->read_stop(&owners[0].io);
    ck_assert_uint_eq(support_external.known[1].events, BK_WRITABLE);
    ops()->write_stop(&owners[1].io);
    ck_assert_uint_eq(support_external.known_count, 1);
    ck_assert_uint_eq(support_external.adds, adds + 1);
    teardown_pair();
}
END_TEST

/* Who asks last has the direction. */
START_TEST(test_a_direction_goes_over)
{
    setup_pair(_i);
    ck_assert_int_eq(ops()->read_start(&owners[1].io), 0);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].reads, 0);
    ck_assert_int_eq(owners[1].reads, 1);
    ops()->read_stop(&owners[0].io); /* of what it has no longer */
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[1].reads, 2);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0); /* back again */
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].reads, 1);
    ck_assert_int_eq(owners[1].reads, 2);
    teardown_pair();
}
END_TEST

/* With what is queued of it already. */
static void
take_reading(struct owner *owner)
{
    (void)owner;
    owners[2].more = NULL;
    ck_assert_int_eq(ops()->read_start(&owners[1].io), 0);
}

START_TEST(test_a_queued_event_does_not_go_over)
{
    int others[2];

    setup_loop(_i);
    support_pair(others);
    own(2, others[0]);
    share_fd(0, fds[0]);
    share_fd(1, fds[0]);
    owners[2].more = take_reading;
    ck_assert_int_eq(ops()->read_start(&owners[2].io), 0);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    support_send(others[1], "x");
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[1].reads, 0); /* owners[0] may have come first */
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].reads + owners[1].reads, 1);
    ck_assert_int_eq(close(others[1]), 0);
    teardown_pair();
}
END_TEST

static bk_watch watches[3];

static void
on_watch(bk_watch *watch, unsigned events)
{
    support_note((char)((events == BK_READABLE ? 'r' : 'w') -
                        (watch == &watches[1] ? 'a' - 'A' : 0)));
}

static void
init_watch(int i)
{
    ck_assert_int_eq(bk_watch_init(&watches[i], loop, fds[0], on_watch), 0);
}

START_TEST(test_a_watch_and_a_pipe)
{
    setup_loop(_i);
    share_fd(0, fds[0]);
    init_watch(0);
    ck_assert_int_eq(bk_watch_set(&watches[0], BK_READABLE | BK_WRITABLE), 0);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    ck_assert_uint_eq(bk_watch_get(&watches[0]), BK_WRITABLE);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].reads, 1);
    ck_assert_str_eq(support_log(), "w");
    ck_assert_int_eq(bk_watch_set(&watches[0], BK_READABLE), 0);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[0].reads, 1);
    ck_assert_str_eq(support_log(), "wr");
    ops()->close(&owners[0].io); /* is not the watch's business */
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "wrr");
    ck_assert_int_eq(bk_watch_set(&watches[0], 0), 0);
    teardown_pair();
}
END_TEST

/* One for each direction; none takes from the other. */
START_TEST(test_two_watches)
{
    setup_loop(_i);
    init_watch(0);
    init_watch(1);
    init_watch(2);
    ck_assert_int_eq(bk_watch_set(&watches[0], BK_READABLE), 0);
    ck_assert_int_eq(bk_watch_set(&watches[1], BK_READABLE), -EEXIST);
    ck_assert_int_eq(bk_watch_set(&watches[1], BK_READABLE | BK_WRITABLE),
                     -EEXIST);
    ck_assert_uint_eq(bk_watch_get(&watches[1]), 0);
    ck_assert_int_eq(bk_watch_set(&watches[1], BK_WRITABLE), 0);
    ck_assert_int_eq(bk_watch_set(&watches[1], BK_READABLE), -EEXIST);
    ck_assert_uint_eq(bk_watch_get(&watches[1]), BK_WRITABLE);
    ck_assert_int_eq(bk_watch_set(&watches[2], BK_READABLE), -EEXIST);
    ck_assert_int_eq(bk_watch_set(&watches[2], BK_WRITABLE), -EEXIST);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "rW");
    ck_assert_int_eq(bk_watch_set(&watches[0], 0), 0);
    ck_assert_int_eq(bk_watch_set(&watches[2], BK_READABLE), 0);
    ck_assert_int_eq(bk_watch_set(&watches[1], 0), 0);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "rWr");
    ck_assert_int_eq(bk_watch_set(&watches[2], 0), 0);
    ck_assert_int_eq(close(fds[0]), 0);
    teardown_loop();
}
END_TEST

/* The file of the two has gone, and a third one has the number. */
START_TEST(test_a_reused_number)
{
    int others[2];

    setup_pair(_i);
    support_pair(others);
    ck_assert_int_eq(dup3(others[0], fds[0], O_CLOEXEC), fds[0]);
    ck_assert_int_eq(close(others[0]), 0);
    owners[0].socket_fd = -1;
    owners[1].socket_fd = -1;
    share_fd(2, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[2].io), 0);
    support_send(others[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[2].reads, 1);
    if (_i != SUPPORT_EXTERNAL) { /* which knows numbers only */
        expect(0, 0);
    }
    ops()->close(&owners[0].io);
    ops()->close(&owners[1].io);
    support_send(others[1], "x");
    support_turns(loop, 1);
    ck_assert_int_eq(owners[2].reads, 2);
    ck_assert_int_eq(close(others[1]), 0);
    ck_assert_int_eq(close(fds[0]), 0);
    teardown_loop();
}
END_TEST

/* One of them has been closed early; the other one is not asked to suffer. */
START_TEST(test_one_has_lost_the_number)
{
    setup_pair(_i);
    owners[0].socket_fd = -1;
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0); /* as it was */
    ops()->read_stop(&owners[0].io);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), -EBADF);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    expect(0, 1);
    teardown_pair();
}
END_TEST

/* Each closes the other, whoever comes first. */
static void
close_the_other(struct owner *owner)
{
    struct owner *other = owner == &owners[0] ? &owners[1] : &owners[0];

    ops()->close(&other->io);
}

START_TEST(test_closed_by_the_other)
{
    setup_pair(_i);
    owners[0].more = close_the_other;
    owners[1].more = close_the_other;
    support_send(fds[1], "x");
    support_turns(loop, 2);
    ck_assert_int_eq(owners[0].reads + owners[1].writables, 1);
    teardown_pair();
}
END_TEST

START_TEST(test_the_loop_is_closed)
{
    setup_pair(_i);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ops()->close(&owners[0].io);
    ops()->close(&owners[1].io);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), -EBADF);
    teardown_pair();
}
END_TEST

/* More pairs than there is room for at first. */
START_TEST(test_many_pairs)
{
    enum { PAIRS = 20 };
    int pairs[PAIRS][2];
    bk_watch readers[PAIRS];
    bk_watch writers[PAIRS];

    setup_loop(_i);
    for (int i = 0; i < PAIRS; i++) {
        support_pair(pairs[i]);
        ck_assert_int_eq(
            bk_watch_init(&readers[i], loop, pairs[i][0], on_watch), 0);
        ck_assert_int_eq(
            bk_watch_init(&writers[i], loop, pairs[i][0], on_watch), 0);
        ck_assert_int_eq(bk_watch_set(&readers[i], BK_READABLE), 0);
        ck_assert_int_eq(bk_watch_set(&writers[i], BK_WRITABLE), 0);
    }
    for (int i = 0; i < PAIRS; i++) {
        bk_watch *first = i % 3 == 0 ? &readers[i] : &writers[i];

        ck_assert_int_eq(bk_watch_set(first, 0), 0);
    }
    for (int i = 0; i < PAIRS; i++) {
        ck_assert_uint_eq(bk_watch_get(&readers[i]) | bk_watch_get(&writers[i]),
                          i % 3 == 0 ? BK_WRITABLE : BK_READABLE);
        ck_assert_int_eq(bk_watch_set(&readers[i], 0), 0);
        ck_assert_int_eq(bk_watch_set(&writers[i], 0), 0);
        support_close_pair(pairs[i]);
    }
    ck_assert_int_eq(close(fds[0]), 0);
    teardown_loop();
}
END_TEST

/* The poller's set is made anew; both are told to it again. */
START_TEST(test_rebuilt)
{
    int copy;
    int lost[2];
    bk_watch watch;

    setup_pair(SUPPORT_EPOLL);
    support_pair(lost);
    ck_assert_int_eq(bk_watch_init(&watch, loop, lost[0], on_watch), 0);
    ck_assert_int_eq(bk_watch_set(&watch, BK_WRITABLE), 0);
    copy = dup(lost[0]); /* which keeps the entry that nobody can remove */
    ck_assert_int_eq(close(lost[0]), 0);
    ck_assert_int_eq(bk_watch_set(&watch, 0), 0);
    support_turns(loop, 4);
    support_send(fds[1], "x");
    ck_assert_int_eq(ops()->write_wait(&owners[1].io), 0);
    support_turns(loop, 1);
    expect(1, 2);
    ck_assert_int_eq(close(copy), 0);
    ck_assert_int_eq(close(lost[1]), 0);
    teardown_pair();
}
END_TEST

#ifdef BK_FAULT_INJECTION
START_TEST(test_without_memory)
{
    setup_loop(SUPPORT_EPOLL);
    share_fd(0, fds[0]);
    share_fd(1, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    bki_fault_arm(BKI_SYS_REALLOC, 1, -ENOMEM);
    ck_assert_int_eq(ops()->write_wait(&owners[1].io), -ENOMEM);
    ck_assert(bki_fault_disarm());
    support_send(fds[1], "x");
    support_turns(loop, 1);
    expect(1, 0);
    ck_assert_int_eq(ops()->write_wait(&owners[1].io), 0);
    support_turns(loop, 1);
    expect(1, 1);
    teardown_pair();
}
END_TEST

/* What the poller does not take leaves all as it was. */
START_TEST(test_the_poller_refuses)
{
    setup_loop(SUPPORT_EPOLL);
    share_fd(0, fds[0]);
    share_fd(1, fds[0]);
    ck_assert_int_eq(ops()->read_start(&owners[0].io), 0);
    bki_fault_arm(BKI_SYS_EPOLL_CTL, 1, -ENOMEM);
    ck_assert_int_eq(ops()->write_wait(&owners[1].io), -ENOMEM);
    ck_assert(bki_fault_disarm());
    support_send(fds[1], "x");
    support_turns(loop, 1);
    expect(1, 0);
    teardown_pair();
}
END_TEST
#endif

#define ADD(test) tcase_add_loop_test(tcase, test, 0, SUPPORT_POLLERS)

int
main(void)
{
    Suite *suite = suite_create("unit_sharing");
    TCase *tcase = tcase_create("sharing");

    ADD(test_each_gets_its_own);
    ADD(test_the_other_one_stays);
    tcase_add_test(tcase, test_what_the_poller_is_told);
    ADD(test_a_direction_goes_over);
    ADD(test_a_queued_event_does_not_go_over);
    ADD(test_a_watch_and_a_pipe);
    ADD(test_two_watches);
    ADD(test_a_reused_number);
    ADD(test_one_has_lost_the_number);
    ADD(test_closed_by_the_other);
    ADD(test_the_loop_is_closed);
    ADD(test_many_pairs);
    tcase_add_test(tcase, test_rebuilt);
#ifdef BK_FAULT_INJECTION
    tcase_add_test(tcase, test_without_memory);
    tcase_add_test(tcase, test_the_poller_refuses);
#endif
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
