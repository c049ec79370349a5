/* errors.h -- the core's codes as Python exceptions, in one place.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKPY_ERRORS_H
#define BKPY_ERRORS_H

#include "module.h"

/* The exception for a negative code, not raised: OSError(errno, text) (the
 * constructor picks the subclass), socket.gaierror(number, text) for BK_EAI_x.
 * New reference; NULL with an exception when it cannot be made. BK_EOF is never
 * an exception: SystemError. */
PyObject *bkpy_error_new(bkpy_state *state, int code);

/* The same, raised. Always NULL. */
PyObject *bkpy_error_set(bkpy_state *state, int code);

/* The same after a call that makes no system call: -ENOMEM, which elsewhere
 * may be the kernel's answer and then is an OSError as for every other program
 * in Python, is a MemoryError. Always NULL. */
PyObject *bkpy_error_set_memory(bkpy_state *state, int code);

/* The negative errno that stands for the exception that is set, for telling
 * the core: -errno of an OSError, -ENOMEM, and -EIO for whatever is not about
 * the system. The exception stays set. */
int bkpy_error_code(void);

#endif
