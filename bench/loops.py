# SPDX-License-Identifier: MIT
"""The loops that are compared, and how each is made.

Imported by the measured processes as well: nothing but the loop asked for is
loaded.
"""

import asyncio
import importlib
from collections.abc import Callable
from typing import Any, NamedTuple

MakeLoop = Callable[[], asyncio.AbstractEventLoop]

REFERENCE = "C"  # not a loop: bench/reference/


class LoopKind(NamedTuple):
    """One loop under test."""

    packages: tuple[str, ...]  # distributions it needs, also to be imported
    make: MakeLoop


def _load(module: str) -> Any:
    """Import what may be missing, and has no types."""
    return importlib.import_module(module)


def _make_asyncio() -> asyncio.AbstractEventLoop:
    return asyncio.SelectorEventLoop()


def _from(module: str) -> MakeLoop:
    def make() -> asyncio.AbstractEventLoop:
        loop: asyncio.AbstractEventLoop = _load(module).new_event_loop()
        return loop

    return make


def _patched(base: MakeLoop) -> MakeLoop:
    """With aiofastnet's transports in place of the loop's own."""

    def make() -> asyncio.AbstractEventLoop:
        loop = base()
        _load("aiofastnet").patch_loop(loop)
        return loop

    return make


LOOPS: dict[str, LoopKind] = {
    "becket": LoopKind(("becket",), _from("becket")),
    "asyncio": LoopKind((), _make_asyncio),
    "uvloop": LoopKind(("uvloop",), _from("uvloop")),
    "rloop": LoopKind(("rloop",), _from("rloop")),
    "aiofastnet": LoopKind(("aiofastnet",), _patched(_make_asyncio)),
    "aiofn+uv": LoopKind(("aiofastnet", "uvloop"), _patched(_from("uvloop"))),
}
