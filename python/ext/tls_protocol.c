/* tls_protocol.c -- TLS as the protocol of a carrier: life cycle and type.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Who holds it: the carrier, whose protocol it is, and the transport that the
 * user's protocol has. It holds both, so an abandoned connection is a cycle
 * that the collector frees.
 *
 * A carrier of ours calls by bkpy_tls_receive() and so on (stream_io.c), any
 * other by the methods of asyncio.BufferedProtocol.
 */

#include "tls.h"

#include "args.h"
#include "errors.h"
#include "log.h"

/* asyncio.constants.SSL_HANDSHAKE_TIMEOUT and SSL_SHUTDOWN_TIMEOUT. */
#define HANDSHAKE_SECONDS 60.0
#define SHUTDOWN_SECONDS  30.0

/* asyncio's max_size: what a carrier gets as its buffer at most. */
#define LANDING_MAX (256 * 1024)

/* --- life cycle --- */

static int
tls_protocol_traverse(PyObject *op, visitproc visit, void *arg)
{
    TlsProtocolObject *self = TlsProtocolObject_CAST(op);

    Py_VISIT(Py_TYPE(op));
    Py_VISIT((PyObject *)self->loop);
    Py_VISIT(self->app);
    Py_VISIT(self->carrier);
    Py_VISIT(self->sslobj);
    Py_VISIT(self->incoming);
    Py_VISIT(self->outgoing);
    Py_VISIT(self->failure);
    Py_VISIT((PyObject *)self->app_transport);
    Py_VISIT(self->waiter);
    Py_VISIT(self->extra);
    Py_VISIT(self->context);
    Py_VISIT(self->server_hostname);
    Py_VISIT(self->peercert);
    Py_VISIT(self->handshake_timeout);
    Py_VISIT(self->shutdown_timeout);
    Py_VISIT(self->timer);
    Py_VISIT(self->landing);
    Py_VISIT(self->dict);
    return 0;
}

static int
tls_protocol_clear(PyObject *op)
{
    TlsProtocolObject *self = TlsProtocolObject_CAST(op);

    bkpy_tls_detach(self);
    bk_tls_pump_fini(&self->pump);
    self->direct = NULL;
    Py_CLEAR(self->app);
    Py_CLEAR(self->carrier);
    Py_CLEAR(self->sslobj);
    Py_CLEAR(self->incoming);
    Py_CLEAR(self->outgoing);
    Py_CLEAR(self->failure);
    bkpy_tls_drop_transport(self);
    Py_CLEAR(self->waiter);
    Py_CLEAR(self->extra);
    Py_CLEAR(self->context);
    Py_CLEAR(self->server_hostname);
    Py_CLEAR(self->peercert);
    Py_CLEAR(self->handshake_timeout);
    Py_CLEAR(self->shutdown_timeout);
    Py_CLEAR(self->timer);
    Py_CLEAR(self->landing);
    Py_CLEAR(self->dict);
    return 0;
}

static void
tls_protocol_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);

    PyObject_GC_UnTrack(op);
    if (TlsProtocolObject_CAST(op)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    (void)tls_protocol_clear(op);
    Py_XDECREF((PyObject *)TlsProtocolObject_CAST(op)->loop);
    tp->tp_free(op);
    Py_DECREF(tp);
}

/* A positive number of seconds. New reference or NULL with ValueError. */
static PyObject *
check_timeout(PyObject *value, double seconds, const char *name)
{
    PyObject *zero;
    int r;

    if (value == NULL) {
        return PyFloat_FromDouble(seconds);
    }
    zero = PyLong_FromLong(0);
    if (zero == NULL) {
        return NULL;
    }
    r = PyObject_RichCompareBool(value, zero, Py_LE);
    Py_DECREF(zero);
    if (r == 0) {
        return Py_NewRef(value);
    }
    if (r > 0) {
        PyErr_Format(PyExc_ValueError, "%s should be a positive number, got %S",
                     name, value);
    }
    return NULL;
}

