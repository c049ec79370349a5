/* poller.h -- what tells the readiness engine which fds are ready.
 *
 * SPDX-License-Identifier: MIT
 *
 * One const struct of functions per file: epoll.c, poll.c, external.c. A
 * poller knows numbers only; whose they are is readiness.c's business. Codes
 * are 0, a count, or a negative errno.
 */
#ifndef BKI_POLLER_H
#define BKI_POLLER_H

#include "becket/loop.h"
#include "becket/poller.h"

struct bki_engine;
struct bki_poller;

struct bki_poller_event {
    int fd;
    uint32_t generation; /* as given with add; see has_generations */
    unsigned events;     /* BK_READABLE | BK_WRITABLE; a hang-up is both */
};

struct bki_poller_ops {
    /* Events carry the generation. Without, whoever waits takes the one that
     * the number has when the wait ends. */
    bool has_generations;

    /* An fd may be known with no events. It can then still report a hang-up,
     * with both bits set. */
    bool can_watch_nothing;

    /* The embedder's: told of every change at once, waited for every turn. */
    bool is_external;

    /* A change costs a system call; an entry whose fd is closed goes by itself,
     * and modify tells: -ENOENT. */
    bool is_in_kernel;

    int (*add)(struct bki_poller *poller, int fd, unsigned events,
               uint32_t generation);
    int (*modify)(struct bki_poller *poller, int fd, unsigned events,
                  uint32_t generation);
    int (*remove)(struct bki_poller *poller, int fd);

    /* Events found, or a code; at most capacity, at most some hundreds a time
     * if more are ready. hooks: the loop whose block hooks go around the bare
     * system call, or NULL. */
    int (*wait)(struct bki_poller *poller, uint64_t timeout_ns,
                struct bk_loop *hooks, struct bki_poller_event *events,
                size_t capacity);

    /* Forget every fd, also those that can no longer be removed. NULL: there
     * cannot be such. */
    int (*reset)(struct bki_poller *poller);

    /* Close what it has in the kernel, or the embedder's poller. Once. */
    void (*close)(struct bki_poller *poller);

    /* Free its memory, after close; without one, close what is its own. */
    void (*free)(struct bki_poller *poller);
};

/* First member of every poller. */
struct bki_poller {
    const struct bki_poller_ops *ops;
    const char *name; /* borrowed */
};

int bki_epoll_new(struct bki_poller **ret_poller);
int bki_poll_new(struct bki_poller **ret_poller);

/* -EINVAL: a member of ops is missing. */
int bki_external_new(const bk_poller_ops *ops, void *self,
                     struct bki_poller **ret_poller);

/* The engine over this poller, which is taken, on failure too. */
int bki_readiness_new(bk_loop *loop, struct bki_poller *poller,
                      struct bki_engine **ret_engine);

#endif
