/* test_handle.c -- handle.h: what is scheduled runs, once, in order.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "support.h"

static bk_loop *loop;

struct letter {
    bk_handle handle; /* first */
    char letter;
    void (*more)(struct letter *letter); /* may be NULL */
    struct letter *other;
    int code;
};

static struct letter letters[8];

static void
on_letter(bk_handle *handle)
{
    struct letter *letter = (struct letter *)(void *)handle;

    support_note(letter->letter);
    if (letter->more != NULL) {
        letter->more(letter);
    }
}

static void
setup(void)
{
    loop = support_new_loop(SUPPORT_EPOLL);
    for (int i = 0; i < 8; i++) {
        letters[i] = (struct letter){.letter = (char)('a' + i)};
        bk_handle_init(&letters[i].handle, on_letter);
    }
}

static void
teardown(void)
{
    support_free_loop(loop);
}

static void
schedule(int from, int to)
{
    for (int i = from; i < to; i++) {
        ck_assert_int_eq(bk_loop_schedule(loop, &letters[i].handle), 0);
    }
}

START_TEST(test_order)
{
    schedule(0, 4);
    ck_assert_str_eq(support_log(), "");
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "abcd");
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "abcd");
}
END_TEST

START_TEST(test_scheduled_twice)
{
    schedule(0, 1);
    ck_assert(bk_handle_is_scheduled(&letters[0].handle));
    ck_assert_int_eq(bk_loop_schedule(loop, &letters[0].handle), -EBUSY);
    ck_assert_int_eq(bk_loop_schedule_threadsafe(loop, &letters[0].handle),
                     -EBUSY);
    support_turns(loop, 1);
    ck_assert(!bk_handle_is_scheduled(&letters[0].handle));
    schedule(0, 1);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "aa");
}
END_TEST

static void
schedule_itself(struct letter *letter)
{
    ck_assert(!bk_handle_is_scheduled(&letter->handle));
    letter->code = bk_loop_schedule(loop, &letter->handle);
}

START_TEST(test_what_a_callback_schedules_runs_in_the_next_turn)
{
    letters[0].more = schedule_itself;
    schedule(0, 2);
    support_turns(loop, 1);
    ck_assert_int_eq(letters[0].code, 0);
    ck_assert_str_eq(support_log(), "ab");
    support_turns(loop, 2);
    ck_assert_str_eq(support_log(), "abaa");
}
END_TEST

START_TEST(test_cancel)
{
    ck_assert_int_eq(bk_handle_cancel(&letters[0].handle), 0);
    schedule(0, 3);
    ck_assert_int_eq(bk_handle_cancel(&letters[1].handle), 1);
    ck_assert_int_eq(bk_handle_cancel(&letters[1].handle), 0);
    ck_assert(!bk_handle_is_scheduled(&letters[1].handle));
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "ac");
    ck_assert_int_eq(bk_handle_cancel(NULL), -EINVAL);
}
END_TEST

static void
cancel_other(struct letter *letter)
{
    letter->code = bk_handle_cancel(&letter->other->handle);
}

START_TEST(test_cancel_in_the_same_batch)
{
    letters[0].more = cancel_other;
    letters[0].other = &letters[2];
    letters[1].more = cancel_other;
    letters[1].other = &letters[0]; /* has run */
    letters[3].more = cancel_other;
    letters[3].other = &letters[3]; /* runs */
    schedule(0, 4);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "abd");
    ck_assert_int_eq(letters[0].code, 1);
    ck_assert_int_eq(letters[1].code, 0);
    ck_assert_int_eq(letters[3].code, 0);
}
END_TEST

static void
free_on_run(bk_handle *handle)
{
    support_note('f');
    free(handle);
}

START_TEST(test_freed_by_its_callback)
{
    bk_handle *handle = malloc(sizeof(*handle));

    ck_assert_ptr_nonnull(handle);
    bk_handle_init(handle, free_on_run);
    ck_assert_ptr_eq(bk_handle_callback(handle), free_on_run);
    ck_assert_int_eq(bk_loop_schedule(loop, handle), 0);
    schedule(0, 1);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "fa");
}
END_TEST

static void
note_arg(void *arg)
{
    support_note(*(const char *)arg);
}

START_TEST(test_call_soon)
{
    bk_handle *handle = NULL;

    ck_assert_int_eq(bk_loop_call_soon(loop, note_arg, "x", NULL), 0);
    ck_assert_int_eq(bk_loop_call_soon(loop, note_arg, "y", &handle), 0);
    ck_assert_int_eq(bk_loop_call_soon(loop, note_arg, "z", NULL), 0);
    ck_assert(bk_handle_is_scheduled(handle));
    ck_assert_int_eq(bk_handle_cancel(handle), 1);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "xz");
}
END_TEST

