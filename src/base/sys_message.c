/* sys_message.c -- the two system calls of every message.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The C library's recv() and send() are points of cancellation, three functions
 * deep in glibc since 2.41, and each return above a system call is mispredicted
 * (docs/decisions/0010). So they are gone past, by syscall(2), unless something
 * else has taken their place: a sanitizer, or a library given by LD_PRELOAD
 * that carries the traffic itself. That is asked once, at the first call.
 */
#include "base/sys.h"

#include <dlfcn.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/hint.h"
#include "base/sys_call.h"

/* Elsewhere the kernel's numbers and arguments of these calls may differ. */
#if defined(__LP64__) && defined(SYS_recvfrom) && defined(SYS_sendto)
#    define CAN_BE_DIRECT 1
#else
#    define CAN_BE_DIRECT 0
#    undef SYS_recvfrom
#    undef SYS_sendto
#    define SYS_recvfrom (-1)
#    define SYS_sendto   (-1)
#endif

/* Where the file that holds this function has been loaded; NULL: not known. */
static void *
base_of(uintptr_t function)
{
    Dl_info info;

    return dladdr((void *)function, &info) != 0 ? info.dli_fbase : NULL;
}

static bool
can_go_past(void)
{
    void *base = base_of((uintptr_t)syscall);

    return CAN_BE_DIRECT && base != NULL && base == base_of((uintptr_t)recv) &&
           base == base_of((uintptr_t)send);
}

/* Set by the first call, which goes by the library. */
static bool is_direct;

static void
look_at_library(void)
{
    static bool is_known;

    if (!__atomic_load_n(&is_known, __ATOMIC_RELAXED)) {
        __atomic_store_n(&is_direct, can_go_past(), __ATOMIC_RELAXED);
        __atomic_store_n(&is_known, true, __ATOMIC_RELAXED);
    }
}

BKI_COLD static ssize_t
recv_by_library(int fd, void *buf, size_t len)
{
    look_at_library();
    return recv(fd, buf, len, MSG_DONTWAIT);
}

BKI_COLD static ssize_t
send_by_library(int fd, const void *buf, size_t len)
{
    look_at_library();
    return send(fd, buf, len, SEND_FLAGS);
}

ssize_t
bki_sys_recv(int fd, void *buf, size_t len)
{
    FAULT_POINT(BKI_SYS_RECV);
    len = FAULT_LIMITED(BKI_SYS_RECV, len);
    return size_of(
        __atomic_load_n(&is_direct, __ATOMIC_RELAXED)
            ? syscall(SYS_recvfrom, fd, buf, len, MSG_DONTWAIT, NULL, NULL)
            : recv_by_library(fd, buf, len));
}

ssize_t
bki_sys_send(int fd, const void *buf, size_t len)
{
    FAULT_POINT(BKI_SYS_SEND);
    len = FAULT_LIMITED(BKI_SYS_SEND, len);
    return size_of(__atomic_load_n(&is_direct, __ATOMIC_RELAXED)
                       ? syscall(SYS_sendto, fd, buf, len, SEND_FLAGS, NULL, 0)
                       : send_by_library(fd, buf, len));
}
