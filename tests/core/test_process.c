/* test_process.c -- child processes: starting, streams, the end.
 *
 * SPDX-License-Identifier: MIT
 */
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "process_support.h"

enum { BIG = 4 * 1024 * 1024 };

static char folder[] = "/tmp/becket-process-XXXXXX";

/* A file in a folder of the test's own, with this content and mode. */
static void
make_file(char *ret_path, const char *name, const char *content, mode_t mode)
{
    int fd;

    (void)sprintf(ret_path, "%s/%s", folder, name);
    fd = open(ret_path, O_WRONLY | O_CREAT | O_CLOEXEC, mode);
    ck_assert_int_ge(fd, 0);
    support_send(fd, content);
    ck_assert_int_eq(close(fd), 0);
}

static void
make_folder(void)
{
    ck_assert_ptr_nonnull(mkdtemp(folder));
}

static void
remove_folder(void)
{
    char command[100];

    (void)sprintf(command, "rm -r %s", folder);
    ck_assert_int_eq(system(command), 0);
}

/* -- output and end -------------------------------------------------------- */

START_TEST(output_and_returncode)
{
    int returncode;

    begin_processes(_i);
    start_shell("echo out; echo err >&2; exit 7");
    ck_assert_int_eq(bk_process_get_returncode(child.process, &returncode),
                     -EAGAIN);
    expect_told("");
    run_until_lost();
    ck_assert_str_eq(child.text[1], "out\n");
    ck_assert_str_eq(child.text[2], "err\n");
    ck_assert_int_eq(child.returncode, 7);
    end_processes();
}
END_TEST

START_TEST(megabytes_of_output)
{
    begin_processes(_i);
    run_shell("head -c 8000000 /dev/zero; head -c 3000000 /dev/zero >&2");
    ck_assert_uint_eq(child.received[1], 8000000);
    ck_assert_uint_eq(child.received[2], 3000000);
    ck_assert_int_eq(child.returncode, 0);
    end_processes();
}
END_TEST

static char pattern[BIG];

START_TEST(stdin_is_fed)
{
    bk_transport *stdin_pipe;

    begin_processes(_i);
    fill_pattern(pattern, BIG, 0);
    options.stdio[0].kind = BK_STDIO_PIPE;
    child.pattern_offset = 0;
    start_shell("cat");
    stdin_pipe = bk_process_get_pipe_transport(child.process, 0);
    ck_assert_ptr_nonnull(stdin_pipe);
    ck_assert_int_eq(bk_transport_write(stdin_pipe, pattern, BIG), 0);
    ck_assert_int_eq(child.pauses, 1);
    ck_assert_int_eq(bk_transport_write_eof(stdin_pipe), 0);
    run_until_lost();
    ck_assert_uint_eq(child.received[1], BIG);
    ck_assert_uint_eq(child.pattern_offset, BIG);
    ck_assert_int_eq(child.returncode, 0);
    end_processes();
}
END_TEST

START_TEST(stdin_that_nobody_reads)
{
    begin_processes(_i);
    options.stdio[0].kind = BK_STDIO_PIPE;
    options.stdio[1].kind = BK_STDIO_NULL;
    options.stdio[2].kind = BK_STDIO_NULL;
    start_shell("exec true");
    ck_assert_int_eq(
        bk_transport_write(bk_process_get_pipe_transport(child.process, 0),
                           pattern, BIG),
        0);
    run_until_lost();
    ck_assert_ptr_nonnull(strstr(child.log, "end:0:-32 "));
    ck_assert_int_eq(child.returncode, 0);
    end_processes();
}
END_TEST

/* The exit is told at once, the end of the pipe when its last writer goes. */
START_TEST(a_grandchild_holds_the_pipe)
{
    char command[60];
    int hold[2];

    begin_processes(_i);
    ck_assert_int_eq(pipe(hold), 0);
    ck_assert_int_eq(fcntl(hold[1], F_SETFD, FD_CLOEXEC), 0);
    options.stdio[2].kind = BK_STDIO_NULL;
    options.has_open_fds = true;
    (void)sprintf(command, "cat <&%d & exit 5", hold[0]);
    start_shell(command);
    SLEEP_UNTIL(child.is_ended);
    support_turns(process_loop, 5);
    expect_told("exited:5 ");
    ck_assert_int_eq(write(hold[1], "late", 4), 4);
    ck_assert_int_eq(close(hold[0]), 0);
    ck_assert_int_eq(close(hold[1]), 0);
    run_until_lost();
    expect_told("exited:5 end:1:0 lost ");
    ck_assert_str_eq(child.text[1], "late");
    end_processes();
}
END_TEST

