/* loop.h -- the loop: create, run, stop, close.
 *
 * SPDX-License-Identifier: MIT
 *
 * One turn: wait for I/O (not at all when work is ready), take what other
 * threads sent, append a node to the ready queue for each ready fd, append due
 * timers, take the queue off as this turn's batch, run the batch. What a
 * callback schedules runs in the next turn.
 *
 * asyncio: AbstractEventLoop.run_forever, stop, close, time.
 */
#ifndef BECKET_LOOP_H
#define BECKET_LOOP_H

#include "becket/handle.h"
#include "becket/poller.h"
#include "becket/types.h"

BK_BEGIN_DECLS

/* What an embedder may hook in; every member may be NULL. */
typedef struct {
    /* Around system calls that can take long. Between the two the library
     * touches nothing that another thread's "Thread: loop" call could see.
     * An interpreter gives up its lock here. */
    void (*before_block)(void *arg);
    void (*after_block)(void *arg);

    /* Whether another thread may be waiting for what before_block gives up.
     * A loop that has work all the time gives it up every 12 ms; if this says
     * so, then also in each turn of the next 5 ms. It is asked every 12 ms.
     * NULL: nobody is. */
    bool (*is_contended)(void *arg);

    /* Called once a turn after the wait, and after an EINTR. A negative
     * result ends the run as bk_loop_break() does. */
    int (*check_signals)(void *arg);

    /* A clock to use instead of CLOCK_MONOTONIC, for timers and timeouts. */
    uint64_t (*now_ns)(void *arg);

    void *arg; /* given to all of them */
} bk_loop_hooks;

typedef struct {
    /* "auto" (same as NULL), "epoll" or "poll". Only "auto" falls back. */
    const char *backend;

    /* A poller from outside; backend must then be NULL. Borrowed until its
     * close() is called. */
    const bk_poller_ops *poller;
    void *poller_self;

    bk_loop_hooks hooks;
} bk_loop_options;

/* Make a loop; options may be NULL. -EINVAL: unknown backend. -ENOSYS and the
 * like: the backend cannot be had here. -EMFILE, -ENFILE, -ENOMEM.
 * Thread: any. */
BK_API int bk_loop_new(const bk_loop_options *options, bk_loop **ret_loop);

/* Close if need be and free; NULL is a no-op, and so is a loop that runs.
 * What was made of this loop must have been released before: nothing of it may
 * be used afterwards. Thread: loop. */
BK_API void bk_loop_free(bk_loop *loop);

/* Run until bk_loop_stop() or bk_loop_break(). 0 after a stop, the code of a
 * break, -EBUSY: it runs already. -EBADF: closed. -ECHILD: this is the copy of
 * a loop in a forked child. Thread: the caller becomes the loop's thread. */
BK_API int bk_loop_run_forever(bk_loop *loop);

/* The run ends after the batch that runs now, or, called before a run, after
 * one turn that does not wait. Remembered until then. Thread: any. */
BK_API void bk_loop_stop(bk_loop *loop);

/* From a callback: the run ends as soon as the callback returns, with this
 * code (negative). The rest of the batch goes back to the front of the ready
 * queue. Thread: loop. */
BK_API void bk_loop_break(bk_loop *loop, int code);

/* Drop all that is queued, close the poller and the loop's own fds.
 * Idempotent. Handles and timers allocated by the library are freed; embedded
 * ones are just unlinked. Transports, listeners and watches stay with their
 * owners, dead: only their _release or _stop may follow. Lookups are
 * abandoned without waiting. -EBUSY: it runs. Thread: loop. */
BK_API int bk_loop_close(bk_loop *loop);

BK_API bool bk_loop_is_running(const bk_loop *loop); /* Thread: any. */
BK_API bool bk_loop_is_closed(const bk_loop *loop);  /* Thread: any. */

/* True in the copy that a forked child has. Thread: loop. */
BK_API bool bk_loop_is_forked(const bk_loop *loop);

/* Now, on the clock that timers use. Read anew at each call. Thread: any. */
BK_API uint64_t bk_loop_time(const bk_loop *loop);

/* Nanoseconds of CLOCK_MONOTONIC, whatever the hooks say. Thread: any. */
BK_API uint64_t bk_clock_now(void);

/* "epoll", "poll" or the external poller's name. Static. Thread: any. */
BK_API const char *bk_loop_backend(const bk_loop *loop);

/* Send now what transports have queued in the current callback. The library
 * does it whenever a callback returns; an embedder that runs callbacks of its
 * own between (signal handlers, finalizers) calls it after them.
 * bk_loop_has_pending_writes tells whether there is anything. Thread: loop. */
BK_API void bk_loop_flush(bk_loop *loop);
BK_API bool bk_loop_has_pending_writes(const bk_loop *loop);

/* True while a callback of the loop runs in this call stack. Thread: loop. */
BK_API bool bk_loop_in_callback(const bk_loop *loop);

/* Send every write at once instead of when the callback returns.
 * Thread: loop. */
BK_API void bk_loop_set_write_through(bk_loop *loop, bool is_on);
BK_API bool bk_loop_get_write_through(const bk_loop *loop);

/* Call visit for every handle and timer that is queued (running batch, ready
 * queue, heap; not what other threads sent and the loop has not yet taken),
 * also those of streams and of the library, but not those of I/O that was
 * found. Stop when it returns non-zero and return that. visit may not schedule
 * or cancel. For garbage collectors. Thread: loop. */
typedef int (*bk_handle_visit)(bk_handle *handle, void *arg);
BK_API int bk_loop_visit(bk_loop *loop, bk_handle_visit visit, void *arg);

/* The same without the heap: what runs next. Thread: loop. */
BK_API int bk_loop_visit_ready(bk_loop *loop, bk_handle_visit visit, void *arg);

/* Take one handle or timer (then its handle) out of batch, ready queue, inbox
 * or heap, in this order, or NULL when they are empty: for an embedder that
 * must release its own before it closes the loop, or frees it. What the
 * library allocated, and I/O that was found, is dropped on the way.
 * Thread: loop. */
BK_API bk_handle *bk_loop_pop(bk_loop *loop);

BK_END_DECLS

#endif