/* More than the slab keeps, all in one turn, some left for the close. */
START_TEST(test_many_calls)
{
    for (int turn = 0; turn < 3; turn++) {
        support_log_clear();
        for (int i = 0; i < 3000; i++) {
            ck_assert_int_eq(bk_loop_call_soon(loop, note_arg, "x", NULL), 0);
        }
        support_turns(loop, 1);
        ck_assert_uint_eq(strlen(support_log()), 3000);
    }
    for (int i = 0; i < 100; i++) {
        ck_assert_int_eq(bk_loop_call_soon(loop, note_arg, "x", NULL), 0);
        ck_assert_int_eq(bk_loop_call_soon_threadsafe(loop, note_arg, "x"), 0);
    }
}
END_TEST

START_TEST(test_bad_arguments)
{
    bk_handle empty = {0};
    bk_handle *handle = &empty;

    ck_assert_int_eq(bk_loop_schedule(NULL, &letters[0].handle), -EINVAL);
    ck_assert_int_eq(bk_loop_schedule(loop, NULL), -EINVAL);
    ck_assert_int_eq(bk_loop_schedule(loop, &empty), -EINVAL);
    ck_assert_int_eq(bk_loop_schedule_threadsafe(loop, NULL), -EINVAL);
    ck_assert_int_eq(bk_loop_schedule_threadsafe(loop, &empty), -EINVAL);
    ck_assert_int_eq(bk_loop_call_soon(loop, NULL, NULL, &handle), -EINVAL);
    ck_assert_int_eq(bk_loop_call_soon(NULL, note_arg, NULL, &handle), -EINVAL);
    ck_assert_int_eq(bk_loop_call_soon_threadsafe(loop, NULL, NULL), -EINVAL);
    ck_assert_ptr_eq(handle, &empty); /* written on success only */
}
END_TEST

START_TEST(test_closed_loop)
{
    bk_handle *handle = NULL;

    schedule(0, 1);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert(!bk_handle_is_scheduled(&letters[0].handle));
    ck_assert_int_eq(bk_loop_schedule(loop, &letters[0].handle), -EBADF);
    ck_assert_int_eq(bk_loop_schedule_threadsafe(loop, &letters[0].handle),
                     -EBADF);
    ck_assert_int_eq(bk_loop_call_soon(loop, note_arg, "x", &handle), -EBADF);
    ck_assert_int_eq(bk_loop_call_soon_threadsafe(loop, note_arg, "x"), -EBADF);
    ck_assert_ptr_null(handle);
    ck_assert_str_eq(support_log(), "");
}
END_TEST

/* What another thread sent before is before what the loop's thread schedules
 * afterwards. */
START_TEST(test_sent_and_scheduled_keep_their_order)
{
    schedule(0, 1);
    ck_assert_int_eq(bk_loop_schedule_threadsafe(loop, &letters[1].handle), 0);
    ck_assert_int_eq(bk_loop_call_soon_threadsafe(loop, note_arg, "x"), 0);
    ck_assert(bk_handle_is_scheduled(&letters[1].handle));
    ck_assert_int_eq(bk_handle_cancel(&letters[1].handle), -EINPROGRESS);
    schedule(2, 3);
    ck_assert_int_eq(bk_loop_schedule_threadsafe(loop, &letters[3].handle), 0);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "abxcd");
}
END_TEST

enum {
    SENDERS = 3,
    PER_SENDER = 5000,
};

struct parcel {
    bk_handle handle; /* first */
    int sender;
    int number;
};

static struct parcel parcels[SENDERS][PER_SENDER];
static int next_numbers[SENDERS];
static int received;

static void
on_parcel(bk_handle *handle)
{
    struct parcel *parcel = (struct parcel *)(void *)handle;

    ck_assert_int_eq(parcel->number, next_numbers[parcel->sender]);
    next_numbers[parcel->sender]++;
    if (++received == SENDERS * PER_SENDER) {
        bk_loop_stop(loop);
    }
}

static void *
send_parcels(void *arg)
{
    struct parcel *mine = arg;

    for (int i = 0; i < PER_SENDER; i++) {
        if (bk_loop_schedule_threadsafe(loop, &mine[i].handle) != 0) {
            abort();
        }
    }
    return NULL;
}

/* The loop sleeps and wakes all the time, and misses nothing. */
START_TEST(test_threads)
{
    pthread_t threads[SENDERS];

    for (int i = 0; i < SENDERS; i++) {
        for (int n = 0; n < PER_SENDER; n++) {
            parcels[i][n] = (struct parcel){.sender = i, .number = n};
            bk_handle_init(&parcels[i][n].handle, on_parcel);
        }
        ck_assert_int_eq(
            pthread_create(&threads[i], NULL, send_parcels, parcels[i]), 0);
    }
    support_run(loop);
    for (int i = 0; i < SENDERS; i++) {
        ck_assert_int_eq(pthread_join(threads[i], NULL), 0);
    }
    ck_assert_int_eq(received, SENDERS * PER_SENDER);
}
END_TEST

