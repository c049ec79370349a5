/* sys.c -- every system call of the library.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/sys.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <sched.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "becket/error.h"

#include "base/sys_call.h"

#define NS_PER_S  UINT64_C(1000000000)
#define NS_PER_MS UINT64_C(1000000)

/* A duration for the kernel, whose seconds are signed. */
static struct timespec
timespec_of(uint64_t ns)
{
    return (struct timespec){
        .tv_sec = (time_t)(ns / NS_PER_S),
        .tv_nsec = (long)(ns % NS_PER_S),
    };
}

/* Rounded up, since a wait that ends early finds no timer due and spins. */
static int
milliseconds_of(uint64_t ns)
{
    uint64_t ms;

    if (ns == UINT64_MAX) {
        return -1;
    }
    ms = ns / NS_PER_MS + (ns % NS_PER_MS != 0);
    return ms > INT_MAX ? INT_MAX : (int)ms;
}

/* Only a build with fault injection counts: change is 1 or -1. */
static inline void *
counted(void *memory, int change)
{
#ifdef BK_FAULT_INJECTION
    if (memory != NULL) {
        bki_fault_count_allocation(change);
    }
#else
    (void)change;
#endif
    return memory;
}

void *
bki_sys_malloc(size_t size)
{
    FAULT_POINT_NULL(BKI_SYS_MALLOC);
    return counted(malloc(size), 1);
}

void *
bki_sys_calloc(size_t count, size_t size)
{
    FAULT_POINT_NULL(BKI_SYS_CALLOC);
    return counted(calloc(count, size), 1);
}

void *
bki_sys_realloc(void *memory, size_t size)
{
    FAULT_POINT_NULL(BKI_SYS_REALLOC);
    if (memory == NULL) {
        return counted(malloc(size), 1);
    }
    return realloc(memory, size);
}

void
bki_sys_free(void *memory)
{
    free(counted(memory, -1));
}

static int
wipe_on_fork(void *page, size_t size)
{
    FAULT_POINT(BKI_SYS_MADVISE);
    return result_of(madvise(page, size, MADV_WIPEONFORK));
}

int
bki_sys_fork_page_new(volatile uint8_t **ret_page)
{
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page;
    int r;

    FAULT_POINT(BKI_SYS_MMAP);
    page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
                -1, 0);
    if (page == MAP_FAILED) {
        return -errno;
    }
    r = wipe_on_fork(page, size);
    if (r < 0) {
        (void)munmap(page, size);
        return r;
    }
    *ret_page = page;
    return 0;
}

void
bki_sys_fork_page_free(volatile uint8_t *page)
{
    if (page != NULL) {
        (void)munmap((void *)(uintptr_t)page, (size_t)sysconf(_SC_PAGESIZE));
    }
}

ssize_t
bki_sys_read(int fd, void *buf, size_t len)
{
    FAULT_POINT(BKI_SYS_READ);
    return size_of(read(fd, buf, FAULT_LIMITED(BKI_SYS_READ, len)));
}

ssize_t
bki_sys_write(int fd, const void *buf, size_t len)
{
    FAULT_POINT(BKI_SYS_WRITE);
    return size_of(write(fd, buf, FAULT_LIMITED(BKI_SYS_WRITE, len)));
}

#ifdef BK_FAULT_INJECTION
/* A short call moves the start of its first part. */
static bool
is_short(enum bki_sys_call call, const struct iovec *iov, size_t *ret_len)
{
    size_t len = bki_fault_limited(call, SIZE_MAX);

    if (len == SIZE_MAX) {
        return false;
    }
    *ret_len = len < iov->iov_len ? len : iov->iov_len;
    return true;
}
#endif

ssize_t
bki_sys_writev(int fd, const struct iovec *iov, int iov_count)
{
    FAULT_POINT(BKI_SYS_WRITEV);
#ifdef BK_FAULT_INJECTION
    size_t len;

    if (is_short(BKI_SYS_WRITEV, iov, &len)) {
        return size_of(write(fd, iov->iov_base, len));
    }
#endif
    return size_of(writev(fd, iov, iov_count));
}

int
bki_sys_close(int fd)
{
    int r = result_of(close(fd));

    FAULT_POINT(BKI_SYS_CLOSE);
    return r;
}

