/* sys.h -- every system call of the library.
 *
 * SPDX-License-Identifier: MIT
 *
 * Each returns 0 or a count, or a negative errno, and errno is looked at
 * nowhere else. Nothing is retried here: -EINTR reaches the caller, who treats
 * it as -EAGAIN where the call does not block. In a build with fault injection
 * a test can make each of them fail, see fault.h.
 */
#ifndef BKI_SYS_H
#define BKI_SYS_H

#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/types.h>
#include <sys/uio.h>

struct addrinfo;
struct stat;

/* Memory. NULL without it; free(NULL) is a no-op. */
void *bki_sys_malloc(size_t size);
void *bki_sys_calloc(size_t count, size_t size);
void *bki_sys_realloc(void *memory, size_t size);
void bki_sys_free(void *memory);

/* One page of zeros that reads as zeros again in a forked child, whatever was
 * written to it. -ENOSYS, -EINVAL: the kernel has no such thing. */
int bki_sys_fork_page_new(volatile uint8_t **ret_page);
void bki_sys_fork_page_free(volatile uint8_t *page);

/* Any fd. Linux closes it also when close fails, so it is never repeated. */
ssize_t bki_sys_read(int fd, void *buf, size_t len);
ssize_t bki_sys_write(int fd, const void *buf, size_t len);
ssize_t bki_sys_writev(int fd, const struct iovec *iov, int iov_count);
int bki_sys_close(int fd);
int bki_sys_set_nonblocking(int fd);
int bki_sys_check_open(int fd); /* 0 or -EBADF */
int bki_sys_get_flags(int fd);  /* O_x of open(2) */
int bki_sys_fstat(int fd, struct stat *ret_status);

/* Files by their path. */
int bki_sys_stat(const char *path, struct stat *ret_status);
int bki_sys_unlink(const char *path);
int bki_sys_chmod(const char *path, unsigned mode);

/* Sockets. What makes an fd makes it CLOEXEC and NONBLOCK; what
 * receives or sends never waits, also on a blocking fd, and never raises
 * SIGPIPE. */
int bki_sys_socket(int family, int type, int protocol);
int bki_sys_bind(int fd, const struct sockaddr *address, socklen_t len);
int bki_sys_listen(int fd, int backlog);
int bki_sys_connect(int fd, const struct sockaddr *address, socklen_t len);
int bki_sys_accept(int fd, struct sockaddr *ret_address, socklen_t *len);
void bki_sys_find_direct(void); /* how these two are called: each new loop */
ssize_t bki_sys_recv(int fd, void *buf, size_t len);
ssize_t bki_sys_send(int fd, const void *buf, size_t len);
ssize_t bki_sys_sendmsg(int fd, const struct iovec *iov, int iov_count);

/* Datagrams. address NULL: the one that the socket is connected to. The last
 * two work on several at once and return how many; a failure is told only if
 * it met the first. Linux forgets one that sendmmsg met later, and keeps one
 * of recvmmsg for the next receive. */
ssize_t bki_sys_recvfrom(int fd, void *buf, size_t len,
                         struct sockaddr *ret_address, socklen_t *address_len);
ssize_t bki_sys_sendto(int fd, const void *buf, size_t len,
                       const struct sockaddr *address, socklen_t address_len);
int bki_sys_recvmmsg(int fd, struct mmsghdr *messages, unsigned count);
int bki_sys_sendmmsg(int fd, struct mmsghdr *messages, unsigned count);

int bki_sys_shutdown(int fd, int how);
int bki_sys_getsockname(int fd, struct sockaddr *ret_address, socklen_t *len);
int bki_sys_getpeername(int fd, struct sockaddr *ret_address, socklen_t *len);
int bki_sys_getsockopt(int fd, int level, int name, int *ret_value);
int bki_sys_setsockopt(int fd, int level, int name, int value);

/* Most iovecs that one sendmsg or writev takes. */
#define BKI_IOV_MAX 1024

/* Polling. timeout_ns: UINT64_MAX is for ever. epoll_wait and poll count in
 * milliseconds where the kernel can do no better, and round up. */
int bki_sys_eventfd(void);
int bki_sys_epoll_create(void);
int bki_sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event);
int bki_sys_epoll_wait(int epoll_fd, struct epoll_event *events, int capacity,
                       uint64_t timeout_ns);
int bki_sys_epoll_pwait2(int epoll_fd, struct epoll_event *events, int capacity,
                         uint64_t timeout_ns);
