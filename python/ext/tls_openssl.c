/* tls_openssl.c -- driving OpenSSL directly: the engine of most connections.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The module _ssl has made the SSL, and the SSLObject stays its owner: here it
 * is only used until the connection ends, with a BIO of the core's in the place
 * of the two over memory. OpenSSL is the copy that _ssl uses, whose functions
 * are looked up through that module; so there is none where it was linked
 * statically.
 *
 * Where the SSL is in the struct of _ssl is known for the Pythons of compat.h,
 * and checked for each connection. What is raised is always raised by _ssl: on
 * a failure OpenSSL's queue of errors is left as it is, and the SSLObject's own
 * method finds it there.
 *
 * A context with callbacks whose exceptions _ssl keeps for its next method
 * (keylog_filename, _msg_callback) has the other engine.
 */

#include <dlfcn.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "tls.h"

#define VARIABLE "BECKET_TLS_ENGINE"

/* --- the functions --- */

/* A handle on the library or program that has _ssl in it; NULL without. */
static void *
open_ssl_module(void)
{
    PyObject *module = PyImport_ImportModule("_ssl");
    PyObject *file = NULL;
    void *handle = NULL;

    if (module != NULL) {
        file = PyObject_GetAttrString(module, "__file__");
        Py_DECREF(module);
    }
    if (file != NULL && PyUnicode_Check(file)) {
        const char *path = PyUnicode_AsUTF8(file);

        handle = path == NULL ? NULL : dlopen(path, RTLD_LAZY | RTLD_NOLOAD);
    }
    else if (file == NULL && PyErr_ExceptionMatches(PyExc_AttributeError)) {
        handle = dlopen(NULL, RTLD_LAZY);
    }
    Py_XDECREF(file);
    PyErr_Clear();
    return handle;
}

static bool
find_functions(void *handle, bk_tls_openssl *openssl)
{
    for (const bk_tls_openssl_name *name = bk_tls_openssl_names();
         name->name != NULL; name++) {
        void *function = dlsym(handle, name->name);

        if (function == NULL) {
            return false;
        }
        memcpy((char *)openssl + name->offset, &function, sizeof(function));
    }
    return true;
}

static bk_tls_openssl *
new_table(void)
{
    void *handle = open_ssl_module();
    bk_tls_openssl *table = NULL;

    if (handle != NULL) {
        table = calloc(1, sizeof(*table));
    }
    if (table != NULL &&
        (!find_functions(handle, table) || bk_tls_openssl_method(table) < 0)) {
        free(table);
        table = NULL;
    }
    /* Not closed: what was found in it is used for ever. */
    return table;
}

/* One for the process and for ever, like its BIO method, which BIOs need that
 * live longer than this module. NULL where it cannot be had. */
static const bk_tls_openssl *
find_openssl(void)
{
    static bk_tls_openssl *found;
    bk_tls_openssl *table = __atomic_load_n(&found, __ATOMIC_ACQUIRE);
    bk_tls_openssl *none = NULL;

    if (table != NULL) {
        return table;
    }
    table = new_table();
    if (table == NULL ||
        __atomic_compare_exchange_n(&found, &none, table, false,
                                    __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE)) {
        return table;
    }
    free(table); /* another thread was faster */
    return none;
}

/* --- the SSL of an SSLObject --- */

static void *
pointer_after_header(PyObject *object, size_t index)
{
    void *pointer;

    memcpy(&pointer,
           (char *)object + sizeof(PyObject) + index * sizeof(pointer),
           sizeof(pointer));
    return pointer;
}

/* Of the two, first the SSLContext's. */
static bool
has_layout(PyObject *context, PyObject *socket)
{
    return BKPY_KNOWS_SSL_LAYOUT &&
           strcmp(Py_TYPE(socket)->tp_name, "_ssl._SSLSocket") == 0 &&
           Py_TYPE(socket)->tp_basicsize >=
               (Py_ssize_t)(sizeof(PyObject) + 2 * sizeof(void *)) &&
           Py_TYPE(context)->tp_basicsize >=
               (Py_ssize_t)(sizeof(PyObject) + sizeof(void *));
}

static struct ssl_st *
ssl_of(const bk_tls_openssl *openssl, PyObject *context, PyObject *socket)
{
    struct ssl_st *ssl;

    if (!has_layout(context, socket) ||
        pointer_after_header(socket, 0) != NULL) {
        return NULL;
    }
    ssl = pointer_after_header(socket, 1);
    if (ssl == NULL || (void *)openssl->SSL_get_SSL_CTX(ssl) !=
                           pointer_after_header(context, 0)) {
        return NULL;
    }
    return ssl;
}

/* None, as an attribute of the context? */
static bool
is_none(PyObject *context, const char *name)
{
    PyObject *value = PyObject_GetAttrString(context, name);
    bool result = value == Py_None;

    Py_XDECREF(value);
    PyErr_Clear();
    return result;
}

/* The SSL of an exact ssl.SSLObject, or NULL. Sets no exception. */
static struct ssl_st *
find_ssl(bkpy_state *state, const bk_tls_openssl *openssl, PyObject *sslobj)
{
    PyObject *context, *socket;
    struct ssl_st *ssl = NULL;

    if ((PyObject *)Py_TYPE(sslobj) != state->SSLObject) {
        return NULL;
    }
    context = PyObject_GetAttrString(sslobj, "context");
    socket = PyObject_GetAttrString(sslobj, "_sslobj");
    if (context != NULL && socket != NULL &&
        is_none(context, "keylog_filename") &&
        is_none(context, "_msg_callback")) {
        ssl = ssl_of(openssl, context, socket);
    }
    Py_XDECREF(context);
    Py_XDECREF(socket);
    PyErr_Clear();
    return ssl;
}

