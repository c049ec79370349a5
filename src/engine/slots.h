/* slots.h -- who is under which number, and what is wanted there.
 *
 * SPDX-License-Identifier: MIT
 *
 * The steps that registry.c, which decides, is made of.
 */
#ifndef BKI_SLOTS_H
#define BKI_SLOTS_H

#include "engine/readiness.h"

/* Room for a slot of this number: 0, -ENOMEM, or -EBADF for a number that is
 * absurd. */
int bki_slots_grow(struct bki_readiness *readiness, int fd);

/* Tell the poller: what its operation returns, -EBADF once there is none, or
 * -ECHILD in a forked child. */
int bki_slots_tell_add(struct bki_readiness *readiness, int fd, unsigned events,
                       uint32_t generation);
int bki_slots_tell_modify(struct bki_readiness *readiness, int fd,
                          unsigned events, uint32_t generation);

/* Most callers can do nothing about a failure: either the fd has gone, and its
 * entry with it, or the entry shows itself by events of nobody. */
int bki_slots_tell_remove(struct bki_readiness *readiness, int fd);

/* Whether the poller has the number of this io. */
void bki_slots_set_added(struct bki_readiness *readiness, bk_io *io,
                         bool is_added);

/* Whether a watch that wants nothing is registered all the same. */
void bki_slots_set_paused(struct bki_readiness *readiness, bk_io *io,
                          bool is_paused);

/* See bki_engine_ops. */
void bki_slots_set_waker(bk_io *io, bool is_waker);

/* What the ios under a number want together. */
unsigned bki_slots_wanted(const struct bki_readiness *readiness, int fd);

/* Whether the occupant certainly still has the number. A watch cannot be
 * asked. */
bool bki_slots_has_number(const bk_io *io);

/* Give up the number without a word to the poller. */
void bki_slots_vacate(struct bki_readiness *readiness, bk_io *io);

/* Forget the events of these directions that are queued. */
void bki_slots_unqueue(bk_io *io, unsigned directions);

/* Want nothing any more; whatever is queued is forgotten. */
void bki_slots_forget_interest(bk_io *io);

#endif
