/* process.h -- child processes.
 *
 * SPDX-License-Identifier: MIT
 *
 * A program is started, its end is told, and its standard streams are the
 * parent's, nothing, files, or pipes whose other ends are transports of the
 * loop. That a program cannot be started is told at once, by the call itself:
 * the child reports through the memory that it shares with its parent until it
 * has become the program (vfork(2)).
 *
 * The child has the fds 0, 1 and 2 and no other one, unless it is to inherit
 * all that are not close-on-exec; no signal blocked; and every signal that the
 * parent catches, and SIGPIPE and SIGXFSZ, as it is by default. What the parent
 * ignores is ignored (nohup(1)).
 *
 * Its end is noticed through a pidfd. Where the kernel has none (before Linux
 * 5.3) or a sandbox forbids it, a thread waits for each child instead. What a
 * sandbox forbids of pidfd_send_signal(2) and waitid(2), kill(2) and waitpid(2)
 * do. Either way the library waits for its own children alone, uses no SIGCHLD,
 * and leaves no zombie. A program that ignores SIGCHLD, or waits for any child,
 * takes the exit status away: the end is told all the same, with
 * BK_EXIT_UNKNOWN.
 *
 * Writing to the stdin of a child that has closed it raises SIGPIPE, as pipe.h
 * says: signal(SIGPIPE, SIG_IGN).
 *
 * asyncio: loop.subprocess_exec, SubprocessTransport, SubprocessProtocol.
 */
#ifndef BECKET_PROCESS_H
#define BECKET_PROCESS_H

#include "becket/error.h"
#include "becket/transport.h"
#include "becket/types.h"

BK_BEGIN_DECLS

/* What the user of a process supplies. Members may be NULL. All run in the
 * loop's thread, none from inside bk_loop_subprocess_exec() or another call
 * about the process, but for pause_writing. self is what was given with the
 * protocol. The process may be closed or freed from inside any of them. */
struct bk_subprocess_protocol {
    /* The child has written len > 0 bytes, borrowed for the call, to its
     * stdout (fd 1) or stderr (fd 2), which is a pipe. */
    void (*pipe_data_received)(bk_process *process, int fd, const void *data,
                               size_t len, void *self);

    /* The pipe to this fd has ended: 0, or the negative code. Of stdin (fd 0):
     * -EPIPE if the child did not take all. A pipe ends when the last process
     * that has it closes it, which may be a grandchild, long after the exit. */
    void (*pipe_connection_lost)(bk_process *process, int fd, int error,
                                 void *self);

    /* Flow control of stdin, as in bk_protocol. */
    void (*pause_writing)(bk_process *process, void *self);
    void (*resume_writing)(bk_process *process, void *self);

    /* The child has ended: once. returncode: its exit status, minus the number
     * of the signal that ended it, or BK_EXIT_UNKNOWN. */
    void (*process_exited)(bk_process *process, int returncode, void *self);

    /* The child and all its pipes have ended: once, the last call. */
    void (*connection_lost)(bk_process *process, void *self);
};

typedef enum {
    BK_STDIO_INHERIT, /* what the parent has under this number */
    BK_STDIO_NULL,    /* /dev/null */
    BK_STDIO_PIPE,    /* a pipe; the other end is a transport */
    BK_STDIO_FD,      /* this fd, borrowed for the call */
    BK_STDIO_STDOUT,  /* for stderr: the same as stdout */
} bk_stdio_kind;

typedef struct {
    bk_stdio_kind kind;
    int fd; /* of BK_STDIO_FD */
} bk_stdio;

typedef struct {
    /* The file to execute; NULL: argv[0]. Without a slash it is searched for in
     * the PATH of env. A relative path is one in cwd. */
    const char *program;

    const char *const *argv; /* at least argv[0]; ends with NULL */
    const char *const *env;  /* "NAME=value", ends with NULL; NULL: parent's */
    const char *cwd;         /* NULL: the parent's */
    bk_stdio stdio[3];       /* stdin, stdout, stderr */

    bool has_new_session; /* setsid(2) */
    bool has_new_group;   /* setpgid(2): a group of its own */

    /* The child also gets the parent's fds that are not close-on-exec. (Those
     * of the library all are.) */
    bool has_open_fds;
} bk_process_options;

/* Start a program. *ret_process is owned by the caller: bk_process_free().
 * Everything in options is borrowed for the call, in which the thread waits
 * until the program has begun. protocol is borrowed until connection_lost has
 * returned or the process is freed.
 *
 * -ENOENT: no such program, or cwd does not exist. -EACCES: it may not be
 * executed, or cwd not entered. -ENOEXEC: not a program (a script needs its
 * "#!" line). -ENOTDIR, -E2BIG, -EPERM and whatever else chdir(2) and execve(2)
 * know. -EBADF: an fd that is not open, or a closed loop. -EINVAL: no argv, or
 * an unknown or misplaced bk_stdio. -EAGAIN: too many processes. -EMFILE,
 * -ENFILE, -ENOMEM. -ECHILD: a forked child's copy of a loop. Nothing is left
 * of a failure. Thread: loop. */
BK_API int bk_loop_subprocess_exec(bk_loop *loop,
                                   const bk_subprocess_protocol *protocol,
                                   void *self,
                                   const bk_process_options *options,
                                   bk_process **ret_process);

/* The process id, also after the end. Thread: loop. */
BK_API int bk_process_get_pid(const bk_process *process);

/* As in process_exited. -EAGAIN: it has not ended, as far as the loop has
 * noticed. Thread: loop. */
BK_API int bk_process_get_returncode(const bk_process *process,
                                     int *ret_returncode);

/* The transport of a pipe: stdin (0) can be written to and closed, stdout (1)
 * and stderr (2) paused, resumed and closed. Its protocol must stay. Borrowed
 * until pipe_connection_lost has returned. NULL: not a pipe, or it has ended.
 * Thread: loop. */
BK_API bk_transport *bk_process_get_pipe_transport(bk_process *process, int fd);

/* Send a signal, SIGTERM, SIGKILL. Never to another process that has got the
 * same id. -ESRCH: it has ended. -EINVAL: not a signal. -EPERM: the child runs
 * as somebody else. Thread: loop. */
BK_API int bk_process_send_signal(bk_process *process, int signum);
BK_API int bk_process_terminate(bk_process *process);
BK_API int bk_process_kill(bk_process *process);

/* Kill the child if it has not ended, and close the pipes, dropping what is
 * queued for stdin. What is left to tell is told. Idempotent. Thread: loop. */
BK_API void bk_process_close(bk_process *process);

/* Close and free: nothing more is told. The child is waited for without
 * blocking. NULL is a no-op. bk_loop_close() closes what is left, telling
 * nothing; the process may be freed before or after that, and after
 * bk_loop_free(). In a forked child it leaves the process alone.
 * Thread: loop. */
BK_API void bk_process_free(bk_process *process);

BK_END_DECLS

#endif
