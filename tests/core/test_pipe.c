/* test_pipe.c -- transports of one direction.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pty.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <termios.h>
#include <unistd.h>

#include "net_support.h"

#define BIG ((size_t)4 * 1024 * 1024)

static bk_loop *loop;

/* [0] is read and [1] written, as of pipe(2). -1: gone. */
static int fds[2];

/* What a transport was told, in words. */
struct end {
    bk_transport transport;
    char log[1024];
    size_t received;
    int error;
    int turn_of_data;
    void (*on_made)(struct end *end);
    void (*on_data)(struct end *end);
    void (*on_eof)(struct end *end);
    bool answer; /* of eof_received */
};

static struct end reader;
static struct end writer;

static void
note_end(struct end *end, const char *text)
{
    size_t len = strlen(end->log);

    ck_assert_uint_lt(len + strlen(text) + 2, sizeof(end->log));
    (void)snprintf(end->log + len, sizeof(end->log) - len, "%s ", text);
}

static void
on_made(bk_transport *transport, void *self)
{
    struct end *end = self;

    (void)transport;
    note_end(end, "made");
    if (end->on_made != NULL) {
        end->on_made(end);
    }
}

static void
on_data(bk_transport *transport, const void *data, size_t len, void *self)
{
    struct end *end = self;
    char text[32];

    (void)transport;
    ck_assert(is_pattern(data, len, end->received));
    end->received += len;
    (void)snprintf(text, sizeof(text), "data:%zu", len);
    if (strlen(end->log) < 900) {
        note_end(end, text);
    }
    if (end->on_data != NULL) {
        end->on_data(end);
    }
}

static bool
on_eof(bk_transport *transport, void *self)
{
    struct end *end = self;

    (void)transport;
    note_end(end, "eof");
    if (end->on_eof != NULL) {
        end->on_eof(end);
    }
    return end->answer;
}

static void
on_pause(bk_transport *transport, void *self)
{
    (void)transport;
    note_end(self, "pause");
}

static void
on_resume(bk_transport *transport, void *self)
{
    ck_assert_uint_eq(bk_transport_get_write_buffer_size(transport), 0);
    note_end(self, "resume");
}

static void
on_blocked(bk_transport *transport, void *self)
{
    (void)transport;
    note_end(self, "blocked");
}

static void
on_drained(bk_transport *transport, void *self)
{
    (void)transport;
    note_end(self, "drained");
}

static void
on_lost(bk_transport *transport, int error, void *self)
{
    struct end *end = self;

    (void)transport;
    end->error = error;
    note_end(end, "lost");
}

static void
on_closed(bk_transport *transport, void *self)
{
    (void)transport;
    note_end(self, "closed");
}

static const bk_protocol protocol = {
    .connection_made = on_made,
    .data_received = on_data,
    .eof_received = on_eof,
    .pause_writing = on_pause,
    .resume_writing = on_resume,
    .write_blocked = on_blocked,
    .write_drained = on_drained,
    .connection_lost = on_lost,
    .on_closed = on_closed,
};

static bool
has_ended(const struct end *end)
{
    return strstr(end->log, "closed") != NULL;
}

static void
expect(struct end *end, const char *log)
{
    ck_assert_str_eq(end->log, log);
    end->log[0] = '\0';
}

static void
begin(int poller)
{
    (void)signal(SIGPIPE, SIG_IGN);
    memset(&reader, 0, sizeof(reader));
    memset(&writer, 0, sizeof(writer));
    loop = support_new_loop(poller);
}

static void
close_fd(int i)
{
    ck_assert_int_eq(close(fds[i]), 0);
    fds[i] = -1;
}

static void
end(void)
{
    bk_transport_release(&reader.transport);
    bk_transport_release(&writer.transport);
    for (int i = 0; i < 2; i++) {
        if (fds[i] >= 0) {
            close_fd(i);
        }
    }
    support_free_loop(loop);
}

static void
init(struct end *end)
{
    ck_assert_int_eq(bk_transport_init(&end->transport, loop, &protocol, end),
                     0);
}

