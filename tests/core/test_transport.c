/* test_transport.c -- byte streams: what asyncio's transports promise.
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

static void
on_tick(void *arg)
{
    struct recorder *counted = arg;

    counted->turn++;
    if (counted->turn < 100) {
        call_in_loop(stream_loop, on_tick, arg);
    }
}

/* One node makes the connection; data that was there already comes one poll
 * later, as in asyncio, where add_reader follows connection_made. */
START_TEST(made_comes_first_and_data_one_turn_later)
{
    stream_loop = support_new_loop(_i);
    tcp_pair(stream_fds);
    send_all(stream_fds[1], "hello", 5);
    record(&recorder, stream_loop, stream_fds[0]);
    ck_assert_str_eq(recorder.log, "");
    call_in_loop(stream_loop, on_tick, &recorder);
    support_turns(stream_loop, 1);
    ck_assert_str_eq(recorder.log, "made ");
    support_turns(stream_loop, 1);
    ck_assert_str_eq(recorder.log, "made data:5 ");
    ck_assert_int_eq(recorder.data_turns[0], 2); /* the tick came before */
    end();
}
END_TEST

static void
close_when_made(struct recorder *made)
{
    bk_transport_close(&made->transport);
}

START_TEST(closing_in_connection_made_reads_nothing)
{
    stream_loop = support_new_loop(_i);
    tcp_pair(stream_fds);
    send_all(stream_fds[1], "hello", 5);
    recorder.on_made = close_when_made;
    record(&recorder, stream_loop, stream_fds[0]);
    support_turns(stream_loop, 2);
    expect_log("made lost:0 closed ");
    support_turns(stream_loop, 2);
    expect_log("");
    end();
}
END_TEST

static void
pause_when_made(struct recorder *made)
{
    bk_transport_pause_reading(&made->transport);
}

START_TEST(pausing_in_connection_made_reads_nothing)
{
    stream_loop = support_new_loop(_i);
    tcp_pair(stream_fds);
    send_all(stream_fds[1], "hello", 5);
    recorder.on_made = pause_when_made;
    record(&recorder, stream_loop, stream_fds[0]);
    support_turns(stream_loop, 3);
    expect_log("made ");
    ck_assert(!bk_transport_is_reading(stream()));
    bk_transport_resume_reading(stream());
    bk_transport_resume_reading(stream());
    ck_assert(bk_transport_is_reading(stream()));
    RUN_UNTIL(stream_loop, recorder.received == 5);
    end();
}
END_TEST

START_TEST(start_is_for_an_open_transport_once)
{
    begin(_i);
    ck_assert_int_eq(bk_transport_start(stream()), -EINVAL);
    bk_transport_close(stream());
    ck_assert_int_eq(bk_transport_start(stream()), -EINVAL);
    end();
}
END_TEST

START_TEST(init_checks_its_arguments)
{
    bk_transport transport;

    stream_loop = support_new_loop(_i);
    ck_assert_int_eq(
        bk_transport_init(NULL, stream_loop, &recorder_protocol, NULL),
        -EINVAL);
    ck_assert_int_eq(
        bk_transport_init(&transport, NULL, &recorder_protocol, NULL), -EINVAL);
    ck_assert_int_eq(bk_transport_init(&transport, stream_loop, NULL, NULL),
                     -EINVAL);
    ck_assert_int_eq(
        bk_transport_init(&transport, stream_loop, &recorder_protocol, NULL),
        0);
    ck_assert_int_eq(bk_transport_open_fd(&transport, -1), -EBADF);
    ck_assert_int_eq(bk_transport_write(&transport, "x", 1), -EINVAL);
    ck_assert_int_eq(bk_transport_start(&transport), -EINVAL);
    bk_transport_release(&transport);
    ck_assert_int_eq(bk_loop_close(stream_loop), 0);
    ck_assert_int_eq(
        bk_transport_init(&transport, stream_loop, &recorder_protocol, NULL),
        -EBADF);
    support_free_loop(stream_loop);
}
END_TEST

START_TEST(open_takes_the_fd_on_failure_too)
{
    begin(_i);
    ck_assert_int_eq(bk_transport_open_fd(stream(), dup(stream_fds[1])),
                     -EINVAL);
    end();
}
END_TEST

