/* tls_write.c -- plain bytes from the user's protocol.
 *
 * SPDX-License-Identifier: MIT
 */
#include "args.h"
#include "log.h"
#include "streams.h"
#include "tls.h"
#include "written_data.h"

static bool
can_write(const TlsProtocolObject *tls)
{
    return bkpy_tls_is_alive(tls) && bk_tls_pump_can_write(&tls->pump);
}

/* 0, or -1 with an exception. What is no exact bytes may change later. Its
 * __buffer__ in Python may have ended the connection: it is dropped then. */
static int
append(TlsProtocolObject *tls, PyObject *data)
{
    Py_buffer view;
    int r;

    if (PyBytes_CheckExact(data)) {
        r = bk_tls_pump_append_lent(&tls->pump, PyBytes_AS_STRING(data),
                                    (size_t)PyBytes_GET_SIZE(data),
                                    bkpy_release_bytes, Py_NewRef(data));
    }
    else {
        if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
            return -1;
        }
        r = can_write(tls)
                ? bk_tls_pump_append(&tls->pump, view.buf, (size_t)view.len)
                : 0;
        PyBuffer_Release(&view);
    }
    return bkpy_tls_result(tls, r);
}

/* Whether a write is taken; otherwise it is counted and dropped. */
static bool
takes_writes(TlsProtocolObject *tls)
{
    if (tls == NULL) {
        return false;
    }
    if (can_write(tls)) {
        return true;
    }
    if (tls->conn_lost >= BKPY_WARN_AFTER_DROPPED) {
        bkpy_log("warning", NULL, "(s)", "SSL connection is closed");
    }
    tls->conn_lost++;
    return false;
}

/* With an exception set that a write has met: asyncio's. */
static PyObject *
fail_write(TlsProtocolObject *tls)
{
    if (!PyErr_ExceptionMatches(PyExc_Exception)) {
        return NULL;
    }
    return bkpy_tls_none_or_null(
        bkpy_tls_fail(tls, "Fatal error on SSL protocol"));
}

/* What append() has given as the method's result. tls is held, as from before
 * the data's own code ran: a second close() lets go of it. */
static PyObject *
finish_write(TlsProtocolObject *tls, int r)
{
    if (r < 0) {
        return fail_write(tls);
    }
    if (!can_write(tls)) {
        Py_RETURN_NONE;
    }
    return bkpy_tls_none_or_null(
        BKPY_TLS_CALL(tls, bk_tls_pump_written(&tls->pump)));
}

static int
check_type(PyObject *data)
{
    PyObject *name;

    if (bkpy_is_written_data(data)) {
        return 0;
    }
    name = PyType_GetName(Py_TYPE(data));
    if (name != NULL) {
        PyErr_Format(PyExc_TypeError,
                     "data: expecting a bytes-like instance, got %U", name);
        Py_DECREF(name);
    }
    return -1;
}

PyObject *
bkpy_tls_transport_write(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                         PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "write",
        .names = {"data"},
        .required = 1,
        .positional = 1,
    };
    PyObject *data = bkpy_parse_one(&spec, args, nargs, kwnames);
    TlsProtocolObject *tls;
    PyObject *result;
    int is_true;

    if (data == NULL || check_type(data) < 0) {
        return NULL;
    }
    is_true = PyObject_IsTrue(data);
    if (is_true <= 0) {
        return is_true < 0 ? NULL : Py_NewRef(Py_None);
    }
    tls = bkpy_tls_of(op); /* the data's __len__ may have let go of it */
    if (!takes_writes(tls)) {
        Py_RETURN_NONE;
    }
    if (TlsTransportObject_CAST(op)->seeks_writer) {
        bkpy_writer_adopt_caller(tls->loop, op);
    }
    Py_INCREF(tls);
    result = finish_write(tls, append(tls, data));
    Py_DECREF(tls);
    return result;
}

static int
append_all(TlsProtocolObject *tls, PyObject *lines)
{
    for (Py_ssize_t i = 0; i < PyTuple_GET_SIZE(lines) && can_write(tls); i++) {
        if (append(tls, PyTuple_GET_ITEM(lines, i)) < 0) {
            return -1;
        }
    }
    return 0;
}

PyObject *
bkpy_tls_transport_writelines(PyObject *op, PyObject *const *args,
                              Py_ssize_t nargs, PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "writelines",
        .names = {"list_of_data"},
        .required = 1,
        .positional = 1,
    };
    PyObject *list = bkpy_parse_one(&spec, args, nargs, kwnames);
    TlsProtocolObject *tls = bkpy_tls_of(op);
    PyObject *lines;
    PyObject *result = NULL;

    if (list == NULL) {
        return NULL;
    }
    if (!takes_writes(tls)) {
        Py_RETURN_NONE;
    }
    Py_INCREF(tls);
    lines = PySequence_Tuple(list);
    if (lines != NULL) {
        result = finish_write(tls, append_all(tls, lines));
        Py_DECREF(lines);
    }
    Py_DECREF(tls);
    return result;
}

PyObject *
bkpy_tls_transport_write_eof(PyObject *Py_UNUSED(op),
                             PyObject *Py_UNUSED(ignored))
{
    PyErr_SetNone(PyExc_NotImplementedError);
    return NULL;
}

PyObject *
bkpy_tls_transport_can_write_eof(PyObject *Py_UNUSED(op),
                                 PyObject *Py_UNUSED(ignored))
{
    Py_RETURN_FALSE;
}

/* For tests of asyncio's: kept without being encrypted. */
PyObject *
bkpy_tls_transport_append_write_backlog(PyObject *op, PyObject *data)
{
    TlsProtocolObject *tls = bkpy_tls_of(op);

    return tls != NULL && append(tls, data) < 0 ? NULL : Py_NewRef(Py_None);
}
