/* SPDX-License-Identifier: MIT */
/* As much of HTTP/1.1 as a load generator needs. */
#ifndef BENCH_HTTP_H
#define BENCH_HTTP_H

#include <stddef.h>

#include "client.h"

extern const char http_request[];

/* Wait for a whole reply and find its length, headers
 * included. -EBADMSG: not a 200 with a Content-Length, or too large.
 */
int http_receive(struct client *c, size_t *ret_len);

#endif
