/* future.h -- asyncio's futures, made without a call of their class.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKPY_FUTURE_H
#define BKPY_FUTURE_H

#include "loop.h"

/* _asyncio.Future(loop=loop). New reference or NULL with an exception. */
PyObject *bkpy_future_new(LoopObject *loop);

/* The same for a loop whose get_debug() is known to be ours. */
PyObject *bkpy_future_new_unasked(LoopObject *loop);

#endif
