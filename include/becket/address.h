/* address.h -- a socket address of any family.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BECKET_ADDRESS_H
#define BECKET_ADDRESS_H

#include <netinet/in.h>
#include <sys/socket.h>

#include "becket/types.h"

BK_BEGIN_DECLS

/* Large enough for INET, INET6, and UNIX with a short name (25 bytes): what a
 * stream keeps of its ends. */
struct bk_address {
    socklen_t len; /* 0: unknown, or of a family that does not fit */
    union {
        struct sockaddr sa;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
    } u;
};

/* Longest text of bk_address_format: "[" IPv6 "%" scope "]:" port, NUL. */
#define BK_ADDRESS_TEXT_MAX 80

/* Parse an IPv4 or IPv6 literal (inet_pton(3); no scope id, no name), never
 * asking a resolver. family is AF_INET, AF_INET6 or AF_UNSPEC. -EINVAL: not a
 * literal of that family. Thread: any. */
BK_API int bk_address_parse(const char *host, uint16_t port, int family,
                            bk_address *ret_address);

/* Write "127.0.0.1:80", "[::1]:80" or the path of a Unix socket ("@name" if it
 * is abstract) and return the length, or -EAFNOSUPPORT, or -ENOSPC.
 * Thread: any. */
BK_API int bk_address_format(const bk_address *address, char *buf,
                             size_t buf_len);

BK_API int bk_address_family(const bk_address *address);    /* Thread: any. */
BK_API uint16_t bk_address_port(const bk_address *address); /* Thread: any. */

BK_END_DECLS

#endif
