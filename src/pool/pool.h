/* pool.h -- a few threads for calls that block.
 *
 * SPDX-License-Identifier: MIT
 *
 * Threads are made when there is work for them, at most threads_max, and end
 * when they have had none for idle_ns. Nobody ever waits for them: whoever is
 * done with the pool abandons it, and the last thread frees it, however long
 * the call that it is stuck in takes. (A process that exits does not wait
 * either: the threads are detached.)
 *
 * After a fork the child has the struct but none of the threads, and perhaps
 * a lock that nobody will open. The child may only forget it.
 */
#ifndef BKI_POOL_H
#define BKI_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bki_pool;

/* Embedded by its owner; lent from submit until run is called, or drop, or
 * bki_pool_withdraw() returns true. */
struct bki_job {
    struct bki_job *next;
    struct bki_job *prev;
    /* In a thread of the pool, without locks. The job may be freed inside. */
    void (*run)(struct bki_job *job);
    bool is_queued;
};

struct bki_pool_options {
    unsigned threads_max;
    size_t queued_max; /* jobs that wait for a thread */
    uint64_t idle_ns;
};

/* -ENOMEM, -EAGAIN. No thread is made yet. Thread: any. */
int bki_pool_new(const struct bki_pool_options *options,
                 struct bki_pool **ret_pool);

/* Have a thread run it. -EAGAIN: queued_max jobs wait already, or there is no
 * thread and none can be made. Thread: any. */
int bki_pool_submit(struct bki_pool *pool, struct bki_job *job);

/* True: it will not run, and is the caller's again. False: it runs, or has
 * run. Thread: any. */
bool bki_pool_withdraw(struct bki_pool *pool, struct bki_job *job);

/* The pool is not used any more: call drop for each job that still waits, let
 * those that run run. NULL is a no-op. Thread: any. */
void bki_pool_abandon(struct bki_pool *pool, void (*drop)(struct bki_job *job));

/* Threads that exist now, for tests. Thread: any. */
unsigned bki_pool_threads(struct bki_pool *pool);

#endif
