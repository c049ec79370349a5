/* sys_process.c -- system calls about signals and processes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/sys.h"

#include <fcntl.h>
#include <signal.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/sys_call.h"

/* Newer than the C library's headers may be; the same on every machine. */
enum {
    CALL_PIDFD_SEND_SIGNAL = 424,
    CALL_PIDFD_OPEN = 434,
    CALL_CLOSE_RANGE = 436,
    KIND_PIDFD = 3, /* P_PIDFD */
};

int
bki_sys_get_errno(void)
{
    return errno;
}

void
bki_sys_set_errno(int code)
{
    errno = code;
}

int
bki_sys_sigaction(int signum, const struct sigaction *action,
                  struct sigaction *ret_old)
{
    FAULT_POINT(BKI_SYS_SIGACTION);
    return result_of(sigaction(signum, action, ret_old));
}

void
bki_sys_sigaction_back(int signum, void (*handler)(int signum),
                       const struct sigaction *previous)
{
    struct sigaction current;

    if (sigaction(signum, NULL, &current) == 0 &&
        current.sa_handler == handler) {
        (void)sigaction(signum, previous, NULL);
    }
}

void
bki_sys_block_signals(sigset_t *ret_old)
{
    sigset_t all;

    (void)sigfillset(&all);
    (void)pthread_sigmask(SIG_SETMASK, &all, ret_old);
}

void
bki_sys_restore_signals(const sigset_t *old)
{
    (void)pthread_sigmask(SIG_SETMASK, old, NULL);
}

void
bki_sys_raise(int signum)
{
    (void)raise(signum);
}

int
bki_sys_pipe(int ret_fds[2])
{
    FAULT_POINT(BKI_SYS_PIPE);
    return result_of(pipe2(ret_fds, O_CLOEXEC));
}

int
bki_sys_open(const char *path)
{
    FAULT_POINT(BKI_SYS_OPEN);
    return result_of(open(path, O_RDWR | O_CLOEXEC | O_NOCTTY));
}

int
bki_sys_dup_above(int fd, int fd_min)
{
    FAULT_POINT(BKI_SYS_FCNTL);
    return result_of(fcntl(fd, F_DUPFD_CLOEXEC, fd_min));
}

int
bki_sys_pidfd_open(int pid)
{
    FAULT_POINT(BKI_SYS_PIDFD_OPEN);
    return result_of((int)syscall(CALL_PIDFD_OPEN, pid, 0));
}

int
bki_sys_pidfd_send_signal(int pidfd, int signum)
{
    FAULT_POINT(BKI_SYS_PIDFD_SEND_SIGNAL);
    return result_of(
        (int)syscall(CALL_PIDFD_SEND_SIGNAL, pidfd, signum, NULL, 0));
}

int
bki_sys_kill(int pid, int signum)
{
    FAULT_POINT(BKI_SYS_KILL);
    return result_of(kill(pid, signum));
}

static int
wait_for(idtype_t kind, int id, int options, int *ret_returncode)
{
    siginfo_t info = {0};
    int r = result_of(waitid(kind, (id_t)id, &info, options));

    if (r < 0 || info.si_pid == 0) {
        return r;
    }
    *ret_returncode =
        info.si_code == CLD_EXITED ? info.si_status : -info.si_status;
    return 1;
}

int
bki_sys_waitid(int pid, int options, int *ret_returncode)
{
    FAULT_POINT(BKI_SYS_WAITID);
    return wait_for(P_PID, pid, options, ret_returncode);
}

int
bki_sys_waitid_pidfd(int pidfd, int options, int *ret_returncode)
{
    FAULT_POINT(BKI_SYS_WAITID_PIDFD);
    return wait_for((idtype_t)KIND_PIDFD, pidfd, options, ret_returncode);
}

int
bki_sys_waitpid(int pid, int options, int *ret_returncode)
{
    int status = 0;
    int r;

    FAULT_POINT(BKI_SYS_WAITPID);
    r = result_of(waitpid(pid, &status, options));
    if (r <= 0) {
        return r;
    }
    *ret_returncode =
        WIFEXITED(status) ? WEXITSTATUS(status) : -WTERMSIG(status);
    return 1;
}

/* From here on: in the child, between vfork and execve, in the memory of the
 * parent. System calls only. */

static int
child_begin_group(const struct bki_child *child)
{
    if (child->has_new_session) {
        FAULT_POINT(BKI_SYS_SETSID);
        return setsid() < 0 ? -errno : 0;
    }
    if (child->has_new_group) {
        FAULT_POINT(BKI_SYS_SETPGID);
        return result_of(setpgid(0, 0));
    }
    return 0;
}

static int
child_chdir(const char *path)
{
    FAULT_POINT(BKI_SYS_CHDIR);
    return result_of(chdir(path));
}

static int
child_place_fd(int fd, int place)
{
    FAULT_POINT(BKI_SYS_DUP);
    if (fd == place) { /* dup2 would leave it close-on-exec */
        return result_of(fcntl(fd, F_SETFD, 0));
    }
    return result_of(dup2(fd, place)) < 0 ? -errno : 0;
}

