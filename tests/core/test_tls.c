/* test_tls.c -- tls.h: TLS connections from the handshake to the goodbye.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <openssl/err.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "tls_support.h"

/* Each test of data runs with both roles and both versions. */
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

/* --- the handshake --- */

START_TEST(handshake_and_echo)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    ck_assert_int_eq(SSL_version(bk_tls_ssl(tls.tls)), kinds[_i].version);
    peer_write("hello", 5);
    TLS_UNTIL(tls.received == 5);
    tls_expect_log("data:5 ");
    tls_write("good day");
    peer_expect_text("good day");
    ck_assert_uint_eq(bk_tls_get_write_buffer_size(tls.tls), 0);
    tls_end();
}
END_TEST

START_TEST(every_poller)
{
    tls_connect(_i, TLS_SERVER, TLS1_3_VERSION);
    peer_write("hello", 5);
    TLS_UNTIL(tls.received == 5);
    tls_write("good day");
    peer_expect_text("good day");
    tls_end();
}
END_TEST

START_TEST(bad_arguments)
{
    bk_tls *none = NULL;

    begin(SUPPORT_EPOLL);
    tls_options.context = NULL;
    ck_assert_int_eq(bk_tls_start(stream(), &tls_recorder_protocol, &tls,
                                  &tls_options, &none),
                     -EINVAL);
    tls_options.context = tls_context;
    ck_assert_int_eq(
        bk_tls_start(NULL, &tls_recorder_protocol, &tls, &tls_options, &none),
        -EINVAL);
    ck_assert_int_eq(bk_tls_start(stream(), NULL, &tls, &tls_options, &none),
                     -EINVAL);
    ck_assert_int_eq(
        bk_tls_start(stream(), &tls_recorder_protocol, &tls, NULL, &none),
        -EINVAL);
    bk_transport_close(stream());
    ck_assert_int_eq(bk_tls_start(stream(), &tls_recorder_protocol, &tls,
                                  &tls_options, &none),
                     -EBADF);
    ck_assert_ptr_null(none);
    end();
}
END_TEST

static int
refuse(bk_tls *self, struct ssl_st *ssl, void *arg)
{
    (void)self;
    (void)arg;
    ck_assert_ptr_nonnull(ssl);
    return -EPERM;
}

START_TEST(configure_may_refuse)
{
    static const bk_tls_protocol refusing = {.configure = refuse};

    begin(SUPPORT_EPOLL);
    tls_options.context = tls_context;
    ck_assert_int_eq(
        bk_tls_start(stream(), &refusing, NULL, &tls_options, &tls.tls),
        -EPERM);
    write_text("still plain");
    expect_peer_gets("still plain");
    end();
}
END_TEST

START_TEST(certificate_is_verified)
{
    SSL_CTX_set_verify(tls_context, SSL_VERIFY_PEER, NULL);
    tls_options.server_hostname = _i == 0 ? TLS_NAME : "127.0.0.1";
    tls_connect(SUPPORT_EPOLL, TLS_CLIENT, TLS1_3_VERSION);
    ck_assert_int_eq(SSL_get_verify_result(bk_tls_ssl(tls.tls)), X509_V_OK);
    if (_i == 0) {
        ck_assert_str_eq(SSL_get_servername(peer, TLSEXT_NAMETYPE_host_name),
                         TLS_NAME);
    }
    tls_end();
}
END_TEST

/* The reason for which the peer's handshake fails, or the first read after. */
static int
peer_fails_for(void)
{
    for (;;) {
        char byte;
        int r;

        ERR_clear_error();
        r = SSL_do_handshake(peer);
        if (r == 1) {
            r = SSL_read(peer, &byte, 1);
        }
        if (SSL_get_error(peer, r) == SSL_ERROR_SSL) {
            return ERR_GET_REASON(ERR_peek_error());
        }
        ck_assert_int_eq(SSL_get_error(peer, r), SSL_ERROR_WANT_READ);
        support_turns(stream_loop, 1);
    }
}

