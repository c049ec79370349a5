/* echo_server.c -- sends back what it receives, over TCP.
 *
 * SPDX-License-Identifier: MIT
 *
 *     echo_server [host [port]]
 *
 * Port 0 takes one that is free; the program says which. Serves until it is
 * killed: signal_handlers.c shows how to end in order.
 */
#include <stdio.h>
#include <stdlib.h>

#include "becket/becket.h"

static void
on_data(bk_transport *transport, const void *data, size_t len, void *self)
{
    int r = bk_transport_write(transport, data, len);

    (void)self;
    if (r < 0) {
        bk_transport_abort(transport, r);
    }
}

/* Who does not read is not read from: so what waits in memory for a peer has a
 * limit, the high-water mark and one receive more. */
static void
on_pause(bk_transport *transport, void *self)
{
    (void)self;
    bk_transport_pause_reading(transport);
}

static void
on_resume(bk_transport *transport, void *self)
{
    (void)self;
    bk_transport_resume_reading(transport);
}

static const bk_protocol echo = {
    .data_received = on_data,
    .pause_writing = on_pause,
    .resume_writing = on_resume,
};

static int
print_address(const bk_server *server)
{
    char text[BK_ADDRESS_TEXT_MAX];
    bk_address address;
    int r = bk_server_getsockname(server, 0, &address);

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
    const bk_server_options options = {
        .host = argc > 1 ? argv[1] : "127.0.0.1",
        .port = (uint16_t)(argc > 2 ? atoi(argv[2]) : 8888),
    };
    bk_server *server = NULL;
    bk_loop *loop = NULL;
    int r = bk_loop_new(NULL, &loop);

    if (r == 0) {
        r = bk_loop_create_server(loop, &echo, NULL, &options, &server);
    }
    if (r == 0) {
        r = print_address(server);
    }
    if (r == 0) {
        r = bk_loop_run_forever(loop);
    }
    bk_server_free(server);
    bk_loop_free(loop);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
