/* pipe_support.h -- recorded ends of pipes, for the tests of pipes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef PIPE_SUPPORT_H
#define PIPE_SUPPORT_H

#include "net_support.h"

#define PIPE_BIG ((size_t)4 * 1024 * 1024)

extern bk_loop *pipe_loop;

/* [0] is read and [1] written, as of pipe(2). -1: gone. */
extern int pipe_fds[2];

/* A transport, and what it was told, in words: "made data:5 eof lost closed ".
 */
struct pipe_end {
    bk_transport transport;
    char log[1024];
    size_t received;
    int error;
    bool answer; /* of eof_received */
    /* Called after the event was written down; may be NULL. */
    void (*on_made)(struct pipe_end *end);
    void (*on_data)(struct pipe_end *end);
    void (*on_eof)(struct pipe_end *end);
};

extern struct pipe_end reader;
extern struct pipe_end writer;
extern const bk_protocol pipe_protocol;

/* A loop, with nothing else; or with a pipe of which one end is a started
 * transport. The writer's connection_made has been called, and is not in the
 * log. */
void begin_pipe(int poller);
void begin_reader(int poller);
void begin_writer(int poller);

/* Release what is left, and see that nothing stays. */
void end_pipe(void);

/* A transport without file; one that is started over pipe_fds[i], which it
 * takes. */
void init_end(struct pipe_end *end);
void open_end(struct pipe_end *end, int i);
void close_fd(int i);

/* Put the pattern into the pipe, and get up to len bytes of it out of it. */
void put(size_t offset, size_t len);
size_t get(size_t offset, size_t len);

/* Write the pattern to the writer. */
void write_pattern(size_t offset, size_t len);

/* Write until pause_writing; how many bytes were given. */
size_t fill_pipe(void);

/* Read the pipe while the loop runs, until len bytes are there. */
void drain_pipe(size_t len);

/* What an end was told since the last time. */
void expect(struct pipe_end *end, const char *log);
bool has_ended(const struct pipe_end *end);

/* An object that holds an fd, of which self is the address; file_closes counts
 * what was closed. */
extern const bk_socket_ops file_ops;
extern int file_closes;
void open_object(struct pipe_end *end, bk_pipe_end which, int *fd);

/* Callbacks: write 10 and 20 bytes of the pattern; close and release. */
void write_twice(void *arg);
void close_it(struct pipe_end *end);
void release_it(struct pipe_end *end);

TCase *new_pipe_case(Suite *suite, const char *name);

#define ADD(tcase, test) tcase_add_loop_test(tcase, test, 0, SUPPORT_POLLERS)

#endif
