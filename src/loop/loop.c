/* loop.c -- the loop: create, run, stop, close.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * The order of a turn is part of the contract: wait, take the inbox, link the
 * events, append the due timers, run the batch. Nothing is linked while the
 * wait runs, since the embedder's lock is then released.
 *
 * What closes. bk_loop_close() ends everything that uses the system; engine
 * and struct stay until bk_loop_free(), so that owners can withdraw what they
 * had, and other threads find a loop that says -EBADF.
 */
#include "becket/loop.h"

#include <assert.h>
#include <errno.h>

#include "base/sys.h"
#include "engine/inlet.h"
#include "loop/internal.h"

/* Longest wait. asyncio's MAXIMUM_SELECT_TIMEOUT: some kernels refuse longer
 * ones. */
#define WAIT_MAX_NS (UINT64_C(24) * 3600 * 1000 * 1000 * 1000)

/* A loop that has work all the time offers the embedder's lock in every turn,
 * if anybody may want it, and then keeps it until the next period begins. For
 * an offer lasts as long as a system call, which is over before who waits has
 * woken up, more often than not; and who waits for CPython's lock has it handed
 * over by force, but only after 5 ms (sys.getswitchinterval()) without such an
 * offer. So an offer alone, however often, can keep a thread waiting for ever.
 * The clock is looked at in every so many turns, since that costs as much as a
 * small callback. */
#define OFFER_NS         UINT64_C(5000000)
#define OFFER_PERIOD_NS  UINT64_C(12000000)
#define OFFER_LOOK_TURNS 16

/* A protocol that takes this long for its datagrams gains nothing from bursts,
 * and what else the loop does shall not wait for it longer. 64 small replies
 * take a quarter of it. */
#define DELIVERY_NS_MAX UINT64_C(200000)

/* A loop that has slept for so long is idle. */
#define IDLE_NS UINT64_C(1000000000)

/* A loop that does not sleep measures its lag in every so many turns, but for
 * the first ones: what I/O or a timer has woken, as a task, runs in these. */
#define LAG_SAMPLE_TURNS 64
#define LAG_AWAKE_TURNS  3

static uint64_t
wait_timeout(const bk_loop *loop, uint64_t now_ns)
{
    uint64_t when_ns = bki_heap_when(&loop->timers);
    uint64_t timeout_ns;

    if (when_ns == BK_TIME_NEVER) {
        return BK_TIME_NEVER;
    }
    if (loop->hooks.now_ns != NULL) {
        now_ns = bk_loop_time(loop);
    }
    timeout_ns = when_ns > now_ns ? when_ns - now_ns : 0;
    return timeout_ns < WAIT_MAX_NS ? timeout_ns : WAIT_MAX_NS;
}

static bool
is_contended(const bk_loop *loop)
{
    return loop->hooks.is_contended != NULL &&
           loop->hooks.is_contended(loop->hooks.arg);
}

/* Whether a loop that has work all the time lets others in now. */
static bool
is_offer_due(bk_loop *loop)
{
    uint64_t now_ns;

    if (loop->hooks.before_block == NULL) {
        return false;
    }
    if (++loop->unlooked_turns < OFFER_LOOK_TURNS) {
        return loop->is_offering;
    }
    loop->unlooked_turns = 0;
    now_ns = bki_sys_monotonic_ns();
    if (now_ns - loop->offered_ns >= OFFER_PERIOD_NS) {
        loop->offered_ns = now_ns;
        loop->is_offering = is_contended(loop);
        return true;
    }
    if (now_ns - loop->offered_ns >= OFFER_NS) {
        loop->is_offering = false;
    }
    return loop->is_offering;
}

static int
wait_without_sleep(bk_loop *loop)
{
    loop->has_slept = false;
    return loop->engine->ops->wait(loop->engine, 0, is_offer_due(loop));
}

/* Idle memory is given back, which is done once for each time that the loop is
 * idle. A poller from outside may count its waits: that waits as it is told. */
