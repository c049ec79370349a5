/* transport_table.c -- which transport has which fd.
 *
 * SPDX-License-Identifier: MIT
 *
 * A transport notes itself when it takes an fd and is forgotten before it
 * dies, so the table's pointers are borrowed. It is indexed by number: the
 * numbers are those of open fds, which the kernel keeps small.
 */

#include "loop.h"
#include "socket.h"

/* The first fds of a process. */
#define TABLE_MIN 64

static int
grow(LoopObject *self, size_t fd)
{
    size_t size =
        self->transports_size == 0 ? TABLE_MIN : self->transports_size;
    PyObject **table = self->transports;

    while (size <= fd) {
        size *= 2;
    }
    PyMem_Resize(table, PyObject *, size);
    if (table == NULL) {
        PyErr_NoMemory();
        return -1;
    }
    for (size_t i = self->transports_size; i < size; i++) {
        table[i] = NULL;
    }
    self->transports = table;
    self->transports_size = size;
    return 0;
}

int
bkpy_loop_note_transport(LoopObject *self, int fd, PyObject *transport)
{
    if (fd < 0) {
        return 0;
    }
    if ((size_t)fd >= self->transports_size && grow(self, (size_t)fd) < 0) {
        return -1;
    }
    /* Another one there has lost its fd to somebody who closed it early. */
    self->transports[fd] = transport;
    return 0;
}

void
bkpy_loop_forget_transport(LoopObject *self, int fd, PyObject *transport)
{
    if (fd >= 0 && (size_t)fd < self->transports_size &&
        self->transports[fd] == transport) {
        self->transports[fd] = NULL;
    }
}

void
bkpy_transports_free(LoopObject *self)
{
    PyMem_Free(self->transports);
    self->transports = NULL;
    self->transports_size = 0;
}

/* transport.is_closing(): 1, 0, or -1 with an exception. */
static int
is_closing(LoopObject *self, PyObject *transport)
{
    PyObject *closing =
        PyObject_CallMethodNoArgs(transport, self->state->str_is_closing);
    int r = closing == NULL ? -1 : PyObject_IsTrue(closing);

    Py_XDECREF(closing);
    return r;
}

int
bkpy_loop_check_file_free(LoopObject *self, PyObject *file, int fd)
{
    PyObject *transport;
    int r;

    if (fd < 0 || (size_t)fd >= self->transports_size ||
        self->transports[fd] == NULL) {
        return 0;
    }
    transport = Py_NewRef(self->transports[fd]);
    r = is_closing(self, transport);
    if (r == 0) {
        PyErr_Format(PyExc_RuntimeError,
                     "File descriptor %R is used by transport %R", file,
                     transport);
    }
    Py_DECREF(transport);
    return r > 0 ? 0 : -1;
}

int
bkpy_loop_check_fd_free(LoopObject *self, int fd)
{
    PyObject *number = PyLong_FromLong(fd);
    int r = number == NULL ? -1 : bkpy_loop_check_file_free(self, number, fd);

    Py_XDECREF(number);
    return r;
}

int
bkpy_loop_check_sock_free(LoopObject *self, PyObject *sock)
{
    int fd = bkpy_socket_fileno(self->state, sock);

    return fd == -2 ? -1 : bkpy_loop_check_file_free(self, sock, fd);
}

PyObject *
loop_check_sock_free(PyObject *op, PyObject *sock)
{
    if (bkpy_loop_check_sock_free(LoopObject_CAST(op), sock) < 0) {
        return NULL;
    }
    Py_RETURN_NONE;
}
