/* tls_info.c -- attributes of the protocol that carries TLS.
 *
 * SPDX-License-Identifier: MIT
 *
 * Private in asyncio, and yet read by packages. Those of asyncio's buffers are
 * not there: records and plain bytes wait in the pump.
 */

#include "tls.h"

static PyObject *
none_if_null(PyObject *value)
{
    return Py_NewRef(value == NULL ? Py_None : value);
}

#define GETTER(name, member)                                                   \
    static PyObject *get_##name(PyObject *op, void *Py_UNUSED(closure))        \
    {                                                                          \
        return none_if_null((PyObject *)TlsProtocolObject_CAST(op)->member);   \
    }

GETTER(app, app)
GETTER(app_transport, app_transport)
GETTER(carrier, carrier)
GETTER(context, context)
GETTER(extra, extra)
GETTER(handshake_timeout, handshake_timeout)
GETTER(loop, loop)
GETTER(server_hostname, server_hostname)
GETTER(shutdown_timeout, shutdown_timeout)
GETTER(sslobj, sslobj)
GETTER(waiter, waiter)

#define GETTER_BOOL(name, expression)                                          \
    static PyObject *get_##name(PyObject *op, void *Py_UNUSED(closure))        \
    {                                                                          \
        TlsProtocolObject *self = TlsProtocolObject_CAST(op);                  \
                                                                               \
        return PyBool_FromLong(expression);                                    \
    }

GETTER_BOOL(app_reading_paused, bk_tls_pump_is_reading_paused(&self->pump))
GETTER_BOOL(app_writing_paused, bk_tls_pump_is_writing_paused(&self->pump))
GETTER_BOOL(eof_received, self->is_at_eof)
GETTER_BOOL(is_server, self->is_server)
GETTER_BOOL(ssl_reading_paused, self->is_carrier_paused)
GETTER_BOOL(ssl_writing_paused, self->is_sending_paused)

static PyObject *
get_conn_lost(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromUnsignedLong(TlsProtocolObject_CAST(op)->conn_lost);
}

static PyObject *
get_write_buffer_size(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromSize_t(
        bk_tls_pump_backlog_size(&TlsProtocolObject_CAST(op)->pump));
}

/* A member of an enumeration in asyncio.sslproto. */
static PyObject *
find_state(const char *enumeration, const char *name)
{
    PyObject *sslproto = PyImport_ImportModule("asyncio.sslproto");
    PyObject *states = NULL;
    PyObject *state = NULL;

    if (sslproto != NULL) {
        states = PyObject_GetAttrString(sslproto, enumeration);
        Py_DECREF(sslproto);
    }
    if (states != NULL) {
        state = PyObject_GetAttrString(states, name);
        Py_DECREF(states);
    }
    return state;
}

static PyObject *
get_state(PyObject *op, void *Py_UNUSED(closure))
{
    static const char *const names[] = {
        [BK_TLS_UNWRAPPED] = "UNWRAPPED", [BK_TLS_HANDSHAKE] = "DO_HANDSHAKE",
        [BK_TLS_WRAPPED] = "WRAPPED",     [BK_TLS_FLUSHING] = "FLUSHING",
        [BK_TLS_SHUTDOWN] = "SHUTDOWN",
    };
    bk_tls_state state = bk_tls_pump_state(&TlsProtocolObject_CAST(op)->pump);

    return find_state("SSLProtocolState", names[state]);
}

static PyObject *
get_app_state(PyObject *op, void *Py_UNUSED(closure))
{
    static const char *const names[] = {
        [BKPY_TLS_APP_INIT] = "STATE_INIT",
        [BKPY_TLS_APP_MADE] = "STATE_CON_MADE",
        [BKPY_TLS_APP_EOF] = "STATE_EOF",
        [BKPY_TLS_APP_LOST] = "STATE_CON_LOST",
    };

    return find_state("AppProtocolState",
                      names[TlsProtocolObject_CAST(op)->app_state]);
}

PyGetSetDef bkpy_tls_getset[] = {
    {"_app_protocol", get_app, NULL, NULL, NULL},
    {"_app_reading_paused", get_app_reading_paused, NULL, NULL, NULL},
    {"_app_state", get_app_state, NULL, NULL, NULL},
    {"_app_transport", get_app_transport, NULL, NULL, NULL},
    {"_app_writing_paused", get_app_writing_paused, NULL, NULL, NULL},
    {"_conn_lost", get_conn_lost, NULL, NULL, NULL},
    {"_eof_received", get_eof_received, NULL, NULL, NULL},
    {"_extra", get_extra, NULL, NULL, NULL},
    {"_loop", get_loop, NULL, NULL, NULL},
    {"_server_hostname", get_server_hostname, NULL, NULL, NULL},
    {"_server_side", get_is_server, NULL, NULL, NULL},
    {"_ssl_handshake_timeout", get_handshake_timeout, NULL, NULL, NULL},
    {"_ssl_reading_paused", get_ssl_reading_paused, NULL, NULL, NULL},
    {"_ssl_shutdown_timeout", get_shutdown_timeout, NULL, NULL, NULL},
    {"_ssl_writing_paused", get_ssl_writing_paused, NULL, NULL, NULL},
    {"_sslcontext", get_context, NULL, NULL, NULL},
    {"_sslobj", get_sslobj, NULL, NULL, NULL},
    {"_state", get_state, NULL, NULL, NULL},
    {"_transport", get_carrier, NULL, NULL, NULL},
    {"_waiter", get_waiter, NULL, NULL, NULL},
    {"_write_buffer_size", get_write_buffer_size, NULL, NULL, NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
