/* datagram_support.c -- a recorded datagram endpoint, for its tests.
 *
 * SPDX-License-Identifier: MIT
 */
#include "datagram_support.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/internal.h"

#define SHOWN_BYTES_MAX 24

struct endpoint endpoint;
bk_loop *endpoint_loop;
int peer_fd = -1;
struct sockaddr_in peer_address;
struct sockaddr_in endpoint_address;

/* What is written here stops the loop as I/O, which a burst does not wait
 * for. */
static int stop_fds[2];
static bk_watch stop_watch;

static void
on_stop(bk_watch *watch, unsigned events)
{
    char byte;

    (void)events;
    ck_assert_int_eq(read(bk_watch_fd(watch), &byte, 1), 1);
    bk_loop_stop(bk_watch_loop(watch));
}

void
note_endpoint(struct endpoint *of, const char *text)
{
    size_t len = strlen(of->log);

    (void)snprintf(of->log + len, sizeof(of->log) - len, "%s ", text);
}

static void
note_datagram(struct endpoint *of, const void *data, size_t len)
{
    char text[SHOWN_BYTES_MAX + 1] = "-";

    if (len > SHOWN_BYTES_MAX) {
        (void)snprintf(text, sizeof(text), "#%zu", len);
    }
    else if (len > 0) {
        memcpy(text, data, len);
        text[len] = '\0';
    }
    note_endpoint(of, text);
}

static void
on_made(bk_datagram_transport *transport, void *self)
{
    struct endpoint *of = self;

    of->in_use = transport;
    note_endpoint(of, "made");
    if (of->on_made != NULL) {
        of->on_made(of);
    }
}

static void
on_datagram(bk_datagram_transport *transport, const void *data, size_t len,
            const struct sockaddr *address, socklen_t address_len, void *self)
{
    struct endpoint *of = self;

    (void)transport;
    ck_assert_uint_le(address_len, sizeof(of->sender));
    memcpy(&of->sender, address, address_len);
    of->sender_len = address_len;
    note_datagram(of, data, len);
    if (++of->received == of->stop_at) {
        ck_assert_int_eq(write(stop_fds[1], "", 1), 1);
    }
    if (of->on_datagram != NULL) {
        of->on_datagram(of, data, len);
    }
}

static void
note_code(struct endpoint *of, const char *word, int code)
{
    char text[64];

    (void)snprintf(text, sizeof(text), "%s:%s", word,
                   code == 0 ? "0" : bk_err_name(code));
    note_endpoint(of, text);
}

static void
on_error(bk_datagram_transport *transport, int error, void *self)
{
    struct endpoint *of = self;

    (void)transport;
    note_code(of, "error", error);
    of->errors++;
    if (of->on_error != NULL) {
        of->on_error(of);
    }
}

static void
on_pause(bk_datagram_transport *transport, void *self)
{
    struct endpoint *of = self;

    (void)transport;
    note_endpoint(of, "pause");
    ck_assert_int_eq(of->pauses, of->resumes);
    of->pauses++;
}

static void
on_resume(bk_datagram_transport *transport, void *self)
{
    struct endpoint *of = self;

    (void)transport;
    note_endpoint(of, "resume");
    of->resumes++;
    ck_assert_int_eq(of->pauses, of->resumes);
    if (of->on_resume != NULL) {
        of->on_resume(of);
    }
}

static void
on_lost(bk_datagram_transport *transport, int error, void *self)
{
    struct endpoint *of = self;

    (void)transport;
    note_code(of, "lost", error);
    of->lost_count++;
    if (of->on_lost != NULL) {
        of->on_lost(of);
    }
}

static void
on_closed(bk_datagram_transport *transport, void *self)
{
    struct endpoint *of = self;

    ck_assert_int_eq(bk_datagram_fileno(transport), -1);
    note_endpoint(of, "closed");
    of->closed_count++;
}

const bk_datagram_protocol endpoint_protocol = {
    .connection_made = on_made,
    .datagram_received = on_datagram,
    .error_received = on_error,
    .pause_writing = on_pause,
    .resume_writing = on_resume,
    .connection_lost = on_lost,
    .on_closed = on_closed,
};

