/* sock_attempt.c -- the calls that sock_op.c makes.
 *
 * SPDX-License-Identifier: MIT
 *
 * A plain socket's recv, recv_into and send go straight to the system; every
 * other object, and everything out of the ordinary, goes through the object's
 * own method, whose exceptions are then the right ones.
 */

#include "sock_op.h"

#include <errno.h>

#include "errors.h"
#include "socket.h"

/* A receive of no more than this goes into the loop's landing, from where
 * mostly little is copied: cheaper than allocating it all and trimming. */
#define LANDING_BYTES ((Py_ssize_t)64 * 1024)

/* What is received is much from the first on, and little again below the
 * second: much is worth an object of its own. */
#define BULKY_MIN   (32 * 1024)
#define BULKY_UNTIL (8 * 1024)

/* A negative code as the exception that the socket's method would raise; none
 * for what means "wait". */
static PyObject *
raise_code(SockOpObject *self, int64_t code)
{
    return code == -EAGAIN || code == -EINTR
               ? NULL
               : bkpy_error_set(self->state, (int)code);
}

/* The fd for a direct call; -1: call the method, which knows the right
 * exception; -2 with the exception of the socket's own fileno(). Asked for
 * last, right before the system call: what runs between could close the
 * socket, and the number could then be somebody else's. */
static int
direct_fd(SockOpObject *self)
{
    return PyObject_TypeCheck(self->sock, self->state->BaseSocketType)
               ? bkpy_socket_fileno(self->state, self->sock)
               : -1;
}

static PyObject *
recv_by_method(SockOpObject *self)
{
    return PyObject_CallMethod(self->sock, "recv", "O", self->arg);
}

static void
learn_size(LoopObject *loop, int64_t n)
{
    if (n >= BULKY_MIN) {
        loop->is_sock_bulky = true;
    }
    else if (n < BULKY_UNTIL) {
        loop->is_sock_bulky = false;
    }
}

/* Through the landing. */
static PyObject *
recv_small(SockOpObject *self, Py_ssize_t size)
{
    LoopObject *loop = self->loop;
    int fd = direct_fd(self);
    int64_t n;

    if (fd < 0) {
        return fd == -2 ? NULL : recv_by_method(self);
    }
    n = bk_socket_recv(fd, loop->sock_landing, (size_t)size);
    if (n < 0) {
        return raise_code(self, n);
    }
    learn_size(loop, n);
    return PyBytes_FromStringAndSize(loop->sock_landing, (Py_ssize_t)n);
}

static bool
has_landing(LoopObject *loop)
{
    if (loop->sock_landing == NULL) {
        loop->sock_landing = PyMem_Malloc((size_t)LANDING_BYTES);
    }
    return loop->sock_landing != NULL;
}

static PyObject *
recv_direct(SockOpObject *self, Py_ssize_t size)
{
    PyObject *data = PyBytes_FromStringAndSize(NULL, size);
    int fd;
    int64_t n;

    if (data == NULL) {
        return NULL;
    }
    fd = direct_fd(self);
    if (fd < 0) {
        Py_DECREF(data);
        return fd == -2 ? NULL : recv_by_method(self);
    }
    n = bk_socket_recv(fd, PyBytes_AS_STRING(data), (size_t)size);
    if (n < 0) {
        Py_DECREF(data);
        return raise_code(self, n);
    }
    learn_size(self->loop, n);
    if (n != size && _PyBytes_Resize(&data, (Py_ssize_t)n) < 0) {
        return NULL;
    }
    return data;
}

static PyObject *
attempt_recv(SockOpObject *self)
{
    int is_plain = bkpy_socket_is_plain(self->state, self->sock);

    if (is_plain < 0) {
        return NULL;
    }
    if (is_plain && PyLong_CheckExact(self->arg)) {
        Py_ssize_t size = PyLong_AsSsize_t(self->arg);

        if (size > 0 && size <= LANDING_BYTES && !self->loop->is_sock_bulky &&
            has_landing(self->loop)) {
            return recv_small(self, size);
        }
        if (size > 0) {
            return recv_direct(self, size);
        }
        PyErr_Clear();
    }
    return recv_by_method(self);
}

