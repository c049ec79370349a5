/* datagram_io.c -- from the core to the protocol: what an endpoint reports.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Each function here is called by the core and starts and ends without an
 * exception. Methods of the protocol are looked up at each call, as in asyncio.
 *
 * A delivery, which may be of many datagrams, enters the context once; in debug
 * mode each datagram is a callback of its own, as in asyncio.
 */

#include "datagram_transport.h"

#include "errors.h"
#include "log.h"
#include "spare.h"

BKPY_SHOWN_CALLBACK(read_ready, "_read_ready");
BKPY_SHOWN_CALLBACK(sendto_ready, "_sendto_ready");
BKPY_SHOWN_CALLBACK(call_connection_lost, "_call_connection_lost");

/* --- calling the protocol --- */

/* New reference or NULL; arg may be NULL. */
static PyObject *
call_protocol(DatagramTransportObject *self, PyObject *name, PyObject *arg)
{
    PyObject *protocol = Py_NewRef(self->protocol);
    PyObject *stack[3] = {NULL, protocol, arg};
    size_t nargs = arg == NULL ? 1 : 2;
    PyObject *result = PyObject_VectorcallMethod(
        name, stack + 1, nargs | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);

    Py_DECREF(protocol);
    return result;
}

/* 0, or -1 with what it raised. */
static int
tell_protocol(DatagramTransportObject *self, PyObject *name, PyObject *arg)
{
    PyObject *result = call_protocol(self, name, arg);

    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

int
bkpy_datagram_tell_error(DatagramTransportObject *self, PyObject *exc)
{
    return tell_protocol(self, self->state->str_error_received, exc);
}

/* --- deliveries --- */

static void
on_delivery_begins(bk_datagram_transport *Py_UNUSED(t), void *op)
{
    DatagramTransportObject *self = op;

    self->reports++;
    self->is_delivering = true;
    bkpy_scope_enter(&self->scope, op, self->loop, self->context);
}

static void
on_delivery_ended(bk_datagram_transport *Py_UNUSED(t), void *op)
{
    DatagramTransportObject *self = op;
    bkpy_scope scope = self->scope; /* leaving may free self */

    self->is_delivering = false;
    self->reports--;
    bkpy_spare_drop_held(scope.loop);
    bkpy_scope_leave(&scope, op, &read_ready);
}

/* With an exception set, take it: what raised it is told as the callback that
 * it is in asyncio, outside of the context. */
static void
report(DatagramTransportObject *self)
{
    PyObject *exc = PyErr_GetRaisedException();
    LoopObject *loop = (LoopObject *)Py_NewRef((PyObject *)self->loop);

    bkpy_scope_leave(&self->scope, (PyObject *)self, &read_ready);
    PyErr_SetRaisedException(exc);
    bkpy_scope_report(loop, (PyObject *)self, &read_ready, NULL, self->context);
    bkpy_scope_enter(&self->scope, (PyObject *)self, loop, self->context);
    Py_DECREF(loop);
}

/* Debug mode measures each datagram. */
static void
end_datagram(DatagramTransportObject *self)
{
    LoopObject *loop = self->loop;

    if (loop == NULL || !loop->is_debug) {
        return;
    }
    bkpy_scope_leave(&self->scope, (PyObject *)self, &read_ready);
    bkpy_scope_enter(&self->scope, (PyObject *)self, loop, self->context);
}

/* datagram_received(data, addr); both references are stolen, and either may be
 * NULL, with an exception. */
static void
deliver(DatagramTransportObject *self, PyObject *data, PyObject *addr)
{
    LoopObject *loop = self->loop; /* which the scope holds */
    PyObject *protocol = Py_NewRef(self->protocol);
    PyObject *stack[4] = {NULL, protocol, data, addr};
    PyObject *result;

    if (data == NULL || addr == NULL) {
        bkpy_datagram_fail(self, "Fatal read error on datagram transport");
    }
    else {
        result = PyObject_VectorcallMethod(
            self->state->str_datagram_received, stack + 1,
            3 | PY_VECTORCALL_ARGUMENTS_OFFSET, NULL);
        if (result == NULL) {
            report(self);
        }
        Py_XDECREF(result);
    }
    if (data != NULL) {
        bkpy_spare_hold(loop, data);
    }
    Py_XDECREF(addr);
    Py_DECREF(protocol);
    end_datagram(self);
}

static void
on_datagram_received(bk_datagram_transport *Py_UNUSED(t), const void *data,
                     size_t len, const struct sockaddr *address,
                     socklen_t address_len, void *op)
{
    DatagramTransportObject *self = op;
    PyObject *bytes = bkpy_spare_new(self->loop, data, len);
    PyObject *addr = NULL;

    if (bytes != NULL) {
        addr = bkpy_datagram_sender(self, address, address_len);
    }
    deliver(self, bytes, addr);
}

/* --- receiving by the socket's method --- */

static bool
must_wait(void)
{
    return PyErr_ExceptionMatches(PyExc_BlockingIOError) ||
           PyErr_ExceptionMatches(PyExc_InterruptedError);
}

/* With what recvfrom() raised. */
static void
take_receive_error(DatagramTransportObject *self)
{
    PyObject *exc;

    if (must_wait()) {
        PyErr_Clear();
        return;
    }
    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        bkpy_datagram_fail(self, "Fatal read error on datagram transport");
        return;
    }
    exc = PyErr_GetRaisedException();
    if (bkpy_datagram_tell_error(self, exc) < 0) {
        report(self);
    }
    Py_DECREF(exc);
}

