/* hello_world.c -- Hello World with bk_loop_call_soon().
 *
 * SPDX-License-Identifier: MIT
 *
 * A callback prints and stops the loop.
 */
#include <stdio.h>

#include "becket/becket.h"

static void
hello_world(void *arg)
{
    bk_loop *loop = arg;

    (void)puts("Hello World");
    bk_loop_stop(loop);
}

int
main(void)
{
    bk_loop *loop = NULL;
    int r = bk_loop_new(NULL, &loop);

    /* Schedule a call to hello_world(). */
    if (r == 0) {
        r = bk_loop_call_soon(loop, hello_world, loop, NULL);
    }
    /* Blocks until bk_loop_stop() is called. */
    if (r == 0) {
        r = bk_loop_run_forever(loop);
    }
    bk_loop_free(loop);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
