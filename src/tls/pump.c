/* pump.c -- the states of a TLS connection.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The flows are those of asyncio.sslproto, function by function, since a
 * program can see their order. What differs:
 *
 *  - A failure of the TLS connection is told to the peer: the alert that the
 *    engine has made is sent before the carrier is aborted.
 *  - Writes of one callback are encrypted together (pump_data.c).
 *
 * Every op may run any code, which may write, close and abort; so after an op
 * the state is looked at anew. Inside the engine no flow is begun: writes are
 * queued, close() is put off, and abort() only changes the state.
 */

#include "tls/internal.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

/* asyncio.constants.FLOW_CONTROL_HIGH_WATER_SSL_READ and _WRITE; low is a
 * quarter. */
#define READ_HIGH_DEFAULT  ((size_t)256 * 1024)
#define WRITE_HIGH_DEFAULT ((size_t)512 * 1024)

int
bk_tls_pump_init(bk_tls_pump *pump, bk_loop *loop, const bk_tls_engine *engine,
                 void *engine_self, const bk_tls_ops *ops, void *self)
{
    if (pump == NULL || loop == NULL || engine == NULL || ops == NULL) {
        return -EINVAL;
    }
    memset(pump, 0, sizeof(*pump));
    pump->_engine = engine;
    pump->_engine_self = engine_self;
    pump->_ops = ops;
    pump->_self = self;
    pump->_loop = loop;
    pump->_in_high = READ_HIGH_DEFAULT;
    pump->_in_low = READ_HIGH_DEFAULT / 4;
    pump->_out_high = WRITE_HIGH_DEFAULT;
    pump->_out_low = WRITE_HIGH_DEFAULT / 4;
    return 0;
}

void
bk_tls_pump_fini(bk_tls_pump *pump)
{
    if (pump->_engine == NULL) {
        return;
    }
    assert(!pump->_is_in_engine);
    pump->_engine = NULL;
    pump->_state = BK_TLS_UNWRAPPED;
    bki_tls_drop_all(pump);
}

bk_tls_state
bk_tls_pump_state(const bk_tls_pump *pump)
{
    return (bk_tls_state)pump->_state;
}

/* --- failing --- */

/* With the alert, which the engine may have made, ahead of the end. */
static int
fail(bk_tls_pump *pump, int error, bk_tls_stage stage)
{
    if (error == BK_TLS_ERROR) {
        int r = bki_tls_send_alert(pump);

        if (r < 0) {
            return r;
        }
    }
    return pump->_ops->fail(pump, error, stage, pump->_self);
}

int
bk_tls_pump_abort(bk_tls_pump *pump, int error)
{
    pump->_state = BK_TLS_UNWRAPPED;
    return pump->_ops->abort_carrier(pump, error, pump->_self);
}

/* --- the handshake --- */

static int
fail_handshake(bk_tls_pump *pump, int error)
{
    int r = 0;

    if (error == BK_TLS_ERROR) {
        r = bki_tls_send_alert(pump);
    }
    pump->_state = BK_TLS_UNWRAPPED;
    if (r < 0) {
        return r;
    }
    return pump->_ops->fail(pump, error, BK_TLS_IN_HANDSHAKE, pump->_self);
}

static int
end_handshake(bk_tls_pump *pump, int error)
{
    int r;

    pump->_ops->stop_timer(pump, pump->_self);
    if (error == 0) {
        pump->_state = BK_TLS_WRAPPED;
        if (pump->_ops->check_peer != NULL) {
            error = pump->_ops->check_peer(pump, pump->_self);
        }
    }
    if (error == -ECANCELED) {
        return error;
    }
    if (error < 0) {
        return fail_handshake(pump, error);
    }
    r = pump->_ops->connected(pump, pump->_self);
    return r < 0 ? r : bki_tls_read(pump);
}

static int
shake_hands(bk_tls_pump *pump)
{
    int r;

    bki_tls_enter_engine(pump);
    r = pump->_engine->handshake(pump, pump->_engine_self);
    r = (int)bki_tls_leave_engine(pump, r);
    if (pump->_state != BK_TLS_HANDSHAKE) {
        return r == -ECANCELED ? r : 0; /* aborted from inside */
    }
    if (r == -EAGAIN) {
        return bki_tls_send(pump);
    }
    if (r == 0 || r == BK_TLS_ERROR) {
        return end_handshake(pump, r);
    }
    return r;
}

int
bk_tls_pump_start(bk_tls_pump *pump)
{
    int r;

    if (pump->_state != BK_TLS_UNWRAPPED) {
        return -EINVAL;
    }
    pump->_state = BK_TLS_HANDSHAKE;
    r = pump->_ops->start_timer(pump, pump->_self);
    return r < 0 ? r : shake_hands(pump);
}

/* --- the goodbye --- */

int
bki_tls_call_eof(bk_tls_pump *pump)
{
    return pump->_ops->eof_received(pump, pump->_self);
}

static int
end_shutdown(bk_tls_pump *pump)
{
    int r = bki_tls_send(pump);

    if (r == 0) {
        r = bki_tls_call_eof(pump);
    }
    return r < 0 ? r : pump->_ops->close_carrier(pump, pump->_self);
}