START_TEST(one_receive_per_turn)
{
    size_t total = 3 * (size_t)BK_READ_MAX;
    size_t sent = 0;

    begin(_i);
    recorder.buffer = malloc(total);
    while (recorder.received < total) {
        ssize_t n = send(stream_fds[1], big_data + sent, total - sent,
                         MSG_DONTWAIT | MSG_NOSIGNAL);
        int data_count = recorder.data_count;

        sent += n > 0 ? (size_t)n : 0;
        support_turns(stream_loop, 1);
        ck_assert_int_le(recorder.data_count, data_count + 1);
    }
    ck_assert(is_pattern(recorder.buffer, total, 0));
    free(recorder.buffer);
    end();
}
END_TEST

START_TEST(eof_closes_after_flushing)
{
    begin(_i);
    ck_assert_int_eq(shutdown(stream_fds[1], SHUT_WR), 0);
    RUN_UNTIL(stream_loop, recorder.closed_count == 1);
    expect_log("eof lost:0 closed ");
    expect_peer_gets_eof();
    end();
}
END_TEST

START_TEST(eof_without_a_method_closes)
{
    bk_protocol protocol = recorder_protocol;

    protocol.eof_received = NULL;
    begin(_i);
    bk_transport_set_protocol(stream(), &protocol, &recorder);
    ck_assert_int_eq(shutdown(stream_fds[1], SHUT_WR), 0);
    RUN_UNTIL(stream_loop, recorder.closed_count == 1);
    expect_log("lost:0 closed ");
    end();
}
END_TEST

START_TEST(eof_kept_open_is_half_open)
{
    begin(_i);
    recorder.keeps_open = true;
    ck_assert_int_eq(shutdown(stream_fds[1], SHUT_WR), 0);
    RUN_UNTIL(stream_loop, recorder.log[0] != '\0');
    support_turns(stream_loop, 3);
    expect_log("eof ");
    ck_assert(!bk_transport_is_closing(stream()));
    ck_assert(bk_transport_is_reading(stream()));
    write_text("still here");
    expect_peer_gets("still here");
    bk_transport_close(stream());
    support_turns(stream_loop, 1);
    expect_log("lost:0 closed ");
    end();
}
END_TEST

/* CPython's transport does the same: resuming adds the reader again. */
START_TEST(resuming_after_eof_meets_it_again)
{
    begin(_i);
    recorder.keeps_open = true;
    ck_assert_int_eq(shutdown(stream_fds[1], SHUT_WR), 0);
    RUN_UNTIL(stream_loop, recorder.log[0] != '\0');
    bk_transport_pause_reading(stream());
    bk_transport_resume_reading(stream());
    RUN_UNTIL(stream_loop, strcmp(recorder.log, "eof eof ") == 0);
    end();
}
END_TEST

START_TEST(reset_is_told)
{
    begin(_i);
    reset_fd(stream_fds[1]);
    stream_fds[1] = -1;
    RUN_UNTIL(stream_loop, recorder.closed_count == 1);
    expect_log("lost:ECONNRESET closed ");
    end();
}
END_TEST

static char own_buffer[16];
static int own_result;
static int unused_count;

static int
give_own_buffer(bk_transport *transport, void **ret_buf, size_t *ret_len,
                void *self)
{
    (void)transport;
    (void)self;
    *ret_buf = own_buffer;
    *ret_len = sizeof(own_buffer);
    return own_result;
}

static void
count_updated(bk_transport *transport, size_t len, void *self)
{
    struct recorder *updated = self;

    (void)transport;
    updated->updated += len;
}

static void
count_unused(bk_transport *transport, void *self)
{
    (void)transport;
    (void)self;
    unused_count++;
}

static bk_protocol
buffered_protocol(int result)
{
    bk_protocol protocol = recorder_protocol;

    protocol.get_buffer = give_own_buffer;
    protocol.buffer_updated = count_updated;
    protocol.buffer_unused = count_unused;
    own_result = result;
    return protocol;
}

START_TEST(own_buffer_is_filled)
{
    bk_protocol protocol = buffered_protocol(1);

    begin(_i);
    bk_transport_set_protocol(stream(), &protocol, &recorder);
    send_all(stream_fds[1], "0123456789abcdefXYZ", 19);
    RUN_UNTIL(stream_loop, recorder.updated == 16);
    ck_assert_mem_eq(own_buffer, "0123456789abcdef", 16);
    RUN_UNTIL(stream_loop, recorder.updated == 19);
    ck_assert_mem_eq(own_buffer, "XYZ", 3);
    expect_log("");
    reset_fd(stream_fds[1]);
    stream_fds[1] = -1;
    RUN_UNTIL(stream_loop, recorder.closed_count == 1);
    ck_assert_int_eq(unused_count, 1);
    end();
}
END_TEST

