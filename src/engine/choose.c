/* choose.c -- the engine that a loop's options ask for.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <string.h>

#include "engine/engine.h"
#include "engine/poller.h"

struct backend {
    const char *name;
    int (*new)(struct bki_poller **ret_poller);
};

/* In the order in which "auto" tries them. */
static const struct backend backends[] = {
    {"epoll", bki_epoll_new},
    {"poll", bki_poll_new},
};

enum { BACKENDS_COUNT = sizeof(backends) / sizeof(backends[0]) };

/* A kernel without it, or a sandbox that forbids it. Whatever else goes wrong
 * (no fds, no memory) would go wrong with the next one too. */
static bool
is_missing(int code)
{
    return code == -ENOSYS || code == -EPERM || code == -EACCES;
}

static int
choose_auto(struct bki_poller **ret_poller)
{
    int r = -ENOSYS;

    for (size_t i = 0; i < BACKENDS_COUNT && is_missing(r); i++) {
        r = backends[i].new(ret_poller);
    }
    return r;
}

static int
choose_poller(const bk_loop_options *options, struct bki_poller **ret_poller)
{
    if (options->poller != NULL) {
        return options->backend == NULL
                   ? bki_external_new(options->poller, options->poller_self,
                                      ret_poller)
                   : -EINVAL;
    }
    if (options->backend == NULL || strcmp(options->backend, "auto") == 0) {
        return choose_auto(ret_poller);
    }
    for (size_t i = 0; i < BACKENDS_COUNT; i++) {
        if (strcmp(options->backend, backends[i].name) == 0) {
            return backends[i].new(ret_poller);
        }
    }
    return -EINVAL;
}

int
bki_engine_choose(bk_loop *loop, const bk_loop_options *options,
                  struct bki_engine **ret_engine)
{
    struct bki_poller *poller;
    int r = choose_poller(options, &poller);

    return r < 0 ? r : bki_readiness_new(loop, poller, ret_engine);
}
