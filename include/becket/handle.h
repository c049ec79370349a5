/* handle.h -- one callback in the loop's ready queue.
 *
 * SPDX-License-Identifier: MIT
 *
 * Two levels, one mechanism. bk_loop_call_soon() allocates the handle; the
 * embedded form (bk_handle_init, bk_loop_schedule) allocates nothing: the
 * caller holds the struct and the loop links it.
 *
 * asyncio: loop.call_soon, loop.call_soon_threadsafe, asyncio.Handle.
 */
#ifndef BECKET_HANDLE_H
#define BECKET_HANDLE_H

#include "becket/types.h"

BK_BEGIN_DECLS

/* Runs in the loop's thread. The handle is out of every queue when it is
 * called, so it may be scheduled again, or freed, from inside. */
typedef void (*bk_handle_cb)(bk_handle *handle);

struct bk_handle {
    bk_handle *_next;
    bk_handle *_prev;
    bk_handle_cb _callback;
    uint32_t _state; /* where it is linked; atomic, see src/loop/internal.h */
    uint16_t _flags; /* private to the library */
    uint16_t _rank;  /* of a timer */
};

/* Prepare the caller's storage. Thread: any. */
BK_API void bk_handle_init(bk_handle *handle, bk_handle_cb callback);

/* The callback it was made with. Thread: any. */
BK_API bk_handle_cb bk_handle_callback(const bk_handle *handle);

/* True from the time it is scheduled until its callback starts or it is
 * cancelled. Thread: loop. */
BK_API bool bk_handle_is_scheduled(const bk_handle *handle);

/* Append to the ready queue; runs in the next turn. The handle is lent until
 * its callback starts or bk_handle_cancel() returns 1.
 * -EBUSY: it is scheduled already. -EBADF: the loop is closed. Thread: loop. */
BK_API int bk_loop_schedule(bk_loop *loop, bk_handle *handle);

/* The same from any thread; wakes the loop if it sleeps. Handles that one
 * thread sends run in the order sent. When several threads send one handle at
 * once, one of them succeeds and the others get -EBUSY; but the loop's thread
 * may not bk_loop_schedule() it at that moment. -EBUSY, -EBADF as above.
 * Thread: any. */
BK_API int bk_loop_schedule_threadsafe(bk_loop *loop, bk_handle *handle);

/* Take it out of the queue. 1: it will not run, and the memory is the
 * caller's again. 0: it was not scheduled. -EINPROGRESS: it was sent with
 * bk_loop_schedule_threadsafe() and is still under way; its callback will be
 * called once all the same. Thread: loop. */
BK_API int bk_handle_cancel(bk_handle *handle);

/* asyncio's call_soon(callback, arg). *ret_handle (may be NULL) is borrowed:
 * valid until the callback starts or the handle is cancelled; the library
 * frees it then. -ENOMEM, -EINVAL, -EBADF. Thread: loop. */
BK_API int bk_loop_call_soon(bk_loop *loop, bk_callback callback, void *arg,
                             bk_handle **ret_handle);

/* asyncio's call_soon_threadsafe(callback, arg). Thread: any. */
BK_API int bk_loop_call_soon_threadsafe(bk_loop *loop, bk_callback callback,
                                        void *arg);

BK_END_DECLS

#endif
