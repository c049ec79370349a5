# SPDX-License-Identifier: MIT
"""Asynchronous generators that a loop iterates.

asyncio: loop.shutdown_asyncgens(); PEP 525.
"""

import asyncio
import sys
import warnings
import weakref
from collections.abc import AsyncGenerator, Iterator
from contextlib import contextmanager
from typing import Any, TypeAlias

from becket.base import LoopBase

AnyGenerator: TypeAlias = AsyncGenerator[Any, Any]


class AsyncgensMixin(LoopBase):
    """Knows the open generators, and finalizes what nobody closed."""

    # Made in the constructor.
    _asyncgens: weakref.WeakSet[AnyGenerator]
    _asyncgens_shutdown_called: bool

    async def shutdown_asyncgens(self) -> None:
        """Close every open generator, and warn of any that comes later.

        What a generator raises goes to the exception handler.
        """
        self._asyncgens_shutdown_called = True
        generators = list(self._asyncgens)
        if not generators:
            return
        self._asyncgens.clear()
        results = await asyncio.gather(
            *(generator.aclose() for generator in generators),
            return_exceptions=True,
        )
        for generator, result in zip(generators, results, strict=True):
            if isinstance(result, Exception):
                self._report_asyncgen(generator, result)

    def _report_asyncgen(
        self, generator: AnyGenerator, exception: Exception
    ) -> None:
        self.call_exception_handler(
            {
                "message": "an error occurred during closing of"
                f" asynchronous generator {generator!r}",
                "exception": exception,
                "asyncgen": generator,
            }
        )

    @contextmanager
    def _asyncgen_hooks(self) -> Iterator[None]:
        """The hooks of this loop while it runs, then those from before."""
        before = sys.get_asyncgen_hooks()
        sys.set_asyncgen_hooks(
            firstiter=self._asyncgen_firstiter_hook,
            finalizer=self._asyncgen_finalizer_hook,
        )
        try:
            yield
        finally:
            sys.set_asyncgen_hooks(*before)

    def _asyncgen_firstiter_hook(self, generator: AnyGenerator) -> None:
        if self._asyncgens_shutdown_called:
            warnings.warn(
                f"asynchronous generator {generator!r} was scheduled after"
                " loop.shutdown_asyncgens() call",
                ResourceWarning,
                source=self,
                stacklevel=2,
            )
        self._asyncgens.add(generator)

    def _asyncgen_finalizer_hook(self, generator: AnyGenerator) -> None:
        # Called by the garbage collector, which may run in any thread.
        self._asyncgens.discard(generator)
        if not self.is_closed():
            self.call_soon_threadsafe(self.create_task, generator.aclose())
