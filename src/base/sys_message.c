/* sys_message.c -- the two system calls of every message.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * glibc's recv() and send() are points of cancellation, three functions deep
 * since 2.41, and each return above a system call is mispredicted. So they are
 * gone past, by syscall(2), unless something else has taken their place: a
 * sanitizer, or a library given by LD_PRELOAD that carries the traffic itself
 * (docs/decisions/0010).
 */
#include "base/sys.h"

#include <dlfcn.h>
#include <sys/auxv.h>
#include <sys/syscall.h>
#include <unistd.h>

#include "base/hint.h"
#include "base/sys_call.h"

/* Elsewhere the kernel's numbers and arguments of these calls may differ, or no
 * function says which file the C library is. */
#if defined(__GLIBC__) && defined(__LP64__) && defined(SYS_recvfrom) &&        \
    defined(SYS_sendto)
#    include <gnu/libc-version.h>
#    define LIBRARY_FUNCTION ((uintptr_t)gnu_get_libc_version)
enum { RECVFROM = SYS_recvfrom, SENDTO = SYS_sendto };
#else
#    define LIBRARY_FUNCTION ((uintptr_t)0)
enum { RECVFROM = -1, SENDTO = -1 };
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

/* Whether all of them are the C library's own, which has a function that nobody
 * takes the place of. In a program that is loaded at a fixed address all
 * functions seem to be the program's. */
static bool
are_the_librarys(void)
{
    const void *library = base_of(LIBRARY_FUNCTION);

    return library != NULL && library != base_of(getauxval(AT_PHDR)) &&
           library == base_of((uintptr_t)recv) &&
           library == base_of((uintptr_t)send) &&
           library == base_of((uintptr_t)syscall);
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
    if (BKI_LIKELY(__atomic_load_n(&is_direct, __ATOMIC_RELAXED))) {
        return size_of(
            syscall(RECVFROM, fd, buf, len, MSG_DONTWAIT, NULL, NULL));
    }
    return size_of(recv(fd, buf, len, MSG_DONTWAIT));
}

BKI_HOT ssize_t
bki_sys_send(int fd, const void *buf, size_t len)
{
    FAULT_POINT(BKI_SYS_SEND);
    len = FAULT_LIMITED(BKI_SYS_SEND, len);
    if (BKI_LIKELY(__atomic_load_n(&is_direct, __ATOMIC_RELAXED))) {
        return size_of(syscall(SENDTO, fd, buf, len, SEND_FLAGS, NULL, 0));
    }
    return size_of(send(fd, buf, len, SEND_FLAGS));
}
