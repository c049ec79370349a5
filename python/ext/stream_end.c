/* stream_end.c -- how a stream ends: failures, connection_lost, the close.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The core says that connection_lost is due (on_closing), calls it (on_lost),
 * and has closed the fd (on_closed).
 *
 * on_closing takes the context that connection_lost will have: a copy of the
 * current one where Python code is at work. But a receive that fails, and a
 * flush that ends or fails in a writable event, have no Python code around
 * them; then it is the context of the reader or of the blocked write.
 */

#include "stream_transport.h"

#include <errno.h>

#include "errors.h"
#include "log.h"
#include "server.h"

BKPY_SHOWN_CALLBACK(call_connection_lost, "_call_connection_lost");

/* --- failures --- */

/* The last that TLS has written is the alert that tells the peer of exc, which
 * asyncio's does not send: that it fails is no reason for the end. */
static bool
is_alert_unsent(const StreamTransportObject *self, PyObject *exc)
{
    return exc != NULL &&
           Py_TYPE(self->protocol) == self->state->TlsProtocolType;
}

void
bkpy_stream_lose(StreamTransportObject *self, PyObject *exc)
{
    if (!bkpy_stream_is_alive(self)) {
        return;
    }
    if (self->conn_lost == 0 && is_alert_unsent(self, exc)) {
        self->error = Py_NewRef(exc);
    }
    /* What fails now failed before exc did. */
    bk_transport_flush(&self->core);
    if (self->conn_lost > 0) {
        return;
    }
    Py_XSETREF(self->error, Py_XNewRef(exc));
    self->calls++;
    bk_transport_abort(&self->core, exc == NULL ? 0 : -ECONNABORTED);
    self->calls--;
}

/* Tell of what ends the connection: OSErrors are everyday life. */
static void
tell_fatal(StreamTransportObject *self, PyObject *exc, const char *message)
{
    if (!PyErr_GivenExceptionMatches(exc, PyExc_OSError)) {
        PyErr_SetRaisedException(Py_NewRef(exc));
        bkpy_loop_report(self->loop, message, (PyObject *)self, self->protocol,
                         NULL);
    }
    else if (self->loop->is_debug) {
        bkpy_log("debug", exc, "(sOs)", "%r: %s", self, message);
    }
}

void
bkpy_stream_fail(StreamTransportObject *self, const char *message)
{
    PyObject *exc;

    if (bkpy_loop_take_exit(self->loop)) {
        return;
    }
    exc = PyErr_GetRaisedException();
    /* What was written before comes first. */
    bk_transport_flush(&self->core);
    tell_fatal(self, exc, message);
    bkpy_stream_lose(self, exc);
    Py_DECREF(exc);
}

/* --- the core tells --- */

/* New reference; NULL only without memory. */
static PyObject *
context_of_loss(const StreamTransportObject *self, int error)
{
    PyObject *context;

    if (BKPY_TRANSPORT_HAS_CONTEXT || self->calls > 0) {
        context = bkpy_stream_callback_context(self);
    }
    else if (self->is_receiving) {
        context = PyContext_Copy(self->context);
    }
    else if (self->write_context == NULL) {
        context = PyContext_CopyCurrent();
    }
    else {
        /* Without an error it is asyncio's _write_ready() that goes on. */
        context = error == 0 ? Py_NewRef(self->write_context)
                             : PyContext_Copy(self->write_context);
    }
    if (context == NULL) {
        PyErr_Clear();
    }
    return context;
}

/* The exception for a failure of the kernel's. */
static void
take_error(StreamTransportObject *self, int error)
{
    self->error = bkpy_error_new(self->state, error);
    if (self->error == NULL) {
        self->error = PyErr_GetRaisedException();
    }
    tell_fatal(self, self->error,
               self->is_receiving ? "Fatal read error on socket transport"
                                  : "Fatal write error on socket transport");
}

void
bkpy_stream_on_closing(bk_transport *Py_UNUSED(t), int error, void *op)
{
    StreamTransportObject *self = op;
    PyObject *write_context = self->write_context;

    self->lost_context = context_of_loss(self, error);
    self->write_context = NULL;
    self->is_closing = true;
    self->conn_lost++;
    bkpy_stream_review_hold(self);
    if (error < 0 && self->error == NULL) {
        take_error(self, error);
    }
    Py_XDECREF(write_context);
}

void
bkpy_stream_on_lost(bk_transport *Py_UNUSED(t), int Py_UNUSED(error), void *op)
{
    StreamTransportObject *self = op;
    PyObject *exc = Py_NewRef(self->error == NULL ? Py_None : self->error);
    PyObject *result;
    bkpy_scope scope;

    bkpy_scope_enter(&scope, (PyObject *)self, self->loop, self->lost_context);
    result =
        bkpy_stream_call_protocol(self, self->state->str_connection_lost, exc);
    if (result == NULL) {
        /* Told when the socket is closed, as in asyncio. */
        Py_XSETREF(self->raised, PyErr_GetRaisedException());
    }
    Py_XDECREF(result);
    bkpy_scope_leave(&scope, (PyObject *)self, &call_connection_lost);
    Py_DECREF(exc);
}

/* What connection_lost raised. */
static void
report_raised(StreamTransportObject *self, LoopObject *loop)
{
    PyObject *exc = self->raised;
    PyObject *arg = self->error == NULL ? Py_None : self->error;

    if (exc == NULL) {
        return;
    }
    self->raised = NULL;
    PyErr_SetRaisedException(exc);
    bkpy_scope_report(loop, (PyObject *)self, &call_connection_lost, arg,
                      self->lost_context);
}

static void
leave_server(StreamTransportObject *self)
{
    PyObject *server = self->server;

    self->server = NULL;
    if (self->is_attached) {
        bkpy_server_detach(server, self);
    }
    Py_XDECREF(server);
}

void
bkpy_stream_on_closed(bk_transport *Py_UNUSED(t), void *op)
{
    StreamTransportObject *self = op;
    LoopObject *loop = self->loop;

    Py_INCREF(self);
    bkpy_loop_forget_transport(loop, self->fd, (PyObject *)self);
    self->loop = NULL;
    Py_CLEAR(self->protocol);
    leave_server(self);
    report_raised(self, loop);
    bkpy_stream_fail_sendfile(self);
    Py_CLEAR(self->error);
    Py_CLEAR(self->context);
    Py_CLEAR(self->lost_context);
    bkpy_spare_forget(&self->given);
    if (self->waiter == NULL) {
        (void)bk_handle_cancel(&self->later);
        bkpy_anchor_drop(&self->anchor);
    } /* else on_later wakes it and lets go */
    Py_DECREF(loop);
    Py_DECREF(self);
}
