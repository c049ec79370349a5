/* datagram_support.h -- a recorded datagram endpoint, for its tests.
 *
 * SPDX-License-Identifier: MIT
 *
 * An endpoint is a transport whose protocol writes down what it is told; the
 * peer is a plain non-blocking socket that the test drives by hand.
 */
#ifndef DATAGRAM_SUPPORT_H
#define DATAGRAM_SUPPORT_H

#include <sys/un.h>

#include "net_support.h"

/* What happened, in words: "made one two error:EMSGSIZE lost:0 closed ". A
 * datagram is written down as its text, "-" when empty, "#5000" when long. */
struct endpoint {
    bk_datagram_transport transport;
    bk_datagram_transport *in_use; /* transport, or one of the library's own */
    bk_loop *loop;
    char log[8192];
    struct sockaddr_storage sender; /* of the last datagram */
    socklen_t sender_len;
    int received;
    int errors;
    int stop_at; /* stop the loop once that many were received */
    int pauses;
    int resumes;
    int lost_count;
    int closed_count;
    /* Called after the event was written down; may be NULL. */
    void (*on_made)(struct endpoint *endpoint);
    void (*on_datagram)(struct endpoint *endpoint, const void *data,
                        size_t len);
    void (*on_error)(struct endpoint *endpoint);
    void (*on_resume)(struct endpoint *endpoint);
    void (*on_lost)(struct endpoint *endpoint);
    void *arg;
};

extern const bk_datagram_protocol endpoint_protocol;

/* The endpoint of most tests, its loop, and its peer; -1: gone. */
extern struct endpoint endpoint;
extern bk_loop *endpoint_loop;
extern int peer_fd;
extern struct sockaddr_in peer_address;
extern struct sockaddr_in endpoint_address;

/* A loop with a bound UDP endpoint, whose connection_made has run. Bursts are
 * not bounded in time, unless bound_bursts() follows. */
void begin_endpoint(int poller);
void bound_bursts(void);

/* Release what is left of it, and see that nothing stays. */
void end_endpoint(void);

/* A UDP socket on 127.0.0.1, and its address. */
int open_udp(struct sockaddr_in *ret_address);

/* A started endpoint over this fd. */
void start_endpoint(struct endpoint *of, bk_loop *loop, int fd);

void note_endpoint(struct endpoint *of, const char *text);
void expect_endpoint_log(const char *log);

/* The peer sends texts to the endpoint: first..last by number, or one. */
void peer_sends(const char *text);
void peer_sends_numbers(int first, int last);

/* The endpoint sends to the peer. */
void send_to_peer(struct endpoint *from, const char *text);

/* What the peer has got, exactly these; "" for nothing. */
void expect_peer_got(const char *texts);

/* Run until so many have been received in all, or fail. Unlike support_turns()
 * it leaves the loop running, so that bursts are delivered. */
void run_until_received(int count);

/* Have the endpoint learn that it may receive this many at once. */
void warm_up_burst(int count);

/* Two connected Unix datagram sockets that hold few datagrams. */
void unix_pair(int fds[2]);

TCase *new_endpoint_case(Suite *suite, const char *name);

#define ADD(tcase, test) tcase_add_loop_test(tcase, test, 0, SUPPORT_POLLERS)

#endif
