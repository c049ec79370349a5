/* worker_thread.c -- work handed in from another thread.
 *
 * SPDX-License-Identifier: MIT
 *
 * A thread counts primes, and hands each result to the loop with
 * bk_loop_call_soon_threadsafe(): one of the few functions that other threads
 * may call. The callbacks run in the loop's thread, in the order sent, so they
 * need no lock.
 */
#include <pthread.h>
#include <stdio.h>

#include "becket/becket.h"

enum { JOBS = 5, LIMIT_STEP = 10000 };

struct work {
    bk_loop *loop;
    int error; /* why the thread gave up; read once it has been joined */
    struct job {
        unsigned limit;
        unsigned primes;
    } jobs[JOBS]; /* each the thread's until it is handed in */
};

static bool
is_prime(unsigned n)
{
    for (unsigned i = 2; i * i <= n; i++) {
        if (n % i == 0) {
            return false;
        }
    }
    return n > 1;
}

static void
on_result(void *arg)
{
    const struct job *job = arg;

    (void)printf("%u primes below %u\n", job->primes, job->limit);
}

static void
on_end(void *arg)
{
    bk_loop_stop(arg);
}

static void *
count_primes(void *arg)
{
    struct work *work = arg;
    int r = 0;

    for (unsigned i = 0; i < JOBS && r == 0; i++) {
        struct job *job = &work->jobs[i];

        job->limit = (i + 1) * LIMIT_STEP;
        for (unsigned n = 0; n < job->limit; n++) {
            job->primes += is_prime(n);
        }
        r = bk_loop_call_soon_threadsafe(work->loop, on_result, job);
    }
    if (r == 0) {
        r = bk_loop_call_soon_threadsafe(work->loop, on_end, work->loop);
    }
    if (r < 0) {
        work->error = r;
        bk_loop_stop(work->loop); /* any thread may, and it cannot fail */
    }
    return NULL;
}

int
main(void)
{
    static struct work work;
    pthread_t thread;
    int r = bk_loop_new(NULL, &work.loop);

    if (r == 0) {
        r = -pthread_create(&thread, NULL, count_primes, &work);
    }
    if (r == 0) {
        r = bk_loop_run_forever(work.loop);
        /* Before the loop is freed: the thread may still be using it. */
        (void)pthread_join(thread, NULL);
        r = r < 0 ? r : work.error;
    }
    bk_loop_free(work.loop);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
