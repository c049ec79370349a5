/* SPDX-License-Identifier: MIT */
/* As much of HTTP/1.1 as a load generator needs. */
#include "http.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#define REPLY_BYTES_MAX 65536 /* ours is a greeting */

const char http_request[] = "GET / HTTP/1.1\r\n"
                            "Host: localhost\r\n"
                            "\r\n";

/* The whole reply's length; 0: its headers are not complete. */
static int
find_length(const char *text, size_t *ret_len)
{
    static const char name[] = "\r\ncontent-length:";
    const char *end = strstr(text, "\r\n\r\n");
    const char *field = strcasestr(text, name);

    if (end == NULL) {
        *ret_len = 0;
        return 0;
    }
    if (strncmp(text, "HTTP/1.1 200", 12) != 0 || field == NULL ||
        field > end) {
        return -EBADMSG;
    }
    *ret_len =
        (size_t)(end - text) + 4 + strtoul(field + strlen(name), NULL, 10);
    return *ret_len < REPLY_BYTES_MAX ? 0 : -EBADMSG;
}

int
http_receive(struct client *c, size_t *ret_len)
{
    char reply[REPLY_BYTES_MAX + 1];
    size_t have = 0;

    for (;;) {
        ssize_t n = client_wait(c, reply + have, REPLY_BYTES_MAX - have);
        size_t len;
        int r;

        if (n <= 0) {
            return n < 0 ? (int)n : -ECONNRESET;
        }
        have += (size_t)n;
        reply[have] = '\0';
        r = find_length(reply, &len);
        if (r < 0) {
            return r;
        }
        if (len > 0 && have >= len) {
            *ret_len = len;
            return have == len ? 0 : -EBADMSG;
        }
    }
}
