/* stream_info.c -- what a stream transport tells: extra info, attributes.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * CPython's transport makes three objects for get_extra_info at its start: a
 * TransportSocket over the socket object, and both names. Here nothing is made
 * before it is asked for. The core remembers both names, if they fit, also
 * beyond the close. The dict `_extra` comes into being when somebody puts
 * something into it, or when the socket is asked for; what is in it is what
 * get_extra_info tells.
 */

#include "stream_transport.h"

#include <errno.h>

#include "address.h"
#include "args.h"
#include "errors.h"
#include "socket.h"

/* --- the socket object --- */

/* The object gives the fd back without closing it. */
static void
detach_socket(PyObject *sock)
{
    PyObject *exc = PyErr_GetRaisedException();
    PyObject *fd = PyObject_CallMethod(sock, "detach", NULL);

    if (fd == NULL) {
        PyErr_WriteUnraisable(sock);
    }
    Py_XDECREF(fd);
    PyErr_SetRaisedException(exc);
}

/* A socket object over the core's fd, which it then owns. */
static PyObject *
take_fd(StreamTransportObject *self)
{
    bkpy_state *state = self->state;
    PyObject *sock = bkpy_socket_from_fd(state, self->fd);
    PyObject *result;
    int r;

    if (sock == NULL) {
        return NULL;
    }
    /* It takes the fd for a blocking one. */
    result = PyObject_CallMethod(sock, "setblocking", "O", Py_False);
    if (result == NULL) {
        detach_socket(sock);
        Py_DECREF(sock);
        return NULL;
    }
    Py_DECREF(result);
    r = bk_transport_give_socket(&self->core, bkpy_socket_ops(state, sock),
                                 sock);
    if (r < 0) {
        bkpy_error_set(state, r);
        detach_socket(sock);
        Py_CLEAR(sock);
    }
    return sock;
}

/* What CPython's transport still shows after the close: a closed socket. */
static PyObject *
new_closed_socket(bkpy_state *state)
{
    PyObject *sock = PyObject_CallNoArgs((PyObject *)state->SocketType);
    PyObject *result;

    if (sock == NULL) {
        return NULL;
    }
    result = PyObject_CallMethodNoArgs(sock, state->str_close);
    if (result == NULL) {
        Py_DECREF(sock);
        return NULL;
    }
    Py_DECREF(result);
    return sock;
}

PyObject *
bkpy_stream_socket(StreamTransportObject *self)
{
    PyObject *sock;

    if (self->socket != NULL) {
        return self->socket;
    }
    sock = bkpy_stream_is_alive(self) && bk_transport_fileno(&self->core) >= 0
               ? take_fd(self)
               : new_closed_socket(self->state);
    /* Making it has run Python code, which may have been here as well; but the
     * second one could not take the fd. */
    if (sock != NULL) {
        Py_XSETREF(self->socket, sock);
    }
    return sock;
}

/* --- extra info --- */

static PyObject *
make_transport_socket(StreamTransportObject *self)
{
    PyObject *sock = bkpy_stream_socket(self);

    if (sock == NULL) {
        return NULL;
    }
    return PyObject_CallMethod(self->state->support, "make_transport_socket",
                               "OO", self, sock);
}

/* None when the kernel does not tell. */
static PyObject *
make_name(StreamTransportObject *self, bool is_peer)
{
    bk_address address;
    int r = is_peer ? bk_transport_getpeername(&self->core, &address)
                    : bk_transport_getsockname(&self->core, &address);

    if (r < 0) {
        Py_RETURN_NONE;
    }
    return bkpy_bk_address_to_python(&address);
}

/* Put value, which is stolen and may be NULL, into `_extra` under name, where
 * something else may have come to be meanwhile. New reference to what is there;
 * NULL with an exception. */
static PyObject *
remember(StreamTransportObject *self, PyObject *name, PyObject *value)
{
    PyObject *kept = NULL;

    if (value == NULL) {
        return NULL;
    }
    if (self->extra == NULL) {
        self->extra = PyDict_New();
    }
    if (self->extra != NULL) {
        kept = Py_XNewRef(PyDict_SetDefault(self->extra, name, value));
    }
    Py_DECREF(value);
    return kept;
}

/* What is not in `_extra`: 1 and a new reference, 0 for an unknown name, -1
 * with an exception. */
static int
make_info(StreamTransportObject *self, PyObject *name, PyObject **ret_value)
{
    bkpy_state *state = self->state;

    if (!PyUnicode_Check(name)) {
        return PyObject_Hash(name) == -1 ? -1 : 0;
    }
    if (PyUnicode_Compare(name, state->str_peername) == 0) {
        *ret_value = make_name(self, true);
    }
    else if (PyUnicode_Compare(name, state->str_sockname) == 0) {
        *ret_value = make_name(self, false);
    }
    else if (PyUnicode_Compare(name, state->str_socket) == 0) {
        *ret_value =
            remember(self, state->str_socket, make_transport_socket(self));
    }
    else {
        return 0;
    }
    return *ret_value == NULL ? -1 : 1;
}

