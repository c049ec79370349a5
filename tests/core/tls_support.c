/* tls_support.c -- a recorded TLS connection and its peer, for the tests.
 *
 * SPDX-License-Identifier: MIT
 */
#include "tls_support.h"

#include <errno.h>
#include <openssl/err.h>
#include <openssl/x509v3.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

struct tls_recorder tls;
SSL *peer;
SSL_CTX *tls_context;
bk_tls_options tls_options;

/* --- a certificate --- */

static void
add_extension(X509 *certificate, int nid, const char *value)
{
    X509V3_CTX context;
    X509_EXTENSION *extension;

    X509V3_set_ctx(&context, certificate, certificate, NULL, NULL, 0);
    extension = X509V3_EXT_conf_nid(NULL, &context, nid, value);
    ck_assert_ptr_nonnull(extension);
    ck_assert_int_eq(X509_add_ext(certificate, extension, -1), 1);
    X509_EXTENSION_free(extension);
}

static X509 *
new_certificate(EVP_PKEY *key)
{
    X509 *certificate = X509_new();
    X509_NAME *name = X509_get_subject_name(certificate);

    ck_assert_int_eq(X509_set_version(certificate, X509_VERSION_3), 1);
    ck_assert_int_eq(ASN1_INTEGER_set(X509_get_serialNumber(certificate), 1),
                     1);
    (void)X509_gmtime_adj(X509_getm_notBefore(certificate), -3600);
    (void)X509_gmtime_adj(X509_getm_notAfter(certificate), 3600);
    ck_assert_int_eq(X509_set_pubkey(certificate, key), 1);
    ck_assert_int_eq(X509_NAME_add_entry_by_txt(name, "CN", MBSTRING_ASC,
                                                (const unsigned char *)TLS_NAME,
                                                -1, -1, 0),
                     1);
    ck_assert_int_eq(X509_set_issuer_name(certificate, name), 1);
    add_extension(certificate, NID_subject_alt_name,
                  "DNS:" TLS_NAME ",IP:127.0.0.1");
    add_extension(certificate, NID_basic_constraints, "critical,CA:TRUE");
    ck_assert_int_gt(X509_sign(certificate, key, EVP_sha256()), 0);
    return certificate;
}

static SSL_CTX *
new_context(void)
{
    SSL_CTX *context = SSL_CTX_new(TLS_method());
    EVP_PKEY *key = EVP_EC_gen("P-256");
    X509 *certificate = new_certificate(key);

    ck_assert_ptr_nonnull(context);
    ck_assert_int_eq(SSL_CTX_use_certificate(context, certificate), 1);
    ck_assert_int_eq(SSL_CTX_use_PrivateKey(context, key), 1);
    ck_assert_int_eq(
        X509_STORE_add_cert(SSL_CTX_get_cert_store(context), certificate), 1);
    X509_free(certificate);
    EVP_PKEY_free(key);
    return context;
}

/* --- our end --- */

static void
note_tls(const char *text)
{
    ck_assert_uint_lt(strlen(tls.log) + strlen(text) + 2, sizeof(tls.log));
    (void)strcat(tls.log, text);
    (void)strcat(tls.log, " ");
}

static void
on_made(bk_tls *self, void *arg)
{
    ck_assert_ptr_eq(arg, &tls);
    ck_assert_ptr_eq(bk_tls_get_self(self), &tls);
    tls.made_count++;
    note_tls("made");
    if (tls.on_made != NULL) {
        tls.on_made();
    }
}

static void
on_data(bk_tls *self, const void *data, size_t len, void *arg)
{
    char text[32];

    (void)self;
    (void)arg;
    if (tls.buffer != NULL) {
        memcpy(tls.buffer + tls.received, data, len);
    }
    tls.received += len;
    if (!tls.is_quiet) {
        (void)snprintf(text, sizeof(text), "data:%zu", len);
        note_tls(text);
    }
    if (tls.on_data != NULL) {
        tls.on_data();
    }
}

static void
on_eof(bk_tls *self, void *arg)
{
    (void)self;
    (void)arg;
    note_tls("eof");
    if (tls.on_eof != NULL) {
        tls.on_eof();
    }
}

static void
on_pause(bk_tls *self, void *arg)
{
    (void)self;
    (void)arg;
    tls.pauses++;
    note_tls("pause");
}

static void
on_resume(bk_tls *self, void *arg)
{
    (void)self;
    (void)arg;
    tls.resumes++;
    note_tls("resume");
}

static void
on_lost(bk_tls *self, int error, void *arg)
{
    (void)arg;
    ck_assert(bk_tls_is_closing(self));
    tls.lost_count++;
    tls.lost_error = error;
    tls.openssl_error = bk_tls_last_error(self);
    tls.tls = NULL;
    note_tls("lost");
}

const bk_tls_protocol tls_recorder_protocol = {
    .connection_made = on_made,
    .data_received = on_data,
    .eof_received = on_eof,
    .pause_writing = on_pause,
    .resume_writing = on_resume,
    .connection_lost = on_lost,
};

void
tls_expect_log(const char *log)
{
    ck_assert_str_eq(tls.log, log);
    tls.log[0] = '\0';
}

