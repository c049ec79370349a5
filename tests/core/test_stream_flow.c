/* test_stream_flow.c -- byte streams: what holds writing back.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "stream_support.h"

START_TEST(pause_and_resume_in_turn)
{
    size_t given;

    begin(_i);
    ck_assert(!bk_transport_is_writing_paused(stream()));
    shrink_buffers(stream_fds[0]);
    given = write_until_paused();
    expect_log("pause ");
    ck_assert(bk_transport_is_writing_paused(stream()));
    ck_assert_uint_gt(bk_transport_get_write_buffer_size(stream()), 65536);
    ck_assert_uint_le(bk_transport_get_write_buffer_size(stream()),
                      65536 + 4000);
    drain_peer(0, given);
    expect_log("resume ");
    ck_assert(!bk_transport_is_writing_paused(stream()));
    ck_assert_uint_eq(bk_transport_get_write_buffer_size(stream()), 0);
    end();
}
END_TEST

static size_t given_in_callback;

static void
write_small_until_paused(void *arg)
{
    (void)arg;
    given_in_callback = write_until_paused();
}

/* The mark is passed in the callback: then it is sent there, and the pause
 * comes from the write that it belongs to. */
START_TEST(pause_comes_inside_the_write)
{
    begin(_i);
    shrink_buffers(stream_fds[0]);
    do_in_callback(stream_loop, write_small_until_paused, NULL);
    expect_log("pause ");
    ck_assert_uint_gt(bk_transport_get_write_buffer_size(stream()), 65536);
    drain_peer(0, given_in_callback);
    expect_log("resume ");
    end();
}
END_TEST

START_TEST(high_mark_itself_does_not_pause)
{
    size_t high;
    size_t low;
    size_t queued;

    begin(_i);
    shrink_buffers(stream_fds[0]);
    bk_transport_get_write_buffer_limits(stream(), &high, &low);
    ck_assert_uint_eq(high, 65536);
    ck_assert_uint_eq(low, 16384);
    (void)write_until_paused();
    queued = bk_transport_get_write_buffer_size(stream());
    expect_log("pause ");
    ck_assert_int_eq(
        bk_transport_set_write_buffer_limits(stream(), queued, queued), 0);
    /* Raising never resumes. */
    expect_log("");
    ck_assert_int_eq(
        bk_transport_set_write_buffer_limits(stream(), queued, queued + 1),
        -EINVAL);
    end();
}
END_TEST

START_TEST(lower_limits_pause_at_once)
{
    begin(_i);
    shrink_buffers(stream_fds[0]);
    ck_assert_int_eq(bk_transport_set_write_buffer_limits(
                         stream(), (size_t)4 * 1024 * 1024, 0),
                     0);
    for (size_t at = 0; at < (size_t)1024 * 1024; at += 4096) {
        ck_assert_int_eq(bk_transport_write(stream(), big_data + at, 4096), 0);
    }
    expect_log("");
    ck_assert_uint_gt(bk_transport_get_write_buffer_size(stream()), 0);
    ck_assert_int_eq(
        bk_transport_set_write_buffer_limits(
            stream(), bk_transport_get_write_buffer_size(stream()), 0),
        0);
    expect_log("");
    ck_assert_int_eq(
        bk_transport_set_write_buffer_limits(
            stream(), bk_transport_get_write_buffer_size(stream()) - 1, 0),
        0);
    expect_log("pause ");
    drain_peer(0, (size_t)1024 * 1024);
    expect_log("resume ");
    end();
}
END_TEST

START_TEST(large_writes_arrive_whole)
{
    begin(_i);
    ck_assert_int_eq(bk_transport_write(stream(), big_data, BIG), 0);
    expect_log("pause ");
    memset(big_data, 0, BIG); /* what was not taken has been copied */
    drain_peer(0, BIG);
    expect_log("resume ");
    end();
}
END_TEST

static void
close_on_resume(struct recorder *resumed)
{
    bk_transport_close(&resumed->transport);
}

/* CPython up to 3.14 calls connection_lost twice here. */
START_TEST(closing_in_resume_writing_is_lost_once)
{
    size_t given;

    begin(_i);
    shrink_buffers(stream_fds[0]);
    ck_assert_int_eq(bk_transport_set_write_buffer_limits(stream(), 100, 0), 0);
    recorder.on_resume = close_on_resume;
    given = write_until_paused();
    drain_peer(0, given);
    RUN_UNTIL(stream_loop, recorder.closed_count == 1);
    support_turns(stream_loop, 2);
    expect_log("pause resume lost:0 closed ");
    end();
}
END_TEST

