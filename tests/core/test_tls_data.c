/* test_tls_data.c -- tls.h: data both ways, and what holds it back.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "loop/internal.h"
#include "tls_support.h"

static const struct {
    int role;
    int version;
} kinds[] = {
    {TLS_CLIENT, TLS1_2_VERSION},
    {TLS_CLIENT, TLS1_3_VERSION},
    {TLS_SERVER, TLS1_2_VERSION},
    {TLS_SERVER, TLS1_3_VERSION},
};

#define KINDS 4

/* An idle connection has no block of the loop's pool, in neither direction. */
static void
expect_no_blocks(void)
{
    ck_assert_uint_eq(stream_loop->tls_blocks.used_count, 0);
}

/* --- large and many --- */

START_TEST(large_writes)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    tls.is_quiet = true;
    tls_write_big(0, BIG);
    peer_expect(big_data, BIG);
    ck_assert_int_eq(tls.pauses, tls.resumes);
    expect_no_blocks();
    tls_end();
}
END_TEST

START_TEST(large_reads)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    tls.is_quiet = true;
    tls.buffer = malloc(BIG);
    ck_assert_ptr_nonnull(tls.buffer);
    peer_write(big_data, BIG);
    TLS_UNTIL(tls.received == BIG);
    ck_assert_mem_eq(tls.buffer, big_data, BIG);
    free(tls.buffer);
    expect_no_blocks();
    tls_end();
}
END_TEST

/* Sizes around those of a record, and a byte at a time on the wire. */
START_TEST(odd_sizes)
{
    static const size_t sizes[] = {1,     2,     1000,  16383, 16384,
                                   16385, 32768, 33333, 1,     100000};
    size_t offset = 0;

    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    tls.is_quiet = true;
    tls.buffer = malloc(BIG);
    ck_assert_ptr_nonnull(tls.buffer);
    for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++) {
        tls_write_big(offset, sizes[i]);
        peer_write(big_data + offset, sizes[i]);
        peer_expect(big_data + offset, sizes[i]);
        offset += sizes[i];
        TLS_UNTIL(tls.received == offset);
    }
    ck_assert_mem_eq(tls.buffer, big_data, offset);
    free(tls.buffer);
    expect_no_blocks();
    tls_end();
}
END_TEST

static int released_count;

static void
count_release(void *owner)
{
    ck_assert_ptr_eq(owner, big_data);
    released_count++;
}

START_TEST(lent_data_comes_back_once)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(bk_tls_write_lent(tls.tls, big_data, 30000,
                                           count_release, big_data),
                         0);
    }
    for (int i = 0; i < 3; i++) {
        peer_expect(big_data, 30000);
    }
    ck_assert_int_eq(released_count, 3);
    bk_tls_close(tls.tls);
    ck_assert_int_eq(
        bk_tls_write_lent(tls.tls, big_data, 1, count_release, big_data), 0);
    ck_assert_int_eq(released_count, 4);
    tls_end();
}
END_TEST

/* --- records --- */

static void
write_a_response(void *arg)
{
    (void)arg;
    tls_write("HTTP/1.1 200 OK\r\n");
    tls_write("Content-Length: 4\r\n\r\n");
    tls_write("body");
}

/* How many records wait at the peer's end. */
static int
count_records(void)
{
    static unsigned char buf[BK_READ_MAX];
    ssize_t len = recv(stream_fds[1], buf, sizeof(buf), MSG_PEEK);
    int count = 0;

    ck_assert_int_gt(len, 0);
    for (ssize_t at = 0; at + 5 <= len;
         at += 5 + (buf[at + 3] << 8) + buf[at + 4]) {
        ck_assert_int_eq(buf[at], SSL3_RT_APPLICATION_DATA);
        count++;
    }
    return count;
}

START_TEST(writes_of_a_callback_share_a_record)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    support_turns(stream_loop, 2);
    (void)recv(stream_fds[1], NULL, 0, MSG_PEEK);
    if (kinds[_i].role == TLS_SERVER) {
        peer_write("x", 1);
        tls_write("y"); /* and the session tickets are read */
        peer_expect_text("y");
    }
    do_in_callback(stream_loop, write_a_response, NULL);
    ck_assert_int_eq(count_records(), 1);
    peer_expect_text("HTTP/1.1 200 OK\r\nContent-Length: 4\r\n\r\nbody");
    expect_no_blocks();
    tls_end();
}
END_TEST