static int
set_up(TlsProtocolObject *self, const bkpy_tls_options *options)
{
    int has_name = 0;

    self->handshake_timeout = check_timeout(
        options->handshake_timeout, HANDSHAKE_SECONDS, "ssl_handshake_timeout");
    if (self->handshake_timeout == NULL) {
        return -1;
    }
    self->shutdown_timeout = check_timeout(
        options->shutdown_timeout, SHUTDOWN_SECONDS, "ssl_shutdown_timeout");
    if (self->shutdown_timeout == NULL) {
        return -1;
    }
    if (options->server_hostname != NULL && !options->is_server) {
        has_name = PyObject_IsTrue(options->server_hostname);
    }
    self->server_hostname =
        Py_NewRef(has_name == 1 ? options->server_hostname : Py_None);
    self->extra = PyDict_New();
    if (has_name < 0 || self->extra == NULL ||
        PyDict_SetItemString(self->extra, "sslcontext", options->context) < 0) {
        return -1;
    }
    if (bkpy_tls_set_app(self, options->app) < 0 ||
        bkpy_tls_attach(self, options->context) < 0) {
        return -1;
    }
    self->app_transport = bkpy_tls_transport_new(self);
    return self->app_transport == NULL ? -1 : 0;
}

TlsProtocolObject *
bkpy_tls_new(LoopObject *loop, const bkpy_tls_options *options)
{
    PyTypeObject *tp = loop->state->TlsProtocolType;
    TlsProtocolObject *self;

    if (bkpy_loop_check_closed(loop) < 0) {
        return NULL;
    }
    self = (TlsProtocolObject *)tp->tp_alloc(tp, 0);
    if (self == NULL) {
        return NULL;
    }
    /* tp_alloc has zeroed it. */
    self->state = loop->state;
    self->loop = LoopObject_CAST(Py_NewRef(loop));
    self->is_server = options->is_server;
    self->context = Py_NewRef(options->context);
    self->waiter = Py_XNewRef(options->waiter);
    self->app_state =
        options->calls_connection_made ? BKPY_TLS_APP_INIT : BKPY_TLS_APP_MADE;
    if (set_up(self, options) < 0) {
        PyObject *exc = PyErr_GetRaisedException();

        if (self->app_transport != NULL) {
            self->app_transport->is_closed = true;
        }
        Py_DECREF(self);
        PyErr_SetRaisedException(exc);
        return NULL;
    }
    return self;
}

static PyObject *
none_to_null(PyObject *value)
{
    return value == Py_None ? NULL : value;
}

static PyObject *
tls_protocol_new(PyTypeObject *tp, PyObject *args, PyObject *kwargs)
{
    static char *names[] = {"loop",
                            "app_protocol",
                            "sslcontext",
                            "waiter",
                            "server_side",
                            "server_hostname",
                            "call_connection_made",
                            "ssl_handshake_timeout",
                            "ssl_shutdown_timeout",
                            NULL};
    bkpy_state *state = bkpy_state_of_type(tp);
    PyObject *loop, *app, *context, *waiter;
    PyObject *hostname = Py_None, *handshake = Py_None, *shutdown = Py_None;
    int is_server = 0, calls = 1;

    if (state == NULL || !PyArg_ParseTupleAndKeywords(
                             args, kwargs, "OOOO|pOpOO:SSLProtocol", names,
                             &loop, &app, &context, &waiter, &is_server,
                             &hostname, &calls, &handshake, &shutdown)) {
        return NULL;
    }
    if (!PyObject_TypeCheck(loop, state->LoopType)) {
        PyErr_Format(PyExc_TypeError, "loop must be a becket loop, not %.200s",
                     Py_TYPE(loop)->tp_name);
        return NULL;
    }
    return (PyObject *)bkpy_tls_new(
        LoopObject_CAST(loop), &(bkpy_tls_options){
                                   .app = app,
                                   .context = context,
                                   .waiter = none_to_null(waiter),
                                   .server_hostname = none_to_null(hostname),
                                   .handshake_timeout = none_to_null(handshake),
                                   .shutdown_timeout = none_to_null(shutdown),
                                   .is_server = is_server,
                                   .calls_connection_made = calls,
                               });
}

int
bkpy_tls_set_app(TlsProtocolObject *self, PyObject *app)
{
    int is_buffered = PyObject_IsInstance(app, self->state->BufferedProtocol);

    if (is_buffered < 0) {
        return -1;
    }
    self->is_buffered = is_buffered;
    self->is_reader =
        (PyObject *)Py_TYPE(app) == self->state->StreamReaderProtocol;
    if (self->app_transport != NULL) {
        self->app_transport->seeks_writer = self->is_reader;
    }
    Py_XSETREF(self->app, Py_NewRef(app));
    return 0;
}

