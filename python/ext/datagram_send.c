/* datagram_send.c -- sendto() of the datagram transport.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * What is not plain goes through the socket object's own method: host names,
 * families that we do not know, sockets that override their methods. Its
 * exceptions are the right ones, and tell three things apart, as in asyncio:
 * that it would wait, an OSError (error_received), anything else (fatal).
 */

#include "datagram_transport.h"

#include <errno.h>

#include "args.h"
#include "errors.h"
#include "log.h"
#include "written_data.h"

#define FATAL_MESSAGE "Fatal write error on datagram transport"

BKPY_SHOWN_CALLBACK(sendto_ready, "_sendto_ready");

static void
release_object(void *owner)
{
    Py_DECREF((PyObject *)owner);
}

/* A datagram for which there is no socket any more. */
static PyObject *
drop(DatagramTransportObject *self)
{
    if (self->conn_lost >= BKPY_WARN_AFTER_DROPPED) {
        bkpy_log("warning", NULL, "(s)", "socket.send() raised exception.");
    }
    self->conn_lost++;
    Py_RETURN_NONE;
}

/* --- by the socket's method --- */

static bool
must_wait(void)
{
    return PyErr_ExceptionMatches(PyExc_BlockingIOError) ||
           PyErr_ExceptionMatches(PyExc_InterruptedError);
}

/* 0, or -1 with what the method raised. */
static int
call_socket(DatagramTransportObject *self, PyObject *data, PyObject *addr)
{
    PyObject *sock = Py_NewRef(self->socket);
    PyObject *result =
        self->is_connected
            ? PyObject_CallMethod(sock, "send", "O", data)
            : PyObject_CallMethod(sock, "sendto", "OO", data, addr);

    Py_DECREF(sock);
    Py_XDECREF(result);
    return result == NULL ? -1 : 0;
}

/* With an exception that is to be told: 0, or -1 with one that is to leave the
 * caller. */
static int
take_failure(DatagramTransportObject *self)
{
    PyObject *exc;
    int r;

    if (bkpy_is_exit_set() || !bkpy_datagram_is_alive(self)) {
        return -1;
    }
    if (!PyErr_ExceptionMatches(PyExc_OSError)) {
        bkpy_datagram_fail(self, FATAL_MESSAGE);
        return 0;
    }
    exc = PyErr_GetRaisedException();
    r = bkpy_datagram_tell_error(self, exc);
    Py_DECREF(exc);
    return r;
}

/* The kernel may take it now: what on_writable calls. OSErrors are told by the
 * core, through error_received. */
static int
transmit(bk_datagram_transport *t, void *owner)
{
    DatagramTransportObject *self = bk_datagram_get_self(t);
    PyObject *pair = owner;
    bkpy_scope scope;
    int r;

    bkpy_scope_enter(&scope, (PyObject *)self, self->loop, self->write_context);
    r = call_socket(self, PyTuple_GET_ITEM(pair, 0), PyTuple_GET_ITEM(pair, 1));
    if (r < 0 && must_wait()) {
        PyErr_Clear();
        r = -EAGAIN;
    }
    else if (r < 0 && PyErr_ExceptionMatches(PyExc_OSError)) {
        Py_XSETREF(self->send_error, PyErr_GetRaisedException());
        r = -EIO;
    }
    else if (r < 0) {
        bkpy_datagram_fail(self, FATAL_MESSAGE);
        r = 0;
    }
    bkpy_scope_leave(&scope, (PyObject *)self, &sendto_ready);
    return r;
}

static int
queue(DatagramTransportObject *self, PyObject *data, PyObject *addr)
{
    PyObject *bytes = PyBytes_FromObject(data);
    PyObject *pair = bytes == NULL ? NULL : PyTuple_Pack(2, bytes, addr);
    Py_ssize_t len = bytes == NULL ? 0 : PyBytes_GET_SIZE(bytes);
    int r;

    Py_XDECREF(bytes);
    if (pair == NULL) {
        return -1;
    }
    if (!bkpy_datagram_is_alive(self)) {
        Py_DECREF(pair);
        return 0;
    }
    r = bk_datagram_queue(&self->core, (size_t)len, transmit, release_object,
                          pair);
    if (r < 0) {
        bkpy_error_set(self->state, r);
    }
    return r < 0 ? -1 : 0;
}

static int
send_by_method(DatagramTransportObject *self, PyObject *data, PyObject *addr)
{
    if (!bkpy_datagram_is_alive(self)) {
        return 0;
    }
    if (!bk_datagram_can_send(&self->core)) {
        return queue(self, data, addr);
    }
    if (call_socket(self, data, addr) == 0) {
        return 0;
    }
    if (must_wait() && bkpy_datagram_is_alive(self)) {
        PyErr_Clear();
        return queue(self, data, addr);
    }
    return take_failure(self);
}

/* --- directly --- */

/* The core's part of it; addr NULL: to the peer that it is connected to. What
 * addr stands for is asked last, after all that can run code. 1: done. 0: the
 * method is to be called. Else the core's code. */
