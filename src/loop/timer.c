/* timer.c -- one callback at a point in time.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A timer is in the heap (its handle WAITING) until it is due, then in the
 * ready queue (QUEUED), like any handle. Moving and cancelling know both.
 */
#include "becket/timer.h"

#include <assert.h>
#include <errno.h>

#include "loop/internal.h"

void
bk_timer_init(bk_timer *timer, bk_handle_cb callback)
{
    *timer = (bk_timer){._index = BKI_HEAP_NONE};
    bk_handle_init(&timer->_handle, callback);
    timer->_handle._flags = BKI_HANDLE_IS_TIMER;
}

void
bk_timer_set_rank(bk_timer *timer, uint16_t rank)
{
    if (timer != NULL) {
        timer->_handle._rank = rank;
    }
}

uint64_t
bk_timer_when(const bk_timer *timer)
{
    return timer->_when_ns;
}

bool
bk_timer_is_scheduled(const bk_timer *timer)
{
    return timer != NULL && bk_handle_is_scheduled(&timer->_handle);
}

/* The heap's entry is taken out first where there is one: putting it back in
 * then needs no memory. */
static int
put_in_heap(bk_loop *loop, bk_timer *timer, uint64_t when_ns)
{
    int r;

    if (timer->_index != BKI_HEAP_NONE) {
        bki_heap_remove(&loop->timers, timer);
    }
    r = bki_heap_push(&loop->timers, timer, when_ns);
    if (r < 0) {
        return r;
    }
    (void)bki_ready_remove(loop, &timer->_handle);
    bki_handle_set_state(&timer->_handle, BKI_HANDLE_WAITING);
    timer->_loop = loop;
    timer->_when_ns = when_ns;
    return 0;
}

int
bk_loop_schedule_at(bk_loop *loop, bk_timer *timer, uint64_t when_ns)
{
    if (loop == NULL || timer == NULL || timer->_handle._callback == NULL) {
        return -EINVAL;
    }
    if (loop->is_closed) {
        return -EBADF;
    }
    if (bk_timer_is_scheduled(timer) && timer->_loop != loop) {
        return -EBUSY;
    }
    return put_in_heap(loop, timer, when_ns);
}

/* Out of heap or ready queue; false if it was in neither. */
static bool
unlink_timer(bk_timer *timer)
{
    if (timer->_index != BKI_HEAP_NONE) {
        bki_heap_remove(&timer->_loop->timers, timer);
        bki_handle_set_state(&timer->_handle, BKI_HANDLE_IDLE);
        return true;
    }
    return bki_ready_remove(timer->_loop, &timer->_handle);
}

int
bk_timer_cancel(bk_timer *timer)
{
    if (timer == NULL) {
        return -EINVAL;
    }
    if (!unlink_timer(timer)) {
        return 0;
    }
    bki_handle_release(timer->_loop, &timer->_handle);
    return 1;
}

/* Taken once a turn, before the heap is looked at: a timer that a callback
 * makes for now waits for the next turn. */
static uint64_t
expiry_time(bk_loop *loop)
{
    if (loop->has_slept && loop->hooks.now_ns == NULL) {
        return loop->woken_ns;
    }
    return bk_loop_time(loop);
}

bool
bki_timers_are_due(const bk_loop *loop)
{
    uint64_t when_ns = bki_heap_when(&loop->timers);

    return when_ns != BK_TIME_NEVER && when_ns <= bk_loop_time(loop);
}

void
bki_timers_expire(bk_loop *loop)
{
    uint64_t now_ns;

    if (loop->timers.count == 0) {
        return;
    }
    now_ns = expiry_time(loop);
    while (bki_heap_when(&loop->timers) <= now_ns &&
           bki_heap_when(&loop->timers) != BK_TIME_NEVER) {
        bk_timer *timer = bki_heap_first(&loop->timers);

        assert(bki_handle_state(&timer->_handle) == BKI_HANDLE_WAITING);
        bki_heap_remove(&loop->timers, timer);
        bki_handle_set_state(&timer->_handle, BKI_HANDLE_QUEUED);
        bki_list_append(&loop->ready, &timer->_handle);
        loop->stats.timers_fired++;
    }
}
