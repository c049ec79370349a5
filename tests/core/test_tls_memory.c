/* test_tls_memory.c -- tls.h: the buffers that OpenSSL takes for records.
 *
 * SPDX-License-Identifier: MIT
 */
#include <malloc.h>
#include <openssl/crypto.h>
#include <stdlib.h>
#include <string.h>

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

/* --- counting --- */

/* For a record of full size. That of the handshake is larger. */
#define BUFFER_MIN 16384
#define BUFFER_MAX 20000

static int taken; /* ever */
static int held;  /* now */

static bool
is_buffer(void *memory)
{
    size_t size = malloc_usable_size(memory);

    return size >= BUFFER_MIN && size <= BUFFER_MAX;
}

static void *
count_malloc(size_t size, const char *file, int line)
{
    void *memory = malloc(size);

    (void)file;
    (void)line;
    if (is_buffer(memory)) {
        taken++;
        held++;
    }
    return memory;
}

static void
count_free(void *memory, const char *file, int line)
{
    (void)file;
    (void)line;
    if (is_buffer(memory)) {
        held--;
    }
    free(memory);
}

static void *
count_realloc(void *memory, size_t size, const char *file, int line)
{
    void *larger = count_malloc(size, file, line);

    if (memory != NULL && larger != NULL) {
        size_t len = malloc_usable_size(memory);

        memcpy(larger, memory, len < size ? len : size);
        count_free(memory, file, line);
    }
    return larger;
}

/* The peer's buffers do not count. */
static void
expect_none_held(void)
{
    ck_assert_int_eq(SSL_free_buffers(peer), 1);
    ck_assert_int_eq(held, 0);
}

/* --- at work --- */

static void
echo(int times)
{
    for (int i = 0; i < times; i++) {
        size_t before = tls.received;

        peer_write("echo", 4);
        TLS_UNTIL(tls.received == before + 4);
        tls_write("echo");
        peer_expect_text("echo");
    }
}

static void
expect_echo_takes_nothing(void)
{
    int before;

    echo(3);
    before = taken;
    echo(100);
    ck_assert_int_eq(taken, before);
}

static void
be_idle(void)
{
    ck_assert_int_eq(bk_loop_call_later(stream_loop, 1200 * MS, support_stop,
                                        stream_loop, NULL),
                     0);
    support_run(stream_loop);
}

START_TEST(connection_at_work_keeps_buffers)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    tls.is_quiet = true;
    expect_echo_takes_nothing();
    be_idle();
    expect_none_held();
    expect_echo_takes_nothing();
    tls_end();
    ck_assert_int_eq(held, 0);
}
END_TEST

/* --- not at work --- */

START_TEST(handshake_keeps_none_while_it_waits)
{
    tls_begin(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    support_turns(stream_loop, 3);
    ck_assert_int_eq(held, 0);
    tls_shake_hands();
    expect_none_held();
    tls_end();
}
END_TEST

START_TEST(connection_that_reads_nothing_keeps_none)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    for (int i = 0; i < 3; i++) {
        tls_write_big(0, 40000);
        peer_expect(big_data, 40000);
        expect_none_held();
    }
    tls_end();
}
END_TEST

/* Nor while the peer takes its time to answer the goodbye. */
START_TEST(goodbye_keeps_none)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    bk_tls_close(tls.tls);
    peer_expect_goodbye();
    ck_assert_int_eq(tls.lost_count, 0);
    SSL_free(peer);
    peer = NULL;
    ck_assert_int_eq(held, 0);
    tls_end();
}
END_TEST

/* An SSL that somebody keeps. */
START_TEST(ended_connection_keeps_none)
{
    SSL *ssl;

    tls_connect(SUPPORT_EPOLL, kinds[_i].role, kinds[_i].version);
    tls.is_quiet = true;
    ssl = bk_tls_ssl(tls.tls);
    ck_assert_int_eq(SSL_up_ref(ssl), 1);
    echo(3);
    bk_tls_release(tls.tls);
    tls.tls = NULL;
    expect_none_held();
    SSL_free(ssl);
    tls_end();
}
END_TEST

/* New keys come with a record layer of their own. */
START_TEST(new_keys)
{
    tls_connect(SUPPORT_EPOLL, kinds[_i * 2].role, TLS1_3_VERSION);
    tls.is_quiet = true;
    echo(3);
    ck_assert_int_eq(SSL_key_update(peer, SSL_KEY_UPDATE_REQUESTED), 1);
    expect_echo_takes_nothing();
    be_idle();
    expect_none_held();
    tls_end();
}
END_TEST

static Suite *
tls_memory_suite(void)
{
    Suite *suite = suite_create("test_tls_memory");
    TCase *tcase = new_tls_case(suite, "at work");

#define ADD_KINDS(test) tcase_add_loop_test(tcase, test, 0, KINDS)
    ADD_KINDS(connection_at_work_keeps_buffers);
    tcase_add_loop_test(tcase, new_keys, 0, 2);
    tcase = new_tls_case(suite, "not at work");
    ADD_KINDS(handshake_keeps_none_while_it_waits);
    ADD_KINDS(connection_that_reads_nothing_keeps_none);
    ADD_KINDS(goodbye_keeps_none);
    ADD_KINDS(ended_connection_keeps_none);
    return suite;
}

int
main(void)
{
    if (CRYPTO_set_mem_functions(count_malloc, count_realloc, count_free) !=
        1) {
        return 1; /* OpenSSL has memory of its own already */
    }
    return support_main(tls_memory_suite());
}
