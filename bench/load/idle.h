/* SPDX-License-Identifier: MIT */
/* Connections that echo once and then stay open, for measuring memory. */
#ifndef BENCH_IDLE_H
#define BENCH_IDLE_H

#include "client.h"

/* The request is as many bytes longer than a message, see client_open(). */
#define IDLE_SHIFTS 1024

/* For each number read from stdin: open as many more connections, echo once
 * over each, answer with the total. Until stdin ends.
 */
int idle_run(struct exchange *x);

#endif
