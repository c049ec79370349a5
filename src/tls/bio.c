/* bio.c -- what OpenSSL reads and writes its records through.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * One BIO serves both directions; its data is the pump, or NULL once the pump
 * has let go of it. The SSL holds it and may live longer than pump, loop and
 * module: so the method is never freed, and a BIO without a pump behaves like
 * memory that nobody fills or empties.
 *
 * OpenSSL calls with the BIO alone, so the way from a BIO to its data has to be
 * known to the whole process: it is written once, and what an SSL of another
 * copy of OpenSSL would need is refused.
 *
 * A BIO always says that a read which brought nothing is to be tried again.
 * Nobody asks after one that brought something, so the flags never change.
 */

#include <errno.h>

#include "tls/internal.h"

/* Of <openssl/bio.h> and <openssl/ssl.h>: parts of OpenSSL's ABI. */
enum {
    BIO_TYPE_SOURCE_SINK = 0x0400,
    BIO_FLAGS_READ = 0x01,
    BIO_FLAGS_SHOULD_RETRY = 0x08,
    BIO_CTRL_FLUSH = 11,
    SSL_CTRL_MODE = 33,
    SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER = 0x02,
    SSL_MODE_RELEASE_BUFFERS = 0x10,
};

/* Below 128, and none of OpenSSL's own. */
#define BIO_INDEX 0x7e

/* BIO_get_data of the process's OpenSSL. Atomic, written once. */
static void *(*get_data)(struct bio_st *bio);

static bk_tls_pump *
pump_of(struct bio_st *bio)
{
    return __atomic_load_n(&get_data, __ATOMIC_RELAXED)(bio);
}

static int
bio_read(struct bio_st *bio, char *buf, int len)
{
    bk_tls_pump *pump = pump_of(bio);
    size_t n = 0;

    if (pump != NULL && len > 0) {
        n = bk_tls_pump_take_input(pump, buf, (size_t)len);
    }
    return n > 0 ? (int)n : -1;
}

static int
bio_write(struct bio_st *bio, const char *data, int len)
{
    bk_tls_pump *pump = pump_of(bio);

    if (pump != NULL && len > 0 &&
        bk_tls_pump_put_output(pump, data, (size_t)len) < 0) {
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

/* The SSL gets a reference, and we keep one, to reach the BIO for as long as
 * its data has to be taken from it. */
int
bk_tls_openssl_attach(bk_tls_openssl_session *session,
                      const bk_tls_openssl *openssl, struct ssl_st *ssl,
                      bk_tls_pump *pump)
{
    struct bio_st *bio = openssl->BIO_new(openssl->method);

    *session = (bk_tls_openssl_session){._openssl = openssl, ._ssl = ssl};
    if (bio == NULL || openssl->BIO_up_ref(bio) != 1) {
        (void)openssl->BIO_free(bio);
        return -ENOMEM;
    }
    openssl->BIO_set_data(bio, pump);
    openssl->BIO_set_flags(bio, BIO_FLAGS_READ | BIO_FLAGS_SHOULD_RETRY);
    openssl->BIO_set_init(bio, 1);
    openssl->SSL_set_bio(ssl, bio, bio);
    (void)openssl->SSL_ctrl(
        ssl, SSL_CTRL_MODE,
        SSL_MODE_ACCEPT_MOVING_WRITE_BUFFER | SSL_MODE_RELEASE_BUFFERS, NULL);
    session->_bio = bio;
    return 0;
}

void
bk_tls_openssl_detach(bk_tls_openssl_session *session)
{
    struct bio_st *bio = session->_bio;

    if (bio == NULL) {
        return;
    }
    session->_bio = NULL;
    session->_ssl = NULL;
    session->_openssl->BIO_set_data(bio, NULL);
    (void)session->_openssl->BIO_free(bio);
}