START_TEST(declined_buffer_is_the_scratch)
{
    bk_protocol protocol = buffered_protocol(0);

    begin(_i);
    bk_transport_set_protocol(stream(), &protocol, &recorder);
    send_all(stream_fds[1], "hello", 5);
    RUN_UNTIL(stream_loop, recorder.received == 5);
    ck_assert_uint_eq(recorder.updated, 0);
    end();
}
END_TEST

START_TEST(refused_buffer_fails_the_connection)
{
    bk_protocol protocol = buffered_protocol(-ENOTSUP);

    begin(_i);
    bk_transport_set_protocol(stream(), &protocol, &recorder);
    send_all(stream_fds[1], "hello", 5);
    RUN_UNTIL(stream_loop, recorder.closed_count == 1);
    expect_log(strcmp(bk_err_name(-ENOTSUP), "ENOTSUP") == 0
                   ? "lost:ENOTSUP closed "
                   : "lost:EOPNOTSUPP closed ");
    end();
}
END_TEST

START_TEST(write_after_close_is_appended_while_flushing)
{
    size_t given;

    begin(_i);
    shrink_buffers(stream_fds[0]);
    given = write_until_paused();
    bk_transport_close(stream());
    ck_assert(bk_transport_is_closing(stream()));
    ck_assert(!bk_transport_is_lost(stream()));
    ck_assert_int_eq(bk_transport_write(stream(), big_data + given, 3000), 0);
    drain_peer(0, given + 3000);
    RUN_UNTIL(stream_loop, recorder.closed_count == 1);
    expect_log("pause resume lost:0 closed ");
    expect_peer_gets_eof();
    ck_assert_int_eq(bk_transport_write(stream(), "x", 1), 0);
    end();
}
END_TEST

/* A close that had to wait ends where the kernel takes the last byte: asyncio
 * calls connection_lost from the writable event itself. */
START_TEST(closing_flush_ends_in_its_own_event)
{
    size_t given;
    int turns = 0;

    begin(_i);
    shrink_buffers(stream_fds[0]);
    given = write_until_paused();
    bk_transport_close(stream());
    while (recorder.lost_count == 0) {
        char buf[65536];
        size_t before = bk_transport_get_write_buffer_size(stream());

        (void)recv_some(stream_fds[1], buf, sizeof(buf));
        support_turns(stream_loop, 1);
        turns++;
        ck_assert_uint_ge(before, bk_transport_get_write_buffer_size(stream()));
        if (bk_transport_get_write_buffer_size(stream()) == 0) {
            ck_assert_int_eq(recorder.lost_count, 1);
        }
    }
    ck_assert_int_gt(turns, 0);
    ck_assert_uint_gt(given, 0);
    end();
}
END_TEST

START_TEST(abort_while_flushing_drops)
{
    begin(_i);
    shrink_buffers(stream_fds[0]);
    (void)write_until_paused();
    bk_transport_close(stream());
    bk_transport_abort(stream(), -ECANCELED);
    bk_transport_abort(stream(), 0);
    ck_assert_uint_eq(bk_transport_get_write_buffer_size(stream()), 0);
    support_turns(stream_loop, 1);
    expect_log("pause lost:ECANCELED closed ");
    end();
}
END_TEST

START_TEST(peer_that_goes_while_the_queue_waits)
{
    begin(_i);
    shrink_buffers(stream_fds[0]);
    (void)write_until_paused();
    bk_transport_pause_reading(stream());
    reset_fd(stream_fds[1]);
    stream_fds[1] = -1;
    RUN_UNTIL(stream_loop, recorder.closed_count == 1);
    expect_log("pause lost:ECONNRESET closed ");
    end();
}
END_TEST

START_TEST(write_eof_at_once_and_once)
{
    begin(_i);
    recorder.keeps_open = true;
    write_text("x");
    ck_assert(!bk_transport_is_eof_asked(stream()));
    ck_assert_int_eq(bk_transport_write_eof(stream()), 0);
    ck_assert_int_eq(bk_transport_write_eof(stream()), 0);
    ck_assert(bk_transport_is_eof_asked(stream()));
    expect_peer_gets("x");
    expect_peer_gets_eof();
    ck_assert_int_eq(bk_transport_write(stream(), "y", 1), -EPIPE);
    ck_assert_int_eq(bk_transport_write(stream(), "", 0), -EPIPE);
    send_all(stream_fds[1], "answer", 6);
    RUN_UNTIL(stream_loop, recorder.received == 6);
    ck_assert(!bk_transport_is_closing(stream()));
    bk_transport_close(stream());
    support_turns(stream_loop, 1);
    expect_log("data:6 lost:0 closed ");
    ck_assert_int_eq(bk_transport_write(stream(), "y", 1), -EPIPE);
    end();
}
END_TEST

