/* ready.c -- the ready queue and the batch.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A turn splices the ready queue off as its batch and runs that until it is
 * empty, so what a callback schedules runs in the next turn. A handle is
 * taken out before its callback runs, which may then free it, schedule it
 * again, or cancel any other handle of the batch.
 */
#include <assert.h>
#include <errno.h>

#include "base/hint.h"
#include "loop/internal.h"

BKI_HOT void
bki_ready_push(bk_loop *loop, bk_handle *handle)
{
    assert(bki_handle_state(handle) == BKI_HANDLE_IDLE);
    if (BKI_UNLIKELY(!bki_mpsc_is_empty_relaxed(&loop->inbox))) {
        bki_inbox_take(loop);
    }
    bki_handle_set_state(handle, BKI_HANDLE_QUEUED);
    bki_list_append(&loop->ready, handle);
}

void
bki_ready_push_found(bk_loop *loop, bk_handle *handle)
{
    assert(bki_handle_state(handle) == BKI_HANDLE_IDLE);
    assert((handle->_flags & BKI_HANDLE_IS_IO) != 0);
    bki_handle_set_state(handle, BKI_HANDLE_QUEUED);
    bki_list_append(&loop->found, handle);
}

void
bki_ready_link_found(bk_loop *loop)
{
    bk_handle *handle;

    while ((handle = bki_list_pop(&loop->found)) != NULL) {
        bki_list_append(&loop->ready, handle);
    }
}

bool
bki_ready_is_empty(const bk_loop *loop)
{
    return bki_list_is_empty(&loop->batch) && bki_list_is_empty(&loop->ready) &&
           bki_list_is_empty(&loop->found) &&
           bki_mpsc_is_empty_relaxed(&loop->inbox) && !loop->is_breaking &&
           __atomic_load_n(&loop->is_stopping, __ATOMIC_RELAXED) == 0;
}

BKI_HOT bool
bki_ready_remove(bk_loop *loop, bk_handle *handle)
{
    (void)loop; /* the list is circular, whichever it is */
    if (bki_handle_state(handle) != BKI_HANDLE_QUEUED) {
        return false;
    }
    bki_list_remove(handle);
    bki_handle_set_state(handle, BKI_HANDLE_IDLE);
    return true;
}

BKI_HOT void
bki_ready_run(bk_loop *loop)
{
    bk_handle *handle;

    assert(!loop->is_breaking);
    loop->is_in_callback = true;
    while ((handle = bki_list_pop(&loop->batch)) != NULL) {
        bki_handle_set_state(handle, BKI_HANDLE_IDLE);
        loop->stats.callbacks++;
        handle->_callback(handle);
        if (BKI_UNLIKELY(loop->flush_head != NULL)) {
            bki_loop_flush_before(loop, NULL);
        }
        if (BKI_UNLIKELY(loop->is_breaking)) {
            bki_list_splice_front(&loop->ready, &loop->batch);
            break;
        }
    }
    loop->is_in_callback = false;
}

static int
visit_list(const struct bki_list *list, bk_handle_visit visit, void *arg)
{
    BK_LIST_FOREACH (handle, list) {
        int r;

        if ((handle->_flags & (BKI_HANDLE_PLACEHOLDER | BKI_HANDLE_IS_IO)) !=
            0) {
            continue;
        }
        r = visit(handle, arg);
        if (r != 0) {
            return r;
        }
    }
    return 0;
}

int
bk_loop_visit_ready(bk_loop *loop, bk_handle_visit visit, void *arg)
{
    int r;

    if (loop == NULL || visit == NULL) {
        return -EINVAL;
    }
    r = visit_list(&loop->batch, visit, arg);
    return r != 0 ? r : visit_list(&loop->ready, visit, arg);
}

int
bk_loop_visit(bk_loop *loop, bk_handle_visit visit, void *arg)
{
    int r = bk_loop_visit_ready(loop, visit, arg);

    if (loop == NULL || visit == NULL) {
        return -EINVAL;
    }
    for (size_t i = 0; r == 0 && i < loop->timers.count; i++) {
        r = visit(&loop->timers.entries[i].timer->_handle, arg);
    }
    return r;
}

/* Anything that is queued: what runs next first. */
static bk_handle *
pop_any(bk_loop *loop)
{
    bk_handle *handle = bki_list_pop(&loop->batch);
    bk_timer *timer;

    if (handle == NULL) {
        bki_inbox_take(loop);
        handle = bki_list_pop(&loop->ready);
    }
    if (handle == NULL) {
        handle = bki_list_pop(&loop->found);
    }
    if (handle != NULL) {
        return handle;
    }
    timer = bki_heap_first(&loop->timers);
    if (timer == NULL) {
        return NULL;
    }
    bki_heap_remove(&loop->timers, timer);
    return &timer->_handle;
}

bk_handle *
bk_loop_pop(bk_loop *loop)
{
    bk_handle *handle;

    if (loop == NULL) {
        return NULL;
    }
    bk_loop_flush(loop);
    while ((handle = pop_any(loop)) != NULL) {
        bool is_embedders = (handle->_flags & BKI_HANDLE_IS_IO) == 0;

        bki_handle_set_state(handle, BKI_HANDLE_IDLE);
        if ((handle->_flags & BKI_HANDLE_IS_OWNED) != 0) {
            is_embedders = false;
            bki_handle_release(loop, handle);
        }
        if (is_embedders) {
            return handle;
        }
    }
    return NULL;
}
