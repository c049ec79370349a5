# SPDX-License-Identifier: MIT
"""Watches child processes: learns when one ends, and reaps it.

Through a pidfd, which names this very process even when somebody else has
reaped it and its number is in use again. Where there are none (an old kernel,
a sandbox, no descriptors left), a thread waits for the child; it leaves the
child to be reaped by the loop, so that a number which the loop still sends
signals to is never in use again either. Only where waitid() is refused the
thread reaps.

No handler of SIGCHLD, and no child watcher of asyncio's, takes part.
"""

import contextlib
import errno
import os
import signal
import subprocess
import threading
from collections.abc import Callable
from typing import Any, TypeAlias

from becket.exceptions import logger

OnExit: TypeAlias = Callable[[int], object]

# As the shell and asyncio report it.
_UNKNOWN = 255

# What sandboxes and old kernels say to a call that they do not have.
_REFUSALS = (errno.EPERM, errno.ENOSYS)


class Child:
    """A process that this one has started, until it has been reaped."""

    def __init__(
        self, loop: Any, process: "subprocess.Popen[Any]", on_exit: OnExit
    ) -> None:
        self._loop = loop
        self._process = process
        self._on_exit: OnExit | None = on_exit

    def is_running(self) -> bool:
        """Whether it has not ended yet; one that has is left to be reaped."""
        if self._on_exit is None or self._process.returncode is not None:
            return False
        try:
            return self._wait(os.WNOHANG | os.WNOWAIT) is None
        except ChildProcessError:
            return False
        except OSError:  # refused: nobody has told of its end, at least
            return True

    def send_signal(self, number: int) -> None:
        """Nothing happens to a process that has ended."""
        if self._on_exit is not None and self._process.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self._send_signal(number)

    def _send_signal(self, number: int) -> None:
        os.kill(self._process.pid, number)

    def _wait(self, options: int) -> os.waitid_result | None:
        return os.waitid(os.P_PID, self._process.pid, os.WEXITED | options)

    def _reap(self) -> None:
        """The process has ended: tell it."""
        on_exit, self._on_exit = self._on_exit, None
        # The Popen object could not find it out any more.
        self._process.returncode = returncode = self._take_returncode()
        if on_exit is not None:
            on_exit(returncode)

    def _take_returncode(self) -> int:
        code: int | None = self._process.returncode
        # If it is known, its number may be that of another child by now.
        if code is None:
            code = self._wait_at_its_end()
        if code is None:
            # Reaped by the Popen object meanwhile, in another thread.
            code = self._process.returncode
        if code is not None:
            return code
        logger.warning(
            "child process pid %d exit status already read: "
            " will report returncode %d",
            self._process.pid,
            _UNKNOWN,
        )
        return _UNKNOWN

    def _wait_at_its_end(self) -> int | None:
        try:
            return _code_of(self._wait(os.WNOHANG))
        except ChildProcessError:
            return None  # reaped already
        except OSError:
            return self._wait_by_pid(os.WNOHANG)

    def _wait_by_pid(self, options: int) -> int | None:
        """Where waitid() is refused; it reaps. None: there is nothing."""
        try:
            pid, status = os.waitpid(self._process.pid, options)
        except OSError:
            return None
        return os.waitstatus_to_exitcode(status) if pid else None


def _code_of(result: os.waitid_result | None) -> int | None:
    if result is None:
        return None
    code: int = result.si_status
    return code if result.si_code == os.CLD_EXITED else -code


class _WatchedChild(Child):
    """The loop watches its pidfd, which is readable when it has ended."""

    def __init__(
        self, loop: Any, process: "subprocess.Popen[Any]", on_exit: OnExit
    ) -> None:
        self._pidfd = -1
        super().__init__(loop, process, on_exit)
        self._pidfd = os.pidfd_open(process.pid)
        try:
            loop.add_reader(self._pidfd, self._on_readable)
        except BaseException:
            self._close()
            raise

    def _on_readable(self) -> None:
        self._loop.remove_reader(self._pidfd)
        try:
            self._reap()
        finally:
            self._close()

    def _send_signal(self, number: int) -> None:
        # What transports wrote before goes first. Of os.kill(), and of a
        # process that begins, an audit event tells (audit.c); of this none.
        self._loop._flush()
        try:
            signal.pidfd_send_signal(self._pidfd, number)
        except OSError as exc:
            if exc.errno not in _REFUSALS:
                raise
            super()._send_signal(number)

    def _wait(self, options: int) -> os.waitid_result | None:
        try:
            return os.waitid(os.P_PIDFD, self._pidfd, os.WEXITED | options)
        except OSError as exc:
            if exc.errno != errno.EINVAL:
                raise
            # FIXME(kernel 5.4): remove when this is the floor.
            return super()._wait(options)

    def _close(self) -> None:
        pidfd, self._pidfd = self._pidfd, -1
        if pidfd >= 0:
            os.close(pidfd)

    def __del__(self) -> None:
        # Of a loop that was closed while the process ran.
        self._close()


class _AwaitedChild(Child):
    """A thread waits for its end."""

    def __init__(
        self, loop: Any, process: "subprocess.Popen[Any]", on_exit: OnExit
    ) -> None:
        super().__init__(loop, process, on_exit)
        threading.Thread(
            target=self._wait_in_thread,
            name=f"asyncio-waitpid-{process.pid}",
            daemon=True,
        ).start()

    def _wait_in_thread(self) -> None:
        try:
            self._wait(os.WNOWAIT)
        except ChildProcessError:
            pass  # as in _take_returncode()
        except OSError:
            # There is no other way to wait than to reap it.
            if (code := self._wait_by_pid(0)) is not None:
                self._process.returncode = code
        try:
            self._loop.call_soon_threadsafe(self._reap)
        except RuntimeError:
            logger.warning(
                "Loop %r that handles pid %r is closed",
                self._loop,
                self._process.pid,
            )
            self._process.returncode = self._take_returncode()


def watch(
    loop: Any, process: "subprocess.Popen[Any]", on_exit: OnExit
) -> Child:
    """Have on_exit(returncode) called, once, in the loop's thread.

    A process that a signal has ended has its number, negative; one whose exit
    status somebody else has taken has 255. RuntimeError where there is no
    pidfd and no thread to be had.
    """
    if hasattr(os, "pidfd_open"):
        with contextlib.suppress(OSError):
            return _WatchedChild(loop, process, on_exit)
    return _AwaitedChild(loop, process, on_exit)
