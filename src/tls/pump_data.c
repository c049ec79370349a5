/* pump_data.c -- the data of a TLS connection, both ways.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * asyncio encrypts inside write(). Here what one callback writes is encrypted
 * when it returns: small writes then share a record, which saves its
 * overhead on the wire and most of the cost of encrypting them. Nobody can
 * tell: whatever could look flushes first, through the carrier's own flush
 * (ops->flush_later) or bk_tls_pump_flush(); and while the carrier takes no
 * more, when sizes begin to count, nothing is put off.
 */

#include "tls/internal.h"

#include <errno.h>

/* Put off at most so much: the high-water mark of a carrier. */
#define PUT_OFF_MAX ((size_t)64 * 1024)

/* --- marks --- */

/* asyncio's _control_app_writing. */
static int
check_writing(bk_tls_pump *pump)
{
    size_t size = bk_tls_pump_write_size(pump);

    if (size >= pump->_out_high && !pump->_is_writing_paused) {
        pump->_is_writing_paused = true;
        return pump->_ops->pause_writing(pump, pump->_self);
    }
    if (size <= pump->_out_low && pump->_is_writing_paused) {
        pump->_is_writing_paused = false;
        return pump->_ops->resume_writing(pump, pump->_self);
    }
    return 0;
}

/* asyncio's _control_ssl_reading. */
static int
check_reading(bk_tls_pump *pump)
{
    size_t size = bk_tls_pump_read_size(pump);

    if (size >= pump->_in_high && !pump->_is_carrier_paused) {
        pump->_is_carrier_paused = true;
        return pump->_ops->pause_carrier(pump, pump->_self);
    }
    if (size <= pump->_in_low && pump->_is_carrier_paused) {
        pump->_is_carrier_paused = false;
        return pump->_ops->resume_carrier(pump, pump->_self);
    }
    return 0;
}

/* --- sending --- */

int
bki_tls_send(bk_tls_pump *pump)
{
    if (!pump->_is_sending_paused && pump->_out._len > 0) {
        int r = pump->_ops->send(pump, pump->_self);

        if (r < 0) {
            return r;
        }
    }
    return check_writing(pump);
}

int
bki_tls_send_alert(bk_tls_pump *pump)
{
    if (pump->_is_sending_paused || pump->_out._len == 0) {
        return 0;
    }
    return pump->_ops->send(pump, pump->_self);
}

static ssize_t
encrypt(bk_tls_pump *pump, const struct bki_tls_plain *plain)
{
    ssize_t r;

    bki_tls_enter_engine(pump);
    r = pump->_engine->write(pump, plain->data, plain->len, pump->_engine_self);
    return bki_tls_leave_engine(pump, r);
}

/* 0, also when the engine needs records first: then the rest stays. */
static int
encrypt_backlog(bk_tls_pump *pump)
{
    while (pump->_backlog._len > 0) {
        struct bki_tls_plain plain;
        ssize_t n = bki_tls_gather(pump, &plain);

        if (n == 0) {
            n = encrypt(pump, &plain);
            bki_tls_give_back(&plain);
        }
        if (n < 0) {
            return n == -EAGAIN ? 0 : (int)n;
        }
        bki_tls_consume_backlog(pump, (size_t)n);
    }
    return 0;
}

int
bki_tls_write(bk_tls_pump *pump)
{
    int r;

    pump->_is_flush_asked = false;
    r = encrypt_backlog(pump);
    return r < 0 ? r : bki_tls_send(pump);
}

/* --- writing --- */

bool
bk_tls_pump_can_write(const bk_tls_pump *pump)
{
    return pump->_state == BK_TLS_HANDSHAKE || pump->_state == BK_TLS_WRAPPED;
}

/* With the alert, if the engine has made one. */
static int
fail(bk_tls_pump *pump, int error)
{
    if (error == BK_TLS_ERROR) {
        int r = bki_tls_send_alert(pump);

        if (r < 0) {
            return r;
        }
    }
    return pump->_ops->fail(pump, error, BK_TLS_IN_DATA, pump->_self);
}

static int
write_now(bk_tls_pump *pump)
{
    int r = bki_tls_write(pump);

    return r < 0 && r != -ECANCELED ? fail(pump, r) : r;
}

static bool
can_wait(const bk_tls_pump *pump)
{
    return pump->_backlog._len <= PUT_OFF_MAX && !pump->_is_sending_paused &&
           !pump->_is_writing_paused && pump->_out_high > 0;
}

