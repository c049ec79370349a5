/* waiter.c -- threads that wait for a child.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * Who waits for good (reaps) ends the life of a process id, so there is one at
 * a time. A waiter's thread only looks (WNOWAIT) and sends its handle: the
 * loop's thread reaps, and may send signals until then. A waiter that is freed
 * before hands the child over to its thread, which then reaps, and frees the
 * waiter; state says who was first.
 *
 * Where waitid(2) is refused there is no looking: the thread reaps, with
 * waitpid(2), and says so at once, since the id is no longer the child's.
 */
#include <errno.h>
#include <sys/wait.h>

#include "base/sys.h"
#include "loop/internal.h"
#include "process/internal.h"

enum { WAITING, ENDED, ABANDONED };

struct bki_waiter {
    bk_handle handle; /* first */
    bk_loop *loop;    /* borrowed until it is abandoned */
    void *arg;
    pthread_t thread;
    int pid;
    uint32_t state; /* atomic; the thread or the owner changes it, once */
    int returncode; /* once is_reaped */
    bool is_reaped; /* atomic; by the thread, before it has ended */
};

static bool
is_refused(int r)
{
    return r < 0 && r != -ECHILD && r != -EINTR;
}

int
bki_reap(int pid, int pidfd, int options, int *ret_returncode)
{
    int r = -EINVAL;

    if (pidfd >= 0) {
        r = bki_sys_waitid_pidfd(pidfd, WEXITED | options, ret_returncode);
    }
    if (r == -EINVAL) { /* FIXME(kernel 5.4): it knows pidfds. */
        r = bki_sys_waitid(pid, WEXITED | options, ret_returncode);
    }
    if (is_refused(r)) {
        r = bki_sys_waitpid(pid, options, ret_returncode);
    }
    return r;
}

static int
reap_at_its_end(int pid, int *ret_returncode)
{
    int r;

    do {
        r = bki_reap(pid, -1, 0, ret_returncode);
    } while (r == -EINTR);
    return r;
}

static void
wait_for_end(struct bki_waiter *waiter)
{
    int returncode;
    int r;

    do {
        r = bki_sys_waitid(waiter->pid, WEXITED | WNOWAIT, &returncode);
    } while (r == -EINTR);
    if (is_refused(r) && reap_at_its_end(waiter->pid, &returncode) > 0) {
        waiter->returncode = returncode;
        __atomic_store_n(&waiter->is_reaped, true, __ATOMIC_RELEASE);
    }
}

static bool
change_state(struct bki_waiter *waiter, uint32_t state)
{
    uint32_t waiting = WAITING;

    return __atomic_compare_exchange_n(&waiter->state, &waiting, state, false,
                                       __ATOMIC_ACQ_REL, __ATOMIC_ACQUIRE);
}

static void *
run_waiter(void *arg)
{
    struct bki_waiter *waiter = arg;
    int returncode;

    wait_for_end(waiter);
    if (change_state(waiter, ENDED)) {
        (void)bk_loop_schedule_threadsafe(waiter->loop, &waiter->handle);
        return NULL;
    }
    if (!waiter->is_reaped) {
        (void)reap_at_its_end(waiter->pid, &returncode);
    }
    bki_sys_free(waiter);
    return NULL;
}

int
bki_waiter_new(bk_loop *loop, int pid, bk_handle_cb on_ended, void *arg,
               struct bki_waiter **ret_waiter)
{
    struct bki_waiter *waiter = bki_sys_calloc(1, sizeof(*waiter));
    int r;

    if (waiter == NULL) {
        return -ENOMEM;
    }
    bk_handle_init(&waiter->handle, on_ended);
    waiter->handle._flags = BKI_HANDLE_IS_IO;
    waiter->loop = loop;
    waiter->arg = arg;
    waiter->pid = pid;
    r = bki_sys_thread_create(run_waiter, waiter, false, &waiter->thread);
    if (r < 0) {
        bki_sys_free(waiter);
        return r;
    }
    *ret_waiter = waiter;
    return 0;
}

void *
bki_waiter_arg(bk_handle *handle)
{
    return ((struct bki_waiter *)(void *)handle)->arg;
}

int
bki_waiter_get_reaped(const struct bki_waiter *waiter, int *ret_returncode)
{
    if (!__atomic_load_n(&waiter->is_reaped, __ATOMIC_ACQUIRE)) {
        return 0;
    }
    *ret_returncode = waiter->returncode;
    return 1;
}

bool
bki_waiter_free(struct bki_waiter *waiter)
{
    bk_loop *loop = waiter->loop;
    pthread_t thread = waiter->thread; /* which frees what it is left with */
    bool is_reaped;

    if (!bki_loop_is_forked(loop)) { /* else the thread is the parent's */
        if (change_state(waiter, ABANDONED)) {
            bki_sys_thread_detach(thread);
            return true;
        }
        bki_sys_thread_join(thread);
    }
    bki_inbox_take(loop);
    (void)bki_ready_remove(loop, &waiter->handle);
    is_reaped = waiter->is_reaped;
    bki_sys_free(waiter);
    return is_reaped;
}

static void *
reap(void *arg)
{
    int returncode;

    (void)reap_at_its_end((int)(intptr_t)arg, &returncode);
    return NULL;
}

void
bki_reap_later(int pid, bool is_killed)
{
    int returncode;
    int r = bki_reap(pid, -1, WNOHANG, &returncode);

    if (r > 0 || r == -ECHILD) {
        return;
    }
    r = bki_sys_thread_create(reap, (void *)(intptr_t)pid, true, NULL);
    if (r < 0 && is_killed) {
        (void)reap_at_its_end(pid, &returncode);
    }
}
