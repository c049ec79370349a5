/* connect.h -- outgoing connections.
 *
 * SPDX-License-Identifier: MIT
 *
 * asyncio: loop.create_connection, loop.sock_connect.
 */
#ifndef BECKET_CONNECT_H
#define BECKET_CONNECT_H

#include "becket/address.h"
#include "becket/transport.h"
#include "becket/types.h"
#include "becket/watch.h"

BK_BEGIN_DECLS

typedef struct {
    const char *host; /* literal or name */
    uint16_t port;
    int family;             /* AF_UNSPEC, AF_INET, AF_INET6 */
    const char *local_host; /* NULL: not bound; a literal */
    uint16_t local_port;
} bk_connect_options;

/* Exactly once, never from inside bk_loop_create_connection(). error 0: the
 * transport, owned by the library, whose connection_made runs after this
 * returns; else NULL and the code of the last address tried, -ECANCELED after
 * bk_connector_cancel(). Thread: loop. */
typedef void (*bk_connect_cb)(bk_connector *connector, int error,
                              bk_transport *transport, void *self);

/* Resolve the name, try its addresses in turn, make a transport with this
 * protocol. on_connect may be NULL when connection_made says enough, but then
 * nobody learns of a failure. *ret_connector (may be NULL) is borrowed until
 * on_connect returns. -EINVAL, -ENOMEM, -EBADF. Thread: loop. */
BK_API int bk_loop_create_connection(bk_loop *loop, const bk_protocol *protocol,
                                     void *self,
                                     const bk_connect_options *options,
                                     bk_connect_cb on_connect,
                                     bk_connector **ret_connector);

/* Ask it to end; on_connect still comes. Thread: loop. */
BK_API void bk_connector_cancel(bk_connector *connector);

BK_END_DECLS

#endif
