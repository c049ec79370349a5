/* own_poller.h -- a poller of the program's own, for choose_poller.c.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef OWN_POLLER_H
#define OWN_POLLER_H

#include <sys/select.h>

#include "becket/poller.h"

/* What own_poller wants as self, all zero to begin with. */
struct own_poller {
    fd_set readable; /* the fds to watch, by direction */
    fd_set writable;
};

extern const bk_poller_ops own_poller;

#endif
