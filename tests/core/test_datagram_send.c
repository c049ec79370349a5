/* test_datagram_send.c -- datagram endpoints: sending.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "datagram_support.h"

/* --- at once --- */

START_TEST(sends_at_once_outside_of_bursts)
{
    begin_endpoint(_i);
    send_to_peer(&endpoint, "one");
    expect_peer_got("one ");
    end_endpoint();
}
END_TEST

static char huge[70000];

static void
send_huge(struct endpoint *from)
{
    ck_assert_int_eq(bk_datagram_sendto(&from->transport, huge, sizeof(huge),
                                        (struct sockaddr *)&peer_address,
                                        sizeof(peer_address)),
                     0);
}

START_TEST(failures_are_told_inside_the_call)
{
    begin_endpoint(_i);
    send_huge(&endpoint);
    expect_endpoint_log("error:EMSGSIZE ");
    ck_assert_int_eq(bk_datagram_sendto(&endpoint.transport, "x", 1, NULL, 0),
                     0);
    expect_endpoint_log("error:EDESTADDRREQ ");
    send_to_peer(&endpoint, "still open");
    expect_peer_got("still open ");
    end_endpoint();
}
END_TEST

static void
reply(struct endpoint *of, const void *data, size_t len)
{
    ck_assert_int_eq(bk_datagram_sendto(&of->transport, data, len,
                                        (struct sockaddr *)&of->sender,
                                        of->sender_len),
                     0);
}

static void
reply_alone(struct endpoint *of, const void *data, size_t len)
{
    reply(of, data, len);
    expect_peer_got("1 ");
}

/* Nobody waits for others where there are none. */
START_TEST(single_datagrams_are_answered_at_once)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = reply_alone;
    peer_sends("1");
    run_until_received(1);
    end_endpoint();
}
END_TEST

/* --- held back --- */

static int answered;

static void
reply_unseen(struct endpoint *of, const void *data, size_t len)
{
    reply(of, data, len);
    expect_peer_got("");
    answered++;
}

START_TEST(replies_of_a_burst_leave_together)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = reply_unseen;
    peer_sends_numbers(1, 4);
    run_until_received(4);
    ck_assert_int_eq(answered, 4);
    expect_peer_got("1 2 3 4 ");
    end_endpoint();
}
END_TEST

static void (*look)(struct endpoint *of);

static void
reply_and_look(struct endpoint *of, const void *data, size_t len)
{
    reply(of, data, len);
    if (of->received == 2) {
        look(of);
        expect_peer_got("1 2 ");
    }
}

static void
look_at_size(struct endpoint *of)
{
    ck_assert_uint_eq(bk_datagram_get_write_buffer_size(&of->transport), 0);
}

static void
look_by_flush(struct endpoint *of)
{
    bk_datagram_flush(&of->transport);
}

static void
look_by_loop(struct endpoint *of)
{
    ck_assert(bk_loop_has_pending_writes(of->loop));
    bk_loop_flush(of->loop);
    ck_assert(!bk_loop_has_pending_writes(of->loop));
}

static void
look_at_limits(struct endpoint *of)
{
    ck_assert_int_eq(
        bk_datagram_set_write_buffer_limits(&of->transport, 100, 50), 0);
}

static void
look_by_protocol(struct endpoint *of)
{
    bk_datagram_set_protocol(&of->transport, &endpoint_protocol, of);
}

static void
look_by_sending(struct endpoint *of)
{
    ck_assert(bk_datagram_can_send(&of->transport));
}

static void
look_by_write_through(struct endpoint *of)
{
    bk_loop_set_write_through(of->loop, true);
}

static void
look_by_close(struct endpoint *of)
{
    bk_datagram_close(&of->transport);
}

static void
look_by_abort(struct endpoint *of)
{
    bk_datagram_abort(&of->transport, 0);
}

static void (*const looks[])(struct endpoint *of) = {
    look_at_size,          look_by_flush,    look_by_loop,
    look_at_limits,        look_by_protocol, look_by_sending,
    look_by_write_through, look_by_close,    look_by_abort,
};

enum { LOOKS = sizeof(looks) / sizeof(looks[0]) };

START_TEST(whatever_could_tell_sends_first)
{
    begin_endpoint(_i % SUPPORT_POLLERS);
    look = looks[_i / SUPPORT_POLLERS];
    warm_up_burst(8);
    endpoint.on_datagram = reply_and_look;
    peer_sends_numbers(1, 3);
    support_turns(endpoint_loop, 0);
    if (look == look_by_close || look == look_by_abort) {
        support_turns(endpoint_loop, 4);
        ck_assert_int_eq(endpoint.closed_count, 1);
    }
    else {
        run_until_received(3);
    }
    end_endpoint();
}
END_TEST

