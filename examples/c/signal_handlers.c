/* signal_handlers.c -- handle SIGINT and SIGTERM in the loop.
 *
 * SPDX-License-Identifier: MIT
 *
 * The library sets up no signal handling by itself, so signals stay the
 * program's: here they arrive through a signalfd(2), watched like any other
 * fd. The callback is then an ordinary one, and may do anything.
 */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "becket/becket.h"

static void
on_signal(bk_watch *watch, unsigned events)
{
    struct signalfd_siginfo info;
    ssize_t len = read(bk_watch_fd(watch), &info, sizeof(info));

    (void)events;
    if (len != (ssize_t)sizeof(info)) {
        return; /* somebody else took it */
    }
    (void)printf("got signal %s: exit\n",
                 info.ssi_signo == SIGINT ? "SIGINT" : "SIGTERM");
    bk_loop_stop(bk_watch_loop(watch));
}

/* Blocked signals wait for the fd instead of ending the process. Threads that
 * are made later inherit this, so it comes first of all. */
static int
open_signals(void)
{
    sigset_t set;

    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGINT);
    (void)sigaddset(&set, SIGTERM);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    return signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
}

static int
run(bk_loop *loop, int fd)
{
    bk_watch watch;
    int r = bk_watch_init(&watch, loop, fd, on_signal);

    if (r == 0) {
        r = bk_watch_set(&watch, BK_READABLE);
    }
    if (r < 0) {
        return r;
    }
    (void)puts("Event loop running forever, press Ctrl+C to interrupt.");
    (void)printf("pid %d: send SIGINT or SIGTERM to exit.\n", (int)getpid());
    (void)fflush(stdout);
    r = bk_loop_run_forever(loop);
    (void)bk_watch_set(&watch, 0);
    return r;
}

int
main(void)
{
    bk_loop *loop = NULL;
    int fd = open_signals();
    int r = fd < 0 ? -errno : bk_loop_new(NULL, &loop);

    if (r == 0) {
        r = run(loop, fd);
    }
    bk_loop_free(loop);
    (void)close(fd);
    if (r < 0) {
        (void)fprintf(stderr, "%s: %s\n", bk_err_name(r), bk_strerror(r));
    }
    return r < 0;
}