static bool
is_cut_short(const bk_loop *loop, uint64_t timeout_ns)
{
    return loop->tls_warm_count > 0 && !loop->is_polled_outside &&
           timeout_ns > IDLE_NS;
}

static int
wait_asleep(bk_loop *loop, uint64_t since_ns, uint64_t timeout_ns)
{
    int r;

    if (is_cut_short(loop, timeout_ns)) {
        timeout_ns = IDLE_NS;
    }
    r = loop->engine->ops->wait(loop->engine, timeout_ns, true);
    bki_inbox_awake(loop);
    loop->has_slept = true;
    loop->woken_ns = bki_sys_monotonic_ns();
    loop->offered_ns = loop->woken_ns;
    loop->unlooked_turns = 0;
    loop->is_offering = false;
    loop->stats.idle_ns += loop->woken_ns - since_ns;
    if (loop->tls_warm_count > 0 && loop->woken_ns - since_ns >= IDLE_NS) {
        loop->cool_tls(loop);
    }
    return r;
}

static int
wait_for_events(bk_loop *loop)
{
    uint64_t now_ns;
    uint64_t timeout_ns;

    if (!bki_list_is_empty(&loop->ready) || !bki_list_is_empty(&loop->found)) {
        return wait_without_sleep(loop);
    }
    now_ns = loop->ended_ns != 0 ? loop->ended_ns : bki_sys_monotonic_ns();
    timeout_ns = wait_timeout(loop, now_ns);
    if (timeout_ns == 0 || !bki_inbox_fall_asleep(loop)) {
        return wait_without_sleep(loop);
    }
    return wait_asleep(loop, now_ns, timeout_ns);
}

/* After each wait, also an interrupted one: the signal may be what ended it. */
static void
take_signals(bk_loop *loop)
{
    int r;

    if (loop->hooks.check_signals == NULL) {
        return;
    }
    r = loop->hooks.check_signals(loop->hooks.arg);
    bk_loop_flush(loop);
    if (r < 0) {
        bk_loop_break(loop, r);
    }
}

/* The embedder's code may have written, and the writes may have queued work:
 * both before the timeout. False: the run ends. */
static bool
poll_events(bk_loop *loop)
{
    int r;

    bk_loop_flush(loop);
    if (loop->is_breaking) {
        return false;
    }
    r = wait_for_events(loop);
    loop->ended_ns = 0;
    if (r < 0 && r != -EINTR) {
        bk_loop_break(loop, r);
        return false;
    }
    take_signals(loop);
    return !loop->is_breaking;
}

/* When the turn begins, if its lag is measured without that it sleeps; or 0. */
static uint64_t
lag_since(bk_loop *loop)
{
    bool is_sampled = loop->stats.turns % LAG_SAMPLE_TURNS == 0;

    if (loop->awake_turns < LAG_AWAKE_TURNS) {
        loop->awake_turns++;
        is_sampled = true;
    }
    if (!is_sampled) {
        return 0;
    }
    return loop->ended_ns != 0 ? loop->ended_ns : bki_sys_monotonic_ns();
}

/* The time at the end of a turn is that at which the next one begins, or begins
 * to wait: so one that sleeps reads the clock twice, the others once. */
static void
measure_lag(bk_loop *loop, uint64_t since_ns)
{
    if (loop->has_slept) {
        since_ns = loop->woken_ns;
        loop->awake_turns = 0;
    }
    if (since_ns != 0) {
        loop->ended_ns = bki_sys_monotonic_ns();
        bki_stats_add_lag(&loop->stats, loop->ended_ns - since_ns);
    }
}

static void
run_turn(bk_loop *loop)
{
    uint64_t since_ns = lag_since(loop);

    loop->stats.turns++;
    if (bki_loop_is_forked(loop)) {
        bk_loop_break(loop, -ECHILD);
        return;
    }
    if (!poll_events(loop)) {
        return;
    }
    bki_inbox_take(loop);
    bki_ready_link_found(loop);
    loop->engine->ops->link_events(loop->engine);
    bki_timers_expire(loop);
    assert(bki_list_is_empty(&loop->batch));
    bki_list_splice_front(&loop->batch, &loop->ready);
    bki_ready_run(loop);
    measure_lag(loop, since_ns);
}

