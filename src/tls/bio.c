/* bio.c -- what OpenSSL reads and writes its records through.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * One BIO serves both directions; its data is the session, or NULL once that
 * has let go of it. The SSL holds it and may live longer than session, loop and
 * module: so the method is never freed, and a BIO without a session behaves
 * like memory that nobody fills or empties.
 *
 * OpenSSL calls with the BIO alone, so the way from a BIO to its data has to be
 * known to the whole process: it is written once, and what an SSL of another
 * copy of OpenSSL would need is refused.
 *
 * OpenSSL asks for a record's header and then for the rest of it, unless it may
 * read ahead: then it asks once for all that it has room for, and is given no
 * more than that record. So it never holds what comes behind, which may not be
 * for it (after the goodbye), and which the pump counts as waiting.
 *
 * A BIO always says that a read which brought nothing is to be tried again.
 * Nobody asks after one that brought something, so the flags never change.
 */

#include <errno.h>
#include <string.h>

#include "tls/internal.h"

/* Of <openssl/bio.h> and <openssl/ssl.h>: parts of OpenSSL's ABI. */
enum {
    BIO_TYPE_SOURCE_SINK = 0x0400,
    BIO_FLAGS_READ = 0x01,
    BIO_FLAGS_SHOULD_RETRY = 0x08,
    BIO_CTRL_FLUSH = 11,
    SSL_CTRL_MODE = 33,
    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 0x02,
};

enum { RECORD_TYPE_FIRST = 20, RECORD_TYPE_LAST = 24, HEADER_LEN = 5 };

/* Below 128, and none of OpenSSL's own. */
#define BIO_INDEX 0x7e

/* BIO_get_data of the process's OpenSSL. Atomic, written once. */
static void *(*get_data)(struct bio_st *bio);

static bk_tls_openssl_session *
session_of(struct bio_st *bio)
{
    return __atomic_load_n(&get_data, __ATOMIC_RELAXED)(bio);
}

/* The types of records, RFC 8446 5.1; heartbeats, RFC 6520, are the last. What
 * else OpenSSL may know, like the hello of SSL 2, has lengths of another kind.
 */
static bool
is_header(const uint8_t *header)
{
    return header[0] >= RECORD_TYPE_FIRST && header[0] <= RECORD_TYPE_LAST;
}

/* Bytes of a header; with the last one the record's length is known. */
static size_t
read_header(bk_tls_openssl_session *session, char *buf, size_t len)
{
    uint8_t *header = session->_header;
    size_t room = HEADER_LEN - (size_t)session->_header_len;
    size_t n = bk_tls_pump_take_input(
        session->_pump, header + session->_header_len, len < room ? len : room);

    memcpy(buf, header + session->_header_len, n);
    session->_header_len = (uint8_t)(session->_header_len + n);
    if (n < room) {
        return n;
    }
    session->_header_len = 0;
    session->_record_left = (uint32_t)header[3] << 8 | header[4];
    if (!is_header(header)) {
        session->_is_unframed = true;
        session->_openssl->SSL_set_read_ahead(session->_ssl, 0);
    }
    return n;
}

/* The same for a header in one piece, and what is there of its record: nearly
 * always all of it. 0 if it is not that simple. */
static size_t
read_at_once(bk_tls_openssl_session *session, char *buf, size_t len)
{
    bk_tls_pump *pump = session->_pump;
    const uint8_t *header = (const uint8_t *)pump->_window;
    size_t size;
    size_t n;

    if (session->_header_len > 0 || pump->_in._len > 0 ||
        pump->_window_len < HEADER_LEN || len < HEADER_LEN ||
        !is_header(header)) {
        return 0;
    }
    size = HEADER_LEN + ((size_t)header[3] << 8 | header[4]);
    n = size < len ? size : len;
    n = n < pump->_window_len ? n : pump->_window_len;
    memcpy(buf, header, n);
    pump->_window += n;
    pump->_window_len -= n;
    session->_record_left = (uint32_t)(size - n);
    return n;
}

