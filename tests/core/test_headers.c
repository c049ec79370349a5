/* test_headers.c -- the headers as a strict C11 program sees them.
 *
 * SPDX-License-Identifier: MIT
 *
 * The test is the build: each header is the first of a file of its own, with
 * no extensions and all warnings as errors. What is left to run is that they
 * all agree with each other and with the library.
 */
#include "becket/becket.h"

#include <stddef.h>

static int runs_count;

static void
on_handle(bk_handle *handle)
{
    (void)handle;
    runs_count++;
}

int
main(void)
{
    bk_handle handle;
    bk_loop *loop = NULL;

    bk_handle_init(&handle, on_handle);
    if (bk_loop_new(NULL, &loop) != 0 || bk_loop_schedule(loop, &handle) != 0) {
        return 1;
    }
    bk_loop_stop(loop);
    if (bk_loop_run_forever(loop) != 0) {
        return 1;
    }
    bk_loop_free(loop);
    return runs_count == 1 ? 0 : 1;
}
