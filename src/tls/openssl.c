/* openssl.c -- OpenSSL as the engine of a pump.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * OpenSSL is reached through a table of its functions, so this file neither
 * includes its headers nor links it. On a failure its error queue is left as
 * it is, for whoever turns it into words.
 */

#include <errno.h>
#include <limits.h>

#include "tls/internal.h"

#include "loop/internal.h"

/* Of <openssl/ssl.h>: parts of OpenSSL's ABI. */
enum {
    SSL_ERROR_WANT_READ = 2,
    SSL_ERROR_SYSCALL = 5,
    SSL_ERROR_ZERO_RETURN = 6,
    SSL_RECEIVED_SHUTDOWN = 2,
};

const bk_tls_openssl_name *
bk_tls_openssl_names(void)
{
#define NAME(result, name, parameters) {#name, offsetof(bk_tls_openssl, name)},
    static const bk_tls_openssl_name names[] = {
        BK_TLS_OPENSSL_FUNCTIONS(NAME){NULL, 0}};
#undef NAME

    return names;
}

/* SSL_get_error() takes what somebody else has left in the queue for a failure
 * of ours. */
static void
forget_errors(const bk_tls_openssl *openssl)
{
    if (openssl->ERR_peek_error() != 0) {
        openssl->ERR_clear_error();
    }
}

/* A call that ended with result <= 0. Like asyncio, take a failure of the
 * system, of which our BIOs have none, for a want of more. */
static int
failure(bk_tls_openssl_session *session, int result)
{
    const bk_tls_openssl *openssl = session->_openssl;

    switch (openssl->SSL_get_error(session->_ssl, result)) {
    case SSL_ERROR_WANT_READ:
    case SSL_ERROR_SYSCALL:
        bki_tls_tidy(session);
        return -EAGAIN;
    case SSL_ERROR_ZERO_RETURN:
        return openssl->SSL_get_shutdown(session->_ssl) == SSL_RECEIVED_SHUTDOWN
                   ? BK_EOF
                   : BK_TLS_ERROR;
    default:
        return BK_TLS_ERROR;
    }
}

static int
clamp(size_t len)
{
    return len < INT_MAX ? (int)len : INT_MAX;
}

static int
openssl_handshake(bk_tls_pump *pump, void *self)
{
    bk_tls_openssl_session *session = self;
    int r;

    (void)pump;
    session->_is_drained = false;
    forget_errors(session->_openssl);
    r = session->_openssl->SSL_do_handshake(session->_ssl);
    if (r == 1) {
        bki_tls_after_handshake(session);
        bki_tls_tidy(session);
        return 0;
    }
    r = failure(session, r);
    return r == -EAGAIN ? r : BK_TLS_ERROR;
}

/* OpenSSL opens one record at a time and gives what is in it; less than was
 * asked for is the rest of one. When nothing more was received, then, the call
 * that would only find that out can be saved. */
static ssize_t
openssl_read(bk_tls_pump *pump, void *buf, size_t len, void *self)
{
    bk_tls_openssl_session *session = self;
    const bk_tls_openssl *openssl = session->_openssl;
    int n;

    if (session->_is_drained && pump->_in._len + pump->_window_len == 0) {
        return -EAGAIN;
    }
    forget_errors(openssl);
    n = openssl->SSL_read(session->_ssl, buf, clamp(len));
    if (n <= 0) {
        session->_is_drained = false;
        return failure(session, n);
    }
    session->_is_drained =
        (size_t)n < len && openssl->SSL_has_pending(session->_ssl) == 0;
    if (session->_is_warm) {
        session->_turn = pump->_loop->stats.turns;
    }
    else {
        bki_tls_warm_up(session);
    }
    return n;
}

static ssize_t
openssl_write(bk_tls_pump *pump, const void *data, size_t len, void *self)
{
    bk_tls_openssl_session *session = self;
    int n;

    (void)pump;
    forget_errors(session->_openssl);
    n = session->_openssl->SSL_write(session->_ssl, data, clamp(len));
    if (n <= 0) {
        n = failure(session, n);
        return n == BK_EOF ? BK_TLS_ERROR : n;
    }
    bki_tls_tidy(session);
    return n;
}

/* The first call sends close_notify, the second waits for the peer's. */
static int
openssl_shutdown(bk_tls_pump *pump, void *self)
{
    bk_tls_openssl_session *session = self;
    int r;

    (void)pump;
    forget_errors(session->_openssl);
    r = session->_openssl->SSL_shutdown(session->_ssl);
    if (r == 0) {
        r = session->_openssl->SSL_shutdown(session->_ssl);
    }
    if (r >= 0) {
        return 0;
    }
    r = failure(session, r);
    return r == -EAGAIN ? r : BK_TLS_ERROR;
}

const bk_tls_engine *
bk_tls_openssl_engine(void)
{
    static const bk_tls_engine engine = {
        .name = "openssl",
        .handshake = openssl_handshake,
        .read = openssl_read,
        .write = openssl_write,
        .shutdown = openssl_shutdown,
    };

    return &engine;
}