/* Before the first turn: a break belongs to a run. */
static int
begin_run(bk_loop *loop)
{
    if (loop->is_closed) {
        return -EBADF;
    }
    if (bk_loop_is_running(loop)) {
        return -EBUSY;
    }
    if (bki_loop_is_forked(loop)) {
        return -ECHILD;
    }
    loop->is_breaking = false;
    loop->break_code = 0;
    loop->ended_ns = 0;
    __atomic_store_n(&loop->thread, bki_sys_thread_id(), __ATOMIC_RELEASE);
    bki_stats_run_begin(loop);
    return 0;
}

/* What other threads have sent is put where the embedder can visit it. */
static void
end_run(bk_loop *loop)
{
    bki_inbox_take(loop);
    bki_stats_run_end(loop);
    loop->is_breaking = false;
    __atomic_store_n(&loop->is_stopping, 0, __ATOMIC_SEQ_CST);
    __atomic_store_n(&loop->thread, 0, __ATOMIC_RELEASE);
}

int
bk_loop_run_forever(bk_loop *loop)
{
    int r;

    if (loop == NULL) {
        return -EINVAL;
    }
    r = begin_run(loop);
    if (r < 0) {
        return r;
    }
    do {
        run_turn(loop);
    } while (!loop->is_breaking &&
             __atomic_load_n(&loop->is_stopping, __ATOMIC_RELAXED) == 0);
    r = loop->is_breaking ? loop->break_code : 0;
    end_run(loop);
    return r;
}

void
bk_loop_stop(bk_loop *loop)
{
    if (loop == NULL) {
        return;
    }
    __atomic_store_n(&loop->is_stopping, 1, __ATOMIC_SEQ_CST);
    bki_inbox_wake(loop);
}

void
bk_loop_break(bk_loop *loop, int code)
{
    /* The first one counts, as the first exception does. */
    if (loop == NULL || !bk_loop_is_running(loop) || loop->is_breaking) {
        return;
    }
    loop->is_breaking = true;
    loop->break_code = code < 0 ? code : -EINVAL;
}

static int
init_loop(bk_loop *loop, const bk_loop_options *options)
{
    int r;

    loop->pid = bki_sys_getpid();
    if (bki_sys_fork_page_new(&loop->alive_page) == 0) {
        loop->alive_page[0] = 1;
    }
    r = bki_inbox_init(loop);
    if (r < 0) {
        return r;
    }
    r = bki_engine_choose(loop, options, &loop->engine);
    if (r < 0) {
        return r;
    }
    return bki_inbox_start(loop);
}

static void
free_loop(bk_loop *loop)
{
    bki_inbox_fini(loop);
    if (loop->engine != NULL) {
        loop->engine->ops->free(loop->engine);
    }
    bki_heap_fini(&loop->timers);
    bki_slab_fini(&loop->calls);
    bki_slab_fini(&loop->segments);
    bki_slab_fini(&loop->tls_blocks);
    bki_slab_fini(&loop->packets);
    bki_sys_free(loop->scratch);
    bki_inlet_free(loop->inlet);
    bki_sys_fork_page_free(loop->alive_page);
    bki_sys_free(loop);
}

int
bk_loop_new(const bk_loop_options *options, bk_loop **ret_loop)
{
    static const bk_loop_options defaults;
    bk_loop *loop;
    int r;

    if (ret_loop == NULL) {
        return -EINVAL;
    }
    loop = bki_sys_calloc(1, sizeof(*loop));
    if (loop == NULL) {
        return -ENOMEM;
    }
    bki_sys_find_direct();
    bki_list_init(&loop->ready);
    bki_list_init(&loop->batch);
    bki_list_init(&loop->found);
    bki_list_init(&loop->unsent);
    bki_mpsc_init(&loop->inbox);
    bki_heap_init(&loop->timers);
    bki_io_init(&loop->wake, loop, NULL);
    if (options == NULL) {
        options = &defaults;
    }
    loop->hooks = options->hooks;
    loop->is_polled_outside = options->poller != NULL;
    loop->delivery_ns_max = DELIVERY_NS_MAX;
    r = init_loop(loop, options);
    if (r < 0) {
        free_loop(loop);
        return r;
    }
    *ret_loop = loop;
    return 0;
}

