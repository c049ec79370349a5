/* socket.c -- Python's socket objects: their fd, and who closes it.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The fd is the int right behind the header of a _socket.socket. That is
 * verified at import with a live and with a closed socket; where it does not
 * hold, fileno() is called instead.
 */

#include "socket.h"

static inline int
fd_in_struct(PyObject *sock)
{
    return *(const int *)(const void *)((const char *)sock + sizeof(PyObject));
}

static int
fileno_by_call(PyObject *sock, PyObject *str_fileno)
{
    PyObject *number = PyObject_CallMethodNoArgs(sock, str_fileno);
    long fd;

    if (number == NULL) {
        return -2;
    }
    fd = PyLong_AsLong(number);
    Py_DECREF(number);
    if (fd == -1 && PyErr_Occurred()) {
        return -2;
    }
    if (fd < -1 || fd > INT_MAX) {
        PyErr_Format(PyExc_ValueError, "Invalid file descriptor: %ld", fd);
        return -2;
    }
    return (int)fd;
}

int
bkpy_socket_fileno(bkpy_state *state, PyObject *sock)
{
    if (bkpy_socket_is_direct(state, sock)) {
        return fd_in_struct(sock);
    }
    return fileno_by_call(sock, state->str_fileno);
}

/* --- what the core calls --- */

static int
direct_fileno(void *self)
{
    return fd_in_struct((PyObject *)self);
}

/* An object that cannot tell its number has no fd that may be used. */
static int
called_fileno(void *self)
{
    PyObject *pending = PyErr_GetRaisedException();
    PyObject *number = PyObject_CallMethod((PyObject *)self, "fileno", NULL);
    long fd = -1;

    if (number != NULL) {
        fd = PyLong_AsLong(number);
        Py_DECREF(number);
    }
    PyErr_SetRaisedException(pending);
    return fd >= 0 && fd <= INT_MAX ? (int)fd : -1;
}

static void
close_socket(void *self)
{
    PyObject *sock = self;
    PyObject *pending = PyErr_GetRaisedException();
    PyObject *result;

    Py_INCREF(sock);
    result = PyObject_CallMethod(sock, "close", NULL);
    if (result == NULL) {
        /* The connection has ended all the same. */
        PyErr_WriteUnraisable(sock);
    }
    Py_XDECREF(result);
    Py_DECREF(sock);
    PyErr_SetRaisedException(pending);
}

static const bk_socket_ops direct_ops = {
    .fileno = direct_fileno,
    .close = close_socket,
};

static const bk_socket_ops called_ops = {
    .fileno = called_fileno,
    .close = close_socket,
};

bool
bkpy_socket_is_direct(bkpy_state *state, PyObject *sock)
{
    return state->has_socket_layout &&
           PyObject_TypeCheck(sock, state->BaseSocketType);
}

const bk_socket_ops *
bkpy_socket_ops(bkpy_state *state, PyObject *sock)
{
    return bkpy_socket_is_direct(state, sock) ? &direct_ops : &called_ops;
}

/* --- plain sockets --- */

/* 1 when the class attribute is socket.socket's own. */
static int
is_original(bkpy_state *state, PyTypeObject *type, const char *name)
{
    PyObject *original =
        PyObject_GetAttrString((PyObject *)state->SocketType, name);
    PyObject *actual = PyObject_GetAttrString((PyObject *)type, name);
    int same = original == NULL || actual == NULL ? -1 : original == actual;

    Py_XDECREF(original);
    Py_XDECREF(actual);
    return same;
}

int
bkpy_socket_has_plain(bkpy_state *state, PyObject *sock,
                      const char *const *names)
{
    PyTypeObject *type = Py_TYPE(sock);

    if (type == state->SocketType) {
        return 1;
    }
    if (!PyType_IsSubtype(type, state->SocketType)) {
        return 0;
    }
    for (; *names != NULL; names++) {
        int same = is_original(state, type, *names);

        if (same <= 0) {
            return same;
        }
    }
    return 1;
}

int
bkpy_socket_is_plain(bkpy_state *state, PyObject *sock)
{
    static const char *const names[] = {"recv", "recv_into", "send", "fileno",
                                        NULL};

    return bkpy_socket_has_plain(state, sock, names);
}

PyObject *
bkpy_socket_from_fd(bkpy_state *state, int fd)
{
    PyObject *kwargs = Py_BuildValue("{s:i}", "fileno", fd);
    PyObject *args;
    PyObject *sock = NULL;

    if (kwargs == NULL) {
        return NULL;
    }
    args = PyTuple_New(0);
    if (args != NULL) {
        sock = PyObject_Call((PyObject *)state->SocketType, args, kwargs);
        Py_DECREF(args);
    }
    Py_DECREF(kwargs);
    return sock;
}

/* --- set-up --- */

/* Does the struct tell what fileno() tells? -1 with an exception. */
static int
layout_matches(bkpy_state *state, PyObject *sock)
{
    int fd = fileno_by_call(sock, state->str_fileno);

    return fd == -2 ? -1 : fd == fd_in_struct(sock);
}

static int
layout_check(bkpy_state *state, PyObject *sock)
{
    int open_matches = layout_matches(state, sock);
    PyObject *closed;
    int closed_matches;

    if (open_matches < 0) {
        return -1;
    }
    closed = PyObject_CallMethodNoArgs(sock, state->str_close);
    if (closed == NULL) {
        return -1;
    }
    Py_DECREF(closed);
    closed_matches = layout_matches(state, sock);
    if (closed_matches < 0) {
        return -1;
    }
    state->has_socket_layout = open_matches && closed_matches;
    return 0;
}

int
bkpy_socket_setup(PyObject *Py_UNUSED(module), bkpy_state *state)
{
    PyObject *sock;
    int r;

    /* The struct must be large enough to hold what is read. */
    if ((size_t)state->BaseSocketType->tp_basicsize <
        sizeof(PyObject) + sizeof(int)) {
        return 0;
    }
    sock = PyObject_CallNoArgs((PyObject *)state->SocketType);
    if (sock == NULL) {
        /* No socket can be made now (out of fds, forbidden): calls work. */
        PyErr_Clear();
        return 0;
    }
    r = layout_check(state, sock);
    Py_DECREF(sock);
    return r;
}
