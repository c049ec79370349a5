/* internal.h -- the loop's state, for the files of src/.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKI_LOOP_INTERNAL_H
#define BKI_LOOP_INTERNAL_H

#include "becket/loop.h"
#include "becket/stats.h"
#include "becket/timer.h"
#include "becket/transport.h"

#include "base/heap.h"
#include "base/list.h"
#include "base/mpsc.h"
#include "base/slab.h"
#include "engine/engine.h"

struct bki_inlet;
struct bki_resolver;
struct bki_owned;
struct bki_signal;

/* Where a handle is: its _state. Only sending changes it from another thread:
 * IDLE to SENT, atomically. What the loop did with the handle before it made it
 * idle comes before what the sender does. */
enum {
    BKI_HANDLE_IDLE,
    BKI_HANDLE_QUEUED,  /* in the ready queue or the batch */
    BKI_HANDLE_SENT,    /* in the inbox */
    BKI_HANDLE_WAITING, /* a timer in the heap */
};

/* Bits of a handle's _flags. */
enum {
    /* A stream's _lost that only keeps its place in the ready queue until the
     * stream is flushed, which happens before the loop looks at the queue
     * again. bk_loop_visit() skips it, bk_loop_pop() flushes first. */
    BKI_HANDLE_PLACEHOLDER = 1 << 0,
    BKI_HANDLE_IS_IO = 1 << 1,       /* a direction of a bk_io, or a signal */
    BKI_HANDLE_IS_TIMER = 1 << 2,    /* the first member of a bk_timer */
    BKI_HANDLE_IS_OWNED = 1 << 3,    /* the library's: from loop->calls, */
    BKI_HANDLE_IS_MALLOCED = 1 << 4, /* or from malloc */
};

struct bk_loop {
    struct bki_list ready; /* handles, in the order they will run */
    struct bki_list batch; /* the part of it that this turn runs */
    struct bki_list found; /* I/O that is ready before the next wait */
    struct bki_heap timers;
    struct bki_mpsc inbox; /* what other threads sent */
    uint32_t is_asleep;    /* atomic: a sender must wake the loop */
    uint32_t wakers_count; /* atomic: senders that may be writing to wake._fd */
    uint32_t is_stopping;  /* atomic */
    bk_io wake;            /* owns the inbox's eventfd */
    struct bki_engine *engine; /* owned; shut on close, freed with the loop */
    bk_transport *flush_head;  /* streams with writes of this callback, */
    bk_transport *flush_tail;  /* in the order of their first write */
    void (*flush_stream)(bk_transport *transport); /* set by src/net */
    struct bki_list unsent; /* datagram transports that hold sends back, */
    void (*flush_unsent)(bk_loop *loop); /* sent by this, set by src/net */
    struct bki_slab segments;            /* write-queue segments, src/net */
    struct bki_slab packets;             /* datagrams that wait, src/net */
    struct bki_slab tls_blocks;          /* records under way, src/tls */
    struct bki_list tls_warm;            /* TLS that keeps its buffers, */
    void (*cool_tls)(bk_loop *loop);     /* until this; set by src/tls */
    uint32_t tls_warm_count;
    struct bki_slab calls;         /* what bk_loop_call_soon() allocates */
    char *scratch;                 /* owned: BK_READ_MAX bytes, or NULL */
    struct bki_inlet *inlet;       /* owned; NULL until first needed */
    struct bki_resolver *resolver; /* owned; NULL until first needed */
    void (*free_resolver)(struct bki_resolver *resolver); /* set by src/net */
    struct bki_owned *owned_head;      /* what src/net allocated for C users */
    void (*free_owned)(bk_loop *loop); /* set by src/net; bk_loop_close calls
                                        * it while the engine still exists */
    struct bki_signal *signals;        /* handlers of signals, src/process */
    void (*free_signals)(bk_loop *loop);   /* set by src/process */
    bk_process *processes;                 /* those that were not freed */
    void (*free_processes)(bk_loop *loop); /* set by src/process */
    bk_loop_hooks hooks;
    bk_loop_stats stats;
    uint64_t run_since_ns;        /* when this run began */
    uint64_t run_idle_ns;         /* stats.idle_ns when this run began */
    uint64_t woken_ns;            /* when the last wait that slept ended */
    uint64_t ended_ns;            /* now, right after a turn; 0: not known */
    uint64_t offered_ns;          /* when the embedder's lock was last offered
                                   * for the first time, or given up in a wait
                                   */
    volatile uint8_t *alive_page; /* owned; 0 in a forked child; or NULL, and */
    int pid;                      /* the process id tells */
    uint32_t unlooked_turns;      /* since offered_ns was compared last */
    uint64_t delivery_ns_max;     /* how long a burst may be delivered */
    uint64_t thread; /* atomic: the thread that runs it, 0 when none */
    int break_code;
    bool is_offering; /* its embedder's lock, in each turn */
    bool is_breaking;
    bool is_polled_outside; /* by a poller from outside */
    bool is_closed;         /* atomic: written by the loop's thread */
    bool is_in_callback;
    bool is_write_through;
    bool is_delivering;  /* several datagrams: what is sent is held back */
    bool has_slept;      /* the wait of this turn could block */
    uint8_t awake_turns; /* those after it whose lag was measured */
};