int bki_sys_poll(struct pollfd *fds, size_t count, uint64_t timeout_ns);

/* Names. Results are 0, BK_EAI_x, or a negative errno. */
int bki_sys_getaddrinfo(const char *host, const char *service,
                        const struct addrinfo *hints,
                        struct addrinfo **ret_result);
void bki_sys_freeaddrinfo(struct addrinfo *result);
int bki_sys_getnameinfo(const struct sockaddr *address, socklen_t len,
                        char *ret_host, socklen_t host_len, char *ret_service,
                        socklen_t service_len, int flags);

/* Threads. A new one blocks every signal: they are the embedder's. */
int bki_sys_thread_create(void *(*run)(void *arg), void *arg, bool is_detached,
                          pthread_t *ret_thread);
void bki_sys_thread_join(pthread_t thread);
void bki_sys_thread_detach(pthread_t thread);
void bki_sys_thread_yield(void);
int bki_sys_mutex_init(pthread_mutex_t *mutex);
void bki_sys_mutex_destroy(pthread_mutex_t *mutex);
void bki_sys_mutex_lock(pthread_mutex_t *mutex);
void bki_sys_mutex_unlock(pthread_mutex_t *mutex);

/* Condition variables count time on CLOCK_MONOTONIC. timedwait: -ETIMEDOUT
 * once deadline_ns has passed. */
int bki_sys_cond_init(pthread_cond_t *cond);
void bki_sys_cond_destroy(pthread_cond_t *cond);
void bki_sys_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int bki_sys_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                           uint64_t deadline_ns);
void bki_sys_cond_signal(pthread_cond_t *cond);
void bki_sys_cond_broadcast(pthread_cond_t *cond);

/* Signals. The first two are for a signal's handler, which leaves errno as it
 * was. Blocked is every signal that can be, in the calling thread. */
int bki_sys_get_errno(void);
void bki_sys_set_errno(int code);
int bki_sys_sigaction(int signum, const struct sigaction *action,
                      struct sigaction *ret_old);
/* What it did before, if handler is still the one that was set. Cannot fail
 * for a signal that has been caught. */
void bki_sys_sigaction_back(int signum, void (*handler)(int signum),
                            const struct sigaction *previous);
void bki_sys_block_signals(sigset_t *ret_old);
void bki_sys_restore_signals(const sigset_t *old);
void bki_sys_raise(int signum);

/* Processes. The fds are close-on-exec, and blocking. waitid and waitpid: 1: it
 * has ended; 0: not yet, with WNOHANG. */
int bki_sys_pipe(int ret_fds[2]);
int bki_sys_open(const char *path); /* for reading and writing */
int bki_sys_dup_above(int fd, int fd_min);
int bki_sys_pidfd_open(int pid);
int bki_sys_pidfd_send_signal(int pidfd, int signum);
int bki_sys_kill(int pid, int signum);
int bki_sys_waitid(int pid, int options, int *ret_returncode);
int bki_sys_waitid_pidfd(int pidfd, int options, int *ret_returncode);
int bki_sys_waitpid(int pid, int options, int *ret_returncode);

/* A program to be. Everything is borrowed for the call. */
struct bki_child {
    const char *files; /* to try, each with its NUL; an empty one at the end */
    const char *const *argv;
    const char *const *env; /* NULL: the parent's */
    const char *cwd;        /* NULL: the parent's */
    const int *fds;         /* 3: above 2, or in its place; -1: the parent's */
    bool has_new_session;
    bool has_new_group;
    bool has_open_fds; /* else all above 2 are closed */
};

/* Start it; returns when it has begun, or has not. Where vfork is emulated by
 * fork (qemu-user, valgrind), one that has not looks like one that exits with
 * 127. */
int bki_sys_spawn(const struct bki_child *child, int *ret_pid);

/* Clock and process. These cannot fail. */
uint64_t bki_sys_monotonic_ns(void);
int bki_sys_getpid(void);

/* Never 0. In line where that is one instruction: it is asked at each write. */
static inline uint64_t
bki_sys_thread_id(void)
{
#if defined(__x86_64__) && defined(__GLIBC__) && defined(__GNUC__) &&          \
    __GNUC__ >= 11
    return (uint64_t)(uintptr_t)__builtin_thread_pointer();
#else
    return (uint64_t)(uintptr_t)pthread_self();
#endif
}

#endif
