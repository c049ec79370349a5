# SPDX-License-Identifier: MIT
"""The loops that are compared, and how each is made.

Imported by the measured processes as well: nothing but the loop asked for is
loaded.
"""

import asyncio
import importlib
import os
from collections.abc import Callable
from typing import Any, NamedTuple

from rows import GROUPS, TLS_ECHO

MakeLoop = Callable[[], asyncio.AbstractEventLoop]

REFERENCE = "C"  # not a loop: bench/reference/
OURS = "becket"
FALLBACK = "sslobject"  # becket with the TLS engine of that name


class LoopKind(NamedTuple):
    """One loop under test."""

    packages: tuple[str, ...]  # distributions it needs, also to be imported
    make: MakeLoop
    groups: tuple[str, ...] = GROUPS  # of rows that it is measured on


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


def _make_fallback() -> asyncio.AbstractEventLoop:
    """becket where it cannot drive OpenSSL directly."""
    os.environ["BECKET_TLS_ENGINE"] = FALLBACK
    loop = _load("becket").new_event_loop()
    if loop.tls_engine != FALLBACK:
        raise RuntimeError(f"becket uses {loop.tls_engine}, not {FALLBACK}")
    made: asyncio.AbstractEventLoop = loop
    return made


LOOPS: dict[str, LoopKind] = {
    "becket": LoopKind(("becket",), _from("becket")),
    "asyncio": LoopKind((), _make_asyncio),
    "uvloop": LoopKind(("uvloop",), _from("uvloop")),
    "rloop": LoopKind(("rloop",), _from("rloop")),
    "zuvloop": LoopKind(("zuvloop",), _from("zuvloop")),
    "aiofastnet": LoopKind(("aiofastnet",), _patched(_make_asyncio)),
    "aiofn+uv": LoopKind(("aiofastnet", "uvloop"), _patched(_from("uvloop"))),
    FALLBACK: LoopKind(("becket",), _make_fallback, (TLS_ECHO,)),
}
