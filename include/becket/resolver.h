/* resolver.h -- names to addresses and back, without blocking the loop.
 *
 * SPDX-License-Identifier: MIT
 *
 * Lookups run getaddrinfo(3) on a few threads of the loop's own, made when
 * first needed. Literal hosts with numeric ports are answered in the loop's
 * thread. Closing the loop never waits for a lookup.
 *
 * asyncio: loop.getaddrinfo, loop.getnameinfo.
 */
#ifndef BECKET_RESOLVER_H
#define BECKET_RESOLVER_H

#include "becket/address.h"
#include "becket/types.h"

BK_BEGIN_DECLS

struct addrinfo; /* <netdb.h> */

/* Exactly once, in the loop's thread, never from inside the call that began
 * it. error 0: result, taken by the callee (freeaddrinfo(3)); else NULL and
 * BK_EAI_x, an errno, or -ECANCELED. */
typedef void (*bk_getaddrinfo_cb)(bk_lookup *lookup, int error,
                                  struct addrinfo *result, void *self);

/* host and service may be NULL as in getaddrinfo(3), hints too; all are
 * copied. *ret_lookup (may be NULL) is borrowed until the callback returns.
 * -ENOMEM, -EAGAIN (no thread can be had, or 65536 lookups wait for one
 * already), -EBADF. Thread: loop. */
BK_API int bk_loop_getaddrinfo(bk_loop *loop, const char *host,
                               const char *service,
                               const struct addrinfo *hints,
                               bk_getaddrinfo_cb callback, void *self,
                               bk_lookup **ret_lookup);

/* host and service are borrowed for the call. */
typedef void (*bk_getnameinfo_cb)(bk_lookup *lookup, int error,
                                  const char *host, const char *service,
                                  void *self);

/* flags as in getnameinfo(3). address is copied. */
BK_API int bk_loop_getnameinfo(bk_loop *loop, const struct sockaddr *address,
                               socklen_t address_len, int flags,
                               bk_getnameinfo_cb callback, void *self,
                               bk_lookup **ret_lookup);

/* The callback comes soon, with -ECANCELED unless the result is there
 * already; a thread that is stuck goes on by itself. Thread: loop. */
BK_API void bk_lookup_cancel(bk_lookup *lookup);

BK_END_DECLS

#endif