int
bki_sys_set_nonblocking(int fd)
{
    int flags;

    FAULT_POINT(BKI_SYS_FCNTL);
    flags = fcntl(fd, F_GETFL);
    if (flags < 0) {
        return -errno;
    }
    if ((flags & O_NONBLOCK) != 0) {
        return 0;
    }
    return result_of(fcntl(fd, F_SETFL, flags | O_NONBLOCK));
}

int
bki_sys_get_flags(int fd)
{
    FAULT_POINT(BKI_SYS_FCNTL);
    return result_of(fcntl(fd, F_GETFL));
}

int
bki_sys_fstat(int fd, struct stat *ret_status)
{
    FAULT_POINT(BKI_SYS_FSTAT);
    return result_of(fstat(fd, ret_status));
}

int
bki_sys_check_open(int fd)
{
    FAULT_POINT(BKI_SYS_FCNTL);
    return fcntl(fd, F_GETFD) < 0 ? -errno : 0;
}

int
bki_sys_stat(const char *path, struct stat *ret_status)
{
    FAULT_POINT(BKI_SYS_STAT);
    return result_of(stat(path, ret_status));
}

int
bki_sys_unlink(const char *path)
{
    FAULT_POINT(BKI_SYS_UNLINK);
    return result_of(unlink(path));
}

int
bki_sys_chmod(const char *path, unsigned mode)
{
    FAULT_POINT(BKI_SYS_CHMOD);
    return result_of(chmod(path, (mode_t)mode));
}

int
bki_sys_socket(int family, int type, int protocol)
{
    FAULT_POINT(BKI_SYS_SOCKET);
    return result_of(
        socket(family, type | SOCK_CLOEXEC | SOCK_NONBLOCK, protocol));
}

int
bki_sys_bind(int fd, const struct sockaddr *address, socklen_t len)
{
    FAULT_POINT(BKI_SYS_BIND);
    return result_of(bind(fd, address, len));
}

int
bki_sys_listen(int fd, int backlog)
{
    FAULT_POINT(BKI_SYS_LISTEN);
    return result_of(listen(fd, backlog));
}

int
bki_sys_connect(int fd, const struct sockaddr *address, socklen_t len)
{
    FAULT_POINT(BKI_SYS_CONNECT);
    return result_of(connect(fd, address, len));
}

int
bki_sys_accept(int fd, struct sockaddr *ret_address, socklen_t *len)
{
    FAULT_POINT(BKI_SYS_ACCEPT);
    return result_of(
        accept4(fd, ret_address, len, SOCK_CLOEXEC | SOCK_NONBLOCK));
}

ssize_t
bki_sys_sendmsg(int fd, const struct iovec *iov, int iov_count)
{
    struct msghdr message = {
        .msg_iov = (struct iovec *)(uintptr_t)iov,
        .msg_iovlen = (size_t)iov_count,
    };

    FAULT_POINT(BKI_SYS_SENDMSG);
#ifdef BK_FAULT_INJECTION
    size_t len;

    if (is_short(BKI_SYS_SENDMSG, iov, &len)) {
        return size_of(send(fd, iov->iov_base, len, SEND_FLAGS));
    }
#endif
    return size_of(sendmsg(fd, &message, SEND_FLAGS));
}

ssize_t
bki_sys_recvfrom(int fd, void *buf, size_t len, struct sockaddr *ret_address,
                 socklen_t *address_len)
{
    FAULT_POINT(BKI_SYS_RECVFROM);
    return size_of(
        recvfrom(fd, buf, len, MSG_DONTWAIT, ret_address, address_len));
}

ssize_t
bki_sys_sendto(int fd, const void *buf, size_t len,
               const struct sockaddr *address, socklen_t address_len)
{
    FAULT_POINT(BKI_SYS_SENDTO);
    return size_of(sendto(fd, buf, len, SEND_FLAGS, address, address_len));
}

/* A limit counts messages here. */
static unsigned
limited_count(enum bki_sys_call call, unsigned count)
{
    (void)call;
    return (unsigned)FAULT_LIMITED(call, (size_t)count);
}

int
bki_sys_recvmmsg(int fd, struct mmsghdr *messages, unsigned count)
{
    FAULT_POINT(BKI_SYS_RECVMMSG);
    count = limited_count(BKI_SYS_RECVMMSG, count);
    return result_of(recvmmsg(fd, messages, count, MSG_DONTWAIT, NULL));
}

int
bki_sys_sendmmsg(int fd, struct mmsghdr *messages, unsigned count)
{
    FAULT_POINT(BKI_SYS_SENDMMSG);
    count = limited_count(BKI_SYS_SENDMMSG, count);
    return result_of(sendmmsg(fd, messages, count, SEND_FLAGS));
}