/* The peer learns of it: CPython's own loop tells it since 2026. */
START_TEST(wrong_name)
{
    SSL_CTX_set_verify(tls_context, SSL_VERIFY_PEER, NULL);
    tls_options.server_hostname = _i % 2 == 0 ? "other.example" : "127.0.0.2";
    tls_begin(SUPPORT_EPOLL, TLS_CLIENT, kinds[_i].version);
    ck_assert_int_eq(peer_fails_for(),
                     SSL_AD_REASON_OFFSET + SSL_AD_BAD_CERTIFICATE);
    TLS_UNTIL(tls.lost_count == 1);
    tls_expect_log("lost ");
    ck_assert_int_eq(tls.lost_error, BK_TLS_ERROR);
    ck_assert_int_eq(ERR_GET_REASON(tls.openssl_error),
                     SSL_R_CERTIFICATE_VERIFY_FAILED);
    tls_end();
}
END_TEST

START_TEST(eof_in_the_handshake)
{
    tls_begin(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    ck_assert_int_eq(shutdown(stream_fds[1], SHUT_WR), 0);
    TLS_UNTIL(tls.lost_count == 1);
    tls_expect_log("lost ");
    ck_assert_int_eq(tls.lost_error, -ECONNRESET);
    tls_end();
}
END_TEST

START_TEST(reset_in_the_handshake)
{
    tls_begin(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    reset_fd(stream_fds[1]);
    stream_fds[1] = -1;
    TLS_UNTIL(tls.lost_count == 1);
    ck_assert_int_eq(tls.lost_error, -ECONNRESET);
    tls_expect_log("lost ");
    tls_end();
}
END_TEST

START_TEST(handshake_that_never_ends)
{
    tls_options.handshake_timeout_ns = 20 * MS;
    tls_begin(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    TLS_UNTIL(tls.lost_count == 1);
    ck_assert_int_eq(tls.lost_error, -ETIMEDOUT);
    tls_expect_log("lost ");
    tls_end();
}
END_TEST

START_TEST(plain_text_on_a_tls_port)
{
    tls_begin(SUPPORT_EPOLL, TLS_SERVER, kinds[_i].version);
    send_all(stream_fds[1], "GET / HTTP/1.0\r\n\r\n", 18);
    TLS_UNTIL(tls.lost_count == 1);
    ck_assert_int_eq(tls.lost_error, BK_TLS_ERROR);
    ck_assert_int_eq(ERR_GET_REASON(tls.openssl_error), SSL_R_HTTP_REQUEST);
    tls_end();
}
END_TEST

START_TEST(abort_in_the_handshake)
{
    tls_begin(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    if (_i % 2 == 0) {
        bk_tls_abort(tls.tls, 0);
    }
    else {
        bk_tls_close(tls.tls);
    }
    ck_assert(bk_tls_is_closing(tls.tls));
    tls_expect_log("");
    support_turns(stream_loop, 2);
    tls_expect_log("lost ");
    ck_assert_int_eq(tls.lost_error, 0);
    tls_end();
}
END_TEST

START_TEST(written_before_the_handshake_is_done)
{
    tls_begin(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    tls_write("early ");
    tls_write("bird");
    ck_assert_uint_eq(bk_tls_get_write_buffer_size(tls.tls), 10);
    tls_shake_hands();
    peer_expect_text("early bird");
    ck_assert_uint_eq(bk_tls_get_write_buffer_size(tls.tls), 0);
    tls_end();
}
END_TEST

START_TEST(plain_first_then_tls)
{
    char buf[8];

    begin(SUPPORT_EPOLL);
    write_text("STARTTLS");
    tls_options.context = tls_context;
    tls_options.is_server = true;
    ck_assert_int_eq(bk_tls_start(stream(), &tls_recorder_protocol, &tls,
                                  &tls_options, &tls.tls),
                     0);
    ck_assert_uint_eq(recv_all(stream_fds[1], buf, 8), 8);
    ck_assert_mem_eq(buf, "STARTTLS", 8);
    peer = SSL_new(tls_context);
    ck_assert_int_eq(SSL_set_fd(peer, stream_fds[1]), 1);
    SSL_set_connect_state(peer);
    tls_shake_hands();
    tls_write("secret");
    peer_expect_text("secret");
    tls_end();
}
END_TEST

/* --- the goodbye --- */

START_TEST(our_goodbye)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    tls_write("last");
    bk_tls_close(tls.tls);
    ck_assert(bk_tls_is_closing(tls.tls));
    tls_write("dropped");
    peer_expect_text("last");
    peer_expect_goodbye();
    tls_expect_log("");
    ck_assert_int_eq(SSL_shutdown(peer), 1);
    TLS_UNTIL(tls.lost_count == 1);
    ck_assert_int_eq(tls.lost_error, 0);
    tls_expect_log("eof lost "); /* as asyncio's */
    peer_expect_eof();
    tls_end();
}
END_TEST

START_TEST(the_peers_goodbye)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    peer_write("last", 4);
    ck_assert_int_eq(SSL_shutdown(peer), 0);
    TLS_UNTIL(tls.lost_count == 1);
    ck_assert_int_eq(tls.lost_error, 0);
    tls_expect_log("data:4 eof lost ");
    ck_assert_int_eq(SSL_shutdown(peer), 1);
    tls_end();
}
END_TEST

/* RFC 8446 6.1 would have it an error; asyncio takes it for an end. */
START_TEST(end_without_goodbye)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    ck_assert_int_eq(shutdown(stream_fds[1], SHUT_WR), 0);
    TLS_UNTIL(tls.lost_count == 1);
    ck_assert_int_eq(tls.lost_error, 0);
    tls_expect_log("eof lost ");
    tls_end();
}
END_TEST

START_TEST(goodbye_without_an_answer)
{
    tls_options.shutdown_timeout_ns = 20 * MS;
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    bk_tls_close(tls.tls);
    bk_tls_close(tls.tls);
    TLS_UNTIL(tls.lost_count == 1);
    ck_assert_int_eq(tls.lost_error, -ETIMEDOUT);
    tls_expect_log("lost ");
    tls_end();
}
END_TEST

START_TEST(abort_drops)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    bk_tls_abort(tls.tls, -EPROTO);
    tls_write("dropped");
    tls_expect_log("");
    support_turns(stream_loop, 2);
    tls_expect_log("lost ");
    ck_assert_int_eq(tls.lost_error, -EPROTO);
    peer_expect_eof();
    tls_end();
}
END_TEST

static void
close_tls(void)
{
    bk_tls_close(tls.tls);
}

static void
abort_tls(void)
{
    bk_tls_abort(tls.tls, 0);
}

START_TEST(close_in_a_callback)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    tls.on_data = close_tls;
    peer_write("one", 3);
    peer_expect_goodbye();
    ck_assert_int_eq(SSL_shutdown(peer), 1);
    TLS_UNTIL(tls.lost_count == 1);
    tls_expect_log("data:3 eof lost ");
    tls_end();
}
END_TEST

