/* inbox.c -- what other threads send to the loop.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Sleeping. The loop sets is_asleep, then looks at the inbox (and is_stopping)
 * once more, then waits. A sender pushes, then looks at is_asleep. All four are
 * sequentially consistent, so at least one of the two sees what the other did:
 * either the loop does not sleep or the sender wakes it. The sender that turns
 * is_asleep off writes to the eventfd; all others need not.
 *
 * Closing. A sender may be about to write when the loop is already awake, runs
 * on and is closed: the eventfd's number could by then be another file's. So a
 * sender counts itself in wakers_count before it turns is_asleep off, and fini
 * turns is_asleep off before it waits for the count to be 0. A sender that
 * comes later finds is_asleep off and leaves the fd alone. The wait is for one
 * write to an eventfd at most.
 *
 * The eventfd is no event that a program can see: when it becomes readable it
 * is read, and nothing is queued.
 */
#include <assert.h>
#include <errno.h>

#include "base/sys.h"
#include "loop/internal.h"

int
bki_inbox_init(bk_loop *loop)
{
    int fd = bki_sys_eventfd();

    if (fd < 0) {
        return fd;
    }
    loop->wake._fd = fd;
    return 0;
}

int
bki_inbox_start(bk_loop *loop)
{
    loop->engine->ops->set_waker(&loop->wake, true);
    return loop->engine->ops->watch(&loop->wake, BK_READABLE);
}

void
bki_inbox_fini(bk_loop *loop)
{
    if (loop->wake._fd < 0) {
        return;
    }
    if (loop->engine != NULL) {
        loop->engine->ops->withdraw(&loop->wake);
    }
    /* The senders of a forked child are all in the parent. */
    __atomic_store_n(&loop->is_asleep, 0, __ATOMIC_SEQ_CST);
    while (__atomic_load_n(&loop->wakers_count, __ATOMIC_SEQ_CST) != 0 &&
           !bki_loop_is_forked(loop)) {
        bki_sys_thread_yield();
    }
    (void)bki_sys_close(loop->wake._fd);
    loop->wake._fd = -1;
}

void
bki_inbox_take(bk_loop *loop)
{
    bk_handle *handle;

    if (bki_mpsc_is_empty_relaxed(&loop->inbox)) {
        return;
    }
    handle = bki_mpsc_take(&loop->inbox);
    while (handle != NULL) {
        bk_handle *next = handle->_next;

        assert(bki_handle_state(handle) == BKI_HANDLE_SENT);
        bki_handle_set_state(handle, BKI_HANDLE_QUEUED);
        bki_list_append(&loop->ready, handle);
        handle = next;
    }
}

bool
bki_inbox_fall_asleep(bk_loop *loop)
{
    __atomic_store_n(&loop->is_asleep, 1, __ATOMIC_SEQ_CST);
    if (bki_mpsc_is_empty(&loop->inbox) &&
        __atomic_load_n(&loop->is_stopping, __ATOMIC_SEQ_CST) == 0) {
        return true;
    }
    bki_inbox_awake(loop);
    return false;
}

void
bki_inbox_awake(bk_loop *loop)
{
    __atomic_store_n(&loop->is_asleep, 0, __ATOMIC_SEQ_CST);
}

void
bki_inbox_drain(bk_loop *loop)
{
    uint64_t count;

    loop->stats.wakeups++;
    (void)bki_sys_read(loop->wake._fd, &count, sizeof(count));
}

void
bki_inbox_wake(bk_loop *loop)
{
    const uint64_t one = 1;

    if (__atomic_load_n(&loop->is_asleep, __ATOMIC_SEQ_CST) == 0) {
        return;
    }
    __atomic_add_fetch(&loop->wakers_count, 1, __ATOMIC_SEQ_CST);
    if (__atomic_exchange_n(&loop->is_asleep, 0, __ATOMIC_SEQ_CST) != 0 &&
        !bki_loop_is_forked(loop)) {
        /* -EAGAIN: the counter is full, and so the fd readable. */
        (void)bki_sys_write(loop->wake._fd, &one, sizeof(one));
    }
    __atomic_sub_fetch(&loop->wakers_count, 1, __ATOMIC_SEQ_CST);
}
