/* process.c -- child processes.
 *
 * SPDX-License-Identifier: MIT
 *
 * Design notes.
 * A process is told of by up to five parties: the watch of its pidfd or a
 * waiter, and the transports of its pipes. connection_lost follows the last of
 * them, by a place in the ready queue of its own.
 *
 * Who waits. Exactly one party reaps the child: the loop's thread when the end
 * is noticed (note_end), else whoever leave_child() leaves it to. From then on
 * is_ended says that the id is no longer ours, and nothing is sent to it. Where
 * a waiter can only reap, it is that which says so, until the end is noticed.
 *
 * Who frees. The owner may free it from inside any callback, also one of a
 * transport, which is looked at for a while after that. So the memory stays
 * until the loop's next callback: the handle that frees it is the first member,
 * and marked as the library's own, so that a closing loop frees it as well.
 */
#include "becket/process.h"

#include <errno.h>
#include <signal.h>
#include <sys/wait.h>

#include "becket/pipe.h"

#include "base/sys.h"
#include "loop/internal.h"
#include "process/internal.h"

struct pipe_end {
    bk_transport transport;
    bk_process *process;
    int fd;       /* the child's number for it */
    bool is_open; /* until it is closed */
};

struct bk_process {
    bk_handle freeing; /* first */
    bk_handle losing;  /* connection_lost */
    bk_loop *loop;     /* borrowed; NULL once it is closed */
    bk_process *next;  /* in the loop's list */
    bk_process **link; /* what points to this one */
    const bk_subprocess_protocol *protocol; /* borrowed */
    void *self;
    bk_watch watch;            /* of the pidfd */
    int pidfd;                 /* owned; -1: there is none, or it has ended */
    struct bki_waiter *waiter; /* owned; instead of the pidfd, or NULL */
    int pid;
    int returncode;
    bool is_ended; /* the child was waited for, or left to somebody else */
    bool is_freed;
    struct pipe_end pipes[3];
};

/* -- the end --------------------------------------------------------------- */

static bool
has_open_pipe(const bk_process *process)
{
    return process->pipes[0].is_open || process->pipes[1].is_open ||
           process->pipes[2].is_open;
}

static void
tell_lost(bk_handle *handle)
{
    bk_process *process =
        (bk_process *)(void *)((char *)handle - offsetof(bk_process, losing));

    if (process->protocol->connection_lost != NULL) {
        process->protocol->connection_lost(process, process->self);
    }
}

static void
finish_if_all_ended(bk_process *process)
{
    if (process->is_ended && !process->is_freed && !has_open_pipe(process)) {
        bki_ready_push(process->loop, &process->losing);
    }
}

/* Nobody looks for the end any more. True: a thread has reaped the child, or
 * will. */
static bool
stop_looking(bk_process *process)
{
    struct bki_waiter *waiter = process->waiter;

    if (process->pidfd >= 0) {
        (void)bk_watch_set(&process->watch, 0);
        (void)bki_sys_close(process->pidfd);
        process->pidfd = -1;
    }
    process->waiter = NULL;
    return waiter != NULL && bki_waiter_free(waiter);
}

static int
get_reaped_by_thread(const bk_process *process, int *ret_returncode)
{
    return process->waiter != NULL
               ? bki_waiter_get_reaped(process->waiter, ret_returncode)
               : 0;
}

static int
reap(const bk_process *process, int *ret_returncode)
{
    int r = get_reaped_by_thread(process, ret_returncode);

    return r != 0 ? r
                  : bki_reap(process->pid, process->pidfd, WNOHANG,
                             ret_returncode);
}

static void
note_end(bk_process *process)
{
    int returncode = BK_EXIT_UNKNOWN;
    int r = reap(process, &returncode);

    if (r == 0 || r == -EINTR) {
        return; /* the fd stays ready; a waiter has seen the end */
    }
    (void)stop_looking(process);
    process->is_ended = true;
    process->returncode = r > 0 ? returncode : BK_EXIT_UNKNOWN;
    if (r < 0 && r != -ECHILD) {
        bki_reap_later(process->pid, false);
    }
    if (process->protocol->process_exited != NULL) {
        process->protocol->process_exited(process, process->returncode,
                                          process->self);
    }
    finish_if_all_ended(process);
}

static void
on_pidfd(bk_watch *watch, unsigned events)
{
    bk_process *process =
        (bk_process *)(void *)((char *)watch - offsetof(bk_process, watch));

    (void)events;
    note_end(process);
}

static void
on_waiter(bk_handle *handle)
{
    bk_process *process = bki_waiter_arg(handle);

    note_end(process);
    if (!process->is_ended) { /* interrupted */
        bki_ready_push(process->loop, handle);
    }
}

