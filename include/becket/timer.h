/* timer.h -- one callback at a point in time.
 *
 * SPDX-License-Identifier: MIT
 *
 * Timers live in an indexed 4-ary heap. A timer never fires early; timers due
 * at the same time fire in the order of their ranks, and of one rank in the
 * order in which they were scheduled; cancelling removes at once.
 *
 * asyncio: loop.call_later, loop.call_at, asyncio.TimerHandle.
 */
#ifndef BECKET_TIMER_H
#define BECKET_TIMER_H

#include "becket/handle.h"
#include "becket/types.h"

BK_BEGIN_DECLS

struct bk_timer {
    bk_handle _handle; /* first: a due timer is a handle in the ready queue */
    bk_loop *_loop;    /* borrowed while scheduled */
    uint64_t _when_ns;
    uint64_t _index; /* place in the heap; UINT64_MAX while not in it */
};

/* Prepare the caller's storage. The callback gets the timer's handle, see
 * bk_timer_of(). Thread: any. */
BK_API void bk_timer_init(bk_timer *timer, bk_handle_cb callback);

/* The timer whose handle this is. Thread: any. */
static inline bk_timer *
bk_timer_of(bk_handle *handle)
{
    return (bk_timer *)(void *)handle;
}

/* Its place among timers that are due at the same nanosecond, from the next
 * scheduling on: for whoever has a finer clock. 0 to begin with. Thread:
 * loop. */
BK_API void bk_timer_set_rank(bk_timer *timer, uint16_t rank);

/* The point in time it was last scheduled for. Thread: loop. */
BK_API uint64_t bk_timer_when(const bk_timer *timer);

/* True while it waits in the heap or, due, in the ready queue. Thread: loop. */
BK_API bool bk_timer_is_scheduled(const bk_timer *timer);

/* Run the callback at when_ns, on bk_loop_time()'s clock; a time that has
 * passed means the next turn; BK_TIME_NEVER never comes. The timer is lent
 * until its callback starts or bk_timer_cancel() returns 1. A timer that is
 * scheduled already is moved, to the end of those of its rank that are due at
 * the same time. -ENOMEM (it stays where it is), -EBADF (closed), -EBUSY:
 * another loop has it. Thread: loop. */
BK_API int bk_loop_schedule_at(bk_loop *loop, bk_timer *timer,
                               uint64_t when_ns);

/* 1: it will not run, and the memory is the caller's again. 0: it was not
 * scheduled. Thread: loop. */
BK_API int bk_timer_cancel(bk_timer *timer);

/* asyncio's call_later and call_at. *ret_timer (may be NULL) is borrowed:
 * valid until the callback starts or the timer is cancelled; the library
 * frees it then. -ENOMEM, -EINVAL, -EBADF. Thread: loop. */
BK_API int bk_loop_call_later(bk_loop *loop, uint64_t delay_ns,
                              bk_callback callback, void *arg,
                              bk_timer **ret_timer);
BK_API int bk_loop_call_at(bk_loop *loop, uint64_t when_ns,
                           bk_callback callback, void *arg,
                           bk_timer **ret_timer);

BK_END_DECLS

#endif
