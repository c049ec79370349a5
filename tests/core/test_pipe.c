/* test_pipe.c -- transports of one direction: files, reading, life.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <pty.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "pipe_support.h"

/* -- reading --------------------------------------------------------------- */

START_TEST(reads_to_the_end)
{
    begin_reader(_i);
    put(0, 5);
    support_turns(pipe_loop, 1);
    expect(&reader, "made ");
    support_turns(pipe_loop, 1);
    expect(&reader, "data:5 ");
    put(5, 100);
    close_fd(1);
    RUN_UNTIL(pipe_loop, has_ended(&reader));
    expect(&reader, "data:100 eof lost closed ");
    ck_assert_int_eq(reader.error, 0);
    end_pipe();
}
END_TEST

/* eof_received cannot keep it open, as it would a connection. */
START_TEST(answer_does_not_matter)
{
    begin_reader(_i);
    reader.answer = true;
    close_fd(1);
    RUN_UNTIL(pipe_loop, has_ended(&reader));
    expect(&reader, "made eof lost closed ");
    end_pipe();
}
END_TEST

static void
pause_it(struct pipe_end *end)
{
    bk_transport_pause_reading(&end->transport);
}

START_TEST(pause_and_resume)
{
    begin_reader(_i);
    reader.on_made = pause_it;
    put(0, 10);
    support_turns(pipe_loop, 3);
    expect(&reader, "made ");
    ck_assert(!bk_transport_is_reading(&reader.transport));
    bk_transport_resume_reading(&reader.transport);
    ck_assert(bk_transport_is_reading(&reader.transport));
    reader.on_data = pause_it;
    support_turns(pipe_loop, 1);
    expect(&reader, "data:10 ");
    close_fd(1);
    support_turns(pipe_loop, 3);
    expect(&reader, "");
    bk_transport_resume_reading(&reader.transport);
    RUN_UNTIL(pipe_loop, has_ended(&reader));
    expect(&reader, "eof lost closed ");
    end_pipe();
}
END_TEST

START_TEST(closed_by_us)
{
    begin_reader(_i);
    put(0, 10);
    support_turns(pipe_loop, 1);
    bk_transport_close(&reader.transport);
    ck_assert(bk_transport_is_closing(&reader.transport));
    bk_transport_close(&reader.transport);
    bk_transport_pause_reading(&reader.transport);
    bk_transport_resume_reading(&reader.transport);
    RUN_UNTIL(pipe_loop, has_ended(&reader));
    expect(&reader, "made lost closed ");
    ck_assert_int_eq(write(pipe_fds[1], "x", 1), -1);
    ck_assert_int_eq(errno, EPIPE);
    end_pipe();
}
END_TEST

START_TEST(is_not_written)
{
    begin_reader(_i);
    ck_assert_int_eq(bk_transport_write(&reader.transport, "x", 1), -EBADF);
    ck_assert_int_eq(bk_transport_write_eof(&reader.transport), 0);
    ck_assert_uint_eq(bk_transport_get_write_buffer_size(&reader.transport), 0);
    put(0, 1);
    support_turns(pipe_loop, 2);
    expect(&reader, "made data:1 ");
    end_pipe();
}
END_TEST

static char own_buffer[16];

static int
get_buffer(bk_transport *transport, void **ret_buf, size_t *ret_len, void *self)
{
    (void)transport;
    (void)self;
    *ret_buf = own_buffer;
    *ret_len = sizeof(own_buffer);
    return 1;
}

static void
buffer_updated(bk_transport *transport, size_t len, void *self)
{
    pipe_protocol.data_received(transport, own_buffer, len, self);
}

START_TEST(reads_into_the_protocols_buffer)
{
    const bk_protocol buffered = {
        .get_buffer = get_buffer,
        .buffer_updated = buffer_updated,
        .eof_received = pipe_protocol.eof_received,
        .connection_lost = pipe_protocol.connection_lost,
        .on_closed = pipe_protocol.on_closed,
    };

    begin_reader(_i);
    bk_transport_set_protocol(&reader.transport, &buffered, &reader);
    put(0, 40);
    close_fd(1);
    RUN_UNTIL(pipe_loop, has_ended(&reader));
    expect(&reader, "data:16 data:16 data:8 eof lost closed ");
    end_pipe();
}
END_TEST