/* --- the engine --- */

/* OpenSSL has failed: what the SSLObject's method raises. */
static int
failure(TlsProtocolObject *self, PyObject *name, PyObject *arg)
{
    int r = bkpy_tls_call_sslobject(self, name, arg, NULL);

    if (r == 0 || r == -EAGAIN) {
        PyErr_SetString(self->state->SSLError, "the TLS connection has failed");
        (void)bkpy_tls_stash(self);
        r = BK_TLS_ERROR;
    }
    return r;
}

static int
direct_handshake(bk_tls_pump *pump, void *op)
{
    TlsProtocolObject *self = op;
    int r;

    self->engine_calls++;
    r = bk_tls_openssl_engine()->handshake(pump, &self->session);
    if (r == BK_TLS_ERROR) {
        r = failure(self, self->state->str_do_handshake, NULL);
    }
    self->engine_calls--;
    return r;
}

static ssize_t
direct_read(bk_tls_pump *pump, void *buf, size_t len, void *op)
{
    TlsProtocolObject *self = op;
    ssize_t r;

    self->engine_calls++;
    r = bk_tls_openssl_engine()->read(pump, buf, len, &self->session);
    if (r == BK_TLS_ERROR) {
        PyObject *one = PyLong_FromLong(1);

        r = one == NULL ? bkpy_tls_stash(self)
                        : failure(self, self->state->str_read, one);
        Py_XDECREF(one);
    }
    self->engine_calls--;
    return r;
}

static ssize_t
direct_write(bk_tls_pump *pump, const void *data, size_t len, void *op)
{
    TlsProtocolObject *self = op;
    ssize_t r;

    self->engine_calls++;
    r = bk_tls_openssl_engine()->write(pump, data, len, &self->session);
    if (r == BK_TLS_ERROR) {
        PyObject *bytes = PyBytes_FromStringAndSize(data, (Py_ssize_t)len);

        r = bytes == NULL ? bkpy_tls_stash(self)
                          : failure(self, self->state->str_write, bytes);
        Py_XDECREF(bytes);
    }
    self->engine_calls--;
    return r;
}

/* In the state that a failure leaves, unwrap() would complain of that state;
 * read() tells the failure itself. Nobody misses what it may read. */
static int
shutdown_failure(TlsProtocolObject *self)
{
    PyObject *one = PyLong_FromLong(1);
    int r = one == NULL ? bkpy_tls_stash(self)
                        : bkpy_tls_call_sslobject(self, self->state->str_read,
                                                  one, NULL);

    Py_XDECREF(one);
    return r == 0 || r == -EAGAIN ? failure(self, self->state->str_unwrap, NULL)
                                  : r;
}

static int
direct_shutdown(bk_tls_pump *pump, void *op)
{
    TlsProtocolObject *self = op;
    int r;

    self->engine_calls++;
    r = bk_tls_openssl_engine()->shutdown(pump, &self->session);
    if (r == BK_TLS_ERROR) {
        r = shutdown_failure(self);
    }
    self->engine_calls--;
    return r;
}

static const bk_tls_engine direct_engine = {
    .name = "openssl",
    .handshake = direct_handshake,
    .read = direct_read,
    .write = direct_write,
    .shutdown = direct_shutdown,
};

/* --- which engine --- */

/* BECKET_TLS_ENGINE: 1 for what it allows, 0, or -1 with ValueError. */
static int
is_direct_allowed(void)
{
    const char *value = getenv(VARIABLE);

    if (value == NULL || *value == '\0' || strcmp(value, "auto") == 0 ||
        strcmp(value, "openssl") == 0) {
        return 1;
    }
    if (strcmp(value, "sslobject") == 0) {
        return 0;
    }
    PyErr_Format(PyExc_ValueError,
                 VARIABLE " must be auto, openssl or sslobject, not '%s'",
                 value);
    return -1;
}

int
bkpy_tls_attach_directly(TlsProtocolObject *self)
{
    const bk_tls_openssl *openssl = NULL;
    struct ssl_st *ssl = NULL;
    int r = is_direct_allowed();

    if (r <= 0) {
        return r;
    }
    openssl = find_openssl();
    if (openssl != NULL) {
        ssl = find_ssl(self->state, openssl, self->sslobj);
    }
    if (ssl == NULL) {
        return 0;
    }
    (void)bk_tls_pump_init(&self->pump, self->loop->core, &direct_engine, self,
                           &bkpy_tls_ops, self);
    r = bk_tls_openssl_attach(&self->session, openssl, ssl, &self->pump);
    if (r < 0) {
        PyErr_NoMemory();
        return -1;
    }
    Py_CLEAR(self->incoming);
    Py_CLEAR(self->outgoing);
    return 1;
}

/* Whether an ordinary connection would have it: 1, 0, or -1. */
static int
probe(bkpy_state *state)
{
    const bk_tls_openssl *openssl;
    PyObject *sslobj;
    int r = is_direct_allowed();

    if (r <= 0) {
        return r;
    }
    openssl = find_openssl();
    if (openssl == NULL) {
        return 0;
    }
    sslobj = PyObject_CallMethod(state->support, "make_ssl_object", NULL);
    if (sslobj == NULL) {
        return -1;
    }
    r = find_ssl(state, openssl, sslobj) != NULL;
    Py_DECREF(sslobj);
    return r;
}

PyObject *
bkpy_tls_engine_name(PyObject *op, void *Py_UNUSED(closure))
{
    bkpy_state *state = LoopObject_CAST(op)->state;
    int r;

    if (state->SSLObject == NULL) {
        Py_RETURN_NONE;
    }
    r = probe(state);
    return r < 0 ? NULL : PyUnicode_FromString(r > 0 ? "openssl" : "sslobject");
}