static size_t size_seen;

static void
write_and_ask(void *arg)
{
    (void)arg;
    tls_write("asked for");
    size_seen = bk_tls_get_write_buffer_size(tls.tls);
    tls_write("and not");
}

/* Who asks finds it sent: the size is what the transport does not take. */
START_TEST(asking_sends)
{
    tls_connect(SUPPORT_EPOLL, TLS_SERVER, TLS1_2_VERSION);
    size_seen = 1;
    do_in_callback(stream_loop, write_and_ask, NULL);
    ck_assert_uint_eq(size_seen, 0);
    ck_assert_int_eq(count_records(), 2);
    peer_expect_text("asked forand not");
    tls_end();
}
END_TEST

static void
write_and_look_below(void *arg)
{
    (void)arg;
    tls_write("asked for");
    size_seen = bk_transport_get_write_buffer_size(stream());
    ck_assert_int_eq(count_records(), 1);
    tls_write("and not");
}

START_TEST(asking_the_transport_sends)
{
    tls_connect(SUPPORT_EPOLL, TLS_SERVER, TLS1_2_VERSION);
    do_in_callback(stream_loop, write_and_look_below, NULL);
    ck_assert_uint_eq(size_seen, 0);
    peer_expect_text("asked forand not");
    tls_end();
}
END_TEST

static void
write_and_close(void *arg)
{
    (void)arg;
    tls_write("last");
    bk_tls_close(tls.tls);
}

static void
write_and_abort(void *arg)
{
    (void)arg;
    tls_write("last");
    bk_tls_abort(tls.tls, 0);
}

START_TEST(what_was_written_goes_before_the_end)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    do_in_callback(stream_loop, _i % 2 == 0 ? write_and_close : write_and_abort,
                   NULL);
    peer_expect_text("last");
    tls_end();
}
END_TEST

/* However the wire has cut them. */
START_TEST(records_in_pieces)
{
    BIO *wire;
    char *bytes;
    long len;
    size_t piece = 1;

    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    wire = BIO_new(BIO_s_mem());
    SSL_set0_wbio(peer, wire);
    for (int i = 0; i < 20; i++) {
        ck_assert_int_eq(SSL_write(peer, big_data + i * 30, 30), 30);
    }
    tls.is_quiet = true;
    tls.buffer = malloc(600);
    ck_assert_ptr_nonnull(tls.buffer);
    len = BIO_get_mem_data(wire, &bytes);
    for (long done = 0; done < len; done += (long)piece) {
        piece = piece % 13 + 1;
        if ((long)piece > len - done) {
            piece = (size_t)(len - done);
        }
        ck_assert_int_eq(write(stream_fds[1], bytes + done, piece),
                         (ssize_t)piece);
        support_turns(stream_loop, 2);
    }
    TLS_UNTIL(tls.received == 600);
    ck_assert_mem_eq(tls.buffer, big_data, 600);
    free(tls.buffer);
    expect_no_blocks();
    tls_end();
}
END_TEST

/* --- memory --- */

static void
echo_once(const char *text)
{
    size_t before = tls.received;

    peer_write(text, strlen(text));
    TLS_UNTIL(tls.received == before + strlen(text));
    tls_write(text);
    peer_expect_text(text);
}

static bool
is_releasing(void)
{
    return (SSL_get_mode(bk_tls_ssl(tls.tls)) & SSL_MODE_RELEASE_BUFFERS) != 0;
}

/* For longer than it takes to be so. */
static void
be_idle(void)
{
    ck_assert_int_eq(bk_loop_call_later(stream_loop, 1200 * MS, support_stop,
                                        stream_loop, NULL),
                     0);
    support_run(stream_loop);
}

START_TEST(idle_loop_gives_buffers_back)
{
    tls_connect(_i % 2 == 0 ? SUPPORT_EPOLL : SUPPORT_POLL, kinds[_i].role,
                kinds[_i].version);
    ck_assert(is_releasing());
    echo_once("one");
    echo_once("two");
    ck_assert(!is_releasing());
    ck_assert_uint_eq(stream_loop->tls_warm_count, 1);
    be_idle();
    ck_assert(is_releasing());
    ck_assert_uint_eq(stream_loop->tls_warm_count, 0);
    echo_once("three");
    ck_assert(!is_releasing());
    tls_end();
}
END_TEST

