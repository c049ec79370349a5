/* spare.h -- bytes objects that nobody needs any more, for the next receives.
 *
 * SPDX-License-Identifier: MIT
 *
 * Most of what is received is looked at in data_received() and dropped, or
 * written to another transport and gone when that has been flushed. The next
 * one of about the same size then takes its place without malloc and free,
 * which beyond the small sizes that CPython allocates itself cost as much as
 * the call of data_received().
 *
 * Nobody can tell: the object is one to which there is no other reference.
 */
#ifndef BKPY_SPARE_H
#define BKPY_SPARE_H

#include "loop.h"

/* Bytes with a copy of what is in data. New reference, or NULL with an
 * exception. */
PyObject *bkpy_spare_new(LoopObject *loop, const void *data, size_t len);

/* Give up a reference to exact bytes; kept if it was the last. */
void bkpy_spare_drop(LoopObject *loop, PyObject *bytes);

/* The same for one of several that are received together: what was written of
 * it may have to wait for all of them, and bkpy_spare_drop_held() is called
 * then. Any object; what is large is not kept. */
void bkpy_spare_hold(LoopObject *loop, PyObject *bytes);
void bkpy_spare_drop_held(LoopObject *loop);

/* The last bytes that one reader was given, and those before, while somebody
 * may still have them: a read's result is the program's until the next one
 * takes its place. */
typedef struct {
    PyObject *last;   /* owned, or NULL */
    PyObject *before; /* owned, or NULL */
} bkpy_spare_trail;

/* bkpy_spare_new() for a reader. */
PyObject *bkpy_spare_lend(LoopObject *loop, bkpy_spare_trail *trail,
                          const void *data, size_t len);

/* The reader waits: what nobody has any more is kept for the next receives. */
void bkpy_spare_collect(LoopObject *loop, bkpy_spare_trail *trail);

static inline void
bkpy_spare_forget(bkpy_spare_trail *trail)
{
    Py_CLEAR(trail->last);
    Py_CLEAR(trail->before);
}

void bkpy_spares_clear(LoopObject *loop);

#endif
