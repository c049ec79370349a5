/* tls_engine.c -- an ssl.SSLObject over memory as the engine of a pump.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Works with every Python and every class of SSLObject. Records are copied into
 * the SSLObject's incoming ssl.MemoryBIO before each of its calls, and out of
 * the outgoing one after it, also when it has failed: then there is an alert.
 * While reading is paused they are copied as they come, as the user may read
 * them himself.
 */

#include <errno.h>
#include <string.h>

#include "tls.h"

/* --- records in and out --- */

#define FEED_BYTES 16384

/* Call bio.write(bytes). */
static int
write_bio(TlsProtocolObject *self, const void *data, size_t len)
{
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
    PyObject *result = NULL;

    if (bytes != NULL) {
        result = PyObject_CallMethodOneArg(self->incoming,
                                           self->state->str_write, bytes);
        Py_DECREF(bytes);
    }
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

static int
feed_records(TlsProtocolObject *self)
{
    char buf[FEED_BYTES];
    size_t len;

    while ((len = bk_tls_pump_take_input(&self->pump, buf, sizeof(buf))) > 0) {
        if (write_bio(self, buf, len) < 0) {
            return -1;
        }
    }
    return 0;
}

int
bkpy_tls_offer_records(TlsProtocolObject *self)
{
    return self->incoming != NULL && self->engine_calls == 0 &&
                   bk_tls_pump_is_reading_paused(&self->pump)
               ? feed_records(self)
               : 0;
}

static int
fetch_records(TlsProtocolObject *self)
{
    PyObject *bytes =
        PyObject_CallMethodNoArgs(self->outgoing, self->state->str_read);
    int r = 0;

    if (bytes == NULL) {
        return -1;
    }
    if (!PyBytes_Check(bytes)) {
        PyErr_SetString(PyExc_TypeError, "MemoryBIO.read() must give bytes");
        r = -1;
    }
    else if (PyBytes_GET_SIZE(bytes) > 0 &&
             bk_tls_pump_put_output(&self->pump, PyBytes_AS_STRING(bytes),
                                    (size_t)PyBytes_GET_SIZE(bytes)) < 0) {
        PyErr_NoMemory();
        r = -1;
    }
    Py_DECREF(bytes);
    return r;
}

/* --- calls --- */

/* The engine's code for the exception that is set. */
static int
failure(TlsProtocolObject *self)
{
    bkpy_state *state = self->state;

    if (PyErr_ExceptionMatches(state->SSLWantReadError) ||
        PyErr_ExceptionMatches(state->SSLSyscallError)) {
        PyErr_Clear();
        return -EAGAIN;
    }
    if (PyErr_ExceptionMatches(state->SSLError)) {
        (void)bkpy_tls_stash(self);
        return BK_TLS_ERROR;
    }
    return bkpy_tls_stash(self);
}

int
bkpy_tls_call_sslobject(TlsProtocolObject *self, PyObject *name, PyObject *arg,
                        PyObject **ret_result)
{
    PyObject *result = arg == NULL
                           ? PyObject_CallMethodNoArgs(self->sslobj, name)
                           : PyObject_CallMethodOneArg(self->sslobj, name, arg);

    if (result == NULL) {
        return failure(self);
    }
    if (ret_result != NULL) {
        *ret_result = result;
    }
    else {
        Py_DECREF(result);
    }
    return 0;
}

/* The same, with records before and after it. */
static int
call(TlsProtocolObject *self, PyObject *name, PyObject *arg,
     PyObject **ret_result)
{
    PyObject *result = NULL;
    int r;

    self->engine_calls++;
    r = feed_records(self) < 0 ? bkpy_tls_stash(self) : 0;
    if (r == 0) {
        r = bkpy_tls_call_sslobject(self, name, arg, &result);
    }
    if (fetch_records(self) < 0) {
        r = bkpy_tls_stash(self);
    }
    self->engine_calls--;
    if (r == 0 && ret_result != NULL) {
        *ret_result = result;
        return 0;
    }
    Py_XDECREF(result);
    return r;
}

/* --- the engine --- */

static int
sslobject_handshake(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;

    return call(self, self->state->str_do_handshake, NULL, NULL);
}

static ssize_t
copy_out(TlsProtocolObject *self, PyObject *bytes, void *buf, size_t len)
{
    Py_ssize_t n;

    if (!PyBytes_Check(bytes) || (size_t)PyBytes_GET_SIZE(bytes) > len) {
        PyErr_Format(PyExc_TypeError,
                     "SSLObject.read() must give at most %zu bytes", len);
        return bkpy_tls_stash(self);
    }
    n = PyBytes_GET_SIZE(bytes);
    memcpy(buf, PyBytes_AS_STRING(bytes), (size_t)n);
    return n == 0 ? BK_EOF : n;
}

static ssize_t
sslobject_read(bk_tls_pump *Py_UNUSED(pump), void *buf, size_t len, void *op)
{
    TlsProtocolObject *self = op;
    PyObject *count = PyLong_FromSize_t(len);
    PyObject *bytes;
    ssize_t r;

    if (count == NULL) {
        return bkpy_tls_stash(self);
    }
    r = call(self, self->state->str_read, count, &bytes);
    Py_DECREF(count);
    if (r == 0) {
        r = copy_out(self, bytes, buf, len);
        Py_DECREF(bytes);
    }
    return r;
}

static ssize_t
sslobject_write(bk_tls_pump *Py_UNUSED(pump), const void *data, size_t len,
                void *op)
{
    TlsProtocolObject *self = op;
    PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
    PyObject *count;
    Py_ssize_t n;
    int r;

    if (bytes == NULL) {
        return bkpy_tls_stash(self);
    }
    r = call(self, self->state->str_write, bytes, &count);
    Py_DECREF(bytes);
    if (r < 0) {
        return r;
    }
    n = PyLong_AsSsize_t(count);
    Py_DECREF(count);
    if (n <= 0 || (size_t)n > len) {
        if (!PyErr_Occurred()) {
            PyErr_SetString(PyExc_ValueError,
                            "SSLObject.write() must give how much it took");
        }
        return bkpy_tls_stash(self);
    }
    return n;
}

static int
sslobject_shutdown(bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;

    return call(self, self->state->str_unwrap, NULL, NULL);
}

/* Asked each time: the user reads from it as well. */
static size_t
sslobject_pending(const bk_tls_pump *Py_UNUSED(pump), void *op)
{
    TlsProtocolObject *self = op;
    PyObject *pending;
    size_t size;

    if (self->incoming == NULL) {
        return 0;
    }
    pending = PyObject_GetAttr(self->incoming, self->state->str_pending);
    if (pending == NULL) {
        PyErr_Clear(); /* no memory for a number */
        return 0;
    }
    size = PyLong_AsSize_t(pending); /* a MemoryBIO's, so it is one */
    Py_DECREF(pending);
    return size;
}

const bk_tls_engine *
bkpy_tls_sslobject_engine(void)
{
    static const bk_tls_engine engine = {
        .name = "sslobject",
        .handshake = sslobject_handshake,
        .read = sslobject_read,
        .write = sslobject_write,
        .shutdown = sslobject_shutdown,
        .pending = sslobject_pending,
    };

    return &engine;
}

/* --- making it --- */

/* context.wrap_bio(incoming, outgoing, server_side=, server_hostname=) */
static PyObject *
wrap(TlsProtocolObject *self, PyObject *context)
{
    PyObject *args[6] = {
        NULL,
        context,
        self->incoming,
        self->outgoing,
        self->is_server ? Py_True : Py_False,
        self->server_hostname,
    };

    return PyObject_VectorcallMethod(self->state->str_wrap_bio, args + 1,
                                     3 | PY_VECTORCALL_ARGUMENTS_OFFSET,
                                     self->state->names_wrap_bio);
}

int
bkpy_tls_attach(TlsProtocolObject *self, PyObject *context)
{
    bkpy_state *state = self->state;
    int r;

    if (state->MemoryBIO == NULL) {
        PyErr_SetString(PyExc_RuntimeError, "stdlib ssl module not available");
        return -1;
    }
    self->incoming = PyObject_CallNoArgs(state->MemoryBIO);
    if (self->incoming == NULL) {
        return -1;
    }
    self->outgoing = PyObject_CallNoArgs(state->MemoryBIO);
    if (self->outgoing == NULL) {
        return -1;
    }
    self->sslobj = wrap(self, context);
    if (self->sslobj == NULL) {
        return -1;
    }
    r = bkpy_tls_attach_directly(self);
    if (r == 0) {
        (void)bk_tls_pump_init(&self->pump, self->loop->core,
                               bkpy_tls_sslobject_engine(), self, &bkpy_tls_ops,
                               self);
    }
    return r < 0 ? -1 : 0;
}

void
bkpy_tls_detach(TlsProtocolObject *self)
{
    if (self->engine_calls == 0) {
        bk_tls_openssl_detach(&self->session);
    }
}