/* One read a turn, so that others get their turn. */
START_TEST(reads_once_a_turn)
{
    char *data = malloc(1 << 16);
    size_t total = 0;

    begin_reader(_i);
    fill_pattern(data, 1 << 16, 0);
    support_turns(pipe_loop, 1);
    for (int i = 0; i < 4; i++) {
        ssize_t n = write(pipe_fds[1], data + total, 1000);

        ck_assert_int_eq(n, 1000);
        total += 1000;
        support_turns(pipe_loop, 1);
        ck_assert_uint_eq(reader.received, total);
    }
    free(data);
    end_pipe();
}
END_TEST

/* -- files of other kinds -------------------------------------------------- */

static void
refuse(int fd, int code)
{
    init_end(&reader);
    ck_assert_int_eq(
        bk_transport_open_pipe_fd(&reader.transport, BK_PIPE_READ, fd), code);
    ck_assert_int_eq(fcntl(fd, F_GETFD), -1); /* taken all the same */
    bk_transport_release(&reader.transport);
}

START_TEST(regular_files_and_folders)
{
    char name[] = "/tmp/becket-pipe-XXXXXX";

    begin_pipe(_i);
    pipe_fds[0] = pipe_fds[1] = -1;
    refuse(mkostemp(name, O_CLOEXEC), -EOPNOTSUPP);
    ck_assert_int_eq(unlink(name), 0);
    refuse(open("/tmp", O_RDONLY | O_CLOEXEC), -EOPNOTSUPP);
    init_end(&reader);
    ck_assert_int_eq(
        bk_transport_open_pipe_fd(&reader.transport, BK_PIPE_READ, -1), -EBADF);
    bk_transport_release(&reader.transport);
    end_pipe();
}
END_TEST

START_TEST(fifos)
{
    char folder[] = "/tmp/becket-pipe-XXXXXX";
    char path[64];

    begin_pipe(_i);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/fifo", folder);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    pipe_fds[0] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    pipe_fds[1] = open(path, O_WRONLY | O_CLOEXEC); /* made non-blocking */
    open_end(&reader, 0);
    open_end(&writer, 1);
    ck_assert_int_ne(
        fcntl(bk_transport_fileno(&writer.transport), F_GETFL) & O_NONBLOCK, 0);
    write_pattern(0, 5);
    RUN_UNTIL(pipe_loop, reader.received == 5);
    bk_transport_close(&writer.transport);
    RUN_UNTIL(pipe_loop, has_ended(&reader));
    expect(&writer, "made lost closed ");
    expect(&reader, "made data:5 eof lost closed ");
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(rmdir(folder), 0);
    end_pipe();
}
END_TEST

/* epoll refuses it, and it never makes anybody wait. */
START_TEST(null_device)
{
    begin_pipe(_i);
    pipe_fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    pipe_fds[1] = open("/dev/null", O_WRONLY | O_CLOEXEC);
    open_end(&reader, 0);
    open_end(&writer, 1);
    write_pattern(0, 100000);
    ck_assert_uint_eq(bk_transport_get_write_buffer_size(&writer.transport), 0);
    RUN_UNTIL(pipe_loop, has_ended(&reader));
    expect(&reader, "made eof lost closed ");
    bk_transport_close(&writer.transport);
    RUN_UNTIL(pipe_loop, has_ended(&writer));
    expect(&writer, "made lost closed ");
    end_pipe();
}
END_TEST

static int zeros;

static void
count_zeros(bk_transport *transport, const void *data, size_t len, void *self)
{
    (void)data;
    (void)self;
    ck_assert_uint_gt(len, 0);
    if (++zeros == 3) {
        bk_transport_pause_reading(transport);
    }
}

