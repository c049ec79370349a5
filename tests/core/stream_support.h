/* stream_support.h -- a recorded connection, for the tests of transports.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef STREAM_SUPPORT_H
#define STREAM_SUPPORT_H

#include "net_support.h"

#define BIG ((size_t)8 * 1024 * 1024)

extern char *big_data; /* BIG bytes of the pattern */
extern struct recorder recorder;
/* [0] is the transport, [1] the test; -1: gone. */
extern int stream_fds[2];
extern bk_loop *stream_loop;

/* Makes stream_fds: tcp_pair. With support_pair the kernel takes what there is
 * room for and nothing later on, until the peer reads; over TCP it moves data
 * when it comes to that. */
extern void (*stream_pair)(int fds[2]);

/* A loop with a recorded connection, whose connection_made has run. */
void begin(int poller);

/* Release what is left of it, and see that nothing stays. */
void end(void);

bk_transport *stream(void);

/* What the recorder was told since the last time. */
void expect_log(const char *log);

void expect_peer_gets(const char *text);
void expect_peer_gets_nothing(void);
void expect_peer_gets_eof(void);

void write_text(const char *text);

/* Fill the kernel's buffers; returns how many bytes of big_data were given to
 * the transport. Then more than the high-water mark is queued. */
size_t write_until_paused(void);

/* Read the peer's end while the loop runs, until len bytes are there. */
void drain_peer(size_t offset, size_t len);

/* Write lent data; released counts what came back. With releases_write, the
 * next release callback writes "from release ". */
extern int released;
extern bool releases_write;
void lend(const char *data, size_t len);

TCase *new_stream_case(Suite *suite, const char *name);

#define ADD(tcase, test) tcase_add_loop_test(tcase, test, 0, SUPPORT_POLLERS)

#endif
