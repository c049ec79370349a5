/* test_process_life.c -- child processes: signals, closing, who waits.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <signal.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process_support.h"

/* Start one that does not end by itself, and wait until it has said so. */
static void
start_waiting(const char *trap)
{
    char command[100] = "";

    (void)strcat(command, trap);
    (void)strcat(command, "echo ready; while :; do sleep 0.01; done");
    start_shell(command);
    SLEEP_UNTIL(child.received[1] > 0);
}

/* -- signals --------------------------------------------------------------- */

START_TEST(signals_end_it)
{
    static const int signums[] = {SIGTERM, SIGKILL, SIGINT};

    begin_processes(_i);
    for (int i = 0; i < 3; i++) {
        start_waiting("");
        switch (signums[i]) {
        case SIGTERM:
            ck_assert_int_eq(bk_process_terminate(child.process), 0);
            break;
        case SIGKILL:
            ck_assert_int_eq(bk_process_kill(child.process), 0);
            break;
        default:
            ck_assert_int_eq(bk_process_send_signal(child.process, signums[i]),
                             0);
        }
        run_until_lost();
        ck_assert_int_eq(child.returncode, -signums[i]);
        ck_assert_int_eq(bk_process_kill(child.process), -ESRCH);
        bk_process_free(child.process);
        child = (struct child){.pattern_offset = SIZE_MAX};
    }
    end_processes();
}
END_TEST

START_TEST(a_signal_that_it_handles)
{
    begin_processes(_i);
    start_waiting("trap 'exit 9' USR1; ");
    ck_assert_int_eq(bk_process_send_signal(child.process, 0), 0);
    ck_assert_int_eq(bk_process_send_signal(child.process, 1000), -EINVAL);
    ck_assert_int_eq(bk_process_send_signal(child.process, -1), -EINVAL);
    ck_assert_int_eq(bk_process_send_signal(child.process, SIGUSR1), 0);
    run_until_lost();
    ck_assert_int_eq(child.returncode, 9);
    end_processes();
}
END_TEST

/* SIGPIPE ends it, though its parent ignores that. */
START_TEST(nobody_reads_its_output)
{
    begin_processes(_i);
    options.stdio[2].kind = BK_STDIO_NULL;
    start_shell("exec yes");
    SLEEP_UNTIL(child.received[1] > 0);
    bk_transport_close(bk_process_get_pipe_transport(child.process, 1));
    run_until_lost();
    expect_told("end:1:0 exited:-13 lost ");
    end_processes();
}
END_TEST

START_TEST(reading_paused)
{
    bk_transport *input;
    bk_transport *output;

    begin_processes(_i);
    options.stdio[0].kind = BK_STDIO_PIPE;
    start_shell("echo; read go; head -c 999999 /dev/zero");
    SLEEP_UNTIL(child.received[1] > 0);
    input = bk_process_get_pipe_transport(child.process, 0);
    output = bk_process_get_pipe_transport(child.process, 1);
    bk_transport_pause_reading(output);
    ck_assert_int_eq(bk_transport_write(input, "go\n", 3), 0);
    for (int i = 0; i < 4; i++) {
        sleep_once();
    }
    ck_assert_uint_eq(child.received[1], 1);
    bk_transport_resume_reading(output);
    run_until_lost();
    ck_assert_uint_eq(child.received[1], 1000000);
    end_processes();
}
END_TEST

/* -- closing --------------------------------------------------------------- */

START_TEST(closed_while_it_runs)
{
    begin_processes(_i);
    options.stdio[0].kind = BK_STDIO_PIPE;
    start_waiting("");
    bk_process_close(child.process);
    bk_process_close(child.process);
    expect_told("");
    run_until_lost();
    ck_assert_int_eq(child.returncode, -SIGKILL);
    ck_assert_ptr_nonnull(strstr(child.log, "end:0:0 end:1:0 end:2:0 "));
    bk_process_close(child.process);
    support_turns(process_loop, 2);
    end_processes();
}
END_TEST

START_TEST(closed_at_once)
{
    begin_processes(_i);
    start_shell("exec sleep 100");
    bk_process_close(child.process);
    run_until_lost();
    ck_assert_int_eq(child.returncode, -SIGKILL);
    end_processes();
}
END_TEST

START_TEST(freed_while_it_runs)
{
    begin_processes(_i);
    start_waiting("");
    bk_process_free(child.process);
    child.process = NULL;
    expect_no_children();
    support_turns(process_loop, 3);
    expect_told("");
    end_processes();
}
END_TEST

START_TEST(freed_before_the_end_is_noticed)
{
    begin_processes(_i);
    start_shell("exit 0");
    ck_assert_int_eq(waitid(P_PID, (id_t)bk_process_get_pid(child.process),
                            &(siginfo_t){0}, WEXITED | WNOWAIT),
                     0);
    bk_process_free(child.process);
    child.process = NULL;
    expect_no_children();
    support_turns(process_loop, 3);
    expect_told("");
    end_processes();
}
END_TEST