/* Start a transport over fds[i], which it takes. */
static void
open_end(struct end *end, int i)
{
    init(end);
    ck_assert_int_eq(
        bk_transport_open_pipe_fd(
            &end->transport, i == 0 ? BK_PIPE_READ : BK_PIPE_WRITE, fds[i]),
        0);
    fds[i] = -1;
    ck_assert_int_eq(bk_transport_start(&end->transport), 0);
}

static void
begin_reader(int poller)
{
    begin(poller);
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    open_end(&reader, 0);
}

static void
begin_writer(int poller)
{
    begin(poller);
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    open_end(&writer, 1);
    support_turns(loop, 1);
    expect(&writer, "made ");
}

static void
put(size_t offset, size_t len)
{
    char data[1024];

    ck_assert_uint_le(len, sizeof(data));
    fill_pattern(data, len, offset);
    ck_assert_int_eq(write(fds[1], data, len), (ssize_t)len);
}

/* What is there to read, checked; up to len bytes. */
static size_t
get(size_t offset, size_t len)
{
    static char data[1 << 16];
    ssize_t n = read(fds[0], data, len < sizeof(data) ? len : sizeof(data));

    if (n < 0) {
        ck_assert_int_eq(errno, EAGAIN);
        return 0;
    }
    ck_assert(is_pattern(data, (size_t)n, offset));
    return (size_t)n;
}

static void
write_pattern(size_t offset, size_t len)
{
    char *data = malloc(len + 1);

    fill_pattern(data, len, offset);
    ck_assert_int_eq(bk_transport_write(&writer.transport, data, len), 0);
    free(data);
}

/* -- reading --------------------------------------------------------------- */

START_TEST(reads_to_the_end)
{
    begin_reader(_i);
    put(0, 5);
    support_turns(loop, 1);
    expect(&reader, "made ");
    support_turns(loop, 1);
    expect(&reader, "data:5 ");
    put(5, 100);
    close_fd(1);
    RUN_UNTIL(loop, has_ended(&reader));
    expect(&reader, "data:100 eof lost closed ");
    ck_assert_int_eq(reader.error, 0);
    end();
}
END_TEST

/* eof_received cannot keep it open, as it would a connection. */
START_TEST(answer_does_not_matter)
{
    begin_reader(_i);
    reader.answer = true;
    close_fd(1);
    RUN_UNTIL(loop, has_ended(&reader));
    expect(&reader, "made eof lost closed ");
    end();
}
END_TEST

static void
pause_it(struct end *end)
{
    bk_transport_pause_reading(&end->transport);
}

START_TEST(pause_and_resume)
{
    begin_reader(_i);
    reader.on_made = pause_it;
    put(0, 10);
    support_turns(loop, 3);
    expect(&reader, "made ");
    ck_assert(!bk_transport_is_reading(&reader.transport));
    bk_transport_resume_reading(&reader.transport);
    ck_assert(bk_transport_is_reading(&reader.transport));
    reader.on_data = pause_it;
    support_turns(loop, 1);
    expect(&reader, "data:10 ");
    close_fd(1);
    support_turns(loop, 3);
    expect(&reader, "");
    bk_transport_resume_reading(&reader.transport);
    RUN_UNTIL(loop, has_ended(&reader));
    expect(&reader, "eof lost closed ");
    end();
}
END_TEST

START_TEST(closed_by_us)
{
    begin_reader(_i);
    put(0, 10);
    support_turns(loop, 1);
    bk_transport_close(&reader.transport);
    ck_assert(bk_transport_is_closing(&reader.transport));
    bk_transport_close(&reader.transport);
    bk_transport_pause_reading(&reader.transport);
    bk_transport_resume_reading(&reader.transport);
    RUN_UNTIL(loop, has_ended(&reader));
    expect(&reader, "made lost closed ");
    ck_assert_int_eq(write(fds[1], "x", 1), -1);
    ck_assert_int_eq(errno, EPIPE);
    end();
}
END_TEST

START_TEST(is_not_written)
{
    begin_reader(_i);
    ck_assert_int_eq(bk_transport_write(&reader.transport, "x", 1), -EBADF);
    ck_assert_int_eq(bk_transport_write_eof(&reader.transport), 0);
    ck_assert_uint_eq(bk_transport_get_write_buffer_size(&reader.transport), 0);
    put(0, 1);
    support_turns(loop, 2);
    expect(&reader, "made data:1 ");
    end();
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
    on_data(transport, own_buffer, len, self);
}

