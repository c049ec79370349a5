/* SPDX-License-Identifier: MIT */
/* Connections that echo once and then stay open, for measuring memory. */
#include "idle.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>

static int
open_one(struct exchange *x, size_t i)
{
    struct client c;
    int r = client_open(&c, x, i);

    if (r == 0) {
        r = client_prove(&c, x);
    }
    return r; /* it stays open until the process ends */
}

int
idle_run(struct exchange *x)
{
    char line[32];
    size_t total = 0;

    while (fgets(line, sizeof(line), stdin) != NULL) {
        for (long left = strtol(line, NULL, 10); left > 0; left--) {
            int r = open_one(x, total % IDLE_SHIFTS);

            if (r < 0) {
                return r;
            }
            total++;
        }
        printf("%zu\n", total);
        if (fflush(stdout) != 0) {
            return -EPIPE;
        }
    }
    return 0;
}
