/* sys_process.c -- system calls about signals and processes.
 *
 * SPDX-License-Identifier: MIT
 */
#include "base/sys.h"

#include <signal.h>

#include "base/sys_call.h"

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
