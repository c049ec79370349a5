# SPDX-License-Identifier: MIT
"""Connecting sockets of the user.

asyncio: loop.sock_connect(). The other sock_* methods are in C, apart from
sock_sendfile() in sendfile.py.
"""

import errno
import os
import socket
from typing import Any

from becket.resolve import ResolveMixin

try:
    from ssl import SSLSocket
except ImportError:
    # A Python without TLS: no socket can be one of these.
    _SSL_SOCKETS: tuple[type, ...] = ()
else:
    _SSL_SOCKETS = (SSLSocket,)

_RESOLVED_FAMILIES = (socket.AF_INET, socket.AF_INET6)


def refuse_ssl_socket(sock: object) -> None:
    """TypeError for an ssl.SSLSocket: it does its own reading and writing."""
    if isinstance(sock, _SSL_SOCKETS):
        raise TypeError("Socket cannot be of type SSLSocket")


def require_stream(sock: socket.socket) -> None:
    """ValueError unless it is a SOCK_STREAM socket, of whatever family."""
    if sock.type != socket.SOCK_STREAM:
        raise ValueError(f"A Stream Socket was expected, got {sock!r}")


def _require_connected(sock: socket.socket) -> None:
    """BlockingIOError for a Unix socket whose connect() found no room.

    The peer's backlog was full. Such a socket looks writable and without an
    error, as one of TCP that is connected does, but it never will be.
    """
    try:
        sock.getpeername()
    except OSError as exc:
        if exc.errno != errno.ENOTCONN:
            raise
        raise BlockingIOError(
            errno.EAGAIN, os.strerror(errno.EAGAIN)
        ) from None


def set_reuse_port(sock: socket.socket) -> None:
    """Set SO_REUSEPORT; ValueError where there is none."""
    if not hasattr(socket, "SO_REUSEPORT"):
        raise ValueError("reuse_port not supported by socket module")
    try:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT, 1)
    except OSError as exc:
        raise ValueError(
            "reuse_port not supported by socket module, SO_REUSEPORT defined"
            " but not implemented."
        ) from exc


class SocketsMixin(ResolveMixin):
    """sock_connect(), with names as well as addresses."""

    async def sock_connect(self, sock: socket.socket, address: Any) -> None:
        """Connect a non-blocking socket of the caller.

        Host names are resolved first. OSError as socket.connect();
        BlockingIOError when the backlog of a Unix socket is full.
        """
        refuse_ssl_socket(sock)
        self._require_nonblocking(sock)
        if sock.family in _RESOLVED_FAMILIES:
            infos = await self._ensure_resolved(
                address, family=sock.family, type=sock.type, proto=sock.proto
            )
            if not infos:
                raise OSError("getaddrinfo() returned empty list")
            address = infos[0][4]
        await self._sock_connect(sock, address)
        if sock.family == socket.AF_UNIX:
            _require_connected(sock)

    def _require_nonblocking(self, sock: socket.socket) -> None:
        """Debug mode alone has the time to look."""
        if self.get_debug() and sock.gettimeout() != 0:
            raise ValueError("the socket must be non-blocking")