START_TEST(zero_device)
{
    const bk_protocol counting = {.data_received = count_zeros,
                                  .on_closed = pipe_protocol.on_closed};

    begin_pipe(_i);
    zeros = 0;
    pipe_fds[0] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    pipe_fds[1] = -1;
    open_end(&reader, 0);
    bk_transport_set_protocol(&reader.transport, &counting, &reader);
    support_turns(pipe_loop, 10);
    ck_assert_int_eq(zeros, 3); /* one read a turn, until it is paused */
    bk_transport_resume_reading(&reader.transport);
    support_turns(pipe_loop, 2);
    ck_assert_int_ge(zeros, 4);
    bk_transport_close(&reader.transport);
    RUN_UNTIL(pipe_loop, has_ended(&reader));
    end_pipe();
}
END_TEST

static void
make_raw(int fd)
{
    struct termios settings;

    ck_assert_int_eq(tcgetattr(fd, &settings), 0);
    cfmakeraw(&settings);
    ck_assert_int_eq(tcsetattr(fd, TCSANOW, &settings), 0);
}

START_TEST(terminal_both_ways)
{
    char answer[16];

    begin_pipe(_i);
    file_closes = 0;
    ck_assert_int_eq(openpty(&pipe_fds[1], &pipe_fds[0], NULL, NULL, NULL), 0);
    make_raw(pipe_fds[0]);
    open_object(&reader, BK_PIPE_READ, &pipe_fds[0]);
    open_object(&writer, BK_PIPE_WRITE, &pipe_fds[0]);
    put(0, 8);
    RUN_UNTIL(pipe_loop, reader.received == 8);
    do_in_callback(pipe_loop, write_twice, NULL);
    ck_assert_int_eq(read(pipe_fds[1], answer, 10), 10);
    ck_assert_int_eq(read(pipe_fds[1], answer, 10), 10);
    ck_assert_int_eq(read(pipe_fds[1], answer, 10), 10);
    put(8, 8);
    RUN_UNTIL(pipe_loop, reader.received == 16);
    close_fd(1); /* the terminal's other side */
    RUN_UNTIL(pipe_loop, has_ended(&reader));
    ck_assert(reader.error == -EIO || reader.error == 0);
    ck_assert_int_eq(file_closes, 1);
    write_pattern(0, 1); /* whose object has closed the file */
    RUN_UNTIL(pipe_loop, has_ended(&writer));
    ck_assert_int_eq(writer.error, -EBADF);
    ck_assert_int_eq(file_closes, 2);
    end_pipe();
}
END_TEST

START_TEST(object_that_was_closed_early)
{
    begin_pipe(_i);
    ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    open_object(&writer, BK_PIPE_WRITE, &pipe_fds[1]);
    support_turns(pipe_loop, 1);
    close_fd(1);
    write_pattern(0, 10);
    RUN_UNTIL(pipe_loop, has_ended(&writer));
    ck_assert_int_eq(writer.error, -EBADF);
    end_pipe();
    begin_pipe(_i);
    pipe_fds[0] = pipe_fds[1] = -1;
    init_end(&reader);
    ck_assert_int_eq(bk_transport_open_pipe(&reader.transport, BK_PIPE_READ,
                                            &file_ops, &pipe_fds[0]),
                     -EBADF);
    end_pipe();
}
END_TEST

/* -- life ------------------------------------------------------------------ */

START_TEST(convenient_form)
{
    bk_transport *transport;

    begin_pipe(_i);
    ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    ck_assert_int_eq(bk_loop_connect_read_pipe(pipe_loop, &pipe_protocol,
                                               &reader, pipe_fds[0],
                                               &transport),
                     0);
    ck_assert_int_eq(bk_loop_connect_write_pipe(pipe_loop, &pipe_protocol,
                                                &writer, pipe_fds[1],
                                                &transport),
                     0);
    pipe_fds[0] = pipe_fds[1] = -1;
    ck_assert_int_eq(bk_transport_write(transport, "\0", 1), 0);
    bk_transport_close(transport);
    RUN_UNTIL(pipe_loop, strstr(reader.log, "lost") != NULL);
    expect(&writer, "made lost ");
    ck_assert_uint_eq(reader.received, 1);
    /* One that is left is released with the pipe_loop. */
    ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    ck_assert_int_eq(bk_loop_connect_read_pipe(pipe_loop, &pipe_protocol,
                                               &reader, pipe_fds[0],
                                               &transport),
                     0);
    pipe_fds[0] = -1;
    end_pipe();
}
END_TEST