static inline uint32_t
bki_handle_state(const bk_handle *handle)
{
    return __atomic_load_n(&handle->_state, __ATOMIC_RELAXED);
}

/* Who finds it idle may link it anew, in any thread: what was written to it
 * before comes first. */
static inline void
bki_handle_set_state(bk_handle *handle, uint32_t state)
{
    __atomic_store_n(&handle->_state, state, __ATOMIC_RELEASE);
}

/* Append to the ready queue. What other threads sent earlier goes first. The
 * handle must be idle. */
void bki_ready_push(bk_loop *loop, bk_handle *handle);

/* Have it run in the next turn as I/O that the wait has found, before all of
 * it. The handle, a direction of an io, must be idle. */
void bki_ready_push_found(bk_loop *loop, bk_handle *handle);

/* Append those to the ready queue. */
void bki_ready_link_found(bk_loop *loop);

/* Nothing that is known of would run before an event of an io that is ready
 * all the time: the rest of this turn is empty, and the next one would begin
 * with I/O. So whoever has more of that io's may go on in this turn. Timers are
 * for bki_timers_are_due() to tell. */
bool bki_ready_is_empty(const bk_loop *loop);

/* Take it out of whichever list holds it; true if it was in one. */
bool bki_ready_remove(bk_loop *loop, bk_handle *handle);

/* Run the batch until it is empty, or until a break: the rest then goes back
 * to the front of the ready queue. */
void bki_ready_run(bk_loop *loop);

/* Give back the memory of a handle that the library allocated and that is in
 * no queue; nothing happens to others. */
void bki_handle_release(bk_loop *loop, bk_handle *handle);

/* Append the timers that are due. */
void bki_timers_expire(bk_loop *loop);

/* Whether there are any. Reads the clock if there may be. */
bool bki_timers_are_due(const bk_loop *loop);

/* The inbox, src/loop/inbox.c. */
int bki_inbox_init(bk_loop *loop);         /* make its eventfd */
int bki_inbox_start(bk_loop *loop);        /* have the engine watch it */
void bki_inbox_fini(bk_loop *loop);        /* accepts a half-built one */
void bki_inbox_take(bk_loop *loop);        /* append what was sent */
bool bki_inbox_fall_asleep(bk_loop *loop); /* false: there is work */
void bki_inbox_awake(bk_loop *loop);
void bki_inbox_drain(bk_loop *loop); /* the eventfd is readable */
void bki_inbox_wake(bk_loop *loop);  /* Thread: any */

/* The counters, src/loop/stats.c. */
void bki_stats_run_begin(bk_loop *loop);
void bki_stats_run_end(bk_loop *loop);
void bki_stats_add_lag(bk_loop_stats *stats, uint64_t lag_ns);

/* Another thread may not call, but when it does (and an embedder's lock makes
 * that harmless) what it writes shall not wait for a callback that it is not
 * in. */
bool bki_loop_is_own_thread(const bk_loop *loop);

/* True in the copy that a forked child has. Nothing may then be said to
 * kernel objects that the parent shares. */
bool bki_loop_is_forked(const bk_loop *loop);

/* The scratch buffer of BK_READ_MAX bytes, or NULL without memory. */
char *bki_loop_scratch(bk_loop *loop);

/* Put a stream in the list of those to flush, or take it out. Idempotent. */
void bki_flush_add(bk_loop *loop, bk_transport *transport);
void bki_flush_remove(bk_loop *loop, bk_transport *transport);

/* Send what streams have queued in the current callback: those that wrote
 * before this one did, or if it has nothing queued, or is NULL, all of them.
 * Before any of them goes what datagram transports hold back. */
void bki_loop_flush_before(bk_loop *loop, const bk_transport *transport);

/* The same for a stream that is sent before its callback returns: it comes
 * after what others wrote or sent before it. The owners of their buffers may do
 * anything. */
void bki_loop_flush_earlier(bk_loop *loop, const bk_transport *transport);

/* The same for a datagram, which others that are held back may still join. */
void bki_loop_flush_streams(bk_loop *loop);

/* Around a system call that can take long. */
void bki_loop_block(bk_loop *loop);
void bki_loop_unblock(bk_loop *loop);

#endif
