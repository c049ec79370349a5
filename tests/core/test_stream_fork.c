/* test_stream_fork.c -- the copy of a stream that a forked child has.
 *
 * SPDX-License-Identifier: MIT
 *
 * The child shares the connection with its parent. Whatever it does with its
 * copy, the peer hears of the parent alone.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "stream_support.h"

enum { CHILD_DONE = 42 };

static int child_status = -1;

static void
await_child(pid_t pid)
{
    ck_assert_int_eq(waitpid(pid, &child_status, 0), pid);
    ck_assert(WIFEXITED(child_status));
    ck_assert_int_eq(WEXITSTATUS(child_status), CHILD_DONE);
}

/* In the child: everything that a copy allows, and its end. */
static void
use_copy(void)
{
    static const char text[20000] = "the child's";

    ck_assert_int_eq(bk_transport_write(stream(), "small", 5), 0);
    ck_assert_int_eq(bk_transport_write(stream(), text, sizeof(text)), 0);
    bk_transport_flush(stream());
    (void)bk_transport_get_write_buffer_size(stream());
    bk_transport_close(stream());
    bk_transport_release(stream());
    bk_loop_free(stream_loop);
    _exit(CHILD_DONE);
}

static void
write_and_fork(void *arg)
{
    pid_t pid;

    (void)arg;
    write_text("once ");
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        use_copy();
    }
    await_child(pid);
    write_text("again");
}

START_TEST(fork_in_a_callback_with_writes)
{
    begin(_i);
    do_in_callback(stream_loop, write_and_fork, NULL);
    expect_peer_gets("once again");
    support_turns(stream_loop, 2);
    expect_peer_gets_nothing();
    expect_log("");
    end();
}
END_TEST

static pid_t forked;

static void
write_fork_and_stop(void *arg)
{
    (void)arg;
    write_text("once");
    forked = fork();
    ck_assert_int_ge(forked, 0);
    bk_loop_stop(stream_loop);
}

/* The child's callback returns into its copy of the loop. */
START_TEST(child_that_goes_on_sends_nothing)
{
    int r;

    begin(_i);
    call_in_loop(stream_loop, write_fork_and_stop, NULL);
    r = bk_loop_run_forever(stream_loop);
    if (forked == 0) {
        ck_assert_int_eq(bk_loop_run_forever(stream_loop), -ECHILD);
        use_copy();
    }
    await_child(forked);
    ck_assert_int_eq(r, 0);
    expect_peer_gets("once");
    expect_peer_gets_nothing();
    end();
}
END_TEST

START_TEST(fork_between_runs)
{
    pid_t pid;

    begin(_i);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        use_copy();
    }
    await_child(pid);
    expect_peer_gets_nothing();
    send_all(stream_fds[1], "hello", 5);
    RUN_UNTIL(stream_loop, recorder.received == 5);
    end();
}
END_TEST

/* The threads and locks of a resolver stay behind in the parent. */
static void
on_found(bk_lookup *lookup, int error, struct addrinfo *found, void *self)
{
    (void)lookup;
    (void)error;
    (void)found;
    (void)self;
    ck_abort_msg("the lookup was answered");
}

START_TEST(fork_with_lookups)
{
    pid_t pid;

    begin(_i);
    ck_assert_int_eq(bk_loop_getaddrinfo(stream_loop, "localhost", NULL, NULL,
                                         on_found, NULL, NULL),
                     0);
    pid = fork();
    ck_assert_int_ge(pid, 0);
    if (pid == 0) {
        use_copy();
    }
    await_child(pid);
    bk_transport_release(stream());
    ck_assert_int_eq(close(stream_fds[1]), 0);
    bk_loop_free(stream_loop);
}
END_TEST

int
main(void)
{
    Suite *suite = suite_create("stream fork");
    TCase *tcase = new_stream_case(suite, "fork");

    ADD(tcase, fork_in_a_callback_with_writes);
    ADD(tcase, child_that_goes_on_sends_nothing);
    ADD(tcase, fork_between_runs);
    ADD(tcase, fork_with_lookups);
    return support_main_with_names(suite);
}