START_TEST(reads_into_the_protocols_buffer)
{
    static const bk_protocol buffered = {
        .get_buffer = get_buffer,
        .buffer_updated = buffer_updated,
        .eof_received = on_eof,
        .connection_lost = on_lost,
        .on_closed = on_closed,
    };

    begin_reader(_i);
    bk_transport_set_protocol(&reader.transport, &buffered, &reader);
    put(0, 40);
    close_fd(1);
    RUN_UNTIL(loop, has_ended(&reader));
    expect(&reader, "data:16 data:16 data:8 eof lost closed ");
    end();
}
END_TEST

/* One read a turn, so that others get their turn. */
START_TEST(reads_once_a_turn)
{
    char *data = malloc(1 << 16);
    size_t total = 0;

    begin_reader(_i);
    fill_pattern(data, 1 << 16, 0);
    support_turns(loop, 1);
    for (int i = 0; i < 4; i++) {
        ssize_t n = write(fds[1], data + total, 1000);

        ck_assert_int_eq(n, 1000);
        total += 1000;
        support_turns(loop, 1);
        ck_assert_uint_eq(reader.received, total);
    }
    free(data);
    end();
}
END_TEST

/* -- writing --------------------------------------------------------------- */

START_TEST(writes)
{
    begin_writer(_i);
    write_pattern(0, 100);
    ck_assert_uint_eq(get(0, 200), 100);
    bk_transport_close(&writer.transport);
    RUN_UNTIL(loop, has_ended(&writer));
    expect(&writer, "lost closed ");
    ck_assert_int_eq(writer.error, 0);
    ck_assert_uint_eq(get(0, 1), 0); /* the end */
    ck_assert(!bk_transport_is_reading(&writer.transport));
    end();
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
    do_in_callback(loop, write_three, NULL);
    ck_assert_uint_eq(get(0, 1000), 60);
    end();
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
    ck_assert_int_eq(fcntl(fds[0], F_SETPIPE_SZ, 4 * PIPE_BUF), 4 * PIPE_BUF);
    memset(fill, 'f', sizeof(fill));
    ck_assert_int_eq(
        bk_transport_set_write_buffer_limits(&writer.transport, BIG, 0), 0);
    do_in_callback(loop, write_lines, NULL);
    /* Each page that is read makes room for some lines, and never for a part
     * of one: what is in the pipe is a whole number of them. */
    for (int i = 0; i < 200 && got < 40000; i++) {
        int queued = 0;

        ck_assert_int_eq(ioctl(fds[0], FIONREAD, &queued), 0);
        ck_assert_uint_eq((got + (size_t)queued) % 1000, 0);
        room = get(got, 700);
        got += room;
        support_turns(loop, 2);
    }
    ck_assert_uint_eq(got, 40000);
    end();
}
END_TEST

static void
write_twice(void *arg)
{
    (void)arg;
    write_pattern(0, 10);
    write_pattern(10, 20);
}

/* Each write is a packet of its own. */
static void
expect_two_packets(void)
{
    do_in_callback(loop, write_twice, NULL);
    ck_assert_uint_eq(get(0, 1000), 10);
    ck_assert_uint_eq(get(10, 1000), 20);
}

START_TEST(packets_keep_their_boundaries)
{
    begin(_i);
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK | O_DIRECT), 0);
    open_end(&writer, 1);
    support_turns(loop, 1);
    expect_two_packets();
    end();
}
END_TEST

static void
begin_with_socket(int poller, int type)
{
    begin(poller);
    ck_assert_int_eq(
        socketpair(AF_UNIX, type | SOCK_CLOEXEC | SOCK_NONBLOCK, 0, fds), 0);
    open_end(&writer, 1);
    support_turns(loop, 1);
    expect(&writer, "made ");
}