int
bk_loop_close(bk_loop *loop)
{
    if (loop == NULL) {
        return -EINVAL;
    }
    if (bk_loop_is_running(loop)) {
        return -EBUSY;
    }
    if (loop->is_closed) {
        return 0;
    }
    bk_loop_flush(loop);
    __atomic_store_n(&loop->is_closed, true, __ATOMIC_RELEASE);
    if (loop->free_processes != NULL) {
        loop->free_processes(loop);
    }
    if (loop->free_signals != NULL) {
        loop->free_signals(loop);
    }
    if (loop->resolver != NULL) {
        struct bki_resolver *resolver = loop->resolver;

        loop->resolver = NULL;
        loop->free_resolver(resolver);
    }
    if (loop->free_owned != NULL) {
        loop->free_owned(loop);
    }
    while (bk_loop_pop(loop) != NULL) {
    }
    bki_inbox_fini(loop);
    loop->engine->ops->shut(loop->engine);
    bki_sys_free(loop->scratch);
    loop->scratch = NULL;
    bki_inlet_free(loop->inlet);
    loop->inlet = NULL;
    return 0;
}

void
bk_loop_free(bk_loop *loop)
{
    if (loop == NULL || bk_loop_close(loop) < 0) {
        return;
    }
    /* What was sent between close and now. */
    while (bk_loop_pop(loop) != NULL) {
    }
    free_loop(loop);
}

bool
bk_loop_is_running(const bk_loop *loop)
{
    return loop != NULL &&
           __atomic_load_n(&loop->thread, __ATOMIC_ACQUIRE) != 0;
}

bool
bk_loop_is_closed(const bk_loop *loop)
{
    return loop == NULL || __atomic_load_n(&loop->is_closed, __ATOMIC_ACQUIRE);
}

bool
bki_loop_is_own_thread(const bk_loop *loop)
{
    return __atomic_load_n(&loop->thread, __ATOMIC_RELAXED) ==
           bki_sys_thread_id();
}

bool
bki_loop_is_forked(const bk_loop *loop)
{
    if (loop->alive_page != NULL) {
        return loop->alive_page[0] == 0;
    }
    return loop->pid != bki_sys_getpid();
}

bool
bk_loop_is_forked(const bk_loop *loop)
{
    return loop != NULL && bki_loop_is_forked(loop);
}

const char *
bk_loop_backend(const bk_loop *loop)
{
    return loop != NULL ? loop->engine->backend : "";
}

bool
bk_loop_in_callback(const bk_loop *loop)
{
    return loop != NULL && loop->is_in_callback;
}

void
bk_loop_set_write_through(bk_loop *loop, bool is_on)
{
    if (loop == NULL) {
        return;
    }
    if (is_on) {
        bk_loop_flush(loop);
    }
    loop->is_write_through = is_on;
}

bool
bk_loop_get_write_through(const bk_loop *loop)
{
    return loop != NULL && loop->is_write_through;
}

char *
bki_loop_scratch(bk_loop *loop)
{
    if (loop->scratch == NULL) {
        loop->scratch = bki_sys_malloc(BK_READ_MAX);
    }
    return loop->scratch;
}

void
bki_loop_block(bk_loop *loop)
{
    if (loop->hooks.before_block != NULL) {
        loop->hooks.before_block(loop->hooks.arg);
    }
}

void
bki_loop_unblock(bk_loop *loop)
{
    if (loop->hooks.after_block != NULL) {
        loop->hooks.after_block(loop->hooks.arg);
    }
}
