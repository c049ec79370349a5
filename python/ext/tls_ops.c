/* tls_ops.c -- what the record pump asks for: the carrier, the user's
 * protocol, the clock.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The flows and texts are those of asyncio.sslproto. A carrier is any transport
 * of asyncio's interface; one of ours is written to without a call.
 *
 * An exception of Python's becomes a code for the pump and waits in
 * self->failure, until fail() tells of it or the function that was called into
 * the pump raises it.
 */

#include "tls.h"

#include <errno.h>

#include "errors.h"
#include "log.h"
#include "scope.h"

/* --- exceptions --- */

int
bkpy_tls_stash_raised(TlsProtocolObject *self)
{
    Py_XSETREF(self->failure, PyErr_GetRaisedException());
    return -ECANCELED;
}

int
bkpy_tls_stash(TlsProtocolObject *self)
{
    bool is_usual = PyErr_ExceptionMatches(PyExc_Exception);

    (void)bkpy_tls_stash_raised(self);
    return is_usual ? -EIO : -ECANCELED;
}

static PyObject *
take_failure(TlsProtocolObject *self)
{
    PyObject *exc = self->failure;

    self->failure = NULL;
    return exc;
}

int
bkpy_tls_result(TlsProtocolObject *self, int r)
{
    PyObject *exc;

    if (r >= 0) {
        return 0;
    }
    exc = take_failure(self);
    if (exc != NULL) {
        PyErr_SetRaisedException(exc);
    }
    else {
        (void)bkpy_error_set_memory(self->state, r);
    }
    return -1;
}

/* --- failing --- */

static int
force_close_carrier(TlsProtocolObject *self, PyObject *exc)
{
    PyObject *result;

    if (self->carrier == NULL) {
        return 0;
    }
    result = PyObject_CallMethodOneArg(self->carrier,
                                       self->state->str__force_close, exc);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static void
tell(TlsProtocolObject *self, PyObject *exc, PyObject *carrier,
     const char *message)
{
    if (PyErr_GivenExceptionMatches(exc, PyExc_OSError)) {
        if (self->loop->is_debug) {
            bkpy_log("debug", exc, "(sOs)", "%r: %s", self, message);
        }
    }
    else if (!PyErr_GivenExceptionMatches(exc, self->state->CancelledError)) {
        PyErr_SetRaisedException(Py_NewRef(exc));
        bkpy_loop_report(self->loop, message, carrier, (PyObject *)self, NULL);
    }
}

int
bkpy_tls_fail(TlsProtocolObject *self, const char *message)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *carrier = Py_XNewRef(self->carrier);
    int r = force_close_carrier(self, exc);

    if (r == 0) {
        tell(self, exc, carrier, message);
    }
    Py_XDECREF(carrier);
    Py_DECREF(exc);
    return r;
}

/* Raise what a code of the pump stands for. */
static void
raise_code(TlsProtocolObject *self, int error, bk_tls_stage stage)
{
    if (stage == BK_TLS_IN_HANDSHAKE && error == -ECONNRESET) {
        PyErr_SetNone(PyExc_ConnectionResetError);
    }
    else if (stage == BK_TLS_IN_HANDSHAKE && error == -ETIMEDOUT) {
        PyErr_Format(PyExc_ConnectionAbortedError,
                     "SSL handshake is taking longer than %S seconds: "
                     "aborting the connection",
                     self->handshake_timeout);
    }
    else {
        (void)bkpy_tls_result(self, error);
    }
}

static const char *
message_of(TlsProtocolObject *self, int error, bk_tls_stage stage)
{
    if (stage == BK_TLS_IN_DATA) {
        return "Fatal error on SSL protocol";
    }
    if (stage == BK_TLS_IN_SHUTDOWN || error == -ETIMEDOUT) {
        return "Fatal error on transport";
    }
    return PyErr_ExceptionMatches(self->state->CertificateError)
               ? "SSL handshake failed on verifying the certificate"
               : "SSL handshake failed";
}

