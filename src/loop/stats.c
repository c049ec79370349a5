/* stats.c -- what the loop has been doing.
 *
 * SPDX-License-Identifier: MIT
 *
 * Busy time is not measured, but what remains of the runs' time without the
 * waits that slept: only those need the clock.
 */
#include "becket/stats.h"

#include "base/sys.h"
#include "loop/internal.h"

static uint64_t
run_busy_ns(const bk_loop *loop)
{
    uint64_t total_ns = bki_sys_monotonic_ns() - loop->run_since_ns;
    uint64_t idle_ns = loop->stats.idle_ns - loop->run_idle_ns;

    return total_ns > idle_ns ? total_ns - idle_ns : 0;
}

void
bki_stats_run_begin(bk_loop *loop)
{
    loop->run_since_ns = bki_sys_monotonic_ns();
    loop->run_idle_ns = loop->stats.idle_ns;
}

void
bki_stats_run_end(bk_loop *loop)
{
    loop->stats.busy_ns += run_busy_ns(loop);
}

/* The number of bits that the lag has in microseconds, see BK_LAG_BUCKETS. */
static size_t
lag_bucket(uint64_t lag_ns)
{
    uint64_t lag_us = lag_ns / 1000;
    size_t bits = lag_us == 0 ? 0 : 64 - (size_t)__builtin_clzll(lag_us);

    return bits < BK_LAG_BUCKETS ? bits : BK_LAG_BUCKETS - 1;
}

void
bki_stats_add_lag(bk_loop_stats *stats, uint64_t lag_ns)
{
    stats->lag_samples++;
    stats->lag_histogram[lag_bucket(lag_ns)]++;
    if (lag_ns > stats->lag_max_ns) {
        stats->lag_max_ns = lag_ns;
    }
}

void
bk_loop_get_stats(const bk_loop *loop, bk_loop_stats *ret_stats)
{
    if (loop == NULL || ret_stats == NULL) {
        return;
    }
    *ret_stats = loop->stats;
    ret_stats->timers_scheduled = loop->timers.count;
    if (bk_loop_is_running(loop)) {
        ret_stats->busy_ns += run_busy_ns(loop);
    }
}
