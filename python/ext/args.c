/* args.c -- arguments of methods that are called by vectorcall.
 *
 * SPDX-License-Identifier: MIT
 *
 * The texts are those of Python functions, since the methods stand in for
 * asyncio's.
 */

#include "args.h"

static Py_ssize_t
count_names(const bkpy_spec *spec)
{
    Py_ssize_t n = 0;

    while (spec->names[n] != NULL) {
        n++;
    }
    return n;
}

/* self counts, as it does for a function in a class. */
static int
too_many(const bkpy_spec *spec, Py_ssize_t nargs)
{
    PyErr_Format(PyExc_TypeError,
                 "%s() takes %zd positional argument%s but %zd were given",
                 spec->function, spec->positional + 1,
                 spec->positional == 0 ? "" : "s", nargs + 1);
    return -1;
}

/* "'a'", "'a' and 'b'", "'a', 'b', and 'c'": what separates name i of n. */
static const char *
separator(Py_ssize_t i, Py_ssize_t n)
{
    if (i == 0) {
        return "";
    }
    if (i < n - 1) {
        return ", ";
    }
    return n == 2 ? " and " : ", and ";
}

static int
missing(const bkpy_spec *spec, PyObject *const *values, Py_ssize_t n)
{
    PyObject *text = PyUnicode_FromFormat(
        "%s() missing %zd required positional argument%s: ", spec->function, n,
        n == 1 ? "" : "s");
    Py_ssize_t seen = 0;

    for (Py_ssize_t i = 0; i < spec->required && text != NULL; i++) {
        if (values[i] == NULL) {
            Py_SETREF(text,
                      PyUnicode_FromFormat("%U%s'%s'", text, separator(seen, n),
                                           spec->names[i]));
            seen++;
        }
    }
    if (text != NULL) {
        PyErr_SetObject(PyExc_TypeError, text);
        Py_DECREF(text);
    }
    return -1;
}

static int
check_required(const bkpy_spec *spec, PyObject *const *values)
{
    Py_ssize_t n = 0;

    for (Py_ssize_t i = 0; i < spec->required; i++) {
        n += values[i] == NULL;
    }
    return n == 0 ? 0 : missing(spec, values, n);
}

/* The parameter that this keyword names, or -1. */
static Py_ssize_t
find_name(const bkpy_spec *spec, PyObject *keyword)
{
    for (Py_ssize_t i = 0; spec->names[i] != NULL; i++) {
        if (PyUnicode_CompareWithASCIIString(keyword, spec->names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

bool
bkpy_spec_has(const bkpy_spec *spec, PyObject *keyword)
{
    return find_name(spec, keyword) >= 0;
}

static int
parse_keywords(PyObject *const *values, PyObject *kwnames,
               const bkpy_spec *spec, PyObject **ret_values)
{
    for (Py_ssize_t k = 0; k < PyTuple_GET_SIZE(kwnames); k++) {
        PyObject *keyword = PyTuple_GET_ITEM(kwnames, k);
        Py_ssize_t i = find_name(spec, keyword);

        if (i < 0) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got an unexpected keyword argument '%U'",
                         spec->function, keyword);
            return -1;
        }
        if (ret_values[i] != NULL) {
            PyErr_Format(PyExc_TypeError,
                         "%s() got multiple values for argument '%U'",
                         spec->function, keyword);
            return -1;
        }
        ret_values[i] = values[k];
    }
    return 0;
}

int
bkpy_parse(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
           const bkpy_spec *spec, PyObject **ret_values)
{
    Py_ssize_t names = count_names(spec);

    if (nargs > spec->positional && !spec->has_varargs) {
        return too_many(spec, nargs);
    }
    for (Py_ssize_t i = 0; i < names; i++) {
        ret_values[i] = i < nargs && i < spec->positional ? args[i] : NULL;
    }
    if (kwnames != NULL &&
        parse_keywords(args + nargs, kwnames, spec, ret_values) < 0) {
        return -1;
    }
    return check_required(spec, ret_values);
}
