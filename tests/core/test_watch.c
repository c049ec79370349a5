/* test_watch.c -- watch.h: raw fds, also those that users close too early.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "support.h"

static bk_loop *loop;
static int fds[2];

struct look {
    bk_watch watch; /* first */
    char letter;    /* upper case when writable */
    void (*more)(struct look *look);
    struct look *other;
    int code;
};

static struct look looks[4];

static void
on_ready(bk_watch *watch, unsigned events)
{
    struct look *look = (struct look *)(void *)watch;

    ck_assert(events == BK_READABLE || events == BK_WRITABLE);
    support_note(
        (char)(events == BK_READABLE ? look->letter : look->letter - 32));
    if (look->more != NULL) {
        look->more(look);
    }
}

static void
setup_loop(int poller)
{
    support_pair(fds);
    loop = support_new_loop(poller);
    for (int i = 0; i < 4; i++) {
        looks[i] = (struct look){.letter = (char)('a' + i)};
    }
}

static void
teardown_loop(void)
{
    support_free_loop(loop);
    support_close_pair(fds);
}

static void
init(int i, int fd)
{
    ck_assert_int_eq(bk_watch_init(&looks[i].watch, loop, fd, on_ready), 0);
    ck_assert_int_eq(bk_watch_fd(&looks[i].watch), fd);
    ck_assert_ptr_eq(bk_watch_loop(&looks[i].watch), loop);
    ck_assert_uint_eq(bk_watch_get(&looks[i].watch), 0);
}

static void
set(int i, unsigned events)
{
    ck_assert_int_eq(bk_watch_set(&looks[i].watch, events), 0);
    ck_assert_uint_eq(bk_watch_get(&looks[i].watch), events);
}

/* Put another file at this number. */
static void
replace_fd(int fd, int other)
{
    ck_assert_int_eq(dup3(other, fd, O_CLOEXEC), fd);
    ck_assert_int_eq(close(other), 0);
}

static void
drain(int fd)
{
    char bytes[64];

    ck_assert_int_gt(read(fd, bytes, sizeof(bytes)), 0);
}

START_TEST(test_readable)
{
    setup_loop(_i);
    init(0, fds[0]);
    set(0, BK_READABLE);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "");
    support_send(fds[1], "x");
    support_turns(loop, 3); /* level-triggered */
    ck_assert_str_eq(support_log(), "aaa");
    drain(fds[0]);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "aaa");
    set(0, 0);
    teardown_loop();
}
END_TEST

START_TEST(test_writable)
{
    setup_loop(_i);
    init(0, fds[0]);
    set(0, BK_WRITABLE);
    support_turns(loop, 2);
    ck_assert_str_eq(support_log(), "AA");
    set(0, BK_READABLE | BK_WRITABLE);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "AAA");
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "AAAaA");
    set(0, BK_READABLE);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "AAAaAa");
    set(0, 0);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "AAAaAa");
    teardown_loop();
}
END_TEST

START_TEST(test_the_loop_sleeps_until_the_fd_is_ready)
{
    bk_loop_stats stats;

    setup_loop(_i);
    init(0, fds[0]);
    set(0, BK_READABLE);
    ck_assert_int_eq(bk_loop_call_later(loop, 5 * MS, support_stop, loop, NULL),
                     0);
    support_run(loop);
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_le(stats.turns, 3);
    ck_assert_str_eq(support_log(), "");
    set(0, 0);
    teardown_loop();
}
END_TEST

static void
withdraw_other(struct look *look)
{
    set((int)(look->other - looks), 0);
}

static void
withdraw_itself(struct look *look)
{
    look->code = bk_watch_set(&look->watch, 0);
}

/* Both are queued when the first one runs. */
START_TEST(test_withdrawing_drops_what_is_queued)
{
    int others[2];

    setup_loop(_i);
    support_pair(others);
    init(0, fds[0]);
    init(1, others[0]);
    looks[0].more = looks[1].more = withdraw_other;
    looks[0].other = &looks[1];
    looks[1].other = &looks[0];
    set(0, BK_WRITABLE);
    set(1, BK_WRITABLE);
    support_turns(loop, 1);
    ck_assert_uint_eq(strlen(support_log()), 1);
    set(0, 0);
    set(1, 0);
    support_close_pair(others);
    teardown_loop();
}
END_TEST