static void
write_on_resume(struct recorder *resumed)
{
    resumed->on_resume = NULL;
    write_text("resumed");
    bk_transport_close(&resumed->transport);
}

START_TEST(writing_and_closing_in_resume_writing)
{
    size_t given;
    size_t got = 0;

    begin(_i);
    shrink_buffers(stream_fds[0]);
    recorder.on_resume = write_on_resume;
    given = write_until_paused();
    recorder.buffer = malloc(BIG);
    while (recorder.closed_count == 0) {
        got += recv_some(stream_fds[1], recorder.buffer + got, BIG - got);
        support_turns(stream_loop, 1);
    }
    got += recv_all(stream_fds[1], recorder.buffer + got, BIG - got);
    ck_assert_uint_eq(got, given + 7);
    ck_assert(is_pattern(recorder.buffer, given, 0));
    ck_assert_mem_eq(recorder.buffer + given, "resumed", 7);
    free(recorder.buffer);
    expect_log("pause resume lost:0 closed ");
    end();
}
END_TEST

static void
write_more_on_resume(struct recorder *resumed)
{
    resumed->on_resume = NULL;
    write_text("resumed");
}

/* asyncio sends inside that write, and then finds nothing left to wait for. */
START_TEST(writing_in_resume_writing_when_closing)
{
    size_t given;
    size_t got = 0;

    begin(_i);
    shrink_buffers(stream_fds[0]);
    ck_assert_int_eq(bk_transport_set_write_buffer_limits(stream(), 100, 0), 0);
    given = write_until_paused();
    recorder.on_resume = write_more_on_resume;
    recorder.buffer = malloc(BIG);
    bk_transport_close(stream());
    while (recorder.resumes == 0) {
        got += recv_some(stream_fds[1], recorder.buffer + got, BIG - got);
        support_turns(stream_loop, 1);
    }
    expect_log("pause resume lost:0 closed ");
    got += recv_all(stream_fds[1], recorder.buffer + got, BIG - got);
    ck_assert_uint_eq(got, given + 7);
    ck_assert_mem_eq(recorder.buffer + given, "resumed", 7);
    free(recorder.buffer);
    end();
}
END_TEST

static void
abort_on_resume(struct recorder *resumed)
{
    bk_transport_abort(&resumed->transport, -ETIMEDOUT);
}

START_TEST(aborting_in_resume_writing)
{
    begin(_i);
    shrink_buffers(stream_fds[0]);
    recorder.on_resume = abort_on_resume;
    (void)write_until_paused();
    while (recorder.closed_count == 0) {
        char buf[65536];

        (void)recv_some(stream_fds[1], buf, sizeof(buf));
        support_turns(stream_loop, 1);
    }
    expect_log("pause resume lost:ETIMEDOUT closed ");
    end();
}
END_TEST

static void
abort_on_pause(struct recorder *paused)
{
    bk_transport_abort(&paused->transport, 0);
}

START_TEST(aborting_in_pause_writing)
{
    begin(_i);
    shrink_buffers(stream_fds[0]);
    recorder.on_pause = abort_on_pause;
    (void)write_until_paused();
    support_turns(stream_loop, 1);
    expect_log("pause lost:0 closed ");
    end();
}
END_TEST

static void
add_flow(Suite *suite)
{
    TCase *flow = new_stream_case(suite, "flow");

    ADD(flow, pause_and_resume_in_turn);
    ADD(flow, pause_comes_inside_the_write);
    ADD(flow, high_mark_itself_does_not_pause);
    ADD(flow, lower_limits_pause_at_once);
    ADD(flow, large_writes_arrive_whole);
    ADD(flow, closing_in_resume_writing_is_lost_once);
    ADD(flow, writing_and_closing_in_resume_writing);
    ADD(flow, writing_in_resume_writing_when_closing);
    ADD(flow, aborting_in_resume_writing);
    ADD(flow, aborting_in_pause_writing);
}

int
main(void)
{
    Suite *suite = suite_create("stream flow");

    add_flow(suite);
    return support_main(suite);
}
