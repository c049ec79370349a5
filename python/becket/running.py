# SPDX-License-Identifier: MIT
"""Running a loop, and ending it.

asyncio: "Running and stopping the loop".
"""

import asyncio
from collections.abc import Awaitable, Generator
from typing import Any, TypeVar

from becket.asyncgens import AsyncgensMixin
from becket.debug import DebugMixin
from becket.exceptions import logger
from becket.executor import ExecutorMixin
from becket.signals import SignalsMixin

T = TypeVar("T")


class RunningMixin(AsyncgensMixin, DebugMixin, ExecutorMixin, SignalsMixin):
    """run_forever(), run_until_complete(), close()."""

    def run_forever(self) -> None:
        """Run until stop() is called.

        RuntimeError: the loop is closed or runs already, or another loop runs
        in this thread. KeyboardInterrupt and SystemExit that a callback
        raises leave at once; what was due to run stays queued.
        """
        self._check_closed()
        self._check_running()
        self._track_origins(self.get_debug())
        try:
            self._begin_wakeup()
            with self._asyncgen_hooks():
                self._run_as_current()
        finally:
            self._end_wakeup()
            self._track_origins(False)

    def run_until_complete(
        self, future: Awaitable[T] | Generator[Any, None, T]
    ) -> T:
        """Run until the future (or coroutine, or awaitable) is done.

        Returns its result or raises its exception. RuntimeError as
        run_forever(), and when stop() came first.
        """
        self._check_closed()
        self._check_running()
        is_ours = not asyncio.isfuture(future)
        awaitable: Any = future
        task: Any = asyncio.ensure_future(awaitable, loop=self)
        if is_ours:
            # Nobody else can wait for it: the RuntimeError below says enough.
            task._log_destroy_pending = False
        task.add_done_callback(_stop_loop)
        try:
            self.run_forever()
        except BaseException:
            if is_ours and task.done() and not task.cancelled():
                # It is raised through the loop; do not log it as well.
                task.exception()
            raise
        finally:
            task.remove_done_callback(_stop_loop)
        if not task.done():
            raise RuntimeError("Event loop stopped before Future completed.")
        result: T = task.result()
        return result

    def close(self) -> None:
        """Drop what is queued, and everything that the loop holds.

        Idempotent, and for good. The default executor is shut down without
        waiting for it. RuntimeError while the loop runs.
        """
        if self.is_running():
            raise RuntimeError("Cannot close a running event loop")
        if self.is_closed():
            return
        if self.get_debug():
            logger.debug("Close %r", self)
        self._close_wakeup()
        # asyncio's order, which an executor or a selector of the user's sees.
        try:
            self._abandon_executor()
        finally:
            try:
                self._close_core()
            finally:
                self._close_signals()

    def _check_running(self) -> None:
        """RuntimeError while this loop runs, or another one in this thread."""
        if self.is_running():
            raise RuntimeError("This event loop is already running")
        if asyncio._get_running_loop() is not None:
            raise RuntimeError(
                "Cannot run the event loop while another loop is running"
            )

    def _run_as_current(self) -> None:
        asyncio._set_running_loop(self)
        try:
            self._run()
        finally:
            asyncio._set_running_loop(None)


def _stop_loop(future: asyncio.Future[Any]) -> None:
    """Done callback of run_until_complete()."""
    if not future.cancelled() and isinstance(
        future.exception(), (SystemExit, KeyboardInterrupt)
    ):
        # It has left the loop already, and a stop would be remembered.
        return
    future.get_loop().stop()
