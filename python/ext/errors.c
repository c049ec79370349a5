/* errors.c -- the core's codes as Python exceptions, in one place.
 *
 * SPDX-License-Identifier: MIT
 */

#include "errors.h"

#include <errno.h>
#include <netdb.h>
#include <string.h>

/* OSError(number, text); the constructor picks ConnectionResetError and the
 * like. The texts are the system's, as in every other OSError. */
static PyObject *
new_os_error(int number)
{
    return PyObject_CallFunction(PyExc_OSError, "is", number, strerror(number));
}

PyObject *
bkpy_error_new(bkpy_state *state, int code)
{
    int eai = bk_err_to_eai(code);

    if (eai != 0) {
        return PyObject_CallFunction(state->gaierror, "is", eai,
                                     gai_strerror(eai));
    }
    if (code <= -4096 || code >= 0) {
        return PyObject_CallFunction(PyExc_SystemError, "s", bk_err_name(code));
    }
    return new_os_error(-code);
}

PyObject *
bkpy_error_set(bkpy_state *state, int code)
{
    PyObject *exc = bkpy_error_new(state, code);

    if (exc != NULL) {
        PyErr_SetObject((PyObject *)Py_TYPE(exc), exc);
        Py_DECREF(exc);
    }
    return NULL;
}

PyObject *
bkpy_error_set_memory(bkpy_state *state, int code)
{
    return code == -ENOMEM ? PyErr_NoMemory() : bkpy_error_set(state, code);
}

/* The errno attribute of an OSError, or 0. No exception is set. */
static int
errno_of(PyObject *exc)
{
    PyObject *number = PyObject_GetAttrString(exc, "errno");
    int value = 0;

    if (number != NULL && PyLong_Check(number)) {
        value = PyLong_AsInt(number);
    }
    Py_XDECREF(number);
    PyErr_Clear();
    return value > 0 && value < 4096 ? value : 0;
}

int
bkpy_error_code(void)
{
    PyObject *exc = PyErr_GetRaisedException();
    int code = -EIO;

    if (exc == NULL) {
        return -EIO;
    }
    if (PyErr_GivenExceptionMatches(exc, PyExc_MemoryError)) {
        code = -ENOMEM;
    }
    else if (PyErr_GivenExceptionMatches(exc, PyExc_OSError)) {
        int number = errno_of(exc);

        code = number > 0 ? -number : -EIO;
    }
    PyErr_SetRaisedException(exc);
    return code;
}
