/* tls_transport.c -- the transport of a protocol over TLS.
 *
 * SPDX-License-Identifier: MIT
 *
 * Whatever could tell that a write is put off to the end of the callback lets
 * it happen first.
 */

#include "args.h"
#include "stream_transport.h"
#include "tls.h"
#include "water_marks.h"

/* --- life cycle --- */

TlsTransportObject *
bkpy_tls_transport_new(TlsProtocolObject *tls)
{
    PyTypeObject *tp = tls->state->TlsTransportType;
    TlsTransportObject *self = (TlsTransportObject *)tp->tp_alloc(tp, 0);

    if (self != NULL) {
        self->state = tls->state;
        self->tls = TlsProtocolObject_CAST(Py_NewRef(tls));
        self->seeks_writer = tls->is_reader;
    }
    return self;
}

static void
let_go(TlsTransportObject *self)
{
    TlsProtocolObject *tls = self->tls;

    self->tls = NULL;
    if (!self->is_tls_borrowed) {
        Py_XDECREF(tls);
    }
}

void
bkpy_tls_drop_transport(TlsProtocolObject *tls)
{
    TlsTransportObject *self = tls->app_transport;

    if (self == NULL) {
        return;
    }
    tls->app_transport = NULL;
    if (self->is_tls_borrowed) {
        self->tls = NULL;
    }
    Py_DECREF(self);
}

/* As asyncio's second close(): what the user keeps holds neither context nor
 * protocol. But while the goodbye is under way it can still be asked. */
static void
lend(TlsTransportObject *self)
{
    TlsProtocolObject *tls = self->tls;

    if (tls == NULL || self->is_tls_borrowed) {
        return;
    }
    if (tls->app_transport != self) {
        let_go(self);
        return;
    }
    self->is_tls_borrowed = true;
    Py_DECREF(tls);
}

static int
tls_transport_traverse(PyObject *op, visitproc visit, void *arg)
{
    TlsTransportObject *self = TlsTransportObject_CAST(op);

    Py_VISIT(Py_TYPE(op));
    Py_VISIT(self->extra);
    if (!self->is_tls_borrowed) {
        Py_VISIT((PyObject *)self->tls);
    }
    Py_VISIT(self->dict);
    return 0;
}

static int
tls_transport_clear(PyObject *op)
{
    TlsTransportObject *self = TlsTransportObject_CAST(op);

    Py_CLEAR(self->extra);
    let_go(self);
    Py_CLEAR(self->dict);
    bkpy_spare_forget(&self->given);
    return 0;
}

/* asyncio's __del__(): the transport below is collected with it, and closes. */
static void
tls_transport_finalize(PyObject *op)
{
    TlsTransportObject *self = TlsTransportObject_CAST(op);
    PyObject *pending;

    if (self->is_closed) {
        return;
    }
    self->is_closed = true;
    pending = PyErr_GetRaisedException();
    if (PyErr_ResourceWarning(op, 1,
                              "unclosed transport "
                              "<asyncio._SSLProtocolTransport object>") < 0) {
        PyErr_WriteUnraisable(op);
    }
    PyErr_SetRaisedException(pending);
}

static void
tls_transport_dealloc(PyObject *op)
{
    PyTypeObject *tp = Py_TYPE(op);

    if (PyObject_CallFinalizerFromDealloc(op) < 0) {
        return; /* somebody has taken a reference while it was shown */
    }
    PyObject_GC_UnTrack(op);
    if (TlsTransportObject_CAST(op)->weakrefs != NULL) {
        PyObject_ClearWeakRefs(op);
    }
    (void)tls_transport_clear(op);
    tp->tp_free(op);
    Py_DECREF(tp);
}

int
bkpy_tls_end_call(TlsProtocolObject *tls, int r)
{
    r = bkpy_tls_result(tls, r);
    Py_DECREF(tls);
    return r;
}

/* --- closing --- */

static PyObject *
tls_transport_close(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TlsTransportObject *self = TlsTransportObject_CAST(op);
    TlsProtocolObject *tls = bkpy_tls_of(op);

    if (self->is_closed || tls == NULL) {
        lend(self);
        Py_RETURN_NONE;
    }
    self->is_closed = true;
    if (!bkpy_tls_is_alive(tls) &&
        bk_tls_pump_state(&tls->pump) != BK_TLS_UNWRAPPED) {
        return bkpy_loop_check_closed(tls->loop) < 0 ? NULL
                                                     : Py_NewRef(Py_None);
    }
    return bkpy_tls_none_or_null(
        BKPY_TLS_CALL(tls, bk_tls_pump_close(&tls->pump)));
}