/* In the middle of a record there is nothing to give back. */
START_TEST(idle_in_the_middle_of_a_record)
{
    static const size_t cuts[] = {1, 5, 6, 20};
    BIO *wire;
    char *bytes;
    long len;
    size_t cut = cuts[_i];

    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    echo_once("one");
    wire = BIO_new(BIO_s_mem());
    SSL_set0_wbio(peer, wire);
    ck_assert_int_eq(SSL_write(peer, "four", 4), 4);
    len = BIO_get_mem_data(wire, &bytes);
    ck_assert_int_eq(write(stream_fds[1], bytes, cut), (ssize_t)cut);
    support_turns(stream_loop, 2);
    be_idle();
    ck_assert_uint_eq(stream_loop->tls_warm_count, 0);
    len -= (long)cut;
    ck_assert_int_eq(write(stream_fds[1], bytes + cut, (size_t)len), len);
    TLS_UNTIL(tls.received == 3 + 4);
    tls_end();
}
END_TEST

START_TEST(poller_from_outside_waits_as_told)
{
    tls_connect(SUPPORT_EXTERNAL, TLS_SERVER, TLS1_3_VERSION);
    echo_once("one");
    ck_assert_uint_eq(stream_loop->tls_warm_count, 1);
    be_idle();
    ck_assert_uint_gt(support_external.timeout_ns, 1 * S);
    tls_end();
}
END_TEST

static void
release_us(void)
{
    bk_tls_release(tls.tls);
    tls.tls = NULL;
}

/* Nor does its SSL, which somebody may keep. */
START_TEST(what_is_released_is_not_warm)
{
    SSL *ssl;

    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    ssl = bk_tls_ssl(tls.tls);
    ck_assert_int_eq(SSL_up_ref(ssl), 1);
    echo_once("one");
    release_us();
    ck_assert_uint_eq(stream_loop->tls_warm_count, 0);
    ck_assert(SSL_get_mode(ssl) & SSL_MODE_RELEASE_BUFFERS);
    SSL_free(ssl);
    tls_end();
}
END_TEST

static int freed_count;

static void
count_free(void *parent, void *ptr, CRYPTO_EX_DATA *data, int index, long argl,
           void *arg)
{
    (void)parent;
    (void)ptr;
    (void)data;
    (void)index;
    (void)argl;
    (void)arg;
    freed_count++;
}

/* Like the SSLObject of a connection that the collector takes apart. */
START_TEST(other_owner_of_the_ssl_lets_go)
{
    bk_tls_openssl_session session;
    bk_tls_pump pump = {0};
    int index = SSL_get_ex_new_index(0, NULL, NULL, NULL, count_free);
    SSL *ssl;

    tls_connect(SUPPORT_EPOLL, TLS_SERVER, TLS1_3_VERSION);
    ssl = SSL_new(tls_context);
    ck_assert_int_eq(SSL_set_ex_data(ssl, index, &session), 1);
    SSL_set_accept_state(ssl);
    pump._loop = stream_loop;
    ck_assert_int_eq(
        bk_tls_openssl_attach(&session, bk_tls_openssl_linked(), ssl, &pump),
        0);
    SSL_free(ssl);
    ck_assert_int_eq(freed_count, 0);
    bk_tls_openssl_detach(&session);
    ck_assert_int_eq(freed_count, 1);
    tls_end();
}
END_TEST

/* --- flow control --- */

START_TEST(peer_that_does_not_read)
{
    size_t given = 0;

    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    shrink_buffers(stream_fds[0]);
    while (tls.pauses == 0) {
        ck_assert_uint_lt(given, BIG - 40000);
        tls_write_big(given, 40000);
        given += 40000;
    }
    ck_assert_uint_ge(bk_tls_get_write_buffer_size(tls.tls), 512 * 1024);
    ck_assert_uint_lt(bk_tls_get_write_buffer_size(tls.tls),
                      512 * 1024 + 41000);
    peer_expect(big_data, given);
    TLS_UNTIL(tls.resumes == 1);
    tls_expect_log("pause resume ");
    ck_assert_uint_eq(bk_tls_get_write_buffer_size(tls.tls), 0);
    expect_no_blocks();
    tls_end();
}
END_TEST