static void
on_readable(bk_datagram_transport *Py_UNUSED(t), void *op)
{
    DatagramTransportObject *self = op;
    PyObject *sock = Py_NewRef(self->socket);
    PyObject *pair =
        PyObject_CallMethod(sock, "recvfrom", "I", (unsigned)BK_READ_MAX);
    PyObject *data = NULL;
    PyObject *addr = NULL;

    Py_DECREF(sock);
    if (pair == NULL) {
        take_receive_error(self);
        return;
    }
    data = PySequence_GetItem(pair, 0);
    if (data != NULL) {
        addr = PySequence_GetItem(pair, 1);
    }
    Py_DECREF(pair);
    if (self->protocol != NULL) {
        deliver(self, data, addr);
    }
}

/* --- errors --- */

/* What the core tells, or what the socket's method has raised. */
static PyObject *
make_error(DatagramTransportObject *self, int error)
{
    PyObject *exc = self->send_error;

    self->send_error = NULL;
    if (exc == NULL) {
        exc = bkpy_error_new(self->state, error);
    }
    return exc == NULL ? PyErr_GetRaisedException() : exc;
}

/* A method that tells the protocol something, and has no say in it. */
static void
report_notice(DatagramTransportObject *self, const char *message)
{
    bkpy_loop_report(self->loop, message, (PyObject *)self, self->protocol,
                     NULL);
}

/* Outside of any call of the user's and of any delivery: a datagram that had
 * to wait has failed, or one of another transport's delivery. */
static void
tell_error_alone(DatagramTransportObject *self, PyObject *exc)
{
    PyObject *context =
        self->write_context == NULL ? self->context : self->write_context;
    LoopObject *loop = (LoopObject *)Py_NewRef((PyObject *)self->loop);
    PyObject *raised = NULL;
    bkpy_scope scope;

    Py_INCREF(context);
    bkpy_scope_enter(&scope, (PyObject *)self, loop, context);
    if (bkpy_datagram_tell_error(self, exc) < 0) {
        raised = PyErr_GetRaisedException();
    }
    bkpy_scope_leave(&scope, (PyObject *)self, &sendto_ready);
    if (raised != NULL) {
        PyErr_SetRaisedException(raised);
        bkpy_scope_report(loop, (PyObject *)self, &sendto_ready, NULL, context);
    }
    Py_DECREF(context);
    Py_DECREF(loop);
}

static void
on_error_received(bk_datagram_transport *Py_UNUSED(t), int error, void *op)
{
    DatagramTransportObject *self = op;
    PyObject *exc = make_error(self, error);

    Py_INCREF(op);
    if (self->calls == 0 && !self->is_delivering) {
        tell_error_alone(self, exc);
    }
    else if (bkpy_datagram_tell_error(self, exc) == 0) {
        /* The common case. */
    }
    else if (self->is_sending) {
        Py_XSETREF(self->raised, PyErr_GetRaisedException());
    }
    else if (self->calls > 0) {
        report_notice(self, "protocol.error_received() failed");
    }
    else {
        report(self);
    }
    Py_DECREF(exc);
    Py_DECREF(op);
}

/* --- flow control --- */

/* Called from inside sendto(), or what else sends. */
static void
on_pause_writing(bk_datagram_transport *Py_UNUSED(t), void *op)
{
    DatagramTransportObject *self = op;

    self->reports++;
    if (tell_protocol(self, self->state->str_pause_writing, NULL) == 0) {
        /* The common case. */
    }
    else if (self->calls > 0 && bkpy_is_exit_set()) {
        Py_XSETREF(self->raised, PyErr_GetRaisedException());
    }
    else {
        report_notice(self, "protocol.pause_writing() failed");
    }
    self->reports--;
}

static void
on_resume_writing(bk_datagram_transport *Py_UNUSED(t), void *op)
{
    DatagramTransportObject *self = op;
    bkpy_scope scope;

    self->reports++;
    bkpy_scope_enter(&scope, op, self->loop, self->write_context);
    if (tell_protocol(self, self->state->str_resume_writing, NULL) < 0) {
        report_notice(self, "protocol.resume_writing() failed");
    }
    self->reports--;
    bkpy_scope_leave(&scope, op, &sendto_ready);
}