START_TEST(loop_closed_while_it_runs)
{
    int returncode;

    begin_processes(_i);
    start_waiting("");
    ck_assert_int_eq(bk_loop_close(process_loop), 0);
    expect_no_children();
    ck_assert_int_eq(bk_process_get_returncode(child.process, &returncode), 0);
    ck_assert_int_eq(returncode, BK_EXIT_UNKNOWN);
    ck_assert_int_eq(bk_process_kill(child.process), -ESRCH);
    ck_assert_ptr_null(bk_process_get_pipe_transport(child.process, 1));
    bk_process_close(child.process);
    end_processes();
    expect_told("");
}
END_TEST

START_TEST(freed_after_the_loop)
{
    begin_processes(_i);
    start_waiting("");
    bk_loop_free(process_loop);
    bk_process_free(child.process);
    support_leaks_end();
    expect_no_children();
}
END_TEST

START_TEST(freed_and_the_loop_never_runs_again)
{
    begin_processes(_i);
    start_shell("exit 0");
    end_processes();
    expect_told("");
}
END_TEST

/* -- from inside ----------------------------------------------------------- */

static void
free_it(struct child *self)
{
    bk_process *process = self->process;

    self->process = NULL;
    bk_process_free(process);
}

static void
close_it(struct child *self)
{
    bk_process_close(self->process);
}

static void
break_it(struct child *self)
{
    (void)self;
    bk_loop_break(process_loop, -EIO);
}

static void
set_hook(int place, void (*hook)(struct child *self))
{
    child.on_data = place == 0 ? hook : NULL;
    child.on_pipe_lost = place == 1 ? hook : NULL;
    child.on_exited = place == 2 ? hook : NULL;
    child.on_lost = place == 3 ? hook : NULL;
}

START_TEST(freed_from_inside)
{
    begin_processes(_i);
    for (int place = 0; place < 4; place++) {
        child = (struct child){.pattern_offset = SIZE_MAX};
        set_hook(place, free_it);
        start_shell("echo text; echo more >&2; exec >&- 2>&-; exit 1");
        SLEEP_UNTIL(child.process == NULL);
        support_turns(process_loop, 3);
        ck_assert(child.is_lost == (place == 3));
        expect_no_children();
    }
    end_processes();
}
END_TEST

START_TEST(closed_from_inside)
{
    begin_processes(_i);
    for (int place = 0; place < 4; place++) {
        child = (struct child){.pattern_offset = SIZE_MAX};
        set_hook(place, close_it);
        start_shell("echo text; exec >&- 2>&-; exit 1");
        run_until_lost();
        bk_process_free(child.process);
        child.process = NULL;
    }
    end_processes();
}
END_TEST

/* The next run goes on where the break was. */
START_TEST(a_break_loses_nothing)
{
    begin_processes(_i);
    for (int place = 0; place < 4; place++) {
        uint64_t deadline_ns = bk_clock_now() + 10 * S;

        child = (struct child){.pattern_offset = SIZE_MAX};
        set_hook(place, break_it);
        start_shell("echo text; exit 1");
        while (!child.is_lost) {
            ck_assert_uint_lt(bk_clock_now(), deadline_ns);
            bk_loop_stop(process_loop);
            (void)bk_loop_run_forever(process_loop);
        }
        ck_assert_str_eq(child.text[1], "text\n");
        ck_assert_int_eq(child.returncode, 1);
        bk_process_free(child.process);
        child.process = NULL;
    }
    end_processes();
}
END_TEST

static struct child second;

static void
start_another(struct child *self)
{
    const char *argv[] = {"sh", "-c", "echo second", NULL};

    (void)self;
    second = (struct child){.pattern_offset = SIZE_MAX};
    options.argv = argv;
    ck_assert_int_eq(bk_loop_subprocess_exec(process_loop, &child_protocol,
                                             &second, &options,
                                             &second.process),
                     0);
}

START_TEST(another_from_inside)
{
    begin_processes(_i);
    for (int place = 0; place < 4; place++) {
        child = (struct child){.pattern_offset = SIZE_MAX};
        set_hook(place, start_another);
        options.stdio[2].kind = BK_STDIO_NULL;
        start_shell("echo text");
        run_until_lost();
        SLEEP_UNTIL(second.is_lost);
        ck_assert_str_eq(second.text[1], "second\n");
        bk_process_free(second.process);
        bk_process_free(child.process);
        child.process = NULL;
    }
    end_processes();
}
END_TEST

/* -- who waits ------------------------------------------------------------- */