static int
send_core(DatagramTransportObject *self, PyObject *addr, const void *data,
          size_t len, PyObject *owner)
{
    const bkpy_peer *peer =
        addr == NULL ? NULL : bkpy_datagram_target(self, addr);
    const struct sockaddr *address = peer == NULL ? NULL : &peer->u.sa;
    socklen_t address_len = peer == NULL ? 0 : peer->len;
    int r;

    if (addr != NULL && peer == NULL) {
        return 0;
    }
    if (owner != NULL) {
        r = bk_datagram_sendto_lent(&self->core, data, len, address,
                                    address_len, release_object,
                                    Py_NewRef(owner));
    }
    else {
        r = bk_datagram_sendto(&self->core, data, len, address, address_len);
    }
    return r < 0 ? r : 1;
}

/* As send_core(); -1 with an exception. Exact bytes are lent to the core; what
 * may change, or run code when it is given up, is copied. A __buffer__ in
 * Python may have ended the transport: the data is dropped then. */
static int
send_direct(DatagramTransportObject *self, PyObject *data, PyObject *addr)
{
    Py_buffer view;
    int r;

    if (PyBytes_CheckExact(data)) {
        r = send_core(self, addr, PyBytes_AS_STRING(data),
                      (size_t)PyBytes_GET_SIZE(data), data);
    }
    else if (PyObject_GetBuffer(data, &view, PyBUF_SIMPLE) < 0) {
        PyErr_Clear();
        return 0;
    }
    else {
        r = bkpy_datagram_is_alive(self)
                ? send_core(self, addr, view.buf, (size_t)view.len, NULL)
                : 1;
        PyBuffer_Release(&view);
    }
    if (r < 0) {
        bkpy_error_set(self->state, r);
        return -1;
    }
    return r;
}

/* As socket.sendto() does. Hooks may run any code, and refuse: 1 then, and it
 * has been told. -1 with an exception that is to leave the caller. */
static int
audit(DatagramTransportObject *self, PyObject *addr)
{
    if (PySys_Audit("socket.sendto", "OO", self->socket, addr) == 0) {
        return bkpy_datagram_is_alive(self) ? 0 : 1;
    }
    return take_failure(self) < 0 ? -1 : 1;
}

/* As send_direct(), to an address. */
static int
send_to(DatagramTransportObject *self, PyObject *data, PyObject *addr)
{
    int r;

    if (bkpy_datagram_target(self, addr) == NULL) {
        return 0;
    }
    r = audit(self, addr);
    return r != 0 ? r : send_direct(self, data, addr);
}

static int
send_data(DatagramTransportObject *self, PyObject *data, PyObject *addr)
{
    int r = 0;

    if (self->is_direct) {
        r = self->is_connected ? send_direct(self, data, NULL)
                               : send_to(self, data, addr);
    }
    if (r == 0) {
        r = send_by_method(self, data, addr);
    }
    return r;
}

/* --- the method --- */

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
                     "data argument must be a bytes-like object, not %R", name);
        Py_DECREF(name);
    }
    return -1;
}

/* Before 3.13 an empty datagram is none: 1 then, 0 otherwise, -1 with an
 * exception. */
static int
is_nothing(PyObject *data)
{
    Py_ssize_t len;

    if (BKPY_SENDS_EMPTY_DATAGRAMS) {
        return 0;
    }
    len = PyObject_Size(data);
    return len < 0 ? -1 : len == 0;
}

/* Where there is a fixed address, no other one will do. */
static int
check_address(DatagramTransportObject *self, PyObject *addr)
{
    int is_same;

    if (addr == Py_None || addr == self->address) {
        return 0;
    }
    is_same = PyObject_RichCompareBool(addr, self->address, Py_EQ);
    if (is_same == 0) {
        PyErr_Format(PyExc_ValueError, "Invalid address: must be None or %S",
                     self->address);
    }
    return is_same == 1 ? 0 : -1;
}

/* data and addr as given; 0, 1 to drop it, -1 with an exception. */
static int
check(DatagramTransportObject *self, PyObject *data, PyObject *addr)
{
    int r = check_type(data);

    if (r == 0) {
        r = is_nothing(data);
    }
    if (r == 0 && self->address != NULL) {
        r = check_address(self, addr);
    }
    return r;
}

static PyObject *
send_checked(DatagramTransportObject *self, PyObject *data, PyObject *addr)
{
    bool was_sending = self->is_sending;
    int r;

    if (!bkpy_datagram_is_alive(self) ||
        (self->address != NULL && self->conn_lost > 0)) {
        return drop(self);
    }
    Py_INCREF(self);
    self->is_sending = true;
    bkpy_datagram_begin_call(self);
    r = send_data(self, data, self->address != NULL ? self->address : addr);
    self->is_sending = was_sending;
    if (bkpy_datagram_end_call(self) < 0) {
        r = -1;
    }
    Py_DECREF(self);
    return r < 0 ? NULL : Py_NewRef(Py_None);
}

PyObject *
bkpy_datagram_sendto(PyObject *op, PyObject *const *args, Py_ssize_t nargs,
                     PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sendto",
        .names = {"data", "addr"},
        .required = 1,
        .positional = 2,
    };
    DatagramTransportObject *self = DatagramTransportObject_CAST(op);
    PyObject *values[2];
    PyObject *addr;
    int r;

    if (bkpy_parse(args, nargs, kwnames, &spec, values) < 0) {
        return NULL;
    }
    addr = values[1] == NULL ? Py_None : values[1];
    r = check(self, values[0], addr);
    if (r != 0) {
        return r < 0 ? NULL : Py_NewRef(Py_None);
    }
    return send_checked(self, values[0], addr);
}
