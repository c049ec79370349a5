/* tls_pump.h -- TLS over any carrier, with any engine: for embedders.
 *
 * SPDX-License-Identifier: MIT
 *
 * C programs that link OpenSSL take tls.h, which is made of this.
 *
 *        protocol of the user                    above: bk_tls_ops
 *   write |            ^ readable, eof, ...
 *         v            |
 *        bk_tls_pump: buffers, states  <----->   engine: bk_tls_engine
 *   send  |            ^ receive, eof, lost
 *         v            |
 *        what carries the records                below: bk_tls_ops
 *
 * The pump decides when to shake hands, read, write and say goodbye; the
 * engine turns plain bytes into records and back; the embedder moves both and
 * tells the protocol. States, order and limits are those of
 * asyncio.sslproto.SSLProtocol:
 *
 *   unwrapped -> handshake -> wrapped -> flushing -> shutdown
 *   abort, failures and the loss of the carrier lead back to unwrapped
 *
 * Codes of engines and ops: 0 or a count; -EAGAIN where it is named; and
 *   BK_TLS_ERROR  the TLS connection has failed (the engine knows why);
 *   -ECANCELED    stop at once: the pump does nothing more, and the function
 *                 that the embedder called into returns -ECANCELED;
 *   others        failures of the embedder's own. A handshake stops as with
 *                 -ECANCELED; reading and writing end in fail().
 *
 * All is Thread: loop. No function may be called from inside an engine's
 * function, but for those that say so, writing, close and abort.
 */
#ifndef BECKET_TLS_PUMP_H
#define BECKET_TLS_PUMP_H

#include <sys/types.h>

#include "becket/error.h"
#include "becket/transport.h"
#include "becket/types.h"

BK_BEGIN_DECLS

typedef enum {
    BK_TLS_UNWRAPPED,
    BK_TLS_HANDSHAKE,
    BK_TLS_WRAPPED,
    BK_TLS_FLUSHING, /* close() has begun, or the carrier's end was met */
    BK_TLS_SHUTDOWN, /* close_notify was sent, or cannot be any more */
} bk_tls_state;

/* What failed, for fail(). */
typedef enum {
    BK_TLS_IN_HANDSHAKE,
    BK_TLS_IN_DATA, /* reading or writing */
    BK_TLS_IN_SHUTDOWN,
} bk_tls_stage;

/* Work put off to the loop's next turn. */
typedef enum {
    BK_TLS_STEP_READ,   /* there may be more to read */
    BK_TLS_STEP_RESUME, /* reading was resumed */
    BK_TLS_STEP_CLOSE,  /* close() was asked for inside the engine */
} bk_tls_step;

typedef struct {
    const char *name;

    /* Go on shaking hands. 0: done. -EAGAIN: more records are needed. */
    int (*handshake)(bk_tls_pump *pump, void *self);

    /* Decrypt into buf: n > 0; BK_EOF after the peer's close_notify;
     * -EAGAIN: more records are needed. */
    ssize_t (*read)(bk_tls_pump *pump, void *buf, size_t len, void *self);

    /* Encrypt: how much of it, n > 0. -EAGAIN: more records are needed first;
     * the call is repeated later with the same bytes, and perhaps more. */
    ssize_t (*write)(bk_tls_pump *pump, const void *data, size_t len,
                     void *self);

    /* Send close_notify and wait for the peer's. 0: both done. -EAGAIN. */
    int (*shutdown)(bk_tls_pump *pump, void *self);

    /* Bytes of records that it has taken and not yet dealt with; NULL: 0. */
    size_t (*pending)(const bk_tls_pump *pump, void *self);
} bk_tls_engine;

