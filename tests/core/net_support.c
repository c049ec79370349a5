/* net_support.c -- what the tests of src/net share.
 *
 * SPDX-License-Identifier: MIT
 */
#include "net_support.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

/* No wait takes as long as this, unless it hangs. */
#define PATIENCE_MS 10000

static int threads_before;

static int
count_threads(void)
{
    DIR *folder = opendir("/proc/self/task");
    int count = 0;

    ck_assert_ptr_nonnull(folder);
    while (readdir(folder) != NULL) {
        count++;
    }
    ck_assert_int_eq(closedir(folder), 0);
    return count;
}

bk_loop *
new_threaded_loop(int poller)
{
    bk_loop *loop = support_new_loop(poller);

    threads_before = count_threads();
#ifdef __SANITIZE_THREAD__
    /* ThreadSanitizer makes one of its own along with our first. */
    threads_before++;
#endif
    return loop;
}

void
await_threads(void)
{
    uint64_t deadline_ns = bk_clock_now() + 10 * S;

    while (count_threads() > threads_before) {
        ck_assert(bk_clock_now() < deadline_ns);
        (void)usleep(100);
    }
}

void
free_threaded_loop(bk_loop *loop)
{
    bk_loop_free(loop);
    await_threads();
    support_leaks_end();
}

void
tcp_pair(int fds[2])
{
    struct sockaddr_in address = {.sin_family = AF_INET,
                                  .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t len = sizeof(address);
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);

    ck_assert_int_ge(listener, 0);
    ck_assert_int_eq(bind(listener, (struct sockaddr *)&address, len), 0);
    ck_assert_int_eq(listen(listener, 1), 0);
    ck_assert_int_eq(getsockname(listener, (struct sockaddr *)&address, &len),
                     0);
    fds[0] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    ck_assert_int_eq(connect(fds[0], (struct sockaddr *)&address, len), 0);
    fds[1] = accept4(listener, NULL, NULL, SOCK_CLOEXEC | SOCK_NONBLOCK);
    ck_assert_int_ge(fds[1], 0);
    ck_assert_int_eq(fcntl(fds[0], F_SETFL, O_NONBLOCK), 0);
    ck_assert_int_eq(close(listener), 0);
}

void
reset_fd(int fd)
{
    struct linger linger = {.l_onoff = 1, .l_linger = 0};

    ck_assert_int_eq(
        setsockopt(fd, SOL_SOCKET, SO_LINGER, &linger, sizeof(linger)), 0);
    ck_assert_int_eq(close(fd), 0);
}

size_t
recv_some(int fd, void *buf, size_t len)
{
    ssize_t n = recv(fd, buf, len, MSG_DONTWAIT);

    ck_assert(n >= 0 || errno == EAGAIN);
    return n < 0 ? 0 : (size_t)n;
}

size_t
recv_all(int fd, void *buf, size_t len)
{
    size_t got = 0;

    while (got < len) {
        struct pollfd wanted = {.fd = fd, .events = POLLIN};
        ssize_t n;

        ck_assert_int_eq(poll(&wanted, 1, PATIENCE_MS), 1);
        n = recv(fd, (char *)buf + got, len - got, 0);
        ck_assert_int_ge(n, 0);
        if (n == 0) {
            break;
        }
        got += (size_t)n;
    }
    return got;
}

void
send_all(int fd, const void *data, size_t len)
{
    size_t sent = 0;

    while (sent < len) {
        struct pollfd wanted = {.fd = fd, .events = POLLOUT};
        ssize_t n;

        ck_assert_int_eq(poll(&wanted, 1, PATIENCE_MS), 1);
        n = send(fd, (const char *)data + sent, len - sent, MSG_NOSIGNAL);
        ck_assert_int_gt(n, 0);
        sent += (size_t)n;
    }
}

/* 251 is prime, so that no power of two lines up with it. */
void
fill_pattern(char *buf, size_t len, size_t offset)
{
    for (size_t i = 0; i < len; i++) {
        buf[i] = (char)((offset + i) % 251);
    }
}

bool
is_pattern(const char *buf, size_t len, size_t offset)
{
    for (size_t i = 0; i < len; i++) {
        if (buf[i] != (char)((offset + i) % 251)) {
            return false;
        }
    }
    return true;
}