static size_t
read_record(bk_tls_openssl_session *session, char *buf, size_t len)
{
    size_t done = 0;
    size_t n;

    if (session->_record_left == 0) {
        done = read_at_once(session, buf, len);
        if (done > 0) {
            return done;
        }
        done = read_header(session, buf, len);
        if (session->_is_unframed) {
            return done;
        }
    }
    n = len - done < session->_record_left ? len - done : session->_record_left;
    if (n > 0) {
        n = bk_tls_pump_take_input(session->_pump, buf + done, n);
        session->_record_left -= (uint32_t)n;
    }
    return done + n;
}

static int
bio_read(struct bio_st *bio, char *buf, int len)
{
    bk_tls_openssl_session *session = session_of(bio);
    size_t n = 0;

    if (session == NULL || len <= 0) {
        return -1;
    }
    if (session->_is_unframed) {
        n = bk_tls_pump_take_input(session->_pump, buf, (size_t)len);
    }
    else {
        n = read_record(session, buf, (size_t)len);
    }
    if (n == 0) {
        return -1;
    }
    session->_is_drained = false; /* whoever asked */
    return (int)n;
}

static int
bio_write(struct bio_st *bio, const char *data, int len)
{
    bk_tls_openssl_session *session = session_of(bio);

    if (session != NULL && len > 0 &&
        bk_tls_pump_put_output(session->_pump, data, (size_t)len) < 0) {
        return -1;
    }
    return len;
}

static long
bio_ctrl(struct bio_st *bio, int cmd, long num, void *ptr)
{
    (void)bio;
    (void)num;
    (void)ptr;
    return cmd == BIO_CTRL_FLUSH;
}

static bool
claim_process(void *(*function)(struct bio_st *bio))
{
    void *(*expected)(struct bio_st * bio) = NULL;

    return __atomic_compare_exchange_n(&get_data, &expected, function, false,
                                       __ATOMIC_RELAXED, __ATOMIC_RELAXED) ||
           expected == function;
}

int
bk_tls_openssl_method(bk_tls_openssl *openssl)
{
    if (!claim_process(openssl->BIO_get_data)) {
        return -EBUSY;
    }
    openssl->method =
        openssl->BIO_meth_new(BIO_TYPE_SOURCE_SINK | BIO_INDEX, "becket");
    if (openssl->method == NULL) {
        return -ENOMEM;
    }
    (void)openssl->BIO_meth_set_read(openssl->method, bio_read);
    (void)openssl->BIO_meth_set_write(openssl->method, bio_write);
    (void)openssl->BIO_meth_set_ctrl(openssl->method, bio_ctrl);
    return 0;
}

/* The session's own references. */
static bool
hold(const bk_tls_openssl *openssl, struct ssl_st *ssl, struct bio_st *bio)
{
    if (openssl->BIO_up_ref(bio) != 1) {
        return false;
    }
    if (openssl->SSL_up_ref(ssl) != 1) {
        (void)openssl->BIO_free(bio);
        return false;
    }
    return true;
}

/* The SSL gets a reference to the BIO, and we keep one, to reach it for as long
 * as its data has to be taken from it. */
int
bk_tls_openssl_attach(bk_tls_openssl_session *session,
                      const bk_tls_openssl *openssl, struct ssl_st *ssl,
                      bk_tls_pump *pump)
{
    struct bio_st *bio = openssl->BIO_new(openssl->method);

    *session = (bk_tls_openssl_session){
        ._openssl = openssl, ._ssl = ssl, ._pump = pump};
    if (bio == NULL || !hold(openssl, ssl, bio)) {
        (void)openssl->BIO_free(bio);
        return -ENOMEM;
    }
    openssl->BIO_set_data(bio, session);
    openssl->BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
    openssl->BIO_set_init(bio, 1);
    openssl->SSL_set_bio(ssl, bio, bio);
    (void)openssl->SSL_ctrl(ssl, SSL_CTRL_MODE,
                            SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER, NULL);
    openssl->SSL_set_read_ahead(ssl, 1);
    session->_bio = bio;
    bki_tls_before_handshake(session);
    return 0;
}

void
bk_tls_openssl_detach(bk_tls_openssl_session *session)
{
    struct bio_st *bio = session->_bio;
    struct ssl_st *ssl = session->_ssl;

    if (bio == NULL) {
        return;
    }
    bki_tls_cool(session);
    session->_bio = NULL;
    session->_ssl = NULL;
    session->_openssl->BIO_set_data(bio, NULL);
    (void)session->_openssl->BIO_free(bio);
    session->_openssl->SSL_free(ssl);
}