START_TEST(write_eof_waits_for_the_flush)
{
    size_t given;

    begin(_i);
    shrink_buffers(stream_fds[0]);
    given = write_until_paused();
    ck_assert_int_eq(bk_transport_write_eof(stream()), 0);
    drain_peer(0, given);
    expect_peer_gets_eof();
    expect_log("pause resume ");
    end();
}
END_TEST

START_TEST(close_after_write_eof_flushes)
{
    size_t given;

    begin(_i);
    shrink_buffers(stream_fds[0]);
    given = write_until_paused();
    ck_assert_int_eq(bk_transport_write_eof(stream()), 0);
    bk_transport_close(stream());
    drain_peer(0, given);
    RUN_UNTIL(stream_loop, recorder.closed_count == 1);
    expect_log("pause resume lost:0 closed ");
    end();
}
END_TEST

START_TEST(write_eof_when_closing_is_ignored)
{
    begin(_i);
    bk_transport_close(stream());
    ck_assert_int_eq(bk_transport_write_eof(stream()), 0);
    ck_assert(!bk_transport_is_eof_asked(stream()));
    end();
}
END_TEST

START_TEST(names_are_known_after_the_close)
{
    bk_address peer;
    bk_address own;
    bk_address of_fd;

    begin(_i);
    ck_assert_int_eq(bk_transport_getsockname(stream(), &of_fd), 0);
    stream()->_sockname.len = 0; /* as if nobody had asked */
    reset_fd(stream_fds[1]);
    stream_fds[1] = -1;
    RUN_UNTIL(stream_loop, recorder.closed_count == 1);
    ck_assert_int_eq(bk_transport_getpeername(stream(), &peer), 0);
    ck_assert_int_eq(bk_transport_getsockname(stream(), &own), 0);
    ck_assert_int_eq(bk_address_family(&peer), AF_INET);
    ck_assert_uint_eq(bk_address_port(&own), bk_address_port(&of_fd));
    ck_assert_int_eq(bk_transport_fileno(stream()), -1);
    end();
}
END_TEST

START_TEST(ends_of_a_socketpair_have_no_name)
{
    struct sockaddr_storage storage;
    struct sockaddr *raw = (struct sockaddr *)&storage;
    socklen_t len = sizeof(storage);
    bk_address address;

    stream_loop = support_new_loop(_i);
    support_pair(stream_fds);
    record(&recorder, stream_loop, stream_fds[0]);
    ck_assert_int_eq(bk_transport_getpeername(stream(), &address), 0);
    ck_assert_int_eq(bk_address_family(&address), AF_UNIX);
    ck_assert_uint_eq(address.len, sizeof(sa_family_t));
    ck_assert_int_eq(bk_transport_get_sockaddr(stream(), true, raw, &len), 0);
    ck_assert_uint_eq(len, sizeof(sa_family_t));
    support_turns(stream_loop, 1);
    write_text("unix");
    expect_peer_gets("unix");
    end();
}
END_TEST

START_TEST(nagle_is_off)
{
    int value = 0;
    socklen_t len = sizeof(value);

    begin(_i);
    ck_assert_int_eq(
        getsockopt(stream_fds[0], IPPROTO_TCP, TCP_NODELAY, &value, &len), 0);
    ck_assert_int_ne(value, 0);
    end();
}
END_TEST

START_TEST(release_in_every_state)
{
    stream_loop = support_new_loop(_i);
    for (int turns = 0; turns < 6; turns++) {
        memset(&recorder, 0, sizeof(recorder));
        tcp_pair(stream_fds);
        record(&recorder, stream_loop, stream_fds[0]);
        support_turns(stream_loop, turns);
        if (turns == 4) {
            bk_transport_close(stream());
        }
        if (turns == 5) {
            shrink_buffers(stream_fds[0]);
            (void)write_until_paused();
            bk_transport_close(stream());
        }
        bk_transport_release(stream());
        bk_transport_release(stream());
        memset(&recorder.transport, 0xa5, sizeof(recorder.transport));
        support_turns(stream_loop, 2);
        ck_assert_int_eq(recorder.lost_count, 0);
        ck_assert_int_eq(close(stream_fds[1]), 0);
    }
    support_free_loop(stream_loop);
}
END_TEST