static int
child_place_fds(const int *fds)
{
    int r = 0;

    for (int i = 0; r == 0 && i < 3; i++) {
        if (fds[i] >= 0) {
            r = child_place_fd(fds[i], i);
        }
    }
    return r;
}

/* What getdents64(2) writes. */
struct entry {
    uint64_t inode;
    int64_t offset;
    uint16_t len;
    uint8_t type;
    char name[];
};

static int
number_of(const char *name)
{
    int number = 0;

    for (; *name >= '0' && *name <= '9'; name++) {
        number = number * 10 + (*name - '0');
    }
    return number; /* 0 for "." and ".." */
}

/* The kernel keeps the place in this folder by number, so that closing what
 * was read leaves out nothing. */
static int
child_close_listed(int folder)
{
    _Alignas(struct entry) char buf[1024];
    long n;

    while ((n = syscall(SYS_getdents64, folder, buf, sizeof(buf))) > 0) {
        for (long at = 0; at < n;) {
            const struct entry *entry = (const void *)(buf + at);
            int fd = number_of(entry->name);

            if (fd > 2 && fd != folder) {
                (void)close(fd);
            }
            at += entry->len;
        }
    }
    return n < 0 ? -errno : 0; /* close-on-exec itself */
}

static int
child_close_range(void)
{
    FAULT_POINT(BKI_SYS_CLOSE_RANGE);
    return result_of((int)syscall(CALL_CLOSE_RANGE, 3, ~0U, 0));
}

/* FIXME(kernel 5.9): close_range is always there. */
static int
child_close_others(void)
{
    int folder;

    if (child_close_range() == 0) {
        return 0;
    }
    FAULT_POINT(BKI_SYS_OPEN);
    folder = open("/proc/self/fd", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return folder < 0 ? -errno : child_close_listed(folder);
}

static bool
is_left_alone(int signum, const struct sigaction *action)
{
    if (action->sa_handler == SIG_DFL) {
        return true;
    }
    return action->sa_handler == SIG_IGN && signum != SIGPIPE &&
           signum != SIGXFSZ;
}

/* Before they are let in: a handler of the parent's would run here. */
static void
child_reset_signals(void)
{
    struct sigaction action;
    struct sigaction by_default = {0};
    sigset_t none;

    for (int signum = 1; signum < NSIG; signum++) {
        if (sigaction(signum, NULL, &action) == 0 &&
            !is_left_alone(signum, &action)) {
            (void)sigaction(signum, &by_default, NULL);
        }
    }
    (void)sigemptyset(&none);
    (void)pthread_sigmask(SIG_SETMASK, &none, NULL);
}

static int
child_execute(const char *file, const struct bki_child *child)
{
    const char *const *env =
        child->env != NULL ? child->env : (const char *const *)environ;

    FAULT_POINT(BKI_SYS_EXECVE);
    (void)execve(file, (char *const *)(uintptr_t)child->argv,
                 (char *const *)(uintptr_t)env);
    return -errno;
}

/* As execvp(3), but without a shell: the error is that of the first file that
 * is there. */
static int
child_execute_first(const struct bki_child *child)
{
    const char *file = child->files;
    int found = 0;
    int r = -ENOENT;

    while (*file != '\0') {
        r = child_execute(file, child);
        if (found == 0 && r != -ENOENT && r != -ENOTDIR) {
            found = r;
        }
        while (*file++ != '\0') {
        }
    }
    return found != 0 ? found : r;
}

static int
child_prepare(const struct bki_child *child)
{
    int r = child_begin_group(child);

    if (r == 0) {
        r = child_place_fds(child->fds);
    }
    if (r == 0 && child->cwd != NULL) {
        r = child_chdir(child->cwd);
    }
    if (r == 0 && !child->has_open_fds) {
        r = child_close_others();
    }
    return r;
}

static _Noreturn void
child_run(const struct bki_child *child, volatile int *ret_error)
{
    int r = child_prepare(child);

    if (r == 0) {
        child_reset_signals();
        r = child_execute_first(child);
    }
    *ret_error = r;
    _exit(127);
}

/* In the parent again. A child that did not become a program is gone. */
static int
start(const struct bki_child *child, int *ret_pid)
{
    volatile int error = 0;
    pid_t pid;

    FAULT_POINT(BKI_SYS_VFORK);
    pid = vfork();
    if (pid == 0) {
        child_run(child, &error);
    }
    if (pid < 0) {
        return -errno;
    }
    if (error < 0) {
        while (waitpid(pid, NULL, 0) < 0 && errno == EINTR) {
        }
        return error;
    }
    *ret_pid = (int)pid;
    return 0;
}

int
bki_sys_spawn(const struct bki_child *child, int *ret_pid)
{
    sigset_t old;
    int cancel_state;
    int r;

    bki_sys_block_signals(&old);
    (void)pthread_setcancelstate(PTHREAD_CANCEL_DISABLE, &cancel_state);
    r = start(child, ret_pid);
    (void)pthread_setcancelstate(cancel_state, NULL);
    bki_sys_restore_signals(&old);
    return r;
}
