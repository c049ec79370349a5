/* support.h -- what the tests of the loop share.
 *
 * SPDX-License-Identifier: MIT
 *
 * A test gets its loop from support_new_loop() and gives it back to
 * support_free_loop(), which counts what is left over. Each test is a process
 * of its own, so the counts are the test's alone.
 */
#ifndef SUPPORT_H
#define SUPPORT_H

#include <check.h>

#include "becket/becket.h"

#define MS UINT64_C(1000000)
#define S  UINT64_C(1000000000)

/* Each test of the loop runs with each poller: epoll, poll, one from outside.
 * tcase_add_loop_test(tcase, test, 0, SUPPORT_POLLERS). */
enum {
    SUPPORT_EPOLL,
    SUPPORT_POLL,
    SUPPORT_EXTERNAL,
    SUPPORT_POLLERS,
};

/* A poller over poll(2) that writes down what it is asked. */
struct support_poller {
    struct {
        int fd;
        unsigned events;
    } known[64];
    size_t known_count;
    unsigned adds;
    unsigned modifies;
    unsigned removes;
    unsigned waits;
    unsigned closes;
    int add_code;        /* what add and modify return, if not 0 */
    int wait_code;       /* what wait returns, if not 0 */
    int foreign_fd;      /* reported at each wait, unless -1 */
    uint64_t timeout_ns; /* of the last wait */
    void (*on_wait)(struct support_poller *poller); /* may be NULL */
    void *arg;
};

extern const bk_poller_ops support_poller_ops;
void support_poller_init(struct support_poller *poller);

/* The poller of the last loop made with SUPPORT_EXTERNAL. */
extern struct support_poller support_external;

/* The loop's options for that poller; hooks may be set in it. */
bk_loop_options support_options(int poller);

/* A loop, or a failed test. hooks may be NULL. */
bk_loop *support_new_loop(int poller);
bk_loop *support_new_loop_with(int poller, const bk_loop_hooks *hooks);

/* Free it, and fail if anything is left that was not there before it. */
void support_free_loop(bk_loop *loop);

/* Count what is there now, and compare later. */
void support_leaks_begin(void);
void support_leaks_end(void);
int support_open_fds(void);

/* Run until bk_loop_stop(); fails the test after some seconds. */
void support_run(bk_loop *loop);

/* A callback: stop the loop given as its argument. */
void support_stop(void *loop);

/* Run so many turns that do not wait. */
void support_turns(bk_loop *loop, int turns);

/* Two connected stream sockets, non-blocking. */
void support_pair(int fds[2]);
void support_send(int fd, const char *text);
void support_close_pair(int fds[2]);

/* A log of single letters. */
void support_note(char letter);
const char *support_log(void);
void support_log_clear(void);

/* The main function of a test program. */
int support_main(Suite *suite);

/* The same of one that looks localhost up: where that is not known, as where
 * there is no /etc/hosts, the whole program is skipped. */
int support_main_with_names(Suite *suite);

#endif
