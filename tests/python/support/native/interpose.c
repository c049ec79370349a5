/* interpose.c -- make the C library's system calls fail, for tests.
 *
 * SPDX-License-Identifier: MIT
 *
 * Preloaded (LD_PRELOAD) into a test's process it stands before the C library,
 * so that every call of the armed thread passes through here, whoever makes
 * it: becket's core, the interpreter's socket module, CPython's own loop. The
 * nth call of one kind, or of all kinds taken together, then fails with an
 * errno, without being made; all others are made as ever.
 *
 * What a failing call has done all the same follows the kernel: close() has
 * closed the fd, and an interrupted connect() goes on.
 */
#include <dlfcn.h>
#include <errno.h>
#include <poll.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <time.h>

#define EXPORT __attribute__((visibility("default")))

#define CALLS(X)                                                               \
    X(accept)                                                                  \
    X(bind)                                                                    \
    X(close)                                                                   \
    X(connect)                                                                 \
    X(dup)                                                                     \
    X(epoll_add)                                                               \
    X(epoll_create)                                                            \
    X(epoll_del)                                                               \
    X(epoll_mod)                                                               \
    X(epoll_wait)                                                              \
    X(eventfd)                                                                 \
    X(fcntl)                                                                   \
    X(getpeername)                                                             \
    X(getsockname)                                                             \
    X(getsockopt)                                                              \
    X(ioctl)                                                                   \
    X(kill)                                                                    \
    X(listen)                                                                  \
    X(lseek)                                                                   \
    X(pidfd_open)                                                              \
    X(pidfd_send_signal)                                                       \
    X(poll)                                                                    \
    X(read)                                                                    \
    X(recv)                                                                    \
    X(recvfrom)                                                                \
    X(recvmmsg)                                                                \
    X(recvmsg)                                                                 \
    X(select)                                                                  \
    X(send)                                                                    \
    X(sendfile)                                                                \
    X(sendmmsg)                                                                \
    X(sendmsg)                                                                 \
    X(sendto)                                                                  \
    X(setsockopt)                                                              \
    X(shutdown)                                                                \
    X(sigaction)                                                               \
    X(socket)                                                                  \
    X(socketpair)                                                              \
    X(waitid)                                                                  \
    X(waitpid)                                                                 \
    X(write)

#define ENUMERATOR(name) CALL_##name,
#define NAME_OF(name)    #name,

enum call {
    CALLS(ENUMERATOR) /* each with its comma */
    CALLS_COUNT,
    CALL_ANY = CALLS_COUNT,
};

enum { LOG_MAX = 512 };

struct entry {
    int call;
    int fd;
    int error; /* 0: it was let through */
};

static struct {
    unsigned counts[CALLS_COUNT + 1];
    int call;
    unsigned nth; /* 0: none fails */
    int error;
    bool is_sticky; /* all from the nth on */
    unsigned fired;
    unsigned logged;
    struct entry log[LOG_MAX];
} fault;

/* Only the thread that armed is counted. */
static __thread bool is_counted;

/* The errno that this call fails with, or 0. */
static int
take(enum call call, int fd)
{
    unsigned of_call, of_all, seen;
    bool is_meant;
    int error = 0;

    if (!is_counted) {
        return 0;
    }
    of_call = ++fault.counts[call];
    of_all = ++fault.counts[CALL_ANY];
    is_meant = fault.call == CALL_ANY || fault.call == (int)call;
    seen = fault.call == CALL_ANY ? of_all : of_call;
    if (fault.nth != 0 && is_meant &&
        (fault.is_sticky ? seen >= fault.nth : seen == fault.nth)) {
        error = fault.error;
        fault.fired++;
    }
    if (fault.logged < LOG_MAX) {
        fault.log[fault.logged++] = (struct entry){(int)call, fd, error};
    }
    return error;
}

/* --- for the test --- */

/* Count the calls of this thread from now on. nth 0: let them all through. */
EXPORT void
interpose_arm(int call, unsigned nth, int error, int is_sticky)
{
    for (int i = 0; i <= CALLS_COUNT; i++) {
        fault.counts[i] = 0;
    }
    fault.call = call;
    fault.nth = nth;
    fault.error = error;
    fault.is_sticky = is_sticky != 0;
    fault.fired = 0;
    fault.logged = 0;
    is_counted = true;
}

/* Stop counting; how many calls were made to fail. */
EXPORT unsigned
interpose_disarm(void)
{
    is_counted = false;
    fault.nth = 0;
    return fault.fired;
}

/* What the test does for itself is not counted. Whether it was before. */
EXPORT int
interpose_pause(int is_paused)
{
    bool was_counted = is_counted;

    is_counted = is_paused == 0;
    return was_counted;
}

EXPORT unsigned
interpose_count(int call)
{
    return fault.counts[call];
}

/* The name of a call, or NULL behind the last. */
EXPORT const char *
interpose_name(int call)
{
    static const char *const names[] = {CALLS(NAME_OF)};

    return call >= 0 && call < CALLS_COUNT ? names[call] : NULL;
}

