# SPDX-License-Identifier: MIT
"""Attempts that start one after another until one succeeds.

RFC 8305 ("Happy Eyeballs"), section 5.
"""

import asyncio
from collections.abc import Callable, Coroutine, Iterable
from typing import Any, Generic, TypeVar

T = TypeVar("T")


class Race(Generic[T]):
    """Runs attempts, each started delay seconds after the one before.

    An attempt that fails starts the next one at once. The first that succeeds
    wins, and the others are cancelled; what a second winner of the same
    moment returned is given to discard. Thread: the loop's.
    """

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        delay: float,
        discard: Callable[[T], object],
    ) -> None:
        self._loop = loop
        self._delay = delay
        self._discard = discard
        self._tasks: list[asyncio.Task[T]] = []
        self._winner: asyncio.Task[T] | None = None

    async def run(
        self, attempts: Iterable[Callable[[], Coroutine[Any, Any, T]]]
    ) -> T | None:
        """Return the winner's result; None when every attempt has failed.

        What attempts raise other than OSError is raised if nothing wins.
        """
        try:
            await self._run_until_won(attempts)
            await self._end_losers()
        except BaseException:
            # Cancelled: what has been won is nobody's either.
            self._winner = None
            await self._end_losers()
            raise
        self._raise_unexpected()
        return None if self._winner is None else self._winner.result()

    async def _run_until_won(
        self, attempts: Iterable[Callable[[], Coroutine[Any, Any, T]]]
    ) -> None:
        for attempt in attempts:
            task = self._loop.create_task(attempt())
            self._tasks.append(task)
            await self._wait_for_turn(task)
            if self._find_winner():
                return
        while not self._find_winner() and self._pending():
            await self._wait(None)

    async def _wait_for_turn(self, latest: asyncio.Task[T]) -> None:
        """Wait until the next attempt is due, or one has won."""
        due = self._loop.time() + self._delay
        while not latest.done() and not self._find_winner():
            remaining = due - self._loop.time()
            if remaining <= 0:
                return
            await self._wait(remaining)

    async def _wait(self, timeout: float | None) -> None:
        await asyncio.wait(
            self._pending(),
            timeout=timeout,
            return_when=asyncio.FIRST_COMPLETED,
        )

    def _pending(self) -> list[asyncio.Task[T]]:
        return [task for task in self._tasks if not task.done()]

    def _find_winner(self) -> bool:
        if self._winner is None:
            self._winner = next(filter(_has_result, self._tasks), None)
        return self._winner is not None

    async def _end_losers(self) -> None:
        """Cancel what still runs, and wait until nothing is left over."""
        pending = self._pending()
        for task in self._tasks:
            if task.done():
                self._drop_loser(task)
            else:
                # Also if the wait below is itself cancelled.
                task.add_done_callback(self._drop_loser)
                task.cancel()
        if pending:
            await asyncio.wait(pending)

    def _drop_loser(self, task: asyncio.Task[T]) -> None:
        if task is not self._winner and _has_result(task):
            self._discard(task.result())

    def _raise_unexpected(self) -> None:
        if self._winner is not None:
            return
        for task in self._tasks:
            failure = None if task.cancelled() else task.exception()
            if failure is not None and not isinstance(failure, OSError):
                raise failure


def _has_result(task: asyncio.Task[T]) -> bool:
    return task.done() and not task.cancelled() and task.exception() is None
