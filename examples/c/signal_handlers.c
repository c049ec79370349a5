/* signal_handlers.c -- handle SIGINT and SIGTERM in the loop.
 *
 * SPDX-License-Identifier: MIT
 *
 * The callback runs in the loop's turn, as every other one, so it may do
 * anything: it is not a signal handler in the sense of signal(7).
 */
#include <signal.h>
#include <stdio.h>
#include <unistd.h>

#include "becket/becket.h"

static void
ask_exit(bk_loop *loop, int signum, void *arg)
{
    (void)arg;
    (void)printf("got signal %s: exit\n",
                 signum == SIGINT ? "SIGINT" : "SIGTERM");
    bk_loop_stop(loop);
}

static int
run(bk_loop *loop)
{
    int r = bk_loop_add_signal_handler(loop, SIGINT, ask_exit, NULL);

    if (r == 0) {
        r = bk_loop_add_signal_handler(loop, SIGTERM, ask_exit, NULL);
    }
    if (r < 0) {
        return r;
    }
    (void)puts("Event loop running forever, press Ctrl+C to interrupt.");
    (void)printf("pid %d: send SIGINT or SIGTERM to exit.\n", (int)getpid());
    (void)fflush(stdout);
    return bk_loop_run_forever(loop);
}

int
main(void)
{
    bk_loop *loop = NULL;
    int r = bk_loop_new(NULL, &loop);

    if (r == 0) {
        r = run(loop);
    }
    bk_loop_free(loop); /* SIGINT and SIGTERM do again what they did before */
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