/* Call number i since the last arm; false behind the last. */
EXPORT int
interpose_log(unsigned i, struct entry *ret_entry)
{
    if (i >= fault.logged) {
        return 0;
    }
    *ret_entry = fault.log[i];
    return 1;
}

/* --- the calls --- */

/* The function of the same name behind this library. */
#define REAL(name)                                                             \
    static __typeof__(name) *real;                                             \
                                                                               \
    if (real == NULL) {                                                        \
        *(void **)(void *)&real = dlsym(RTLD_NEXT, #name);                     \
    }

#define WRAP(result, name, kind, fd, parameters, arguments)                    \
    EXPORT result name parameters;                                             \
    EXPORT result name parameters                                              \
    {                                                                          \
        int error = take(CALL_##kind, fd);                                     \
        REAL(name)                                                             \
                                                                               \
        if (error != 0) {                                                      \
            errno = error;                                                     \
            return -1;                                                         \
        }                                                                      \
        return real arguments;                                                 \
    }                                                                          \
    EXPORT result name parameters

WRAP(int, accept, accept, fd,
     (int fd, struct sockaddr *address, socklen_t *len), (fd, address, len));
WRAP(int, accept4, accept, fd,
     (int fd, struct sockaddr *address, socklen_t *len, int flags),
     (fd, address, len, flags));
WRAP(int, bind, bind, fd,
     (int fd, const struct sockaddr *address, socklen_t len),
     (fd, address, len));
WRAP(int, dup, dup, fd, (int fd), (fd));
WRAP(int, epoll_create1, epoll_create, flags, (int flags), (flags));
WRAP(int, epoll_wait, epoll_wait, fd,
     (int fd, struct epoll_event *events, int count, int timeout_ms),
     (fd, events, count, timeout_ms));
WRAP(int, eventfd, eventfd, flags, (unsigned count, int flags), (count, flags));
WRAP(int, getpeername, getpeername, fd,
     (int fd, struct sockaddr *address, socklen_t *len), (fd, address, len));
WRAP(int, getsockname, getsockname, fd,
     (int fd, struct sockaddr *address, socklen_t *len), (fd, address, len));
WRAP(int, getsockopt, getsockopt, fd,
     (int fd, int level, int name, void *value, socklen_t *len),
     (fd, level, name, value, len));
WRAP(int, kill, kill, -1, (pid_t pid, int signum), (pid, signum));
WRAP(int, listen, listen, fd, (int fd, int backlog), (fd, backlog));
WRAP(off_t, lseek, lseek, fd, (int fd, off_t offset, int whence),
     (fd, offset, whence));
WRAP(off_t, lseek64, lseek, fd, (int fd, off_t offset, int whence),
     (fd, offset, whence));
WRAP(int, poll, poll, -1, (struct pollfd * fds, nfds_t count, int timeout_ms),
     (fds, count, timeout_ms));
WRAP(int, ppoll, poll, -1,
     (struct pollfd * fds, nfds_t count, const struct timespec *timeout,
      const sigset_t *mask),
     (fds, count, timeout, mask));
WRAP(ssize_t, read, read, fd, (int fd, void *buf, size_t len), (fd, buf, len));
WRAP(ssize_t, recv, recv, fd, (int fd, void *buf, size_t len, int flags),
     (fd, buf, len, flags));
WRAP(ssize_t, recvfrom, recvfrom, fd,
     (int fd, void *buf, size_t len, int flags, struct sockaddr *address,
      socklen_t *address_len),
     (fd, buf, len, flags, address, address_len));
WRAP(int, recvmmsg, recvmmsg, fd,
     (int fd, struct mmsghdr *messages, unsigned count, int flags,
      struct timespec *timeout),
     (fd, messages, count, flags, timeout));
WRAP(ssize_t, recvmsg, recvmsg, fd, (int fd, struct msghdr *message, int flags),
     (fd, message, flags));
WRAP(int, select, select, -1,
     (int count, fd_set *readable, fd_set *writable, fd_set *others,
      struct timeval *timeout),
     (count, readable, writable, others, timeout));
WRAP(ssize_t, send, send, fd, (int fd, const void *buf, size_t len, int flags),
     (fd, buf, len, flags));
WRAP(ssize_t, sendfile, sendfile, fd,
     (int fd, int from_fd, off_t *offset, size_t len),
     (fd, from_fd, offset, len));
WRAP(ssize_t, sendfile64, sendfile, fd,
     (int fd, int from_fd, off_t *offset, size_t len),
     (fd, from_fd, offset, len));
WRAP(int, sendmmsg, sendmmsg, fd,
     (int fd, struct mmsghdr *messages, unsigned count, int flags),
     (fd, messages, count, flags));
WRAP(ssize_t, sendmsg, sendmsg, fd,
     (int fd, const struct msghdr *message, int flags), (fd, message, flags));
WRAP(ssize_t, sendto, sendto, fd,
     (int fd, const void *buf, size_t len, int flags,
      const struct sockaddr *address, socklen_t address_len),
     (fd, buf, len, flags, address, address_len));
WRAP(int, setsockopt, setsockopt, fd,
     (int fd, int level, int name, const void *value, socklen_t len),
     (fd, level, name, value, len));
WRAP(int, shutdown, shutdown, fd, (int fd, int how), (fd, how));
WRAP(int, socket, socket, -1, (int family, int type, int protocol),
     (family, type, protocol));
WRAP(int, socketpair, socketpair, -1,
     (int family, int type, int protocol, int fds[2]),
     (family, type, protocol, fds));
WRAP(int, waitid, waitid, -1,
     (idtype_t kind, id_t id, siginfo_t *info, int options),
     (kind, id, info, options));
WRAP(pid_t, waitpid, waitpid, -1, (pid_t pid, int *status, int options),
     (pid, status, options));
WRAP(ssize_t, write, write, fd, (int fd, const void *buf, size_t len),
     (fd, buf, len));

static enum call
call_of_op(int op)
{
    switch (op) {
    case EPOLL_CTL_ADD:
        return CALL_epoll_add;
    case EPOLL_CTL_MOD:
        return CALL_epoll_mod;
    default:
        return CALL_epoll_del;
    }
}

EXPORT int epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event);

EXPORT int
epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event)
{
    int error = take(call_of_op(op), fd);
    REAL(epoll_ctl)

    if (error != 0) {
        errno = error;
        return -1;
    }
    return real(epoll_fd, op, fd, event);
}

