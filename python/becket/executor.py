# SPDX-License-Identifier: MIT
"""Running functions in threads and processes.

asyncio: "Executing code in thread or process pools" of the event loop.
"""

import asyncio
import threading
import warnings
from collections.abc import Callable
from concurrent.futures import Executor, ThreadPoolExecutor
from typing import TypeVar, TypeVarTuple

from becket import _core
from becket._support import check_callback
from becket.base import LoopBase

T = TypeVar("T")
Ts = TypeVarTuple("Ts")


class ExecutorMixin(LoopBase):
    """run_in_executor() and the life of the default executor."""

    _default_executor: ThreadPoolExecutor | None

    def run_in_executor(
        self,
        executor: Executor | None,
        func: Callable[[*Ts], T],
        *args: *Ts,
    ) -> asyncio.Future[T]:
        """Call func(*args) in the executor, or in the default one.

        Returns a future. RuntimeError when the loop is closed, or its
        default executor is wanted and was shut down.
        """
        self._check_closed()
        if self.get_debug():
            check_callback(func, "run_in_executor")
        if executor is None:
            executor = self._get_default_executor()
        _core.Loop._flush(self)  # what transports wrote before goes first
        return asyncio.wrap_future(executor.submit(func, *args), loop=self)

    def set_default_executor(self, executor: Executor) -> None:
        """Set what run_in_executor(None, ...) uses.

        TypeError unless it is a ThreadPoolExecutor.
        """
        if not isinstance(executor, ThreadPoolExecutor):
            raise TypeError("executor must be ThreadPoolExecutor instance")
        self._default_executor = executor

    async def shutdown_default_executor(
        self, timeout: float | None = None
    ) -> None:
        """Wait until the default executor's threads have ended.

        From now on it cannot be used. After timeout seconds (None: never) a
        RuntimeWarning is given, and the threads are left to themselves.
        """
        self._executor_shut = True
        executor = self._default_executor
        if executor is None:
            return
        ended = self.create_future()
        thread = threading.Thread(
            target=self._join_executor, args=(executor, ended)
        )
        thread.start()
        try:
            async with asyncio.timeout(timeout):
                await ended
        except TimeoutError:
            warnings.warn(
                "The executor did not finishing joining its threads within"
                f" {timeout} seconds.",
                RuntimeWarning,
                stacklevel=2,
            )
            executor.shutdown(wait=False)
        else:
            thread.join()

    def _check_default_executor(self) -> None:
        if self._executor_shut:
            raise RuntimeError("Executor shutdown has been called")

    def _get_default_executor(self) -> ThreadPoolExecutor:
        self._check_default_executor()
        if self._default_executor is None:
            self._default_executor = ThreadPoolExecutor(
                thread_name_prefix="asyncio"
            )
        return self._default_executor

    def _join_executor(
        self, executor: ThreadPoolExecutor, ended: asyncio.Future[None]
    ) -> None:
        """In a thread of its own: wait for the executor, then tell."""
        failure: Exception | None = None
        try:
            executor.shutdown(wait=True)
        except Exception as exc:
            failure = exc
        try:
            self.call_soon_threadsafe(_settle, ended, failure)
        except RuntimeError:
            # The loop was closed meanwhile: nobody waits any more.
            if not self.is_closed():
                raise

    def _abandon_executor(self) -> None:
        """Shut the default executor down without waiting for it."""
        self._executor_shut = True
        executor = self._default_executor
        if executor is not None:
            self._default_executor = None
            executor.shutdown(wait=False)


def _settle(future: asyncio.Future[None], failure: Exception | None) -> None:
    if future.done():
        return
    if failure is None:
        future.set_result(None)
    else:
        future.set_exception(failure)
