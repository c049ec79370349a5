/* spare.c -- a bytes object that nobody needs any more, for the next receive.
 *
 * SPDX-License-Identifier: MIT
 */

#include "spare.h"

/* Up to 512 bytes CPython's own allocator serves an object, faster than we
 * could. What is larger than the second goes without a copy, see stream_io.c.
 */
#define SPARE_MIN 512
#define SPARE_MAX (32 * 1024)

/* Both sizes begin with the same four bits, so that an object never takes an
 * eighth more than it holds, however often it is used again. */
static inline bool
is_fitting(size_t size, size_t len)
{
    int bits = 64 - __builtin_clzll(size);

    return len <= size && (size ^ len) >> (bits - 4) == 0;
}

PyObject *
bkpy_spare_new(LoopObject *loop, const void *data, size_t len)
{
    PyObject *bytes = loop->spare_bytes;

    if (bytes == NULL || !is_fitting((size_t)PyBytes_GET_SIZE(bytes), len)) {
        return PyBytes_FromStringAndSize(data, (Py_ssize_t)len);
    }
    loop->spare_bytes = NULL;
    bkpy_bytes_renew(bytes, (Py_ssize_t)len);
    memcpy(PyBytes_AS_STRING(bytes), data, len);
    return bytes;
}

void
bkpy_spare_drop(LoopObject *loop, PyObject *bytes)
{
    Py_ssize_t size = PyBytes_GET_SIZE(bytes);

    assert(PyBytes_CheckExact(bytes));
    if (!BKPY_HAS_FREE_LISTS || Py_REFCNT(bytes) != 1 || size <= SPARE_MIN ||
        size > SPARE_MAX || loop->is_closed) {
        Py_DECREF(bytes);
        return;
    }
    Py_XSETREF(loop->spare_bytes, bytes);
}
