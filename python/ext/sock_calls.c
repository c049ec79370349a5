/* sock_calls.c -- the loop's methods sock_recv, sock_sendall and their family.
 *
 * SPDX-License-Identifier: MIT
 */
#include "args.h"
#include "sock_op.h"

/* The methods differ in their parameters only. */
static PyObject *
op_from_args(PyObject *loop, const op_kind *kind, const bkpy_spec *spec,
             PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames)
{
    PyObject *values[3] = {NULL, NULL, NULL};

    if (bkpy_parse(args, nargs, kwnames, spec, values) < 0) {
        return NULL;
    }
    return bkpy_sock_op_new(loop, kind, values[0], values[1], values[2]);
}

PyObject *
loop_sock_recv(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_recv",
        .names = {"sock", "n"},
        .required = 2,
        .positional = 2,
    };

    return op_from_args(self, &bkpy_op_recv, &spec, args, nargs, kwnames);
}

PyObject *
loop_sock_recv_into(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                    PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_recv_into",
        .names = {"sock", "buf"},
        .required = 2,
        .positional = 2,
    };

    return op_from_args(self, &bkpy_op_recv_into, &spec, args, nargs, kwnames);
}

PyObject *
loop_sock_recvfrom(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                   PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_recvfrom",
        .names = {"sock", "bufsize"},
        .required = 2,
        .positional = 2,
    };

    return op_from_args(self, &bkpy_op_recvfrom, &spec, args, nargs, kwnames);
}

PyObject *
loop_sock_recvfrom_into(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                        PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_recvfrom_into",
        .names = {"sock", "buf", "nbytes"},
        .required = 2,
        .positional = 3,
    };

    return op_from_args(self, &bkpy_op_recvfrom_into, &spec, args, nargs,
                        kwnames);
}

PyObject *
loop_sock_sendall(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                  PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_sendall",
        .names = {"sock", "data"},
        .required = 2,
        .positional = 2,
    };

    return op_from_args(self, &bkpy_op_sendall, &spec, args, nargs, kwnames);
}

PyObject *
loop_sock_sendto(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_sendto",
        .names = {"sock", "data", "address"},
        .required = 3,
        .positional = 3,
    };

    return op_from_args(self, &bkpy_op_sendto, &spec, args, nargs, kwnames);
}

PyObject *
loop_sock_accept(PyObject *self, PyObject *const *args, Py_ssize_t nargs,
                 PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "sock_accept",
        .names = {"sock"},
        .required = 1,
        .positional = 1,
    };

    return op_from_args(self, &bkpy_op_accept, &spec, args, nargs, kwnames);
}

PyObject *
loop_sock_connect_resolved(PyObject *self, PyObject *const *args,
                           Py_ssize_t nargs, PyObject *kwnames)
{
    static const bkpy_spec spec = {
        .function = "_sock_connect",
        .names = {"sock", "address"},
        .required = 2,
        .positional = 2,
    };

    return op_from_args(self, &bkpy_op_connect, &spec, args, nargs, kwnames);
}
