/* test_pipe_write.c -- the writing ends of pipes.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <unistd.h>

#include "pipe_support.h"

/* -- writing --------------------------------------------------------------- */

START_TEST(writes)
{
    begin_writer(_i);
    write_pattern(0, 100);
    ck_assert_uint_eq(get(0, 200), 100);
    bk_transport_close(&writer.transport);
    RUN_UNTIL(pipe_loop, has_ended(&writer));
    expect(&writer, "lost closed ");
    ck_assert_int_eq(writer.error, 0);
    ck_assert_uint_eq(get(0, 1), 0); /* the end */
    ck_assert(!bk_transport_is_reading(&writer.transport));
    end_pipe();
}
END_TEST

static void
write_three(void *arg)
{
    (void)arg;
    write_pattern(0, 10);
    write_pattern(10, 20);
    write_pattern(30, 30);
    ck_assert_int_eq((int)get(0, 100), 0); /* held back */
}

START_TEST(writes_of_a_callback_leave_together)
{
    begin_writer(_i);
    do_in_callback(pipe_loop, write_three, NULL);
    ck_assert_uint_eq(get(0, 1000), 60);
    end_pipe();
}
END_TEST

/* What is not more than PIPE_BUF is never torn, whoever else writes. */
static void
write_lines(void *arg)
{
    (void)arg;
    for (size_t i = 0; i < 40; i++) {
        write_pattern(i * 1000, 1000);
    }
}

START_TEST(lines_are_not_torn)
{
    char fill[PIPE_BUF];
    size_t room;
    size_t got = 0;

    begin_writer(_i);
    ck_assert_int_eq(fcntl(pipe_fds[0], F_SETPIPE_SZ, 4 * PIPE_BUF),
                     4 * PIPE_BUF);
    memset(fill, 'f', sizeof(fill));
    ck_assert_int_eq(
        bk_transport_set_write_buffer_limits(&writer.transport, PIPE_BIG, 0),
        0);
    do_in_callback(pipe_loop, write_lines, NULL);
    /* Each page that is read makes room for some lines, and never for a part
     * of one: what is in the pipe is a whole number of them. */
    for (int i = 0; i < 200 && got < 40000; i++) {
        int queued = 0;

        ck_assert_int_eq(ioctl(pipe_fds[0], FIONREAD, &queued), 0);
        ck_assert_uint_eq((got + (size_t)queued) % 1000, 0);
        room = get(got, 700);
        got += room;
        support_turns(pipe_loop, 2);
    }
    ck_assert_uint_eq(got, 40000);
    end_pipe();
}
END_TEST

/* Each write is a packet of its own. */
static void
expect_two_packets(void)
{
    do_in_callback(pipe_loop, write_twice, NULL);
    ck_assert_uint_eq(get(0, 1000), 10);
    ck_assert_uint_eq(get(10, 1000), 20);
}

START_TEST(packets_keep_their_boundaries)
{
    begin_pipe(_i);
    ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK | O_DIRECT), 0);
    open_end(&writer, 1);
    support_turns(pipe_loop, 1);
    expect_two_packets();
    end_pipe();
}
END_TEST

static void
begin_with_socket(int poller, int type)
{
    begin_pipe(poller);
    ck_assert_int_eq(
        socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, pipe_fds),
        0);
    open_end(&writer, 1);
    support_turns(pipe_loop, 1);
    expect(&writer, "made ");
}

START_TEST(sockets_are_pipes_too)
{
    begin_with_socket(_i, SOCK_SEQPACKET);
    expect_two_packets();
    end_pipe();
    begin_with_socket(_i, SOCK_DGRAM);
    expect_two_packets();
    end_pipe();
    begin_with_socket(_i, SOCK_STREAM);
    do_in_callback(pipe_loop, write_twice, NULL);
    ck_assert_uint_eq(get(0, 1000), 30);
    close_fd(0);
    RUN_UNTIL(pipe_loop, has_ended(&writer));
    expect(&writer, "eof lost closed ");
    end_pipe();
    begin_pipe(_i);
    support_pair(pipe_fds);
    open_end(&reader, 0);
    put(0, 7);
    close_fd(1);
    RUN_UNTIL(pipe_loop, has_ended(&reader));
    expect(&reader, "made data:7 eof lost closed ");
    end_pipe();
}
END_TEST

/* resume_writing waits for all of it; on_resume looks. */
START_TEST(flow_control)
{
    size_t given;

    begin_writer(_i);
    given = fill_pipe();
    expect(&writer, "blocked pause ");
    drain_pipe(given);
    support_turns(pipe_loop, 2);
    expect(&writer, "resume drained ");
    end_pipe();
}
END_TEST

START_TEST(close_writes_the_rest)
{
    size_t given;

    begin_writer(_i);
    given = fill_pipe();
    bk_transport_close(&writer.transport);
    ck_assert(bk_transport_is_closing(&writer.transport));
    ck_assert(!bk_transport_is_lost(&writer.transport));
    write_pattern(0, 10); /* dropped */
    expect(&writer, "blocked pause ");
    drain_pipe(given);
    RUN_UNTIL(pipe_loop, has_ended(&writer));
    expect(&writer, "resume lost closed ");
    ck_assert_int_eq(writer.error, 0);
    ck_assert_uint_eq(get(0, 1), 0);
    end_pipe();
}
END_TEST