/* It has ended itself, which starts the clock. */
START_TEST(peer_that_ends_and_does_not_read)
{
    tls_options.shutdown_timeout_ns = 20 * MS;
    stream_pair = support_pair; /* nothing resumes once it is full */
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    shrink_buffers(stream_fds[0]);
    for (size_t given = 0; tls.pauses == 0; given += 40000) {
        ck_assert_uint_lt(given, BIG - 40000);
        tls_write_big(given, 40000);
    }
    ck_assert_int_eq(shutdown(stream_fds[1], SHUT_WR), 0);
    TLS_UNTIL(tls.lost_count == 1);
    ck_assert_int_eq(tls.lost_error, -ETIMEDOUT);
    tls_expect_log("pause eof lost ");
    expect_no_blocks();
    tls_end();
}
END_TEST

START_TEST(write_limits)
{
    tls_connect(SUPPORT_EPOLL, TLS_CLIENT, TLS1_3_VERSION);
    ck_assert_int_eq(bk_tls_set_write_buffer_limits(tls.tls, 1, 2), -EINVAL);
    /* A mark is reached at its value, asyncio's TLS has it so. */
    ck_assert_int_eq(bk_tls_set_write_buffer_limits(tls.tls, 0, 0), 0);
    tls_expect_log("pause ");
    ck_assert_int_eq(bk_tls_set_write_buffer_limits(tls.tls, 10, 0), 0);
    tls_expect_log("resume ");
    tls_end();
}
END_TEST

static void
pause_reading(void)
{
    bk_tls_pause_reading(tls.tls);
    tls.on_data = NULL;
}

START_TEST(paused_reading_keeps_records)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    tls.on_data = pause_reading;
    peer_write("one", 3);
    TLS_UNTIL(tls.received == 3);
    peer_write("two", 3);
    peer_write("three", 5);
    support_turns(stream_loop, 3);
    tls_expect_log("data:3 ");
    bk_tls_resume_reading(tls.tls);
    bk_tls_resume_reading(tls.tls);
    tls_expect_log("");
    TLS_UNTIL(tls.received == 11);
    tls_expect_log("data:3 data:5 ");
    expect_no_blocks();
    tls_end();
}
END_TEST

/* What is kept for who does not read has a bound: then the kernel keeps it. */
START_TEST(paused_reading_is_bounded)
{
    size_t sent = 0;

    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    tls.is_quiet = true;
    tls.buffer = malloc(BIG);
    ck_assert_ptr_nonnull(tls.buffer);
    bk_tls_pause_reading(tls.tls);
    for (int idle = 0; idle < 20; idle++) {
        int n = SSL_write(peer, big_data + sent, 16000);

        support_turns(stream_loop, 1);
        if (n > 0) {
            sent += (size_t)n;
            ck_assert_uint_lt(sent, BIG - 16000);
            idle = 0;
        }
    }
    ck_assert_uint_lt(stream_loop->tls_blocks.used_count * 18446,
                      3 * 256 * 1024);
    ck_assert_uint_eq(tls.received, 0);
    bk_tls_resume_reading(tls.tls);
    peer_write(big_data + sent, 16000); /* what SSL_write() has begun */
    TLS_UNTIL(tls.received == sent + 16000);
    ck_assert_mem_eq(tls.buffer, big_data, tls.received);
    free(tls.buffer);
    expect_no_blocks();
    tls_end();
}
END_TEST

START_TEST(end_while_paused)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    bk_tls_pause_reading(tls.tls);
    peer_write("last", 4);
    ck_assert_int_eq(shutdown(stream_fds[1], SHUT_WR), 0);
    support_turns(stream_loop, 5);
    tls_expect_log("");
    bk_tls_resume_reading(tls.tls);
    TLS_UNTIL(tls.lost_count == 1);
    tls_expect_log("data:4 eof lost ");
    ck_assert_int_eq(tls.lost_error, 0);
    tls_end();
}
END_TEST

/* --- messages after the handshake --- */

START_TEST(renegotiation)
{
    SSL_CTX_set_options(tls_context, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
    tls_connect(SUPPORT_EPOLL, kinds[_i * 2].role, TLS1_2_VERSION);
    ck_assert_int_eq(SSL_renegotiate(peer), 1);
    while (SSL_renegotiate_pending(peer)) {
        (void)SSL_do_handshake(peer);
        tls_write("meanwhile ");
        support_turns(stream_loop, 1);
        peer_expect_text("meanwhile ");
    }
    peer_write("after", 5);
    TLS_UNTIL(tls.received == 5);
    tls_write("the end");
    peer_expect_text("the end");
    tls_end();
}
END_TEST

START_TEST(key_update)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i * 2].role, TLS1_3_VERSION);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(SSL_key_update(peer, SSL_KEY_UPDATE_REQUESTED), 1);
        peer_write("one", 3);
        TLS_UNTIL(tls.received == 3 * (size_t)(i + 1));
        tls_write("two");
        peer_expect_text("two");
        ck_assert_int_eq(
            SSL_key_update(bk_tls_ssl(tls.tls), SSL_KEY_UPDATE_REQUESTED), 1);
    }
    tls_end();
}
END_TEST