/* The embedder's side. self is what was given to bk_tls_pump_init(). */
typedef struct {
    /* Below. send: records wait in the pump (bk_tls_pump_output_x) and are to
     * be written to the carrier now. abort: lose the carrier at once, with 0
     * or this code. */
    int (*send)(bk_tls_pump *pump, void *self);
    int (*pause_carrier)(bk_tls_pump *pump, void *self);
    int (*resume_carrier)(bk_tls_pump *pump, void *self);
    int (*abort_carrier)(bk_tls_pump *pump, int error, void *self);
    /* After the goodbye: close the carrier in the loop's next turn. It sends
     * what it keeps first, for which a peer that does not read may never make
     * room; so the timer goes on, or is started where the peer was the first
     * to say goodbye, unless the embedder stops it. */
    int (*close_carrier)(bk_tls_pump *pump, void *self);

    /* What is written may wait for the end of the running callback: true when
     * bk_tls_pump_flush() will then be called. NULL: false. */
    bool (*flush_later)(bk_tls_pump *pump, void *self);

    /* Above. The handshake is done and the peer is to be looked at; a
     * negative code makes it a failure. NULL: it is fine. */
    int (*check_peer)(bk_tls_pump *pump, void *self);
    /* connection_made, and whoever waits for the handshake. */
    int (*connected)(bk_tls_pump *pump, void *self);
    /* There is something to read: take it with bk_tls_pump_read(). 0: that
     * gave -EAGAIN, or was enough; BK_EOF: that gave BK_EOF; or its failure,
     * or that of the protocol. */
    int (*readable)(bk_tls_pump *pump, void *self);
    int (*eof_received)(bk_tls_pump *pump, void *self);
    int (*pause_writing)(bk_tls_pump *pump, void *self);
    int (*resume_writing)(bk_tls_pump *pump, void *self);
    /* close() has begun, or the peer's close_notify has come. NULL: nothing. */
    void (*closing)(bk_tls_pump *pump, void *self);

    /* The connection has failed: tell, and abort the carrier. -ECONNRESET in
     * the handshake: the carrier has ended. */
    int (*fail)(bk_tls_pump *pump, int error, bk_tls_stage stage, void *self);

    /* The clock. One timer at a time, for the handshake or the shutdown (the
     * state tells): bk_tls_pump_expired() when it fires. The latter may be
     * started by close_carrier, too. */
    int (*start_timer)(bk_tls_pump *pump, void *self);
    void (*stop_timer)(bk_tls_pump *pump, void *self);
    /* bk_tls_pump_step(step) in the loop's next turn. */
    int (*call_soon)(bk_tls_pump *pump, bk_tls_step step, void *self);
} bk_tls_ops;

struct bk_tls_pump {
    const bk_tls_engine *_engine; /* borrowed; NULL: fini */
    void *_engine_self;
    const bk_tls_ops *_ops; /* borrowed */
    void *_self;
    bk_loop *_loop;      /* borrowed: its pool of buffers */
    const char *_window; /* borrowed: records of the receive under way */
    size_t _window_len;
    bk_queue _in;      /* records that were received before the window */
    bk_queue _out;     /* records to send */
    bk_queue _backlog; /* plain bytes to encrypt */
    size_t _in_high;
    size_t _in_low;
    size_t _out_high;
    size_t _out_low;
    uint8_t _state;             /* bk_tls_state */
    uint8_t _is_eof;            /* the carrier has ended */
    uint8_t _is_reading_paused; /* by the protocol */
    uint8_t _is_carrier_paused; /* its reading, by us */
    uint8_t _is_writing_paused; /* pause_writing was called last */
    uint8_t _is_sending_paused; /* the carrier takes no more */
    uint8_t _is_in_engine;
    uint8_t _is_flush_asked; /* flush_later said true */
    uint8_t _is_drop_asked;  /* the carrier was lost inside the engine */
    uint8_t _has_no_memory;  /* a record could not be kept */
};

/* Prepare the caller's storage. All pointers are borrowed until fini.
 * -EINVAL. */
BK_API int bk_tls_pump_init(bk_tls_pump *pump, bk_loop *loop,
                            const bk_tls_engine *engine, void *engine_self,
                            const bk_tls_ops *ops, void *self);

/* Drop everything, calling only what lent data comes back with. Idempotent,
 * accepts zeroed storage. */
BK_API void bk_tls_pump_fini(bk_tls_pump *pump);

/* --- from below: each returns 0 or what had to stop it --- */

/* The carrier is connected: begin the handshake. */
BK_API int bk_tls_pump_start(bk_tls_pump *pump);

/* Records have arrived; borrowed for the call. */
BK_API int bk_tls_pump_receive(bk_tls_pump *pump, const void *data, size_t len);

/* The peer has finished sending. *ret_is_kept_open: the carrier shall stay
 * open, since reading is paused and more is to be delivered. */
BK_API int bk_tls_pump_receive_eof(bk_tls_pump *pump, bool *ret_is_kept_open);

/* The carrier is gone: drop what waits. The state before tells what the
 * protocol has to hear. */
BK_API void bk_tls_pump_lost(bk_tls_pump *pump);

/* The carrier's own flow control: stop sending, and send again. */
BK_API void bk_tls_pump_pause_sending(bk_tls_pump *pump);
BK_API int bk_tls_pump_resume_sending(bk_tls_pump *pump);

/* --- from above --- */

/* Whether what is written is still taken; otherwise it is to be dropped. */
BK_API bool bk_tls_pump_can_write(const bk_tls_pump *pump);

/* Append plain bytes: a copy, or lent until release(owner), which is called
 * on failure too. Then bk_tls_pump_written(). -ENOMEM. Also from inside the
 * engine. */
BK_API int bk_tls_pump_append(bk_tls_pump *pump, const void *data, size_t len);
BK_API int bk_tls_pump_append_lent(bk_tls_pump *pump, const void *data,
                                   size_t len, bk_release_cb release,
                                   void *owner);

