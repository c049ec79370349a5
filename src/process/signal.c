/* signal.c -- signals as callbacks of the loop.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A handler of the kernel's gets nothing but a number, so it has to find the
 * loops through a variable of the process: the table below, the one global
 * state of the library, as dispositions are the process's own. Everything in
 * it is about who is to be called; all else is the loop's.
 *
 * Catching. on_signal() walks the list of that signal's catchers. It may run in
 * any thread, in the middle of anything, and therefore only does what is
 * lock-free: it counts up and sends the catcher's handle to the loop's inbox,
 * unless the handle is under way already; the callback then sends it again as
 * long as there is something left to count down. Count and handle's state are
 * sequentially consistent, so that either the sender finds the handle idle or
 * the callback finds the count.
 *
 * Changing. Who changes a list holds the table, with all signals blocked so
 * that no handler runs in between in this thread. Catchers are linked before
 * the disposition is set, and unlinked after it was set back; their memory is
 * freed when is_busy says that no handler is looking at that list any more.
 *
 * Forking. The child has the parent's dispositions, lists and counts, and
 * perhaps a table that is held by a thread which it does not have. on_signal()
 * sees by the process id that the table is not its process's, touches nothing,
 * gives the signal back to what it did before, and raises it again. The first
 * one to hold the table in the child takes it over, and empties it.
 */
#include "becket/signal.h"

#include <assert.h>
#include <errno.h>
#include <signal.h>

#include "base/sys.h"
#include "loop/internal.h"

/* One loop's handler of one signal. */
struct bki_signal {
    bk_handle handle; /* first; sent by on_signal() */
    bk_loop *loop;    /* borrowed */
    struct bki_signal *next_of_loop;
    struct bki_signal *next; /* atomic: in the table */
    uint32_t count;          /* atomic: deliveries not yet told */
    int signum;
    bk_signal_cb callback;
    void *arg;
};

struct source {
    struct bki_signal *first;  /* atomic: who catches it */
    uint32_t busy_count;       /* atomic: handlers that look at the list */
    struct sigaction previous; /* what it did before */
};

enum { SIGNALS = 65 }; /* signal numbers are 1 to 64 */

static struct {
    int holder; /* atomic: process id of who changes it, or 0 */
    int pid;    /* atomic: the process that it is about */
    struct source sources[SIGNALS];
} table;

static void
deliver(struct bki_signal *catcher)
{
    __atomic_add_fetch(&catcher->count, 1, __ATOMIC_SEQ_CST);
    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    (void)bk_loop_schedule_threadsafe(catcher->loop, &catcher->handle);
}

static void
deliver_to_all(struct source *source)
{
    struct bki_signal *catcher;

    __atomic_add_fetch(&source->busy_count, 1, __ATOMIC_SEQ_CST);
    catcher = __atomic_load_n(&source->first, __ATOMIC_SEQ_CST);
    while (catcher != NULL) {
        deliver(catcher);
        catcher = __atomic_load_n(&catcher->next, __ATOMIC_SEQ_CST);
    }
    __atomic_sub_fetch(&source->busy_count, 1, __ATOMIC_SEQ_CST);
}

static void on_signal(int signum);

static void
give_back(int signum)
{
    bki_sys_sigaction_back(signum, on_signal, &table.sources[signum].previous);
}

/* The kernel's handler. */
static void
on_signal(int signum)
{
    int saved = bki_sys_get_errno();

    if (__atomic_load_n(&table.pid, __ATOMIC_SEQ_CST) == bki_sys_getpid()) {
        deliver_to_all(&table.sources[signum]);
    }
    else { /* a forked child; raised anew when this handler has returned */
        give_back(signum);
        bki_sys_raise(signum);
    }
    bki_sys_set_errno(saved);
}

static int
catch_signal(int signum)
{
    struct sigaction action = {.sa_flags = SA_RESTART | SA_ONSTACK};
    struct sigaction old;
    int r;

    action.sa_handler = on_signal;
    (void)sigfillset(&action.sa_mask);
    r = bki_sys_sigaction(signum, &action, &old);
    if (r == 0 && old.sa_handler != on_signal) {
        table.sources[signum].previous = old;
    }
    return r;
}

/* What a forked child has inherited is about the parent. */
static void
take_over(int pid)
{
    for (int signum = 1; signum < SIGNALS; signum++) {
        struct source *source = &table.sources[signum];

        if (source->first != NULL) {
            give_back(signum);
        }
        *source = (struct source){0};
    }
    __atomic_store_n(&table.pid, pid, __ATOMIC_SEQ_CST);
}