int
bk_tls_pump_written(bk_tls_pump *pump)
{
    const bk_tls_ops *ops = pump->_ops;

    if (pump->_state != BK_TLS_WRAPPED || pump->_is_in_engine) {
        return 0; /* the handshake's or the engine's end writes it */
    }
    if (can_wait(pump)) {
        if (pump->_is_flush_asked) {
            return 0;
        }
        if (ops->flush_later != NULL && ops->flush_later(pump, pump->_self)) {
            pump->_is_flush_asked = true;
            return 0;
        }
    }
    return write_now(pump);
}

int
bk_tls_pump_flush(bk_tls_pump *pump)
{
    if (!pump->_is_flush_asked) {
        return 0;
    }
    pump->_is_flush_asked = false;
    if (pump->_backlog._len == 0 || pump->_state == BK_TLS_UNWRAPPED) {
        return 0;
    }
    return write_now(pump);
}

void
bk_tls_pump_pause_sending(bk_tls_pump *pump)
{
    pump->_is_sending_paused = true;
}

int
bk_tls_pump_resume_sending(bk_tls_pump *pump)
{
    pump->_is_sending_paused = false;
    return bki_tls_send(pump);
}

/* --- reading --- */

ssize_t
bk_tls_pump_read(bk_tls_pump *pump, void *buf, size_t len)
{
    ssize_t r;

    if (pump->_is_in_engine) {
        return -EAGAIN;
    }
    bki_tls_enter_engine(pump);
    r = pump->_engine->read(pump, buf, len, pump->_engine_self);
    return bki_tls_leave_engine(pump, r);
}

static int
deliver(bk_tls_pump *pump)
{
    int r = pump->_ops->readable(pump, pump->_self);

    if (r == BK_EOF) {
        r = bki_tls_call_eof(pump);
        if (r == 0) {
            r = bk_tls_pump_close(pump);
        }
    }
    return r;
}

static int
read_and_write(bk_tls_pump *pump)
{
    int r = 0;

    if (!pump->_is_reading_paused) {
        r = deliver(pump);
        if (r == 0) {
            r = bki_tls_write(pump);
        }
    }
    return r < 0 ? r : check_reading(pump);
}

int
bki_tls_read(bk_tls_pump *pump)
{
    int r;

    if (pump->_state != BK_TLS_WRAPPED && pump->_state != BK_TLS_FLUSHING) {
        return 0;
    }
    r = read_and_write(pump);
    return r < 0 && r != -ECANCELED ? fail(pump, r) : r;
}

void
bk_tls_pump_pause_reading(bk_tls_pump *pump)
{
    pump->_is_reading_paused = true;
}

int
bk_tls_pump_resume_reading(bk_tls_pump *pump)
{
    if (!pump->_is_reading_paused) {
        return 0;
    }
    pump->_is_reading_paused = false;
    return pump->_ops->call_soon(pump, BK_TLS_STEP_RESUME, pump->_self);
}

bool
bk_tls_pump_is_reading_paused(const bk_tls_pump *pump)
{
    return pump->_is_reading_paused;
}

/* --- limits --- */

int
bk_tls_pump_set_read_limits(bk_tls_pump *pump, size_t high_bytes,
                            size_t low_bytes)
{
    if (high_bytes < low_bytes) {
        return -EINVAL;
    }
    pump->_in_high = high_bytes;
    pump->_in_low = low_bytes;
    return check_reading(pump);
}

int
bk_tls_pump_set_write_limits(bk_tls_pump *pump, size_t high_bytes,
                             size_t low_bytes)
{
    int r;

    if (high_bytes < low_bytes) {
        return -EINVAL;
    }
    r = bk_tls_pump_flush(pump);
    if (r < 0) {
        return r;
    }
    pump->_out_high = high_bytes;
    pump->_out_low = low_bytes;
    return check_writing(pump);
}

void
bk_tls_pump_get_read_limits(const bk_tls_pump *pump, size_t *ret_high_bytes,
                            size_t *ret_low_bytes)
{
    *ret_high_bytes = pump->_in_high;
    *ret_low_bytes = pump->_in_low;
}

void
bk_tls_pump_get_write_limits(const bk_tls_pump *pump, size_t *ret_high_bytes,
                             size_t *ret_low_bytes)
{
    *ret_high_bytes = pump->_out_high;
    *ret_low_bytes = pump->_out_low;
}

bool
bk_tls_pump_is_writing_paused(const bk_tls_pump *pump)
{
    return pump->_is_writing_paused;
}
