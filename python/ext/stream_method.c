/* stream_method.c -- the methods of the stream transport.
 *
 * SPDX-License-Identifier: MIT
 *
 * All but the writing ones, which are in stream_writing.c.
 */

#include "stream_transport.h"

#include "args.h"
#include "log.h"
#include "water_marks.h"

/* --- calls into the core --- */

int
bkpy_stream_end_call(StreamTransportObject *self)
{
    PyObject *raised = self->raised;

    self->calls--;
    if (raised == NULL || self->calls > 0) {
        return 0;
    }
    self->raised = NULL;
    PyErr_SetRaisedException(raised);
    return -1;
}

static PyObject *
none_after_call(StreamTransportObject *self)
{
    if (bkpy_stream_end_call(self) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

/* --- closing --- */

static PyObject *
stream_transport_can_write_eof(PyObject *Py_UNUSED(op),
                               PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_TRUE;
}

/* The loop is closed, so connection_lost cannot be scheduled any more, which
 * is what asyncio says as well. */
static PyObject *
close_dead(StreamTransportObject *self)
{
    if (self->loop == NULL || self->is_closing) {
        Py_RETURN_NONE;
    }
    self->is_closing = true;
    self->conn_lost++;
    (void)bkpy_loop_check_closed(self->loop);
    return NULL;
}

static PyObject *
stream_transport_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);

    if (!bkpy_stream_is_alive(self)) {
        return close_dead(self);
    }
    bkpy_stream_begin_call(self);
    bk_transport_close(&self->core);
    self->is_closing = true;
    bkpy_stream_review_hold(self);
    return none_after_call(self);
}

static PyObject *
stream_transport_abort(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);

    if (!bkpy_stream_is_alive(self)) {
        return close_dead(self);
    }
    bkpy_stream_begin_call(self);
    bkpy_stream_lose(self, NULL);
    return none_after_call(self);
}

/* asyncio's TLS calls it on the transport below. */
static PyObject *
stream_transport_force_close(PyObject *op, PyObject *const *args,
                             Py_ssize_t nargs, PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "_force_close",
        .names = {"exc"},
        .required = 1,
        .positional = 1,
    };
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    PyObject *exc;

    if (bkpy_parse(args, nargs, kwnames, &spec, &exc) < 0) {
        return NULL;
    }
    if (!bkpy_stream_is_alive(self)) {
        return close_dead(self);
    }
    bkpy_stream_begin_call(self);
    bkpy_stream_lose(self, exc == Py_None ? NULL : exc);
    return none_after_call(self);
}

int
bkpy_stream_is_closing(StreamTransportObject *self)
{
    bool is_closing = self->is_closing;

    if (bkpy_stream_is_alive(self)) {
        bkpy_stream_begin_call(self);
        is_closing = bk_transport_is_closing(&self->core);
        if (bkpy_stream_end_call(self) < 0) {
            return -1;
        }
    }
    return is_closing;
}

static PyObject *
stream_transport_is_closing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    int r = bkpy_stream_is_closing(StreamTransportObject_CAST(op));

    return r < 0 ? NULL : PyBool_FromLong(r);
}

/* --- reading --- */

/* Not paused and not closing; 0, 1, or -1 with an exception. */
static int
is_reading(StreamTransportObject *self)
{
    bool is_reading = !self->is_paused && !self->is_closing;

    if (bkpy_stream_is_alive(self)) {
        bkpy_stream_begin_call(self);
        is_reading = bk_transport_is_reading(&self->core);
        if (bkpy_stream_end_call(self) < 0) {
            return -1;
        }
    }
    return is_reading;
}

static PyObject *
stream_transport_is_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    int r = is_reading(StreamTransportObject_CAST(op));

    return r < 0 ? NULL : PyBool_FromLong(r);
}

static PyObject *
stream_transport_pause_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    int r = is_reading(self);

    if (r < 0) {
        return NULL;
    }
    if (r == 0) {
        Py_RETURN_NONE;
    }
    self->is_paused = true;
    if (!bkpy_stream_is_alive(self)) {
        Py_RETURN_NONE;
    }
    bk_transport_pause_reading(&self->core);
    bkpy_stream_review_hold(self);
    if (self->loop->is_debug) {
        bkpy_log("debug", NULL, "(sO)", "%r pauses reading", self);
    }
    Py_RETURN_NONE;
}

/* Reading begins anew, in the context of whoever resumes it. Before it has
 * begun at all, its start still follows, with the context it was queued in. */
static int
renew_context(StreamTransportObject *self)
{
    PyObject *context;

    if (!self->is_started) {
        return 0;
    }
    context = bkpy_stream_callback_context(self);
    if (context == NULL) {
        return -1;
    }
    Py_XSETREF(self->context, context);
    return 0;
}

static PyObject *
stream_transport_resume_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);

    if (self->is_closing || !self->is_paused) {
        Py_RETURN_NONE;
    }
    if (!bkpy_stream_is_alive(self)) {
        self->is_paused = false;
        return bkpy_loop_check_closed(self->loop) < 0 ? NULL
                                                      : Py_NewRef(Py_None);
    }
    if (renew_context(self) < 0) {
        return NULL;
    }
    self->is_paused = false;
    self->is_at_eof = false;
    bkpy_stream_begin_call(self);
    bk_transport_resume_reading(&self->core);
    bkpy_stream_review_hold(self);
    if (bkpy_stream_end_call(self) < 0) {
        return NULL;
    }
    if (self->loop->is_debug) {
        bkpy_log("debug", NULL, "(sO)", "%r resumes reading", self);
    }
    Py_RETURN_NONE;
}

