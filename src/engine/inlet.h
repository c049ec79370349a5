/* inlet.h -- where several datagrams are received at once.
 *
 * SPDX-License-Identifier: MIT
 *
 * One per loop, since what was received is handed on, or copied, before
 * anybody else receives. A datagram can have BK_READ_MAX bytes, and most have
 * some hundred. So each begins in a dense slot, and what does not fit into that
 * goes on in a place of its own, which costs memory only once it is touched.
 */
#ifndef BKI_INLET_H
#define BKI_INLET_H

#include "engine/engine.h"

struct bki_inlet;

/* NULL without memory. */
struct bki_inlet *bki_inlet_new(void);
void bki_inlet_free(struct bki_inlet *inlet); /* NULL is a no-op */

/* Receive up to count datagrams (1 to BKI_BURST_MAX): how many, or the code.
 * *ret_datagrams is borrowed until the next call. */
int bki_inlet_receive(struct bki_inlet *inlet, int fd, int count,
                      const struct bki_datagram **ret_datagrams);

#endif
