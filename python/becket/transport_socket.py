# SPDX-License-Identifier: MIT
"""What transport.get_extra_info("socket") returns."""

import socket
import weakref
from asyncio.trsock import TransportSocket
from typing import Any


class FlushingSocket(TransportSocket):
    """A transport's socket, which sends what the transport still holds.

    A transport may hold back what the running callback has written until the
    callback returns. Whoever reaches past it, to the socket, has to find the
    data sent, as it would be on asyncio's own loop.
    """

    # No strong reference to the transport, which refers to this object.
    __slots__ = ("_real", "_transport")

    def __init__(self, transport: Any, sock: socket.socket) -> None:
        self._transport = weakref.ref(transport)
        self._real = sock

    @property
    def _sock(self) -> socket.socket:
        transport = self._transport()
        if transport is not None:
            # Reading this attribute flushes.
            transport._sock  # noqa: B018
        return self._real
