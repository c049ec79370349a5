/* test_datagram_burst.c -- datagram endpoints: several datagrams in one turn.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <string.h>
#include <sys/socket.h>

#include "datagram_support.h"

/* Counts the turns that a test takes, without being work that is ready. */
static unsigned
turns_taken(void)
{
    bk_loop_stats stats;

    bk_loop_get_stats(endpoint_loop, &stats);
    return (unsigned)stats.turns;
}

START_TEST(what_is_there_comes_in_few_turns)
{
    unsigned before;

    begin_endpoint(_i);
    warm_up_burst(64);
    peer_sends_numbers(1, 60);
    before = turns_taken();
    run_until_received(60);
    ck_assert_uint_le(turns_taken() - before, 3);
    ck_assert_str_eq(strstr(endpoint.log, "59 "), "59 60 ");
    end_endpoint();
}
END_TEST

static void
ignore(void *arg)
{
    (void)arg;
}

static void
schedule_on_41st(struct endpoint *of, const void *data, size_t len)
{
    (void)data;
    (void)len;
    if (of->received == 41) {
        ck_assert_int_eq(bk_loop_call_soon(of->loop, ignore, NULL, NULL), 0);
    }
}

/* How many to receive at once is learned, and grows from any number, but not
 * beyond what there is room for. */
START_TEST(bursts_grow_to_the_limit_and_no_further)
{
    begin_endpoint(_i);
    warm_up_burst(64);
    endpoint.on_datagram = schedule_on_41st;
    peer_sends_numbers(1, 60);
    run_until_received(60);
    for (int i = 1; i <= 10; i++) {
        peer_sends_numbers(1, 100);
        run_until_received(60 + 100 * i);
    }
    ck_assert_int_eq(endpoint.errors, 0);
    end_endpoint();
}
END_TEST

static void
note_callback(void *arg)
{
    note_endpoint(arg, "callback");
}

static void
call_soon_on_datagram(struct endpoint *of, const void *data, size_t len)
{
    (void)data;
    (void)len;
    call_in_loop(of->loop, note_callback, of);
}

/* The order of a loop that receives one datagram per turn. */
START_TEST(callbacks_come_between_datagrams)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = call_soon_on_datagram;
    peer_sends_numbers(1, 4);
    run_until_received(4);
    expect_endpoint_log("1 callback 2 callback 3 callback 4 callback ");
    end_endpoint();
}
END_TEST

static void
call_later_on_first(struct endpoint *of, const void *data, size_t len)
{
    (void)data;
    (void)len;
    if (of->received == 1) {
        ck_assert_int_eq(
            bk_loop_call_later(of->loop, 0, note_callback, of, NULL), 0);
    }
}

/* A turn has I/O before timers. */
START_TEST(timers_come_between_datagrams)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = call_later_on_first;
    peer_sends_numbers(1, 4);
    run_until_received(4);
    expect_endpoint_log("1 2 callback 3 4 ");
    end_endpoint();
}
END_TEST

static void
stop_on_second(struct endpoint *of, const void *data, size_t len)
{
    (void)data;
    (void)len;
    if (of->received == 2) {
        bk_loop_stop(of->loop);
    }
}

START_TEST(stop_comes_between_datagrams)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = stop_on_second;
    peer_sends_numbers(1, 4);
    support_run(endpoint_loop);
    expect_endpoint_log("1 2 ");
    run_until_received(4);
    expect_endpoint_log("3 4 ");
    end_endpoint();
}
END_TEST

static void
break_on_second(struct endpoint *of, const void *data, size_t len)
{
    (void)data;
    (void)len;
    if (of->received == 2) {
        bk_loop_break(of->loop, -EINTR);
    }
}

START_TEST(break_loses_nothing)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = break_on_second;
    peer_sends_numbers(1, 4);
    ck_assert_int_eq(bk_loop_run_forever(endpoint_loop), -EINTR);
    expect_endpoint_log("1 2 ");
    run_until_received(4);
    expect_endpoint_log("3 4 ");
    end_endpoint();
}
END_TEST

static void
pause_on_second(struct endpoint *of, const void *data, size_t len)
{
    (void)data;
    (void)len;
    if (of->received == 2) {
        bk_datagram_pause_reading(&of->transport);
    }
}

START_TEST(pause_comes_between_datagrams)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = pause_on_second;
    peer_sends_numbers(1, 4);
    support_turns(endpoint_loop, 10);
    expect_endpoint_log("1 2 ");
    ck_assert(!bk_datagram_is_reading(&endpoint.transport));
    peer_sends("5");
    bk_datagram_resume_reading(&endpoint.transport);
    run_until_received(5);
    expect_endpoint_log("3 4 5 ");
    end_endpoint();
}
END_TEST

static void
pause_and_resume(struct endpoint *of, const void *data, size_t len)
{
    (void)data;
    (void)len;
    bk_datagram_pause_reading(&of->transport);
    bk_datagram_resume_reading(&of->transport);
}

START_TEST(pause_and_resume_inside)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = pause_and_resume;
    peer_sends_numbers(1, 8);
    run_until_received(8);
    expect_endpoint_log("1 2 3 4 5 6 7 8 ");
    end_endpoint();
}
END_TEST

static void
close_on_second(struct endpoint *of, const void *data, size_t len)
{
    (void)data;
    (void)len;
    if (of->received == 2) {
        bk_datagram_close(&of->transport);
    }
}