START_TEST(arguments_are_checked)
{
    bk_transport *transport;

    begin_pipe(_i);
    ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    ck_assert_int_eq(bk_transport_open_pipe_fd(NULL, BK_PIPE_READ, -1),
                     -EINVAL);
    ck_assert_int_eq(
        bk_transport_open_pipe(NULL, BK_PIPE_READ, &file_ops, &pipe_fds[0]),
        -EINVAL);
    init_end(&reader);
    ck_assert_int_eq(bk_transport_open_pipe(&reader.transport, BK_PIPE_READ,
                                            NULL, &pipe_fds[0]),
                     -EINVAL);
    ck_assert_int_eq(bk_transport_open_pipe(&reader.transport, (bk_pipe_end)7,
                                            &file_ops, &pipe_fds[0]),
                     -EINVAL);
    ck_assert_int_eq(bk_loop_connect_read_pipe(NULL, &pipe_protocol, NULL,
                                               dup(pipe_fds[0]), &transport),
                     -EINVAL);
    ck_assert_int_eq(bk_loop_connect_read_pipe(pipe_loop, NULL, NULL,
                                               dup(pipe_fds[0]), &transport),
                     -EINVAL);
    ck_assert_int_eq(bk_loop_connect_read_pipe(pipe_loop, &pipe_protocol, NULL,
                                               -1, &transport),
                     -EBADF);
    ck_assert_int_eq(bk_loop_close(pipe_loop), 0);
    ck_assert_int_eq(bk_loop_connect_read_pipe(pipe_loop, &pipe_protocol, NULL,
                                               dup(pipe_fds[0]), &transport),
                     -EBADF);
    end_pipe();
}
END_TEST

/* Pipes are no connections; what they move counts. */
START_TEST(counters)
{
    bk_loop_stats stats;

    begin_reader(_i);
    open_end(&writer, 1);
    write_pattern(0, 50);
    RUN_UNTIL(pipe_loop, reader.received == 50);
    bk_loop_get_stats(pipe_loop, &stats);
    ck_assert_uint_eq(stats.connections_made, 0);
    ck_assert_uint_eq(stats.connections_open, 0);
    ck_assert_uint_eq(stats.bytes_received, 50);
    ck_assert_uint_eq(stats.bytes_sent, 50);
    end_pipe();
}
END_TEST

/* The queue is the parent's to write. */
START_TEST(forked_child_writes_nothing)
{
    size_t given;
    int status;
    pid_t pid;

    begin_writer(_i);
    given = fill_pipe();
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        bk_transport_flush(&writer.transport);
        bk_transport_close(&writer.transport);
        bk_transport_release(&writer.transport);
        bk_loop_free(pipe_loop);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    drain_pipe(given);
    end_pipe();
}
END_TEST

START_TEST(loop_is_closed_first)
{
    begin_reader(_i);
    open_end(&writer, 1);
    support_turns(pipe_loop, 1);
    ck_assert_int_eq(bk_loop_close(pipe_loop), 0);
    end_pipe();
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("test_pipe");
    TCase *tcase = new_pipe_case(suite, "pipe");

    ADD(tcase, reads_to_the_end);
    ADD(tcase, answer_does_not_matter);
    ADD(tcase, pause_and_resume);
    ADD(tcase, closed_by_us);
    ADD(tcase, is_not_written);
    ADD(tcase, reads_into_the_protocols_buffer);
    ADD(tcase, reads_once_a_turn);
    ADD(tcase, regular_files_and_folders);
    ADD(tcase, fifos);
    ADD(tcase, null_device);
    ADD(tcase, zero_device);
    ADD(tcase, terminal_both_ways);
    ADD(tcase, object_that_was_closed_early);
    ADD(tcase, convenient_form);
    ADD(tcase, arguments_are_checked);
    ADD(tcase, counters);
    ADD(tcase, forked_child_writes_nothing);
    ADD(tcase, loop_is_closed_first);
    return support_main(suite);
}
