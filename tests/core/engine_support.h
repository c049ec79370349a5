/* engine_support.h -- an io with an owner that writes down what it is told.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef ENGINE_SUPPORT_H
#define ENGINE_SUPPORT_H

#include <netinet/in.h>

#include "engine/engine.h"
#include "loop/internal.h"
#include "support.h"

struct owner {
    bk_io io; /* first */
    char buf[64];
    bool has_no_buffer; /* when on_alloc asks */
    ssize_t read_n;
    int reads;
    int writables;
    int accepts;
    int accept_error;
    int connects;
    int connect_error;
    unsigned ready;
    int socket_fd; /* of its socket object */
    int socket_closes;
    void (*more)(struct owner *owner); /* called from inside each; or NULL */
};

extern bk_loop *loop;
extern int fds[2]; /* a connected pair; the test gives fds[0] to an owner */
extern struct owner owners[3];
extern const struct bki_io_ops owner_ops;

const struct bki_engine_ops *ops(void);

void setup_loop(int poller);

/* Close what the owners have and fds[1], and count what is left. */
void teardown_loop(void);

/* Give an owner an fd of the library's own, or one of a socket object. */
void own(int i, int fd);
void borrow(int i, int fd);

/* One write of len bytes in two parts. */
ssize_t write_some(struct owner *owner, size_t len);

/* Write until the kernel takes no more; receive all there is. */
void fill(struct owner *owner);
void drain(int fd);

int listen_somewhere(struct sockaddr_in *ret_address);
int new_socket(void);

#endif
