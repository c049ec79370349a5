/* datagram_client.c -- sends a message over UDP, and prints the reply.
 *
 * SPDX-License-Identifier: MIT
 *
 *     datagram_client host port [message]
 *
 * A datagram may be lost, and so may its reply: it is sent anew each second.
 */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "becket/becket.h"

#define SECOND_NS UINT64_C(1000000000)
#define TRIES_MAX 5

struct client {
    bk_loop *loop;
    bk_datagram_transport *transport;
    const char *message;
    int tries;
};

static void
try_again(void *arg)
{
    struct client *client = arg;
    int r = bk_datagram_sendto(client->transport, client->message,
                               strlen(client->message), NULL, 0);

    if (r == 0) {
        r = client->tries++ < TRIES_MAX
                ? bk_loop_call_later(client->loop, SECOND_NS, try_again, client,
                                     NULL)
                : -ETIMEDOUT;
    }
    if (r < 0) {
        bk_loop_break(client->loop, r); /* the run ends with it */
    }
}

static void
on_datagram(bk_datagram_transport *transport, const void *data, size_t len,
            const struct sockaddr *address, socklen_t address_len, void *self)
{
    (void)transport;
    (void)address, (void)address_len; /* it is connected to this one */
    (void)printf("%.*s\n", (int)len, (const char *)data);
    bk_loop_stop(((struct client *)self)->loop);
}

/* Nobody listens there, say. */
static void
on_error(bk_datagram_transport *transport, int error, void *self)
{
    (void)transport;
    bk_loop_break(((struct client *)self)->loop, error);
}

static const bk_datagram_protocol protocol = {
    .datagram_received = on_datagram,
    .error_received = on_error,
};

int
main(int argc, char **argv)
{
    const bk_datagram_options options = {
        .remote_host = argc > 1 ? argv[1] : "localhost",
        .remote_port = (uint16_t)(argc > 2 ? atoi(argv[2]) : 9999),
    };
    struct client self = {.message = argc > 3 ? argv[3] : "Hello World!"};
    int r = bk_loop_new(NULL, &self.loop);

    if (r == 0) {
        r = bk_loop_create_datagram_endpoint(self.loop, &protocol, &self,
                                             &options, &self.transport);
    }
    if (r == 0) {
        r = bk_loop_call_soon(self.loop, try_again, &self, NULL);
    }
    if (r == 0) {
        r = bk_loop_run_forever(self.loop);
    }
    bk_loop_free(self.loop);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
