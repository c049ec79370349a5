/* fuzz_address.c -- addresses from text, to text, and back.
 *
 * SPDX-License-Identifier: MIT
 *
 * The first two bytes choose the family and the buffer's size. The rest is a
 * text to parse, and then a struct sockaddr to format.
 */
#include <stdbool.h>
#include <string.h>

#include "becket/address.h"
#include "input.h"

static const int families[] = {AF_UNSPEC, AF_INET, AF_INET6, AF_UNIX, 77};

/* What was formatted fits, ends, and nothing lies behind it. */
static int
format(const bk_address *address, size_t len)
{
    char *buf = malloc(len == 0 ? 1 : len);
    int r;

    EXPECT(buf != NULL);
    r = bk_address_format(address, buf, len);
    EXPECT(r < (int)len || r < 0);
    EXPECT(r < 0 || strlen(buf) == (size_t)r);
    free(buf);
    return r;
}

/* The host part of what was formatted means the same address. */
static void
round_trip(const bk_address *address)
{
    char text[BK_ADDRESS_TEXT_MAX];
    char *host = text;
    char *end;
    bk_address again;
    int family = bk_address_family(address);

    EXPECT(bk_address_format(address, text, sizeof(text)) > 0);
    end = strrchr(text, ':');
    EXPECT(end != NULL);
    EXPECT(strtoul(end + 1, NULL, 10) == bk_address_port(address));
    *end = '\0';
    if (family == AF_INET6) {
        EXPECT(host[0] == '[' && end[-1] == ']');
        end[-1] = '\0';
        host++;
    }
    EXPECT(bk_address_parse(host, bk_address_port(address), family, &again) ==
           0);
    EXPECT(again.len == address->len);
    EXPECT(memcmp(&again.u, &address->u, address->len) == 0);
}

static void
parse(const uint8_t *data, size_t len, int family, size_t room)
{
    char *text = malloc(len + 1);
    bk_address address;

    EXPECT(text != NULL);
    memcpy(text, data, len);
    text[len] = '\0';
    if (bk_address_parse(text, (uint16_t)(len * 257), family, &address) == 0) {
        EXPECT(family == AF_UNSPEC || bk_address_family(&address) == family);
        round_trip(&address);
        (void)format(&address, room);
    }
    free(text);
}

int
LLVMFuzzerTestOneInput(const uint8_t *data, size_t len)
{
    struct input input = {data, len};
    int family =
        families[input_byte(&input) % (sizeof(families) / sizeof(families[0]))];
    size_t room = input_byte(&input) % (BK_ADDRESS_TEXT_MAX + 40);
    bk_address address;

    parse(input.data, input.len, family, room);
    memset(&address, 0, sizeof(address));
    address.len =
        (socklen_t)(input.len < sizeof(address.u) ? input.len
                                                  : sizeof(address.u));
    memcpy(&address.u, input.data, address.len);
    (void)bk_address_port(&address);
    (void)bk_address_family(&address);
    (void)format(&address, room);
    return 0;
}
