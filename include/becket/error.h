/* error.h -- the codes that functions return.
 *
 * SPDX-License-Identifier: MIT
 *
 * A failure of the system is its negative errno. Codes without an errno live
 * below -4096, where no errno is.
 */
#ifndef BECKET_ERROR_H
#define BECKET_ERROR_H

#include "becket/types.h"

BK_BEGIN_DECLS

enum {
    /* The peer has finished sending. */
    BK_EOF = -4097,

    /* Failures of name resolution, getaddrinfo(3). EAI_SYSTEM is reported as
     * its errno and EAI_CANCELED as -ECANCELED. */
    BK_EAI_ADDRFAMILY = -4101,
    BK_EAI_AGAIN = -4102,
    BK_EAI_BADFLAGS = -4103,
    BK_EAI_FAIL = -4104,
    BK_EAI_FAMILY = -4105,
    BK_EAI_MEMORY = -4106,
    BK_EAI_NODATA = -4107,
    BK_EAI_NONAME = -4108,
    BK_EAI_OVERFLOW = -4109,
    BK_EAI_SERVICE = -4110,
    BK_EAI_SOCKTYPE = -4111,

    /* A TLS connection has failed; its engine knows why. */
    BK_TLS_ERROR = -4201,

    /* A process has ended, but somebody else has taken its exit status. */
    BK_EXIT_UNKNOWN = -4301,
};

/* The code's name, such as "ECONNREFUSED" or "BK_EOF"; "BK_UNKNOWN" for what
 * is no code. Static storage. Thread: any. */
BK_API const char *bk_err_name(int code);

/* The code in words, such as "connection refused". Static storage, never
 * NULL. Thread: any. */
BK_API const char *bk_strerror(int code);

/* The EAI_x number of <netdb.h> that a BK_EAI_x code stands for, or 0 for a
 * code that is none of them. Thread: any. */
BK_API int bk_err_to_eai(int code);

BK_END_DECLS

#endif