START_TEST(write_eof_is_close)
{
    begin_writer(_i);
    write_pattern(0, 10);
    ck_assert_int_eq(bk_transport_write_eof(&writer.transport), 0);
    ck_assert(bk_transport_is_closing(&writer.transport));
    ck_assert_int_eq(bk_transport_write_eof(&writer.transport), 0);
    write_pattern(10, 10); /* dropped */
    RUN_UNTIL(pipe_loop, has_ended(&writer));
    expect(&writer, "lost closed ");
    ck_assert_uint_eq(get(0, 100), 10);
    end_pipe();
}
END_TEST

START_TEST(abort_drops_the_rest)
{
    begin_writer(_i);
    (void)fill_pipe();
    bk_transport_abort(&writer.transport, -ETIMEDOUT);
    RUN_UNTIL(pipe_loop, has_ended(&writer));
    expect(&writer, "blocked pause lost closed ");
    ck_assert_int_eq(writer.error, -ETIMEDOUT);
    end_pipe();
}
END_TEST

START_TEST(nobody_reads_any_more)
{
    begin_writer(_i);
    close_fd(0);
    RUN_UNTIL(pipe_loop, has_ended(&writer));
    expect(&writer, "eof lost closed ");
    ck_assert_int_eq(writer.error, 0);
    end_pipe();
    begin_writer(_i);
    (void)fill_pipe();
    close_fd(0);
    RUN_UNTIL(pipe_loop, has_ended(&writer));
    expect(&writer, "blocked pause eof lost closed ");
    ck_assert_int_eq(writer.error, -EPIPE);
    end_pipe();
    begin_writer(_i);
    (void)fill_pipe();
    bk_transport_close(&writer.transport);
    close_fd(0);
    RUN_UNTIL(pipe_loop, has_ended(&writer));
    expect(&writer, "blocked pause eof lost closed ");
    ck_assert_int_eq(writer.error, -EPIPE);
    end_pipe();
}
END_TEST

/* Noticed by the write itself, before the poller tells. */
START_TEST(write_to_nobody)
{
    begin_writer(_i);
    close_fd(0);
    write_pattern(0, 10);
    ck_assert(bk_transport_is_lost(&writer.transport));
    write_pattern(0, 10);
    RUN_UNTIL(pipe_loop, has_ended(&writer));
    expect(&writer, "lost closed ");
    ck_assert_int_eq(writer.error, -EPIPE);
    end_pipe();
}
END_TEST

START_TEST(ended_inside_eof)
{
    begin_writer(_i);
    writer.on_eof = close_it;
    close_fd(0);
    RUN_UNTIL(pipe_loop, has_ended(&writer));
    expect(&writer, "eof lost closed ");
    end_pipe();
    begin_writer(_i);
    writer.on_eof = release_it;
    close_fd(0);
    RUN_UNTIL(pipe_loop, writer.log[0] != '\0');
    support_turns(pipe_loop, 2);
    expect(&writer, "eof ");
    end_pipe();
    begin_reader(_i);
    reader.on_eof = release_it;
    close_fd(1);
    RUN_UNTIL(pipe_loop, strstr(reader.log, "eof") != NULL);
    support_turns(pipe_loop, 2);
    expect(&reader, "made eof ");
    end_pipe();
}
END_TEST

static int released;

static void
on_release(void *owner)
{
    ck_assert_ptr_eq(owner, &released);
    released++;
}

START_TEST(lent_data_comes_back)
{
    static char data[100000];

    begin_writer(_i);
    fill_pattern(data, sizeof(data), 0);
    released = 0;
    ck_assert_int_eq(bk_transport_write_lent(&writer.transport, data,
                                             sizeof(data), on_release,
                                             &released),
                     0);
    ck_assert_int_eq(released, 0);
    bk_transport_close(&writer.transport);
    ck_assert_int_eq(bk_transport_write_lent(&writer.transport, data, 100,
                                             on_release, &released),
                     0);
    ck_assert_int_eq(released, 1); /* dropped at once */
    drain_pipe(sizeof(data));
    ck_assert_int_eq(released, 2);
    end_pipe();
    ck_assert_int_eq(released, 2);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("test_pipe_write");
    TCase *tcase = new_pipe_case(suite, "pipe");

    ADD(tcase, writes);
    ADD(tcase, writes_of_a_callback_leave_together);
    ADD(tcase, lines_are_not_torn);
    ADD(tcase, packets_keep_their_boundaries);
    ADD(tcase, sockets_are_pipes_too);
    ADD(tcase, flow_control);
    ADD(tcase, close_writes_the_rest);
    ADD(tcase, write_eof_is_close);
    ADD(tcase, abort_drops_the_rest);
    ADD(tcase, nobody_reads_any_more);
    ADD(tcase, write_to_nobody);
    ADD(tcase, ended_inside_eof);
    ADD(tcase, lent_data_comes_back);
    return support_main(suite);
}