static void
hold_table(sigset_t *ret_mask)
{
    int pid = bki_sys_getpid();
    int holder;

    bki_sys_block_signals(ret_mask);
    for (;;) {
        holder = 0;
        if (__atomic_compare_exchange_n(&table.holder, &holder, pid, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            break;
        }
        /* Held in the parent, when it forked. */
        if (holder != pid &&
            __atomic_compare_exchange_n(&table.holder, &holder, pid, false,
                                        __ATOMIC_SEQ_CST, __ATOMIC_SEQ_CST)) {
            break;
        }
        bki_sys_thread_yield();
    }
    if (table.pid != pid) {
        take_over(pid);
    }
}

static void
let_go_of_table(const sigset_t *mask)
{
    __atomic_store_n(&table.holder, 0, __ATOMIC_SEQ_CST);
    bki_sys_restore_signals(mask);
}

/* The parent's list does not have a forked child's copy. */
static void
unlink_catcher(struct source *source, struct bki_signal *catcher)
{
    struct bki_signal **link = &source->first;

    while (*link != NULL && *link != catcher) {
        link = &(*link)->next;
    }
    if (*link == catcher) {
        __atomic_store_n(link, catcher->next, __ATOMIC_SEQ_CST);
    }
    while (__atomic_load_n(&source->busy_count, __ATOMIC_SEQ_CST) != 0) {
        bki_sys_thread_yield(); /* for as long as a handler takes */
    }
}

static int
begin_catching(struct bki_signal *catcher)
{
    struct source *source = &table.sources[catcher->signum];
    sigset_t mask;
    int r;

    hold_table(&mask);
    catcher->next = source->first;
    __atomic_store_n(&source->first, catcher, __ATOMIC_SEQ_CST);
    r = catch_signal(catcher->signum);
    if (r < 0) {
        unlink_catcher(source, catcher);
    }
    let_go_of_table(&mask);
    return r;
}

static void
end_catching(struct bki_signal *catcher)
{
    struct source *source = &table.sources[catcher->signum];
    sigset_t mask;

    hold_table(&mask);
    if (source->first == catcher && catcher->next == NULL) {
        give_back(catcher->signum);
    }
    unlink_catcher(source, catcher);
    let_go_of_table(&mask);
}

/* Nothing sends its handle any more. */
static void
free_catcher(struct bki_signal *catcher)
{
    bki_inbox_take(catcher->loop);
    (void)bki_ready_remove(catcher->loop, &catcher->handle);
    bki_sys_free(catcher);
}

static struct bki_signal **
find(bk_loop *loop, int signum)
{
    struct bki_signal **link = &loop->signals;

    while (*link != NULL && (*link)->signum != signum) {
        link = &(*link)->next_of_loop;
    }
    return link;
}

static void
remove_first(struct bki_signal **link)
{
    struct bki_signal *catcher = *link;

    *link = catcher->next_of_loop;
    end_catching(catcher);
    free_catcher(catcher);
}

static void
free_signals(bk_loop *loop)
{
    while (loop->signals != NULL) {
        remove_first(&loop->signals);
    }
}

/* Once for each delivery; the rest follows in later turns. */
static void
tell(bk_handle *handle)
{
    struct bki_signal *catcher = (struct bki_signal *)(void *)handle;

    __atomic_thread_fence(__ATOMIC_SEQ_CST);
    if (__atomic_sub_fetch(&catcher->count, 1, __ATOMIC_SEQ_CST) > 0) {
        (void)bk_loop_schedule_threadsafe(catcher->loop, handle);
    }
    catcher->callback(catcher->loop, catcher->signum, catcher->arg);
}

static int
check_signal(int signum)
{
    switch (signum) {
    case SIGKILL:
    case SIGSTOP:
    case SIGSEGV:
    case SIGBUS:
    case SIGFPE:
    case SIGILL:
        return -EPERM;
    default:
        return signum > 0 && signum < SIGNALS ? 0 : -EINVAL;
    }
}

static int
check(const bk_loop *loop, int signum, bk_signal_cb callback)
{
    if (loop == NULL || callback == NULL) {
        return -EINVAL;
    }
    if (loop->is_closed) {
        return -EBADF;
    }
    return bki_loop_is_forked(loop) ? -ECHILD : check_signal(signum);
}

static int
add_catcher(bk_loop *loop, int signum, bk_signal_cb callback, void *arg)
{
    struct bki_signal *catcher = bki_sys_calloc(1, sizeof(*catcher));
    int r;

    if (catcher == NULL) {
        return -ENOMEM;
    }
    bk_handle_init(&catcher->handle, tell);
    catcher->handle._flags = BKI_HANDLE_IS_IO;
    catcher->loop = loop;
    catcher->signum = signum;
    catcher->callback = callback;
    catcher->arg = arg;
    r = begin_catching(catcher);
    if (r < 0) {
        bki_sys_free(catcher);
        return r;
    }
    catcher->next_of_loop = loop->signals;
    loop->signals = catcher;
    loop->free_signals = free_signals;
    return 0;
}

int
bk_loop_add_signal_handler(bk_loop *loop, int signum, bk_signal_cb callback,
                           void *arg)
{
    struct bki_signal *catcher;
    int r = check(loop, signum, callback);

    if (r < 0) {
        return r;
    }
    catcher = *find(loop, signum);
    if (catcher == NULL) {
        return add_catcher(loop, signum, callback, arg);
    }
    catcher->callback = callback;
    catcher->arg = arg;
    return 0;
}

int
bk_loop_remove_signal_handler(bk_loop *loop, int signum)
{
    struct bki_signal **link;

    if (loop == NULL || check_signal(signum) == -EINVAL) {
        return -EINVAL;
    }
    link = find(loop, signum);
    if (*link == NULL) {
        return 0;
    }
    remove_first(link);
    return 1;
}
