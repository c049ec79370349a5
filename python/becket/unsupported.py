# SPDX-License-Identifier: MIT
"""What asyncio's loops have and becket's have not yet."""

import asyncio
import functools
from typing import Any

from becket.base import LoopBase


def _unsupported(name: str) -> Any:
    """A coroutine method with asyncio's signature that says so."""

    @functools.wraps(getattr(asyncio.AbstractEventLoop, name))
    async def method(self: LoopBase, *args: Any, **kwargs: Any) -> Any:
        raise NotImplementedError(
            f"becket does not implement loop.{name}() yet"
        )

    return method


class UnsupportedMixin(LoopBase):
    """Each of these raises NotImplementedError when it is awaited."""

    subprocess_exec = _unsupported("subprocess_exec")
    subprocess_shell = _unsupported("subprocess_shell")