int
bki_sys_shutdown(int fd, int how)
{
    FAULT_POINT(BKI_SYS_SHUTDOWN);
    return result_of(shutdown(fd, how));
}

int
bki_sys_getsockname(int fd, struct sockaddr *ret_address, socklen_t *len)
{
    FAULT_POINT(BKI_SYS_GETSOCKNAME);
    return result_of(getsockname(fd, ret_address, len));
}

int
bki_sys_getpeername(int fd, struct sockaddr *ret_address, socklen_t *len)
{
    FAULT_POINT(BKI_SYS_GETPEERNAME);
    return result_of(getpeername(fd, ret_address, len));
}

int
bki_sys_getsockopt(int fd, int level, int name, int *ret_value)
{
    int value = 0;
    socklen_t len = sizeof(value);

    FAULT_POINT(BKI_SYS_GETSOCKOPT);
    if (getsockopt(fd, level, name, &value, &len) < 0) {
        return -errno;
    }
    *ret_value = value;
    return 0;
}

int
bki_sys_setsockopt(int fd, int level, int name, int value)
{
    FAULT_POINT(BKI_SYS_SETSOCKOPT);
    return result_of(setsockopt(fd, level, name, &value, sizeof(value)));
}

int
bki_sys_eventfd(void)
{
    FAULT_POINT(BKI_SYS_EVENTFD);
    return result_of(eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK));
}

int
bki_sys_epoll_create(void)
{
    FAULT_POINT(BKI_SYS_EPOLL_CREATE);
    return result_of(epoll_create1(EPOLL_CLOEXEC));
}

int
bki_sys_epoll_ctl(int epoll_fd, int op, int fd, struct epoll_event *event)
{
    FAULT_POINT(BKI_SYS_EPOLL_CTL);
    return result_of(epoll_ctl(epoll_fd, op, fd, event));
}

int
bki_sys_epoll_wait(int epoll_fd, struct epoll_event *events, int capacity,
                   uint64_t timeout_ns)
{
    FAULT_POINT(BKI_SYS_EPOLL_WAIT);
    return result_of(
        epoll_wait(epoll_fd, events, capacity, milliseconds_of(timeout_ns)));
}

/* By number: the C library knows it since glibc 2.35 only. */
int
bki_sys_epoll_pwait2(int epoll_fd, struct epoll_event *events, int capacity,
                     uint64_t timeout_ns)
{
    FAULT_POINT(BKI_SYS_EPOLL_PWAIT2);
#ifdef SYS_epoll_pwait2
    struct timespec timeout = timespec_of(timeout_ns);
    bool is_forever = timeout_ns == UINT64_MAX;

    return result_of((int)syscall(SYS_epoll_pwait2, epoll_fd, events, capacity,
                                  is_forever ? NULL : &timeout, NULL, 0));
#else
    (void)epoll_fd;
    (void)events;
    (void)capacity;
    (void)timeout_ns;
    return -ENOSYS;
#endif
}

int
bki_sys_poll(struct pollfd *fds, size_t count, uint64_t timeout_ns)
{
    struct timespec timeout = timespec_of(timeout_ns);

    FAULT_POINT(BKI_SYS_POLL);
    return result_of(
        ppoll(fds, count, timeout_ns == UINT64_MAX ? NULL : &timeout, NULL));
}

static int
code_of_eai(int eai)
{
    switch (eai) {
    case 0:
        return 0;
    case EAI_ADDRFAMILY:
        return BK_EAI_ADDRFAMILY;
    case EAI_AGAIN:
        return BK_EAI_AGAIN;
    case EAI_BADFLAGS:
        return BK_EAI_BADFLAGS;
    case EAI_FAIL:
        return BK_EAI_FAIL;
    case EAI_FAMILY:
        return BK_EAI_FAMILY;
    case EAI_MEMORY:
        return BK_EAI_MEMORY;
    case EAI_NODATA:
        return BK_EAI_NODATA;
    case EAI_NONAME:
        return BK_EAI_NONAME;
    case EAI_OVERFLOW:
        return BK_EAI_OVERFLOW;
    case EAI_SERVICE:
        return BK_EAI_SERVICE;
    case EAI_SOCKTYPE:
        return BK_EAI_SOCKTYPE;
    case EAI_CANCELED:
        return -ECANCELED;
    case EAI_SYSTEM:
        return errno != 0 ? -errno : BK_EAI_FAIL;
    default:
        return BK_EAI_FAIL;
    }
}