static struct endpoint other;

static void
forward(struct endpoint *of, const void *data, size_t len)
{
    (void)of;
    ck_assert_int_eq(bk_datagram_sendto(&other.transport, data, len,
                                        (struct sockaddr *)&peer_address,
                                        sizeof(peer_address)),
                     0);
    expect_peer_got("");
}

/* As a proxy does: what another endpoint sends meanwhile leaves then, too. */
START_TEST(forwarded_bursts_leave_together)
{
    struct sockaddr_in ignored;

    begin_endpoint(_i);
    warm_up_burst(8);
    memset(&other, 0, sizeof(other));
    start_endpoint(&other, endpoint_loop, open_udp(&ignored));
    support_turns(endpoint_loop, 1);
    endpoint.on_datagram = forward;
    peer_sends_numbers(1, 4);
    run_until_received(4);
    expect_peer_got("1 2 3 4 ");
    bk_datagram_release(&other.transport);
    end_endpoint();
}
END_TEST

static void
forward_and_release(struct endpoint *of, const void *data, size_t len)
{
    forward(of, data, len);
    if (of->received == 2) {
        bk_datagram_release(&other.transport);
    }
}

START_TEST(released_while_it_holds_sends_back)
{
    struct sockaddr_in ignored;

    begin_endpoint(_i);
    warm_up_burst(8);
    memset(&other, 0, sizeof(other));
    start_endpoint(&other, endpoint_loop, open_udp(&ignored));
    support_turns(endpoint_loop, 1);
    endpoint.on_datagram = forward_and_release;
    peer_sends_numbers(1, 2);
    run_until_received(2);
    expect_peer_got("");
    end_endpoint();
}
END_TEST

static void
reply_with_failures(struct endpoint *of, const void *data, size_t len)
{
    reply(of, data, len);
    if (of->received % 2 == 0) {
        send_huge(of);
    }
}

/* One that fails does not take others along, and is told as one. It is so large
 * that the mark is passed: then it is sent inside the call. */
START_TEST(each_failure_is_its_own)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = reply_with_failures;
    peer_sends_numbers(1, 4);
    run_until_received(4);
    expect_endpoint_log("1 2 error:EMSGSIZE 3 4 error:EMSGSIZE ");
    expect_peer_got("1 2 3 4 ");
    end_endpoint();
}
END_TEST

static void
reply_to_nowhere(struct endpoint *of, const void *data, size_t len)
{
    struct sockaddr_in nowhere = peer_address;

    nowhere.sin_port = 0; /* EINVAL, sendto(2) */
    reply(of, data, len);
    if (of->received != 3) {
        ck_assert_int_eq(bk_datagram_sendto(&of->transport, data, len,
                                            (struct sockaddr *)&nowhere,
                                            sizeof(nowhere)),
                         0);
    }
}

START_TEST(failures_of_a_burst_follow_it)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = reply_to_nowhere;
    peer_sends_numbers(1, 4);
    run_until_received(4);
    expect_endpoint_log("1 2 3 4 error:EINVAL error:EINVAL error:EINVAL ");
    expect_peer_got("1 2 3 4 ");
    end_endpoint();
}
END_TEST

static int retries;

static void
retry(struct endpoint *of)
{
    struct sockaddr_in nowhere = peer_address;

    nowhere.sin_port = 0;
    if (retries++ < 100) {
        ck_assert_int_eq(bk_datagram_sendto(&of->transport, "again", 5,
                                            (struct sockaddr *)&nowhere,
                                            sizeof(nowhere)),
                         0);
    }
}

START_TEST(error_handlers_may_send)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = reply_to_nowhere;
    endpoint.on_error = retry;
    peer_sends_numbers(1, 2);
    run_until_received(2);
    ck_assert_int_eq(endpoint.errors, 102);
    expect_peer_got("1 2 ");
    end_endpoint();
}
END_TEST

static void
close_on_error(struct endpoint *of)
{
    bk_datagram_abort(&of->transport, -EIO);
}

START_TEST(error_handlers_may_abort)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = reply_to_nowhere;
    endpoint.on_error = close_on_error;
    peer_sends_numbers(1, 4);
    run_until_received(4);
    support_turns(endpoint_loop, 2);
    ck_assert_int_eq(endpoint.closed_count, 1);
    end_endpoint();
}
END_TEST

