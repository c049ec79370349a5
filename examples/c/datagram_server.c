/* datagram_server.c -- sends back what it receives, over UDP.
 *
 * SPDX-License-Identifier: MIT
 *
 *     datagram_server [host [port]]
 *
 * Port 0 takes one that is free; the program says which. Serves until it is
 * killed: signal_handlers.c shows how to end in order.
 */
#include <stdio.h>
#include <stdlib.h>

#include "becket/becket.h"

/* When several datagrams are there, their replies leave in one system call. */
static void
on_datagram(bk_datagram_transport *transport, const void *data, size_t len,
            const struct sockaddr *address, socklen_t address_len, void *self)
{
    (void)self;
    (void)bk_datagram_sendto(transport, data, len, address, address_len);
}

/* UDP promises nothing, so a reply that cannot be sent ends nothing. */
static void
on_error(bk_datagram_transport *transport, int error, void *self)
{
    (void)transport;
    (void)self;
    (void)fprintf(stderr, "%s\n", bk_strerror(error));
}

/* Who is not rid of replies takes no more requests. */
static void
on_pause(bk_datagram_transport *transport, void *self)
{
    (void)self;
    bk_datagram_pause_reading(transport);
}

static void
on_resume(bk_datagram_transport *transport, void *self)
{
    (void)self;
    bk_datagram_resume_reading(transport);
}

static const bk_datagram_protocol echo = {
    .datagram_received = on_datagram,
    .error_received = on_error,
    .pause_writing = on_pause,
    .resume_writing = on_resume,
};

static int
print_address(const bk_datagram_transport *transport)
{
    char text[BK_ADDRESS_TEXT_MAX];
    bk_address address;
    int r = bk_datagram_getsockname(transport, &address);

    if (r == 0) {
        r = bk_address_format(&address, text, sizeof(text));
    }
    if (r > 0) {
        (void)printf("listening on %s\n", text);
        (void)fflush(stdout);
    }
    return r < 0 ? r : 0;
}

int
main(int argc, char **argv)
{
    const bk_datagram_options options = {
        .local_host = argc > 1 ? argv[1] : "127.0.0.1",
        .local_port = (uint16_t)(argc > 2 ? atoi(argv[2]) : 9999),
    };
    bk_datagram_transport *transport = NULL;
    bk_loop *loop = NULL;
    int r = bk_loop_new(NULL, &loop);

    if (r == 0) {
        r = bk_loop_create_datagram_endpoint(loop, &echo, NULL, &options,
                                             &transport);
    }
    if (r == 0) {
        r = print_address(transport);
    }
    if (r == 0) {
        r = bk_loop_run_forever(loop);
    }
    bk_loop_free(loop);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
