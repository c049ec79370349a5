/* stats.h -- what the loop has been doing.
 *
 * SPDX-License-Identifier: MIT
 *
 * Plain counters, always on. Lag is how late a turn came to its work: from
 * the moment a wait ended (or, in a loop that does not sleep, a turn began) to
 * the end of its batch; sampled in turns that slept and every 64th otherwise,
 * since reading the clock costs as much as a small callback.
 */
#ifndef BECKET_STATS_H
#define BECKET_STATS_H

#include "becket/types.h"

BK_BEGIN_DECLS

/* Bucket i counts lags below 2^i microseconds (and not below 2^(i-1)); the
 * last one all that are longer. */
#define BK_LAG_BUCKETS 24

struct bk_loop_stats {
    uint64_t turns;
    uint64_t callbacks; /* handles, timers and I/O callbacks run */
    uint64_t busy_ns;   /* time in runs, outside waits */
    uint64_t idle_ns;   /* time in waits */
    uint64_t events;    /* I/O events found */
    uint64_t wakeups;   /* waits ended by another thread */
    uint64_t bytes_received;
    uint64_t bytes_sent;
    uint64_t connections_made;
    uint64_t connections_open;
    uint64_t timers_scheduled; /* in the heap now */
    uint64_t timers_fired;
    uint64_t lag_samples; /* turns that slept, the three after, each 64th */
    uint64_t lag_max_ns;
    uint64_t lag_histogram[BK_LAG_BUCKETS];
};

/* A copy of the counters. Thread: loop. */
BK_API void bk_loop_get_stats(const bk_loop *loop, bk_loop_stats *ret_stats);

BK_END_DECLS

#endif