/* What was appended is encrypted and sent: now, or when the callback that runs
 * returns, in records as full as may be. */
BK_API int bk_tls_pump_written(bk_tls_pump *pump);

/* What waits for the end of the callback is encrypted and sent now. */
BK_API int bk_tls_pump_flush(bk_tls_pump *pump);

/* Say goodbye: read what is there, send what waits and close_notify, wait for
 * the peer's, close the carrier. In the handshake: abort. Idempotent. */
BK_API int bk_tls_pump_close(bk_tls_pump *pump);

/* No more than the state unwrapped and abort_carrier(error). */
BK_API int bk_tls_pump_abort(bk_tls_pump *pump, int error);

/* Stop and continue to deliver. The carrier's reading is paused only when as
 * much as the high-water mark has come in meanwhile. */
BK_API void bk_tls_pump_pause_reading(bk_tls_pump *pump);
BK_API int bk_tls_pump_resume_reading(bk_tls_pump *pump);
BK_API bool bk_tls_pump_is_reading_paused(const bk_tls_pump *pump);

/* Plain bytes for the protocol, from inside readable(). Results as the
 * engine's. len > 0. */
BK_API ssize_t bk_tls_pump_read(bk_tls_pump *pump, void *buf, size_t len);

BK_API bk_tls_state bk_tls_pump_state(const bk_tls_pump *pump);

/* Bytes that wait: records to decrypt; plain bytes and records to send. */
BK_API size_t bk_tls_pump_read_size(const bk_tls_pump *pump);
BK_API size_t bk_tls_pump_write_size(const bk_tls_pump *pump);
BK_API size_t bk_tls_pump_backlog_size(const bk_tls_pump *pump);

/* Water marks in bytes, high >= low, else -EINVAL. Defaults: reading 256 KiB
 * and 64 KiB, writing 512 KiB and 128 KiB. A mark is reached at its value.
 * Setting may pause or resume. */
BK_API int bk_tls_pump_set_read_limits(bk_tls_pump *pump, size_t high_bytes,
                                       size_t low_bytes);
BK_API int bk_tls_pump_set_write_limits(bk_tls_pump *pump, size_t high_bytes,
                                        size_t low_bytes);
BK_API void bk_tls_pump_get_read_limits(const bk_tls_pump *pump,
                                        size_t *ret_high_bytes,
                                        size_t *ret_low_bytes);
BK_API void bk_tls_pump_get_write_limits(const bk_tls_pump *pump,
                                         size_t *ret_high_bytes,
                                         size_t *ret_low_bytes);
BK_API bool bk_tls_pump_is_writing_paused(const bk_tls_pump *pump);

/* --- from the clock --- */

BK_API int bk_tls_pump_step(bk_tls_pump *pump, bk_tls_step step);

/* The timer has fired: fail(-ETIMEDOUT) in the handshake, or
 * abort_carrier(-ETIMEDOUT) when the goodbye takes too long. */
BK_API int bk_tls_pump_expired(bk_tls_pump *pump);

/* --- for engines and carriers; from inside the engine as well --- */

/* Take records that were received: how many bytes, 0 when there are none. */
BK_API size_t bk_tls_pump_take_input(bk_tls_pump *pump, void *buf, size_t len);

/* Keep records that are to be sent. -ENOMEM, which also fails the call. */
BK_API int bk_tls_pump_put_output(bk_tls_pump *pump, const void *data,
                                  size_t len);

/* Records to send. write: queue them all in a transport, without copying.
 * take: copy out and drop len bytes, at most as many as there are. */
BK_API size_t bk_tls_pump_output_size(const bk_tls_pump *pump);
BK_API int bk_tls_pump_output_write(bk_tls_pump *pump, bk_transport *transport);
BK_API void bk_tls_pump_output_take(bk_tls_pump *pump, void *buf, size_t len);

/* --- OpenSSL, as an engine --- */

/* OpenSSL's own types, as its headers name them. */
struct bio_st;
struct bio_method_st;
struct ssl_st;
struct ssl_ctx_st;

/* Functions of OpenSSL 1.1.1 and later. A program that links OpenSSL has them
 * from bk_tls_openssl_linked() of tls.h; others look them up by name
 * (bk_tls_openssl_names), in the library that their SSLs come from. */
