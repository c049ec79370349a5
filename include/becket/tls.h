/* tls.h -- TLS on top of a transport, with OpenSSL.
 *
 * SPDX-License-Identifier: MIT
 *
 * In libraries that were built with OpenSSL (Meson option tls). Certificates,
 * keys, versions, ALPN and all else is set with OpenSSL's own functions, in
 * the SSL_CTX, or in the SSL (bk_tls_ssl) from inside configure().
 *
 *   handshake -> open -> closing (flushes, says goodbye) -> closed
 *   abort and errors lead from anywhere to closed
 *
 * What one callback writes is encrypted when it returns, in records as full as
 * may be, and leaves in one send. An idle connection holds no buffer; of those
 * that were at work, up to 64 do until the loop has slept for a second.
 *
 * asyncio: loop.start_tls, and ssl= of create_connection and create_server:
 * call bk_tls_start() in connection_made of the transport's protocol.
 */
#ifndef BECKET_TLS_H
#define BECKET_TLS_H

#include "becket/tls_pump.h"
#include "becket/transport.h"
#include "becket/types.h"

BK_BEGIN_DECLS

/* Members may be NULL. All run in the loop's thread; the connection may be
 * closed or aborted from inside any of them. */
typedef struct {
    /* Before the handshake: set up the SSL. Negative: do not begin. */
    int (*configure)(bk_tls *tls, struct ssl_st *ssl, void *self);

    /* The handshake is done, and the peer has been verified as the SSL_CTX
     * and server_hostname ask for. */
    void (*connection_made)(bk_tls *tls, void *self);

    /* len > 0 bytes, borrowed for the call; at most 16 KiB. */
    void (*data_received)(bk_tls *tls, const void *data, size_t len,
                          void *self);

    /* The peer has said goodbye, or its end has just ended. The connection
     * then closes by itself. */
    void (*eof_received)(bk_tls *tls, void *self);

    /* As much as the high-water mark waits, and later not more than the
     * low-water mark. Strictly in turn. */
    void (*pause_writing)(bk_tls *tls, void *self);
    void (*resume_writing)(bk_tls *tls, void *self);

    /* Exactly once, last of all, also when the handshake has failed. error: 0
     * after close() and abort(0); BK_TLS_ERROR: bk_tls_last_error() tells;
     * -ETIMEDOUT: handshake or goodbye took too long; -ECONNRESET: the peer
     * went away in the handshake; or what the transport failed with. The
     * bk_tls and its transport are freed when it returns. */
    void (*connection_lost)(bk_tls *tls, int error, void *self);
} bk_tls_protocol;

typedef struct {
    struct ssl_ctx_st *context; /* each connection takes a reference */
    bool is_server;

    /* Client: sent to the server (SNI), and what its certificate must be
     * for, if the context verifies. NULL: neither. Borrowed for the call. */
    const char *server_hostname;

    uint64_t handshake_timeout_ns; /* 0: 60 s */
    uint64_t shutdown_timeout_ns;  /* 0: 30 s */
} bk_tls_options;

/* Begin TLS on an open transport, whose protocol is the TLS connection from
 * now on. What was written before goes first, as it is. *ret_tls is the
 * library's: borrowed until connection_lost, which always follows unless the
 * loop is closed or bk_tls_release() is called. On failure nothing has
 * changed. -EINVAL, -ENOMEM, -EBADF: the transport is not open, -EBUSY: this
 * process uses another copy of OpenSSL, and what configure() gave.
 * Thread: loop, as all here. */
BK_API int bk_tls_start(bk_transport *transport,
                        const bk_tls_protocol *protocol, void *self,
                        const bk_tls_options *options, bk_tls **ret_tls);

/* Queue data; as bk_transport_write(). Before the handshake is done it waits
 * for that. 0: taken, also when it was dropped since the connection closes.
 * -ENOMEM. */
BK_API int bk_tls_write(bk_tls *tls, const void *data, size_t len);
BK_API int bk_tls_write_lent(bk_tls *tls, const void *data, size_t len,
                             bk_release_cb release, void *owner);

/* Send what is queued and close_notify, wait for the peer's, then
 * connection_lost(0). In the handshake: abort. Idempotent. */
BK_API void bk_tls_close(bk_tls *tls);

/* Drop what is queued, then connection_lost(error), 0 or a negative code. */
BK_API void bk_tls_abort(bk_tls *tls, int error);

/* End at once, calling nothing: the transport is released, the bk_tls freed.
 * Not from inside one of the protocol's functions. */
BK_API void bk_tls_release(bk_tls *tls);

/* Stop and continue to deliver. Idempotent. */
BK_API void bk_tls_pause_reading(bk_tls *tls);
BK_API void bk_tls_resume_reading(bk_tls *tls);

/* True from close(), abort(), a goodbye or a failure on. */
BK_API bool bk_tls_is_closing(bk_tls *tls);

/* Bytes that wait for the transport to take more. */
BK_API size_t bk_tls_get_write_buffer_size(bk_tls *tls);

/* Water marks in bytes, high >= low; -EINVAL otherwise. May call
 * pause_writing. Defaults: 512 KiB and 128 KiB. */
BK_API int bk_tls_set_write_buffer_limits(bk_tls *tls, size_t high_bytes,
                                          size_t low_bytes);

BK_API void *bk_tls_get_self(const bk_tls *tls);

/* The transport below; borrowed until connection_lost. */
BK_API bk_transport *bk_tls_transport(const bk_tls *tls);

/* OpenSSL's object, for questions: certificates, cipher, ALPN. Borrowed until
 * connection_lost; not to be read from or written to. */
BK_API struct ssl_st *bk_tls_ssl(const bk_tls *tls);

/* OpenSSL's code for what has failed the connection (ERR_error_string_n), or
 * 0. */
BK_API unsigned long bk_tls_last_error(const bk_tls *tls);

/* The functions of the OpenSSL that the library is linked with. Static. */
BK_API const bk_tls_openssl *bk_tls_openssl_linked(void);

BK_END_DECLS

#endif
