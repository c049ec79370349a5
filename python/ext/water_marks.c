/* water_marks.c -- the marks at which writing is paused and resumed.
 *
 * SPDX-License-Identifier: MIT
 */

#include "water_marks.h"

#include "args.h"

/* left * right or left // right; left is borrowed. */
static PyObject *
scale(PyObject *left, long right,
      PyObject *(*operation)(PyObject *left, PyObject *right))
{
    PyObject *factor = PyLong_FromLong(right);
    PyObject *result = NULL;

    if (factor != NULL) {
        result = operation(left, factor);
        Py_DECREF(factor);
    }
    return result;
}

/* Fill in what was not given as asyncio does. New references; -1 with an
 * exception. */
static int
default_limits(PyObject **high, PyObject **low, long high_bytes)
{
    if (*high != NULL) {
        Py_INCREF(*high);
    }
    else {
        *high = *low == NULL ? PyLong_FromLong(high_bytes)
                             : scale(*low, 4, PyNumber_Multiply);
    }
    if (*high == NULL) {
        return -1;
    }
    *low =
        *low != NULL ? Py_NewRef(*low) : scale(*high, 4, PyNumber_FloorDivide);
    if (*low == NULL) {
        Py_DECREF(*high);
        return -1;
    }
    return 0;
}

/* high >= low >= 0, or ValueError. 0 or -1. */
static int
check_limits(PyObject *high, PyObject *low)
{
    PyObject *zero = PyLong_FromLong(0);
    int r;

    if (zero == NULL) {
        return -1;
    }
    r = PyObject_RichCompareBool(high, low, Py_GE);
    if (r == 1) {
        r = PyObject_RichCompareBool(low, zero, Py_GE);
    }
    Py_DECREF(zero);
    if (r == 0) {
        PyErr_Format(PyExc_ValueError,
                     "high (%R) must be >= low (%R) must be >= 0", high, low);
    }
    return r == 1 ? 0 : -1;
}

/* Any number that is not negative; SIZE_MAX stands for all that are larger
 * (such as float('inf')). -1 with an exception. */
static int
to_size(PyObject *number, size_t *ret_size)
{
    double value;

    if (PyLong_Check(number)) {
        *ret_size = PyLong_AsSize_t(number);
        if (*ret_size == (size_t)-1 && PyErr_Occurred()) {
            PyErr_Clear();
            *ret_size = SIZE_MAX;
        }
        return 0;
    }
    value = PyFloat_AsDouble(number);
    if (value == -1.0 && PyErr_Occurred()) {
        return -1;
    }
    *ret_size = value < (double)PY_SSIZE_T_MAX ? (size_t)value : SIZE_MAX;
    return 0;
}

int
bkpy_parse_marks(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                 const bkpy_marks *marks, size_t *ret_high_bytes,
                 size_t *ret_low_bytes)
{
    const bkpy_spec spec = {
        .function = marks->function,
        .names = {"high", "low"},
        .positional = 2,
    };
    PyObject *values[2];
    PyObject *high, *low;
    int r;

    if (bkpy_parse(args, nargs, kwnames, &spec, values) < 0) {
        return -1;
    }
    high = values[0] == Py_None ? NULL : values[0];
    low = values[1] == Py_None ? NULL : values[1];
    if (default_limits(&high, &low, marks->high_bytes) < 0) {
        return -1;
    }
    r = check_limits(high, low);
    if (r == 0) {
        r = to_size(high, ret_high_bytes);
    }
    if (r == 0) {
        r = to_size(low, ret_low_bytes);
    }
    Py_DECREF(high);
    Py_DECREF(low);
    return r;
}

int
bkpy_parse_water_marks(PyObject *const *args, Py_ssize_t nargs,
                       PyObject *kwnames, size_t *ret_high_bytes,
                       size_t *ret_low_bytes)
{
    static const bkpy_marks marks = {"set_write_buffer_limits", 64L * 1024};

    return bkpy_parse_marks(args, nargs, kwnames, &marks, ret_high_bytes,
                            ret_low_bytes);
}
