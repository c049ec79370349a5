/* sys_call.h -- what the files that make system calls share.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKI_SYS_CALL_H
#define BKI_SYS_CALL_H

#include <errno.h>
#include <sys/socket.h>
#include <sys/types.h>

#include "base/fault.h"

#ifdef BK_FAULT_INJECTION
/* Leave the wrapper with the code that a test has asked for. */
#    define FAULT_POINT(call)                                                  \
        do {                                                                   \
            int fault_code = bki_fault_take(call);                             \
            if (fault_code < 0) {                                              \
                return fault_code;                                             \
            }                                                                  \
        } while (0)
#    define FAULT_POINT_NULL(call)                                             \
        do {                                                                   \
            if (bki_fault_take(call) < 0) {                                    \
                return NULL;                                                   \
            }                                                                  \
        } while (0)
#    define FAULT_LIMITED(call, len) bki_fault_limited(call, len)
#else
#    define FAULT_POINT(call)        ((void)0)
#    define FAULT_POINT_NULL(call)   ((void)0)
#    define FAULT_LIMITED(call, len) (len)
#endif

/* MSG_DONTWAIT: a user may have made the fd blocking behind our back. */
enum { SEND_FLAGS = MSG_NOSIGNAL | MSG_DONTWAIT };

/* What a call that gives -1 and errno gave. */
static inline int
result_of(int r)
{
    return r < 0 ? -errno : r;
}

static inline ssize_t
size_of(ssize_t n)
{
    return n < 0 ? -(ssize_t)errno : n;
}

#endif
