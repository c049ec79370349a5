/* address.c -- socket addresses and their text.
 *
 * SPDX-License-Identifier: MIT
 */

#include "becket/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <string.h>
#include <sys/un.h>

#include "net/internal.h"

static int
parse_v4(const char *host, uint16_t port, bk_address *ret_address)
{
    bk_address address = {.len = sizeof(struct sockaddr_in)};

    if (inet_pton(AF_INET, host, &address.u.in.sin_addr) != 1) {
        return -EINVAL;
    }
    address.u.in.sin_family = AF_INET;
    address.u.in.sin_port = htons(port);
    *ret_address = address;
    return 0;
}

static int
parse_v6(const char *host, uint16_t port, bk_address *ret_address)
{
    bk_address address = {.len = sizeof(struct sockaddr_in6)};

    if (inet_pton(AF_INET6, host, &address.u.in6.sin6_addr) != 1) {
        return -EINVAL;
    }
    address.u.in6.sin6_family = AF_INET6;
    address.u.in6.sin6_port = htons(port);
    *ret_address = address;
    return 0;
}

int
bk_address_parse(const char *host, uint16_t port, int family,
                 bk_address *ret_address)
{
    if (host == NULL || ret_address == NULL) {
        return -EINVAL;
    }
    switch (family) {
    case AF_INET:
        return parse_v4(host, port, ret_address);
    case AF_INET6:
        return parse_v6(host, port, ret_address);
    case AF_UNSPEC:
        if (parse_v4(host, port, ret_address) == 0) {
            return 0;
        }
        return parse_v6(host, port, ret_address);
    default:
        return -EINVAL;
    }
}

static int
format_v4(const bk_address *address, char text[BK_ADDRESS_TEXT_MAX])
{
    char host[INET_ADDRSTRLEN];

    (void)inet_ntop(AF_INET, &address->u.in.sin_addr, host, sizeof(host));
    return snprintf(text, BK_ADDRESS_TEXT_MAX, "%s:%u", host,
                    (unsigned)bk_address_port(address));
}

static int
format_v6(const bk_address *address, char text[BK_ADDRESS_TEXT_MAX])
{
    const struct sockaddr_in6 *in6 = &address->u.in6;
    char host[INET6_ADDRSTRLEN];
    char scope[12] = ""; /* "%" and 32 bits */

    if (in6->sin6_scope_id != 0) {
        (void)snprintf(scope, sizeof(scope), "%%%u",
                       (unsigned)in6->sin6_scope_id);
    }
    (void)inet_ntop(AF_INET6, &in6->sin6_addr, host, sizeof(host));
    return snprintf(text, BK_ADDRESS_TEXT_MAX, "[%s%s]:%u", host, scope,
                    (unsigned)bk_address_port(address));
}

/* The path as it is; "@" for the NUL of an abstract one, as the proc file
 * system shows it. */
static int
format_unix(const bk_address *address, char text[BK_ADDRESS_TEXT_MAX])
{
    size_t len = address->len - offsetof(struct sockaddr_un, sun_path);
    const char *path =
        (const char *)&address->u + offsetof(struct sockaddr_un, sun_path);

    if (len > 0 && path[0] == '\0') {
        return snprintf(text, BK_ADDRESS_TEXT_MAX, "@%.*s", (int)len - 1,
                        path + 1);
    }
    return snprintf(text, BK_ADDRESS_TEXT_MAX, "%.*s", (int)len, path);
}

int
bk_address_format(const bk_address *address, char *buf, size_t buf_len)
{
    char text[BK_ADDRESS_TEXT_MAX];
    int len;

    if (address == NULL || buf == NULL) {
        return -EINVAL;
    }
    switch (bk_address_family(address)) {
    case AF_INET:
        len = format_v4(address, text);
        break;
    case AF_INET6:
        len = format_v6(address, text);
        break;
    case AF_UNIX:
        len = format_unix(address, text);
        break;
    default:
        return -EAFNOSUPPORT;
    }
    if ((size_t)len >= buf_len) {
        return -ENOSPC;
    }
    memcpy(buf, text, (size_t)len + 1);
    return len;
}

int
bk_address_family(const bk_address *address)
{
    if (address == NULL || address->len == 0) {
        return AF_UNSPEC;
    }
    return address->u.sa.sa_family;
}

uint16_t
bk_address_port(const bk_address *address)
{
    switch (bk_address_family(address)) {
    case AF_INET:
        return ntohs(address->u.in.sin_port);
    case AF_INET6:
        return ntohs(address->u.in6.sin6_port);
    default:
        return 0;
    }
}

int
bki_address_from_sockaddr(const struct sockaddr *address, socklen_t len,
                          bk_address *ret_address)
{
    bk_address copy = {.len = len};

    if (len < sizeof(sa_family_t) || len > sizeof(copy.u) ||
        (address->sa_family != AF_INET && address->sa_family != AF_INET6 &&
         address->sa_family != AF_UNIX)) {
        return -EAFNOSUPPORT;
    }
    memcpy(&copy.u, address, len);
    *ret_address = copy;
    return 0;
}
