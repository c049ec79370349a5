# SPDX-License-Identifier: MIT
"""Resolving names.

asyncio: "DNS" of the event loop. becket's own threads do it, not those of
the default executor.
"""

import _socket
import asyncio
import socket
import sys
from collections.abc import Callable, Sequence
from types import BuiltinFunctionType, FunctionType
from typing import Any

from becket import versions
from becket.addresses import AddrInfo, Host, Port, literal
from becket.exceptions import logger
from becket.executor import ExecutorMixin


def _genuine(name: str) -> tuple[object, object]:
    """socket's function of that name, if nobody has replaced it yet."""
    outer, inner = getattr(socket, name), getattr(_socket, name)
    is_genuine = isinstance(inner, BuiltinFunctionType) and (
        outer is inner
        or (
            isinstance(outer, FunctionType)
            and outer.__globals__ is vars(socket)
        )
    )
    return (outer, inner) if is_genuine else (None, None)


# A label of a name has fewer characters than this (RFC 1035, section 2.3.4).
_LABEL_LIMIT = 64

_GETADDRINFO = _genuine("getaddrinfo")
_GETNAMEINFO = _genuine("getnameinfo")


class ResolveMixin(ExecutorMixin):
    """getaddrinfo() and getnameinfo()."""

    async def getaddrinfo(
        self,
        host: Host,
        port: Port,
        *,
        family: int = 0,
        type: int = 0,
        proto: int = 0,
        flags: int = 0,
    ) -> list[Any]:
        """socket.getaddrinfo() without blocking, with its exceptions.

        RuntimeError after shutdown_default_executor(), as asyncio has it.
        Where socket.getaddrinfo has been replaced, the replacement is called
        in the default executor.
        """
        self._check_closed()
        self._check_default_executor()
        query = (host, port, family, type, proto, flags)
        if self.get_debug():
            return await self._getaddrinfo_logged(query)
        return await self._getaddrinfo_plain(query)

    async def getnameinfo(
        self, sockaddr: tuple[Any, ...], flags: int = 0
    ) -> tuple[str, str]:
        """socket.getnameinfo() without blocking, with its exceptions."""
        self._check_closed()
        self._check_default_executor()
        if _is_current("getnameinfo", _GETNAMEINFO):
            lookup = self._getnameinfo(sockaddr, flags)
            if lookup is not None:
                return await _audited(lookup, sockaddr)
        return await self.run_in_executor(
            None, socket.getnameinfo, sockaddr, flags
        )

    async def _getaddrinfo_plain(self, query: tuple[Any, ...]) -> list[Any]:
        if not _is_current("getaddrinfo", _GETADDRINFO):
            return await self.run_in_executor(None, socket.getaddrinfo, *query)
        host, port, family, type, proto, flags = query
        name, service = _encode_host(host), _encode_port(port)
        sys.audit("socket.getaddrinfo", host, port, family, type, proto)
        found = await self._getaddrinfo(
            name, service, family, type, proto, flags
        )
        return [
            (
                _enum(socket.AddressFamily, a),
                _enum(socket.SocketKind, b),
                *rest,
            )
            for a, b, *rest in found
        ]

    async def _getaddrinfo_logged(self, query: tuple[Any, ...]) -> list[Any]:
        """Debug mode: log the query, and how long it took."""
        text = _describe(*query)
        logger.debug("Get address info %s", text)
        begin = self.time()
        infos = await self._getaddrinfo_plain(query)
        took = self.time() - begin
        is_slow = took >= self.slow_callback_duration
        (logger.info if is_slow else logger.debug)(
            f"Getting address info {text} took {took * 1e3:.3f}ms: {infos!r}"
        )
        return infos

    async def _ensure_resolved(
        self,
        address: Sequence[Any],
        *,
        family: int = 0,
        type: int = socket.SOCK_STREAM,
        proto: int = 0,
        flags: int = 0,
    ) -> list[AddrInfo]:
        """The entries for (host, port, ...); literals ask no resolver."""
        info = literal(address, family, type, proto)
        if info is not None:
            return [info]
        host, port = address[:2]
        return await self.getaddrinfo(
            host, port, family=family, type=type, proto=proto, flags=flags
        )


async def _audited(
    lookup: asyncio.Future[tuple[str, str]], sockaddr: tuple[Any, ...]
) -> tuple[str, str]:
    """The lookup's result, unless an audit hook has something against it."""
    try:
        sys.audit("socket.getnameinfo", sockaddr)
    except BaseException:
        lookup.cancel()
        raise
    return await lookup


def _is_current(name: str, genuine: tuple[object, object]) -> bool:
    current = (getattr(socket, name), getattr(_socket, name))
    return current == genuine


def _encode_host(host: object) -> bytes | None:
    if host is None:
        return None
    if isinstance(host, str):
        host = host.encode("ascii" if _is_plain(host) else "idna")
    if not isinstance(host, bytes):
        raise TypeError("getaddrinfo() argument 1 must be string or None")
    return _c_string(host)


def _is_plain(host: str) -> bool:
    """Whether the idna codec, which is slow, would leave the text as it is."""
    return (
        host.isascii()
        and len(host) < _LABEL_LIMIT
        and not host.startswith(".")
        and ".." not in host
    )


def _encode_port(port: object) -> bytes | None:
    if port is None:
        return None
    # Exactly int, as in socket: True is no port.
    if type(port) is int:
        if not versions.HUGE_PORT_IS_RESOLVED and not _fits_long(port):
            raise OverflowError("Python int too large to convert to C long")
        port = str(port)
    if isinstance(port, str):
        port = port.encode()
    if not isinstance(port, bytes):
        raise OSError("Int or String expected")
    return _c_string(port)


def _c_string(text: bytes) -> bytes:
    """As the socket module passes it on: up to the first NUL."""
    return text.partition(b"\0")[0]


def _fits_long(number: int) -> bool:
    return -sys.maxsize - 1 <= number <= sys.maxsize


def _enum(kind: Callable[[int], int], value: int) -> int:
    """The member of the enum, or the number when it has none."""
    try:
        return kind(value)
    except ValueError:
        return value


def _describe(
    host: Host, port: Port, family: int, type: int, proto: int, flags: int
) -> str:
    hints = {"family": family, "type": type, "proto": proto, "flags": flags}
    return ", ".join(
        [f"{host!s}:{port!r}"]
        + [f"{name}={value!r}" for name, value in hints.items() if value]
    )
