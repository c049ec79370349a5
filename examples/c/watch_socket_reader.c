/* watch_socket_reader.c -- wait for a socket's data with a raw watch.
 *
 * SPDX-License-Identifier: MIT
 *
 * What loop.add_reader() is in asyncio. The fd stays the program's: the loop
 * tells when it can be read, and never closes it.
 */
#include <errno.h>
#include <stdio.h>
#include <sys/socket.h>
#include <unistd.h>

#include "becket/becket.h"

struct program {
    bk_loop *loop;
    int writer;
};

static void
on_readable(bk_watch *watch, unsigned events)
{
    char data[100];
    ssize_t len = read(bk_watch_fd(watch), data, sizeof(data));

    (void)events;
    (void)printf("Received: %.*s\n", len > 0 ? (int)len : 0, data);

    /* We are done: no more events, and stop the loop. */
    (void)bk_watch_set(watch, 0);
    bk_loop_stop(bk_watch_loop(watch));
}

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
run(struct program *self, int reader)
{
    bk_watch watch = {0};
    int r = bk_watch_init(&watch, self->loop, reader, on_readable);

    if (r == 0) {
        r = bk_watch_set(&watch, BK_READABLE);
    }
    if (r == 0) {
        r = bk_loop_call_soon(self->loop, send_abc, self, NULL);
    }
    if (r == 0) {
        r = bk_loop_run_forever(self->loop);
    }
    /* Before the loop is freed, and before the fd is closed. */
    (void)bk_watch_set(&watch, 0);
    return r;
}

int
main(void)
{
    struct program self = {0};
    int pair[2];
    int r;

    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair) < 0) {
        perror("socketpair");
        return 1;
    }
    self.writer = pair[1];
    r = bk_loop_new(NULL, &self.loop);
    if (r == 0) {
        r = run(&self, pair[0]);
    }
    bk_loop_free(self.loop);
    (void)close(pair[0]);
    (void)close(pair[1]);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
