/* unit_pool.c -- the thread pool, from the inside.
 *
 * SPDX-License-Identifier: MIT
 */
#include "pool/pool.c"

#include <unistd.h>

#include "net_support.h"

static pthread_mutex_t gate = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t gate_moved = PTHREAD_COND_INITIALIZER;
static bool gate_open;
static int started;
static int finished;
static int dropped;
static int most_at_once;

struct work {
    struct bki_job job;
    int number;
    bool waits;
    int ran_as; /* 1: the first to start */
};

static void
run_work(struct bki_job *job)
{
    struct work *work = (struct work *)(void *)job;

    (void)pthread_mutex_lock(&gate);
    work->ran_as = ++started;
    most_at_once =
        started - finished > most_at_once ? started - finished : most_at_once;
    (void)pthread_cond_broadcast(&gate_moved);
    while (work->waits && !gate_open) {
        (void)pthread_cond_wait(&gate_moved, &gate);
    }
    finished++;
    (void)pthread_cond_broadcast(&gate_moved);
    (void)pthread_mutex_unlock(&gate);
}

static void
drop_work(struct bki_job *job)
{
    ck_assert_int_eq(((struct work *)(void *)job)->ran_as, 0);
    dropped++;
}

static int
count_of(const int *counter)
{
    int count;

    (void)pthread_mutex_lock(&gate);
    count = *counter;
    (void)pthread_mutex_unlock(&gate);
    return count;
}

static void
await(const int *count, int wanted)
{
    (void)pthread_mutex_lock(&gate);
    while (*count < wanted) {
        (void)pthread_cond_wait(&gate_moved, &gate);
    }
    (void)pthread_mutex_unlock(&gate);
}

static void
open_gate(void)
{
    (void)pthread_mutex_lock(&gate);
    gate_open = true;
    (void)pthread_cond_broadcast(&gate_moved);
    (void)pthread_mutex_unlock(&gate);
}

static struct bki_pool *
new_pool(unsigned threads_max, size_t queued_max, uint64_t idle_ns)
{
    struct bki_pool_options options = {.threads_max = threads_max,
                                       .queued_max = queued_max,
                                       .idle_ns = idle_ns};
    struct bki_pool *pool;

    ck_assert_int_eq(bki_pool_new(&options, &pool), 0);
    return pool;
}

static void
init_works(struct work *works, int count, bool waits)
{
    for (int i = 0; i < count; i++) {
        works[i] =
            (struct work){.job.run = run_work, .number = i, .waits = waits};
    }
}

START_TEST(threads_are_made_when_needed)
{
    struct bki_pool *pool = new_pool(3, 100, 10 * S);
    struct work works[10];

    init_works(works, 10, true);
    ck_assert_uint_eq(bki_pool_threads(pool), 0);
    for (int i = 0; i < 10; i++) {
        ck_assert_int_eq(bki_pool_submit(pool, &works[i].job), 0);
        ck_assert_uint_eq(bki_pool_threads(pool), i < 3 ? (unsigned)i + 1 : 3);
    }
    await(&started, 3);
    ck_assert_int_eq(count_of(&finished), 0);
    open_gate();
    await(&finished, 10);
    ck_assert_int_eq(count_of(&most_at_once), 3);
    ck_assert_uint_eq(bki_pool_threads(pool), 3);
    bki_pool_abandon(pool, drop_work);
    ck_assert_int_eq(dropped, 0);
}
END_TEST

START_TEST(idle_thread_is_used_again)
{
    struct bki_pool *pool = new_pool(3, 100, 10 * S);
    struct work works[50];

    init_works(works, 50, false);
    for (int i = 0; i < 50; i++) {
        ck_assert_int_eq(bki_pool_submit(pool, &works[i].job), 0);
        await(&finished, i + 1);
        for (unsigned idle = 0; idle == 0;) { /* until it waits again */
            bki_sys_mutex_lock(&pool->lock);
            idle = pool->idle;
            bki_sys_mutex_unlock(&pool->lock);
        }
    }
    ck_assert_uint_eq(bki_pool_threads(pool), 1);
    bki_pool_abandon(pool, drop_work);
}
END_TEST

/* One idle thread and two jobs at once: the second must not wait behind the
 * first, which may be stuck. */
START_TEST(woken_thread_is_not_counted_on_twice)
{
    struct bki_pool *pool = new_pool(3, 100, 10 * S);
    struct work works[3];

    init_works(works, 3, true);
    works[0].waits = false;
    ck_assert_int_eq(bki_pool_submit(pool, &works[0].job), 0);
    for (unsigned idle = 0; idle == 0;) {
        bki_sys_mutex_lock(&pool->lock);
        idle = pool->idle;
        bki_sys_mutex_unlock(&pool->lock);
    }
    ck_assert_int_eq(bki_pool_submit(pool, &works[1].job), 0);
    ck_assert_int_eq(bki_pool_submit(pool, &works[2].job), 0);
    await(&started, 3);
    open_gate();
    await(&finished, 3);
    bki_pool_abandon(pool, drop_work);
}
END_TEST