START_TEST(without_pipes)
{
    begin_processes(_i);
    options.stdio[1].kind = BK_STDIO_NULL;
    options.stdio[2].kind = BK_STDIO_INHERIT;
    run_shell("exit 255");
    expect_told("exited:255 lost ");
    end_processes();
}
END_TEST

static int left;

/* Each that ends starts the next one. */
static void
start_next(struct child *self)
{
    const char *const argv[] = {"true", NULL};

    ck_assert_int_eq(self->returncode, 0);
    bk_process_free(self->process);
    self->process = NULL;
    if (left-- == 0) {
        bk_loop_stop(process_loop);
        return;
    }
    child = (struct child){.pattern_offset = SIZE_MAX, .on_lost = start_next};
    options.argv = argv;
    start_child();
}

START_TEST(a_thousand_short_ones)
{
    begin_processes(_i);
    left = _i % SUPPORT_POLLERS == SUPPORT_EPOLL ? 1000 : 100;
    start_next(&child);
    ck_assert_int_eq(bk_loop_run_forever(process_loop), 0);
    ck_assert_int_eq(left, -1);
    end_processes();
}
END_TEST

START_TEST(many_at_once)
{
    static struct child children[100];
    const char *const argv[] = {"sh", "-c", "echo $$; exit 3", NULL};

    begin_processes(_i % SUPPORT_POLLERS == SUPPORT_EXTERNAL ? 0 : _i);
    options.argv = argv;
    options.stdio[2].kind = BK_STDIO_NULL;
    for (int i = 0; i < 100; i++) {
        children[i] = (struct child){.pattern_offset = SIZE_MAX};
        ck_assert_int_eq(bk_loop_subprocess_exec(process_loop, &child_protocol,
                                                 &children[i], &options,
                                                 &children[i].process),
                         0);
    }
    for (int i = 0; i < 100; i++) {
        SLEEP_UNTIL(children[i].is_lost);
        ck_assert_int_eq(children[i].returncode, 3);
        ck_assert_int_eq(atoi(children[i].text[1]),
                         bk_process_get_pid(children[i].process));
        bk_process_free(children[i].process);
    }
    end_processes();
}
END_TEST

/* -- failing --------------------------------------------------------------- */

static void
expect_failure_of(const char *program, int code)
{
    const char *argv[] = {program, NULL};

    options.argv = argv;
    expect_failure(code);
    options.argv = NULL;
}

START_TEST(programs_that_cannot_be_started)
{
    char script[60];
    char no_program[60];
    char below[90];

    make_folder();
    begin_processes(_i);
    make_file(no_program, "text", "#!/bin/sh\n", 0644);
    make_file(script, "script", "exit 0\n", 0755);
    (void)sprintf(below, "%s/below", script);
    expect_failure_of("/no/such/program", -ENOENT);
    expect_failure_of("becket-no-such-program", -ENOENT);
    expect_failure_of("", -ENOENT);
    expect_failure_of(no_program, -EACCES);
    expect_failure_of(folder, -EACCES);
    expect_failure_of(script, -ENOEXEC);
    expect_failure_of(below, -ENOTDIR);
    end_processes();
    remove_folder();
}
END_TEST

START_TEST(folders_that_cannot_be_entered)
{
    begin_processes(_i);
    options.cwd = "/no/such/folder";
    expect_failure_of("true", -ENOENT);
    options.cwd = "/dev/null";
    expect_failure_of("true", -ENOTDIR);
    end_processes();
}
END_TEST