/* Have the end noticed. Whatever the pidfd's failure is, a thread will do. */
static int
look_for_end(bk_process *process)
{
    int fd = bki_sys_pidfd_open(process->pid);
    int r = fd < 0
                ? fd
                : bk_watch_init(&process->watch, process->loop, fd, on_pidfd);

    if (r == 0) {
        r = bk_watch_set(&process->watch, BK_READABLE);
    }
    if (r == 0) {
        process->pidfd = fd;
        return 0;
    }
    if (fd >= 0) {
        (void)bki_sys_close(fd);
    }
    return bki_waiter_new(process->loop, process->pid, on_waiter, process,
                          &process->waiter);
}

static int
send_signal(bk_process *process, int signum)
{
    int returncode;
    int r = -ENOSYS;

    if (process->is_ended || get_reaped_by_thread(process, &returncode) > 0) {
        return -ESRCH;
    }
    if (process->pidfd >= 0) {
        r = bki_sys_pidfd_send_signal(process->pidfd, signum);
    }
    /* What sandboxes and old kernels say. The id is the child's own until it
     * has been waited for. */
    if (r == -ENOSYS || r == -EPERM) {
        r = bki_sys_kill(process->pid, signum);
    }
    return r;
}

/* The loop will not hear of it again. A forked child is not its parent. */
static void
leave_child(bk_process *process)
{
    int r = 0;
    bool is_forked;

    if (process->is_ended) {
        return;
    }
    is_forked = bki_loop_is_forked(process->loop);
    if (!is_forked) {
        r = send_signal(process, SIGKILL);
    }
    /* -ESRCH: somebody has reaped it, and the id may be another child's. */
    if (!stop_looking(process) && !is_forked && r != -ESRCH) {
        bki_reap_later(process->pid, r == 0);
    }
    process->is_ended = true;
    process->returncode = BK_EXIT_UNKNOWN;
}

/* -- the pipes ------------------------------------------------------------- */

static void
on_data(bk_transport *transport, const void *data, size_t len, void *self)
{
    struct pipe_end *end = self;
    const bk_subprocess_protocol *protocol = end->process->protocol;

    (void)transport;
    if (protocol->pipe_data_received != NULL) {
        protocol->pipe_data_received(end->process, end->fd, data, len,
                                     end->process->self);
    }
}

static void
on_pause(bk_transport *transport, void *self)
{
    bk_process *process = ((struct pipe_end *)self)->process;

    (void)transport;
    if (process->protocol->pause_writing != NULL) {
        process->protocol->pause_writing(process, process->self);
    }
}

static void
on_resume(bk_transport *transport, void *self)
{
    bk_process *process = ((struct pipe_end *)self)->process;

    (void)transport;
    if (process->protocol->resume_writing != NULL) {
        process->protocol->resume_writing(process, process->self);
    }
}

static void
on_pipe_lost(bk_transport *transport, int error, void *self)
{
    struct pipe_end *end = self;
    const bk_subprocess_protocol *protocol = end->process->protocol;

    (void)transport;
    if (protocol->pipe_connection_lost != NULL) {
        protocol->pipe_connection_lost(end->process, end->fd, error,
                                       end->process->self);
    }
}

static void
on_pipe_closed(bk_transport *transport, void *self)
{
    struct pipe_end *end = self;

    (void)transport;
    end->is_open = false;
    finish_if_all_ended(end->process);
}

static const bk_protocol output_protocol = {
    .data_received = on_data,
    .connection_lost = on_pipe_lost,
    .on_closed = on_pipe_closed,
};

static const bk_protocol input_protocol = {
    .pause_writing = on_pause,
    .resume_writing = on_resume,
    .connection_lost = on_pipe_lost,
    .on_closed = on_pipe_closed,
};

static void
release_pipes(bk_process *process)
{
    for (int i = 0; i < 3; i++) {
        if (process->pipes[i].is_open) {
            process->pipes[i].is_open = false;
            bk_transport_release(&process->pipes[i].transport);
        }
    }
}

/* Takes the fd, on failure too. */
static int
start_pipe(bk_process *process, int i, int fd)
{
    struct pipe_end *end = &process->pipes[i];
    int r = bk_transport_init(&end->transport, process->loop,
                              i == 0 ? &input_protocol : &output_protocol, end);

    if (r < 0) {
        (void)bki_sys_close(fd);
        return r;
    }
    end->process = process;
    end->fd = i;
    end->is_open = true;
    r = bk_transport_open_pipe_fd(&end->transport,
                                  i == 0 ? BK_PIPE_WRITE : BK_PIPE_READ, fd);
    return r < 0 ? r : bk_transport_start(&end->transport);
}

static int
start_pipes(bk_process *process, struct bki_stdio *stdio)
{
    int r = 0;

    for (int i = 0; r == 0 && i < 3; i++) {
        int fd = stdio->parent[i];

        stdio->parent[i] = -1;
        if (fd >= 0) {
            r = start_pipe(process, i, fd);
        }
    }
    return r;
}

/* -- life ------------------------------------------------------------------ */