START_TEST(test_withdrawing_inside_drops_the_other_direction)
{
    setup_loop(_i);
    init(0, fds[0]);
    looks[0].more = withdraw_itself;
    support_send(fds[1], "x");
    set(0, BK_READABLE | BK_WRITABLE);
    support_turns(loop, 2);
    ck_assert_str_eq(support_log(), "a");
    teardown_loop();
}
END_TEST

static void
want_readable_only(struct look *look)
{
    look->code = bk_watch_set(&look->watch, BK_READABLE);
}

START_TEST(test_narrowing_inside_drops_the_other_direction)
{
    setup_loop(_i);
    init(0, fds[0]);
    looks[0].more = want_readable_only;
    support_send(fds[1], "x");
    set(0, BK_READABLE | BK_WRITABLE);
    support_turns(loop, 2);
    ck_assert_str_eq(support_log(), "aa");
    set(0, 0);
    teardown_loop();
}
END_TEST

static bk_watch *heap_watch;

static void
free_on_ready(bk_watch *watch, unsigned events)
{
    (void)events;
    ck_assert_int_eq(bk_watch_set(watch, 0), 0);
    free(watch);
    support_note('f');
}

START_TEST(test_freed_inside)
{
    setup_loop(_i);
    heap_watch = malloc(sizeof(*heap_watch));
    ck_assert_ptr_nonnull(heap_watch);
    ck_assert_int_eq(bk_watch_init(heap_watch, loop, fds[0], free_on_ready), 0);
    support_send(fds[1], "x");
    ck_assert_int_eq(bk_watch_set(heap_watch, BK_READABLE | BK_WRITABLE), 0);
    support_turns(loop, 2);
    ck_assert_str_eq(support_log(), "f");
    teardown_loop();
}
END_TEST

/* As CPython's selectors: an end is both, masked by what is wanted. */
START_TEST(test_hang_up)
{
    int others[2];

    setup_loop(_i);
    support_pair(others);
    init(0, others[0]);
    ck_assert_int_eq(close(others[1]), 0);
    set(0, BK_READABLE);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "a");
    set(0, BK_WRITABLE);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "aA");
    set(0, BK_READABLE | BK_WRITABLE);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "aAaA");
    set(0, 0);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "aAaA");
    ck_assert_int_eq(close(others[0]), 0);
    teardown_loop();
}
END_TEST

/* The ends of a pipe hang up without being readable or writable. */
START_TEST(test_hang_up_alone)
{
    char bytes[4096] = {0};
    int ends[2];

    setup_loop(_i);
    ck_assert_int_eq(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    init(0, ends[0]);
    ck_assert_int_eq(close(ends[1]), 0);
    set(0, BK_READABLE);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "a");
    set(0, 0);
    ck_assert_int_eq(close(ends[0]), 0);

    ck_assert_int_eq(pipe2(ends, O_NONBLOCK | O_CLOEXEC), 0);
    while (write(ends[1], bytes, sizeof(bytes)) > 0) {
    }
    init(0, ends[1]);
    set(0, BK_READABLE | BK_WRITABLE);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "a");
    ck_assert_int_eq(close(ends[0]), 0);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "aaA");
    set(0, BK_WRITABLE);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "aaAA");
    set(0, 0);
    ck_assert_int_eq(close(ends[1]), 0);
    teardown_loop();
}
END_TEST

