/* SPDX-License-Identifier: MIT */
/* The command line of the load generator. */
#ifndef BENCH_OPTIONS_H
#define BENCH_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "peer.h"

struct options {
    struct peer peer;
    pid_t server; /* whose processor time is read */
    size_t connections;
    size_t size;     /* bytes of an echoed message */
    double warm_up;  /* seconds before the measurement starts */
    double seconds;  /* how long it lasts; unused with operations */
    long operations; /* how many it lasts; 0: see seconds */
    bool is_http;    /* GET requests instead of echoes */
    bool is_file;    /* of that size, sent for a request of one byte */
    bool is_idle;    /* open connections as told on stdin */
};

/* Exits with a message when the command line is wrong. */
struct options options_parse(int argc, char **argv);

#endif
