/* process_support.c -- a recorded child, for the tests of processes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "process_support.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/fault.h"

bk_loop *process_loop;
struct child child;
bk_process_options options;

static void
say(struct child *self, const char *format, int a, int b)
{
    size_t len = strlen(self->log);

#pragma GCC diagnostic push
#pragma GCC diagnostic ignored "-Wformat-nonliteral"
    (void)snprintf(self->log + len, sizeof(self->log) - len, format, a, b);
#pragma GCC diagnostic pop
}

static void
on_data(bk_process *process, int fd, const void *data, size_t len, void *arg)
{
    struct child *self = arg;
    size_t *received = &self->received[fd];

    ck_assert_ptr_eq(process, self->process);
    ck_assert(fd == 1 || fd == 2);
    ck_assert_uint_gt(len, 0);
    ck_assert(!self->is_lost);
    if (self->pattern_offset != SIZE_MAX) {
        ck_assert(is_pattern(data, len, self->pattern_offset));
        self->pattern_offset += len;
    }
    if (*received < TEXT_MAX - 1) {
        size_t room = TEXT_MAX - 1 - *received;

        memcpy(self->text[fd] + *received, data, len < room ? len : room);
    }
    *received += len;
    if (self->on_data != NULL) {
        self->on_data(self);
    }
}

static void
on_pipe_lost(bk_process *process, int fd, int error, void *arg)
{
    struct child *self = arg;

    ck_assert_ptr_eq(process, self->process);
    ck_assert(!self->is_lost);
    say(self, "end:%d:%d ", fd, error);
    if (self->on_pipe_lost != NULL) {
        self->on_pipe_lost(self);
    }
}

static void
on_exited(bk_process *process, int returncode, void *arg)
{
    struct child *self = arg;
    int got;

    ck_assert_ptr_eq(process, self->process);
    ck_assert(!self->is_ended);
    ck_assert_int_eq(bk_process_get_returncode(process, &got), 0);
    ck_assert_int_eq(got, returncode);
    self->is_ended = true;
    self->returncode = returncode;
    say(self, "exited:%d ", returncode, 0);
    if (self->on_exited != NULL) {
        self->on_exited(self);
    }
}

static void
on_lost(bk_process *process, void *arg)
{
    struct child *self = arg;

    ck_assert_ptr_eq(process, self->process);
    ck_assert(self->is_ended);
    ck_assert(!self->is_lost);
    for (int i = 0; i < 3; i++) {
        ck_assert_ptr_null(bk_process_get_pipe_transport(process, i));
    }
    self->is_lost = true;
    say(self, "lost ", 0, 0);
    if (self->on_lost != NULL) {
        self->on_lost(self);
    }
}

static void
on_pause(bk_process *process, void *arg)
{
    ck_assert_ptr_eq(process, ((struct child *)arg)->process);
    ((struct child *)arg)->pauses++;
}

static void
on_resume(bk_process *process, void *arg)
{
    ck_assert_ptr_eq(process, ((struct child *)arg)->process);
    ((struct child *)arg)->resumes++;
}

const bk_subprocess_protocol child_protocol = {
    .pipe_data_received = on_data,
    .pipe_connection_lost = on_pipe_lost,
    .pause_writing = on_pause,
    .resume_writing = on_resume,
    .process_exited = on_exited,
    .connection_lost = on_lost,
};

void
begin_processes(int i)
{
    (void)signal(SIGPIPE, SIG_IGN);
    process_loop = support_new_loop(i % SUPPORT_POLLERS);
    child = (struct child){.pattern_offset = SIZE_MAX};
    options = (bk_process_options){0};
    options.stdio[0].kind = BK_STDIO_NULL;
    options.stdio[1].kind = BK_STDIO_PIPE;
    options.stdio[2].kind = BK_STDIO_PIPE;
#ifdef BK_FAULT_INJECTION
    if (i / SUPPORT_POLLERS == 1) {
        bki_fault_arm_all(BKI_SYS_PIDFD_OPEN, 1, -ENOSYS);
    }
#endif
}

void
end_processes(void)
{
    bk_process_free(child.process);
    support_free_loop(process_loop);
    expect_no_children();
}

void
start_child(void)
{
    ck_assert_int_eq(bk_loop_subprocess_exec(process_loop, &child_protocol,
                                             &child, &options, &child.process),
                     0);
    ck_assert_int_gt(bk_process_get_pid(child.process), 0);
}

void
start_shell(const char *command)
{
    const char *argv[] = {"sh", "-c", command, NULL};

    options.argv = argv;
    start_child();
    options.argv = NULL;
}

void
run_shell(const char *command)
{
    start_shell(command);
    run_until_lost();
}

void
expect_failure(int code)
{
    bk_process *process = (bk_process *)&child;

    ck_assert_int_eq(bk_loop_subprocess_exec(process_loop, &child_protocol,
                                             &child, &options, &process),
                     code);
    ck_assert_ptr_eq(process, (bk_process *)&child);
    expect_no_children();
    support_turns(process_loop, 2);
    expect_told("");
}

void
run_until_lost(void)
{
    SLEEP_UNTIL(child.is_lost);
}

void
sleep_once(void)
{
    bk_timer *timer;

    ck_assert_int_eq(bk_loop_call_later(process_loop, 5 * MS, support_stop,
                                        process_loop, &timer),
                     0);
    ck_assert_int_eq(bk_loop_run_forever(process_loop), 0);
}

void
expect_told(const char *log)
{
    ck_assert_str_eq(child.log, log);
}

void
expect_no_children(void)
{
    uint64_t deadline_ns = bk_clock_now() + 10 * S;

    while (waitid(P_ALL, 0, &(siginfo_t){0}, WEXITED | WNOHANG | WNOWAIT) ==
           0) {
        ck_assert_msg(bk_clock_now() < deadline_ns, "a child is left");
        (void)usleep(500);
    }
    ck_assert_int_eq(errno, ECHILD);
}

void
add_process_test(TCase *tcase, const TTest *test)
{
#ifdef BK_FAULT_INJECTION
    tcase_add_loop_test(tcase, test, 0, SUPPORT_POLLERS * PROCESS_WAYS);
#else
    tcase_add_loop_test(tcase, test, 0, SUPPORT_POLLERS);
#endif
}