static PyObject *
attempt_recv_into(SockOpObject *self)
{
    int is_plain = bkpy_socket_is_plain(self->state, self->sock);
    int fd = -1;
    Py_buffer view;
    int64_t n;

    if (is_plain < 0) {
        return NULL;
    }
    if (is_plain) {
        if (PyObject_GetBuffer(self->arg, &view, PyBUF_WRITABLE) < 0) {
            PyErr_Clear();
        }
        else {
            fd = direct_fd(self);
            n = fd >= 0 ? bk_socket_recv(fd, view.buf, (size_t)view.len) : 0;
            PyBuffer_Release(&view);
        }
    }
    if (fd == -2) {
        return NULL;
    }
    if (fd < 0) {
        return PyObject_CallMethod(self->sock, "recv_into", "O", self->arg);
    }
    return n < 0 ? raise_code(self, n) : PyLong_FromLongLong(n);
}

static PyObject *
attempt_recvfrom(SockOpObject *self)
{
    return PyObject_CallMethod(self->sock, "recvfrom", "O", self->arg);
}

static PyObject *
attempt_recvfrom_into(SockOpObject *self)
{
    PyObject *size = self->extra;
    PyObject *result;
    int is_given = size == NULL ? 0 : PyObject_IsTrue(size);

    if (is_given < 0) {
        return NULL;
    }
    if (is_given) {
        return PyObject_CallMethod(self->sock, "recvfrom_into", "OO", self->arg,
                                   size);
    }
    size = PyLong_FromSsize_t(PyObject_Length(self->arg));
    if (size == NULL || PyErr_Occurred()) {
        Py_XDECREF(size);
        return NULL;
    }
    result =
        PyObject_CallMethod(self->sock, "recvfrom_into", "OO", self->arg, size);
    Py_DECREF(size);
    return result;
}

/* Send from self->sent on; the count, or -1 with an exception. So do all of
 * these. */
static Py_ssize_t
send_direct(SockOpObject *self, int fd, const Py_buffer *view)
{
    int64_t n = bk_socket_send(fd, (const char *)view->buf + self->sent,
                               (size_t)(view->len - self->sent));

    if (n < 0) {
        (void)raise_code(self, n);
    }
    return (Py_ssize_t)(n < 0 ? -1 : n);
}

static Py_ssize_t
send_by_method(SockOpObject *self, const Py_buffer *view)
{
    PyObject *rest = NULL;
    PyObject *count = NULL;
    Py_ssize_t n = -1;
    PyObject *all = PyMemoryView_FromObject(self->arg);
    PyObject *octets =
        all == NULL ? NULL : PyObject_CallMethod(all, "cast", "s", "B");

    if (octets != NULL) {
        rest = PySequence_GetSlice(octets, self->sent, view->len);
    }
    if (rest != NULL) {
        count = PyObject_CallMethod(self->sock, "send", "O", rest);
    }
    if (count != NULL) {
        n = PyLong_AsSsize_t(count);
    }
    Py_XDECREF(count);
    Py_XDECREF(rest);
    Py_XDECREF(octets);
    Py_XDECREF(all);
    return n;
}

static Py_ssize_t
send_some(SockOpObject *self, bool is_plain, const Py_buffer *view)
{
    int fd = is_plain ? direct_fd(self) : -1;

    if (fd == -2) {
        return -1;
    }
    return fd >= 0 ? send_direct(self, fd, view) : send_by_method(self, view);
}