static void
write_and_release(void *arg)
{
    (void)arg;
    write_text("not sent");
    bk_transport_release(stream());
    memset(&recorder.transport, 0xa5, sizeof(recorder.transport));
}

START_TEST(release_with_writes_of_this_callback)
{
    begin(_i);
    do_in_callback(stream_loop, write_and_release, NULL);
    support_turns(stream_loop, 2);
    expect_peer_gets_eof();
    memset(&recorder, 0, sizeof(recorder));
    end();
}
END_TEST

START_TEST(release_after_the_loop_was_closed)
{
    begin(_i);
    shrink_buffers(stream_fds[0]);
    (void)write_until_paused();
    ck_assert_int_eq(bk_loop_close(stream_loop), 0);
    bk_transport_close(stream());
    bk_transport_pause_reading(stream());
    bk_transport_abort(stream(), 0);
    bk_transport_release(stream());
    expect_log("pause ");
    end();
}
END_TEST

START_TEST(release_with_connection_lost_queued_when_the_loop_closes)
{
    begin(_i);
    bk_transport_close(stream());
    ck_assert_int_eq(bk_loop_close(stream_loop), 0);
    end();
    ck_assert_int_eq(recorder.lost_count, 0);
}
END_TEST

START_TEST(connections_are_counted)
{
    bk_loop_stats stats;

    begin(_i);
    bk_loop_get_stats(stream_loop, &stats);
    ck_assert_uint_eq(stats.connections_made, 1);
    ck_assert_uint_eq(stats.connections_open, 1);
    bk_transport_close(stream());
    support_turns(stream_loop, 1);
    bk_loop_get_stats(stream_loop, &stats);
    ck_assert_uint_eq(stats.connections_made, 1);
    ck_assert_uint_eq(stats.connections_open, 0);
    end();
}
END_TEST

static int object_fd;
static int object_closes;

static int
object_fileno(void *self)
{
    ck_assert_ptr_eq(self, &object_fd);
    return object_fd;
}

static void
object_close(void *self)
{
    ck_assert_ptr_eq(self, &object_fd);
    object_closes++;
    if (object_fd >= 0) {
        ck_assert_int_eq(close(object_fd), 0);
    }
    object_fd = -1;
}

static const bk_socket_ops object_ops = {
    .fileno = object_fileno,
    .close = object_close,
};

static void
begin_with_object(int poller)
{
    stream_loop = support_new_loop(poller);
    tcp_pair(stream_fds);
    object_fd = stream_fds[0];
    ck_assert_int_eq(
        bk_transport_init(stream(), stream_loop, &recorder_protocol, &recorder),
        0);
    ck_assert_int_eq(
        bk_transport_open_socket(stream(), &object_ops, &object_fd), 0);
    ck_assert_int_eq(bk_transport_start(stream()), 0);
    support_turns(stream_loop, 1);
    expect_log("made ");
}

START_TEST(socket_object_is_closed_once)
{
    begin_with_object(_i);
    send_all(stream_fds[1], "hi", 2);
    RUN_UNTIL(stream_loop, recorder.received == 2);
    bk_transport_close(stream());
    support_turns(stream_loop, 2);
    expect_log("data:2 lost:0 closed ");
    ck_assert_int_eq(object_closes, 1);
    end();
    ck_assert_int_eq(object_closes, 1);
}
END_TEST

/* Its number may be another connection's by then. */
START_TEST(socket_object_closed_early_is_ebadf)
{
    int others[2];
    char buf[8];

    begin_with_object(_i);
    object_close(&object_fd);
    tcp_pair(others); /* takes the number over */
    send_all(others[1], "not yours", 9);
    write_text("x");
    support_turns(stream_loop, 2);
    ck_assert_int_eq(recorder.lost_count, 1);
    ck_assert_int_eq(recorder.lost_error, -EBADF);
    ck_assert_uint_eq(recorder.received, 0);
    ck_assert_uint_eq(recv_some(others[1], buf, 1), 0);
    ck_assert_uint_eq(recv_some(others[0], buf, 8), 8);
    ck_assert_int_eq(close(others[0]), 0);
    ck_assert_int_eq(close(others[1]), 0);
    end();
}
END_TEST