static PyObject *
force_close(PyObject *op, PyObject *exc)
{
    TlsProtocolObject *tls = bkpy_tls_of(op);
    int r;

    TlsTransportObject_CAST(op)->is_closed = true;
    if (tls == NULL) {
        Py_RETURN_NONE;
    }
    Py_INCREF(tls);
    r = bkpy_tls_abort(tls, exc);
    Py_DECREF(tls);
    return bkpy_tls_none_or_null(r);
}

static PyObject *
tls_transport_abort(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    return force_close(op, Py_None);
}

static PyObject *
tls_transport_force_close(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                          PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "_force_close",
        .names = {"exc"},
        .required = 1,
        .positional = 1,
    };
    PyObject *exc = bkpy_parse_one(&spec, args, nargs, kwnames);

    return exc == NULL ? NULL : force_close(op, exc);
}

static PyObject *
tls_transport_is_closing(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    int r = bkpy_tls_transport_is_closing(TlsTransportObject_CAST(op));

    return r < 0 ? NULL : PyBool_FromLong(r);
}

/* --- reading --- */

static PyObject *
tls_transport_is_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TlsProtocolObject *tls = bkpy_tls_of(op);

    return PyBool_FromLong(tls != NULL &&
                           !bk_tls_pump_is_reading_paused(&tls->pump));
}

static PyObject *
tls_transport_pause_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TlsProtocolObject *tls = bkpy_tls_of(op);

    if (tls != NULL) {
        bk_tls_pump_pause_reading(&tls->pump);
    }
    Py_RETURN_NONE;
}

static PyObject *
tls_transport_resume_reading(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TlsProtocolObject *tls = bkpy_tls_of(op);

    if (tls == NULL) {
        Py_RETURN_NONE;
    }
    return bkpy_tls_none_or_null(
        BKPY_TLS_CALL(tls, bk_tls_pump_resume_reading(&tls->pump)));
}

/* --- buffers and their marks --- */

/* Encrypt what waits for the end of the callback. 0, or -1. */
static int
flush(TlsProtocolObject *tls)
{
    if (tls == NULL || !bkpy_tls_is_alive(tls)) {
        return 0;
    }
    return BKPY_TLS_CALL(tls, bk_tls_pump_flush(&tls->pump));
}

static PyObject *
tls_transport_get_write_buffer_size(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TlsProtocolObject *tls = bkpy_tls_of(op);

    if (flush(tls) < 0) {
        return NULL;
    }
    return PyLong_FromSize_t(tls == NULL ? 0
                                         : bk_tls_pump_write_size(&tls->pump));
}

static PyObject *
tls_transport_get_read_buffer_size(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TlsProtocolObject *tls = bkpy_tls_of(op);

    return PyLong_FromSize_t(tls == NULL ? 0
                                         : bk_tls_pump_read_size(&tls->pump));
}

static PyObject *
limits(size_t high_bytes, size_t low_bytes)
{
    return Py_BuildValue("NN", PyLong_FromSize_t(low_bytes),
                         PyLong_FromSize_t(high_bytes));
}

static PyObject *
tls_transport_get_write_buffer_limits(PyObject *op,
                                      PyObject *Py_UNUSED(ignored))
{
    TlsProtocolObject *tls = bkpy_tls_of(op);
    size_t high_bytes = 0, low_bytes = 0;

    if (tls != NULL) {
        bk_tls_pump_get_write_limits(&tls->pump, &high_bytes, &low_bytes);
    }
    return limits(high_bytes, low_bytes);
}

static PyObject *
tls_transport_get_read_buffer_limits(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TlsProtocolObject *tls = bkpy_tls_of(op);
    size_t high_bytes = 0, low_bytes = 0;

    if (tls != NULL) {
        bk_tls_pump_get_read_limits(&tls->pump, &high_bytes, &low_bytes);
    }
    return limits(high_bytes, low_bytes);
}

static PyObject *
tls_transport_set_write_buffer_limits(PyObject *op, PyObject *const *args,
                                      Py_ssize_t nargs, PyObject *kwnames)
{
    static const bkpy_marks marks = {"set_write_buffer_limits", 512L * 1024};
    TlsProtocolObject *tls = bkpy_tls_of(op);
    size_t high_bytes, low_bytes;

    if (bkpy_parse_marks(args, nargs, kwnames, &marks, &high_bytes,
                         &low_bytes) < 0) {
        return NULL;
    }
    if (tls == NULL) {
        Py_RETURN_NONE;
    }
    return bkpy_tls_none_or_null(BKPY_TLS_CALL(
        tls, bk_tls_pump_set_write_limits(&tls->pump, high_bytes, low_bytes)));
}