#define BK_TLS_OPENSSL_FUNCTIONS(X)                                            \
    X(int, BIO_free, (struct bio_st * bio))                                    \
    X(void *, BIO_get_data, (struct bio_st * bio))                             \
    X(struct bio_method_st *, BIO_meth_new, (int type, const char *name))      \
    X(int, BIO_meth_set_ctrl,                                                  \
      (struct bio_method_st * method,                                          \
       long (*ctrl)(struct bio_st * bio, int cmd, long num, void *ptr)))       \
    X(int, BIO_meth_set_read,                                                  \
      (struct bio_method_st * method,                                          \
       int (*read)(struct bio_st * bio, char *buf, int len)))                  \
    X(int, BIO_meth_set_write,                                                 \
      (struct bio_method_st * method,                                          \
       int (*write)(struct bio_st * bio, const char *data, int len)))          \
    X(struct bio_st *, BIO_new, (const struct bio_method_st *method))          \
    X(void, BIO_set_data, (struct bio_st * bio, void *data))                   \
    X(void, BIO_set_flags, (struct bio_st * bio, int flags))                   \
    X(void, BIO_set_init, (struct bio_st * bio, int init))                     \
    X(int, BIO_up_ref, (struct bio_st * bio))                                  \
    X(void, ERR_clear_error, (void))                                           \
    X(unsigned long, ERR_peek_error, (void))                                   \
    X(long, SSL_ctrl, (struct ssl_st * ssl, int cmd, long num, void *ptr))     \
    X(int, SSL_do_handshake, (struct ssl_st * ssl))                            \
    X(struct ssl_ctx_st *, SSL_get_SSL_CTX, (const struct ssl_st *ssl))        \
    X(void, SSL_free, (struct ssl_st * ssl))                                   \
    X(int, SSL_free_buffers, (struct ssl_st * ssl))                            \
    X(int, SSL_get_error, (const struct ssl_st *ssl, int result))              \
    X(int, SSL_get_shutdown, (const struct ssl_st *ssl))                       \
    X(int, SSL_has_pending, (const struct ssl_st *ssl))                        \
    X(int, SSL_read, (struct ssl_st * ssl, void *buf, int len))                \
    X(void, SSL_set_bio,                                                       \
      (struct ssl_st * ssl, struct bio_st * rbio, struct bio_st * wbio))       \
    X(void, SSL_set_read_ahead, (struct ssl_st * ssl, int is_on))              \
    X(int, SSL_shutdown, (struct ssl_st * ssl))                                \
    X(int, SSL_up_ref, (struct ssl_st * ssl))                                  \
    X(int, SSL_write, (struct ssl_st * ssl, const void *data, int len))

typedef struct {
#define BK_TLS_MEMBER(result, name, parameters) result(*name) parameters;
    BK_TLS_OPENSSL_FUNCTIONS(BK_TLS_MEMBER)
#undef BK_TLS_MEMBER
    /* Made by bk_tls_openssl_method() and never freed, since BIOs of it may
     * live as long as their SSL, whoever holds that. */
    struct bio_method_st *method;
} bk_tls_openssl;

/* The functions' names and their places in a bk_tls_openssl; ends with a name
 * that is NULL. */
typedef struct {
    const char *name;
    size_t offset;
} bk_tls_openssl_name;

BK_API const bk_tls_openssl_name *bk_tls_openssl_names(void);

/* With all functions filled in, make the BIO method. -ENOMEM. -EBUSY: this
 * process uses another copy of OpenSSL already. Thread: any. */
BK_API int bk_tls_openssl_method(bk_tls_openssl *openssl);

/* An SSL whose records go through a pump: the engine's self. */
typedef struct {
    const bk_tls_openssl *_openssl; /* borrowed */
    struct ssl_st *_ssl;            /* owned, and by others as well */
    struct bio_st *_bio;            /* owned, and by the SSL as well */
    bk_tls_pump *_pump;             /* borrowed */
    bk_handle _warm;                /* of the loop, while _is_warm */
    uint64_t _turn;        /* the loop's, when it read last while it was */
    uint32_t _record_left; /* of the record being read, after its header */
    uint8_t _header[5];    /* what the SSL has of the next one's header */
    uint8_t _header_len;
    uint8_t _is_unframed; /* what it reads are no records of TLS */
    uint8_t _is_drained;  /* it holds nothing that can be read */
    uint8_t _is_warm;     /* it keeps its buffers */
} bk_tls_openssl_session;

/* The engine whose self is a session: all is OpenSSL's. Static. An embedder
 * may make one of its own that borrows some of the functions. */
BK_API const bk_tls_engine *bk_tls_openssl_engine(void);

/* Give the SSL its BIO, in the place of the ones it has, and have it release
 * its buffers while it is idle: after each record, or, for up to 64 SSLs of a
 * loop that read often, when the loop has slept for a second. A reference to
 * the SSL is held until detach. -ENOMEM. */
BK_API int bk_tls_openssl_attach(bk_tls_openssl_session *session,
                                 const bk_tls_openssl *openssl,
                                 struct ssl_st *ssl, bk_tls_pump *pump);

/* Let go of the SSL, which then reads nothing and writes to nowhere, like one
 * over memory that nobody empties. Before the pump's fini; accepts zeroed
 * storage. */
BK_API void bk_tls_openssl_detach(bk_tls_openssl_session *session);

BK_END_DECLS

#endif
