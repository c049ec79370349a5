/* timer_wheel.c -- a thousand timers, each firing once in every turn.
 *
 * SPDX-License-Identifier: MIT
 *
 *     timer_wheel [turns]
 *
 * The timers are embedded: they live in the program's own array, so that
 * setting one, again and again, allocates nothing. They are set in no
 * particular order, every tenth is cancelled, and those that are left fire in
 * the order of their times, none of them early.
 */
#include <stdio.h>
#include <stdlib.h>

#include "becket/becket.h"

#define PERIOD_NS UINT64_C(100000000) /* one turn of the wheel */

enum { SPOKES = 1000, STEP = 387 /* no common divisor with SPOKES */ };

struct wheel {
    bk_loop *loop;
    uint64_t last_ns;
    unsigned fires; /* wanted */
    unsigned fired;
    unsigned early;
    unsigned disordered;
    struct spoke {
        bk_timer timer; /* first: its address is the spoke's */
        struct wheel *wheel;
    } spokes[SPOKES];
};

static void
on_timer(bk_handle *handle)
{
    struct spoke *spoke = (struct spoke *)(void *)bk_timer_of(handle);
    struct wheel *wheel = spoke->wheel;
    uint64_t when_ns = bk_timer_when(&spoke->timer);
    int r;

    if (wheel->fired == wheel->fires) {
        return; /* after bk_loop_stop() the rest of the batch still runs */
    }
    wheel->early += bk_loop_time(wheel->loop) < when_ns;
    wheel->disordered += when_ns < wheel->last_ns;
    wheel->last_ns = when_ns;
    if (++wheel->fired == wheel->fires) {
        bk_loop_stop(wheel->loop);
    }
    r = bk_loop_schedule_at(wheel->loop, &spoke->timer, when_ns + PERIOD_NS);
    if (r < 0) {
        bk_loop_break(wheel->loop, r);
    }
}

static int
run(struct wheel *wheel, unsigned turns)
{
    uint64_t start_ns = bk_loop_time(wheel->loop);
    unsigned cancelled = 0;

    for (unsigned i = 0; i < SPOKES; i++) {
        unsigned at = i * STEP % SPOKES;
        struct spoke *spoke = &wheel->spokes[at];
        int r;

        spoke->wheel = wheel;
        bk_timer_init(&spoke->timer, on_timer);
        r = bk_loop_schedule_at(wheel->loop, &spoke->timer,
                                start_ns + at * PERIOD_NS / SPOKES);
        if (r < 0) {
            return r;
        }
    }
    for (unsigned i = 0; i < SPOKES; i += 10) {
        cancelled += bk_timer_cancel(&wheel->spokes[i].timer) == 1;
    }
    (void)printf("%d timers, %u cancelled\n", SPOKES, cancelled);
    wheel->fires = (SPOKES - cancelled) * turns;
    return bk_loop_run_forever(wheel->loop);
}

int
main(int argc, char **argv)
{
    static struct wheel wheel;
    int turns = argc > 1 ? atoi(argv[1]) : 3;
    int r = bk_loop_new(NULL, &wheel.loop);

    if (r == 0) {
        r = run(&wheel, turns > 0 ? (unsigned)turns : 1);
    }
    /* The timers that are set again are just unlinked. */
    bk_loop_free(wheel.loop);
    (void)printf("%u fired, %u early, %u disordered\n", wheel.fired,
                 wheel.early, wheel.disordered);
    return r < 0;
}