START_TEST(test_errors)
{
    bk_watch watch = {0};
    int closed;

    setup_loop(_i);
    closed = dup(fds[0]);
    ck_assert_int_eq(close(closed), 0);
    ck_assert_int_eq(bk_watch_init(NULL, loop, fds[0], on_ready), -EINVAL);
    ck_assert_int_eq(bk_watch_init(&watch, NULL, fds[0], on_ready), -EINVAL);
    ck_assert_int_eq(bk_watch_init(&watch, loop, fds[0], NULL), -EINVAL);
    ck_assert_int_eq(bk_watch_init(&watch, loop, -1, on_ready), -EBADF);
    ck_assert_int_eq(bk_watch_set(NULL, BK_READABLE), -EINVAL);
    ck_assert_int_eq(bk_watch_set(&watch, 0), -EINVAL);
    ck_assert_uint_eq(bk_watch_get(NULL), 0);
    ck_assert_int_eq(bk_watch_fd(NULL), -1);
    ck_assert_ptr_null(bk_watch_loop(NULL));
    init(0, fds[0]);
    ck_assert_int_eq(bk_watch_set(&looks[0].watch, 4), -EINVAL);
    if (_i != SUPPORT_EXTERNAL) {
        init(1, closed);
        ck_assert_int_eq(bk_watch_set(&looks[1].watch, BK_READABLE), -EBADF);
        ck_assert_uint_eq(bk_watch_get(&looks[1].watch), 0);
    }
    set(0, BK_READABLE);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_int_eq(bk_watch_init(&watch, loop, fds[0], on_ready), -EBADF);
    ck_assert_int_eq(bk_watch_set(&looks[0].watch, BK_READABLE), -EBADF);
    ck_assert_int_eq(bk_watch_set(&looks[0].watch, 0), 0);
    teardown_loop();
}
END_TEST

/* A number that cannot be an fd costs no memory. */
START_TEST(test_huge_number)
{
    setup_loop(SUPPORT_EPOLL);
    init(0, INT32_MAX);
    ck_assert_int_eq(bk_watch_set(&looks[0].watch, BK_READABLE), -EBADF);
    teardown_loop();
}
END_TEST

/* Regular files cannot be polled by epoll. */
START_TEST(test_regular_file)
{
    int fd;

    setup_loop(SUPPORT_EPOLL);
    fd = memfd_create("regular", MFD_CLOEXEC);
    ck_assert_int_ge(fd, 0);
    init(0, fd);
    ck_assert_int_eq(bk_watch_set(&looks[0].watch, BK_READABLE), -EPERM);
    ck_assert_uint_eq(bk_watch_get(&looks[0].watch), 0);
    ck_assert_int_eq(close(fd), 0);
    teardown_loop();
}
END_TEST

/* The poller says that the fd has gone. */
START_TEST(test_set_after_the_fd_was_closed)
{
    int others[2];
    int fd;

    setup_loop(SUPPORT_EPOLL);
    support_pair(others);
    fd = others[0];
    init(0, fd);
    set(0, BK_READABLE);
    ck_assert_int_eq(close(fd), 0);
    ck_assert_int_eq(bk_watch_set(&looks[0].watch, BK_WRITABLE), -EBADF);
    ck_assert_uint_eq(bk_watch_get(&looks[0].watch), 0);
    ck_assert_int_eq(dup3(fds[0], fd, O_CLOEXEC), fd);
    set(0, BK_WRITABLE);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "A");
    set(0, 0);
    support_close_pair(others);
    teardown_loop();
}
END_TEST

/* Between two watches on one fd the first one stays. */
START_TEST(test_two_watches_on_one_fd)
{
    setup_loop(_i);
    init(0, fds[0]);
    init(1, fds[0]);
    set(0, BK_WRITABLE);
    ck_assert_int_eq(bk_watch_set(&looks[1].watch, BK_WRITABLE), -EEXIST);
    ck_assert_uint_eq(bk_watch_get(&looks[1].watch), 0);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "A");
    set(0, 0);
    set(1, BK_WRITABLE);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "AB");
    set(1, 0);
    teardown_loop();
}
END_TEST