/* After the carrier's end nobody waits for an answer. */
static int
shut_down(bk_tls_pump *pump)
{
    int r = 0;

    if (!pump->_is_eof) {
        bki_tls_enter_engine(pump);
        r = pump->_engine->shutdown(pump, pump->_engine_self);
        r = (int)bki_tls_leave_engine(pump, r);
    }
    if (pump->_state != BK_TLS_SHUTDOWN) {
        return r == -ECANCELED ? r : 0;
    }
    if (r == -EAGAIN) {
        return bki_tls_send(pump);
    }
    if (r == BK_TLS_ERROR) {
        pump->_ops->stop_timer(pump, pump->_self);
        return fail(pump, r, BK_TLS_IN_SHUTDOWN);
    }
    return r < 0 ? r : end_shutdown(pump);
}

/* Read what is there, then say goodbye. A close() inside of the reading has
 * done both, and an abort neither. */
static int
flush_and_shut_down(bk_tls_pump *pump)
{
    int r = bki_tls_read(pump);

    if (r < 0 || pump->_state != BK_TLS_FLUSHING) {
        return r;
    }
    pump->_state = BK_TLS_SHUTDOWN;
    return shut_down(pump);
}

int
bk_tls_pump_close(bk_tls_pump *pump)
{
    int r;

    if (pump->_state != BK_TLS_HANDSHAKE && pump->_state != BK_TLS_WRAPPED) {
        return 0;
    }
    if (pump->_is_in_engine) {
        return pump->_ops->call_soon(pump, BK_TLS_STEP_CLOSE, pump->_self);
    }
    if (pump->_ops->closing != NULL) {
        pump->_ops->closing(pump, pump->_self);
    }
    if (pump->_state == BK_TLS_HANDSHAKE) {
        return bk_tls_pump_abort(pump, 0);
    }
    r = bk_tls_pump_flush(pump);
    if (r < 0 || pump->_state != BK_TLS_WRAPPED) {
        return r;
    }
    pump->_state = BK_TLS_FLUSHING;
    r = pump->_ops->start_timer(pump, pump->_self);
    return r < 0 ? r : flush_and_shut_down(pump);
}

/* --- from below --- */

/* What the state makes of new records, or of reading that goes on. */
static int
proceed(bk_tls_pump *pump)
{
    switch (pump->_state) {
    case BK_TLS_HANDSHAKE:
        return shake_hands(pump);
    case BK_TLS_WRAPPED:
        return bki_tls_read(pump);
    case BK_TLS_FLUSHING:
        return flush_and_shut_down(pump);
    case BK_TLS_SHUTDOWN:
        return shut_down(pump);
    default:
        return 0;
    }
}

int
bk_tls_pump_receive(bk_tls_pump *pump, const void *data, size_t len)
{
    int r = bki_tls_keep_window(pump); /* of a receive that we are inside of */
    int kept;

    if (pump->_state == BK_TLS_UNWRAPPED) {
        return 0;
    }
    pump->_window = data;
    pump->_window_len = len;
    if (r == 0 && !pump->_is_in_engine) {
        r = proceed(pump);
    }
    kept = bki_tls_keep_window(pump);
    if (r == -ENOMEM || (r == 0 && kept < 0)) {
        r = fail(pump, -ENOMEM, BK_TLS_IN_DATA);
    }
    return r;
}

/* asyncio encrypts here what could not be before. */
static int
end_flushing(bk_tls_pump *pump)
{
    int r = bki_tls_write(pump);

    if (r < 0 || pump->_state != BK_TLS_FLUSHING) {
        return r;
    }
    pump->_state = BK_TLS_SHUTDOWN;
    return shut_down(pump);
}

int
bk_tls_pump_receive_eof(bk_tls_pump *pump, bool *ret_is_kept_open)
{
    *ret_is_kept_open = false;
    pump->_is_eof = true;
    switch (pump->_state) {
    case BK_TLS_HANDSHAKE:
        return end_handshake(pump, -ECONNRESET);
    case BK_TLS_WRAPPED:
        pump->_state = BK_TLS_FLUSHING;
        if (pump->_is_reading_paused) {
            *ret_is_kept_open = true;
            return 0;
        }
        return flush_and_shut_down(pump);
    case BK_TLS_FLUSHING:
        return end_flushing(pump);
    case BK_TLS_SHUTDOWN:
        return shut_down(pump);
    default:
        return 0;
    }
}

void
bk_tls_pump_lost(bk_tls_pump *pump)
{
    pump->_state = BK_TLS_UNWRAPPED;
    pump->_ops->stop_timer(pump, pump->_self);
    if (pump->_is_in_engine) {
        pump->_is_drop_asked = true; /* it may look at what is queued */
        return;
    }
    bki_tls_drop_all(pump);
}

/* --- from the clock --- */

int
bk_tls_pump_step(bk_tls_pump *pump, bk_tls_step step)
{
    switch (step) {
    case BK_TLS_STEP_READ:
        return bki_tls_read(pump);
    case BK_TLS_STEP_RESUME:
        return pump->_state == BK_TLS_HANDSHAKE ? 0 : proceed(pump);
    case BK_TLS_STEP_CLOSE:
        return bk_tls_pump_close(pump);
    }
    return -EINVAL;
}

int
bk_tls_pump_expired(bk_tls_pump *pump)
{
    switch (pump->_state) {
    case BK_TLS_HANDSHAKE:
        return pump->_ops->fail(pump, -ETIMEDOUT, BK_TLS_IN_HANDSHAKE,
                                pump->_self);
    case BK_TLS_FLUSHING:
    case BK_TLS_SHUTDOWN:
        return pump->_ops->abort_carrier(pump, -ETIMEDOUT, pump->_self);
    default:
        return 0;
    }
}
