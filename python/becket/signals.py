# SPDX-License-Identifier: MIT
"""Signals as callbacks of a loop.

asyncio: "Unix signals" of the event loop.

The interpreter writes the number of each signal into its wake-up fd, which is
one end of a socketpair of the loop. There is one wake-up fd in a process, so
this module takes care whose it is: a number that was closed and used again
would send signal numbers to somebody's connection.
"""

import asyncio
import contextlib
import contextvars
import errno
import os
import signal
import socket
import sys
import threading
import warnings
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVarTuple

from becket import _core
from becket._support import is_coroutine_function
from becket.base import LoopBase
from becket.exceptions import logger

Ts = TypeVarTuple("Ts")

_NO_FD = -1


class SignalHandler(NamedTuple):
    """What add_signal_handler() was given, and the caller's context."""

    callback: Callable[..., object]
    args: tuple[Any, ...]
    context: contextvars.Context


class SignalsMixin(LoopBase):
    """Signal handlers, and the socketpair that wakes the loop for them."""

    # Made in the constructor.
    _signal_handlers: dict[int, SignalHandler]
    # The reading and the writing end; made when first needed.
    _ssock: socket.socket | None
    _csock: socket.socket | None
    # True while run_forever() itself wants the wake-up fd.
    _is_main_run: bool
    # The wake-up fd that ours replaced, and what it was open on.
    _replaced_fd: tuple[int, tuple[int, int]] | None

    def add_signal_handler(
        self, sig: int, callback: Callable[[*Ts], object], *args: *Ts
    ) -> None:
        """Call callback(*args) in the loop whenever the signal arrives.

        ValueError: no such signal. RuntimeError: it cannot be caught, or this
        is not the main thread. Thread: main.
        """
        if asyncio.iscoroutine(callback) or is_coroutine_function(callback):
            raise TypeError(
                "coroutines cannot be used with add_signal_handler()"
            )
        _check_signal(sig)
        self._check_closed()
        try:
            self._take_wakeup_fd()
        except (ValueError, OSError) as exc:
            raise RuntimeError(str(exc)) from exc
        try:
            if not self._signal_handlers:
                self._begin_listening()
        except BaseException:
            self._drop_wakeup_fd()
            raise
        self._signal_handlers[sig] = SignalHandler(
            callback, args, contextvars.copy_context()
        )
        try:
            # The interpreter has to catch the signal to write its number.
            signal.signal(sig, _on_signal)
            # SA_RESTART: no EINTR for code that does not expect it.
            signal.siginterrupt(sig, False)
        except OSError as exc:
            del self._signal_handlers[sig]
            self._end_listening()
            self._drop_wakeup_fd()
            raise _explain(sig, exc) from exc

    def remove_signal_handler(self, sig: int) -> bool:
        """Restore the signal's default handler. True if there was one of ours.

        SIGINT gets signal.default_int_handler again. Thread: main.
        """
        _check_signal(sig)
        if self._signal_handlers.pop(sig, None) is None:
            return False
        self._end_listening()
        is_sigint = sig == signal.SIGINT
        try:
            signal.signal(
                sig,
                signal.default_int_handler if is_sigint else signal.SIG_DFL,
            )
        except OSError as exc:
            raise _explain(sig, exc) from exc
        finally:
            self._drop_wakeup_fd()
        return True

    def _begin_wakeup(self) -> None:
        """At the start of a run: let signals end the wait in the main thread.

        Otherwise a signal that arrives just before the wait would be noticed
        only after it. A wake-up fd that somebody else has set is left alone.
        """
        if (
            threading.current_thread() is not threading.main_thread()
            or self._is_forked
        ):
            return
        try:
            fd = self._open_wakeup()
        except OSError as exc:
            # Out of fds, say. asyncio's loop never has this wake-up.
            logger.info("no wake-up fd for signals: %s", exc)
            return
        try:
            before = signal.set_wakeup_fd(
                fd, warn_on_full_buffer=bool(self._signal_handlers)
            )
        except ValueError:
            # The main thread of a subinterpreter: signals are not for us.
            return
        if before not in (_NO_FD, fd):
            signal.set_wakeup_fd(before)
            return
        _installed.csock = self._csock
        self._is_main_run = True

    def _end_wakeup(self) -> None:
        """At the end of a run: take back what _begin_wakeup() did."""
        if self._is_main_run:
            self._is_main_run = False
            self._drop_wakeup_fd()

    def _take_wakeup_fd(self) -> None:
        """Install our wake-up fd. ValueError outside the main thread."""
        if self._is_forked:
            # Both processes would write to the same socket.
            raise ValueError("this event loop belongs to the parent process")
        fd = self._open_wakeup()
        before = signal.set_wakeup_fd(fd)
        _installed.csock = self._csock
        if before not in (_NO_FD, fd):
            self._replaced_fd = (before, _identity(before))

    def _drop_wakeup_fd(self) -> None:
        """Uninstall our wake-up fd when nothing needs it any more."""
        if self._signal_handlers or self._is_main_run or self._csock is None:
            return
        try:
            self._uninstall_wakeup_fd(self._csock)
        except (ValueError, OSError) as exc:
            logger.info("set_wakeup_fd(-1) failed: %s", exc)

    def _uninstall_wakeup_fd(self, csock: socket.socket) -> None:
        """If csock is the wake-up fd, put back what it had replaced.

        ValueError outside the main thread.
        """
        if _installed.csock is not csock:
            return
        current = signal.set_wakeup_fd(_NO_FD)
        _installed.csock = None
        if current == csock.fileno():
            self._restore_replaced_fd()
        else:
            signal.set_wakeup_fd(current)

    def _restore_replaced_fd(self) -> None:
        replaced, self._replaced_fd = self._replaced_fd, None
        if replaced is None:
            return
        fd, identity = replaced
        # Its owner may have closed it, and the number be a connection now.
        if _identity(fd) == identity:
            signal.set_wakeup_fd(fd)

    def _open_wakeup(self) -> int:
        """Make the socketpair if need be; returns the writing end's fd."""
        if self._csock is not None:
            return self._csock.fileno()
        ssock, csock = socket.socketpair()
        try:
            ssock.setblocking(False)
            csock.setblocking(False)
            # The core's method: what a subclass overrides is for users' fds.
            _core.Loop.add_reader(self, ssock.fileno(), self._read_signals)
        except BaseException:
            _discard(ssock)
            _discard(csock)
            raise
        self._ssock, self._csock = ssock, csock
        self._end_listening()
        return csock.fileno()

    def _begin_listening(self) -> None:
        """Before the first handler: from now on each turn looks for signals.

        What came before was for nobody.
        """
        assert self._ssock is not None
        self._read_signals()
        self._set_waker(self._ssock.fileno(), False)

    def _end_listening(self) -> None:
        """Without handlers the socketpair is only there to end a wait."""
        if self._ssock is not None and not self._signal_handlers:
            self._set_waker(self._ssock.fileno(), True)

    def _read_signals(self) -> None:
        while self._ssock is not None:
            try:
                numbers = self._ssock.recv(4096)
            except InterruptedError:
                continue
            except BlockingIOError:
                return
            for number in numbers:
                self._handle_signal(number)
            if not numbers:
                return

    def _handle_signal(self, sig: int) -> None:
        handler = self._signal_handlers.get(sig)
        # None: a signal that only had to wake the loop.
        if handler is not None:
            _core.Loop.call_soon(
                self,
                handler.callback,
                *handler.args,
                context=handler.context,
            )

    def _close_wakeup(self) -> None:
        """Close the socketpair; the loop is about to be closed."""
        ssock, csock = self._ssock, self._csock
        if ssock is None or csock is None:
            return
        # The collector may have closed it before it came to the loop.
        if ssock.fileno() >= 0:
            _core.Loop.remove_reader(self, ssock.fileno())
        self._ssock = self._csock = None
        _discard(ssock)
        try:
            self._uninstall_wakeup_fd(csock)
        except ValueError:
            # Not the main thread, so the interpreter goes on writing to this
            # number: better one fd less than signal numbers in somebody's
            # connection.
            csock.detach()
        else:
            _discard(csock)

    def _close_signals(self) -> None:
        """Remove all handlers; the last part of closing the loop."""
        if not sys.is_finalizing():
            with contextlib.ExitStack() as stack:  # all, if one fails too
                for sig in reversed(self._signal_handlers):
                    stack.callback(self.remove_signal_handler, sig)
        elif self._signal_handlers:
            warnings.warn(
                f"Closing the loop {self!r} on interpreter shutdown stage,"
                " skipping signal handlers removal",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
            self._signal_handlers.clear()


class _Installed:
    """The socket whose fd is the process's wake-up fd, as far as we know.

    The only state outside a loop, since the wake-up fd itself belongs to the
    process.
    """

    csock: socket.socket | None = None


_installed = _Installed()


def reset_after_fork() -> None:
    """In a forked child: signals are not written to the parent's loop."""
    csock, _installed.csock = _installed.csock, None
    if csock is None:
        return
    current = signal.set_wakeup_fd(_NO_FD)
    if current != csock.fileno():
        signal.set_wakeup_fd(current)


def _on_signal(signum: int, frame: object) -> None:
    """Does nothing: the number in the wake-up fd is what counts."""


def _check_signal(sig: object) -> None:
    if not isinstance(sig, int):
        raise TypeError(f"sig must be an int, not {sig!r}")
    if sig not in signal.valid_signals():
        raise ValueError(f"invalid signal number {sig}")


def _explain(sig: int, exc: OSError) -> Exception:
    if exc.errno == errno.EINVAL:
        return RuntimeError(f"sig {sig} cannot be caught")
    return exc


def _discard(sock: socket.socket) -> None:
    """Close it, which Linux does also when close() says that it failed."""
    with contextlib.suppress(OSError):
        sock.close()


def _identity(fd: int) -> tuple[int, int]:
    """What the fd is open on; (-1, -1) when it is closed."""
    try:
        status = os.fstat(fd)
    except OSError:
        return (-1, -1)
    return (status.st_dev, status.st_ino)