void
tls_write(const char *text)
{
    ck_assert_int_eq(bk_tls_write(tls.tls, text, strlen(text)), 0);
}

void
tls_write_big(size_t offset, size_t len)
{
    ck_assert_int_eq(bk_tls_write(tls.tls, big_data + offset, len), 0);
}

/* --- both ends --- */

static void
set_up_tls(void)
{
    big_data = malloc(BIG);
    ck_assert_ptr_nonnull(big_data);
    fill_pattern(big_data, BIG, 0);
    tls_context = new_context();
    /* One for the process and for ever: no leak of a test's. */
    ck_assert_ptr_nonnull(bk_tls_openssl_linked());
}

static void
tear_down_tls(void)
{
    SSL_CTX_free(tls_context);
    free(big_data);
}

static void
new_peer(int role)
{
    peer = SSL_new(tls_context);
    ck_assert_ptr_nonnull(peer);
    ck_assert_int_eq(SSL_set_fd(peer, stream_fds[1]), 1);
    if (role == TLS_SERVER) {
        SSL_set_connect_state(peer);
    }
    else {
        SSL_set_accept_state(peer);
    }
}

void
tls_begin(int poller, int role, int version)
{
    begin(poller);
    ck_assert_int_eq(SSL_CTX_set_min_proto_version(tls_context, version), 1);
    ck_assert_int_eq(SSL_CTX_set_max_proto_version(tls_context, version), 1);
    new_peer(role);
    tls_options.context = tls_context;
    tls_options.is_server = role == TLS_SERVER;
    ck_assert_int_eq(bk_tls_start(stream(), &tls_recorder_protocol, &tls,
                                  &tls_options, &tls.tls),
                     0);
    ck_assert_ptr_eq(bk_tls_transport(tls.tls), stream());
}

void
tls_shake_hands(void)
{
    int r;

    do {
        r = SSL_do_handshake(peer);
        ck_assert(r == 1 || SSL_get_error(peer, r) == SSL_ERROR_WANT_READ);
        support_turns(stream_loop, 1);
    } while (r != 1);
    TLS_UNTIL(tls.made_count == 1);
}

void
tls_connect(int poller, int role, int version)
{
    tls_begin(poller, role, version);
    tls_shake_hands();
    tls_expect_log("made ");
}

void
tls_end(void)
{
    if (tls.tls != NULL) {
        bk_tls_release(tls.tls);
    }
    SSL_free(peer);
    end();
}

void
peer_write(const void *data, size_t len)
{
    size_t done = 0;

    while (done < len) {
        int n = SSL_write(peer, (const char *)data + done,
                          (int)(len - done < 65536 ? len - done : 65536));

        if (n > 0) {
            done += (size_t)n;
        }
        else {
            ck_assert_int_eq(SSL_get_error(peer, n), SSL_ERROR_WANT_WRITE);
        }
        support_turns(stream_loop, 1);
    }
}

void
peer_expect(const void *data, size_t len)
{
    uint64_t deadline_ns = bk_clock_now() + 10 * S;
    static char buf[65536];
    size_t done = 0;

    while (done < len) {
        int n;

        support_turns(stream_loop, 1);
        ERR_clear_error();
        n = SSL_read(
            peer, buf,
            (int)(len - done < sizeof(buf) ? len - done : sizeof(buf)));
        if (n > 0) {
            ck_assert_mem_eq(buf, (const char *)data + done, (size_t)n);
            done += (size_t)n;
            continue;
        }
        ck_assert_int_eq(SSL_get_error(peer, n), SSL_ERROR_WANT_READ);
        ck_assert(bk_clock_now() < deadline_ns);
    }
}

void
peer_expect_text(const char *text)
{
    peer_expect(text, strlen(text));
}

/* What SSL_read() fails with, once nothing is left to read. */
static int
peer_read_error(void)
{
    uint64_t deadline_ns = bk_clock_now() + 10 * S;

    for (;;) {
        char byte;
        int n;
        int error;

        ERR_clear_error();
        n = SSL_read(peer, &byte, 1);
        ck_assert_int_le(n, 0);
        error = SSL_get_error(peer, n);
        if (error != SSL_ERROR_WANT_READ) {
            return error;
        }
        ck_assert(bk_clock_now() < deadline_ns);
        support_turns(stream_loop, 1);
    }
}

void
peer_expect_goodbye(void)
{
    ck_assert_int_eq(peer_read_error(), SSL_ERROR_ZERO_RETURN);
}

void
peer_expect_eof(void)
{
    char byte;
    ssize_t n = -1;
    uint64_t deadline_ns = bk_clock_now() + 10 * S;

    while (n != 0) {
        support_turns(stream_loop, 1);
        n = read(stream_fds[1], &byte, 1);
        ck_assert(n >= 0 || errno == EAGAIN);
        ck_assert(bk_clock_now() < deadline_ns);
    }
}

TCase *
new_tls_case(Suite *suite, const char *name)
{
    TCase *tcase = tcase_create(name);

    tcase_add_checked_fixture(tcase, set_up_tls, tear_down_tls);
    suite_add_tcase(suite, tcase);
    return tcase;
}