/* Inside a callback of the core. */
static void
review_hold(DatagramTransportObject *self)
{
    self->reports++;
    bkpy_datagram_review_hold(self);
    self->reports--;
}

/* This send is what add_writer is called for in asyncio. */
static void
on_write_blocked(bk_datagram_transport *Py_UNUSED(t), void *op)
{
    DatagramTransportObject *self = op;
    PyObject *context = PyContext_CopyCurrent();

    if (context == NULL) {
        PyErr_Clear();
        context = Py_XNewRef(self->write_context);
    }
    Py_XSETREF(self->write_context, context);
    review_hold(self);
}

static void
on_write_drained(bk_datagram_transport *Py_UNUSED(t), void *op)
{
    DatagramTransportObject *self = op;
    PyObject *context = self->write_context;

    self->write_context = NULL;
    review_hold(self);
    Py_XDECREF(context);
}

/* --- start and end --- */

static void
on_started(bk_datagram_transport *Py_UNUSED(t), void *op)
{
    DatagramTransportObject *self = op;

    self->is_started = true;
    review_hold(self);
}

/* A close() that had to wait ends in the context of the send that it waited
 * for; otherwise Python code is at work, and its context counts. New reference;
 * NULL only without memory. */
static PyObject *
context_of_loss(const DatagramTransportObject *self)
{
    PyObject *context;

    if (self->calls == 0 && !self->is_delivering &&
        self->write_context != NULL) {
        return Py_NewRef(self->write_context);
    }
    context = PyContext_CopyCurrent();
    if (context == NULL) {
        PyErr_Clear();
    }
    return context;
}

/* The core itself ends it: there is no memory, or the poller refuses the fd. */
static void
take_fatal(DatagramTransportObject *self, int error)
{
    self->error = bkpy_error_new(self->state, error);
    if (self->error == NULL) {
        self->error = PyErr_GetRaisedException();
    }
    PyErr_SetRaisedException(Py_NewRef(self->error));
    bkpy_loop_report(self->loop, "Fatal error on transport", (PyObject *)self,
                     self->protocol, NULL);
}

static void
on_closing(bk_datagram_transport *Py_UNUSED(t), int error, void *op)
{
    DatagramTransportObject *self = op;
    PyObject *write_context = self->write_context;

    self->lost_context = context_of_loss(self);
    self->write_context = NULL;
    self->is_closing = true;
    self->conn_lost++;
    review_hold(self);
    if (error < 0 && self->error == NULL) {
        take_fatal(self, error);
    }
    Py_XDECREF(write_context);
}

static void
on_lost(bk_datagram_transport *Py_UNUSED(t), int Py_UNUSED(error), void *op)
{
    DatagramTransportObject *self = op;
    PyObject *exc = Py_NewRef(self->error == NULL ? Py_None : self->error);
    bkpy_scope scope;

    bkpy_scope_enter(&scope, op, self->loop, self->lost_context);
    if (tell_protocol(self, self->state->str_connection_lost, exc) < 0) {
        /* Told when the socket is closed, as in asyncio. */
        Py_XSETREF(self->raised, PyErr_GetRaisedException());
    }
    bkpy_scope_leave(&scope, op, &call_connection_lost);
    Py_DECREF(exc);
}

/* What connection_lost raised. */
static void
report_raised(DatagramTransportObject *self, LoopObject *loop)
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
on_closed(bk_datagram_transport *Py_UNUSED(t), void *op)
{
    DatagramTransportObject *self = op;
    LoopObject *loop = self->loop;

    Py_INCREF(op);
    bkpy_loop_forget_transport(loop, self->fd, op);
    self->loop = NULL;
    Py_CLEAR(self->protocol);
    report_raised(self, loop);
    Py_CLEAR(self->error);
    Py_CLEAR(self->context);
    Py_CLEAR(self->lost_context);
    if (self->waiter == NULL) {
        (void)bk_handle_cancel(&self->later);
        bkpy_anchor_drop(&self->anchor);
    } /* else it is woken first, and lets go */
    Py_DECREF(loop);
    Py_DECREF(op);
}

/* --- the tables --- */

#define COMMON_CALLS                                                           \
    .connection_made = on_started, .error_received = on_error_received,        \
    .delivery_begins = on_delivery_begins,                                     \
    .delivery_ended = on_delivery_ended, .pause_writing = on_pause_writing,    \
    .resume_writing = on_resume_writing, .write_blocked = on_write_blocked,    \
    .write_drained = on_write_drained, .connection_closing = on_closing,       \
    .connection_lost = on_lost, .on_closed = on_closed

const bk_datagram_protocol bkpy_datagram_direct = {
    COMMON_CALLS,
    .datagram_received = on_datagram_received,
};

const bk_datagram_protocol bkpy_datagram_by_method = {
    COMMON_CALLS,
    .readable = on_readable,
};