static char filler[1000];

static void
reply_a_lot(struct endpoint *of, const void *data, size_t len)
{
    (void)data;
    (void)len;
    for (int i = 0; i < 70; i++) {
        ck_assert_int_eq(
            bk_datagram_sendto(&of->transport, filler, sizeof(filler),
                               (struct sockaddr *)&of->sender, of->sender_len),
            0);
    }
    ck_assert_int_eq(recv(peer_fd, filler, sizeof(filler), 0), sizeof(filler));
}

/* What is held back is bounded by the high-water mark. */
START_TEST(more_than_the_mark_is_not_held_back)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = reply_a_lot;
    peer_sends_numbers(1, 2);
    run_until_received(2);
    ck_assert_int_eq(endpoint.pauses, 0);
    end_endpoint();
}
END_TEST

static void
send_connected(struct endpoint *of, const void *data, size_t len)
{
    ck_assert_int_eq(bk_datagram_sendto(&of->transport, data, len, NULL, 0), 0);
}

/* Its refusals come one by one, and none may be lost. */
START_TEST(connected_endpoints_hold_nothing_back)
{
    int fd;

    begin_endpoint(_i);
    fd = bk_datagram_fileno(&endpoint.transport);
    ck_assert_int_eq(
        connect(fd, (struct sockaddr *)&peer_address, sizeof(peer_address)), 0);
    warm_up_burst(8);
    endpoint.on_datagram = send_connected;
    peer_sends_numbers(1, 4);
    ck_assert_int_eq(close(peer_fd), 0);
    peer_fd = -1;
    run_until_received(4);
    support_turns(endpoint_loop, 1);
    /* 1 and 3 left and were refused; 2 and 4 told so. */
    expect_endpoint_log("1 2 error:ECONNREFUSED 3 4 error:ECONNREFUSED ");
    end_endpoint();
}
END_TEST

static struct recorder streams[2];
static int releases;

static void
look_when_released(void *arg)
{
    (void)arg;
    expect_peer_got("between ");
    releases++;
}

static void
send_when_released(void *arg)
{
    send_to_peer(arg, "between");
    ck_assert_int_eq(bk_transport_write_lent(&streams[1].transport, "b", 1,
                                             look_when_released, NULL),
                     0);
    releases++;
}

static void
write_on_first(struct endpoint *of, const void *data, size_t len)
{
    (void)data;
    (void)len;
    if (of->received == 1) {
        ck_assert_int_eq(bk_transport_write_lent(&streams[0].transport, "a", 1,
                                                 send_when_released, of),
                         0);
    }
}

/* What is sent while streams are flushed goes before what is written then. */
START_TEST(release_callbacks_send_in_order)
{
    int fds[2][2];

    begin_endpoint(_i);
    for (int i = 0; i < 2; i++) {
        tcp_pair(fds[i]);
        record(&streams[i], endpoint_loop, fds[i][0]);
    }
    warm_up_burst(8);
    endpoint.on_datagram = write_on_first;
    peer_sends_numbers(1, 4);
    run_until_received(4);
    ck_assert_int_eq(releases, 2);
    for (int i = 0; i < 2; i++) {
        bk_transport_release(&streams[i].transport);
        ck_assert_int_eq(close(fds[i][1]), 0);
    }
    end_endpoint();
}
END_TEST

static void
add_held_back(Suite *suite)
{
    TCase *tcase = new_endpoint_case(suite, "held back");

    ADD(tcase, replies_of_a_burst_leave_together);
    tcase_add_loop_test(tcase, whatever_could_tell_sends_first, 0,
                        SUPPORT_POLLERS * LOOKS);
    ADD(tcase, forwarded_bursts_leave_together);
    ADD(tcase, released_while_it_holds_sends_back);
    ADD(tcase, each_failure_is_its_own);
    ADD(tcase, failures_of_a_burst_follow_it);
    ADD(tcase, error_handlers_may_send);
    ADD(tcase, error_handlers_may_abort);
    ADD(tcase, more_than_the_mark_is_not_held_back);
    ADD(tcase, connected_endpoints_hold_nothing_back);
    ADD(tcase, release_callbacks_send_in_order);
}

int
main(void)
{
    Suite *suite = suite_create("test_datagram_send");
    TCase *at_once = new_endpoint_case(suite, "at once");

    ADD(at_once, sends_at_once_outside_of_bursts);
    ADD(at_once, failures_are_told_inside_the_call);
    ADD(at_once, single_datagrams_are_answered_at_once);
    add_held_back(suite);
    return support_main(suite);
}
