/* test_datagram_queue.c -- datagram endpoints: what waits to be sent.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "datagram_support.h"

static char filler[1000];

/* --- waiting for the kernel --- */

static int fds[2]; /* [0] is the endpoint's */

static void
begin_pair(int poller)
{
    endpoint_loop = support_new_loop(poller);
    unix_pair(fds);
    start_endpoint(&endpoint, endpoint_loop, fds[0]);
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("made ");
}

static void
end_pair(void)
{
    bk_datagram_release(&endpoint.transport);
    ck_assert_int_eq(close(fds[1]), 0);
    support_free_loop(endpoint_loop);
}

static size_t
waiting(void)
{
    return bk_datagram_get_write_buffer_size(&endpoint.transport);
}

static int sent; /* datagrams, each with its number in front */

static void
send_next(void)
{
    (void)snprintf(filler, sizeof(filler), "%d", sent++);
    ck_assert_int_eq(bk_datagram_sendto(&endpoint.transport, filler,
                                        sizeof(filler), NULL, 0),
                     0);
}

static void
send_until_waiting(void)
{
    sent = 0;
    do {
        send_next();
    } while (waiting() == 0);
}

static int got; /* datagrams of the pair's other end, in order */

static void
receive_some(void)
{
    char buf[1100];

    while (recv(fds[1], buf, sizeof(buf), 0) == sizeof(filler)) {
        char text[16];

        (void)snprintf(text, sizeof(text), "%d", got++);
        ck_assert_str_eq(buf, text);
    }
    ck_assert_int_eq(errno, EAGAIN);
}

START_TEST(what_waits_counts_its_headers)
{
    begin_pair(_i);
    send_until_waiting();
    ck_assert_uint_eq(waiting(), sizeof(filler) + 8);
    ck_assert_int_eq(bk_datagram_sendto(&endpoint.transport, "", 0, NULL, 0),
                     0);
    ck_assert_uint_eq(waiting(), sizeof(filler) + 16);
    bk_datagram_abort(&endpoint.transport, 0);
    ck_assert_uint_eq(waiting(), 0);
    end_pair();
}
END_TEST

START_TEST(what_waits_is_sent_in_order)
{
    begin_pair(_i);
    send_until_waiting();
    for (int i = 0; i < 50; i++) {
        send_next();
    }
    for (int i = 0; i < 100 && got < sent; i++) {
        receive_some();
        support_turns(endpoint_loop, 1);
    }
    ck_assert_int_eq(got, sent);
    ck_assert_uint_eq(waiting(), 0);
    expect_endpoint_log("");
    end_pair();
}
END_TEST

START_TEST(pause_and_resume_in_turn)
{
    size_t high;
    size_t low;

    begin_pair(_i);
    bk_datagram_get_write_buffer_limits(&endpoint.transport, &high, &low);
    ck_assert_uint_eq(high, 65536);
    ck_assert_uint_eq(low, 16384);
    ck_assert_int_eq(
        bk_datagram_set_write_buffer_limits(&endpoint.transport, 1, 2),
        -EINVAL);
    send_until_waiting();
    while (waiting() + sizeof(filler) + 8 <= high) {
        send_next();
    }
    expect_endpoint_log("");
    send_next();
    expect_endpoint_log("pause ");
    for (int i = 0; i < 200 && waiting() > 0; i++) {
        receive_some();
        support_turns(endpoint_loop, 1);
    }
    expect_endpoint_log("resume ");
    end_pair();
}
END_TEST

START_TEST(close_sends_what_waits)
{
    begin_pair(_i);
    send_until_waiting();
    send_next();
    bk_datagram_close(&endpoint.transport);
    support_turns(endpoint_loop, 2);
    expect_endpoint_log("");
    send_next(); /* behind the others, as in asyncio */
    for (int i = 0; i < 100 && endpoint.lost_count == 0; i++) {
        receive_some();
        support_turns(endpoint_loop, 1);
    }
    expect_endpoint_log("lost:0 closed ");
    receive_some();
    ck_assert_int_eq(got, sent);
    end_pair();
}
END_TEST

START_TEST(abort_drops_what_waits)
{
    begin_pair(_i);
    send_until_waiting();
    bk_datagram_close(&endpoint.transport);
    bk_datagram_abort(&endpoint.transport, -EIO);
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("lost:EIO closed ");
    receive_some();
    ck_assert_int_eq(got, sent - 1);
    end_pair();
}
END_TEST

static void
send_on_resume(struct endpoint *of)
{
    (void)of;
    send_next();
}

START_TEST(what_resume_sends_is_sent)
{
    begin_pair(_i);
    ck_assert_int_eq(
        bk_datagram_set_write_buffer_limits(&endpoint.transport, 100, 0), 0);
    endpoint.on_resume = send_on_resume;
    send_until_waiting();
    expect_endpoint_log("pause ");
    bk_datagram_close(&endpoint.transport);
    for (int i = 0; i < 100 && endpoint.closed_count == 0; i++) {
        receive_some();
        support_turns(endpoint_loop, 1);
    }
    receive_some();
    ck_assert_int_eq(got, sent);
    ck_assert_int_eq(endpoint.lost_count, 1);
    end_pair();
}
END_TEST