static PyObject *
tls_transport_set_read_buffer_limits(PyObject *op, PyObject *const *args,
                                     Py_ssize_t nargs, PyObject *kwnames)
{
    static const bkpy_marks marks = {"set_read_buffer_limits", 256L * 1024};
    TlsProtocolObject *tls = bkpy_tls_of(op);
    size_t high_bytes, low_bytes;

    if (bkpy_parse_marks(args, nargs, kwnames, &marks, &high_bytes,
                         &low_bytes) < 0) {
        return NULL;
    }
    if (tls == NULL) {
        Py_RETURN_NONE;
    }
    return bkpy_tls_none_or_null(BKPY_TLS_CALL(
        tls, bk_tls_pump_set_read_limits(&tls->pump, high_bytes, low_bytes)));
}

/* --- the protocol, and what is known of the peer --- */

static PyObject *
tls_transport_set_protocol(PyObject *op, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "set_protocol",
        .names = {"protocol"},
        .required = 1,
        .positional = 1,
    };
    PyObject *app = bkpy_parse_one(&spec, args, nargs, kwnames);
    TlsProtocolObject *tls = bkpy_tls_of(op);

    if (app == NULL || flush(tls) < 0 ||
        (tls != NULL && bkpy_tls_set_app(tls, app) < 0)) {
        return NULL;
    }
    Py_RETURN_NONE;
}

static PyObject *
tls_transport_get_protocol(PyObject *op, PyObject *Py_UNUSED(ignored))
{
    TlsProtocolObject *tls = bkpy_tls_of(op);

    return Py_NewRef(tls == NULL || tls->app == NULL ? Py_None : tls->app);
}

static PyObject *
tls_transport_get_extra_info(PyObject *op, PyObject *const *args,
                             Py_ssize_t nargs, PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "get_extra_info",
        .names = {"name", "default"},
        .required = 1,
        .positional = 2,
    };
    TlsProtocolObject *tls = bkpy_tls_of(op);
    PyObject *values[2];
    PyObject *value;
    int r = 0;

    if (bkpy_parse(args, nargs, kwnames, &spec, values) < 0) {
        return NULL;
    }
    if (tls != NULL) {
        r = PyDict_GetItemRef(tls->extra, values[0], &value);
    }
    if (r != 0) {
        return r < 0 ? NULL : value;
    }
    if (values[1] == NULL) {
        values[1] = Py_None;
    }
    if (tls == NULL || tls->carrier == NULL) {
        return Py_NewRef(values[1]);
    }
    return PyObject_CallMethod(tls->carrier, "get_extra_info", "OO", values[0],
                               values[1]);
}

/* --- attributes --- */

static PyObject *
get_loop(PyObject *op, void *Py_UNUSED(closure))
{
    TlsProtocolObject *tls = bkpy_tls_of(op);

    return Py_NewRef(tls == NULL ? Py_None : (PyObject *)tls->loop);
}

static PyObject *
get_ssl_protocol(PyObject *op, void *Py_UNUSED(closure))
{
    TlsProtocolObject *tls = bkpy_tls_of(op);

    return Py_NewRef(tls == NULL ? Py_None : (PyObject *)tls);
}

static PyObject *
get_closed(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(TlsTransportObject_CAST(op)->is_closed);
}

static int
set_closed(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    int is_closed = value == NULL ? 0 : PyObject_IsTrue(value);

    if (is_closed < 0) {
        return -1;
    }
    TlsTransportObject_CAST(op)->is_closed = is_closed;
    return 0;
}

/* What the fallback of loop.sendfile() asks for. */
static PyObject *
get_protocol_paused(PyObject *op, void *Py_UNUSED(closure))
{
    TlsProtocolObject *tls = bkpy_tls_of(op);

    if (flush(tls) < 0) {
        return NULL;
    }
    return PyBool_FromLong(tls != NULL &&
                           bk_tls_pump_is_writing_paused(&tls->pump));
}

static PyObject *
get_true(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure))
{
    Py_RETURN_TRUE;
}

/* --- the type --- */

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