START_TEST(idle_threads_end)
{
    struct bki_pool *pool = new_pool(3, 100, MS);
    struct work works[3];
    uint64_t deadline_ns = bk_clock_now() + 10 * S;

    init_works(works, 3, true);
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(bki_pool_submit(pool, &works[i].job), 0);
    }
    await(&started, 3);
    open_gate();
    while (bki_pool_threads(pool) > 0) {
        ck_assert(bk_clock_now() < deadline_ns);
        (void)usleep(100);
    }
    init_works(works, 1, false);
    ck_assert_int_eq(bki_pool_submit(pool, &works[0].job), 0);
    await(&finished, 4);
    bki_pool_abandon(pool, drop_work);
}
END_TEST

START_TEST(queue_is_bounded_and_in_order)
{
    struct bki_pool *pool = new_pool(1, 3, 10 * S);
    struct work works[5];

    init_works(works, 5, true);
    ck_assert_int_eq(bki_pool_submit(pool, &works[0].job), 0);
    await(&started, 1);
    for (int i = 1; i < 4; i++) {
        ck_assert_int_eq(bki_pool_submit(pool, &works[i].job), 0);
    }
    ck_assert_int_eq(bki_pool_submit(pool, &works[4].job), -EAGAIN);
    ck_assert(!works[4].job.is_queued);
    open_gate();
    await(&finished, 4);
    for (int i = 0; i < 4; i++) {
        ck_assert_int_eq(works[i].ran_as, i + 1);
    }
    ck_assert_int_eq(works[4].ran_as, 0);
    bki_pool_abandon(pool, drop_work);
}
END_TEST

START_TEST(withdrawn_job_does_not_run)
{
    struct bki_pool *pool = new_pool(1, 10, 10 * S);
    struct work works[4];

    init_works(works, 4, true);
    ck_assert_int_eq(bki_pool_submit(pool, &works[0].job), 0);
    await(&started, 1);
    for (int i = 1; i < 4; i++) {
        ck_assert_int_eq(bki_pool_submit(pool, &works[i].job), 0);
    }
    ck_assert(!bki_pool_withdraw(pool, &works[0].job)); /* it runs */
    ck_assert(bki_pool_withdraw(pool, &works[2].job));
    ck_assert(!bki_pool_withdraw(pool, &works[2].job));
    ck_assert(bki_pool_withdraw(pool, &works[3].job));
    ck_assert(bki_pool_withdraw(pool, &works[1].job));
    ck_assert_int_eq(bki_pool_submit(pool, &works[2].job), 0);
    open_gate();
    await(&finished, 2);
    ck_assert_int_eq(works[1].ran_as, 0);
    ck_assert_int_eq(works[2].ran_as, 2);
    ck_assert_int_eq(works[3].ran_as, 0);
    bki_pool_abandon(pool, drop_work);
}
END_TEST

START_TEST(abandon_drops_what_waits_and_waits_for_nobody)
{
    bk_loop *counted = new_threaded_loop(SUPPORT_EPOLL);
    struct bki_pool *pool = new_pool(2, 10, 10 * S);
    struct work works[5];

    init_works(works, 5, true);
    for (int i = 0; i < 5; i++) {
        ck_assert_int_eq(bki_pool_submit(pool, &works[i].job), 0);
    }
    await(&started, 2);
    bki_pool_abandon(pool, drop_work);
    ck_assert_int_eq(dropped, 3);
    ck_assert_int_eq(count_of(&finished), 0);
    open_gate();
    free_threaded_loop(counted); /* the last thread has freed the pool */
    ck_assert_int_eq(count_of(&finished), 2);
}
END_TEST

START_TEST(abandon_without_threads)
{
    bki_pool_abandon(NULL, drop_work);
    bki_pool_abandon(new_pool(1, 1, 1), drop_work);
    ck_assert_int_eq(dropped, 0);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("pool");
    TCase *tcase = tcase_create("pool");

    tcase_add_test(tcase, threads_are_made_when_needed);
    tcase_add_test(tcase, idle_thread_is_used_again);
    tcase_add_test(tcase, woken_thread_is_not_counted_on_twice);
    tcase_add_test(tcase, idle_threads_end);
    tcase_add_test(tcase, queue_is_bounded_and_in_order);
    tcase_add_test(tcase, withdrawn_job_does_not_run);
    tcase_add_test(tcase, abandon_drops_what_waits_and_waits_for_nobody);
    tcase_add_test(tcase, abandon_without_threads);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