/* --- who waits for the handshake --- */

/* As in asyncio, where a task of the server's waits for it. */
static void
report_refused(TlsProtocolObject *self, PyObject *exc)
{
    if (self->is_accepted && exc != NULL && self->loop->is_debug) {
        PyErr_SetRaisedException(Py_NewRef(exc));
        bkpy_loop_report(self->loop,
                         "Error on transport creation for incoming connection",
                         (PyObject *)self->app_transport, self->app, NULL);
    }
    self->is_accepted = false;
}

void
bkpy_tls_wake_waiter(TlsProtocolObject *self, PyObject *exc)
{
    PyObject *waiter = self->waiter;
    int r;

    report_refused(self, exc);
    if (waiter == NULL) {
        return;
    }
    self->waiter = NULL;
    r = exc == NULL ? bkpy_future_set_result(self->state, waiter, Py_None)
                    : bkpy_future_set_exception(self->state, waiter, exc);
    if (r < 0) {
        PyErr_WriteUnraisable(waiter);
    }
    Py_DECREF(waiter);
}

/* --- from a carrier of ours --- */

int
bkpy_tls_receive(PyObject *op, const void *data, size_t len)
{
    TlsProtocolObject *self = TlsProtocolObject_CAST(op);
    int r;

    Py_INCREF(self);
    r = bkpy_tls_result(self, bk_tls_pump_receive(&self->pump, data, len));
    if (r == 0) {
        r = bkpy_tls_offer_records(self);
    }
    Py_DECREF(self);
    return r;
}

static void
close_carrier(TlsProtocolObject *self)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *result;

    if (self->carrier != NULL) {
        result =
            PyObject_CallMethodNoArgs(self->carrier, self->state->str_close);
        if (result == NULL) {
            PyErr_WriteUnraisable(self->carrier);
        }
        Py_XDECREF(result);
    }
    PyErr_SetRaisedException(exc);
}

int
bkpy_tls_receive_eof(PyObject *op, bool *ret_is_kept_open)
{
    TlsProtocolObject *self = TlsProtocolObject_CAST(op);
    int r;

    Py_INCREF(self);
    self->is_at_eof = true;
    if (self->loop->is_debug) {
        bkpy_log("debug", NULL, "(sO)", "%r received EOF", self);
    }
    r = bkpy_tls_result(self,
                        bk_tls_pump_receive_eof(&self->pump, ret_is_kept_open));
    if (r < 0 && PyErr_ExceptionMatches(PyExc_Exception)) {
        close_carrier(self);
    }
    Py_DECREF(self);
    return r;
}

int
bkpy_tls_flush(PyObject *op)
{
    TlsProtocolObject *self = TlsProtocolObject_CAST(op);
    int r;

    Py_INCREF(self);
    r = bkpy_tls_result(self, bk_tls_pump_flush(&self->pump));
    Py_DECREF(self);
    return r;
}

/* --- the methods of a protocol --- */

static PyObject *
tls_protocol_connection_made(PyObject *op, PyObject *carrier)
{
    TlsProtocolObject *self = TlsProtocolObject_CAST(op);

    if (self->sslobj == NULL ||
        bk_tls_pump_state(&self->pump) != BK_TLS_UNWRAPPED) {
        PyErr_SetString(PyExc_RuntimeError, "an SSLProtocol is used once");
        return NULL;
    }
    if (bkpy_loop_check_closed(self->loop) < 0) {
        return NULL;
    }
    if (self->conn_lost > 0) {
        Py_RETURN_NONE; /* start_tls() on a transport that was on its way out */
    }
    Py_XSETREF(self->carrier, Py_NewRef(carrier));
    self->direct = Py_TYPE(carrier) == self->state->StreamTransportType
                       ? StreamTransportObject_CAST(carrier)
                       : NULL;
    if (self->loop->is_debug) {
        bkpy_log("debug", NULL, "(sO)", "%r starts SSL handshake", self);
        if (bkpy_loop_time(self->loop, &self->handshake_since) < 0) {
            return NULL;
        }
    }
    return bkpy_tls_none_or_null(
        bkpy_tls_result(self, bk_tls_pump_start(&self->pump)));
}

