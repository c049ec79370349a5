/* test_stream_write.c -- byte streams: writing.
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

START_TEST(write_outside_of_callbacks_is_sent_at_once)
{
    begin(_i);
    write_text("now");
    expect_peer_gets("now");
    ck_assert_uint_eq(bk_transport_get_write_buffer_size(stream()), 0);
    end();
}
END_TEST

static void
write_three(void *arg)
{
    (void)arg;
    write_text("one ");
    write_text("two ");
    write_text("three");
    ck_assert(bk_loop_has_pending_writes(stream_loop));
    expect_peer_gets_nothing();
}

START_TEST(writes_of_a_callback_leave_in_one_send)
{
    bk_loop_stats before;
    bk_loop_stats after;

    begin(_i);
    bk_loop_get_stats(stream_loop, &before);
    do_in_callback(stream_loop, write_three, NULL);
    ck_assert(!bk_loop_has_pending_writes(stream_loop));
    expect_peer_gets("one two three");
    bk_loop_get_stats(stream_loop, &after);
    ck_assert_uint_eq(after.bytes_sent - before.bytes_sent, 13);
    support_turns(stream_loop, 2);
    expect_log("");
    end();
}
END_TEST

static void
write_through_three(void *arg)
{
    (void)arg;
    write_text("one ");
    expect_peer_gets("one ");
    write_text("two");
    expect_peer_gets("two");
}

START_TEST(write_through_sends_in_the_callback)
{
    begin(_i);
    bk_loop_set_write_through(stream_loop, true);
    do_in_callback(stream_loop, write_through_three, NULL);
    end();
}
END_TEST

static void
write_large_and_small(void *arg)
{
    char *got = malloc(16384);

    (void)arg;
    ck_assert_int_eq(bk_transport_write(stream(), big_data, 16384), 0);
    ck_assert_uint_eq(recv_all(stream_fds[1], got, 16384), 16384);
    ck_assert(is_pattern(got, 16384, 0));
    ck_assert_int_eq(bk_transport_write(stream(), big_data, 16383), 0);
    expect_peer_gets_nothing();
    free(got);
}

/* It would have to be copied, which costs more than a system call. */
START_TEST(large_write_is_sent_in_the_callback)
{
    begin(_i);
    do_in_callback(stream_loop, write_large_and_small, NULL);
    end();
}
END_TEST

static void
write_and_ask(void *arg)
{
    (void)arg;
    write_text("size ");
    ck_assert_uint_eq(bk_transport_get_write_buffer_size(stream()), 0);
    expect_peer_gets("size ");
    write_text("closing ");
    ck_assert(!bk_transport_is_closing(stream()));
    expect_peer_gets("closing ");
    write_text("reading ");
    ck_assert(bk_transport_is_reading(stream()));
    expect_peer_gets("reading ");
    write_text("limits ");
    ck_assert_int_eq(bk_transport_set_write_buffer_limits(stream(), 2, 1), 0);
    expect_peer_gets("limits ");
    write_text("protocol ");
    bk_transport_set_protocol(stream(), &recorder_protocol, &recorder);
    expect_peer_gets("protocol ");
    write_text("flush ");
    bk_transport_flush(stream());
    expect_peer_gets("flush ");
    write_text("loop ");
    bk_loop_flush(stream_loop);
    expect_peer_gets("loop ");
    write_text("eof");
    ck_assert_int_eq(bk_transport_write_eof(stream()), 0);
    expect_peer_gets("eof");
    expect_peer_gets_eof();
}

START_TEST(whoever_could_tell_sends_first)
{
    begin(_i);
    do_in_callback(stream_loop, write_and_ask, NULL);
    expect_log("");
    end();
}
END_TEST

static void
note_f(void *arg)
{
    note(arg, "f");
}

static void
write_and_call_soon(void *arg)
{
    write_text("lost");
    call_in_loop(stream_loop, note_f, arg);
}

/* In asyncio the send fails inside write(), and connection_lost is scheduled
 * there: before f. */
