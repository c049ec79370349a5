/* signal.h -- signals as callbacks of the loop.
 *
 * SPDX-License-Identifier: MIT
 *
 * A signal that has a handler here is caught by a small function of the
 * library, in whichever thread the kernel delivers it to. That function only
 * hands a callback in, as bk_loop_call_soon_threadsafe() does, and wakes the
 * loop; the callback then runs in the loop's turn and may do anything. It is
 * called once for each time that the signal was delivered, in the order of the
 * first ones. (Signals of the same number that come while one is pending are
 * one to the kernel: POSIX.) What comes while the loop does not run is kept
 * for the next run.
 *
 * A loop has one handler for a signal, and any number of loops may have one for
 * the same: each of them is called. So every loop of a program with a thread
 * for each can be told to end by one SIGTERM.
 *
 * When the last handler of a signal goes, with a loop that is closed at the
 * latest, the signal does again what it did before the first one came, unless
 * the program has changed that itself meanwhile. System calls that the signal
 * interrupts in other code are restarted (SA_RESTART) where the kernel can.
 *
 * In a forked child a signal does what it did before, until a loop of the
 * child's own has a handler: the parent's is never called for it.
 *
 * asyncio: loop.add_signal_handler, loop.remove_signal_handler. signal(7).
 */
#ifndef BECKET_SIGNAL_H
#define BECKET_SIGNAL_H

#include "becket/types.h"

BK_BEGIN_DECLS

/* The signal came. The handler may be removed or replaced, the loop stopped,
 * from inside. Thread: loop. */
typedef void (*bk_signal_cb)(bk_loop *loop, int signum, void *arg);

/* Call callback whenever this signal comes; in place of the loop's handler for
 * it, if there is one. -EINVAL: not a signal's number, or a NULL. -EPERM: no
 * program can catch it (SIGKILL, SIGSTOP), or no loop can answer it, since the
 * instruction that raised it would be repeated for ever (SIGSEGV, SIGBUS,
 * SIGFPE, SIGILL). -EBADF: closed. -ECHILD: a forked child's copy. -ENOMEM.
 * After a failure everything is as before. Thread: loop. */
BK_API int bk_loop_add_signal_handler(bk_loop *loop, int signum,
                                      bk_signal_cb callback, void *arg);

/* 1: removed; what came and was not yet told is dropped. 0: there was none,
 * as in a closed loop. -EINVAL: as above. Thread: loop. */
BK_API int bk_loop_remove_signal_handler(bk_loop *loop, int signum);

BK_END_DECLS

#endif