/* The user closes the fd without a word, and gets the number again. */
START_TEST(test_same_watch_on_a_reused_number)
{
    int others[2];
    int fd;

    setup_loop(_i);
    support_pair(others);
    fd = others[0];
    init(0, fd);
    set(0, BK_READABLE);
    ck_assert_int_eq(close(others[1]), 0);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "a");
    replace_fd(fd, dup(fds[0]));
    set(0, BK_READABLE); /* the same interest: told all the same */
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "a");
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "aa");
    set(0, 0);
    ck_assert_int_eq(close(fd), 0);
    teardown_loop();
}
END_TEST

/* The old watch is on a number that is now somebody else's: it hears nothing,
 * and what it says does not reach the new one's registration. */
START_TEST(test_another_watch_on_a_reused_number)
{
    int others[2];
    int fd;

    setup_loop(SUPPORT_EPOLL);
    support_pair(others);
    fd = others[0];
    init(0, fd);
    init(1, fd);
    set(0, BK_READABLE);
    replace_fd(fd, dup(fds[0]));
    set(1, BK_READABLE);
    ck_assert_uint_eq(bk_watch_get(&looks[0].watch), 0);
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "b");
    set(0, 0);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "bb");
    set(1, 0);
    ck_assert_int_eq(close(fd), 0);
    ck_assert_int_eq(close(others[1]), 0);
    teardown_loop();
}
END_TEST

/* The fd is closed but a copy of it lives: epoll goes on reporting it and
 * cannot be told to stop. The set is made anew, and nothing else is lost. */
START_TEST(test_an_entry_that_cannot_be_removed)
{
    bk_loop_stats before;
    bk_loop_stats after;
    int others[2];
    int copy;

    setup_loop(SUPPORT_EPOLL);
    support_pair(others);
    init(0, others[0]);
    init(1, fds[0]);
    set(0, BK_WRITABLE);
    set(1, BK_READABLE);
    copy = dup(others[0]);
    ck_assert_int_ge(copy, 0);
    ck_assert_int_eq(close(others[0]), 0);
    set(0, 0);
    support_turns(loop, 5);
    ck_assert_str_eq(support_log(), "");
    bk_loop_get_stats(loop, &before);
    ck_assert_int_eq(bk_loop_call_later(loop, 5 * MS, support_stop, loop, NULL),
                     0);
    support_run(loop);
    bk_loop_get_stats(loop, &after);
    ck_assert_uint_le(after.turns - before.turns, 3); /* it sleeps again */
    support_send(fds[1], "x");
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "b");
    set(1, 0);
    ck_assert_int_eq(close(copy), 0);
    ck_assert_int_eq(close(others[1]), 0);
    teardown_loop();
}
END_TEST

static bk_watch late_watch;
static int late_fds[2];

static void
on_late(bk_watch *watch, unsigned events)
{
    (void)watch;
    (void)events;
    support_note('l');
}

/* A signal handler, after the wait has found the fd: another file takes its
 * number. */
static int
replace_before_linking(void *arg)
{
    (void)arg;
    if (late_fds[0] >= 0 && bk_watch_get(&late_watch) == 0) {
        int fd = bk_watch_fd(&looks[0].watch);

        set(0, 0);
        ck_assert_int_eq(dup3(late_fds[0], fd, O_CLOEXEC), fd);
        ck_assert_int_eq(bk_watch_init(&late_watch, loop, fd, on_late), 0);
        ck_assert_int_eq(bk_watch_set(&late_watch, BK_READABLE), 0);
    }
    return 0;
}

START_TEST(test_event_of_a_number_that_changed_hands)
{
    const bk_loop_hooks hooks = {.check_signals = replace_before_linking};
    int others[2];

    support_pair(fds);
    loop = support_new_loop_with(_i, &hooks);
    support_pair(others);
    looks[0] = (struct look){.letter = 'a'};
    late_fds[0] = -1;
    init(0, others[0]);
    set(0, BK_READABLE);
    support_send(others[1], "x");
    support_pair(late_fds);
    support_turns(loop, 2);
    ck_assert_str_eq(support_log(), "");
    support_send(late_fds[1], "x");
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "l");
    ck_assert_int_eq(bk_watch_set(&late_watch, 0), 0);
    support_close_pair(others);
    support_close_pair(late_fds);
    late_fds[0] = -1;
    teardown_loop();
}
END_TEST

