/* pool.c -- a few threads for calls that block.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * One lock guards everything but the jobs that run. The pool is counted: its
 * owner and each thread hold it, and the last one frees it. A thread that
 * could not be made is no failure as long as another one exists to take the
 * job in time.
 */

#include "pool/pool.h"

#include <assert.h>
#include <errno.h>
#include <pthread.h>

#include "base/sys.h"

struct bki_pool {
    pthread_mutex_t lock;
    pthread_cond_t has_work; /* or the pool is abandoned */
    struct bki_pool_options options;
    struct bki_job *head; /* jobs that wait, oldest first */
    struct bki_job *tail;
    size_t queued;
    unsigned threads; /* that exist, */
    unsigned idle;    /* and of these the ones that wait for work */
    bool is_abandoned;
};

static void
link_job(struct bki_pool *pool, struct bki_job *job)
{
    job->next = NULL;
    job->prev = pool->tail;
    if (pool->tail == NULL) {
        pool->head = job;
    }
    else {
        pool->tail->next = job;
    }
    pool->tail = job;
    pool->queued++;
    job->is_queued = true;
}

static void
unlink_job(struct bki_pool *pool, struct bki_job *job)
{
    assert(job->is_queued);
    if (job->prev == NULL) {
        pool->head = job->next;
    }
    else {
        job->prev->next = job->next;
    }
    if (job->next == NULL) {
        pool->tail = job->prev;
    }
    else {
        job->next->prev = job->prev;
    }
    pool->queued--;
    job->is_queued = false;
}

static void
free_pool(struct bki_pool *pool)
{
    assert(pool->head == NULL);
    bki_sys_cond_destroy(&pool->has_work);
    bki_sys_mutex_destroy(&pool->lock);
    bki_sys_free(pool);
}

/* Wait for a job; NULL: this thread shall end. Called with the lock held. */
static struct bki_job *
next_job(struct bki_pool *pool)
{
    uint64_t deadline_ns = bki_sys_monotonic_ns() + pool->options.idle_ns;
    struct bki_job *job;
    int r = 0;

    while (pool->head == NULL && !pool->is_abandoned && r != -ETIMEDOUT) {
        pool->idle++;
        r = bki_sys_cond_timedwait(&pool->has_work, &pool->lock, deadline_ns);
        pool->idle--;
    }
    job = pool->head;
    if (job != NULL) {
        unlink_job(pool, job);
    }
    return job;
}

static void *
run_thread(void *arg)
{
    struct bki_pool *pool = arg;
    struct bki_job *job;
    bool is_last;

    bki_sys_mutex_lock(&pool->lock);
    for (;;) {
        job = next_job(pool);
        if (job == NULL) {
            break;
        }
        bki_sys_mutex_unlock(&pool->lock);
        job->run(job);
        bki_sys_mutex_lock(&pool->lock);
    }
    pool->threads--;
    is_last = pool->is_abandoned && pool->threads == 0;
    bki_sys_mutex_unlock(&pool->lock);
    if (is_last) {
        free_pool(pool);
    }
    return NULL;
}

int
bki_pool_new(const struct bki_pool_options *options, struct bki_pool **ret_pool)
{
    struct bki_pool *pool = bki_sys_calloc(1, sizeof(*pool));
    int r;

    assert(options->threads_max > 0);
    if (pool == NULL) {
        return -ENOMEM;
    }
    pool->options = *options;
    r = bki_sys_mutex_init(&pool->lock);
    if (r < 0) {
        bki_sys_free(pool);
        return r;
    }
    r = bki_sys_cond_init(&pool->has_work);
    if (r < 0) {
        bki_sys_mutex_destroy(&pool->lock);
        bki_sys_free(pool);
        return r;
    }
    *ret_pool = pool;
    return 0;
}

/* Called with the lock held, which the new thread then waits for: so a thread
 * that exists is always one that was counted. */
static int
add_thread(struct bki_pool *pool)
{
    int r = bki_sys_thread_create(run_thread, pool, true, NULL);

    if (r == 0) {
        pool->threads++;
    }
    return pool->threads > 0 ? 0 : -EAGAIN;
}

static int
submit_lock_held(struct bki_pool *pool, struct bki_job *job)
{
    int r = 0;

    if (pool->queued >= pool->options.queued_max) {
        return -EAGAIN;
    }
    link_job(pool, job);
    /* An idle thread may have been woken for an earlier job already. */
    if (pool->queued <= pool->idle) {
        bki_sys_cond_signal(&pool->has_work);
    }
    else if (pool->threads < pool->options.threads_max) {
        r = add_thread(pool);
    }
    if (r < 0) {
        unlink_job(pool, job);
    }
    return r;
}

int
bki_pool_submit(struct bki_pool *pool, struct bki_job *job)
{
    int r;

    bki_sys_mutex_lock(&pool->lock);
    assert(!pool->is_abandoned);
    r = submit_lock_held(pool, job);
    bki_sys_mutex_unlock(&pool->lock);
    return r;
}

bool
bki_pool_withdraw(struct bki_pool *pool, struct bki_job *job)
{
    bool was_queued;

    bki_sys_mutex_lock(&pool->lock);
    was_queued = job->is_queued;
    if (was_queued) {
        unlink_job(pool, job);
    }
    bki_sys_mutex_unlock(&pool->lock);
    return was_queued;
}

void
bki_pool_abandon(struct bki_pool *pool, void (*drop)(struct bki_job *job))
{
    struct bki_job *dropped;
    bool is_last;

    if (pool == NULL) {
        return;
    }
    bki_sys_mutex_lock(&pool->lock);
    dropped = pool->head;
    while (pool->head != NULL) {
        struct bki_job *next = pool->head->next;

        unlink_job(pool, pool->head);
        assert(pool->head == next);
        (void)next; /* read by the assert only */
    }
    pool->is_abandoned = true;
    is_last = pool->threads == 0;
    bki_sys_cond_broadcast(&pool->has_work);
    bki_sys_mutex_unlock(&pool->lock);
    if (is_last) {
        free_pool(pool);
    }
    while (dropped != NULL) {
        struct bki_job *next = dropped->next;

        drop(dropped);
        dropped = next;
    }
}

unsigned
bki_pool_threads(struct bki_pool *pool)
{
    unsigned threads;

    bki_sys_mutex_lock(&pool->lock);
    threads = pool->threads;
    bki_sys_mutex_unlock(&pool->lock);
    return threads;
}