/* --- errors that somebody else has left in OpenSSL's queue --- */

static void
leave_errors(void)
{
    ERR_raise(ERR_LIB_SYS, ECONNRESET);
    ERR_raise(ERR_LIB_SSL, SSL_R_BAD_LENGTH);
}

START_TEST(errors_of_others)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    tls.on_data = leave_errors;
    for (int i = 0; i < 3; i++) {
        peer_write("one", 3);
        TLS_UNTIL(tls.received == 3 * (size_t)(i + 1));
        leave_errors();
        tls_write("two");
        peer_expect_text("two");
    }
    leave_errors();
    ck_assert_int_ge(SSL_shutdown(peer), 0);
    leave_errors();
    TLS_UNTIL(tls.lost_count == 1);
    ck_assert_int_eq(tls.lost_error, 0);
    tls_expect_log("data:3 data:3 data:3 eof lost ");
    tls_end();
}
END_TEST

/* A write that has to wait for the peer is no failure. */
START_TEST(errors_of_others_in_renegotiation)
{
    SSL_CTX_set_options(tls_context, SSL_OP_ALLOW_CLIENT_RENEGOTIATION);
    tls_connect(SUPPORT_EPOLL, TLS_CLIENT, TLS1_2_VERSION);
    ck_assert_int_eq(SSL_renegotiate(bk_tls_ssl(tls.tls)), 1);
    leave_errors();
    tls_write("one");
    ck_assert(SSL_want_read(bk_tls_ssl(tls.tls)));
    ck_assert_uint_eq(bk_tls_get_write_buffer_size(tls.tls), 3);
    leave_errors();
    peer_expect_text("one");
    ck_assert_int_eq(tls.lost_count, 0);
    tls_end();
}
END_TEST

static Suite *
tls_data_suite(void)
{
    Suite *suite = suite_create("test_tls_data");
    TCase *tcase = new_tls_case(suite, "large and many");

#define ADD_KINDS(test) tcase_add_loop_test(tcase, test, 0, KINDS)
    ADD_KINDS(large_writes);
    ADD_KINDS(large_reads);
    ADD_KINDS(odd_sizes);
    ADD_KINDS(lent_data_comes_back_once);
    tcase = new_tls_case(suite, "records");
    ADD_KINDS(writes_of_a_callback_share_a_record);
    tcase_add_test(tcase, asking_sends);
    tcase_add_test(tcase, asking_the_transport_sends);
    ADD_KINDS(what_was_written_goes_before_the_end);
    ADD_KINDS(records_in_pieces);
    tcase = new_tls_case(suite, "memory");
    ADD_KINDS(idle_loop_gives_buffers_back);
    ADD_KINDS(idle_in_the_middle_of_a_record);
    tcase_add_test(tcase, poller_from_outside_waits_as_told);
    ADD_KINDS(what_is_released_is_not_warm);
    tcase_add_test(tcase, other_owner_of_the_ssl_lets_go);
    tcase = new_tls_case(suite, "flow control");
    ADD_KINDS(peer_that_does_not_read);
    ADD_KINDS(peer_that_ends_and_does_not_read);
    tcase_add_test(tcase, write_limits);
    ADD_KINDS(paused_reading_keeps_records);
    ADD_KINDS(paused_reading_is_bounded);
    ADD_KINDS(end_while_paused);
    tcase = new_tls_case(suite, "messages after the handshake");
    tcase_add_loop_test(tcase, renegotiation, 0, 2);
    tcase_add_loop_test(tcase, key_update, 0, 2);
    tcase = new_tls_case(suite, "errors of others");
    ADD_KINDS(errors_of_others);
    tcase_add_test(tcase, errors_of_others_in_renegotiation);
    return suite;
}

int
main(void)
{
    return support_main(tls_data_suite());
}
