/* tls.c -- TLS on top of a transport, for programs that link OpenSSL.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A bk_tls is the protocol of its transport and lives as long: it is freed
 * after connection_lost. Callbacks may close and abort, and both only queue
 * what follows, so within a callback of the transport the bk_tls is there.
 * Nothing stops a pump here, so its functions' results say nothing.
 */

#include "becket/tls.h"

#include <assert.h>
#include <errno.h>
#include <openssl/err.h>
#include <openssl/ssl.h>
#include <string.h>

#include "base/sys.h"
#include "tls/internal.h"

/* asyncio.constants.SSL_HANDSHAKE_TIMEOUT and SSL_SHUTDOWN_TIMEOUT. */
#define HANDSHAKE_NS_DEFAULT (UINT64_C(60) * 1000000000)
#define SHUTDOWN_NS_DEFAULT  (UINT64_C(30) * 1000000000)

/* What the protocol may still be told of its end. */
enum app_state {
    APP_INIT,      /* the handshake is not done */
    APP_CONNECTED, /* connection_made was called */
    APP_AT_EOF,    /* eof_received was called */
};

struct bk_tls {
    bk_tls_pump pump;
    bk_tls_openssl_session session;
    bk_transport *transport;         /* borrowed: it ends before us */
    const bk_tls_protocol *protocol; /* borrowed */
    void *self;
    SSL *ssl; /* owned */
    struct bki_owned owned;
    bk_timer timer;  /* of the handshake or the goodbye */
    bk_handle steps; /* put-off work, */
    uint8_t asked;   /* one bit for each bk_tls_step, and CLOSE_CARRIER */
    uint8_t app_state;
    bool is_closing;
    bool is_told_error; /* error is what connection_lost will tell */
    int error;
    unsigned long openssl_error;
    uint64_t handshake_ns;
    uint64_t shutdown_ns;
};

/* A step of our own, after those of the pump. */
#define STEP_CLOSE_CARRIER (BK_TLS_STEP_CLOSE + 1)

/* --- below --- */

static int
send_records(bk_tls_pump *pump, void *self)
{
    bk_tls *tls = self;

    (void)bk_tls_pump_output_write(pump, tls->transport);
    return 0;
}

static int
pause_carrier(bk_tls_pump *pump, void *self)
{
    (void)pump;
    bk_transport_pause_reading(((bk_tls *)self)->transport);
    return 0;
}

static int
resume_carrier(bk_tls_pump *pump, void *self)
{
    (void)pump;
    bk_transport_resume_reading(((bk_tls *)self)->transport);
    return 0;
}

/* The first error counts: what comes of it is told as itself. */
static int
abort_carrier(bk_tls_pump *pump, int error, void *self)
{
    bk_tls *tls = self;

    (void)pump;
    tls->is_closing = true;
    if (!bk_transport_is_lost(tls->transport)) {
        if (!tls->is_told_error) {
            tls->is_told_error = true;
            tls->error = error;
        }
        bk_transport_abort(tls->transport, error);
    }
    return 0;
}

static int
fail(bk_tls_pump *pump, int error, bk_tls_stage stage, void *self)
{
    bk_tls *tls = self;

    (void)stage;
    if (error == BK_TLS_ERROR && tls->openssl_error == 0) {
        tls->openssl_error = ERR_peek_last_error();
        ERR_clear_error();
    }
    return abort_carrier(pump, error, self);
}

static bool
flush_later(bk_tls_pump *pump, void *self)
{
    (void)pump;
    return bk_transport_flush_later(((bk_tls *)self)->transport);
}

/* --- the clock --- */

static int
start_timer(bk_tls_pump *pump, void *self)
{
    bk_tls *tls = self;
    bk_loop *loop = bk_transport_loop(tls->transport);
    bool is_handshake = bk_tls_pump_state(pump) == BK_TLS_HANDSHAKE;
    uint64_t delay_ns = is_handshake ? tls->handshake_ns : tls->shutdown_ns;
    int r =
        bk_loop_schedule_at(loop, &tls->timer, bk_loop_time(loop) + delay_ns);

    return r < 0 ? abort_carrier(pump, r, self) : 0;
}

static void
stop_timer(bk_tls_pump *pump, void *self)
{
    (void)pump;
    (void)bk_timer_cancel(&((bk_tls *)self)->timer);
}

