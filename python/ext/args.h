/* args.h -- arguments of methods that are called by vectorcall.
 *
 * SPDX-License-Identifier: MIT
 *
 * A method of a C type is METH_FASTCALL | METH_KEYWORDS and describes its
 * parameters with a constant table:
 *
 *     static const bkpy_spec spec = {
 *         .function = "sock_recvfrom_into",
 *         .names = {"sock", "buf", "nbytes"},
 *         .required = 2,
 *         .positional = 3,
 *     };
 *     PyObject *values[3];
 *
 *     if (bkpy_parse(args, nargs, kwnames, &spec, values) < 0) { ... }
 */
#ifndef BKPY_ARGS_H
#define BKPY_ARGS_H

#include "module.h"

/* The most parameters that a method has. */
#define BKPY_NAMES_MAX 16

typedef struct {
    const char *function; /* for the texts of TypeErrors */

    /* All parameters in order; each may be given by keyword. NULL ends the
     * list. */
    const char *names[BKPY_NAMES_MAX + 1];

    /* The first so many must be given. A required keyword-only parameter is
     * the method's own to check. */
    Py_ssize_t required;

    /* The first so many may be given by position; those after them are
     * keyword-only. */
    Py_ssize_t positional;

    /* *args: further arguments by position are allowed. The method finds them
     * at args[positional] .. args[nargs - 1]. */
    bool has_varargs;
} bkpy_spec;

/* Sort the arguments of a call into ret_values, one per name: borrowed, NULL
 * for what was not given. 0, or -1 with TypeError. */
int bkpy_parse(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
               const bkpy_spec *spec, PyObject **ret_values);

/* The one argument of a method with this one parameter. Borrowed; NULL with
 * TypeError. */
static inline PyObject *
bkpy_parse_one(const bkpy_spec *spec, PyObject *const *args, Py_ssize_t nargs,
               PyObject *kwnames)
{
    PyObject *value;

    if (nargs == 1 && kwnames == NULL) {
        return args[0];
    }
    return bkpy_parse(args, nargs, kwnames, spec, &value) < 0 ? NULL : value;
}

/* Whether a parameter has this name. */
bool bkpy_spec_has(const bkpy_spec *spec, PyObject *keyword);

#endif
