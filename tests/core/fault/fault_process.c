/* fault_process.c -- each system call of processes made to fail.
 *
 * SPDX-License-Identifier: MIT
 *
 * Those between vfork and execve as well: the child counts in its parent's
 * memory. Whatever fails, a process that was started is told of to its end, one
 * that was not leaves no child, and nothing is left.
 */
#include "base/fault.h"

#include <errno.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <signal.h>
#include <stddef.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "process_support.h"

enum {
    NTH_MAX = 600, /* more calls than the scenario makes */
    WRITTEN = 3000,
    FAILURES_MAX = 10,
};

static const int codes[] = {-ENOMEM, -EMFILE, -EPERM};

enum { CODES = sizeof(codes) / sizeof(codes[0]) };

static char written[WRITTEN];

static void
feed(void)
{
    bk_transport *pipe = bk_process_get_pipe_transport(child.process, 0);

    if (pipe != NULL && bk_transport_write(pipe, written, WRITTEN) == 0) {
        (void)bk_transport_write_eof(pipe);
    }
    else if (pipe != NULL) {
        bk_transport_close(pipe);
    }
}

/* Turns that do not wait: an injected failure may be one of the write that
 * wakes the loop, as no kernel's is. A loop that cannot poll any more has no
 * end. */
static void
run_to_the_end(void)
{
    uint64_t deadline_ns = bk_clock_now() + 10 * S;

    for (int failures = 0; !child.is_lost && failures < FAILURES_MAX;) {
        ck_assert_uint_lt(bk_clock_now(), deadline_ns);
        bk_loop_stop(process_loop);
        failures += bk_loop_run_forever(process_loop) < 0;
        (void)usleep(100);
    }
}

static int
run_command(const char *command)
{
    const char *argv[] = {"sh", "-c", command, NULL};
    int r;

    child = (struct child){.pattern_offset = SIZE_MAX};
    options.argv = argv;
    r = bk_loop_subprocess_exec(process_loop, &child_protocol, &child, &options,
                                &child.process);
    if (r == 0) {
        feed();
        run_to_the_end();
    }
    bk_process_free(child.process);
    return r;
}

static void
run_scenario(int poller)
{
    bk_loop_options loop_options = support_options(poller);

    (void)signal(SIGPIPE, SIG_IGN); /* the child may not read */
    options = (bk_process_options){.cwd = "/", .has_new_session = true};
    options.stdio[0].kind = BK_STDIO_PIPE;
    options.stdio[1].kind = BK_STDIO_PIPE;
    options.stdio[2].kind = BK_STDIO_NULL;
    child = (struct child){0};
    if (bk_loop_new(&loop_options, &process_loop) == 0) {
        (void)run_command("cat; exit 3");
        bk_loop_free(process_loop);
    }
    expect_no_children();
}

static void
expect_everything(void)
{
    ck_assert_uint_eq(child.received[1], WRITTEN);
    ck_assert_int_eq(child.returncode, 3);
    ck_assert(child.is_lost);
}

/* As a sandbox does it. A call whose first argument is 0 is let through: that
 * is waitid() for any child, as the test itself uses it. */
static void
forbid(int number, int code)
{
    enum { ARGUMENT = offsetof(struct seccomp_data, args) };
    struct sock_filter filter[] = {
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, (unsigned)number, 0, 5),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 0, 2),
        BPF_STMT(BPF_LD | BPF_W | BPF_ABS, ARGUMENT + 4),
        BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, 0, 1, 0),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | (unsigned)-code),
        BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
    };
    struct sock_fprog program = {.len = 8, .filter = filter};

    ck_assert_int_eq(prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0), 0);
    ck_assert_int_eq(prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &program), 0);
}

static void
forbid_pidfds(void)
{
    forbid(434, -EPERM); /* pidfd_open */
}

/* With pidfds, and with threads. */
START_TEST(test_every_call_once)
{
    unsigned nth = 0;
    bool has_failed;

    if (_i / CODES / SUPPORT_POLLERS == 1) {
        forbid_pidfds();
    }
    do {
        support_leaks_begin();
        bki_fault_arm(BKI_SYS_ANY, ++nth, codes[_i % CODES]);
        run_scenario(_i / CODES % SUPPORT_POLLERS);
        has_failed = bki_fault_disarm();
        support_leaks_end();
        ck_assert_uint_lt(nth, NTH_MAX);
    } while (has_failed);
    ck_assert_uint_gt(nth, 40);
    expect_everything();
}
END_TEST