START_TEST(bad_arguments)
{
    const char *const argv[] = {"true", NULL};
    const char *const none[] = {NULL};
    bk_process *process;
    int number;

    begin_processes(_i);
    expect_failure(-EINVAL);
    options.argv = none;
    expect_failure(-EINVAL);
    options.argv = argv;
    options.stdio[1].kind = BK_STDIO_STDOUT;
    expect_failure(-EINVAL);
    options.stdio[1].kind = (bk_stdio_kind)77;
    expect_failure(-EINVAL);
    options.stdio[1] = (bk_stdio){BK_STDIO_FD, -1};
    expect_failure(-EBADF);
    options.stdio[1] = (bk_stdio){BK_STDIO_FD, 1000};
    expect_failure(-EBADF);
    ck_assert_int_eq(bk_loop_subprocess_exec(NULL, &child_protocol, NULL,
                                             &options, &process),
                     -EINVAL);
    ck_assert_int_eq(
        bk_loop_subprocess_exec(process_loop, NULL, NULL, &options, &process),
        -EINVAL);
    ck_assert_int_eq(bk_loop_subprocess_exec(process_loop, &child_protocol,
                                             NULL, &options, NULL),
                     -EINVAL);
    ck_assert_int_eq(bk_process_get_pid(NULL), -EINVAL);
    ck_assert_int_eq(bk_process_get_returncode(NULL, &number), -EINVAL);
    ck_assert_int_eq(bk_process_kill(NULL), -EINVAL);
    ck_assert_ptr_null(bk_process_get_pipe_transport(NULL, 1));
    bk_process_close(NULL);
    bk_process_free(NULL);
    ck_assert_int_eq(bk_loop_close(process_loop), 0);
    ck_assert_int_eq(bk_loop_subprocess_exec(process_loop, &child_protocol,
                                             NULL, &options, &process),
                     -EBADF);
    end_processes();
}
END_TEST

/* -- what the child is given ----------------------------------------------- */

START_TEST(folder_and_environment)
{
    static const char *const env[] = {"A=1", "PATH=/no/such:/usr/bin:/bin",
                                      "B=", NULL};
    const char *const argv[] = {"not-its-name", NULL};

    begin_processes(_i);
    options.cwd = "/usr";
    run_shell("pwd");
    ck_assert_str_eq(child.text[1], "/usr\n");
    bk_process_free(child.process);
    child = (struct child){.pattern_offset = SIZE_MAX};
    options.argv = argv;
    options.program = "env";
    options.env = env;
    start_child();
    run_until_lost();
    ck_assert_str_eq(child.text[1], "A=1\nPATH=/no/such:/usr/bin:/bin\nB=\n");
    end_processes();
}
END_TEST

/* A file that may not be executed is passed over, as long as there is another;
 * an empty folder is the current one. */
START_TEST(path_is_searched)
{
    char path[200];
    const char *env[] = {path, NULL};
    char program[60];

    make_folder();
    begin_processes(_i);
    make_file(program, "becket-program", "#!/bin/sh\necho found\n", 0644);
    (void)sprintf(path, "PATH=/dev/null:%s:/no/such", folder);
    options.env = env;
    expect_failure_of("becket-program", -EACCES);
    ck_assert_int_eq(chmod(program, 0755), 0);
    (void)sprintf(path, "PATH=/no/such:");
    options.cwd = folder;
    options.program = "becket-program";
    run_shell("");
    ck_assert_str_eq(child.text[1], "found\n");
    bk_process_free(child.process);
    child = (struct child){.pattern_offset = SIZE_MAX};
    options.env = NULL;
    expect_failure_of("becket-program", -ENOENT);
    end_processes();
    remove_folder();
}
END_TEST

START_TEST(errors_with_the_output)
{
    begin_processes(_i);
    options.stdio[2].kind = BK_STDIO_STDOUT;
    run_shell("echo a; echo b >&2; echo c");
    ck_assert_str_eq(child.text[1], "a\nb\nc\n");
    end_processes();
}
END_TEST

static int
open_file(const char *name)
{
    char path[60];
    int fd;

    (void)sprintf(path, "%s/%s", folder, name);
    fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
    ck_assert_int_ge(fd, 0);
    return fd;
}

static void
expect_content(int fd, const char *content)
{
    char text[100] = "";

    ck_assert_int_eq(lseek(fd, 0, SEEK_SET), 0);
    ck_assert_int_ge(read(fd, text, sizeof(text) - 1), 0);
    ck_assert_str_eq(text, content);
    ck_assert_int_eq(close(fd), 0);
}

START_TEST(files_for_streams)
{
    int in;
    int out;

    make_folder();
    begin_processes(_i);
    in = open_file("in");
    out = open_file("out");
    support_send(in, "from a file");
    ck_assert_int_eq(lseek(in, 0, SEEK_SET), 0);
    options.stdio[0] = (bk_stdio){BK_STDIO_FD, in};
    options.stdio[1] = (bk_stdio){BK_STDIO_FD, out};
    options.stdio[2].kind = BK_STDIO_STDOUT;
    run_shell("cat; echo ! >&2");
    expect_told("exited:0 lost ");
    ck_assert_int_eq(close(in), 0);
    expect_content(out, "from a file!\n");
    end_processes();
    remove_folder();
}
END_TEST