START_TEST(failing_write_keeps_its_place_in_the_queue)
{
    begin(_i);
    bk_transport_pause_reading(stream()); /* the write shall find out */
    reset_fd(stream_fds[1]);
    stream_fds[1] = -1;
    do_in_callback(stream_loop, write_and_call_soon, &recorder);
    expect_log("");
    ck_assert(bk_transport_is_lost(stream()));
    support_turns(stream_loop, 1);
    expect_log("lost:ECONNRESET closed f ");
    end();
}
END_TEST

static void
call_soon_and_write(void *arg)
{
    call_in_loop(stream_loop, note_f, arg);
    write_text("lost");
}

START_TEST(a_callback_scheduled_before_the_write_runs_before)
{
    begin(_i);
    bk_transport_pause_reading(stream());
    reset_fd(stream_fds[1]);
    stream_fds[1] = -1;
    do_in_callback(stream_loop, call_soon_and_write, &recorder);
    support_turns(stream_loop, 1);
    expect_log("f lost:ECONNRESET closed ");
    end();
}
END_TEST

static int visited;

static int
count_visit(bk_handle *handle, void *arg)
{
    (void)handle;
    (void)arg;
    visited++;
    return 0;
}

static void
write_and_visit(void *arg)
{
    (void)arg;
    write_text("x");
    ck_assert_int_eq(bk_loop_visit(stream_loop, count_visit, NULL), 0);
    ck_assert_int_eq(visited, 0);
}

START_TEST(kept_place_is_not_visited)
{
    begin(_i);
    do_in_callback(stream_loop, write_and_visit, NULL);
    end();
}
END_TEST

static void
write_and_pop(void *arg)
{
    (void)arg;
    write_text("x");
    ck_assert_ptr_null(bk_loop_pop(stream_loop));
    expect_peer_gets("x");
}

START_TEST(kept_place_is_not_popped)
{
    begin(_i);
    do_in_callback(stream_loop, write_and_pop, NULL);
    end();
}
END_TEST

static void
write_to_reset_and_ask(void *arg)
{
    (void)arg;
    write_text("x");
    ck_assert(bk_transport_is_closing(stream()));
    ck_assert(!bk_transport_is_reading(stream()));
    write_text("dropped");
    ck_assert_uint_eq(bk_transport_get_write_buffer_size(stream()), 0);
    bk_transport_close(stream());
    bk_transport_abort(stream(), 0);
}

START_TEST(write_to_a_reset_peer_is_seen_at_once)
{
    begin(_i);
    bk_transport_pause_reading(stream());
    reset_fd(stream_fds[1]);
    stream_fds[1] = -1;
    do_in_callback(stream_loop, write_to_reset_and_ask, NULL);
    support_turns(stream_loop, 1);
    expect_log("lost:ECONNRESET closed ");
    end();
}
END_TEST

static void
write_and_abort(void *arg)
{
    write_text("before the end");
    bk_transport_abort(stream(), 0);
    call_in_loop(stream_loop, note_f, arg);
}

START_TEST(abort_sends_what_asyncio_would_have_sent)
{
    begin(_i);
    do_in_callback(stream_loop, write_and_abort, &recorder);
    support_turns(stream_loop, 1);
    expect_log("lost:0 closed f ");
    expect_peer_gets("before the end");
    expect_peer_gets_eof();
    end();
}
END_TEST

static void
write_and_close(void *arg)
{
    write_text("before the end");
    bk_transport_close(stream());
    bk_transport_close(stream());
    ck_assert(bk_transport_is_closing(stream()));
    ck_assert_int_eq(bk_transport_write(stream(), "x", 1), 0);
    call_in_loop(stream_loop, note_f, arg);
}

START_TEST(close_sends_first_and_keeps_its_place)
{
    begin(_i);
    do_in_callback(stream_loop, write_and_close, &recorder);
    support_turns(stream_loop, 1);
    expect_log("lost:0 closed f ");
    expect_peer_gets("before the end");
    expect_peer_gets_eof();
    end();
}
END_TEST

START_TEST(empty_write_is_nothing)
{
    begin(_i);
    ck_assert_int_eq(bk_transport_write(stream(), NULL, 0), 0);
    ck_assert_int_eq(bk_transport_writev(stream(), NULL, 0), 0);
    ck_assert(!bk_loop_has_pending_writes(stream_loop));
    end();
}
END_TEST

static struct recorder second;