/* --- the write buffer --- */

static PyObject *
stream_transport_get_write_buffer_size(PyObject *op,
                                       PyObject *Py_UNUSED(ignored))
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    size_t size = 0;

    if (bkpy_stream_is_alive(self)) {
        bkpy_stream_begin_call(self);
        size = bk_transport_get_write_buffer_size(&self->core);
        if (bkpy_stream_end_call(self) < 0) {
            return NULL;
        }
    }
    return PyLong_FromSize_t(size);
}

static PyObject *
stream_transport_get_write_buffer_limits(PyObject *op,
                                         PyObject *Py_UNUSED(ignored))
{
    size_t high, low;

    bk_transport_get_write_buffer_limits(&StreamTransportObject_CAST(op)->core,
                                         &high, &low);
    return Py_BuildValue("NN", PyLong_FromSize_t(low), PyLong_FromSize_t(high));
}

static PyObject *
stream_transport_set_write_buffer_limits(PyObject *op, PyObject *const *args,
                                         Py_ssize_t nargs, PyObject *kwnames)
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    size_t high_bytes, low_bytes;

    if (bkpy_parse_water_marks(args, nargs, kwnames, &high_bytes, &low_bytes) <
        0) {
        return NULL;
    }
    if (self->loop != NULL && self->loop->is_closed) {
        Py_RETURN_NONE;
    }
    bkpy_stream_begin_call(self);
    (void)bk_transport_set_write_buffer_limits(&self->core, high_bytes,
                                               low_bytes);
    return none_after_call(self);
}

/* --- the protocol --- */

static PyObject *
stream_transport_set_protocol(PyObject *op, PyObject *const *args,
                              Py_ssize_t nargs, PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "set_protocol",
        .names = {"protocol"},
        .required = 1,
        .positional = 1,
    };
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    PyObject *protocol;
    int r;

    if (bkpy_parse(args, nargs, kwnames, &spec, &protocol) < 0) {
        return NULL;
    }
    bkpy_stream_begin_call(self);
    r = bkpy_stream_set_protocol(self, protocol);
    if (r < 0) {
        self->calls--;
        return NULL;
    }
    return none_after_call(self);
}

static PyObject *
stream_transport_get_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    PyObject *protocol = StreamTransportObject_CAST(op)->protocol;

    return Py_NewRef(protocol == NULL ? Py_None : protocol);
}

/* --- the table --- */

#define METHOD(name, function, parameters, text)                               \
    {                                                                          \
        name, (PyCFunction)(void (*)(void))function,                           \
            METH_FASTCALL | METH_KEYWORDS,                                     \
            name "($self, /" parameters ")\n--\n\n" text                       \
    }
#define NOARGS(name, function, text)                                           \
    {                                                                          \
        name, function, METH_NOARGS, name "($self, /)\n--\n\n" text            \
    }

PyMethodDef bkpy_stream_methods[] = {
    METHOD("write", bkpy_stream_write, ", data",
           "Send bytes; what the kernel does not take now is kept for later."),
    METHOD("writelines", bkpy_stream_writelines, ", list_of_data",
           "Send several pieces with one system call."),
    NOARGS("write_eof", bkpy_stream_write_eof,
           "Say that nothing more will be sent, after what is kept."),
    NOARGS("can_write_eof", stream_transport_can_write_eof, "Always true."),
    NOARGS("close", stream_transport_close,
           "Send what is kept, then end the connection."),
    NOARGS("abort", stream_transport_abort,
           "End the connection and drop what is kept."),
    NOARGS("is_closing", stream_transport_is_closing,
           "True from close(), abort() or a failure on."),
    NOARGS("is_reading", stream_transport_is_reading,
           "True unless paused or closing."),
    NOARGS("pause_reading", stream_transport_pause_reading,
           "Receive nothing more until resume_reading()."),
    NOARGS("resume_reading", stream_transport_resume_reading, "Receive again."),
    NOARGS("get_write_buffer_size", stream_transport_get_write_buffer_size,
           "Return how many bytes are kept."),
    NOARGS("get_write_buffer_limits", stream_transport_get_write_buffer_limits,
           "Return (low, high) of the water marks."),
    METHOD("set_write_buffer_limits", stream_transport_set_write_buffer_limits,
           ", high=None, low=None",
           "Set the marks at which writing is paused and resumed."),
    METHOD("set_protocol", stream_transport_set_protocol, ", protocol",
           "Call this protocol from now on."),
    NOARGS("get_protocol", stream_transport_get_protocol,
           "Return the protocol; None once the connection has ended."),
    METHOD("get_extra_info", bkpy_stream_get_extra_info, ", name, default=None",
           "Return 'socket', 'sockname', 'peername' or other information."),
    METHOD("_force_close", stream_transport_force_close, ", exc",
           "End the connection with connection_lost(exc)."),
    NOARGS("_make_empty_waiter", bkpy_stream_make_empty_waiter,
           "Refuse writes; return a future for when all has been sent."),
    NOARGS("_reset_empty_waiter", bkpy_stream_reset_empty_waiter,
           "Allow writes again."),
    {NULL, NULL, 0, NULL},
};