static PyMethodDef tls_transport_methods[] = {
    METHOD("write", bkpy_tls_transport_write, ", data",
           "Encrypt and send bytes; what cannot be sent now is kept."),
    METHOD("writelines", bkpy_tls_transport_writelines, ", list_of_data",
           "The same for several pieces."),
    NOARGS("write_eof", bkpy_tls_transport_write_eof,
           "NotImplementedError: TLS ends in both directions at once."),
    NOARGS("can_write_eof", bkpy_tls_transport_can_write_eof, "Always false."),
    NOARGS("close", tls_transport_close,
           "Send what is kept, say goodbye, and end the connection."),
    NOARGS("abort", tls_transport_abort,
           "End the connection and drop what is kept."),
    NOARGS("is_closing", tls_transport_is_closing,
           "True from close() or abort() on, and once the connection is lost."),
    NOARGS("is_reading", tls_transport_is_reading, "True unless paused."),
    NOARGS("pause_reading", tls_transport_pause_reading,
           "Deliver nothing more until resume_reading()."),
    NOARGS("resume_reading", tls_transport_resume_reading, "Deliver again."),
    NOARGS("get_write_buffer_size", tls_transport_get_write_buffer_size,
           "Return how many bytes are kept."),
    NOARGS("get_write_buffer_limits", tls_transport_get_write_buffer_limits,
           "Return (low, high) of the water marks."),
    METHOD("set_write_buffer_limits", tls_transport_set_write_buffer_limits,
           ", high=None, low=None",
           "Set the marks at which writing is paused and resumed."),
    NOARGS("get_read_buffer_size", tls_transport_get_read_buffer_size,
           "Return how many bytes of records wait to be read."),
    NOARGS("get_read_buffer_limits", tls_transport_get_read_buffer_limits,
           "Return (low, high) of the marks of reading."),
    METHOD("set_read_buffer_limits", tls_transport_set_read_buffer_limits,
           ", high=None, low=None",
           "Set the marks at which the transport below is paused."),
    METHOD("set_protocol", tls_transport_set_protocol, ", protocol",
           "Call this protocol from now on."),
    NOARGS("get_protocol", tls_transport_get_protocol,
           "Return the protocol; None once the connection is lost."),
    METHOD("get_extra_info", tls_transport_get_extra_info,
           ", name, default=None",
           "Return 'ssl_object', 'peercert', ... or what the transport below "
           "knows."),
    METHOD("_force_close", tls_transport_force_close, ", exc",
           "End the connection with connection_lost(exc)."),
    {"_test__append_write_backlog", bkpy_tls_transport_append_write_backlog,
     METH_O, NULL},
    {NULL, NULL, 0, NULL},
};

static PyGetSetDef tls_transport_getset[] = {
    {"_loop", get_loop, NULL, NULL, NULL},
    {"_ssl_protocol", get_ssl_protocol, NULL, NULL, NULL},
    {"_closed", get_closed, set_closed, NULL, NULL},
    {"_protocol_paused", get_protocol_paused, NULL, NULL, NULL},
    {"_start_tls_compatible", get_true, NULL, NULL, NULL},
    {"_sendfile_compatible", bkpy_get_sendfile_mode, NULL, NULL, "FALLBACK"},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};

static PyMemberDef tls_transport_members[] = {
    {"__dictoffset__", Py_T_PYSSIZET, offsetof(TlsTransportObject, dict),
     Py_READONLY, NULL},
    {"__weaklistoffset__", Py_T_PYSSIZET,
     offsetof(TlsTransportObject, weakrefs), Py_READONLY, NULL},
    {NULL, 0, 0, 0, NULL},
};

static PyType_Slot tls_transport_slots[] = {
    {Py_tp_doc, "The transport of a protocol over TLS."},
    {Py_tp_traverse, tls_transport_traverse},
    {Py_tp_clear, tls_transport_clear},
    {Py_tp_finalize, tls_transport_finalize},
    {Py_tp_dealloc, tls_transport_dealloc},
    {Py_tp_methods, tls_transport_methods},
    {Py_tp_members, tls_transport_members},
    {Py_tp_getset, tls_transport_getset},
    {0, NULL},
};

/* Not immutable: its base is a class in Python. */
static PyType_Spec tls_transport_spec = {
    .name = "becket._core.SSLTransport",
    .basicsize = sizeof(TlsTransportObject),
    .flags = Py_TPFLAGS_DEFAULT | Py_TPFLAGS_HAVE_GC |
             Py_TPFLAGS_DISALLOW_INSTANTIATION,
    .slots = tls_transport_slots,
};

/* The base of the stream transport, whose layout was checked. */
int
bkpy_tls_transport_setup(PyObject *module, bkpy_state *state)
{
    PyObject *base = (PyObject *)state->StreamTransportType->tp_base;

    state->TlsTransportType = (PyTypeObject *)PyType_FromModuleAndSpec(
        module, &tls_transport_spec, base);
    if (state->TlsTransportType == NULL) {
        return -1;
    }
    return PyModule_AddType(module, state->TlsTransportType);
}