static int
on_fail(bk_tls_pump *Py_UNUSED(pump), int error, bk_tls_stage stage, void *op)
{
    TlsProtocolObject *self = op;
    PyObject *exc;
    int r;

    raise_code(self, error, stage);
    exc = PyErr_GetRaisedException();
    PyErr_SetRaisedException(Py_NewRef(exc));
    r = bkpy_tls_fail(self, message_of(self, error, stage));
    if (r == 0 && stage == BK_TLS_IN_HANDSHAKE && error != -ETIMEDOUT) {
        bkpy_tls_wake_waiter(self, exc);
    }
    Py_DECREF(exc);
    return r < 0 ? bkpy_tls_stash_raised(self) : 0;
}

/* --- below --- */

/* A method of the carrier, by its name. 0 or a code. */
static int
call_carrier(TlsProtocolObject *self, PyObject *name, PyObject *arg)
{
    PyObject *carrier = self->carrier;
    PyObject *result;

    if (carrier == NULL) {
        return 0;
    }
    Py_INCREF(carrier);
    result = arg == NULL ? PyObject_CallMethodNoArgs(carrier, name)
                         : PyObject_CallMethodOneArg(carrier, name, arg);
    Py_DECREF(carrier);
    if (result == NULL) {
        return bkpy_tls_stash(self);
    }
    Py_DECREF(result);
    return 0;
}

static int
write_by_call(TlsProtocolObject *self)
{
    size_t len = bk_tls_pump_output_size(&self->pump);
    PyObject *bytes = PyBytes_FromStringAndSize(NULL, (Py_ssize_t)len);
    int r;

    if (bytes == NULL) {
        return bkpy_tls_stash(self);
    }
    bk_tls_pump_output_take(&self->pump, PyBytes_AS_STRING(bytes), len);
    r = call_carrier(self, self->state->str_write, bytes);
    Py_DECREF(bytes);
    return r;
}

/* Nobody has replaced its write(). */
static bool
can_write_directly(const TlsProtocolObject *self)
{
    const StreamTransportObject *direct = self->direct;

    return direct != NULL && direct->dict == NULL && direct->conn_lost == 0 &&
           !direct->is_eof_asked && bkpy_stream_is_alive(direct);
}

static int
write_directly(TlsProtocolObject *self)
{
    StreamTransportObject *direct = self->direct;
    int r;

    Py_INCREF(direct);
    direct->is_receiving = false;
    bkpy_stream_begin_call(direct);
    r = bk_tls_pump_output_write(&self->pump, &direct->core);
    if (direct->anchor.owner == NULL && bkpy_stream_is_alive(direct)) {
        bk_transport_flush(&direct->core);
    }
    if (bkpy_stream_end_call(direct) < 0) {
        r = bkpy_tls_stash(self);
    }
    Py_DECREF(direct);
    return r;
}

static int
send_output(TlsProtocolObject *self)
{
    return can_write_directly(self) ? write_directly(self)
                                    : write_by_call(self);
}

/* An alert tells of a failure that is still to be told here: what its own
 * write raises, as after write_eof() below, is left out. */
static int
on_send(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;
    PyObject *failure = take_failure(self);
    int r = send_output(self);

    if (failure != NULL && (r == 0 || r == -EIO)) {
        Py_XSETREF(self->failure, failure);
        return 0;
    }
    Py_XDECREF(failure);
    return r;
}

static int
on_pause_carrier(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;

    self->is_carrier_paused = true;
    return call_carrier(self, self->state->str_pause_reading, NULL);
}

static int
on_resume_carrier(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;

    self->is_carrier_paused = false;
    return call_carrier(self, self->state->str_resume_reading, NULL);
}

static int
on_abort_carrier(bk_tls_pump *Py_UNUSED(pump), int error, void *op)
{
    TlsProtocolObject *self = op;
    PyObject *exc = Py_None;
    int r;

    if (error == -ETIMEDOUT) {
        PyErr_SetString(PyExc_TimeoutError, "SSL shutdown timed out");
        exc = PyErr_GetRaisedException();
    }
    else if (error < 0) {
        (void)bkpy_tls_result(self, error);
        exc = PyErr_GetRaisedException();
    }
    r = force_close_carrier(self, exc);
    if (error < 0) {
        Py_DECREF(exc);
    }
    return r < 0 ? bkpy_tls_stash(self) : 0;
}