START_TEST(object_may_take_over)
{
    begin(_i);
    ck_assert_int_eq(bk_transport_give_socket(stream(), NULL, NULL), -EINVAL);
    object_fd = stream_fds[0];
    ck_assert_int_eq(
        bk_transport_give_socket(stream(), &object_ops, &object_fd), 0);
    ck_assert_int_eq(
        bk_transport_give_socket(stream(), &object_ops, &object_fd), -EINVAL);
    ck_assert_int_eq(bk_transport_fileno(stream()), stream_fds[0]);
    send_all(stream_fds[1], "hi", 2);
    RUN_UNTIL(stream_loop, recorder.received == 2);
    bk_transport_pause_reading(stream());
    bk_transport_resume_reading(stream());
    send_all(stream_fds[1], "hi", 2);
    RUN_UNTIL(stream_loop, recorder.received == 4);
    bk_transport_close(stream());
    support_turns(stream_loop, 1);
    ck_assert_int_eq(object_closes, 1);
    end();
}
END_TEST

/* Changes that were not yet told are about our fd, not about the number. */
START_TEST(object_that_takes_over_and_is_closed)
{
    int others[2];

    begin(_i);
    bk_transport_pause_reading(stream());
    object_fd = stream_fds[0];
    ck_assert_int_eq(
        bk_transport_give_socket(stream(), &object_ops, &object_fd), 0);
    object_close(&object_fd);
    tcp_pair(others);
    send_all(others[1], "not yours", 9);
    bk_transport_resume_reading(stream());
    support_turns(stream_loop, 3);
    ck_assert_uint_eq(recorder.received, 0);
    ck_assert_int_eq(recorder.lost_error, -EBADF);
    ck_assert_int_eq(close(others[0]), 0);
    ck_assert_int_eq(close(others[1]), 0);
    end();
}
END_TEST

static void
add_life(Suite *suite)
{
    TCase *life = new_stream_case(suite, "life");
    TCase *reading = new_stream_case(suite, "reading");

    ADD(life, made_comes_first_and_data_one_turn_later);
    ADD(life, closing_in_connection_made_reads_nothing);
    ADD(life, pausing_in_connection_made_reads_nothing);
    ADD(life, start_is_for_an_open_transport_once);
    ADD(life, init_checks_its_arguments);
    ADD(life, open_takes_the_fd_on_failure_too);
    ADD(reading, one_receive_per_turn);
    ADD(reading, eof_closes_after_flushing);
    ADD(reading, eof_without_a_method_closes);
    ADD(reading, eof_kept_open_is_half_open);
    ADD(reading, resuming_after_eof_meets_it_again);
    ADD(reading, reset_is_told);
    ADD(reading, own_buffer_is_filled);
    ADD(reading, declined_buffer_is_the_scratch);
    ADD(reading, refused_buffer_fails_the_connection);
}

static void
add_ends(Suite *suite)
{
    TCase *ends = new_stream_case(suite, "ends");

    ADD(ends, write_after_close_is_appended_while_flushing);
    ADD(ends, closing_flush_ends_in_its_own_event);
    ADD(ends, abort_while_flushing_drops);
    ADD(ends, peer_that_goes_while_the_queue_waits);
    ADD(ends, write_eof_at_once_and_once);
    ADD(ends, write_eof_waits_for_the_flush);
    ADD(ends, close_after_write_eof_flushes);
    ADD(ends, write_eof_when_closing_is_ignored);
    ADD(ends, names_are_known_after_the_close);
    ADD(ends, ends_of_a_socketpair_have_no_name);
    ADD(ends, nagle_is_off);
    ADD(ends, release_in_every_state);
    ADD(ends, release_with_writes_of_this_callback);
    ADD(ends, release_after_the_loop_was_closed);
    ADD(ends, release_with_connection_lost_queued_when_the_loop_closes);
    ADD(ends, connections_are_counted);
}

static void
add_objects(Suite *suite)
{
    TCase *objects = new_stream_case(suite, "objects");

    ADD(objects, socket_object_is_closed_once);
    ADD(objects, socket_object_closed_early_is_ebadf);
    ADD(objects, object_may_take_over);
    ADD(objects, object_that_takes_over_and_is_closed);
}

int
main(void)
{
    Suite *suite = suite_create("transport");

    add_life(suite);
    add_ends(suite);
    add_objects(suite);
    return support_main(suite);
}
