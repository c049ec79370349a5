/* stream_support.c -- a recorded connection, for the tests of transports.
 *
 * SPDX-License-Identifier: MIT
 */
#include "stream_support.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

char *big_data;
struct recorder recorder;
int stream_fds[2];
void (*stream_pair)(int fds[2]) = tcp_pair;
bk_loop *stream_loop;

static void
set_up(void)
{
    big_data = malloc(BIG);
    ck_assert_ptr_nonnull(big_data);
    stream_pair = tcp_pair;
    fill_pattern(big_data, BIG, 0);
}

static void
tear_down(void)
{
    free(big_data);
}

void
begin(int poller)
{
    stream_loop = support_new_loop(poller);
    stream_pair(stream_fds);
    record(&recorder, stream_loop, stream_fds[0]);
    support_turns(stream_loop, 1);
    ck_assert_str_eq(recorder.log, "made ");
    recorder.log[0] = '\0';
}

void
end(void)
{
    bk_transport_release(&recorder.transport);
    if (stream_fds[1] >= 0) {
        ck_assert_int_eq(close(stream_fds[1]), 0);
    }
    support_free_loop(stream_loop);
}

bk_transport *
stream(void)
{
    return &recorder.transport;
}

void
expect_log(const char *log)
{
    ck_assert_str_eq(recorder.log, log);
    recorder.log[0] = '\0';
}

void
expect_peer_gets(const char *text)
{
    char buf[256];
    size_t len = strlen(text);

    ck_assert_uint_lt(len, sizeof(buf));
    ck_assert_uint_eq(recv_all(stream_fds[1], buf, len), len);
    ck_assert_mem_eq(buf, text, len);
}

void
expect_peer_gets_nothing(void)
{
    char byte;

    ck_assert_int_eq(recv(stream_fds[1], &byte, 1, MSG_DONTWAIT), -1);
    ck_assert_int_eq(errno, EAGAIN);
}

void
expect_peer_gets_eof(void)
{
    char byte;

    ck_assert_uint_eq(recv_all(stream_fds[1], &byte, 1), 0);
}

void
write_text(const char *text)
{
    ck_assert_int_eq(bk_transport_write(stream(), text, strlen(text)), 0);
}

size_t
write_until_paused(void)
{
    size_t given = 0;
    int pauses = recorder.pauses;

    while (recorder.pauses == pauses) {
        ck_assert_uint_le(given + 4000, BIG);
        ck_assert_int_eq(bk_transport_write(stream(), big_data + given, 4000),
                         0);
        given += 4000;
    }
    return given;
}

void
drain_peer(size_t offset, size_t len)
{
    char *buf = malloc(len + 1);
    size_t got = 0;
    uint64_t deadline_ns = bk_clock_now() + 10 * S;

    ck_assert_ptr_nonnull(buf);
    while (got < len) {
        ck_assert(bk_clock_now() < deadline_ns);
        got += recv_some(stream_fds[1], buf + got, len + 1 - got);
        support_turns(stream_loop, 1);
    }
    ck_assert_uint_eq(got, len);
    ck_assert(is_pattern(buf, len, offset));
    free(buf);
}

int released;
bool releases_write;

static void
count_release(void *owner)
{
    ck_assert_ptr_eq(owner, &released);
    released++;
    if (releases_write) {
        releases_write = false;
        write_text("from release ");
    }
}

void
lend(const char *text, size_t len)
{
    ck_assert_int_eq(
        bk_transport_write_lent(stream(), text, len, count_release, &released),
        0);
}

TCase *
new_stream_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, set_up, tear_down);
    suite_add_tcase(suite, tcase);
    return tcase;
}
