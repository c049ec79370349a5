/* watch_socket_protocol.c -- wait for a socket's data with a protocol.
 *
 * SPDX-License-Identifier: MIT
 *
 * The socket is there already, so its transport is an embedded one: it lives
 * in the program's own struct, and the library allocates nothing for it.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "becket/becket.h"

struct program {
    bk_loop *loop;
    bk_transport transport;
    int writer; /* owned; the transport owns the other end */
};

static void
on_data(bk_transport *transport, const void *data, size_t len, void *self)
{
    (void)self;
    (void)printf("Received: %.*s\n", (int)len, (const char *)data);

    /* We are done: close the transport; on_closed follows. */
    bk_transport_close(transport);
}

static void
on_closed(bk_transport *transport, void *self)
{
    struct program *program = self;

    /* The socket has been closed. */
    (void)transport;
    bk_loop_stop(program->loop);
}

static const bk_protocol print_once = {
    .data_received = on_data,
    .on_closed = on_closed,
};

/* Simulate the reception of data from the network. */
static void
send_abc(void *arg)
{
    struct program *self = arg;

    if (write(self->writer, "abc", 3) < 0) {
        bk_loop_break(self->loop, -errno);
    }
}

static int
run(struct program *self)
{
    int pair[2];
    int r = bk_transport_init(&self->transport, self->loop, &print_once, self);

    if (r < 0) {
        return r;
    }
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0) {
        return -errno;
    }
    self->writer = pair[1];
    r = bk_transport_open_fd(&self->transport, pair[0]);
    if (r == 0) {
        r = bk_transport_start(&self->transport);
    }
    if (r == 0) {
        r = bk_loop_call_soon(self->loop, send_abc, self, NULL);
    }
    if (r == 0) {
        r = bk_loop_run_forever(self->loop);
    }
    bk_transport_release(&self->transport);
    (void)close(self->writer);
    return r;
}

int
main(void)
{
    struct program self = {0};
    int r = bk_loop_new(NULL, &self.loop);

    if (r == 0) {
        r = run(&self);
    }
    bk_loop_free(self.loop);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
