/* SPDX-License-Identifier: MIT */
/* One connection to the server under test: a request, its reply, the next
 * request. Every function returns 0 or more, or a negative errno.
 */
#ifndef BENCH_CLIENT_H
#define BENCH_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "peer.h"
#include "tls.h"

/* What all connections exchange. */
struct exchange {
    const char *request; /* borrowed: request_len bytes, and for an echo as
                            many more as there are connections */
    size_t request_len;
    const char *reply; /* borrowed: what is expected; NULL: the request */
    size_t reply_len;  /* bytes of a reply; for HTTP those of the first */
    struct peer peer;  /* the server */
    bool is_http;
};

struct client {
    int fd; /* owned; -1: not open */
    struct tls tls;
    const char *request; /* borrowed: where this one's request starts */
    const char *unsent;  /* borrowed: what of it is not out yet, encrypted */
    size_t unsent_len;   /* bytes of that */
    size_t missing;      /* bytes of the reply that are not here yet */
};

/* Connect to the server, and shake hands. Connection i of an echo sends the
 * request from its byte i on, so that no two of them send the same.
 */
int client_open(struct client *c, const struct exchange *x, size_t i);

void client_close(struct client *c);

/* One whole exchange, waiting for each step at most ten seconds, in which an
 * echo is compared byte by byte. The first one of HTTP sets x->reply_len.
 */
int client_prove(struct client *c, struct exchange *x);

/* Wait for at most as many bytes of a reply to client_prove: a count, 0 at the
 * end, or a negative errno.
 */
ssize_t client_wait(struct client *c, char *data, size_t len);

/* Begin the next request: as much as the kernel takes now. */
int client_begin(struct client *c, const struct exchange *x);

/* Go on with a request that client_begin or this left unfinished. */
int client_send(struct client *c);

/* Take what is here of the reply; over TLS nobody looks into it. 1: it is
 * complete. 0: more is to come.
 */
int client_receive(struct client *c, const struct exchange *x);

#endif
