/* peers.h -- the addresses that datagrams came from lately, as Python has them.
 *
 * SPDX-License-Identifier: MIT
 *
 * A server of datagrams hears from the same clients again and again, in no
 * order. The tuple of an address takes as long to make and to drop as all that
 * the loop does for the datagram; finding it again takes a tenth of that.
 *
 * Nobody can tell: such tuples, of str and int, never change.
 */
#ifndef BKPY_PEERS_H
#define BKPY_PEERS_H

#include <sys/socket.h>

#include "loop.h"

/* What bkpy_address_to_python() makes of it, or has made before. New reference,
 * or NULL with an exception. */
PyObject *bkpy_peers_find(LoopObject *loop, const struct sockaddr *address,
                          socklen_t len);

/* Forget them all; none of it can be part of a cycle, so nobody visits them. */
void bkpy_peers_clear(LoopObject *loop);

#endif