/* A failure of what waits ends this event; the next goes on. */
START_TEST(failures_of_what_waits)
{
    begin_pair(_i);
    send_until_waiting();
    send_next();
    ck_assert_int_eq(close(fds[1]), 0);
    support_turns(endpoint_loop, 1);
    ck_assert_int_eq(endpoint.errors, 1);
    RUN_UNTIL(endpoint_loop, waiting() == 0);
    ck_assert_int_eq(endpoint.errors, 2);
    fds[1] = dup(fds[0]); /* for end_pair */
    end_pair();
}
END_TEST

/* --- lent memory --- */

static int released;
static int lent;

static void
count_release(void *owner)
{
    ck_assert_ptr_eq(owner, &released);
    released++;
}

static void
lend(const char *text)
{
    lent++;
    ck_assert_int_eq(
        bk_datagram_sendto_lent(&endpoint.transport, text, strlen(text),
                                (struct sockaddr *)&peer_address,
                                sizeof(peer_address), count_release, &released),
        0);
}

static void
lend_on_datagram(struct endpoint *of, const void *data, size_t len)
{
    (void)data;
    (void)len;
    lend("reply");
    ck_assert_int_eq(released, of->received == 1 ? 0 : released);
}

START_TEST(lent_memory_comes_back_once)
{
    begin_endpoint(_i);
    lend("at once");
    ck_assert_int_eq(released, 1);
    expect_peer_got("at once ");
    warm_up_burst(8);
    released = 0;
    lent = 0;
    endpoint.on_datagram = lend_on_datagram;
    peer_sends_numbers(1, 4);
    run_until_received(4);
    ck_assert_int_eq(released, lent);
    expect_peer_got("reply reply reply reply ");
    bk_datagram_close(&endpoint.transport);
    support_turns(endpoint_loop, 1);
    lend("dropped");
    ck_assert_int_eq(released, lent);
    end_endpoint();
}
END_TEST

START_TEST(lent_memory_comes_back_from_the_queue)
{
    begin_pair(_i);
    send_until_waiting();
    ck_assert_int_eq(bk_datagram_sendto_lent(&endpoint.transport, filler, 10,
                                             NULL, 0, count_release, &released),
                     0);
    ck_assert_int_eq(released, 0);
    end_pair(); /* releases the transport */
    ck_assert_int_eq(released, 1);
}
END_TEST

/* --- an embedder that sends by itself --- */

static int transmits;
static int transmit_code;

static int
transmit(bk_datagram_transport *transport, void *owner)
{
    ck_assert_ptr_eq(transport, &endpoint.transport);
    ck_assert_ptr_eq(owner, &released);
    transmits++;
    return transmit_code;
}

static void
queue_one(void)
{
    ck_assert_int_eq(bk_datagram_queue(&endpoint.transport, 100, transmit,
                                       count_release, &released),
                     0);
}

START_TEST(embedders_queue_waits_for_the_kernel)
{
    begin_endpoint(_i);
    transmit_code = -EAGAIN;
    queue_one();
    queue_one();
    ck_assert_uint_eq(waiting(), 216);
    ck_assert_int_eq(transmits, 0);
    support_turns(endpoint_loop, 2);
    ck_assert_int_eq(transmits, 2);
    ck_assert_uint_eq(waiting(), 216);
    ck_assert(!bk_datagram_can_send(&endpoint.transport));
    send_to_peer(&endpoint, "behind");
    transmit_code = 0;
    support_turns(endpoint_loop, 1);
    ck_assert_uint_eq(waiting(), 0);
    ck_assert_int_eq(released, 2);
    expect_peer_got("behind ");
    end_endpoint();
}
END_TEST

START_TEST(embedders_failures_are_told)
{
    begin_endpoint(_i);
    transmit_code = -EMSGSIZE;
    queue_one();
    queue_one();
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("error:EMSGSIZE ");
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("error:EMSGSIZE ");
    ck_assert_int_eq(released, 2);
    end_endpoint();
}
END_TEST

static int
transmit_and_abort(bk_datagram_transport *transport, void *owner)
{
    (void)owner;
    bk_datagram_abort(transport, -EIO);
    return -EAGAIN;
}

START_TEST(transmit_may_abort)
{
    begin_endpoint(_i);
    ck_assert_int_eq(bk_datagram_queue(&endpoint.transport, 1,
                                       transmit_and_abort, count_release,
                                       &released),
                     0);
    queue_one();
    support_turns(endpoint_loop, 2);
    expect_endpoint_log("lost:EIO closed ");
    ck_assert_int_eq(released, 2);
    ck_assert_int_eq(transmits, 0);
    queue_one(); /* given back at once */
    ck_assert_int_eq(released, 3);
    end_endpoint();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("test_datagram_queue");
    TCase *waiting_case = new_endpoint_case(suite, "waiting");
    TCase *lending = new_endpoint_case(suite, "lent");
    TCase *embedders = new_endpoint_case(suite, "embedders");

    ADD(waiting_case, what_waits_counts_its_headers);
    ADD(waiting_case, what_waits_is_sent_in_order);
    ADD(waiting_case, pause_and_resume_in_turn);
    ADD(waiting_case, close_sends_what_waits);
    ADD(waiting_case, abort_drops_what_waits);
    ADD(waiting_case, what_resume_sends_is_sent);
    ADD(waiting_case, failures_of_what_waits);
    ADD(lending, lent_memory_comes_back_once);
    ADD(lending, lent_memory_comes_back_from_the_queue);
    ADD(embedders, embedders_queue_waits_for_the_kernel);
    ADD(embedders, embedders_failures_are_told);
    ADD(embedders, transmit_may_abort);
    return support_main(suite);
}