/* Closed while its events are queued. */
static void
close_and_withdraw_other(struct look *look)
{
    look->other->code = close(bk_watch_fd(&look->other->watch));
    set((int)(look->other - looks), 0);
}

START_TEST(test_closed_while_queued)
{
    int others[2];

    setup_loop(SUPPORT_EPOLL);
    support_pair(others);
    init(0, fds[0]);
    init(1, others[0]);
    looks[0].more = close_and_withdraw_other;
    looks[0].other = &looks[1];
    set(0, BK_WRITABLE);
    set(1, BK_WRITABLE);
    support_turns(loop, 1);
    ck_assert_int_eq(looks[1].code, 0);
    ck_assert_str_eq(support_log(), "A");
    set(0, 0);
    ck_assert_int_eq(close(others[1]), 0);
    teardown_loop();
}
END_TEST

static int ready_counts[40];
static bk_watch watches[40];

static void
count_ready(bk_watch *watch, unsigned events)
{
    (void)events;
    ready_counts[watch - watches]++;
}

/* Numbers far apart, many of them, that come and go. */
START_TEST(test_many_fds)
{
    enum { COUNT = 40 };
    int pairs[COUNT][2];
    int high;

    setup_loop(_i);
    for (int i = 0; i < COUNT; i++) {
        support_pair(pairs[i]);
        ck_assert_int_eq(
            bk_watch_init(&watches[i], loop, pairs[i][0], count_ready), 0);
        ck_assert_int_eq(bk_watch_set(&watches[i], BK_READABLE), 0);
    }
    high = fcntl(fds[0], F_DUPFD_CLOEXEC, 900);
    ck_assert_int_ge(high, 900);
    init(0, high);
    set(0, BK_WRITABLE);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "A");
    for (int i = 0; i < COUNT; i += 2) {
        ck_assert_int_eq(bk_watch_set(&watches[i], 0), 0);
    }
    for (int i = 3; i < COUNT; i += 4) {
        ck_assert_int_eq(bk_watch_set(&watches[i], BK_WRITABLE), 0);
    }
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "AA");
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(ready_counts[i], i % 4 == 3);
        support_send(pairs[i][1], "x");
    }
    support_turns(loop, 1);
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(ready_counts[i], i % 4 == 3 ? 2 : i % 2);
    }
    for (int i = 0; i < COUNT; i++) {
        ck_assert_int_eq(bk_watch_set(&watches[i], 0), 0);
        support_close_pair(pairs[i]);
    }
    set(0, 0);
    ck_assert_int_eq(close(high), 0);
    teardown_loop();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("test_watch");
    TCase *every = tcase_create("every poller");
    TCase *epoll = tcase_create("epoll");

    tcase_add_loop_test(every, test_readable, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_writable, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_the_loop_sleeps_until_the_fd_is_ready, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_withdrawing_drops_what_is_queued, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every,
                        test_withdrawing_inside_drops_the_other_direction, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_narrowing_inside_drops_the_other_direction,
                        0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_hang_up_alone, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_freed_inside, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_hang_up, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_errors, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_two_watches_on_one_fd, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_same_watch_on_a_reused_number, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_many_fds, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(every, test_event_of_a_number_that_changed_hands, 0,
                        SUPPORT_POLLERS);
    suite_add_tcase(suite, every);
    tcase_add_test(epoll, test_huge_number);
    tcase_add_test(epoll, test_regular_file);
    tcase_add_test(epoll, test_set_after_the_fd_was_closed);
    tcase_add_test(epoll, test_another_watch_on_a_reused_number);
    tcase_add_test(epoll, test_an_entry_that_cannot_be_removed);
    tcase_add_test(epoll, test_closed_while_queued);
    suite_add_tcase(suite, epoll);
    return support_main(suite);
}
