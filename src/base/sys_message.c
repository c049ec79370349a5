/* sys_message.c -- the two system calls of every message.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * glibc's recv() and send() are points of cancellation, three functions deep
 * since 2.41, and each return above a system call is mispredicted. So they are
 * gone past, by the processor's own instruction, unless something else has
 * taken their place: a sanitizer, or a library given by LD_PRELOAD that carries
 * the traffic itself (docs/decisions/0010).
 */
#include "base/sys.h"

#include <dlfcn.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

#include "base/hint.h"
#include "base/sys_call.h"

/* The kernel's recvfrom or sendto without an address, as syscall(2) describes
 * the instruction: a count or a negative code. With another processor or C
 * library there is no way past that library. */
#if defined(__x86_64__) && defined(__LP64__) && defined(__GLIBC__)
#    include <gnu/libc-version.h>
#    define LIBRARY_FUNCTION ((uintptr_t)gnu_get_libc_version)

static inline ssize_t
call_kernel(long number, int fd, const void *buf, size_t len, int flags)
{
    register long r10 __asm__("r10") = flags;
    register long r8 __asm__("r8") = 0;
    register long r9 __asm__("r9") = 0;
    ssize_t n;

    __asm__ volatile("syscall"
                     : "=a"(n)
                     : "a"(number), "D"((long)fd), "S"(buf), "d"(len), "r"(r10),
                       "r"(r8), "r"(r9)
                     : "rcx", "r11", "memory");
    return n;
}
#else
#    define LIBRARY_FUNCTION ((uintptr_t)0)

static inline ssize_t
call_kernel(long number, int fd, const void *buf, size_t len, int flags)
{
    (void)number, (void)fd, (void)buf, (void)len, (void)flags;
    return -ENOSYS;
}
#endif

/* Written by each new loop, always the same; until the first one, the library
 * is called. */
static bool is_direct;

/* Where the file that holds this address has been loaded; NULL: not known, as
 * in a static program. */
static const void *
base_of(uintptr_t address)
{
    Dl_info info;

    return dladdr((const void *)address, &info) != 0 ? info.dli_fbase : NULL;
}

/* Whether both are the C library's own, which has a function that nobody takes
 * the place of. In a program that is loaded at a fixed address all functions
 * seem to be the program's. */
static bool
are_the_librarys(void)
{
    const void *library = base_of(LIBRARY_FUNCTION);

    return library != NULL && library != base_of(getauxval(AT_PHDR)) &&
           library == base_of((uintptr_t)recv) &&
           library == base_of((uintptr_t)send);
}

void
bki_sys_find_direct(void)
{
    __atomic_store_n(&is_direct, are_the_librarys(), __ATOMIC_RELAXED);
}

BKI_HOT ssize_t
bki_sys_recv(int fd, void *buf, size_t len)
{
    FAULT_POINT(BKI_SYS_RECV);
    len = FAULT_LIMITED(BKI_SYS_RECV, len);
    return BKI_LIKELY(__atomic_load_n(&is_direct, __ATOMIC_RELAXED))
               ? call_kernel(SYS_recvfrom, fd, buf, len, MSG_DONTWAIT)
               : size_of(recv(fd, buf, len, MSG_DONTWAIT));
}

BKI_HOT ssize_t
bki_sys_send(int fd, const void *buf, size_t len)
{
    FAULT_POINT(BKI_SYS_SEND);
    len = FAULT_LIMITED(BKI_SYS_SEND, len);
    return BKI_LIKELY(__atomic_load_n(&is_direct, __ATOMIC_RELAXED))
               ? call_kernel(SYS_sendto, fd, buf, len, SEND_FLAGS)
               : size_of(send(fd, buf, len, SEND_FLAGS));
}
