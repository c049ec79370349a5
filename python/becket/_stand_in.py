# SPDX-License-Identifier: MIT
"""asyncio's coroutine takes over a read that has been waiting in C.

It happens when somebody looks at the read's frames, or when an exception is to
be raised from it. asyncio's method is run on a stand-in for the reader, which
has it wait at once and from then on is as good as the reader itself.
"""

import asyncio
import sys
from collections.abc import Callable, Coroutine
from types import MethodType
from typing import Any

_Read = Coroutine[Any, Any, bytes]

# What a read calls on its way, as asyncio has it.
_METHODS = {
    name: getattr(asyncio.StreamReader, name)
    for name in ("readline", "readuntil", "_wait_for_data")
}


class _SearchedBuffer:
    """Has a length, and nothing in it that anybody looks for."""

    def __init__(self, size: int) -> None:
        self._size = size

    def __len__(self) -> int:
        return self._size

    def find(self, separator: bytes, start: int) -> int:
        return -1


class _StandIn:
    """A reader without data, until somebody waits for some.

    Then it is the reader that it stands for; only the gate never becomes the
    reader's _waiter.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        seen: int,
        gate: "asyncio.Future[None]",
    ) -> None:
        methods = {
            name: MethodType(method, self) for name, method in _METHODS.items()
        }
        self.__dict__.update(
            methods,
            _reader=reader,
            _gate=gate,
            _buffer=_SearchedBuffer(seen),
            _eof=False,
            _exception=None,
            _limit=sys.maxsize,
            _loop=self,
            _paused=False,
            _waiter=None,
        )

    def create_future(self) -> "asyncio.Future[None]":
        """Called in order to wait, as a method of _loop."""
        own = self.__dict__
        reader, gate = own["_reader"], own["_gate"]
        own.clear()
        own.update(_reader=reader, _gate=gate)
        return gate  # type: ignore[no-any-return]

    def __setattr__(self, name: str, value: Any) -> None:
        if value is not self.__dict__.get("_gate", self):
            setattr(self.__dict__["_reader"], name, value)

    def __getattr__(self, name: str) -> Any:
        if name == "_waiter" and "_gate" in self.__dict__:
            return self.__dict__.pop("_gate")  # it is awaited now
        return getattr(self.__dict__["_reader"], name)

    def __repr__(self) -> str:
        return repr(self.__dict__["_reader"])


class _ClosedTransport:
    """What a writer is left with whose place another has taken."""

    def is_closing(self) -> bool:
        return True


CLOSED_TRANSPORT = _ClosedTransport()


class _NoLoop:
    """What a protocol asks of its loop, and of the future it makes there."""

    def get_debug(self) -> bool:
        return False

    def create_future(self) -> "_NoLoop":
        return self

    def done(self) -> bool:
        return False


def make_protocol() -> asyncio.StreamReaderProtocol:
    """Return a server's protocol, to see what attributes it has."""
    loop: Any = _NoLoop()
    reader = asyncio.StreamReader(loop=loop)
    return asyncio.StreamReaderProtocol(reader, lambda *_: None, loop=loop)


def begin(
    method: Callable[..., _Read],
    reader: asyncio.StreamReader,
    seen: int,
    argument: object,
) -> tuple[_Read, "asyncio.Future[None]"]:
    """Return asyncio's coroutine, waiting, and the future that it waits for.

    method is a function of asyncio.StreamReader, argument its only one (None
    if it was not given), and seen the length of the buffer in which readuntil
    has found nothing.
    """
    gate: asyncio.Future[None] = asyncio.Future(loop=getattr(reader, "_loop"))  # noqa: B009
    arguments = () if argument is None else (argument,)
    coroutine = method(_StandIn(reader, seen, gate), *arguments)
    waits_for = coroutine.send(None)
    assert waits_for is gate
    return coroutine, gate
