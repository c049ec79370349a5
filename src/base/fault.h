/* fault.h -- make system calls fail, for tests.
 *
 * SPDX-License-Identifier: MIT
 *
 * Only in a build with -Dfault_injection=true. A sweep over all calls that a
 * scenario makes looks so:
 *
 *     for (unsigned nth = 1;; nth++) {
 *         bki_fault_arm(BKI_SYS_ANY, nth, -ENOMEM);
 *         run_scenario();
 *         if (!bki_fault_disarm()) {
 *             break;   // it made fewer than nth calls
 *         }
 *     }
 *
 * State is one per process, and atomic: wrappers may be called in any thread.
 */
#ifndef BKI_FAULT_H
#define BKI_FAULT_H

#include <stdbool.h>
#include <stddef.h>

/* One for each wrapper that can fail. */
enum bki_sys_call {
    BKI_SYS_ACCEPT,
    BKI_SYS_BIND,
    BKI_SYS_CALLOC,
    BKI_SYS_CLOSE, /* the fd is closed all the same, as the kernel does */
    BKI_SYS_COND_INIT,
    BKI_SYS_CONNECT,
    BKI_SYS_EPOLL_CREATE,
    BKI_SYS_EPOLL_CTL,
    BKI_SYS_EPOLL_PWAIT2,
    BKI_SYS_EPOLL_WAIT,
    BKI_SYS_EVENTFD,
    BKI_SYS_FCNTL,
    BKI_SYS_GETADDRINFO,
    BKI_SYS_GETNAMEINFO,
    BKI_SYS_GETPEERNAME,
    BKI_SYS_GETSOCKNAME,
    BKI_SYS_GETSOCKOPT,
    BKI_SYS_LISTEN,
    BKI_SYS_MADVISE,
    BKI_SYS_MALLOC,
    BKI_SYS_MMAP,
    BKI_SYS_MUTEX_INIT,
    BKI_SYS_POLL,
    BKI_SYS_READ,
    BKI_SYS_REALLOC,
    BKI_SYS_RECV,
    BKI_SYS_SEND,
    BKI_SYS_SENDMSG,
    BKI_SYS_SETSOCKOPT,
    BKI_SYS_SHUTDOWN,
    BKI_SYS_SOCKET,
    BKI_SYS_THREAD_CREATE,
    BKI_SYS_WRITE,
    BKI_SYS_CALLS, /* how many there are */
    BKI_SYS_ANY = BKI_SYS_CALLS,
};

#ifdef BK_FAULT_INJECTION

/* The nth call from now on (1: the next) of this wrapper, or of any of them
 * taken together, fails with this code (negative errno; allocations give
 * NULL, whatever it is). Once only. Resets the counts. */
void bki_fault_arm(enum bki_sys_call call, unsigned nth, int code);

/* The same, but all calls from the nth on fail, until it is disarmed. */
void bki_fault_arm_all(enum bki_sys_call call, unsigned nth, int code);

/* Back to normal, also the limits below. True if a call was made to fail. */
bool bki_fault_disarm(void);

/* Calls since the last arm, which may be a disarmed one. */
unsigned bki_fault_count(enum bki_sys_call call);

/* recv, read, send, write and sendmsg move at most len_max bytes a call;
 * 0: no limit. */
void bki_fault_limit(enum bki_sys_call call, size_t len_max);

/* Allocations of the library that have not been freed. */
size_t bki_fault_live_allocations(void);

/* For sys.c: count allocations up and down. */
void bki_fault_count_allocation(int change);

/* For sys.c: 0, or the code that this call fails with. */
int bki_fault_take(enum bki_sys_call call);
size_t bki_fault_limited(enum bki_sys_call call, size_t len);

#endif

#endif
