# SPDX-License-Identifier: MIT
"""A server that listens on one or more sockets.

asyncio: "Server Objects". Accepting itself is in C.
"""

import asyncio
import socket
from asyncio.trsock import TransportSocket
from collections.abc import Callable
from typing import Any

from becket import _core, versions


class Server(_core.Server, asyncio.AbstractServer):
    """What loop.create_server() returns; not made by users."""

    def __init__(
        self,
        loop: asyncio.AbstractEventLoop,
        sockets: list[socket.socket],
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        backlog: int,
        on_close: Callable[[], None] | None = None,
        ssl: tuple[Any, float | None, float | None] | None = None,
    ) -> None:
        for sock in sockets:
            sock.setblocking(False)
        accepts_max = backlog + versions.ACCEPTS_BEYOND_BACKLOG
        super().__init__(
            loop, sockets, protocol_factory, accepts_max, ssl or None
        )
        # None once the server is closed.
        self._sockets: list[socket.socket] | None = sockets
        self._backlog = backlog
        # Read by websockets' helpers, which ask so whether it is TLS.
        self._ssl_context = ssl[0] if ssl else None
        # What is left to do once the sockets are closed.
        self._on_close = on_close
        # None once everybody who waited was woken.
        self._waiters: list[asyncio.Future[None]] | None = []
        self._is_serving = False
        self._serving_forever_fut: asyncio.Future[None] | None = None

    def __repr__(self) -> str:
        return f"<{type(self).__name__} sockets={self.sockets!r}>"

    @property
    def sockets(self) -> tuple[TransportSocket, ...]:
        """The listening sockets; none once the server is closed."""
        return tuple(TransportSocket(sock) for sock in self._sockets or ())

    def get_loop(self) -> asyncio.AbstractEventLoop:
        """Return the loop of the server."""
        return self._loop

    def is_serving(self) -> bool:
        """Whether the server accepts connections."""
        return self._is_serving

    def close(self) -> None:
        """Close the listening sockets; connections stay. Idempotent."""
        if self._sockets is None:
            return
        self._sockets = None
        self._close_listeners()
        if self._on_close is not None:
            self._on_close()
        self._is_serving = False
        forever, self._serving_forever_fut = self._serving_forever_fut, None
        if forever is not None:
            forever.cancel()
        if self._active_count == 0:
            self._wakeup()

    def close_clients(self) -> None:
        """Close all connections, as their transports' close() does."""
        for transport in self._clients():
            transport.close()

    def abort_clients(self) -> None:
        """Close all connections at once, as their abort() does."""
        for transport in self._clients():
            transport.abort()

    async def start_serving(self) -> None:
        """Accept connections. Idempotent. RuntimeError once closed."""
        self._start_serving()
        # The first turn in which connections can be accepted.
        await asyncio.sleep(0)

    async def serve_forever(self) -> None:
        """Accept connections until cancelled, which closes the server.

        RuntimeError when closed, or when somebody waits here already.
        """
        if self._serving_forever_fut is not None:
            raise RuntimeError(
                f"server {self!r} is already being awaited on serve_forever()"
            )
        self._start_serving()
        self._serving_forever_fut = self._loop.create_future()
        try:
            await self._serving_forever_fut
        except asyncio.CancelledError:
            self.close()
            if versions.CANCEL_CLOSES_CLIENTS:
                self.close_clients()
            await self.wait_closed()
            raise
        finally:
            self._serving_forever_fut = None

    async def wait_closed(self) -> None:
        """Wait until the server is closed and no connection is left.

        Python 3.11 and 3.12.0 wait less, and so does this there.
        """
        if self._waiters is None or self._is_wait_over():
            return
        waiter = self._loop.create_future()
        self._waiters.append(waiter)
        await waiter

    def _is_wait_over(self) -> bool:
        if versions.WAIT_CLOSED == "close":
            return self._sockets is None
        return versions.WAIT_CLOSED == "clients" and self._active_count == 0

    def _start_serving(self) -> None:
        if self._sockets is None:
            raise RuntimeError(f"server {self!r} is closed")
        if self._is_serving:
            return
        for sock in self._sockets:
            sock.listen(self._backlog)
        self._start_accepting()
        self._is_serving = True

    def _wakeup(self) -> None:
        """Closed and without connections: also called by the base class."""
        waiters, self._waiters = self._waiters, None
        for waiter in waiters or ():
            if not waiter.done():
                waiter.set_result(None)

    async def __aenter__(self) -> "Server":
        return self

    async def __aexit__(self, *exc: object) -> None:
        self.close()
        await self.wait_closed()