/* loop.call_soon(owner.name) */
static int
call_soon(TlsProtocolObject *self, PyObject *owner, const char *name)
{
    PyObject *callback = PyObject_GetAttrString(owner, name);
    PyObject *handle = NULL;

    if (callback != NULL) {
        handle = bkpy_loop_call_soon(self->loop, callback, NULL, 0, NULL);
        Py_DECREF(callback);
    }
    if (handle == NULL) {
        return bkpy_tls_stash(self);
    }
    Py_DECREF(handle);
    return 0;
}

/* A carrier that nothing holds, or that has another protocol by now, does not
 * come back to us. */
static bool
on_flush_later(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;

    return can_write_directly(self) && self->direct->anchor.owner != NULL &&
           self->direct->protocol == (PyObject *)self &&
           bk_transport_flush_later(&self->direct->core);
}

/* --- above --- */

static int
on_check_peer(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;
    PyObject *peercert = PyObject_CallMethod(self->sslobj, "getpeercert", NULL);

    if (peercert == NULL) {
        return bkpy_tls_stash(self);
    }
    Py_XSETREF(self->peercert, peercert);
    return 0;
}

/* extra[name] = value, which is stolen and may be NULL. */
static int
add_extra(TlsProtocolObject *self, const char *name, PyObject *value)
{
    int r = -1;

    if (value != NULL) {
        r = PyDict_SetItemString(self->extra, name, value);
        Py_DECREF(value);
    }
    return r;
}

static int
fill_extra(TlsProtocolObject *self)
{
    PyObject *peercert = self->peercert;

    self->peercert = NULL;
    if (add_extra(self, "peercert", peercert) < 0 ||
        add_extra(self, "cipher",
                  PyObject_CallMethod(self->sslobj, "cipher", NULL)) < 0 ||
        add_extra(self, "compression",
                  PyObject_CallMethod(self->sslobj, "compression", NULL)) < 0) {
        return -1;
    }
    return add_extra(self, "ssl_object", Py_NewRef(self->sslobj));
}

static void
log_handshake(TlsProtocolObject *self)
{
    double now;

    if (!self->loop->is_debug) {
        return;
    }
    if (bkpy_loop_time(self->loop, &now) < 0) {
        PyErr_Clear();
        return;
    }
    bkpy_log("debug", NULL, "(sOd)", "%r: SSL handshake took %.1f ms", self,
             (now - self->handshake_since) * 1e3);
}

/* A method of the user's protocol; arg may be NULL. New reference or NULL. */
static PyObject *
call_app(TlsProtocolObject *self, PyObject *name, PyObject *arg)
{
    PyObject *app = self->app;
    PyObject *result;

    if (app == NULL) {
        return Py_NewRef(Py_None);
    }
    Py_INCREF(app);
    result = arg == NULL ? PyObject_CallMethodNoArgs(app, name)
                         : PyObject_CallMethodOneArg(app, name, arg);
    Py_DECREF(app);
    return result;
}

static int
on_connected(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;
    PyObject *result;

    log_handshake(self);
    if (fill_extra(self) < 0) {
        return bkpy_tls_stash_raised(self);
    }
    if (self->app_state == BKPY_TLS_APP_INIT) {
        self->app_state = BKPY_TLS_APP_MADE;
        bkpy_tls_adopt_reader(self);
        result = call_app(self, self->state->str_connection_made,
                          (PyObject *)self->app_transport);
        if (result == NULL) {
            return bkpy_tls_stash_raised(self);
        }
        Py_DECREF(result);
    }
    bkpy_tls_wake_waiter(self, NULL);
    return 0;
}

static void
warn_kept_open(PyObject *result)
{
    int is_kept_open = PyObject_IsTrue(result);

    if (is_kept_open > 0) {
        bkpy_log("warning", NULL, "(s)",
                 "returning true from eof_received() has no effect when using "
                 "ssl");
    }
}