static int
queue_connection_lost(TlsProtocolObject *self, PyObject *exc)
{
    PyObject *callback =
        PyObject_GetAttr(self->app, self->state->str_connection_lost);
    PyObject *handle = NULL;

    if (callback != NULL) {
        handle = bkpy_loop_call_soon(self->loop, callback, &exc, 1, NULL);
        Py_DECREF(callback);
    }
    Py_XDECREF(handle);
    return handle == NULL ? -1 : 0;
}

static PyObject *
tls_protocol_connection_lost(PyObject *op, PyObject *exc)
{
    TlsProtocolObject *self = TlsProtocolObject_CAST(op);
    bool was_shaking = bk_tls_pump_state(&self->pump) == BK_TLS_HANDSHAKE;
    PyObject *carrier = self->carrier;
    PyObject *app = self->app;
    int r = 0;

    self->conn_lost++;
    if (self->app_transport != NULL) {
        self->app_transport->is_closed = true;
    }
    if (!was_shaking && app != NULL &&
        (self->app_state == BKPY_TLS_APP_MADE ||
         self->app_state == BKPY_TLS_APP_EOF)) {
        self->app_state = BKPY_TLS_APP_LOST;
        r = queue_connection_lost(self, exc);
    }
    bk_tls_pump_lost(&self->pump);
    bkpy_tls_detach(self);
    bkpy_tls_wake_waiter(self, exc == Py_None ? NULL : exc);
    self->direct = NULL;
    self->carrier = NULL;
    self->app = NULL;
    bkpy_tls_drop_transport(self);
    Py_XDECREF(carrier);
    Py_XDECREF(app);
    return bkpy_tls_none_or_null(r);
}

/* No carrier of ours asks. */
static PyObject *
tls_protocol_get_buffer(PyObject *op, PyObject *hint)
{
    TlsProtocolObject *self = TlsProtocolObject_CAST(op);
    Py_ssize_t size = PyNumber_AsSsize_t(hint, PyExc_OverflowError);

    if (size == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (size <= 0 || size > LANDING_MAX) {
        size = LANDING_MAX;
    }
    Py_XSETREF(self->landing, PyByteArray_FromStringAndSize(NULL, size));
    return self->landing == NULL ? NULL
                                 : PyMemoryView_FromObject(self->landing);
}

static PyObject *
tls_protocol_buffer_updated(PyObject *op, PyObject *count)
{
    TlsProtocolObject *self = TlsProtocolObject_CAST(op);
    Py_ssize_t len = PyNumber_AsSsize_t(count, PyExc_OverflowError);
    PyObject *landing = self->landing;
    int r;

    if (len == -1 && PyErr_Occurred()) {
        return NULL;
    }
    if (landing == NULL || len < 0 || len > PyByteArray_GET_SIZE(landing)) {
        PyErr_Format(PyExc_ValueError,
                     "buffer_updated(%zd): get_buffer() has not given so much",
                     len);
        return NULL;
    }
    self->landing = NULL;
    r = bkpy_tls_receive(op, PyByteArray_AS_STRING(landing), (size_t)len);
    Py_DECREF(landing);
    return bkpy_tls_none_or_null(r);
}

/* Records that somebody else has received. */
static PyObject *
tls_protocol_feed(PyObject *op, PyObject *data)
{
    Py_buffer view;
    int r;

    if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        return NULL;
    }
    r = bkpy_tls_receive(op, view.buf, (size_t)view.len);
    PyBuffer_Release(&view);
    return bkpy_tls_none_or_null(r);
}

static PyObject *
tls_protocol_eof_received(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    bool is_kept_open;

    if (bkpy_tls_receive_eof(op, &is_kept_open) < 0) {
        return NULL;
    }
    return Py_NewRef(is_kept_open ? Py_True : Py_None);
}

static PyObject *
tls_protocol_pause_writing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TlsProtocolObject *self = TlsProtocolObject_CAST(op);

    self->is_sending_paused = true;
    bk_tls_pump_pause_sending(&self->pump);
    Py_RETURN_NONE;
}

static PyObject *
tls_protocol_resume_writing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TlsProtocolObject *self = TlsProtocolObject_CAST(op);

    self->is_sending_paused = false;
    return bkpy_tls_none_or_null(
        bkpy_tls_result(self, bk_tls_pump_resume_sending(&self->pump)));
}