static void
write_both(void *arg)
{
    (void)arg;
    ck_assert_int_eq(bk_transport_write(&second.transport, "2", 1), 0);
    write_text("1");
    ck_assert_int_eq(bk_transport_write(&second.transport, "2", 1), 0);
    call_in_loop(stream_loop, note_f, &recorder);
}

START_TEST(streams_are_flushed_in_the_order_of_their_first_write)
{
    int others[2];

    begin(_i);
    tcp_pair(others);
    record(&second, stream_loop, others[0]);
    support_turns(stream_loop, 1);
    bk_transport_pause_reading(stream());
    bk_transport_pause_reading(&second.transport);
    reset_fd(others[1]);
    reset_fd(stream_fds[1]);
    stream_fds[1] = -1;
    second.arg = &recorder;
    do_in_callback(stream_loop, write_both, NULL);
    support_turns(stream_loop, 1);
    ck_assert_str_eq(second.log, "made lost:ECONNRESET closed ");
    expect_log("lost:ECONNRESET closed f ");
    end();
}
END_TEST

static void
lend_two(void *arg)
{
    (void)arg;
    lend("one ", 4);
    lend("two ", 4);
    ck_assert_int_eq(released, 0);
}

START_TEST(lent_data_is_given_back_once)
{
    begin(_i);
    do_in_callback(stream_loop, lend_two, NULL);
    ck_assert_int_eq(released, 2);
    expect_peer_gets("one two ");
    lend("", 0);
    ck_assert_int_eq(released, 3);
    bk_transport_abort(stream(), 0);
    lend("x", 1);
    ck_assert_int_eq(released, 4);
    end();
}
END_TEST

START_TEST(lent_data_is_given_back_by_abort_and_release)
{
    begin(_i);
    shrink_buffers(stream_fds[0]);
    lend(big_data, BIG);
    lend("x", 1);
    ck_assert_int_eq(released, 0);
    bk_transport_abort(stream(), 0);
    ck_assert_int_eq(released, 2);
    end();
}
END_TEST

static void
lend_one(void *arg)
{
    (void)arg;
    releases_write = true;
    lend("one ", 4);
}

START_TEST(release_callback_may_write)
{
    begin(_i);
    do_in_callback(stream_loop, lend_one, NULL);
    expect_peer_gets("one from release ");
    end();
}
END_TEST

static void
lend_and_close(void *arg)
{
    lend_one(arg);
    bk_transport_close(stream());
}

/* The write from the release callback comes while close() flushes. */
START_TEST(release_callback_may_write_in_close)
{
    begin(_i);
    do_in_callback(stream_loop, lend_and_close, NULL);
    RUN_UNTIL(stream_loop, recorder.closed_count == 1);
    expect_peer_gets("one from release ");
    expect_peer_gets_eof();
    expect_log("lost:0 closed ");
    end();
}
END_TEST

static int large_from_release;

static void
write_large(void *owner)
{
    (void)owner;
    if (large_from_release++ == 0) {
        ck_assert_int_eq(
            bk_transport_write_lent(stream(), "small ", 6, write_large, NULL),
            0);
        ck_assert_int_eq(bk_transport_write(stream(), big_data, 20000), 0);
    }
}

static void
lend_large_and_close(void *arg)
{
    (void)arg;
    ck_assert_int_eq(
        bk_transport_write_lent(stream(), "one ", 4, write_large, NULL), 0);
    bk_transport_close(stream());
}

START_TEST(release_callbacks_may_write_anything_in_close)
{
    char *got = malloc(20000);

    begin(_i);
    do_in_callback(stream_loop, lend_large_and_close, NULL);
    RUN_UNTIL(stream_loop, recorder.closed_count == 1);
    expect_peer_gets("one small ");
    ck_assert_uint_eq(recv_all(stream_fds[1], got, 20000), 20000);
    ck_assert(is_pattern(got, 20000, 0));
    expect_peer_gets_eof();
    ck_assert_int_eq(large_from_release, 2);
    free(got);
    end();
}
END_TEST

static void
lend_and_write_eof(void *arg)
{
    lend_one(arg);
    ck_assert_int_eq(bk_transport_write_eof(stream()), 0);
}

