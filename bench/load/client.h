/* SPDX-License-Identifier: MIT */
/* One connection to the server under test: a request, its reply, the next
 * request. Every function returns 0 or more, or a negative errno.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>

#include "peer.h"

/* What all connections exchange. */
struct exchange {
    const char *request; /* borrowed: request_len bytes, and for an echo as
                            many more as there are connections */
    size_t request_len;
    size_t reply_len; /* bytes of a reply; for HTTP those of the first */
    struct peer peer; /* the server */
    bool is_http;
};

struct client {
    int fd;              /* owned; -1: not open */
    const char *request; /* borrowed: where this one's request starts */
    size_t unsent;       /* bytes of the request that are not out yet */
    size_t missing;      /* bytes of the reply that are not here yet */
};

/* Connect to the server. Connection i of an echo sends the request from its
 * byte i on, so that no two of them send the same.
 */
int client_open(struct client *c, const struct exchange *x, size_t i);

void client_close(struct client *c);

/* One whole exchange, waiting for each step at most ten seconds, in which an
 * echo is compared byte by byte. The first one of HTTP sets x->reply_len.
 */
int client_prove(struct client *c, struct exchange *x);

/* Begin the next request: as much as the kernel takes now. */
int client_begin(struct client *c, const struct exchange *x);

/* Go on with a request that client_begin or this left unfinished. */
int client_send(struct client *c);

/* Take what is here of the reply. 1: it is complete. 0: more is to come. */
int client_receive(struct client *c, const struct exchange *x);

#endif
