/* fault.c -- make system calls fail, for tests.
 *
 * SPDX-License-Identifier: MIT
 *
 * Compiled into builds with fault injection only, and the one place that has
 * global state: a test wants to reach calls without knowing which loop makes
 * them. Counters are atomic, the order of calls of several threads is not
 * determined.
 */
#include "base/fault.h"

#define NAME_OF(name) #name,

#ifdef BK_FAULT_INJECTION

#    include <sys/types.h>

static size_t live_allocations;

static struct {
    unsigned counts[BKI_SYS_CALLS + 1]; /* the last one: all together */
    size_t limits[BKI_SYS_CALLS];       /* 0: none */
    unsigned call;                      /* enum bki_sys_call */
    unsigned nth;                       /* 0: disarmed */
    int code;
    bool is_sticky;
    bool has_fired;
} fault;

const char *
bki_fault_name(unsigned call)
{
    static const char *const names[] = {BKI_SYS_CALL_NAMES(NAME_OF)};

    return call < BKI_SYS_CALLS ? names[call] : NULL;
}

static void
arm(enum bki_sys_call call, unsigned nth, int code, bool is_sticky)
{
    for (size_t i = 0; i <= BKI_SYS_CALLS; i++) {
        __atomic_store_n(&fault.counts[i], 0, __ATOMIC_SEQ_CST);
    }
    __atomic_store_n(&fault.call, call, __ATOMIC_SEQ_CST);
    __atomic_store_n(&fault.code, code, __ATOMIC_SEQ_CST);
    __atomic_store_n(&fault.is_sticky, is_sticky, __ATOMIC_SEQ_CST);
    __atomic_store_n(&fault.has_fired, false, __ATOMIC_SEQ_CST);
    __atomic_store_n(&fault.nth, nth, __ATOMIC_SEQ_CST);
}

void
bki_fault_arm(enum bki_sys_call call, unsigned nth, int code)
{
    arm(call, nth, code, false);
}

void
bki_fault_arm_all(enum bki_sys_call call, unsigned nth, int code)
{
    arm(call, nth, code, true);
}

bool
bki_fault_disarm(void)
{
    __atomic_store_n(&fault.nth, 0, __ATOMIC_SEQ_CST);
    for (size_t i = 0; i < BKI_SYS_CALLS; i++) {
        __atomic_store_n(&fault.limits[i], 0, __ATOMIC_SEQ_CST);
    }
    return __atomic_load_n(&fault.has_fired, __ATOMIC_SEQ_CST);
}

unsigned
bki_fault_count(enum bki_sys_call call)
{
    return __atomic_load_n(&fault.counts[call], __ATOMIC_SEQ_CST);
}

void
bki_fault_limit(enum bki_sys_call call, size_t len_max)
{
    __atomic_store_n(&fault.limits[call], len_max, __ATOMIC_SEQ_CST);
}

int
bki_fault_take(enum bki_sys_call call)
{
    unsigned of_call =
        __atomic_add_fetch(&fault.counts[call], 1, __ATOMIC_SEQ_CST);
    unsigned of_all =
        __atomic_add_fetch(&fault.counts[BKI_SYS_ANY], 1, __ATOMIC_SEQ_CST);
    unsigned nth = __atomic_load_n(&fault.nth, __ATOMIC_SEQ_CST);
    unsigned wanted = __atomic_load_n(&fault.call, __ATOMIC_SEQ_CST);
    unsigned seen = wanted == BKI_SYS_ANY ? of_all : of_call;

    if (nth == 0 || (wanted != BKI_SYS_ANY && wanted != (unsigned)call)) {
        return 0;
    }
    if (seen < nth ||
        (seen > nth && !__atomic_load_n(&fault.is_sticky, __ATOMIC_SEQ_CST))) {
        return 0;
    }
    __atomic_store_n(&fault.has_fired, true, __ATOMIC_SEQ_CST);
    return __atomic_load_n(&fault.code, __ATOMIC_SEQ_CST);
}

size_t
bki_fault_limited(enum bki_sys_call call, size_t len)
{
    size_t limit = __atomic_load_n(&fault.limits[call], __ATOMIC_SEQ_CST);

    return limit != 0 && limit < len ? limit : len;
}

size_t
bki_fault_live_allocations(void)
{
    return __atomic_load_n(&live_allocations, __ATOMIC_SEQ_CST);
}

void
bki_fault_count_allocation(int change)
{
    (void)__atomic_add_fetch(&live_allocations, (size_t)(ssize_t)change,
                             __ATOMIC_SEQ_CST);
}

#else

/* An empty translation unit is not C. */
typedef int bki_fault_is_compiled_out;

#endif