START_TEST(test_no_memory_any_more)
{
    static const enum bki_sys_call allocations[] = {
        BKI_SYS_MALLOC, BKI_SYS_CALLOC, BKI_SYS_REALLOC};

    for (size_t i = 0; i < 3; i++) {
        for (unsigned nth = 1; nth < 15; nth++) {
            support_leaks_begin();
            bki_fault_arm_all(allocations[i], nth, -ENOMEM);
            run_scenario(_i);
            (void)bki_fault_disarm();
            support_leaks_end();
        }
    }
}
END_TEST

START_TEST(test_interrupted_calls_change_nothing)
{
    static const enum bki_sys_call calls[] = {
        BKI_SYS_READ, BKI_SYS_WRITE, BKI_SYS_WAITID, BKI_SYS_WAITID_PIDFD};

    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        for (unsigned nth = 1; nth < 5; nth++) {
            bki_fault_arm(calls[i], nth, -EINTR);
            run_scenario(_i);
            (void)bki_fault_disarm();
            expect_everything();
        }
    }
}
END_TEST

/* -- the codes arrive ------------------------------------------------------ */

static void
fail_start(enum bki_sys_call call, int code)
{
    const char *argv[] = {"sh", "-c", "exit 0", NULL};
    bk_process *process;

    options.argv = argv;
    bki_fault_arm(call, 1, code);
    ck_assert_int_eq(bk_loop_subprocess_exec(process_loop, &child_protocol,
                                             &child, &options, &process),
                     code);
    ck_assert(bki_fault_disarm());
    expect_no_children();
}

START_TEST(test_starting_tells_why)
{
    static const enum bki_sys_call calls[] = {
        BKI_SYS_CALLOC, BKI_SYS_MALLOC, BKI_SYS_PIPE,
        BKI_SYS_OPEN,   BKI_SYS_FSTAT,  BKI_SYS_VFORK,
        BKI_SYS_SETSID, BKI_SYS_DUP,    BKI_SYS_CHDIR,
    };

    begin_processes(_i);
    options.has_new_session = true;
    options.cwd = "/";
    for (size_t i = 0; i < sizeof(calls) / sizeof(calls[0]); i++) {
        fail_start(calls[i], -ENOMEM);
    }
    options.has_new_session = false;
    options.has_new_group = true;
    fail_start(BKI_SYS_SETPGID, -EPERM);
    options.program = "/bin/sh";
    fail_start(BKI_SYS_EXECVE, -EACCES);
    end_processes();
}
END_TEST

/* No pidfd and no thread: the child that was started ends. */
START_TEST(test_nobody_can_wait)
{
    const char *argv[] = {"sleep", "100", NULL};
    bk_process *process;

    forbid_pidfds();
    begin_processes(_i);
    options.argv = argv;
    bki_fault_arm_all(BKI_SYS_THREAD_CREATE, 1, -EAGAIN);
    ck_assert_int_eq(bk_loop_subprocess_exec(process_loop, &child_protocol,
                                             &child, &options, &process),
                     -EAGAIN);
    ck_assert(bki_fault_disarm());
    expect_no_children();
    end_processes();
}
END_TEST

static void
check_ways(enum bki_sys_call call, int code)
{
    bki_fault_arm_all(call, 1, code);
    ck_assert_int_eq(run_command("cat; exit 3"), 0);
    ck_assert(bki_fault_disarm());
    expect_everything();
}

/* What does without: no pidfd, one that cannot be polled, or not signalled. */
START_TEST(test_other_ways)
{
    begin_processes(_i);
    options.stdio[0].kind = BK_STDIO_PIPE;
    check_ways(BKI_SYS_PIDFD_OPEN, -ENOSYS);
    check_ways(BKI_SYS_PIDFD_OPEN, -EPERM);
    check_ways(BKI_SYS_PIDFD_OPEN, -EMFILE);
    check_ways(BKI_SYS_CLOSE_RANGE, -ENOSYS);
    check_ways(BKI_SYS_CLOSE_RANGE, -EPERM);
    child = (struct child){0};
    end_processes();
}
END_TEST