START_TEST(close_drops_what_is_not_delivered)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    endpoint.on_datagram = close_on_second;
    peer_sends_numbers(1, 8);
    support_turns(endpoint_loop, 4);
    expect_endpoint_log("1 2 lost:0 closed ");
    end_endpoint();
}
END_TEST

/* The kept ones are delivered in their own time, and dropped all the same. */
START_TEST(close_drops_what_was_kept)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    peer_sends_numbers(1, 8);
    support_turns(endpoint_loop, 2);
    expect_endpoint_log("1 2 ");
    endpoint.on_datagram = close_on_second;
    endpoint.received = 1;
    support_turns(endpoint_loop, 3);
    expect_endpoint_log("3 lost:0 closed ");
    end_endpoint();
}
END_TEST

START_TEST(abort_drops_what_was_kept)
{
    begin_endpoint(_i);
    warm_up_burst(8);
    peer_sends_numbers(1, 8);
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("1 ");
    bk_datagram_abort(&endpoint.transport, 0);
    support_turns(endpoint_loop, 3);
    expect_endpoint_log("lost:0 closed ");
    end_endpoint();
}
END_TEST

static struct endpoint other;

static void
note_in_first(struct endpoint *of, const void *data, size_t len)
{
    char text[16] = "other:";

    (void)of;
    ck_assert_uint_lt(len, 8);
    memcpy(text + 6, data, len);
    note_endpoint(&endpoint, text);
}

/* Two that are busy take turns. */
START_TEST(busy_endpoints_take_turns)
{
    struct sockaddr_in other_address;

    begin_endpoint(_i);
    warm_up_burst(8);
    memset(&other, 0, sizeof(other));
    other.on_datagram = note_in_first;
    start_endpoint(&other, endpoint_loop, open_udp(&other_address));
    support_turns(endpoint_loop, 1);
    peer_sends_numbers(1, 3);
    endpoint_address = other_address;
    peer_sends_numbers(1, 3);
    run_until_received(3);
    support_turns(endpoint_loop, 3);
    ck_assert_int_eq(other.received, 3);
    ck_assert(strcmp(endpoint.log, "1 other:1 2 other:2 3 other:3 ") == 0 ||
              strcmp(endpoint.log, "other:1 1 other:2 2 other:3 3 ") == 0);
    bk_datagram_release(&other.transport);
    end_endpoint();
}
END_TEST

static void
take_time(struct endpoint *of, const void *data, size_t len)
{
    uint64_t until_ns = bk_clock_now() + MS;

    (void)of;
    (void)data;
    (void)len;
    while (bk_clock_now() < until_ns) {
    }
}

/* So that others need not wait for 64 of them. */
START_TEST(slow_protocols_get_one_a_turn)
{
    unsigned before;

    begin_endpoint(_i);
    warm_up_burst(64);
    bound_bursts();
    endpoint.on_datagram = take_time;
    peer_sends_numbers(1, 20);
    before = turns_taken();
    run_until_received(20);
    ck_assert_uint_ge(turns_taken() - before, 20);
    end_endpoint();
}
END_TEST

static char large[70000];

static void
check_large(struct endpoint *of, const void *data, size_t len)
{
    (void)of;
    ck_assert(len < 100 || is_pattern(data, len, len));
}

/* Those that fit a slot, and those that go beyond it, in one burst. */
START_TEST(all_sizes_in_one_burst)
{
    static const size_t sizes[] = {3, 2047, 2048, 2049, 9000, 0, 65507, 5};
    int room = 1 << 20;

    begin_endpoint(_i);
    ck_assert_int_eq(setsockopt(bk_datagram_fileno(&endpoint.transport),
                                SOL_SOCKET, SO_RCVBUF, &room, sizeof(room)),
                     0);
    warm_up_burst(8);
    endpoint.on_datagram = check_large;
    for (int i = 0; i < 8; i++) {
        fill_pattern(large, sizes[i], sizes[i]);
        ck_assert_int_eq(sendto(peer_fd, large, sizes[i], 0,
                                (struct sockaddr *)&endpoint_address,
                                sizeof(endpoint_address)),
                         (ssize_t)sizes[i]);
    }
    run_until_received(8);
    ck_assert_ptr_nonnull(
        strstr(endpoint.log, " #2047 #2048 #2049 #9000 - #65507 "));
    end_endpoint();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("test_datagram_burst");
    TCase *tcase = new_endpoint_case(suite, "bursts");

    ADD(tcase, what_is_there_comes_in_few_turns);
    ADD(tcase, bursts_grow_to_the_limit_and_no_further);
    ADD(tcase, callbacks_come_between_datagrams);
    ADD(tcase, timers_come_between_datagrams);
    ADD(tcase, stop_comes_between_datagrams);
    ADD(tcase, break_loses_nothing);
    ADD(tcase, pause_comes_between_datagrams);
    ADD(tcase, pause_and_resume_inside);
    ADD(tcase, close_drops_what_is_not_delivered);
    ADD(tcase, close_drops_what_was_kept);
    ADD(tcase, abort_drops_what_was_kept);
    ADD(tcase, busy_endpoints_take_turns);
    ADD(tcase, slow_protocols_get_one_a_turn);
    ADD(tcase, all_sizes_in_one_burst);
    return support_main(suite);
}
