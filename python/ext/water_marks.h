/* water_marks.h -- the marks at which writing is paused and resumed.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKPY_WATER_MARKS_H
#define BKPY_WATER_MARKS_H

#include "module.h"

/* The arguments of a transport's set_write_buffer_limits(high=None, low=None),
 * with asyncio's defaults (64 KiB, and a quarter of the high one) filled in. 0,
 * or -1 with TypeError or ValueError. */
int bkpy_parse_water_marks(PyObject *const *args, Py_ssize_t nargs,
                           PyObject *kwnames, size_t *ret_high_bytes,
                           size_t *ret_low_bytes);

/* The same for another method, or another mark for high by default. */
typedef struct {
    const char *function;
    long high_bytes;
} bkpy_marks;

int bkpy_parse_marks(PyObject *const *args, Py_ssize_t nargs, PyObject *kwnames,
                     const bkpy_marks *marks, size_t *ret_high_bytes,
                     size_t *ret_low_bytes);

#endif