START_TEST(abort_in_a_callback)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    tls.on_data = abort_tls;
    ck_assert_int_eq(SSL_write(peer, "one", 3), 3);
    ck_assert_int_eq(SSL_write(peer, "two", 3), 3);
    TLS_UNTIL(tls.lost_count == 1);
    tls_expect_log("data:3 lost ");
    tls_end();
}
END_TEST

START_TEST(end_in_connection_made)
{
    tls.on_made = _i % 2 == 0 ? close_tls : abort_tls;
    tls_begin(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    while (tls.lost_count == 0) {
        (void)SSL_do_handshake(peer);
        (void)SSL_shutdown(peer);
        support_turns(stream_loop, 1);
    }
    ck_assert_int_eq(tls.made_count, 1);
    ck_assert_int_eq(tls.lost_error, 0);
    tls_end();
}
END_TEST

/* --- bad records --- */

START_TEST(garbage_after_the_handshake)
{
    static const char garbage[] = "\x17\x03\x03\x00\x20"
                                  "these are no bytes of a record..";
    char byte;
    int n;

    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    send_all(stream_fds[1], garbage, sizeof(garbage) - 1);

    TLS_UNTIL(tls.lost_count == 1);
    ck_assert_int_eq(tls.lost_error, BK_TLS_ERROR);
    ck_assert_uint_ne(tls.openssl_error, 0);
    tls_expect_log("lost ");
    /* The alert. */
    n = SSL_read(peer, &byte, 1);
    ck_assert_int_eq(SSL_get_error(peer, n), SSL_ERROR_SSL);
    tls_end();
}
END_TEST

START_TEST(half_a_record)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    send_all(stream_fds[1], "\x17\x03\x03\x04\x00 half", 10);
    support_turns(stream_loop, 3);
    tls_expect_log("");
    ck_assert_int_eq(shutdown(stream_fds[1], SHUT_WR), 0);
    TLS_UNTIL(tls.lost_count == 1);
    ck_assert_int_eq(tls.lost_error, 0);
    tls_expect_log("eof lost ");
    tls_end();
}
END_TEST