static void
unlink_process(bk_process *process)
{
    if (process->link == NULL) {
        return;
    }
    *process->link = process->next;
    if (process->next != NULL) {
        process->next->link = process->link;
    }
    process->link = NULL;
}

/* End everything, telling nothing. */
static void
end_process(bk_process *process)
{
    unlink_process(process);
    release_pipes(process);
    leave_child(process);
    (void)bki_ready_remove(process->loop, &process->losing);
}

static void
free_processes(bk_loop *loop)
{
    while (loop->processes != NULL) {
        bk_process *process = loop->processes;

        end_process(process);
        process->loop = NULL;
    }
}

static void
link_process(bk_process *process)
{
    bk_loop *loop = process->loop;

    process->next = loop->processes;
    process->link = &loop->processes;
    if (process->next != NULL) {
        process->next->link = &process->next;
    }
    loop->processes = process;
    loop->free_processes = free_processes;
}

static void
run_freeing(bk_handle *handle)
{
    bki_sys_free(handle);
}

static int
start_child(bk_process *process, const bk_process_options *options,
            struct bki_stdio *stdio)
{
    int r = start_pipes(process, stdio);

    if (r == 0) {
        r = bki_spawn(options, stdio, &process->pid);
    }
    if (r < 0) {
        return r;
    }
    process->is_ended = false;
    return look_for_end(process);
}

static int
start_process(bk_process *process, const bk_process_options *options)
{
    struct bki_stdio stdio;
    int r = bki_stdio_open(&stdio, options);

    if (r < 0) {
        return r;
    }
    r = start_child(process, options, &stdio);
    bki_stdio_close(&stdio);
    return r;
}

static int
check(const bk_loop *loop, const bk_subprocess_protocol *protocol,
      const bk_process_options *options, bk_process **ret_process)
{
    if (loop == NULL || protocol == NULL || options == NULL ||
        ret_process == NULL || options->argv == NULL ||
        options->argv[0] == NULL) {
        return -EINVAL;
    }
    if (loop->is_closed) {
        return -EBADF;
    }
    return bki_loop_is_forked(loop) ? -ECHILD : 0;
}

int
bk_loop_subprocess_exec(bk_loop *loop, const bk_subprocess_protocol *protocol,
                        void *self, const bk_process_options *options,
                        bk_process **ret_process)
{
    bk_process *process;
    int r = check(loop, protocol, options, ret_process);

    if (r < 0) {
        return r;
    }
    process = bki_sys_calloc(1, sizeof(*process));
    if (process == NULL) {
        return -ENOMEM;
    }
    bk_handle_init(&process->freeing, run_freeing);
    process->freeing._flags = BKI_HANDLE_IS_OWNED | BKI_HANDLE_IS_MALLOCED;
    bk_handle_init(&process->losing, tell_lost);
    process->losing._flags = BKI_HANDLE_IS_IO;
    process->loop = loop;
    process->protocol = protocol;
    process->self = self;
    process->pidfd = -1;
    process->is_ended = true; /* not yet begun */
    r = start_process(process, options);
    if (r < 0) {
        end_process(process);
        bki_sys_free(process);
        return r;
    }
    link_process(process);
    *ret_process = process;
    return 0;
}

int
bk_process_get_pid(const bk_process *process)
{
    return process != NULL ? process->pid : -EINVAL;
}

int
bk_process_get_returncode(const bk_process *process, int *ret_returncode)
{
    if (process == NULL || ret_returncode == NULL) {
        return -EINVAL;
    }
    if (!process->is_ended) {
        return -EAGAIN;
    }
    *ret_returncode = process->returncode;
    return 0;
}

bk_transport *
bk_process_get_pipe_transport(bk_process *process, int fd)
{
    if (process == NULL || fd < 0 || fd > 2 || !process->pipes[fd].is_open) {
        return NULL;
    }
    return &process->pipes[fd].transport;
}

int
bk_process_send_signal(bk_process *process, int signum)
{
    return process != NULL ? send_signal(process, signum) : -EINVAL;
}

int
bk_process_terminate(bk_process *process)
{
    return bk_process_send_signal(process, SIGTERM);
}

int
bk_process_kill(bk_process *process)
{
    return bk_process_send_signal(process, SIGKILL);
}

void
bk_process_close(bk_process *process)
{
    if (process == NULL || process->loop == NULL ||
        bki_loop_is_forked(process->loop)) {
        return;
    }
    for (int i = 0; i < 3; i++) {
        if (process->pipes[i].is_open) {
            bk_transport_abort(&process->pipes[i].transport, 0);
        }
    }
    (void)send_signal(process, SIGKILL);
}

void
bk_process_free(bk_process *process)
{
    if (process == NULL || process->is_freed) {
        return;
    }
    process->is_freed = true;
    if (process->loop == NULL) {
        bki_sys_free(process);
        return;
    }
    end_process(process);
    bki_ready_push(process->loop, &process->freeing);
}