/* --- steps of later turns --- */

/* The connection may have ended, and the loop may have been closed. */
static PyObject *
step(PyObject *op, bk_tls_step which)
{
    TlsProtocolObject *self = TlsProtocolObject_CAST(op);

    if (!bkpy_tls_is_alive(self)) {
        Py_RETURN_NONE;
    }
    return bkpy_tls_none_or_null(
        bkpy_tls_result(self, bk_tls_pump_step(&self->pump, which)));
}

static PyObject *
tls_protocol_do_read(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return step(op, BK_TLS_STEP_READ);
}

static PyObject *
tls_protocol_resume(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return step(op, BK_TLS_STEP_RESUME);
}

static PyObject *
tls_protocol_start_shutdown(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return step(op, BK_TLS_STEP_CLOSE);
}

static PyObject *
tls_protocol_expired(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TlsProtocolObject *self = TlsProtocolObject_CAST(op);

    return bkpy_tls_none_or_null(
        bkpy_tls_result(self, bk_tls_pump_expired(&self->pump)));
}

int
bkpy_tls_abort(TlsProtocolObject *self, PyObject *exc)
{
    int error = 0;

    if (bkpy_tls_result(self, bk_tls_pump_flush(&self->pump)) < 0) {
        return -1;
    }
    if (exc != Py_None) {
        Py_XSETREF(self->failure, Py_NewRef(exc));
        error = -EIO;
    }
    return bkpy_tls_result(self, bk_tls_pump_abort(&self->pump, error));
}

/* --- the type --- */

static PyMethodDef tls_protocol_methods[] = {
    {"connection_made", tls_protocol_connection_made, METH_O, NULL},
    {"connection_lost", tls_protocol_connection_lost, METH_O, NULL},
    {"get_buffer", tls_protocol_get_buffer, METH_O, NULL},
    {"buffer_updated", tls_protocol_buffer_updated, METH_O, NULL},
    {"eof_received", tls_protocol_eof_received, METH_NOARGS, NULL},
    {"pause_writing", tls_protocol_pause_writing, METH_NOARGS, NULL},
    {"resume_writing", tls_protocol_resume_writing, METH_NOARGS, NULL},
    {"_feed", tls_protocol_feed, METH_O, NULL},
    {"_do_read", tls_protocol_do_read, METH_NOARGS, NULL},
    {"_resume", tls_protocol_resume, METH_NOARGS, NULL},
    {"_start_shutdown", tls_protocol_start_shutdown, METH_NOARGS, NULL},
    {"_check_handshake_timeout", tls_protocol_expired, METH_NOARGS, NULL},
    {"_check_shutdown_timeout", tls_protocol_expired, METH_NOARGS, NULL},
    {NULL, NULL, 0, NULL},
};

static PyMemberDef tls_protocol_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(TlsProtocolObject, dict),
     Py_READONLY, NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET, offsetof(TlsProtocolObject, weakrefs),
     Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot tls_protocol_slots[] = {
    {Py_tp_doc, "TLS between a transport and the user's protocol."},
    {Py_tp_new, tls_protocol_new},
    {Py_tp_traverse, tls_protocol_traverse},
    {Py_tp_clear, tls_protocol_clear},
    {Py_tp_dealloc, tls_protocol_dealloc},
    {Py_tp_methods, tls_protocol_methods},
    {Py_tp_members, tls_protocol_members},
    {Py_tp_getset, bkpy_tls_getset},
    {0, NULL},
};

/* Not immutable: its base is a class in Python. */
static PyType_Spec tls_protocol_spec = {
    .name = "becket._core.SSLProtocol",
    .basicsize = sizeof(TlsProtocolObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC,
    .slots = tls_protocol_slots,
};

int
bkpy_tls_protocol_setup(PyObject *module, bkpy_state *state)
{
    if (((PyTypeObject *)state->BufferedProtocol)->tp_basicsize !=
        sizeof(PyObject)) {
        PyErr_SetString(PyExc_ImportError, "becket does not know the layout of "
                                           "asyncio.BufferedProtocol");
        return -1;
    }
    state->TlsProtocolType = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &tls_protocol_spec, state->BufferedProtocol);
    if (state->TlsProtocolType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->TlsProtocolType);
}
