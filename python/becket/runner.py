# SPDX-License-Identifier: MIT
"""Running a whole program.

asyncio: asyncio.run().
"""

import asyncio
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from becket import versions
from becket.loops import new_event_loop

T = TypeVar("T")


def run(
    main: Coroutine[Any, Any, T],
    *,
    debug: bool | None = None,
    loop_factory: (
        Callable[[], asyncio.AbstractEventLoop] | None
    ) = new_event_loop,
) -> T:
    """asyncio.run() on one of becket's loops, which is closed at the end.

    RuntimeError inside a running loop.
    """
    if versions.RUN_TAKES_LOOP_FACTORY:
        run_on: Callable[..., T] = asyncio.run
        return run_on(main, debug=debug, loop_factory=loop_factory)
    if asyncio._get_running_loop() is not None:
        main.close()
        raise RuntimeError(
            "asyncio.run() cannot be called from a running event loop"
        )
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)