/* A question is always answered: signal.siginterrupt() relies on it. */
EXPORT int sigaction(int signum, const struct sigaction *action,
                     struct sigaction *old);

EXPORT int
sigaction(int signum, const struct sigaction *action, struct sigaction *old)
{
    int error = action == NULL ? 0 : take(CALL_sigaction, -1);
    REAL(sigaction)

    if (error != 0) {
        errno = error;
        return -1;
    }
    return real(signum, action, old);
}

/* Linux closes the fd whatever it says. */
EXPORT int close(int fd);

EXPORT int
close(int fd)
{
    int error = take(CALL_close, fd);
    int r;
    REAL(close)

    r = real(fd);
    if (error != 0) {
        errno = error;
        return -1;
    }
    return r;
}

EXPORT int connect(int fd, const struct sockaddr *address, socklen_t len);

EXPORT int
connect(int fd, const struct sockaddr *address, socklen_t len)
{
    int error = take(CALL_connect, fd);
    REAL(connect)

    if (error == EINTR) {
        (void)real(fd, address, len);
    }
    if (error != 0) {
        errno = error;
        return -1;
    }
    return real(fd, address, len);
}

/* Variadic in the header; one argument of register size is all that any
 * command takes. */
#define WRAP_VARIADIC(name, request_type)                                      \
    EXPORT int name(int fd, request_type request, ...);                        \
                                                                               \
    EXPORT int name(int fd, request_type request, ...)                         \
    {                                                                          \
        va_list arguments;                                                     \
        long argument;                                                         \
        int error;                                                             \
        REAL(name)                                                             \
                                                                               \
        va_start(arguments, request);                                          \
        argument = va_arg(arguments, long);                                    \
        va_end(arguments);                                                     \
        error = take(CALL_##name, fd);                                         \
        if (error != 0) {                                                      \
            errno = error;                                                     \
            return -1;                                                         \
        }                                                                      \
        return real(fd, request, argument);                                    \
    }                                                                          \
    EXPORT int name(int fd, request_type request, ...)

extern int ioctl(int fd, unsigned long request, ...);
extern int fcntl(int fd, int command, ...);
WRAP_VARIADIC(ioctl, unsigned long);
WRAP_VARIADIC(fcntl, int);

extern int fcntl64(int fd, int command, ...);

EXPORT int
fcntl64(int fd, int command, ...)
{
    va_list arguments;
    long argument;

    va_start(arguments, command);
    argument = va_arg(arguments, long);
    va_end(arguments);
    return fcntl(fd, command, argument);
}

/* Older headers have no names for these; the numbers are everybody's. */
enum { CALL_NUMBER_PIDFD_SEND_SIGNAL = 424, CALL_NUMBER_PIDFD_OPEN = 434 };

/* The errno that a call by its number fails with, or 0. */
static int
take_number(long number, int fd)
{
    switch (number) {
    case CALL_NUMBER_PIDFD_OPEN:
        return take(CALL_pidfd_open, -1);
    case CALL_NUMBER_PIDFD_SEND_SIGNAL:
        return take(CALL_pidfd_send_signal, fd);
#ifdef SYS_epoll_pwait2
    case SYS_epoll_pwait2:
        return take(CALL_epoll_wait, fd);
#endif
    default:
        return 0;
    }
}

/* The way to epoll_pwait2() and pidfds, which not every C library has. */
EXPORT long syscall(long number, ...);

EXPORT long
syscall(long number, ...)
{
    va_list arguments;
    long a[6];
    int error;
    REAL(syscall)

    va_start(arguments, number);
    for (int i = 0; i < 6; i++) {
        a[i] = va_arg(arguments, long);
    }
    va_end(arguments);
    error = take_number(number, (int)a[0]);
    if (error != 0) {
        errno = error;
        return -1;
    }
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