/* The parent's own 1 and 2, exchanged; and a 2 that is to stay in place. */
START_TEST(streams_exchanged)
{
    int saved[2];
    int one;
    int two;

    make_folder();
    begin_processes(_i);
    saved[0] = dup(1);
    saved[1] = dup(2);
    one = open_file("one");
    two = open_file("two");
    ck_assert_int_eq(dup3(one, 1, O_CLOEXEC), 1);
    ck_assert_int_eq(dup3(two, 2, O_CLOEXEC), 2);
    options.stdio[1] = (bk_stdio){BK_STDIO_FD, 2};
    options.stdio[2] = (bk_stdio){BK_STDIO_FD, 1};
    run_shell("echo out; echo err >&2");
    bk_process_free(child.process);
    child = (struct child){.pattern_offset = SIZE_MAX};
    options.stdio[1] = (bk_stdio){BK_STDIO_FD, 2};
    options.stdio[2] = (bk_stdio){BK_STDIO_FD, 2};
    run_shell("echo out; echo err >&2");
    ck_assert_int_eq(dup2(saved[0], 1), 1);
    ck_assert_int_eq(dup2(saved[1], 2), 2);
    ck_assert_int_eq(close(saved[0]), 0);
    ck_assert_int_eq(close(saved[1]), 0);
    expect_content(one, "err\n");
    expect_content(two, "out\nout\nerr\n");
    end_processes();
    remove_folder();
}
END_TEST

/* What the library opens then gets the numbers 0, 1 and 2. */
START_TEST(parent_without_streams)
{
    int saved[3];

    begin_processes(_i);
    for (int i = 0; i < 3; i++) {
        saved[i] = fcntl(i, F_DUPFD_CLOEXEC, 10);
        ck_assert_int_eq(close(i), 0);
    }
    options.stdio[0].kind = BK_STDIO_PIPE;
    start_shell("cat; echo err >&2");
    support_turns(process_loop, 1);
    ck_assert_int_eq(
        bk_transport_write(bk_process_get_pipe_transport(child.process, 0),
                           "text", 4),
        0);
    bk_transport_close(bk_process_get_pipe_transport(child.process, 0));
    run_until_lost();
    for (int i = 0; i < 3; i++) {
        ck_assert_int_eq(dup2(saved[i], i), i);
        ck_assert_int_eq(close(saved[i]), 0);
    }
    ck_assert_str_eq(child.text[1], "text");
    ck_assert_str_eq(child.text[2], "err\n");
    end_processes();
}
END_TEST

START_TEST(no_other_fds)
{
    const char *const argv[] = {"ls", "/proc/self/fd", NULL};
    char expected[60];
    int fd;

    begin_processes(_i);
    fd = fcntl(0, F_DUPFD, 50); /* not close-on-exec */
    options.argv = argv;
    start_child();
    run_until_lost();
    ck_assert_str_eq(child.text[1], "0\n1\n2\n3\n"); /* 3: the folder */
    bk_process_free(child.process);
    child = (struct child){.pattern_offset = SIZE_MAX};
    options.has_open_fds = true;
    start_child();
    run_until_lost();
    (void)sprintf(expected, "\n%d\n", fd);
    ck_assert_ptr_nonnull(strstr(child.text[1], expected));
    ck_assert_int_eq(close(fd), 0);
    end_processes();
}
END_TEST

static void
do_nothing(int signum)
{
    (void)signum;
}

/* Without the two that the C library keeps for itself. */
static unsigned long long
mask_in(const char *status, const char *name)
{
    const char *line = strstr(status, name);

    ck_assert_ptr_nonnull(line);
    return strtoull(line + strlen(name), NULL, 16) & ~(3ULL << (32 - 1));
}

static unsigned long long
mask_in_status(const char *name)
{
    return mask_in(child.text[1], name);
}

/* What whoever started these tests has this process ignore is ignored by its
 * children, too, but for the two that every child gets as by default. */