START_TEST(release_callback_may_write_in_write_eof)
{
    begin(_i);
    do_in_callback(stream_loop, lend_and_write_eof, NULL);
    expect_peer_gets("one from release ");
    expect_peer_gets_eof();
    end();
}
END_TEST

START_TEST(more_pieces_than_one_sendmsg_takes)
{
    char text[9000];

    begin(_i);
    bk_transport_cork(stream());
    for (size_t i = 0; i < sizeof(text); i += 3) {
        lend(big_data + i, 3);
    }
    expect_peer_gets_nothing();
    bk_transport_uncork(stream());
    ck_assert_int_eq(released, 3000);
    ck_assert_uint_eq(recv_all(stream_fds[1], text, sizeof(text)),
                      sizeof(text));
    ck_assert(is_pattern(text, sizeof(text), 0));
    end();
}
END_TEST

/* Around the size up to which pieces are joined before they are sent. */
START_TEST(pieces_of_any_size_arrive_in_order)
{
    size_t sent = 0;

    begin(_i);
    for (size_t len = 2040; len < 2056; len++) {
        size_t first = len - 2040;

        bk_transport_cork(stream());
        if (first > 0) {
            lend(big_data + sent, first);
        }
        lend(big_data + sent + first, 1024);
        ck_assert_int_eq(bk_transport_write(stream(),
                                            big_data + sent + first + 1024,
                                            len - first - 1024),
                         0);
        bk_transport_uncork(stream());
        drain_peer(sent, len);
        sent += len;
    }
    end();
}
END_TEST

START_TEST(cork_nests_and_checks_the_marks_at_the_end)
{
    begin(_i);
    shrink_buffers(stream_fds[0]);
    ck_assert_int_eq(bk_transport_set_write_buffer_limits(stream(), 10, 0), 0);
    bk_transport_cork(stream());
    bk_transport_cork(stream());
    for (size_t at = 0; at < (size_t)1024 * 1024; at += 4096) {
        ck_assert_int_eq(bk_transport_write(stream(), big_data + at, 4096), 0);
    }
    bk_transport_uncork(stream());
    expect_log("");
    expect_peer_gets_nothing();
    bk_transport_uncork(stream());
    expect_log("pause ");
    bk_transport_uncork(stream());
    drain_peer(0, (size_t)1024 * 1024);
    expect_log("resume ");
    end();
}
END_TEST

START_TEST(slices_are_one_write)
{
    bk_slice small[] = {{"one ", 4}, {"", 0}, {"two ", 4}, {"three ", 6}};
    bk_slice large[] = {{big_data, 100},
                        {NULL, 0},
                        {big_data + 100, BIG / 2},
                        {big_data + 100 + BIG / 2, 33}};

    begin(_i);
    ck_assert_int_eq(bk_transport_writev(stream(), small, 4), 0);
    expect_peer_gets("one two three ");
    ck_assert_int_eq(bk_transport_writev(stream(), large, 4), 0);
    drain_peer(0, BIG / 2 + 133);
    end();
}
END_TEST

static void
write_mixed(void *arg)
{
    (void)arg;
    ck_assert_int_eq(bk_transport_write(stream(), big_data, 100), 0);
    lend(big_data + 100, 50);
    ck_assert_int_eq(bk_transport_write(stream(), big_data + 150, BIG / 2), 0);
    ck_assert_int_eq(bk_transport_write(stream(), big_data + 150 + BIG / 2, 7),
                     0);
}

START_TEST(large_write_follows_what_the_callback_has_queued)
{
    begin(_i);
    do_in_callback(stream_loop, write_mixed, NULL);
    drain_peer(0, BIG / 2 + 157);
    ck_assert_int_eq(released, 1);
    end();
}
END_TEST

static unsigned long long random_state;

static size_t
random_below(size_t limit)
{
    random_state =
        random_state * 6364136223846793005ULL + 1442695040888963407ULL;
    return (size_t)(random_state >> 33) % limit;
}

/* Bytes a run writes at most: with the small buffers, some seconds' worth
 * under a sanitizer. */
#define RANDOM_MAX ((size_t)1536 * 1024)

static size_t random_given;

