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

/* One for each wrapper that can fail. CLOSE: the fd is closed all the same, as
 * the kernel does. */
#define BKI_SYS_CALL_NAMES(X)                                                  \
    X(ACCEPT)                                                                  \
    X(BIND)                                                                    \
    X(CALLOC)                                                                  \
    X(CHDIR)                                                                   \
    X(CHMOD)                                                                   \
    X(CLOSE)                                                                   \
    X(CLOSE_RANGE)                                                             \
    X(COND_INIT)                                                               \
    X(CONNECT)                                                                 \
    X(DUP)                                                                     \
    X(EPOLL_CREATE)                                                            \
    X(EPOLL_CTL)                                                               \
    X(EPOLL_PWAIT2)                                                            \
    X(EPOLL_WAIT)                                                              \
    X(EVENTFD)                                                                 \
    X(EXECVE)                                                                  \
    X(FCNTL)                                                                   \
    X(FSTAT)                                                                   \
    X(GETADDRINFO)                                                             \
    X(GETNAMEINFO)                                                             \
    X(GETPEERNAME)                                                             \
    X(GETSOCKNAME)                                                             \
    X(GETSOCKOPT)                                                              \
    X(KILL)                                                                    \
    X(LISTEN)                                                                  \
    X(MADVISE)                                                                 \
    X(MALLOC)                                                                  \
    X(MMAP)                                                                    \
    X(MUTEX_INIT)                                                              \
    X(OPEN)                                                                    \
    X(PIDFD_OPEN)                                                              \
    X(PIDFD_SEND_SIGNAL)                                                       \
    X(PIPE)                                                                    \
    X(POLL)                                                                    \
    X(READ)                                                                    \
    X(REALLOC)                                                                 \
    X(RECV)                                                                    \
    X(RECVFROM)                                                                \
    X(RECVMMSG)                                                                \
    X(SEND)                                                                    \
    X(SENDMMSG)                                                                \
    X(SENDMSG)                                                                 \
    X(SENDTO)                                                                  \
    X(SETPGID)                                                                 \
    X(SETSID)                                                                  \
    X(SETSOCKOPT)                                                              \
    X(SHUTDOWN)                                                                \
    X(SIGACTION)                                                               \
    X(SOCKET)                                                                  \
    X(STAT)                                                                    \
    X(THREAD_CREATE)                                                           \
    X(UNLINK)                                                                  \
    X(VFORK)                                                                   \
    X(WAITID)                                                                  \
    X(WAITID_PIDFD)                                                            \
    X(WAITPID)                                                                 \
    X(WRITE)                                                                   \
    X(WRITEV)

#define BKI_SYS_ENUMERATOR(name) BKI_SYS_##name,

enum bki_sys_call {
    BKI_SYS_CALL_NAMES(BKI_SYS_ENUMERATOR) /* each with its comma */
    BKI_SYS_CALLS,                         /* how many there are */
    BKI_SYS_ANY = BKI_SYS_CALLS,
};

#ifdef BK_FAULT_INJECTION

/* Exported from the Python extension too, where a test finds them by name. */
#    define BKI_FAULT_API __attribute__((visibility("default")))

/* "ACCEPT" and so on; NULL for what is no call. */
BKI_FAULT_API const char *bki_fault_name(unsigned call);

/* The nth call from now on (1: the next) of this wrapper, or of any of them
 * taken together, fails with this code (negative errno; allocations give
 * NULL, whatever it is). Once only. Resets the counts. */
BKI_FAULT_API void bki_fault_arm(enum bki_sys_call call, unsigned nth,
                                 int code);

/* The same, but all calls from the nth on fail, until it is disarmed. */
BKI_FAULT_API void bki_fault_arm_all(enum bki_sys_call call, unsigned nth,
                                     int code);

/* Back to normal, also the limits below. True if a call was made to fail. */
BKI_FAULT_API bool bki_fault_disarm(void);

/* Calls since the last arm, which may be a disarmed one. */
BKI_FAULT_API unsigned bki_fault_count(enum bki_sys_call call);

/* recv, read, send, write, sendmsg and writev move at most len_max bytes a
 * call, recvmmsg and sendmmsg as many datagrams; 0: no limit. */
BKI_FAULT_API void bki_fault_limit(enum bki_sys_call call, size_t len_max);

/* Allocations of the library that have not been freed. */
BKI_FAULT_API size_t bki_fault_live_allocations(void);

/* For sys.c: count allocations up and down. */
void bki_fault_count_allocation(int change);

/* For sys.c: 0, or the code that this call fails with. */
int bki_fault_take(enum bki_sys_call call);
size_t bki_fault_limited(enum bki_sys_call call, size_t len);

#endif

#endif
