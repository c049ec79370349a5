/* unit_mpsc.c -- many senders, one receiver.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/mpsc.h"

#include <pthread.h>
#include <sched.h>

#include "support.h"

enum {
    SENDERS = 4,
    PER_SENDER = 20000,
};

struct message {
    bk_handle handle; /* first */
    int number;
    int sender;
};

struct sender {
    struct bki_mpsc *queue;
    struct message *messages;
    pthread_t thread;
};

static struct message messages[SENDERS][PER_SENDER];

static void *
send_all(void *arg)
{
    struct sender *sender = arg;

    for (int i = 0; i < PER_SENDER; i++) {
        bki_mpsc_push(sender->queue, &sender->messages[i].handle);
    }
    return NULL;
}

/* Each sender's messages come in the order sent, each once. */
static int
receive(struct bki_mpsc *queue, int next_numbers[SENDERS])
{
    bk_handle *handle = bki_mpsc_take(queue);
    int count = 0;

    while (handle != NULL) {
        struct message *message = (struct message *)(void *)handle;

        handle = handle->_next;
        ck_assert_int_eq(message->number, next_numbers[message->sender]);
        next_numbers[message->sender]++;
        count++;
    }
    return count;
}

START_TEST(test_order_of_each_sender)
{
    struct bki_mpsc queue;
    struct sender senders[SENDERS];
    int next_numbers[SENDERS] = {0};
    int received = 0;

    bki_mpsc_init(&queue);
    for (int i = 0; i < SENDERS; i++) {
        for (int n = 0; n < PER_SENDER; n++) {
            messages[i][n].sender = i;
            messages[i][n].number = n;
        }
        senders[i].queue = &queue;
        senders[i].messages = messages[i];
        ck_assert_int_eq(
            pthread_create(&senders[i].thread, NULL, send_all, &senders[i]), 0);
    }
    while (received < SENDERS * PER_SENDER) {
        if (bki_mpsc_is_empty(&queue)) {
            sched_yield();
        }
        received += receive(&queue, next_numbers);
    }
    for (int i = 0; i < SENDERS; i++) {
        ck_assert_int_eq(pthread_join(senders[i].thread, NULL), 0);
        ck_assert_int_eq(next_numbers[i], PER_SENDER);
    }
    ck_assert(bki_mpsc_is_empty(&queue));
    ck_assert_ptr_null(bki_mpsc_take(&queue));
}
END_TEST

START_TEST(test_order_of_one_thread)
{
    struct bki_mpsc queue;
    int next_numbers[SENDERS] = {0};

    bki_mpsc_init(&queue);
    ck_assert(bki_mpsc_is_empty_relaxed(&queue));
    for (int n = 0; n < 3; n++) {
        messages[0][n].number = n;
        bki_mpsc_push(&queue, &messages[0][n].handle);
    }
    ck_assert(!bki_mpsc_is_empty_relaxed(&queue));
    ck_assert_int_eq(receive(&queue, next_numbers), 3);
    ck_assert(bki_mpsc_is_empty(&queue));
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("unit_mpsc");
    TCase *tcase = tcase_create("mpsc");

    tcase_add_test(tcase, test_order_of_each_sender);
    tcase_add_test(tcase, test_order_of_one_thread);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
