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

struct bki_resolver;

struct bk_loop {
    struct bki_list ready; /* handles, in the order they will run */
    struct bki_list batch; /* the part of it that this turn runs */
    struct bki_heap timers;
    struct bki_mpsc inbox; /* what other threads sent */
    uint32_t is_asleep;    /* atomic: a sender must wake the loop */
    uint32_t is_stopping;  /* atomic */
    int wake_fd;           /* owned eventfd */
    bk_watch wake;         /* on wake_fd */
    struct bki_engine *engine;  /* owned */
    bk_transport *flush_head;   /* streams with writes of this callback, */
    bk_transport *flush_tail;   /* in the order of their first write */
    void (*flush_stream)(bk_transport *transport); /* set by src/net */
    struct bki_slab segments;   /* write-queue segments, src/net */
    char *scratch;              /* owned: BK_READ_MAX bytes, made when needed */
    struct bki_resolver *resolver; /* owned; NULL until first needed */
    void (*free_resolver)(struct bki_resolver *resolver); /* set by src/net */
    bk_loop_hooks hooks;
    bk_loop_stats stats;
    uint64_t released_ns; /* when the block hooks ran last */
    const volatile uint8_t *alive_page; /* owned; 0 in a forked child */
    uint64_t thread;   /* atomic: the thread that runs it, 0 when none */
    int break_code;
    bool is_breaking;
    bool is_closed;
    bool is_in_callback;
    bool is_write_through;
};

/* Append to the ready queue. What other threads sent earlier goes first. The
 * handle must be idle. */
void bki_ready_push(bk_loop *loop, bk_handle *handle);

/* Take it out if it is in the ready queue or the batch. */
void bki_ready_remove(bk_loop *loop, bk_handle *handle);

/* The scratch buffer of BK_READ_MAX bytes, or NULL without memory. */
char *bki_loop_scratch(bk_loop *loop);

/* Put a stream in the list of those to flush, or take it out. Idempotent. */
void bki_flush_add(bk_loop *loop, bk_transport *transport);
void bki_flush_remove(bk_loop *loop, bk_transport *transport);

/* Around a system call that can take long. */
void bki_loop_block(bk_loop *loop);
void bki_loop_unblock(bk_loop *loop);

#endif