/* The kernel then forgets a child as soon as it ends. */
START_TEST(children_ignored)
{
    begin_processes(_i);
    (void)signal(SIGCHLD, SIG_IGN);
    run_shell("echo text; exit 3");
    ck_assert_int_eq(child.returncode, BK_EXIT_UNKNOWN);
    ck_assert_str_eq(child.text[1], "text\n");
    ck_assert_int_eq(bk_process_kill(child.process), -ESRCH);
    end_processes();
}
END_TEST

START_TEST(somebody_else_has_waited)
{
    begin_processes(_i);
    start_shell("exit 3");
    ck_assert_int_eq(waitpid(bk_process_get_pid(child.process), NULL, 0),
                     bk_process_get_pid(child.process));
    run_until_lost();
    ck_assert_int_eq(child.returncode, BK_EXIT_UNKNOWN);
    end_processes();
}
END_TEST

static unsigned handled;

static void
count_signal(int signum)
{
    (void)signum;
    (void)__atomic_add_fetch(&handled, 1, __ATOMIC_SEQ_CST);
}

/* SIGCHLD is the program's own, and so are its own children. */
START_TEST(children_of_the_program)
{
    int status;
    pid_t own;

    begin_processes(_i);
    (void)signal(SIGCHLD, count_signal);
    own = fork();
    if (own == 0) {
        _exit(44);
    }
    run_shell("exit 3");
    ck_assert_int_eq(child.returncode, 3);
    ck_assert_int_eq(waitpid(own, &status, 0), own);
    ck_assert_int_eq(WEXITSTATUS(status), 44);
    ck_assert_uint_gt(handled, 0);
    end_processes();
}
END_TEST

static int
run_fork(void)
{
    bk_process *none = NULL;
    const char *const argv[] = {"true", NULL};

    options.argv = argv;
    if (bk_loop_subprocess_exec(process_loop, &child_protocol, &child, &options,
                                &none) != -ECHILD) {
        return 1;
    }
    bk_process_close(child.process);
    bk_process_free(child.process);
    bk_loop_free(process_loop);
    return 0;
}

/* A forked child leaves its parent's processes alone. */
START_TEST(fork_while_it_runs)
{
    int status;
    pid_t copy;

    begin_processes(_i);
    options.stdio[0].kind = BK_STDIO_PIPE;
    start_shell("read line; echo $line; exit 6");
    copy = fork();
    if (copy == 0) {
        _exit(run_fork());
    }
    ck_assert_int_eq(waitpid(copy, &status, 0), copy);
    ck_assert_int_eq(status, 0);
    support_turns(process_loop, 2);
    expect_told("");
    ck_assert_int_eq(
        bk_transport_write(bk_process_get_pipe_transport(child.process, 0),
                           "alive\n", 6),
        0);
    run_until_lost();
    ck_assert_str_eq(child.text[1], "alive\n");
    ck_assert_int_eq(child.returncode, 6);
    end_processes();
}
END_TEST

static void
add_signals(Suite *suite)
{
    TCase *tcase = tcase_create("signals");

    add_process_test(tcase, signals_end_it);
    add_process_test(tcase, a_signal_that_it_handles);
    add_process_test(tcase, nobody_reads_its_output);
    add_process_test(tcase, reading_paused);
    suite_add_tcase(suite, tcase);
}

static void
add_closing(Suite *suite)
{
    TCase *tcase = tcase_create("closing");

    add_process_test(tcase, closed_while_it_runs);
    add_process_test(tcase, closed_at_once);
    add_process_test(tcase, freed_while_it_runs);
    add_process_test(tcase, freed_before_the_end_is_noticed);
    add_process_test(tcase, loop_closed_while_it_runs);
    add_process_test(tcase, freed_after_the_loop);
    add_process_test(tcase, freed_and_the_loop_never_runs_again);
    suite_add_tcase(suite, tcase);
}

static void
add_inside(Suite *suite)
{
    TCase *tcase = tcase_create("from inside");

    add_process_test(tcase, freed_from_inside);
    add_process_test(tcase, closed_from_inside);
    add_process_test(tcase, a_break_loses_nothing);
    add_process_test(tcase, another_from_inside);
    suite_add_tcase(suite, tcase);
}

static void
add_waiting(Suite *suite)
{
    TCase *tcase = tcase_create("who waits");

    add_process_test(tcase, children_ignored);
    add_process_test(tcase, somebody_else_has_waited);
    add_process_test(tcase, children_of_the_program);
    add_process_test(tcase, fork_while_it_runs);
    suite_add_tcase(suite, tcase);
}

int
main(void)
{
    Suite *suite = suite_create("process_life");

    add_signals(suite);
    add_closing(suite);
    add_inside(suite);
    add_waiting(suite);
    return support_main(suite);
}