/* NULL without an exception until everything is sent. */
static PyObject *
attempt_sendall(SockOpObject *self)
{
    int is_plain = bkpy_socket_is_plain(self->state, self->sock);
    Py_buffer view;
    Py_ssize_t n;
    bool is_complete;

    if (is_plain < 0) {
        return NULL;
    }
    if (PyObject_GetBuffer(self->arg, &view, PyBUF_SIMPLE) < 0) {
        /* The method knows the right words for what is not bytes. */
        PyErr_Clear();
        return PyObject_CallMethod(self->sock, "send", "O", self->arg);
    }
    /* Data that shrank while we waited: what is left is what counts. */
    self->sent = Py_MIN(self->sent, view.len);
    n = send_some(self, is_plain > 0, &view);
    is_complete = n >= 0 && self->sent + n >= view.len;
    PyBuffer_Release(&view);
    if (n < 0) {
        return NULL;
    }
    self->sent += n;
    return is_complete ? Py_NewRef(Py_None) : NULL;
}

static PyObject *
attempt_sendto(SockOpObject *self)
{
    return PyObject_CallMethod(self->sock, "sendto", "OO", self->arg,
                               self->extra);
}

static PyObject *
attempt_accept(SockOpObject *self)
{
    PyObject *pair = PyObject_CallMethod(self->sock, "accept", NULL);
    PyObject *conn = NULL;
    PyObject *result = NULL;

    if (pair == NULL) {
        return NULL;
    }
    conn = PySequence_GetItem(pair, 0);
    if (conn != NULL) {
        result = PyObject_CallMethod(conn, "setblocking", "O", Py_False);
        Py_DECREF(conn);
    }
    if (result == NULL) {
        Py_DECREF(pair);
        return NULL;
    }
    Py_DECREF(result);
    return pair;
}

/* OSError(error, "Connect call failed ADDRESS"), as asyncio words it. */
static PyObject *
raise_connect_failed(SockOpObject *self, PyObject *error)
{
    PyObject *text = PyUnicode_FromFormat("Connect call failed %S", self->arg);
    PyObject *args = text == NULL ? NULL : PyTuple_Pack(2, error, text);

    if (args != NULL) {
        PyObject *exc = PyObject_CallObject(PyExc_OSError, args);

        if (exc != NULL) {
            PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
            Py_DECREF(exc);
        }
        Py_DECREF(args);
    }
    Py_XDECREF(text);
    return NULL;
}

/* First connect(); once the fd is writable, the socket's error tells. */
static PyObject *
attempt_connect(SockOpObject *self)
{
    PyObject *error;
    int has_failed;

    if (self->step == OP_NEW) {
        return PyObject_CallMethod(self->sock, "connect", "(O)", self->arg);
    }
    error = PyObject_CallMethod(self->sock, "getsockopt", "ii", SOL_SOCKET,
                                SO_ERROR);
    if (error == NULL) {
        return NULL;
    }
    has_failed = PyObject_IsTrue(error);
    if (has_failed > 0) {
        (void)raise_connect_failed(self, error);
    }
    Py_DECREF(error);
    if (has_failed != 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}

const op_kind bkpy_op_recv = {"sock_recv", BK_READABLE, attempt_recv};
const op_kind bkpy_op_recv_into = {"sock_recv_into", BK_READABLE,
                                   attempt_recv_into};
const op_kind bkpy_op_recvfrom = {"sock_recvfrom", BK_READABLE,
                                  attempt_recvfrom};
const op_kind bkpy_op_recvfrom_into = {"sock_recvfrom_into", BK_READABLE,
                                       attempt_recvfrom_into};
const op_kind bkpy_op_sendall = {"sock_sendall", BK_WRITABLE, attempt_sendall};
const op_kind bkpy_op_sendto = {"sock_sendto", BK_WRITABLE, attempt_sendto};
const op_kind bkpy_op_accept = {"sock_accept", BK_READABLE, attempt_accept};
const op_kind bkpy_op_connect = {"sock_connect", BK_WRITABLE, attempt_connect};