/* --- life --- */

START_TEST(release_at_any_time)
{
    tls_begin(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    for (int i = 0; i < _i; i++) {
        (void)SSL_do_handshake(peer);
        support_turns(stream_loop, 1);
    }
    tls_end(); /* which also looks for leaks */
}
END_TEST

START_TEST(loop_goes_first)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    tls_write_big(0, 100000);
    SSL_free(peer);
    ck_assert_int_eq(close(stream_fds[1]), 0);
    bk_loop_free(stream_loop);
    tls_expect_log("");
    support_leaks_end();
}
END_TEST

/* The child has a copy of the keys: two that use them would spoil the peer's
 * connection, or worse. */
START_TEST(fork_says_no_goodbye)
{
    int status;
    pid_t pid;

    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        tls_write("the child's");
        bk_tls_close(tls.tls);
        bk_tls_release(tls.tls);
        bk_loop_free(stream_loop);
        _exit(42);
    }
    ck_assert_int_eq(waitpid(pid, &status, 0), pid);
    ck_assert(WIFEXITED(status) && WEXITSTATUS(status) == 42);
    tls_write("the parent's");
    peer_expect_text("the parent's");
    tls_end();
}
END_TEST

static Suite *
tls_suite(void)
{
    Suite *suite = suite_create("test_tls");
    TCase *tcase = new_tls_case(suite, "handshake");

#define ADD_KINDS(test) tcase_add_loop_test(tcase, test, 0, KINDS)
    ADD_KINDS(handshake_and_echo);
    tcase_add_loop_test(tcase, every_poller, 0, SUPPORT_POLLERS);
    tcase_add_test(tcase, bad_arguments);
    tcase_add_test(tcase, configure_may_refuse);
    tcase_add_loop_test(tcase, certificate_is_verified, 0, 2);
    ADD_KINDS(wrong_name);
    ADD_KINDS(eof_in_the_handshake);
    ADD_KINDS(reset_in_the_handshake);
    ADD_KINDS(handshake_that_never_ends);
    ADD_KINDS(plain_text_on_a_tls_port);
    ADD_KINDS(abort_in_the_handshake);
    ADD_KINDS(written_before_the_handshake_is_done);
    tcase_add_test(tcase, plain_first_then_tls);
    tcase = new_tls_case(suite, "goodbye");
    ADD_KINDS(our_goodbye);
    ADD_KINDS(the_peers_goodbye);
    ADD_KINDS(end_without_goodbye);
    ADD_KINDS(goodbye_without_an_answer);
    ADD_KINDS(abort_drops);
    ADD_KINDS(close_in_a_callback);
    ADD_KINDS(abort_in_a_callback);
    ADD_KINDS(end_in_connection_made);
    tcase = new_tls_case(suite, "bad records");
    ADD_KINDS(garbage_after_the_handshake);
    ADD_KINDS(half_a_record);
    tcase = new_tls_case(suite, "life");
    ADD_KINDS(release_at_any_time);
    ADD_KINDS(loop_goes_first);
    ADD_KINDS(fork_says_no_goodbye);
    return suite;
}

int
main(void)
{
    return support_main(tls_suite());
}