int
open_udp(struct sockaddr_in *ret_address)
{
    socklen_t len = sizeof(*ret_address);
    int fd =
        socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, IPPROTO_UDP);

    *ret_address = (struct sockaddr_in){
        .sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    ck_assert_int_ge(fd, 0);
    ck_assert_int_eq(bind(fd, (struct sockaddr *)ret_address, len), 0);
    ck_assert_int_eq(getsockname(fd, (struct sockaddr *)ret_address, &len), 0);
    return fd;
}

void
start_endpoint(struct endpoint *of, bk_loop *loop, int fd)
{
    of->loop = loop;
    of->in_use = &of->transport;
    ck_assert_int_eq(
        bk_datagram_init(&of->transport, loop, &endpoint_protocol, of), 0);
    ck_assert_int_eq(bk_datagram_open_fd(&of->transport, fd), 0);
    ck_assert_int_eq(bk_datagram_start(&of->transport), 0);
}

static void
set_up(void)
{
    memset(&endpoint, 0, sizeof(endpoint));
}

void
begin_endpoint(int poller)
{
    endpoint_loop = support_new_loop(poller);
    /* A machine that is slow must not break bursts off. */
    endpoint_loop->delivery_ns_max = 10 * S;
    ck_assert_int_eq(pipe2(stop_fds, O_CLOEXEC | O_NONBLOCK), 0);
    ck_assert_int_eq(
        bk_watch_init(&stop_watch, endpoint_loop, stop_fds[0], on_stop), 0);
    ck_assert_int_eq(bk_watch_set(&stop_watch, BK_READABLE), 0);
    peer_fd = open_udp(&peer_address);
    start_endpoint(&endpoint, endpoint_loop, open_udp(&endpoint_address));
    support_turns(endpoint_loop, 1);
    expect_endpoint_log("made ");
}

void
bound_bursts(void)
{
    endpoint_loop->delivery_ns_max = MS;
}

void
end_endpoint(void)
{
    bk_datagram_release(&endpoint.transport);
    if (peer_fd >= 0) {
        ck_assert_int_eq(close(peer_fd), 0);
        peer_fd = -1;
    }
    (void)bk_watch_set(&stop_watch, 0);
    support_close_pair(stop_fds);
    support_free_loop(endpoint_loop);
}

void
expect_endpoint_log(const char *log)
{
    ck_assert_str_eq(endpoint.log, log);
    endpoint.log[0] = '\0';
}

void
peer_sends(const char *text)
{
    ck_assert_int_eq(sendto(peer_fd, text, strlen(text), 0,
                            (struct sockaddr *)&endpoint_address,
                            sizeof(endpoint_address)),
                     (ssize_t)strlen(text));
}

void
peer_sends_numbers(int first, int last)
{
    for (int i = first; i <= last; i++) {
        char text[16];

        (void)snprintf(text, sizeof(text), "%d", i);
        peer_sends(text);
    }
}

void
send_to_peer(struct endpoint *from, const char *text)
{
    ck_assert_int_eq(bk_datagram_sendto(from->in_use, text, strlen(text),
                                        (struct sockaddr *)&peer_address,
                                        sizeof(peer_address)),
                     0);
}

void
expect_peer_got(const char *texts)
{
    char got[4096] = "";
    size_t len = 0;
    ssize_t n;

    while ((n = recv(peer_fd, got + len, sizeof(got) - len - 2, 0)) >= 0) {
        len += (size_t)n;
        got[len++] = ' ';
        got[len] = '\0';
    }
    ck_assert_int_eq(errno, EAGAIN);
    ck_assert_str_eq(got, texts);
}

void
run_until_received(int count)
{
    endpoint.stop_at = count;
    support_run(endpoint_loop);
    ck_assert_int_eq(endpoint.received, count);
    endpoint.stop_at = 0;
}

void
warm_up_burst(int count)
{
    for (int n = 1; n < count; n *= 2) {
        peer_sends_numbers(1, n);
        run_until_received(endpoint.received + n);
    }
    endpoint.log[0] = '\0';
    endpoint.received = 0;
}

void
unix_pair(int fds[2])
{
    int size = 1; /* the kernel makes it its least */

    ck_assert_int_eq(
        socketpair(AF_UNIX, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, fds),
        0);
    ck_assert_int_eq(
        setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &size, sizeof(size)), 0);
}

TCase *
new_endpoint_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, set_up, NULL);
    suite_add_tcase(suite, tcase);
    return tcase;
}
