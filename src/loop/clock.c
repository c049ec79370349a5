/* clock.c -- the time.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/sys.h"
#include "loop/internal.h"

uint64_t
bk_clock_now(void)
{
    return bki_sys_monotonic_ns();
}

uint64_t
bk_loop_time(const bk_loop *loop)
{
    if (loop != NULL && loop->hooks.now_ns != NULL) {
        return loop->hooks.now_ns(loop->hooks.arg);
    }
    return bki_sys_monotonic_ns();
}