static unsigned long long
own_ignored_mask(void)
{
    char status[4096];
    FILE *file = fopen("/proc/self/status", "r");
    size_t size;

    ck_assert_ptr_nonnull(file);
    size = fread(status, 1, sizeof(status) - 1, file);
    (void)fclose(file);
    status[size] = '\0';
    return mask_in(status, "SigIgn:") & ~(1ULL << (SIGPIPE - 1)) &
           ~(1ULL << (SIGXFSZ - 1));
}

START_TEST(signals_as_they_are_by_default)
{
    const char *const argv[] = {"cat", "/proc/self/status", NULL};
    sigset_t set;

    begin_processes(_i);
    (void)signal(SIGUSR1, do_nothing);
    (void)signal(SIGHUP, SIG_IGN);
    (void)signal(SIGXFSZ, SIG_IGN);
    (void)sigemptyset(&set);
    (void)sigaddset(&set, SIGTERM);
    (void)sigaddset(&set, SIGUSR2);
    (void)sigprocmask(SIG_BLOCK, &set, NULL);
    options.argv = argv;
    start_child();
    run_until_lost();
    ck_assert_uint_eq(mask_in_status("SigBlk:"), 0);
    ck_assert_uint_eq(mask_in_status("SigCgt:"), 0);
    ck_assert_uint_ne(own_ignored_mask() & 1ULL << (SIGHUP - 1), 0);
    ck_assert_uint_eq(mask_in_status("SigIgn:"), own_ignored_mask());
    (void)sigprocmask(SIG_BLOCK, NULL, &set);
    ck_assert_int_eq(sigismember(&set, SIGTERM), 1);
    ck_assert_int_eq(sigismember(&set, SIGINT), 0);
    end_processes();
}
END_TEST

/* Process group and session of the child, of "pid (cat) R ppid group ...". */
static void
read_group(int *ret_group, int *ret_session)
{
    const char *end = strchr(child.text[1], ')');
    int parent;

    ck_assert_ptr_nonnull(end);
    ck_assert_int_eq(
        sscanf(end, ") %*c %d %d %d", &parent, ret_group, ret_session), 3);
    ck_assert_int_eq(parent, getpid());
}

START_TEST(sessions_and_groups)
{
    const char *const argv[] = {"cat", "/proc/self/stat", NULL};

    begin_processes(_i);
    options.argv = argv;
    for (int way = 0; way < 3; way++) {
        int group;
        int session;
        int pid;

        options.has_new_session = way == 1;
        options.has_new_group = way == 2;
        start_child();
        pid = bk_process_get_pid(child.process);
        run_until_lost();
        read_group(&group, &session);
        ck_assert_int_eq(group, way == 0 ? getpgrp() : pid);
        ck_assert_int_eq(session, way == 1 ? pid : getsid(0));
        bk_process_free(child.process);
        child = (struct child){.pattern_offset = SIZE_MAX};
    }
    end_processes();
}
END_TEST

static void
add_end(Suite *suite)
{
    TCase *tcase = tcase_create("output and end");

    add_process_test(tcase, output_and_returncode);
    add_process_test(tcase, megabytes_of_output);
    add_process_test(tcase, stdin_is_fed);
    add_process_test(tcase, stdin_that_nobody_reads);
    add_process_test(tcase, a_grandchild_holds_the_pipe);
    add_process_test(tcase, without_pipes);
    add_process_test(tcase, a_thousand_short_ones);
    add_process_test(tcase, many_at_once);
    suite_add_tcase(suite, tcase);
}

static void
add_failing(Suite *suite)
{
    TCase *tcase = tcase_create("failing");

    add_process_test(tcase, programs_that_cannot_be_started);
    add_process_test(tcase, folders_that_cannot_be_entered);
    add_process_test(tcase, bad_arguments);
    suite_add_tcase(suite, tcase);
}

static void
add_given(Suite *suite)
{
    TCase *tcase = tcase_create("what the child is given");

    add_process_test(tcase, folder_and_environment);
    add_process_test(tcase, path_is_searched);
    add_process_test(tcase, errors_with_the_output);
    add_process_test(tcase, files_for_streams);
    add_process_test(tcase, streams_exchanged);
    add_process_test(tcase, parent_without_streams);
    add_process_test(tcase, no_other_fds);
    add_process_test(tcase, signals_as_they_are_by_default);
    add_process_test(tcase, sessions_and_groups);
    suite_add_tcase(suite, tcase);
}

int
main(void)
{
    Suite *suite = suite_create("process");

    add_end(suite);
    add_failing(suite);
    add_given(suite);
    return support_main(suite);
}
