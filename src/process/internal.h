/* internal.h -- what the files of src/process share.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef BKI_PROCESS_INTERNAL_H
#define BKI_PROCESS_INTERNAL_H

#include "becket/handle.h"
#include "becket/process.h"

struct bki_waiter;

/* The child's standard streams while it is being made, spawn.c. */
struct bki_stdio {
    int child[3];     /* what it gets; -1: what the parent has */
    int parent[3];    /* the other end of a pipe, owned; or -1 */
    bool is_owned[3]; /* child[i] is */
};

/* Close everything that it still owns. Accepts a half-open one. */
void bki_stdio_close(struct bki_stdio *stdio);
int bki_stdio_open(struct bki_stdio *stdio, const bk_process_options *options);

/* Start the program with these streams. */
int bki_spawn(const bk_process_options *options, const struct bki_stdio *stdio,
              int *ret_pid);

/* waiter.c: */

/* Reap the child: 1: it has ended; 0: not yet, with WNOHANG. Through its pidfd,
 * if there is one (not -1), by its id where that is refused, and by waitpid(2)
 * where that is. */
int bki_reap(int pid, int pidfd, int options, int *ret_returncode);

/* A thread that waits until the child can be waited for, and then sends a
 * handle with this callback to the loop. */
int bki_waiter_new(bk_loop *loop, int pid, bk_handle_cb on_ended, void *arg,
                   struct bki_waiter **ret_waiter);
void *bki_waiter_arg(bk_handle *handle); /* for on_ended */

/* 1: the thread could not but reap the child, which had ended. */
int bki_waiter_get_reaped(const struct bki_waiter *waiter, int *ret_returncode);

/* on_ended is not called any more. True: the child was reaped by the thread, or
 * will be. False: that is the caller's business, for the thread has ended. */
bool bki_waiter_free(struct bki_waiter *waiter);

/* Have this child waited for some time, without blocking unless there is no
 * thread to be had and it was killed. */
void bki_reap_later(int pid, bool is_killed);

#endif