static int
on_eof_received(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;
    PyObject *result;
    int r = 0;

    if (self->app_state != BKPY_TLS_APP_MADE) {
        return 0;
    }
    self->app_state = BKPY_TLS_APP_EOF;
    result = call_app(self, self->state->str_eof_received, NULL);
    if (result != NULL) {
        warn_kept_open(result);
        Py_DECREF(result);
    }
    if (PyErr_Occurred()) {
        if (bkpy_is_exit_set()) {
            return bkpy_tls_stash_raised(self);
        }
        r = bkpy_tls_fail(self, "Error calling eof_received()");
    }
    return r < 0 ? bkpy_tls_stash(self) : 0;
}

/* pause_writing() and resume_writing(). */
static int
notify(TlsProtocolObject *self, PyObject *name, const char *message)
{
    PyObject *result = call_app(self, name, NULL);

    if (result != NULL) {
        Py_DECREF(result);
        return 0;
    }
    if (bkpy_is_exit_set()) {
        return bkpy_tls_stash_raised(self);
    }
    bkpy_loop_report(self->loop, message, (PyObject *)self->app_transport,
                     (PyObject *)self, NULL);
    return 0;
}

static int
on_pause_writing(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;

    return notify(self, self->state->str_pause_writing,
                  "protocol.pause_writing() failed");
}

static int
on_resume_writing(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;

    return notify(self, self->state->str_resume_writing,
                  "protocol.resume_writing() failed");
}

static void
on_closing(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;

    if (self->app_transport != NULL) {
        self->app_transport->is_closed = true;
    }
}

/* --- the clock --- */

static int
on_start_timer(bk_tls_pump *pump, void *op)
{
    TlsProtocolObject *self = op;
    bool is_handshake = bk_tls_pump_state(pump) == BK_TLS_HANDSHAKE;
    PyObject *callback =
        PyObject_GetAttrString(op, is_handshake ? "_check_handshake_timeout"
                                                : "_check_shutdown_timeout");
    PyObject *timer = NULL;

    if (callback != NULL) {
        timer = PyObject_CallMethod((PyObject *)self->loop, "call_later", "OO",
                                    is_handshake ? self->handshake_timeout
                                                 : self->shutdown_timeout,
                                    callback);
        Py_DECREF(callback);
    }
    if (timer == NULL) {
        return bkpy_tls_stash_raised(self);
    }
    Py_XSETREF(self->timer, timer);
    return 0;
}

static void
on_stop_timer(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;
    PyObject *timer = self->timer;
    PyObject *exc;
    PyObject *result;

    if (timer == NULL) {
        return;
    }
    self->timer = NULL;
    exc = PyErr_GetRaisedException();
    result = PyObject_CallMethodNoArgs(timer, self->state->str_cancel);
    if (result == NULL) {
        PyErr_WriteUnraisable(timer);
    }
    Py_XDECREF(result);
    Py_DECREF(timer);
    PyErr_SetRaisedException(exc);
}

static int
on_close_carrier(bk_tls_pump *pump, void *op)
{
    TlsProtocolObject *self = op;
    int r = 0;

    if (!bkpy_tls_shutdown_timeout_lasts()) {
        on_stop_timer(pump, op);
    }
    else if (self->timer == NULL) {
        r = on_start_timer(pump, op);
    }
    return r < 0 || self->carrier == NULL
               ? r
               : call_soon(self, self->carrier, "close");
}

static int
on_call_soon(bk_tls_pump *Py_UNUSED(pump), bk_tls_step step, void *op)
{
    static const char *const names[] = {
        [BK_TLS_STEP_READ] = "_do_read",
        [BK_TLS_STEP_RESUME] = "_resume",
        [BK_TLS_STEP_CLOSE] = "_start_shutdown",
    };

    return call_soon(op, op, names[step]);
}

const bk_tls_ops bkpy_tls_ops = {
    .send = on_send,
    .pause_carrier = on_pause_carrier,
    .resume_carrier = on_resume_carrier,
    .abort_carrier = on_abort_carrier,
    .close_carrier = on_close_carrier,
    .flush_later = on_flush_later,
    .check_peer = on_check_peer,
    .connected = on_connected,
    .readable = bkpy_tls_readable,
    .eof_received = on_eof_received,
    .pause_writing = on_pause_writing,
    .resume_writing = on_resume_writing,
    .closing = on_closing,
    .fail = on_fail,
    .start_timer = on_start_timer,
    .stop_timer = on_stop_timer,
    .call_soon = on_call_soon,
};