static int
count_visit(bk_handle *handle, void *arg)
{
    int *count = arg;

    ck_assert_ptr_nonnull(handle);
    (*count)++;
    return *count == 3 ? 42 : 0;
}

START_TEST(test_visit)
{
    bk_timer timer;
    int count = 0;

    bk_timer_init(&timer, on_letter);
    ck_assert_int_eq(bk_loop_visit(loop, count_visit, &count), 0);
    ck_assert_int_eq(count, 0);
    schedule(0, 1);
    ck_assert_int_eq(bk_loop_schedule_at(loop, &timer, BK_TIME_NEVER), 0);
    ck_assert_int_eq(bk_loop_visit(loop, count_visit, &count), 0);
    ck_assert_int_eq(count, 2);
    count = 0;
    schedule(1, 4);
    ck_assert_int_eq(bk_loop_visit(loop, count_visit, &count), 42);
    ck_assert_int_eq(count, 3);
    ck_assert_int_eq(bk_loop_visit(loop, NULL, NULL), -EINVAL);
    ck_assert_int_eq(bk_loop_visit_ready(loop, NULL, NULL), -EINVAL);
    ck_assert_int_eq(bk_loop_visit_ready(NULL, count_visit, &count), -EINVAL);
    ck_assert_int_eq(bk_loop_visit(NULL, count_visit, &count), -EINVAL);
    ck_assert_int_eq(bk_timer_cancel(&timer), 1);
}
END_TEST

static void
visit_others(struct letter *letter)
{
    (void)bk_loop_visit(loop, count_visit, &letter->code);
}

START_TEST(test_visit_sees_the_rest_of_the_batch)
{
    letters[0].more = visit_others;
    schedule(0, 3);
    support_turns(loop, 1);
    ck_assert_int_eq(letters[0].code, 2);
}
END_TEST

START_TEST(test_pop)
{
    bk_timer timer;

    bk_timer_init(&timer, on_letter);
    ck_assert_int_eq(bk_loop_schedule_at(loop, &timer, 1), 0);
    schedule(0, 1);
    ck_assert_int_eq(bk_loop_call_soon(loop, note_arg, "x", NULL), 0);
    ck_assert_int_eq(bk_loop_schedule_threadsafe(loop, &letters[1].handle), 0);
    ck_assert_ptr_eq(bk_loop_pop(loop), &letters[0].handle);
    ck_assert_ptr_eq(bk_loop_pop(loop), &letters[1].handle);
    ck_assert(!bk_handle_is_scheduled(&letters[1].handle));
    ck_assert_ptr_eq(bk_loop_pop(loop), &timer._handle);
    ck_assert(!bk_timer_is_scheduled(&timer));
    ck_assert_ptr_null(bk_loop_pop(loop));
    ck_assert_ptr_null(bk_loop_pop(NULL));
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "");
    schedule(0, 1); /* it is the caller's again */
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_ptr_null(bk_loop_pop(loop));
}
END_TEST

static void
break_loop(struct letter *letter)
{
    ck_assert_int_eq(bk_loop_schedule(loop, &letter->other->handle), 0);
    bk_loop_break(loop, -ECONNRESET);
    bk_loop_break(loop, -EPIPE); /* too late */
}

/* The rest of the batch comes before what the batch scheduled. */
START_TEST(test_break_puts_the_rest_back_in_front)
{
    letters[1].more = break_loop;
    letters[1].other = &letters[4];
    schedule(0, 4);
    ck_assert_int_eq(bk_loop_run_forever(loop), -ECONNRESET);
    ck_assert_str_eq(support_log(), "ab");
    ck_assert_int_eq(bk_handle_cancel(&letters[2].handle), 1);
    support_turns(loop, 1);
    ck_assert_str_eq(support_log(), "abde");
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("test_handle");
    TCase *tcase = tcase_create("handle");

    tcase_add_checked_fixture(tcase, setup, teardown);
    tcase_add_test(tcase, test_order);
    tcase_add_test(tcase, test_scheduled_twice);
    tcase_add_test(tcase, test_what_a_callback_schedules_runs_in_the_next_turn);
    tcase_add_test(tcase, test_cancel);
    tcase_add_test(tcase, test_cancel_in_the_same_batch);
    tcase_add_test(tcase, test_freed_by_its_callback);
    tcase_add_test(tcase, test_call_soon);
    tcase_add_test(tcase, test_many_calls);
    tcase_add_test(tcase, test_bad_arguments);
    tcase_add_test(tcase, test_closed_loop);
    tcase_add_test(tcase, test_sent_and_scheduled_keep_their_order);
    tcase_add_test(tcase, test_threads);
    tcase_add_test(tcase, test_visit);
    tcase_add_test(tcase, test_visit_sees_the_rest_of_the_batch);
    tcase_add_test(tcase, test_pop);
    tcase_add_test(tcase, test_break_puts_the_rest_back_in_front);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
