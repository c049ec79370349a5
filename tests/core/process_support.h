/* process_support.h -- a recorded child, for the tests of processes.
 *
 * SPDX-License-Identifier: MIT
 */
#ifndef PROCESS_SUPPORT_H
#define PROCESS_SUPPORT_H

#include "net_support.h"

/* Each test runs with each poller, and with pidfds and then, in a build that
 * can make them fail, with threads. */
enum { PROCESS_WAYS = 2 };

enum { TEXT_MAX = 4096 };

/* A process, and what was told of it, in words: "exited:0 end:1:0 lost ". */
struct child {
    bk_process *process;
    char log[512];
    char text[3][TEXT_MAX]; /* the beginning of what came from 1 and 2 */
    size_t received[3];
    bool is_lost;
    bool is_ended;
    int returncode;
    size_t pattern_offset; /* of stdin that comes back; SIZE_MAX: another */
    int pauses;
    int resumes;
    /* Called after the event was written down; may be NULL. */
    void (*on_data)(struct child *child);
    void (*on_pipe_lost)(struct child *child);
    void (*on_exited)(struct child *child);
    void (*on_lost)(struct child *child);
};

extern bk_loop *process_loop;
extern struct child child;
extern bk_process_options options; /* zero, but stdin is nothing and the
                                    * others are pipes */
extern const bk_subprocess_protocol child_protocol;

void begin_processes(int i);
void end_processes(void); /* free the child if need be; nothing may be left */

/* Start it; the first form with options.argv, the others with a command of the
 * shell. expect_failure: the code that the start gives. */
void start_child(void);
void start_shell(const char *command);
void run_shell(const char *command); /* until everything has ended */
void expect_failure(int code);

void run_until_lost(void);

/* Run until the condition holds, leaving the processor to the child: the loop
 * sleeps, and looks at the condition at least every few milliseconds. */
#define SLEEP_UNTIL(condition)                                                 \
    do {                                                                       \
        uint64_t deadline_ = bk_clock_now() + 20 * S;                          \
        while (!(condition)) {                                                 \
            ck_assert_msg(bk_clock_now() < deadline_, "%s", #condition);       \
            sleep_once();                                                      \
        }                                                                      \
    } while (0)

void sleep_once(void);

/* What was told so far. */
void expect_told(const char *log);

/* No child of the test's is left, not even as a zombie, within some seconds. */
void expect_no_children(void);

void add_process_test(TCase *tcase, const TTest *test);

#endif