static const int refusals[] = {-EPERM, -ENOSYS, -EINVAL};

enum { REFUSALS = sizeof(refusals) / sizeof(refusals[0]) };

static void
check_terminate(void)
{
    child = (struct child){.pattern_offset = SIZE_MAX};
    start_shell("exec sleep 100");
    ck_assert_int_eq(bk_process_terminate(child.process), 0);
    run_until_lost();
    ck_assert_int_eq(child.returncode, -SIGTERM);
    ck_assert_int_eq(bk_process_terminate(child.process), -ESRCH);
    bk_process_free(child.process);
}

START_TEST(test_signal_without_pidfd)
{
    begin_processes(_i);
    forbid(424, refusals[_i / SUPPORT_POLLERS]); /* pidfd_send_signal */
    check_terminate();
    child = (struct child){0};
    end_processes();
}
END_TEST

/* Also of one that is freed while it runs, and after it has ended. */
static void
check_waiting(void)
{
    ck_assert_int_eq(run_command("exit 3"), 0);
    ck_assert_int_eq(child.returncode, 3);
    check_terminate();
    child = (struct child){.pattern_offset = SIZE_MAX};
    start_shell("exec sleep 100");
    bk_process_free(child.process);
    expect_no_children();
    start_shell("exit 4");
    (void)waitid(P_ALL, 0, &(siginfo_t){0}, WEXITED | WNOWAIT);
    bk_process_free(child.process);
    child = (struct child){0};
    end_processes();
}

/* waitpid(2) is there, with pidfds and with threads. */
START_TEST(test_waitid_is_refused)
{
    if (_i / REFUSALS / SUPPORT_POLLERS == 1) {
        forbid_pidfds();
    }
    begin_processes(_i / REFUSALS % SUPPORT_POLLERS);
    forbid(SYS_waitid, refusals[_i % REFUSALS]);
    check_waiting();
}
END_TEST

/* FIXME(kernel 5.4): it waits by pidfds. */
START_TEST(test_kernel_without_waiting_by_pidfd)
{
    begin_processes(_i);
    bki_fault_arm_all(BKI_SYS_WAITID_PIDFD, 1, -EINVAL);
    check_waiting();
    ck_assert(bki_fault_disarm());
}
END_TEST

/* Nothing leaks into the child without close_range(2) either, however many
 * there are. */
START_TEST(test_fds_without_close_range)
{
    const char *const argv[] = {"ls", "/proc/self/fd", NULL};
    int fds[200];

    begin_processes(_i);
    for (int i = 0; i < 200; i++) {
        fds[i] = dup(0);
        ck_assert_int_ge(fds[i], 0);
    }
    options.argv = argv;
    bki_fault_arm_all(BKI_SYS_CLOSE_RANGE, 1, -ENOSYS);
    start_child();
    ck_assert(bki_fault_disarm());
    run_until_lost();
    ck_assert_str_eq(child.text[1], "0\n1\n2\n3\n");
    for (int i = 0; i < 200; i++) {
        ck_assert_int_eq(close(fds[i]), 0);
    }
    end_processes();
}
END_TEST

static void
add_tests(TCase *tcase)
{
    tcase_add_loop_test(tcase, test_every_call_once, 0,
                        SUPPORT_POLLERS * CODES * PROCESS_WAYS);
    tcase_add_loop_test(tcase, test_no_memory_any_more, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_interrupted_calls_change_nothing, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_starting_tells_why, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_nobody_can_wait, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_other_ways, 0, SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_signal_without_pidfd, 0,
                        SUPPORT_POLLERS * (REFUSALS - 1));
    tcase_add_loop_test(tcase, test_waitid_is_refused, 0,
                        SUPPORT_POLLERS * REFUSALS * PROCESS_WAYS);
    tcase_add_loop_test(tcase, test_kernel_without_waiting_by_pidfd, 0,
                        SUPPORT_POLLERS);
    tcase_add_loop_test(tcase, test_fds_without_close_range, 0,
                        SUPPORT_POLLERS);
}

int
main(void)
{
    Suite *suite = suite_create("fault_process");
    TCase *tcase = tcase_create("process");

    add_tests(tcase);
    suite_add_tcase(suite, tcase);
    return support_main(suite);
}
