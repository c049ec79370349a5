# SPDX-License-Identifier: MIT
"""Datagram endpoints.

asyncio: loop.create_datagram_endpoint().

A socket that is made here is closed at every failure and cancellation; one
that the caller passed stays the caller's until a transport has taken it over.
"""

import asyncio
import socket
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar

from becket import versions
from becket.exceptions import logger
from becket.sockets import SocketsMixin, set_reuse_port
from becket.unix import remove_stale_file

P = TypeVar("P", bound=asyncio.BaseProtocol)

# Missing where there are no such sockets.
_AF_UNIX: int | None = getattr(socket, "AF_UNIX", None)


class _Ends(NamedTuple):
    """What one socket is made for."""

    family: int
    proto: int
    local: Any  # None: not bound
    remote: Any  # None: not connected


class DatagramMixin(SocketsMixin):
    """create_datagram_endpoint()."""

    # typeshed has an argument that Python 3.11 took away.
    async def create_datagram_endpoint(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], P],
        local_addr: tuple[str, int] | str | None = None,
        remote_addr: tuple[str, int] | str | None = None,
        *,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        reuse_port: bool | None = None,
        allow_broadcast: bool | None = None,
        sock: socket.socket | None = None,
    ) -> tuple[asyncio.DatagramTransport, P]:
        """Bind to local_addr and connect to remote_addr, or use sock.

        Returns (transport, protocol). Addresses are (host, port), or a path
        with family AF_UNIX; of several that a host has, the first that can be
        bound and connected is taken. With allow_broadcast the socket is not
        connected, but remote_addr is the only address to send to. OSError as
        bind() and connect(); ValueError and TypeError for arguments that do
        not fit together.
        """
        if sock is not None:
            _check_given(
                sock,
                local_addr=local_addr,
                remote_addr=remote_addr,
                family=family,
                proto=proto,
                flags=flags,
                reuse_port=reuse_port,
                allow_broadcast=allow_broadcast,
            )
            sock.setblocking(False)
            opened, address = sock, None
        else:
            choices = await self._find_ends(
                local_addr, remote_addr, family, proto, flags
            )
            opened, address = await self._open_first(
                choices, reuse_port, allow_broadcast
            )
        transport, protocol = await self._make_endpoint(
            protocol_factory, opened, address, is_ours=sock is None
        )
        if self.get_debug():
            _log_created(local_addr, remote_addr, transport, protocol)
        return transport, protocol

    async def _find_ends(
        self,
        local_addr: Any,
        remote_addr: Any,
        family: int,
        proto: int,
        flags: int,
    ) -> list[_Ends]:
        """What to try, in this order."""
        if not (local_addr or remote_addr):
            if family == 0:
                raise ValueError("unexpected address family")
            return [_Ends(family, proto, None, None)]
        if _AF_UNIX is not None and family == _AF_UNIX:
            _check_paths(local_addr, remote_addr)
            if local_addr and local_addr[0] != "\0":
                remove_stale_file(local_addr)
            return [_Ends(family, proto, local_addr, remote_addr)]
        found: dict[tuple[int, int], list[Any]] = {}
        for index, addr in enumerate((local_addr, remote_addr)):
            if addr is None:
                continue
            infos = await self._resolve_end(addr, family, proto, flags)
            for kind, _, protocol, _, address in infos:
                ends = found.setdefault((kind, protocol), [None, None])
                ends[index] = address
        choices = [
            _Ends(*key, *ends)
            for key, ends in found.items()
            if not (local_addr and ends[0] is None)
            and not (remote_addr and ends[1] is None)
        ]
        if not choices:
            raise ValueError("can not get address information")
        return choices

    async def _resolve_end(
        self, addr: Any, family: int, proto: int, flags: int
    ) -> list[Any]:
        if not (isinstance(addr, tuple) and len(addr) == 2):
            raise TypeError("2-tuple is expected")
        infos = await self._ensure_resolved(
            addr,
            family=family,
            type=socket.SOCK_DGRAM,
            proto=proto,
            flags=flags,
        )
        if not infos:
            raise OSError("getaddrinfo() returned empty list")
        return infos

    async def _open_first(
        self,
        choices: list[_Ends],
        reuse_port: bool | None,
        allow_broadcast: bool | None,
    ) -> tuple[socket.socket, Any]:
        """The first socket that can be had, and the address it is for."""
        errors: list[OSError] = []
        try:
            for ends in choices:
                try:
                    sock = await self._open(ends, reuse_port, allow_broadcast)
                except OSError as error:
                    errors.append(error)
                else:
                    return sock, ends.remote or None
            raise errors[0]
        finally:
            # Its tracebacks refer to this list.
            errors.clear()

    async def _open(
        self,
        ends: _Ends,
        reuse_port: bool | None,
        allow_broadcast: bool | None,
    ) -> socket.socket:
        sock = socket.socket(
            family=ends.family, type=socket.SOCK_DGRAM, proto=ends.proto
        )
        try:
            if reuse_port:
                set_reuse_port(sock)
            if allow_broadcast:
                sock.setsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST, 1)
            sock.setblocking(False)
            if ends.local:
                sock.bind(ends.local)
            if ends.remote and not allow_broadcast:
                await self.sock_connect(sock, ends.remote)
        except BaseException:
            sock.close()
            raise
        return sock

    async def _make_endpoint(
        self,
        protocol_factory: Callable[[], P],
        sock: socket.socket,
        address: Any,
        is_ours: bool,
    ) -> tuple[asyncio.DatagramTransport, P]:
        """Give sock to a new transport and wait for connection_made()."""
        try:
            protocol = protocol_factory()
            waiter = self.create_future()
            transport = self._make_datagram_transport(
                sock, protocol, address, waiter
            )
        except BaseException:
            if is_ours:
                sock.close()
            raise
        try:
            await waiter
        except BaseException:
            if not self.is_closed():  # else it is collected, with a warning
                transport.close()
            raise
        return transport, protocol


def _check_given(sock: socket.socket, **modifiers: Any) -> None:
    """ValueError unless sock= is what can be used, and all there is."""
    if versions.ENDPOINT_TAKES_DATAGRAM_SOCKETS_ONLY:
        if sock.type != socket.SOCK_DGRAM:
            raise ValueError(f"A UDP Socket was expected, got {sock!r}")
    elif sock.type == socket.SOCK_STREAM:
        raise ValueError(f"A datagram socket was expected, got {sock!r}")
    problems = ", ".join(
        f"{name}={value}" for name, value in modifiers.items() if value
    )
    if problems:
        raise ValueError(
            "socket modifier keyword arguments can not be used when sock is"
            f" specified. ({problems})"
        )


def _check_paths(*paths: object) -> None:
    for path in paths:
        if path is not None and not isinstance(path, str):
            raise TypeError("string is expected")


def _log_created(
    local_addr: Any, remote_addr: Any, transport: Any, protocol: Any
) -> None:
    if local_addr:
        logger.info(
            "Datagram endpoint local_addr=%r remote_addr=%r created: (%r, %r)",
            local_addr,
            remote_addr,
            transport,
            protocol,
        )
    else:
        logger.debug(
            "Datagram endpoint remote_addr=%r created: (%r, %r)",
            remote_addr,
            transport,
            protocol,
        )