PyObject *
bkpy_stream_get_extra_info(PyObject *op, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "get_extra_info",
        .names = {"name", "default"},
        .required = 1,
        .positional = 2,
    };
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    PyObject *values[2];
    PyObject *value;
    int r = 0;

    if (bkpy_parse(args, nargs, kwnames, &spec, values) < 0) {
        return NULL;
    }
    if (self->extra != NULL) {
        r = PyDict_GetItemRef(self->extra, values[0], &value);
    }
    if (r == 0) {
        r = make_info(self, values[0], &value);
    }
    if (r == 0) {
        return Py_NewRef(values[1] == NULL ? Py_None : values[1]);
    }
    return r < 0 ? NULL : value;
}

/* Ask the socket object. New reference, None for an OSError; NULL with an
 * exception. */
static PyObject *
ask_socket(PyObject *sock, bool is_peer)
{
    PyObject *name = PyObject_CallMethod(
        sock, is_peer ? "getpeername" : "getsockname", NULL);

    if (name == NULL && PyErr_ExceptionMatches(PyExc_OSError)) {
        PyErr_Clear();
        return Py_NewRef(Py_None);
    }
    return name;
}

/* A Unix socket's name, long or short. */
static PyObject *
ask_unix(StreamTransportObject *self, bool is_peer)
{
    struct sockaddr_storage storage;
    struct sockaddr *address = (struct sockaddr *)&storage;
    socklen_t len = sizeof(storage);

    if (bk_transport_get_sockaddr(&self->core, is_peer, address, &len) < 0) {
        Py_RETURN_NONE;
    }
    return bkpy_address_to_python(address, len);
}

static PyObject *
ask_name(StreamTransportObject *self, bool is_peer, bool is_unix)
{
    PyObject *sock;

    if (is_unix) {
        return ask_unix(self, is_peer);
    }
    sock = bkpy_stream_socket(self);
    return sock == NULL ? NULL : ask_socket(sock, is_peer);
}

static bool
is_unix_socket(StreamTransportObject *self)
{
    struct sockaddr_storage storage;
    struct sockaddr *address = (struct sockaddr *)&storage;
    socklen_t len = sizeof(storage);

    return bk_transport_get_sockaddr(&self->core, false, address, &len) == 0 &&
           address->sa_family == AF_UNIX;
}

/* Put both into `_extra`. */
static int
remember_names(StreamTransportObject *self, bool is_unix)
{
    PyObject *const names[] = {self->state->str_sockname,
                               self->state->str_peername};

    for (int is_peer = 0; is_peer < 2; is_peer++) {
        PyObject *kept =
            remember(self, names[is_peer], ask_name(self, is_peer, is_unix));

        if (kept == NULL) {
            return -1;
        }
        Py_DECREF(kept);
    }
    return 0;
}

int
bkpy_stream_remember_names(StreamTransportObject *self)
{
    bk_address address;

    if (bk_transport_getsockname(&self->core, &address) != -EAFNOSUPPORT &&
        bk_transport_getpeername(&self->core, &address) != -EAFNOSUPPORT) {
        return 0;
    }
    return remember_names(self, is_unix_socket(self));
}

/* --- repr --- */

/* ' read=polling write=<idle, bufsize=0>'; NULL with an exception. */
static PyObject *
describe_io(StreamTransportObject *self)
{
    size_t size = bk_transport_get_write_buffer_size(&self->core);
    bool is_polling = self->is_started && !self->is_paused &&
                      !self->is_at_eof && !self->is_closing;

    return PyUnicode_FromFormat(" read=%s write=<%s, bufsize=%zu>",
                                is_polling ? "polling" : "idle",
                                size > 0 ? "polling" : "idle", size);
}

PyObject *
bkpy_stream_repr(PyObject *op)
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    const char *stage = "";
    PyObject *name = PyType_GetName(Py_TYPE(op));
    PyObject *io;
    PyObject *text;

    if (name == NULL) {
        return NULL;
    }
    io = bkpy_stream_is_alive(self) ? describe_io(self)
                                    : PyUnicode_FromString("");
    if (io == NULL) {
        Py_DECREF(name);
        return NULL;
    }
    if (self->loop == NULL) {
        stage = " closed";
    }
    else if (self->is_closing) {
        stage = " closing";
    }
    text = PyUnicode_FromFormat("<%U%s fd=%d%U>", name, stage, self->fd, io);
    Py_DECREF(name);
    Py_DECREF(io);
    return text;
}

/* --- attributes --- */

