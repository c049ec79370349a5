/* pipe_support.c -- recorded ends of pipes, for the tests of pipes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "pipe_support.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

bk_loop *pipe_loop;

int pipe_fds[2];

struct pipe_end reader;
struct pipe_end writer;

static void
note_end(struct pipe_end *end, const char *text)
{
    size_t len = strlen(end->log);

    ck_assert_uint_lt(len + strlen(text) + 2, sizeof(end->log));
    (void)snprintf(end->log + len, sizeof(end->log) - len, "%s ", text);
}

static void
on_made(bk_transport *transport, void *self)
{
    struct pipe_end *end = self;

    (void)transport;
    note_end(end, "made");
    if (end->on_made != NULL) {
        end->on_made(end);
    }
}

static void
on_data(bk_transport *transport, const void *data, size_t len, void *self)
{
    struct pipe_end *end = self;
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
    struct pipe_end *end = self;

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
    struct pipe_end *end = self;

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

const bk_protocol pipe_protocol = {
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

bool
has_ended(const struct pipe_end *end)
{
    return strstr(end->log, "closed") != NULL;
}

void
expect(struct pipe_end *end, const char *log)
{
    ck_assert_str_eq(end->log, log);
    end->log[0] = '\0';
}

void
begin_pipe(int poller)
{
    (void)signal(SIGPIPE, SIG_IGN);
    memset(&reader, 0, sizeof(reader));
    memset(&writer, 0, sizeof(writer));
    pipe_loop = support_new_loop(poller);
}

void
close_fd(int i)
{
    ck_assert_int_eq(close(pipe_fds[i]), 0);
    pipe_fds[i] = -1;
}

void
end_pipe(void)
{
    bk_transport_release(&reader.transport);
    bk_transport_release(&writer.transport);
    for (int i = 0; i < 2; i++) {
        if (pipe_fds[i] >= 0) {
            close_fd(i);
        }
    }
    support_free_loop(pipe_loop);
}

void
init_end(struct pipe_end *end)
{
    ck_assert_int_eq(
        bk_transport_init(&end->transport, pipe_loop, &pipe_protocol, end), 0);
}

/* Start a transport over pipe_fds[i], which it takes. */
void
open_end(struct pipe_end *end, int i)
{
    init_end(end);
    ck_assert_int_eq(bk_transport_open_pipe_fd(
                         &end->transport, i == 0 ? BK_PIPE_READ : BK_PIPE_WRITE,
                         pipe_fds[i]),
                     0);
    pipe_fds[i] = -1;
    ck_assert_int_eq(bk_transport_start(&end->transport), 0);
}

void
begin_reader(int poller)
{
    begin_pipe(poller);
    ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    open_end(&reader, 0);
}

void
begin_writer(int poller)
{
    begin_pipe(poller);
    ck_assert_int_eq(pipe2(pipe_fds, O_CLOEXEC | O_NONBLOCK), 0);
    open_end(&writer, 1);
    support_turns(pipe_loop, 1);
    expect(&writer, "made ");
}

void
put(size_t offset, size_t len)
{
    char data[1024];

    ck_assert_uint_le(len, sizeof(data));
    fill_pattern(data, len, offset);
    ck_assert_int_eq(write(pipe_fds[1], data, len), (ssize_t)len);
}

/* What is there to read, checked; up to len bytes. */
size_t
get(size_t offset, size_t len)
{
    static char data[1 << 16];
    ssize_t n =
        read(pipe_fds[0], data, len < sizeof(data) ? len : sizeof(data));

    if (n < 0) {
        ck_assert_int_eq(errno, EAGAIN);
        return 0;
    }
    ck_assert(is_pattern(data, (size_t)n, offset));
    return (size_t)n;
}

void
write_pattern(size_t offset, size_t len)
{
    char *data = malloc(len + 1);

    fill_pattern(data, len, offset);
    ck_assert_int_eq(bk_transport_write(&writer.transport, data, len), 0);
    free(data);
}

size_t
fill_pipe(void)
{
    size_t given = 0;

    while (strstr(writer.log, "pause") == NULL) {
        write_pattern(given, 50000);
        given += 50000;
        ck_assert_uint_lt(given, PIPE_BIG);
    }
    return given;
}

void
drain_pipe(size_t len)
{
    size_t got = 0;

    for (int i = 0; i < 100000 && got < len; i++) {
        got += get(got, 5000);
        support_turns(pipe_loop, 1);
    }
    ck_assert_uint_eq(got, len);
}

void
write_twice(void *arg)
{
    (void)arg;
    write_pattern(0, 10);
    write_pattern(10, 20);
}

void
close_it(struct pipe_end *end)
{
    bk_transport_close(&end->transport);
}

void
release_it(struct pipe_end *end)
{
    bk_transport_release(&end->transport);
}

int file_closes;

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

const bk_socket_ops file_ops = {file_fileno, file_close};

void
open_object(struct pipe_end *end, bk_pipe_end which, int *fd)
{
    init_end(end);
    ck_assert_int_eq(
        bk_transport_open_pipe(&end->transport, which, &file_ops, fd), 0);
    ck_assert_int_eq(bk_transport_start(&end->transport), 0);
}

TCase *
new_pipe_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    suite_add_tcase(suite, tcase);
    return tcase;
}