int
bki_sys_getaddrinfo(const char *host, const char *service,
                    const struct addrinfo *hints, struct addrinfo **ret_result)
{
    FAULT_POINT(BKI_SYS_GETADDRINFO);
    return code_of_eai(getaddrinfo(host, service, hints, ret_result));
}

void
bki_sys_freeaddrinfo(struct addrinfo *result)
{
    if (result != NULL) {
        freeaddrinfo(result);
    }
}

int
bki_sys_getnameinfo(const struct sockaddr *address, socklen_t len,
                    char *ret_host, socklen_t host_len, char *ret_service,
                    socklen_t service_len, int flags)
{
    FAULT_POINT(BKI_SYS_GETNAMEINFO);
    return code_of_eai(getnameinfo(address, len, ret_host, host_len,
                                   ret_service, service_len, flags));
}

/* Enough for what getaddrinfo(3) loads (musl's default of 128 KiB is not), and
 * an eighth of glibc's default, which counts against RLIMIT_AS. */
#define THREAD_STACK_BYTES ((size_t)1024 * 1024)

int
bki_sys_thread_create(void *(*run)(void *arg), void *arg, bool is_detached,
                      pthread_t *ret_thread)
{
    pthread_attr_t attributes;
    pthread_t thread;
    sigset_t all;
    sigset_t old;
    int r;

    FAULT_POINT(BKI_SYS_THREAD_CREATE);
    r = pthread_attr_init(&attributes);
    if (r != 0) {
        return -r;
    }
    (void)pthread_attr_setdetachstate(&attributes,
                                      is_detached ? PTHREAD_CREATE_DETACHED
                                                  : PTHREAD_CREATE_JOINABLE);
    (void)pthread_attr_setstacksize(&attributes, THREAD_STACK_BYTES);
    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, &old);
    r = pthread_create(&thread, &attributes, run, arg);
    (void)pthread_sigmask(SIG_SETMASK, &old, NULL);
    (void)pthread_attr_destroy(&attributes);
    if (r == 0 && ret_thread != NULL) {
        *ret_thread = thread;
    }
    return -r;
}

void
bki_sys_thread_join(pthread_t thread)
{
    (void)pthread_join(thread, NULL);
}

void
bki_sys_thread_detach(pthread_t thread)
{
    (void)pthread_detach(thread);
}

void
bki_sys_thread_yield(void)
{
    (void)sched_yield();
}

int
bki_sys_mutex_init(pthread_mutex_t *mutex)
{
    FAULT_POINT(BKI_SYS_MUTEX_INIT);
    return -pthread_mutex_init(mutex, NULL);
}

void
bki_sys_mutex_destroy(pthread_mutex_t *mutex)
{
    (void)pthread_mutex_destroy(mutex);
}

void
bki_sys_mutex_lock(pthread_mutex_t *mutex)
{
    (void)pthread_mutex_lock(mutex);
}

void
bki_sys_mutex_unlock(pthread_mutex_t *mutex)
{
    (void)pthread_mutex_unlock(mutex);
}

int
bki_sys_cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attributes;
    int r;

    FAULT_POINT(BKI_SYS_COND_INIT);
    r = pthread_condattr_init(&attributes);
    if (r != 0) {
        return -r;
    }
    (void)pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
    r = pthread_cond_init(cond, &attributes);
    (void)pthread_condattr_destroy(&attributes);
    return -r;
}

void
bki_sys_cond_destroy(pthread_cond_t *cond)
{
    (void)pthread_cond_destroy(cond);
}

void
bki_sys_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
    (void)pthread_cond_wait(cond, mutex);
}

int
bki_sys_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex,
                       uint64_t deadline_ns)
{
    struct timespec deadline = timespec_of(deadline_ns);

    return -pthread_cond_timedwait(cond, mutex, &deadline);
}

void
bki_sys_cond_signal(pthread_cond_t *cond)
{
    (void)pthread_cond_signal(cond);
}

void
bki_sys_cond_broadcast(pthread_cond_t *cond)
{
    (void)pthread_cond_broadcast(cond);
}

uint64_t
bki_sys_monotonic_ns(void)
{
    struct timespec now;

    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * NS_PER_S + (uint64_t)now.tv_nsec;
}

int
bki_sys_getpid(void)
{
    return (int)getpid();
}
