/* SPDX-License-Identifier: MIT */
/* The server under test, and how to connect to it. */
#ifndef BENCH_PEER_H
#define BENCH_PEER_H

#define MESSAGE_BYTES_MAX (1 << 20)

enum transport {
    TCP,
    TLS, /* over TCP */
    UDP,
    UNIX,
};

struct peer {
    enum transport transport;
    int port;         /* on the loopback address */
    const char *name; /* borrowed; UNIX: in the abstract namespace */
};

/* Open a blocking socket that gives up after ten seconds, and connect it.
 * *fd is it, also after a failure, or -1. 0, or a negative errno.
 */
int peer_connect(const struct peer *peer, int *fd);

#endif