START_TEST(sockets_are_pipes_too)
{
    begin_with_socket(_i, SOCK_SEQPACKET);
    expect_two_packets();
    end();
    begin_with_socket(_i, SOCK_DGRAM);
    expect_two_packets();
    end();
    begin_with_socket(_i, SOCK_STREAM);
    do_in_callback(loop, write_twice, NULL);
    ck_assert_uint_eq(get(0, 1000), 30);
    close_fd(0);
    RUN_UNTIL(loop, has_ended(&writer));
    expect(&writer, "eof lost closed ");
    end();
    begin(_i);
    support_pair(fds);
    open_end(&reader, 0);
    put(0, 7);
    close_fd(1);
    RUN_UNTIL(loop, has_ended(&reader));
    expect(&reader, "made data:7 eof lost closed ");
    end();
}
END_TEST

static size_t
write_until_paused(void)
{
    size_t given = 0;

    while (strstr(writer.log, "pause") == NULL) {
        write_pattern(given, 50000);
        given += 50000;
        ck_assert_uint_lt(given, BIG);
    }
    return given;
}

static void
drain(size_t len)
{
    size_t got = 0;

    for (int i = 0; i < 100000 && got < len; i++) {
        got += get(got, 5000);
        support_turns(loop, 1);
    }
    ck_assert_uint_eq(got, len);
}

/* resume_writing waits for all of it; on_resume looks. */
START_TEST(flow_control)
{
    size_t given;

    begin_writer(_i);
    given = write_until_paused();
    expect(&writer, "blocked pause ");
    drain(given);
    support_turns(loop, 2);
    expect(&writer, "resume drained ");
    end();
}
END_TEST

START_TEST(close_writes_the_rest)
{
    size_t given;

    begin_writer(_i);
    given = write_until_paused();
    bk_transport_close(&writer.transport);
    ck_assert(bk_transport_is_closing(&writer.transport));
    ck_assert(!bk_transport_is_lost(&writer.transport));
    write_pattern(0, 10); /* dropped */
    expect(&writer, "blocked pause ");
    drain(given);
    RUN_UNTIL(loop, has_ended(&writer));
    expect(&writer, "resume lost closed ");
    ck_assert_int_eq(writer.error, 0);
    ck_assert_uint_eq(get(0, 1), 0);
    end();
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
    RUN_UNTIL(loop, has_ended(&writer));
    expect(&writer, "lost closed ");
    ck_assert_uint_eq(get(0, 100), 10);
    end();
}
END_TEST

START_TEST(abort_drops_the_rest)
{
    begin_writer(_i);
    (void)write_until_paused();
    bk_transport_abort(&writer.transport, -ETIMEDOUT);
    RUN_UNTIL(loop, has_ended(&writer));
    expect(&writer, "blocked pause lost closed ");
    ck_assert_int_eq(writer.error, -ETIMEDOUT);
    end();
}
END_TEST

START_TEST(nobody_reads_any_more)
{
    begin_writer(_i);
    close_fd(0);
    RUN_UNTIL(loop, has_ended(&writer));
    expect(&writer, "eof lost closed ");
    ck_assert_int_eq(writer.error, 0);
    end();
    begin_writer(_i);
    (void)write_until_paused();
    close_fd(0);
    RUN_UNTIL(loop, has_ended(&writer));
    expect(&writer, "blocked pause eof lost closed ");
    ck_assert_int_eq(writer.error, -EPIPE);
    end();
    begin_writer(_i);
    (void)write_until_paused();
    bk_transport_close(&writer.transport);
    close_fd(0);
    RUN_UNTIL(loop, has_ended(&writer));
    expect(&writer, "blocked pause eof lost closed ");
    ck_assert_int_eq(writer.error, -EPIPE);
    end();
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
    RUN_UNTIL(loop, has_ended(&writer));
    expect(&writer, "lost closed ");
    ck_assert_int_eq(writer.error, -EPIPE);
    end();
}
END_TEST

static void
close_it(struct end *end)
{
    bk_transport_close(&end->transport);
}

static void
release_it(struct end *end)
{
    bk_transport_release(&end->transport);
}