static void
on_timer(bk_handle *handle)
{
    bk_tls *tls = BKI_CONTAINER_OF(bk_timer_of(handle), bk_tls, timer);

    (void)bk_tls_pump_expired(&tls->pump);
}

static void
ask(bk_tls *tls, unsigned step)
{
    tls->asked |= (uint8_t)(1u << step);
    /* -EBUSY: it is in the queue already. */
    (void)bk_loop_schedule(bk_transport_loop(tls->transport), &tls->steps);
}

static int
call_soon(bk_tls_pump *pump, bk_tls_step step, void *self)
{
    (void)pump;
    ask(self, step);
    return 0;
}

static int
close_carrier(bk_tls_pump *pump, void *self)
{
    bk_tls *tls = self;

    ask(tls, STEP_CLOSE_CARRIER);
    return bk_timer_is_scheduled(&tls->timer) ? 0 : start_timer(pump, self);
}

static void
on_steps(bk_handle *handle)
{
    bk_tls *tls = BKI_CONTAINER_OF(handle, bk_tls, steps);
    unsigned asked = tls->asked;

    tls->asked = 0;
    for (unsigned step = 0; step < STEP_CLOSE_CARRIER; step++) {
        if ((asked & (1u << step)) != 0) {
            (void)bk_tls_pump_step(&tls->pump, (bk_tls_step)step);
        }
    }
    if ((asked & (1u << STEP_CLOSE_CARRIER)) != 0) {
        bk_transport_close(tls->transport);
    }
}

/* --- above --- */

static int
connected(bk_tls_pump *pump, void *self)
{
    bk_tls *tls = self;

    (void)pump;
    tls->app_state = APP_CONNECTED;
    if (tls->protocol->connection_made != NULL) {
        tls->protocol->connection_made(tls, tls->self);
    }
    return 0;
}

static bool
can_deliver(const bk_tls_pump *pump)
{
    bk_tls_state state = bk_tls_pump_state(pump);

    return (state == BK_TLS_WRAPPED || state == BK_TLS_FLUSHING) &&
           !bk_tls_pump_is_reading_paused(pump);
}

/* One record's worth at a time; the protocol may stop it. */
static int
readable(bk_tls_pump *pump, void *self)
{
    bk_tls *tls = self;
    char buf[BKI_TLS_PLAIN_MAX];

    while (can_deliver(pump)) {
        ssize_t n = bk_tls_pump_read(pump, buf, sizeof(buf));

        if (n < 0) {
            return n == -EAGAIN ? 0 : (int)n;
        }
        if (tls->protocol->data_received != NULL) {
            tls->protocol->data_received(tls, buf, (size_t)n, tls->self);
        }
    }
    return 0;
}

static int
eof_received(bk_tls_pump *pump, void *self)
{
    bk_tls *tls = self;

    (void)pump;
    if (tls->app_state != APP_CONNECTED) {
        return 0;
    }
    tls->app_state = APP_AT_EOF;
    if (tls->protocol->eof_received != NULL) {
        tls->protocol->eof_received(tls, tls->self);
    }
    return 0;
}

static int
pause_writing(bk_tls_pump *pump, void *self)
{
    bk_tls *tls = self;

    (void)pump;
    if (tls->protocol->pause_writing != NULL) {
        tls->protocol->pause_writing(tls, tls->self);
    }
    return 0;
}

static int
resume_writing(bk_tls_pump *pump, void *self)
{
    bk_tls *tls = self;

    (void)pump;
    if (tls->protocol->resume_writing != NULL) {
        tls->protocol->resume_writing(tls, tls->self);
    }
    return 0;
}

static void
closing(bk_tls_pump *pump, void *self)
{
    (void)pump;
    ((bk_tls *)self)->is_closing = true;
}

static const bk_tls_ops pump_ops = {
    .send = send_records,
    .pause_carrier = pause_carrier,
    .resume_carrier = resume_carrier,
    .abort_carrier = abort_carrier,
    .close_carrier = close_carrier,
    .flush_later = flush_later,
    .connected = connected,
    .readable = readable,
    .eof_received = eof_received,
    .pause_writing = pause_writing,
    .resume_writing = resume_writing,
    .closing = closing,
    .fail = fail,
    .start_timer = start_timer,
    .stop_timer = stop_timer,
    .call_soon = call_soon,
};

/* --- the transport's protocol --- */

