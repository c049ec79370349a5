/* choose_poller.c -- choose how the loop waits for events.
 *
 * SPDX-License-Identifier: MIT
 *
 *     choose_poller [auto | epoll | poll | own]
 *
 * "auto", or no choice, takes the best there is. A choice that cannot be had
 * is an error, and never replaced by another. "own" is own_poller.c.
 */
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "becket/becket.h"
#include "own_poller.h"

#define MILLISECOND_NS UINT64_C(1000000)

struct program {
    bk_loop *loop;
    int pipe[2];
};

static void
on_readable(bk_watch *watch, unsigned events)
{
    char data[100];
    ssize_t len = read(bk_watch_fd(watch), data, sizeof(data));

    (void)events;
    (void)printf("Received: %.*s\n", len > 0 ? (int)len : 0, data);
    bk_loop_stop(bk_watch_loop(watch));
}

static void
send_abc(void *arg)
{
    struct program *self = arg;

    if (write(self->pipe[1], "abc", 3) < 0) {
        bk_loop_break(self->loop, -errno);
    }
}

static int
run(struct program *self)
{
    bk_watch watch = {0};
    int r = bk_watch_init(&watch, self->loop, self->pipe[0], on_readable);

    if (r == 0) {
        r = bk_watch_set(&watch, BK_READABLE);
    }
    if (r == 0) {
        r = bk_loop_call_later(self->loop, MILLISECOND_NS, send_abc, self,
                               NULL);
    }
    if (r == 0) {
        (void)printf("%s: running\n", bk_loop_backend(self->loop));
        r = bk_loop_run_forever(self->loop);
    }
    (void)bk_watch_set(&watch, 0);
    return r;
}

int
main(int argc, char **argv)
{
    struct own_poller poller = {0};
    struct program self = {0};
    bk_loop_options options = {.backend = argc > 1 ? argv[1] : "auto"};
    int r;

    if (strcmp(options.backend, "own") == 0) {
        options =
            (bk_loop_options){.poller = &own_poller, .poller_self = &poller};
    }
    if (pipe(self.pipe) < 0) {
        perror("pipe");
        return 1;
    }
    r = bk_loop_new(&options, &self.loop);
    if (r == 0) {
        r = run(&self);
    }
    bk_loop_free(self.loop);
    (void)close(self.pipe[0]);
    (void)close(self.pipe[1]);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