START_TEST(ended_inside_eof)
{
    begin_writer(_i);
    writer.on_eof = close_it;
    close_fd(0);
    RUN_UNTIL(loop, has_ended(&writer));
    expect(&writer, "eof lost closed ");
    end();
    begin_writer(_i);
    writer.on_eof = release_it;
    close_fd(0);
    RUN_UNTIL(loop, writer.log[0] != '\0');
    support_turns(loop, 2);
    expect(&writer, "eof ");
    end();
    begin_reader(_i);
    reader.on_eof = release_it;
    close_fd(1);
    RUN_UNTIL(loop, strstr(reader.log, "eof") != NULL);
    support_turns(loop, 2);
    expect(&reader, "made eof ");
    end();
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
    drain(sizeof(data));
    ck_assert_int_eq(released, 2);
    end();
    ck_assert_int_eq(released, 2);
}
END_TEST

/* -- files of other kinds -------------------------------------------------- */

static void
refuse(int fd, int code)
{
    init(&reader);
    ck_assert_int_eq(
        bk_transport_open_pipe_fd(&reader.transport, BK_PIPE_READ, fd), code);
    ck_assert_int_eq(fcntl(fd, F_GETFD), -1); /* taken all the same */
    bk_transport_release(&reader.transport);
}

START_TEST(regular_files_and_folders)
{
    char name[] = "/tmp/becket-pipe-XXXXXX";

    begin(_i);
    fds[0] = fds[1] = -1;
    refuse(mkostemp(name, O_CLOEXEC), -EOPNOTSUPP);
    ck_assert_int_eq(unlink(name), 0);
    refuse(open("/tmp", O_RDONLY | O_CLOEXEC), -EOPNOTSUPP);
    init(&reader);
    ck_assert_int_eq(
        bk_transport_open_pipe_fd(&reader.transport, BK_PIPE_READ, -1), -EBADF);
    bk_transport_release(&reader.transport);
    end();
}
END_TEST

START_TEST(fifos)
{
    char folder[] = "/tmp/becket-pipe-XXXXXX";
    char path[64];

    begin(_i);
    ck_assert_ptr_nonnull(mkdtemp(folder));
    (void)snprintf(path, sizeof(path), "%s/fifo", folder);
    ck_assert_int_eq(mkfifo(path, 0600), 0);
    fds[0] = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    fds[1] = open(path, O_WRONLY | O_CLOEXEC); /* made non-blocking */
    open_end(&reader, 0);
    open_end(&writer, 1);
    ck_assert_int_ne(
        fcntl(bk_transport_fileno(&writer.transport), F_GETFL) & O_NONBLOCK, 0);
    write_pattern(0, 5);
    RUN_UNTIL(loop, reader.received == 5);
    bk_transport_close(&writer.transport);
    RUN_UNTIL(loop, has_ended(&reader));
    expect(&writer, "made lost closed ");
    expect(&reader, "made data:5 eof lost closed ");
    ck_assert_int_eq(unlink(path), 0);
    ck_assert_int_eq(rmdir(folder), 0);
    end();
}
END_TEST