void
note(struct recorder *recorder, const char *text)
{
    size_t len = strlen(recorder->log);

    (void)snprintf(recorder->log + len, sizeof(recorder->log) - len, "%s ",
                   text);
}

static void
recorder_on_made(bk_transport *transport, void *self)
{
    struct recorder *recorder = self;

    ck_assert_ptr_eq(transport, &recorder->transport);
    note(recorder, "made");
    if (recorder->on_made != NULL) {
        recorder->on_made(recorder);
    }
}

static void
recorder_on_data(bk_transport *transport, const void *data, size_t len,
                 void *self)
{
    struct recorder *recorder = self;
    char text[32];

    (void)transport;
    ck_assert_uint_gt(len, 0);
    (void)snprintf(text, sizeof(text), "data:%zu", len);
    note(recorder, text);
    if (recorder->data_count < 64) {
        recorder->data_turns[recorder->data_count++] = recorder->turn;
    }
    if (recorder->buffer != NULL) {
        memcpy(recorder->buffer + recorder->received, data, len);
    }
    recorder->received += len;
    if (recorder->on_data != NULL) {
        recorder->on_data(recorder, data, len);
    }
}

static bool
recorder_on_eof(bk_transport *transport, void *self)
{
    struct recorder *recorder = self;

    (void)transport;
    note(recorder, "eof");
    if (recorder->on_eof != NULL) {
        recorder->on_eof(recorder);
    }
    return recorder->keeps_open;
}

static void
recorder_on_pause(bk_transport *transport, void *self)
{
    struct recorder *recorder = self;

    (void)transport;
    note(recorder, "pause");
    ck_assert_int_eq(recorder->pauses, recorder->resumes);
    recorder->pauses++;
    if (recorder->on_pause != NULL) {
        recorder->on_pause(recorder);
    }
}

static void
recorder_on_resume(bk_transport *transport, void *self)
{
    struct recorder *recorder = self;

    (void)transport;
    note(recorder, "resume");
    recorder->resumes++;
    ck_assert_int_eq(recorder->pauses, recorder->resumes);
    if (recorder->on_resume != NULL) {
        recorder->on_resume(recorder);
    }
}

static void
recorder_on_lost(bk_transport *transport, int error, void *self)
{
    struct recorder *recorder = self;
    char text[32];

    ck_assert(error == -EBADF || bk_transport_fileno(transport) >= 0);
    (void)snprintf(text, sizeof(text), "lost:%s",
                   error == 0 ? "0" : bk_err_name(error));
    note(recorder, text);
    recorder->lost_count++;
    recorder->lost_error = error;
    if (recorder->on_lost != NULL) {
        recorder->on_lost(recorder);
    }
}

static void
recorder_on_closed(bk_transport *transport, void *self)
{
    struct recorder *recorder = self;

    ck_assert_int_eq(bk_transport_fileno(transport), -1);
    note(recorder, "closed");
    recorder->closed_count++;
}

const bk_protocol recorder_protocol = {
    .connection_made = recorder_on_made,
    .data_received = recorder_on_data,
    .eof_received = recorder_on_eof,
    .pause_writing = recorder_on_pause,
    .resume_writing = recorder_on_resume,
    .connection_lost = recorder_on_lost,
    .on_closed = recorder_on_closed,
};

void
record(struct recorder *recorder, bk_loop *loop, int fd)
{
    ck_assert_int_eq(bk_transport_init(&recorder->transport, loop,
                                       &recorder_protocol, recorder),
                     0);
    ck_assert_int_eq(bk_transport_open_fd(&recorder->transport, fd), 0);
    ck_assert_int_eq(bk_transport_start(&recorder->transport), 0);
}

void
call_in_loop(bk_loop *loop, bk_callback callback, void *arg)
{
    ck_assert_int_eq(bk_loop_call_soon(loop, callback, arg, NULL), 0);
}

void
do_in_callback(bk_loop *loop, bk_callback callback, void *arg)
{
    call_in_loop(loop, callback, arg);
    support_turns(loop, 1);
}

void
shrink_buffers(int fd)
{
    int size = 4096;

    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)),
                     0);
    ck_assert_int_eq(setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof(size)),
                     0);
}