/* Any of the ways to write, some bytes that follow on what was written. */
static void
write_at_random(void *arg)
{
    static const size_t sizes[] = {1, 100, 5000, 16384, 70000, 300000};
    int writes = (int)random_below(5);

    (void)arg;
    for (int i = 0; i < writes; i++) {
        size_t len = 1 + random_below(sizes[random_below(6)]);
        const char *data = big_data + random_given;
        bk_slice halves[] = {{data, len / 2}, {data + len / 2, len - len / 2}};

        if (random_given + len > RANDOM_MAX) {
            return;
        }
        switch (random_below(4)) {
        case 0:
            lend(data, len);
            break;
        case 1:
            ck_assert_int_eq(bk_transport_writev(stream(), halves, 2), 0);
            break;
        default:
            ck_assert_int_eq(bk_transport_write(stream(), data, len), 0);
        }
        random_given += len;
        if (random_below(10) == 0) {
            (void)bk_transport_get_write_buffer_size(stream());
        }
    }
}

START_TEST(random_writes_arrive_in_order)
{
    char *got = malloc(BIG + 1);
    size_t received = 0;

    random_state = bk_clock_now();
    if (getenv("BK_TEST_SEED") != NULL) {
        random_state = strtoull(getenv("BK_TEST_SEED"), NULL, 10);
    }
    (void)fprintf(stderr, "# seed %llu\n", random_state);
    begin(_i);
    shrink_buffers(stream_fds[0]);
    for (int round = 0; round < 200; round++) {
        if (random_below(3) == 0) {
            write_at_random(NULL);
        }
        else {
            do_in_callback(stream_loop, write_at_random, NULL);
        }
        received += recv_some(stream_fds[1], got + received,
                              1 + random_below(200000) > BIG - received
                                  ? BIG - received
                                  : 1 + random_below(100000));
        support_turns(stream_loop, (int)random_below(3));
    }
    bk_transport_close(stream());
    while (recorder.closed_count == 0) {
        received +=
            recv_some(stream_fds[1], got + received, BIG + 1 - received);
        support_turns(stream_loop, 1);
    }
    received += recv_all(stream_fds[1], got + received, BIG + 1 - received);
    ck_assert_uint_eq(received, random_given);
    ck_assert(is_pattern(got, received, 0));
    free(got);
    end();
}
END_TEST

static void
add_writing(Suite *suite)
{
    TCase *writing = new_stream_case(suite, "writing");

    ADD(writing, write_outside_of_callbacks_is_sent_at_once);
    ADD(writing, writes_of_a_callback_leave_in_one_send);
    ADD(writing, write_through_sends_in_the_callback);
    ADD(writing, large_write_is_sent_in_the_callback);
    ADD(writing, whoever_could_tell_sends_first);
    ADD(writing, failing_write_keeps_its_place_in_the_queue);
    ADD(writing, a_callback_scheduled_before_the_write_runs_before);
    ADD(writing, kept_place_is_not_visited);
    ADD(writing, kept_place_is_not_popped);
    ADD(writing, write_to_a_reset_peer_is_seen_at_once);
    ADD(writing, abort_sends_what_asyncio_would_have_sent);
    ADD(writing, close_sends_first_and_keeps_its_place);
    ADD(writing, empty_write_is_nothing);
    ADD(writing, streams_are_flushed_in_the_order_of_their_first_write);
    ADD(writing, random_writes_arrive_in_order);
}

static void
add_pieces(Suite *suite)
{
    TCase *pieces = new_stream_case(suite, "pieces");

    ADD(pieces, lent_data_is_given_back_once);
    ADD(pieces, lent_data_is_given_back_by_abort_and_release);
    ADD(pieces, release_callback_may_write);
    ADD(pieces, release_callback_may_write_in_close);
    ADD(pieces, release_callbacks_may_write_anything_in_close);
    ADD(pieces, release_callback_may_write_in_write_eof);
    ADD(pieces, more_pieces_than_one_sendmsg_takes);
    ADD(pieces, pieces_of_any_size_arrive_in_order);
    ADD(pieces, cork_nests_and_checks_the_marks_at_the_end);
    ADD(pieces, slices_are_one_write);
    ADD(pieces, large_write_follows_what_the_callback_has_queued);
}

int
main(void)
{
    Suite *suite = suite_create("stream write");

    add_writing(suite);
    add_pieces(suite);
    return support_main(suite);
}
