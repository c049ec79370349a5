/* written_data.h -- what transports are given to send.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKPY_WRITTEN_DATA_H
#define BKPY_WRITTEN_DATA_H

#include "module.h"

/* asyncio.constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES */
#define BKPY_WARN_AFTER_DROPPED 5

/* What write() and sendto() take. */
static inline bool
bkpy_is_written_data(PyObject *data)
{
    return PyBytes_Check(data) || PyByteArray_Check(data) ||
           PyMemoryView_Check(data);
}

/* A bk_release_cb: bytes have been sent, or dropped. Only exact bytes are lent,
 * so that this runs no code of the user's. */
static inline void
bkpy_release_bytes(void *owner)
{
    Py_DECREF((PyObject *)owner);
}

#endif