static void
carrier_data(bk_transport *transport, const void *data, size_t len, void *self)
{
    (void)transport;
    (void)bk_tls_pump_receive(&((bk_tls *)self)->pump, data, len);
}

static bool
carrier_eof(bk_transport *transport, void *self)
{
    bool is_kept_open;

    (void)transport;
    (void)bk_tls_pump_receive_eof(&((bk_tls *)self)->pump, &is_kept_open);
    return is_kept_open;
}

static void
carrier_pause(bk_transport *transport, void *self)
{
    (void)transport;
    bk_tls_pump_pause_sending(&((bk_tls *)self)->pump);
}

static void
carrier_resume(bk_transport *transport, void *self)
{
    (void)transport;
    (void)bk_tls_pump_resume_sending(&((bk_tls *)self)->pump);
}

static void
carrier_flushing(bk_transport *transport, void *self)
{
    (void)transport;
    (void)bk_tls_pump_flush(&((bk_tls *)self)->pump);
}

static void
free_tls(bk_tls *tls)
{
    bk_tls_openssl_detach(&tls->session);
    bk_tls_pump_fini(&tls->pump);
    SSL_free(tls->ssl);
    bki_sys_free(tls);
}

/* Take it out of all queues; the transport is the caller's business. */
static void
withdraw(bk_tls *tls)
{
    bki_owned_remove(bk_transport_loop(tls->transport), &tls->owned);
    (void)bk_timer_cancel(&tls->timer);
    (void)bk_handle_cancel(&tls->steps);
}

static void
carrier_lost(bk_transport *transport, int error, void *self)
{
    bk_tls *tls = self;

    (void)transport;
    bk_tls_pump_lost(&tls->pump);
    tls->is_closing = true;
    withdraw(tls);
    if (tls->protocol->connection_lost != NULL) {
        tls->protocol->connection_lost(
            tls, tls->is_told_error ? tls->error : error, tls->self);
    }
    free_tls(tls);
}

static const bk_protocol carrier_protocol = {
    .data_received = carrier_data,
    .eof_received = carrier_eof,
    .pause_writing = carrier_pause,
    .resume_writing = carrier_resume,
    .flushing = carrier_flushing,
    .connection_lost = carrier_lost,
};

/* --- beginning --- */

static bool
is_valid(const bk_transport *transport, const bk_tls_protocol *protocol,
         const bk_tls_options *options)
{
    return transport != NULL && protocol != NULL && options != NULL &&
           options->context != NULL;
}

static int
set_hostname(SSL *ssl, const char *name)
{
    X509_VERIFY_PARAM *param = SSL_get0_param(ssl);
    bk_address ignored;

    if (bk_address_parse(name, 0, AF_UNSPEC, &ignored) == 0) {
        /* RFC 6066 3: an address is no name for SNI. */
        return X509_VERIFY_PARAM_set1_ip_asc(param, name) == 1 ? 0 : -EINVAL;
    }
    if (SSL_set_tlsext_host_name(ssl, name) != 1 ||
        SSL_set1_host(ssl, name) != 1) {
        return -EINVAL;
    }
    return 0;
}

static int
set_up_ssl(bk_tls *tls, const bk_tls_options *options)
{
    const bk_tls_openssl *openssl = bk_tls_openssl_linked();
    int r = openssl == NULL ? -EBUSY : 0;

    tls->ssl = SSL_new(options->context);
    if (r < 0 || tls->ssl == NULL) {
        return r < 0 ? r : -ENOMEM;
    }
    if (options->is_server) {
        SSL_set_accept_state(tls->ssl);
    }
    else {
        SSL_set_connect_state(tls->ssl);
        if (options->server_hostname != NULL) {
            r = set_hostname(tls->ssl, options->server_hostname);
        }
    }
    if (r == 0) {
        r = bk_tls_openssl_attach(&tls->session, openssl, tls->ssl, &tls->pump);
    }
    if (r == 0 && tls->protocol->configure != NULL) {
        r = tls->protocol->configure(tls, tls->ssl, tls->self);
    }
    return r;
}

static void
release_owned(struct bki_owned *owned)
{
    bk_tls_release(BKI_CONTAINER_OF(owned, bk_tls, owned));
}

