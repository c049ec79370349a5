/* net_support.h -- what the tests of src/net share, on top of support.h.
 *
 * SPDX-License-Identifier: MIT
 *
 * A peer is a plain non-blocking socket that the test drives by hand; a
 * recorder is a transport whose protocol writes down what it is told.
 */
#ifndef NET_SUPPORT_H
#define NET_SUPPORT_H

#include "support.h"

/* Run until the condition holds; it is looked at once a turn. */
#define RUN_UNTIL(loop, condition)                                             \
    do {                                                                       \
        uint64_t deadline_ = bk_clock_now() + 10 * S;                          \
        while (!(condition)) {                                                 \
            ck_assert_msg(bk_clock_now() < deadline_, "%s", #condition);       \
            support_turns((loop), 1);                                          \
        }                                                                      \
    } while (0)

/* A loop whose lookups may leave threads behind, and their end: first the
 * loop's, which does not wait for them, then theirs, and then nothing of both
 * may be left. */
bk_loop *new_threaded_loop(int poller);
void await_threads(void);
void free_threaded_loop(bk_loop *loop);

/* Two connected TCP sockets over 127.0.0.1, non-blocking. */
void tcp_pair(int fds[2]);

/* Close so that the other side gets ECONNRESET. */
void reset_fd(int fd);

/* Receive exactly len bytes or up to the end; returns how many. Waits at most
 * some seconds; does not run a loop. */
size_t recv_all(int fd, void *buf, size_t len);

/* Everything that can be received now without waiting. */
size_t recv_some(int fd, void *buf, size_t len);

void send_all(int fd, const void *data, size_t len);

/* Bytes whose value tells their place in the stream. */
void fill_pattern(char *buf, size_t len, size_t offset);
bool is_pattern(const char *buf, size_t len, size_t offset);

/* What happened, in words: "made data:5 eof lost:0 closed ". */
struct recorder {
    bk_transport transport;
    char log[4096];
    size_t received;
    size_t updated;
    int lost_count;
    int lost_error;
    int closed_count;
    int pauses;
    int resumes;
    int turn; /* for the test to count */
    int data_turns[64];
    int data_count;
    bool keeps_open; /* eof_received returns it */
    char *buffer;    /* data_received copies here, if set */
    /* Called after the event was written down; may be NULL. */
    void (*on_made)(struct recorder *recorder);
    void (*on_data)(struct recorder *recorder, const void *data, size_t len);
    void (*on_eof)(struct recorder *recorder);
    void (*on_pause)(struct recorder *recorder);
    void (*on_resume)(struct recorder *recorder);
    void (*on_lost)(struct recorder *recorder);
    void *arg;
};

extern const bk_protocol recorder_protocol;

/* A started transport over fd. */
void record(struct recorder *recorder, bk_loop *loop, int fd);
void note(struct recorder *recorder, const char *text);

/* A callback of the loop that calls this, once, in the next turn. */
void call_in_loop(bk_loop *loop, bk_callback callback, void *arg);

/* Call it inside a callback of the loop, and run that turn. */
void do_in_callback(bk_loop *loop, bk_callback callback, void *arg);

/* Make the socket's buffers small, so that a test can fill them. */
void shrink_buffers(int fd);

#endif
