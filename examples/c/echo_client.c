/* echo_client.c -- sends a message over TCP, and prints what comes back.
 *
 * SPDX-License-Identifier: MIT
 *
 *     echo_client host port [message]
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "becket/becket.h"

struct client {
    bk_loop *loop;
    const char *message;
    int error; /* what ended the connection, or why there was none */
};

static void
end(struct client *client, int error)
{
    client->error = error;
    bk_loop_stop(client->loop);
}

static void
on_connection(bk_transport *transport, void *self)
{
    struct client *client = self;
    int r =
        bk_transport_write(transport, client->message, strlen(client->message));

    if (r == 0) {
        r = bk_transport_write_eof(transport); /* that is all */
    }
    if (r < 0) {
        bk_transport_abort(transport, r);
    }
}

/* In pieces of any size: TCP keeps the bytes, not the messages. */
static void
on_data(bk_transport *transport, const void *data, size_t len, void *self)
{
    (void)transport;
    (void)self;
    (void)fwrite(data, 1, len, stdout);
}

static void
on_lost(bk_transport *transport, int error, void *self)
{
    (void)transport;
    (void)putchar('\n');
    end(self, error);
}

static const bk_protocol protocol = {
    .connection_made = on_connection,
    .data_received = on_data,
    .connection_lost = on_lost,
};

/* Called also when there is no connection, unlike the protocol's methods. */
static void
on_connect(bk_connector *connector, int error, bk_transport *transport,
           void *self)
{
    (void)connector;
    (void)transport;
    if (error < 0) {
        end(self, error);
    }
}

int
main(int argc, char **argv)
{
    const bk_connect_options options = {
        .host = argc > 1 ? argv[1] : "localhost",
        .port = (uint16_t)(argc > 2 ? atoi(argv[2]) : 8888),
    };
    struct client self = {.message = argc > 3 ? argv[3] : "Hello World!"};
    int r = bk_loop_new(NULL, &self.loop);

    if (r == 0) {
        r = bk_loop_create_connection(self.loop, &protocol, &self, &options,
                                      on_connect, NULL);
    }
    if (r == 0) {
        r = bk_loop_run_forever(self.loop);
        r = r < 0 ? r : self.error;
    }
    bk_loop_free(self.loop);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
