/* future.h -- asyncio's futures, used without calls of their class.
 *
 * SPDX-License-Identifier: MIT
 *
 * future.c         making, awaiting, using them again
 * future_wake.c    waking who waits for one
 * future_layout.c  where a future has what
 */
#ifndef BKPY_FUTURE_H
#define BKPY_FUTURE_H

#include <string.h>

#include "loop.h"

/* More than any version's struct takes. */
#define BKPY_FUTURE_SIZE_MAX 320

/* A word of a future, at an offset of the layout. */
static inline uintptr_t
bkpy_future_word(PyObject *future, size_t offset)
{
    uintptr_t word;

    memcpy(&word, (const char *)future + offset, sizeof(word));
    return word;
}

static inline void
bkpy_future_set_word(PyObject *future, size_t offset, uintptr_t word)
{
    memcpy((char *)future + offset, &word, sizeof(word));
}

/* An object that it refers to there; borrowed, or NULL. */
static inline PyObject *
bkpy_future_object(PyObject *future, size_t offset)
{
    return (PyObject *)bkpy_future_word(future, offset);
}

/* Neither done nor awaited. */
static inline bool
bkpy_future_is_idle(const bkpy_future_layout *layout, PyObject *future)
{
    return bkpy_future_word(future, layout->state) == 0 &&
           bkpy_future_word(future, layout->awaited) == 0;
}

/* _asyncio.Future(loop=loop). New reference or NULL with an exception. */
PyObject *bkpy_future_new(LoopObject *loop);

/* The same for a loop whose get_debug() is known to be ours. */
PyObject *bkpy_future_new_unasked(LoopObject *loop);

/* One step of "await future", for an exact _asyncio.Future: what its iterator's
 * am_send does, which has no state of its own. */
PySendResult bkpy_future_send(const bkpy_state *state, PyObject *future,
                              PyObject *value, PyObject **ret);

/* A future that nothing but the caller's reference, which is taken, is left of:
 * kept for the next wait if it may be used again. */
void bkpy_future_drop(LoopObject *loop, PyObject *future);

/* For an exact _asyncio.Future of this loop: set_result(None) without its
 * calls, if it is pending and one callback, a task's most often, waits for it.
 * True: done, and the callback is queued as by loop.call_soon(). False: nothing
 * has happened. No exception. */
bool bkpy_future_wake(LoopObject *loop, PyObject *future);

/* What bkpy_future_wake() has queued, for a node of the core's that is no
 * handle's: visit what it holds, or, once it has left the queue, drop that. */
int bkpy_wakeup_visit(bk_handle *node, visitproc visit, void *arg);
void bkpy_wakeup_drop(bk_handle *node);

/* When the loop closes: what it has kept. When it dies: cached memory. */
void bkpy_future_clear_spare(LoopObject *loop);
void bkpy_wakeups_free(LoopObject *loop);

#endif
