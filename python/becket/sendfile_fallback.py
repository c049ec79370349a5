# SPDX-License-Identifier: MIT
"""The protocol of a transport while a file is read and written to it."""

import asyncio
from typing import TYPE_CHECKING, Any

from becket import _core
from becket.base import LoopBase

if TYPE_CHECKING:
    _FlowControl: Any
else:
    from asyncio.transports import _FlowControlMixin as _FlowControl

_FLOW_CONTROLLED = (_core.StreamTransport, _core.SSLTransport, _FlowControl)


class FallbackProtocol(asyncio.Protocol):
    """asyncio's _SendfileFallbackProtocol: waits for room to write.

    In place until restore(). The end of the connection is told to the
    protocol that it stands in for.
    """

    def __init__(self, loop: LoopBase, transport: object) -> None:
        if not isinstance(transport, _FLOW_CONTROLLED):
            raise TypeError("transport should be _FlowControlMixin instance")
        self._start(loop, transport)

    def _start(self, loop: LoopBase, transport: Any) -> None:
        self._loop = loop
        self._transport = transport
        self._protocol = transport.get_protocol()
        self._resumes_reading = transport.is_reading()
        self._resumes_writing = transport._protocol_paused
        self._room: asyncio.Future[None] | None = None
        transport.pause_reading()
        transport.set_protocol(self)
        if self._resumes_writing:
            self._room = loop.create_future()

    async def drain(self) -> None:
        if self._transport.is_closing():
            raise ConnectionError("Connection closed by peer")
        if self._room is not None:
            await self._room

    def restore(self) -> None:
        """Give the transport its own protocol back."""
        self._transport.set_protocol(self._protocol)
        if self._resumes_reading:
            self._transport.resume_reading()
        if self._room is not None:
            # Nobody waits for it any more.
            self._room.cancel()
        if self._resumes_writing:
            self._protocol.resume_writing()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        raise RuntimeError(
            "Invalid state: connection should have been established already."
        )

    def connection_lost(self, exc: Exception | None) -> None:
        room = self._room
        if room is not None and not room.done():
            # An exception for whoever sends, however it has ended.
            room.set_exception(
                exc or ConnectionError("Connection is closed by peer")
            )
        self._protocol.connection_lost(exc)

    def pause_writing(self) -> None:
        if self._room is None:
            self._room = self._loop.create_future()

    def resume_writing(self) -> None:
        room, self._room = self._room, None
        if room is not None and not room.done():
            room.set_result(None)

    def data_received(self, data: bytes) -> None:
        raise RuntimeError("Invalid state: reading should be paused")

    def eof_received(self) -> bool | None:
        raise RuntimeError("Invalid state: reading should be paused")