static bk_tls *
new_tls(bk_transport *transport, const bk_tls_protocol *protocol, void *self,
        const bk_tls_options *options)
{
    bk_tls *tls = bki_sys_calloc(1, sizeof(*tls));

    if (tls == NULL) {
        return NULL;
    }
    tls->transport = transport;
    tls->protocol = protocol;
    tls->self = self;
    tls->handshake_ns = options->handshake_timeout_ns != 0
                            ? options->handshake_timeout_ns
                            : HANDSHAKE_NS_DEFAULT;
    tls->shutdown_ns = options->shutdown_timeout_ns != 0
                           ? options->shutdown_timeout_ns
                           : SHUTDOWN_NS_DEFAULT;
    bk_timer_init(&tls->timer, on_timer);
    bk_handle_init(&tls->steps, on_steps);
    (void)bk_tls_pump_init(&tls->pump, bk_transport_loop(transport),
                           bk_tls_openssl_engine(), &tls->session, &pump_ops,
                           tls);
    return tls;
}

int
bk_tls_start(bk_transport *transport, const bk_tls_protocol *protocol,
             void *self, const bk_tls_options *options, bk_tls **ret_tls)
{
    bk_tls *tls;
    int r;

    if (!is_valid(transport, protocol, options)) {
        return -EINVAL;
    }
    if (bk_transport_is_closing(transport) || !bki_stream_is_open(transport)) {
        return -EBADF;
    }
    tls = new_tls(transport, protocol, self, options);
    if (tls == NULL) {
        return -ENOMEM;
    }
    r = set_up_ssl(tls, options);
    if (r < 0) {
        free_tls(tls);
        return r;
    }
    bki_owned_add(bk_transport_loop(transport), &tls->owned, release_owned);
    bk_transport_set_protocol(transport, &carrier_protocol, tls);
    if (ret_tls != NULL) {
        *ret_tls = tls;
    }
    (void)bk_tls_pump_start(&tls->pump);
    return 0;
}

void
bk_tls_release(bk_tls *tls)
{
    bk_transport *transport = tls->transport;

    withdraw(tls);
    free_tls(tls);
    bk_transport_release(transport);
}

/* --- the user's functions --- */

int
bk_tls_write(bk_tls *tls, const void *data, size_t len)
{
    int r;

    if (!bk_tls_pump_can_write(&tls->pump)) {
        return 0;
    }
    r = bk_tls_pump_append(&tls->pump, data, len);
    if (r == 0) {
        (void)bk_tls_pump_written(&tls->pump);
    }
    return r;
}

int
bk_tls_write_lent(bk_tls *tls, const void *data, size_t len,
                  bk_release_cb release, void *owner)
{
    int r;

    if (!bk_tls_pump_can_write(&tls->pump)) {
        release(owner);
        return 0;
    }
    r = bk_tls_pump_append_lent(&tls->pump, data, len, release, owner);
    if (r == 0) {
        (void)bk_tls_pump_written(&tls->pump);
    }
    return r;
}

void
bk_tls_close(bk_tls *tls)
{
    tls->is_closing = true;
    (void)bk_tls_pump_close(&tls->pump);
}

void
bk_tls_abort(bk_tls *tls, int error)
{
    (void)bk_tls_pump_flush(&tls->pump);
    (void)bk_tls_pump_abort(&tls->pump, error);
}

void
bk_tls_pause_reading(bk_tls *tls)
{
    bk_tls_pump_pause_reading(&tls->pump);
}

void
bk_tls_resume_reading(bk_tls *tls)
{
    (void)bk_tls_pump_resume_reading(&tls->pump);
}

bool
bk_tls_is_closing(bk_tls *tls)
{
    return tls->is_closing || bk_transport_is_closing(tls->transport);
}

size_t
bk_tls_get_write_buffer_size(bk_tls *tls)
{
    (void)bk_tls_pump_flush(&tls->pump);
    return bk_tls_pump_write_size(&tls->pump);
}

int
bk_tls_set_write_buffer_limits(bk_tls *tls, size_t high_bytes, size_t low_bytes)
{
    return bk_tls_pump_set_write_limits(&tls->pump, high_bytes, low_bytes);
}

void *
bk_tls_get_self(const bk_tls *tls)
{
    return tls->self;
}

bk_transport *
bk_tls_transport(const bk_tls *tls)
{
    return tls->transport;
}

struct ssl_st *
bk_tls_ssl(const bk_tls *tls)
{
    return tls->ssl;
}

unsigned long
bk_tls_last_error(const bk_tls *tls)
{
    return tls->openssl_error;
}
