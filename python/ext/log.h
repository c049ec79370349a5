/* log.h -- asyncio's logger.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKPY_LOG_H
#define BKPY_LOG_H

#include "module.h"

/* asyncio.log.logger.level(*args, exc_info=exc); format makes the tuple of
 * args, as in Py_BuildValue(); exc may be NULL. Failures are written as
 * unraisable. No exception may be set. */
void bkpy_log(const char *level, PyObject *exc, const char *format, ...);

#endif