/* epoll refuses it, and it never makes anybody wait. */
START_TEST(null_device)
{
    begin(_i);
    fds[0] = open("/dev/null", O_RDONLY | O_CLOEXEC);
    fds[1] = open("/dev/null", O_WRONLY | O_CLOEXEC);
    open_end(&reader, 0);
    open_end(&writer, 1);
    write_pattern(0, 100000);
    ck_assert_uint_eq(bk_transport_get_write_buffer_size(&writer.transport), 0);
    RUN_UNTIL(loop, has_ended(&reader));
    expect(&reader, "made eof lost closed ");
    bk_transport_close(&writer.transport);
    RUN_UNTIL(loop, has_ended(&writer));
    expect(&writer, "made lost closed ");
    end();
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
    static const bk_protocol counting = {.data_received = count_zeros,
                                         .on_closed = on_closed};

    begin(_i);
    zeros = 0;
    fds[0] = open("/dev/zero", O_RDONLY | O_CLOEXEC);
    fds[1] = -1;
    open_end(&reader, 0);
    bk_transport_set_protocol(&reader.transport, &counting, &reader);
    support_turns(loop, 10);
    ck_assert_int_eq(zeros, 3); /* one read a turn, until it is paused */
    bk_transport_resume_reading(&reader.transport);
    support_turns(loop, 2);
    ck_assert_int_ge(zeros, 4);
    bk_transport_close(&reader.transport);
    RUN_UNTIL(loop, has_ended(&reader));
    end();
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

/* One terminal, under one number, read by one transport and written by
 * another: an object holds the fd. */
static int file_closes;

static int
file_fileno(void *self)
{
    return *(int *)self;
}

static void
file_close(void *self)
{
    int *fd = self;

    file_closes++;
    if (*fd >= 0) {
        ck_assert_int_eq(close(*fd), 0);
        *fd = -1;
    }
}

static const bk_socket_ops file_ops = {file_fileno, file_close};

static void
open_object(struct end *end, bk_pipe_end which, int *fd)
{
    init(end);
    ck_assert_int_eq(
        bk_transport_open_pipe(&end->transport, which, &file_ops, fd), 0);
    ck_assert_int_eq(bk_transport_start(&end->transport), 0);
}

START_TEST(terminal_both_ways)
{
    char answer[16];

    begin(_i);
    file_closes = 0;
    ck_assert_int_eq(openpty(&fds[1], &fds[0], NULL, NULL, NULL), 0);
    make_raw(fds[0]);
    open_object(&reader, BK_PIPE_READ, &fds[0]);
    open_object(&writer, BK_PIPE_WRITE, &fds[0]);
    put(0, 8);
    RUN_UNTIL(loop, reader.received == 8);
    do_in_callback(loop, write_twice, NULL);
    ck_assert_int_eq(read(fds[1], answer, 10), 10);
    ck_assert_int_eq(read(fds[1], answer, 10), 10);
    ck_assert_int_eq(read(fds[1], answer, 10), 10);
    put(8, 8);
    RUN_UNTIL(loop, reader.received == 16);
    close_fd(1); /* the terminal's other side */
    RUN_UNTIL(loop, has_ended(&reader));
    ck_assert(reader.error == -EIO || reader.error == 0);
    ck_assert_int_eq(file_closes, 1);
    write_pattern(0, 1); /* whose object has closed the file */
    RUN_UNTIL(loop, has_ended(&writer));
    ck_assert_int_eq(writer.error, -EBADF);
    ck_assert_int_eq(file_closes, 2);
    end();
}
END_TEST

START_TEST(object_that_was_closed_early)
{
    begin(_i);
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    open_object(&writer, BK_PIPE_WRITE, &fds[1]);
    support_turns(loop, 1);
    close_fd(1);
    write_pattern(0, 10);
    RUN_UNTIL(loop, has_ended(&writer));
    ck_assert_int_eq(writer.error, -EBADF);
    end();
    begin(_i);
    fds[0] = fds[1] = -1;
    init(&reader);
    ck_assert_int_eq(bk_transport_open_pipe(&reader.transport, BK_PIPE_READ,
                                            &file_ops, &fds[0]),
                     -EBADF);
    end();
}
END_TEST

/* -- life ------------------------------------------------------------------ */

START_TEST(convenient_form)
{
    bk_transport *transport;

    begin(_i);
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    ck_assert_int_eq(
        bk_loop_connect_read_pipe(loop, &protocol, &reader, fds[0], &transport),
        0);
    ck_assert_int_eq(bk_loop_connect_write_pipe(loop, &protocol, &writer,
                                                fds[1], &transport),
                     0);
    fds[0] = fds[1] = -1;
    ck_assert_int_eq(bk_transport_write(transport, "\0", 1), 0);
    bk_transport_close(transport);
    RUN_UNTIL(loop, strstr(reader.log, "lost") != NULL);
    expect(&writer, "made lost ");
    ck_assert_uint_eq(reader.received, 1);
    /* One that is left is released with the loop. */
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    ck_assert_int_eq(
        bk_loop_connect_read_pipe(loop, &protocol, &reader, fds[0], &transport),
        0);
    fds[0] = -1;
    end();
}
END_TEST

START_TEST(arguments_are_checked)
{
    bk_transport *transport;

    begin(_i);
    ck_assert_int_eq(pipe2(fds, O_CLOEXEC | O_NONBLOCK), 0);
    ck_assert_int_eq(bk_transport_open_pipe_fd(NULL, BK_PIPE_READ, -1),
                     -EINVAL);
    ck_assert_int_eq(
        bk_transport_open_pipe(NULL, BK_PIPE_READ, &file_ops, &fds[0]),
        -EINVAL);
    init(&reader);
    ck_assert_int_eq(
        bk_transport_open_pipe(&reader.transport, BK_PIPE_READ, NULL, &fds[0]),
        -EINVAL);
    ck_assert_int_eq(bk_transport_open_pipe(&reader.transport, (bk_pipe_end)7,
                                            &file_ops, &fds[0]),
                     -EINVAL);
    ck_assert_int_eq(bk_loop_connect_read_pipe(NULL, &protocol, NULL,
                                               dup(fds[0]), &transport),
                     -EINVAL);
    ck_assert_int_eq(
        bk_loop_connect_read_pipe(loop, NULL, NULL, dup(fds[0]), &transport),
        -EINVAL);
    ck_assert_int_eq(
        bk_loop_connect_read_pipe(loop, &protocol, NULL, -1, &transport),
        -EBADF);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    ck_assert_int_eq(bk_loop_connect_read_pipe(loop, &protocol, NULL,
                                               dup(fds[0]), &transport),
                     -EBADF);
    end();
}
END_TEST

/* Pipes are no connections; what they move counts. */
START_TEST(counters)
{
    bk_loop_stats stats;

    begin_reader(_i);
    open_end(&writer, 1);
    write_pattern(0, 50);
    RUN_UNTIL(loop, reader.received == 50);
    bk_loop_get_stats(loop, &stats);
    ck_assert_uint_eq(stats.connections_made, 0);
    ck_assert_uint_eq(stats.connections_open, 0);
    ck_assert_uint_eq(stats.bytes_received, 50);
    ck_assert_uint_eq(stats.bytes_sent, 50);
    end();
}
END_TEST

/* The queue is the parent's to write. */
START_TEST(forked_child_writes_nothing)
{
    size_t given;
    int status;
    pid_t pid;

    begin_writer(_i);
    given = write_until_paused();
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        bk_transport_flush(&writer.transport);
        bk_transport_close(&writer.transport);
        bk_transport_release(&writer.transport);
        bk_loop_free(loop);
        _exit(0);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert_int_eq(status, 0);
    drain(given);
    end();
}
END_TEST

START_TEST(loop_is_closed_first)
{
    begin_reader(_i);
    open_end(&writer, 1);
    support_turns(loop, 1);
    ck_assert_int_eq(bk_loop_close(loop), 0);
    end();
}
END_TEST

#define ADD(test) tcase_add_loop_test(tcase, test, 0, SUPPORT_POLLERS)

static void
add_tests(TCase *tcase)
{
    ADD(reads_to_the_end);
    ADD(answer_does_not_matter);
    ADD(pause_and_resume);
    ADD(closed_by_us);
    ADD(is_not_written);
    ADD(reads_into_the_protocols_buffer);
    ADD(reads_once_a_turn);
    ADD(writes);
    ADD(writes_of_a_callback_leave_together);
    ADD(lines_are_not_torn);
    ADD(packets_keep_their_boundaries);
    ADD(sockets_are_pipes_too);
    ADD(flow_control);
    ADD(close_writes_the_rest);
    ADD(write_eof_is_close);
    ADD(abort_drops_the_rest);
    ADD(nobody_reads_any_more);
    ADD(write_to_nobody);
    ADD(ended_inside_eof);
    ADD(lent_data_comes_back);
    ADD(regular_files_and_folders);
    ADD(fifos);
    ADD(null_device);
    ADD(zero_device);
    ADD(terminal_both_ways);
    ADD(object_that_was_closed_early);
    ADD(convenient_form);
    ADD(arguments_are_checked);
    ADD(counters);
    ADD(forked_child_writes_nothing);
    ADD(loop_is_closed_first);
}

int
main(void)
{
    Suite *suite = suite_create("test_pipe");
    TCase *tcase = tcase_create("pipe");

    add_tests(tcase);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
