/* mpsc.h -- a queue of handles with many senders and one receiver.
 *
 * SPDX-License-Identifier: MIT
 *
 * Lock-free and intrusive: senders push onto a stack through _next; the
 * receiver takes the whole stack at once and turns it round, which gives the
 * order of sending. Since nothing but everything is ever taken, a handle that
 * comes back at once cannot confuse a sender (no ABA).
 *
 * Pushing and looking are sequentially consistent: the loop relies on it when
 * it goes to sleep, see src/loop/inbox.c.
 */
#ifndef BKI_MPSC_H
#define BKI_MPSC_H

#include "becket/handle.h"

struct bki_mpsc {
    bk_handle *newest; /* atomic */
};

static inline void
bki_mpsc_init(struct bki_mpsc *queue)
{
    queue->newest = NULL;
}

/* Cheap enough for every append to the ready queue. It may miss what another
 * thread is just sending, never what was sent before in the order of the
 * threads' own synchronization. */
static inline bool
bki_mpsc_is_empty_relaxed(const struct bki_mpsc *queue)
{
    return __atomic_load_n(&queue->newest, __ATOMIC_RELAXED) == NULL;
}

static inline bool
bki_mpsc_is_empty(const struct bki_mpsc *queue)
{
    return __atomic_load_n(&queue->newest, __ATOMIC_SEQ_CST) == NULL;
}

/* Any thread. */
static inline void
bki_mpsc_push(struct bki_mpsc *queue, bk_handle *node)
{
    node->_next = __atomic_load_n(&queue->newest, __ATOMIC_RELAXED);
    while (!__atomic_compare_exchange_n(&queue->newest, &node->_next, node,
                                        true, __ATOMIC_SEQ_CST,
                                        __ATOMIC_RELAXED)) {
    }
}

/* The receiver: all that there is, oldest first, linked by _next; or NULL. */
static inline bk_handle *
bki_mpsc_take(struct bki_mpsc *queue)
{
    bk_handle *node =
        __atomic_exchange_n(&queue->newest, NULL, __ATOMIC_SEQ_CST);
    bk_handle *oldest = NULL;

    while (node != NULL) {
        bk_handle *older = node->_next;

        node->_next = oldest;
        oldest = node;
        node = older;
    }
    return oldest;
}

#endif