/* All three keys are there, as in CPython's. */
static PyObject *
get_extra(PyObject *op, void *Py_UNUSED(closure))
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    bkpy_state *state = self->state;
    PyObject *names[] = {state->str_socket, state->str_sockname,
                         state->str_peername};

    for (size_t i = 0; i < Py_ARRAY_LENGTH(names); i++) {
        PyObject *value = NULL;
        PyObject *kept;
        int r = 0;

        if (self->extra != NULL) {
            r = PyDict_Contains(self->extra, names[i]);
        }
        if (r == 1) {
            continue;
        }
        if (r < 0 || make_info(self, names[i], &value) < 0) {
            return NULL;
        }
        kept = remember(self, names[i], value);
        if (kept == NULL) {
            return NULL;
        }
        Py_DECREF(kept);
    }
    return Py_NewRef(self->extra);
}

static int
set_extra(PyObject *op, PyObject *value, void *Py_UNUSED(closure))
{
    if (value == NULL || !PyDict_Check(value)) {
        PyErr_SetString(PyExc_TypeError, "_extra must be a dict");
        return -1;
    }
    Py_XSETREF(StreamTransportObject_CAST(op)->extra, Py_NewRef(value));
    return 0;
}

static PyObject *
none_if_null(PyObject *value)
{
    return Py_NewRef(value == NULL ? Py_None : value);
}

static PyObject *
get_loop(PyObject *op, void *Py_UNUSED(closure))
{
    return none_if_null((PyObject *)StreamTransportObject_CAST(op)->loop);
}

/* The real socket: whoever uses it sees what was written before. */
static PyObject *
get_sock(PyObject *op, void *Py_UNUSED(closure))
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);
    PyObject *sock;

    if (self->loop == NULL) {
        Py_RETURN_NONE;
    }
    sock = bkpy_stream_socket(self);
    if (sock != NULL && bkpy_stream_is_alive(self)) {
        bk_transport_flush(&self->core);
    }
    return Py_XNewRef(sock);
}

static PyObject *
get_protocol(PyObject *op, void *Py_UNUSED(closure))
{
    return none_if_null(StreamTransportObject_CAST(op)->protocol);
}

static PyObject *
get_server(PyObject *op, void *Py_UNUSED(closure))
{
    return none_if_null(StreamTransportObject_CAST(op)->server);
}

static PyObject *
get_sock_fd(PyObject *op, void *Py_UNUSED(closure))
{
    return PyLong_FromLong(StreamTransportObject_CAST(op)->fd);
}

static PyObject *
get_closing(PyObject *op, void *Py_UNUSED(closure))
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);

    if (bkpy_stream_is_alive(self)) {
        bk_transport_flush(&self->core);
    }
    return PyBool_FromLong(self->is_closing);
}

static PyObject *
get_paused(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(StreamTransportObject_CAST(op)->is_paused);
}

static PyObject *
get_eof(PyObject *op, void *Py_UNUSED(closure))
{
    return PyBool_FromLong(StreamTransportObject_CAST(op)->is_eof_asked);
}

static PyObject *
get_conn_lost(PyObject *op, void *Py_UNUSED(closure))
{
    StreamTransportObject *self = StreamTransportObject_CAST(op);

    if (bkpy_stream_is_alive(self)) {
        bk_transport_flush(&self->core);
    }
    return PyLong_FromUnsignedLong(self->conn_lost);
}

static PyObject *
get_true(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure))
{
    Py_RETURN_TRUE;
}

static PyObject *
get_max_size(PyObject *Py_UNUSED(op), void *Py_UNUSED(closure))
{
    return PyLong_FromLong(BK_READ_MAX);
}

/* Private in asyncio, and yet read by packages and by asyncio itself. */
PyGetSetDef bkpy_stream_getset[] = {
    {"_extra", get_extra, set_extra, NULL, NULL},
    {"_loop", get_loop, NULL, NULL, NULL},
    {"_sock", get_sock, NULL, NULL, NULL},
    {"_sock_fd", get_sock_fd, NULL, NULL, NULL},
    {"_protocol", get_protocol, NULL, NULL, NULL},
    {"_server", get_server, NULL, NULL, NULL},
    {"_closing", get_closing, NULL, NULL, NULL},
    {"_paused", get_paused, NULL, NULL, NULL},
    {"_eof", get_eof, NULL, NULL, NULL},
    {"_conn_lost", get_conn_lost, NULL, NULL, NULL},
    {"_start_tls_compatible", get_true, NULL, NULL, NULL},
    {"_sendfile_compatible", bkpy_get_sendfile_mode, NULL, NULL, "TRY_NATIVE"},
    {"_protocol_paused", bkpy_stream_get_protocol_paused, NULL, NULL, NULL},
    {"_empty_waiter", bkpy_stream_get_empty_waiter,
     bkpy_stream_set_empty_waiter, NULL, NULL},
    {"max_size", get_max_size, NULL, NULL, NULL},
    {"__dict__", PyObject_GenericGetDict, PyObject_GenericSetDict, NULL, NULL},
    {NULL, NULL, NULL, NULL, NULL},
};
