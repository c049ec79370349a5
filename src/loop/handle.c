/* handle.c -- one callback in the loop's ready queue.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A call is what the convenient functions allocate: a timer with room for the
 * user's callback, so that call_soon and call_later share one slab. One that
 * another thread makes comes from malloc, since slabs are the loop's thread's.
 */
#include "becket/handle.h"

#include <assert.h>
#include <errno.h>

#include "base/sys.h"
#include "loop/internal.h"

struct call {
    bk_timer timer; /* first */
    bk_loop *loop;  /* borrowed */
    bk_callback callback;
    void *arg;
};

/* Freed calls to keep, about 90 bytes each: a turn that schedules a thousand
 * callbacks is served without malloc. */
enum { CALLS_CACHED_MAX = 1024 };

void
bk_handle_init(bk_handle *handle, bk_handle_cb callback)
{
    *handle = (bk_handle){._callback = callback};
}

bk_handle_cb
bk_handle_callback(const bk_handle *handle)
{
    return handle->_callback;
}

bool
bk_handle_is_scheduled(const bk_handle *handle)
{
    return handle != NULL && bki_handle_state(handle) != BKI_HANDLE_IDLE;
}

int
bk_loop_schedule(bk_loop *loop, bk_handle *handle)
{
    if (loop == NULL || handle == NULL || handle->_callback == NULL) {
        return -EINVAL;
    }
    if (loop->is_closed) {
        return -EBADF;
    }
    if (bki_handle_state(handle) != BKI_HANDLE_IDLE) {
        return -EBUSY;
    }
    bki_ready_push(loop, handle);
    return 0;
}

int
bk_loop_schedule_threadsafe(bk_loop *loop, bk_handle *handle)
{
    uint32_t idle = BKI_HANDLE_IDLE;

    if (loop == NULL || handle == NULL || handle->_callback == NULL) {
        return -EINVAL;
    }
    if (bk_loop_is_closed(loop)) {
        return -EBADF;
    }
    if (!__atomic_compare_exchange_n(&handle->_state, &idle, BKI_HANDLE_SENT,
                                     false, __ATOMIC_ACQ_REL,
                                     __ATOMIC_RELAXED)) {
        return -EBUSY;
    }
    bki_mpsc_push(&loop->inbox, handle);
    bki_inbox_wake(loop);
    return 0;
}

int
bk_handle_cancel(bk_handle *handle)
{
    if (handle == NULL) {
        return -EINVAL;
    }
    if ((handle->_flags & BKI_HANDLE_IS_TIMER) != 0) {
        return bk_timer_cancel(bk_timer_of(handle));
    }
    switch (bki_handle_state(handle)) {
    case BKI_HANDLE_IDLE:
        return 0;
    case BKI_HANDLE_SENT:
        return -EINPROGRESS;
    default:
        (void)bki_ready_remove(NULL, handle);
        if ((handle->_flags & BKI_HANDLE_IS_OWNED) != 0) {
            bki_handle_release(((struct call *)(void *)handle)->loop, handle);
        }
        return 1;
    }
}

void
bki_handle_release(bk_loop *loop, bk_handle *handle)
{
    assert(bki_handle_state(handle) == BKI_HANDLE_IDLE);
    if ((handle->_flags & BKI_HANDLE_IS_OWNED) == 0) {
        return;
    }
    if ((handle->_flags & BKI_HANDLE_IS_MALLOCED) != 0) {
        bki_sys_free(handle);
        return;
    }
    bki_slab_free(&loop->calls, handle);
}

/* Freed before the user's callback runs, so that what it schedules takes the
 * same, warm memory. */
static void
run_call(bk_handle *handle)
{
    struct call *call = (struct call *)(void *)handle;
    bk_callback callback = call->callback;
    void *arg = call->arg;

    bki_handle_release(call->loop, handle);
    callback(arg);
}

static struct call *
new_call(bk_loop *loop, bk_callback callback, void *arg)
{
    struct call *call;

    if (loop->calls.item_size == 0) {
        bki_slab_init(&loop->calls, sizeof(*call), CALLS_CACHED_MAX);
    }
    call = bki_slab_alloc(&loop->calls);
    if (call == NULL) {
        return NULL;
    }
    call->loop = loop;
    call->callback = callback;
    call->arg = arg;
    return call;
}

int
bk_loop_call_soon(bk_loop *loop, bk_callback callback, void *arg,
                  bk_handle **ret_handle)
{
    struct call *call;

    if (loop == NULL || callback == NULL) {
        return -EINVAL;
    }
    if (loop->is_closed) {
        return -EBADF;
    }
    call = new_call(loop, callback, arg);
    if (call == NULL) {
        return -ENOMEM;
    }
    bk_handle_init(&call->timer._handle, run_call);
    call->timer._handle._flags = BKI_HANDLE_IS_OWNED;
    bki_ready_push(loop, &call->timer._handle);
    if (ret_handle != NULL) {
        *ret_handle = &call->timer._handle;
    }
    return 0;
}

int
bk_loop_call_soon_threadsafe(bk_loop *loop, bk_callback callback, void *arg)
{
    struct call *call;
    int r;

    if (loop == NULL || callback == NULL) {
        return -EINVAL;
    }
    call = bki_sys_malloc(sizeof(*call));
    if (call == NULL) {
        return -ENOMEM;
    }
    call->loop = loop;
    call->callback = callback;
    call->arg = arg;
    bk_handle_init(&call->timer._handle, run_call);
    call->timer._handle._flags = BKI_HANDLE_IS_OWNED | BKI_HANDLE_IS_MALLOCED;
    r = bk_loop_schedule_threadsafe(loop, &call->timer._handle);
    if (r < 0) {
        bki_sys_free(call);
    }
    return r;
}

int
bk_loop_call_at(bk_loop *loop, uint64_t when_ns, bk_callback callback,
                void *arg, bk_timer **ret_timer)
{
    struct call *call;
    int r;

    if (loop == NULL || callback == NULL) {
        return -EINVAL;
    }
    if (loop->is_closed) {
        return -EBADF;
    }
    call = new_call(loop, callback, arg);
    if (call == NULL) {
        return -ENOMEM;
    }
    bk_timer_init(&call->timer, run_call);
    call->timer._handle._flags |= BKI_HANDLE_IS_OWNED;
    r = bk_loop_schedule_at(loop, &call->timer, when_ns);
    if (r < 0) {
        bki_handle_release(loop, &call->timer._handle);
        return r;
    }
    if (ret_timer != NULL) {
        *ret_timer = &call->timer;
    }
    return 0;
}

int
bk_loop_call_later(bk_loop *loop, uint64_t delay_ns, bk_callback callback,
                   void *arg, bk_timer **ret_timer)
{
    uint64_t now_ns;
    bool is_never;

    if (loop == NULL) {
        return -EINVAL;
    }
    now_ns = bk_loop_time(loop);
    is_never = delay_ns > BK_TIME_NEVER - now_ns;
    return bk_loop_call_at(loop, is_never ? BK_TIME_NEVER : now_ns + delay_ns,
                           callback, arg, ret_timer);
}
