# SPDX-License-Identifier: MIT
"""TCP servers.

asyncio: loop.create_server().
"""

import asyncio
import errno
import itertools
import socket
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from becket import _core, versions
from becket.addresses import AddrInfo
from becket.connect import bind_error, check_ssl_timeouts
from becket.exceptions import logger
from becket.resolve import ResolveMixin
from becket.server import Server
from becket.sockets import (
    refuse_ssl_socket,
    require_stream,
    set_reuse_port,
)

_INET_FAMILIES = (socket.AF_INET, socket.AF_INET6)


class ServeMixin(ResolveMixin):
    """create_server()."""

    async def create_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        host: str | Sequence[str] | None = None,
        port: int | str | None = None,
        *,
        family: int = socket.AF_UNSPEC,
        flags: int = socket.AI_PASSIVE,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: Any = None,
        reuse_address: bool | None = None,
        reuse_port: bool | None = None,
        keep_alive: bool | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
    ) -> Server:
        """Listen on every address of every host, or on the bound socket sock.

        Returns a Server. reuse_address: None means True. OSError when an
        address cannot be bound; nothing is left bound then. ssl: an
        SSLContext.
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        check_ssl_timeouts(
            ssl is not None, ssl_handshake_timeout, ssl_shutdown_timeout
        )
        if sock is not None:
            refuse_ssl_socket(sock)
        if host is None and port is None:
            if sock is None:
                raise ValueError("Neither host/port nor sock were specified")
            require_stream(sock)
            sockets = [sock]
        elif sock is not None:
            raise ValueError(
                "host/port and sock can not be specified at the same time"
            )
        else:
            infos = await self._resolve_hosts(host, port, family, flags)
            options = _Options(
                reuse_address is None or reuse_address, reuse_port, keep_alive
            )
            sockets = _bind_all(infos, options, self.get_debug())
        try:
            server = Server(
                self,
                sockets,
                protocol_factory,
                backlog,
                ssl=ssl and (ssl, ssl_handshake_timeout, ssl_shutdown_timeout),
            )
        except BaseException:
            if sock is None:
                _close_all(sockets)
            raise
        if start_serving:
            await self._start_server(server, is_ours=sock is None)
        if self.get_debug():
            logger.info("%r is serving", server)
        return server

    async def _start_server(self, server: Server, is_ours: bool) -> None:
        try:
            await server.start_serving()
        except BaseException:
            # Nobody has the server yet. The caller's socket stays open.
            if is_ours:
                server.close()
            else:
                server._stop_accepting()
            raise

    async def _resolve_hosts(
        self, host: Any, port: Any, family: int, flags: int
    ) -> list[AddrInfo]:
        """The addresses of all hosts, each once."""
        found = await asyncio.gather(
            *(
                self._resolve_host(name, port, family, flags)
                for name in _host_names(host)
            )
        )
        return list(dict.fromkeys(itertools.chain.from_iterable(found)))

    async def _resolve_host(
        self, host: Any, port: Any, family: int, flags: int
    ) -> list[AddrInfo]:
        infos = await self._ensure_resolved(
            (host, port), family=family, type=socket.SOCK_STREAM, flags=flags
        )
        if not infos:
            raise OSError(f"getaddrinfo({host!r}) returned empty list")
        return infos

    def _stop_serving(self, sock: socket.socket) -> None:
        """Stop watching a listening socket and close it (asyncio has it)."""
        _core.Loop.remove_reader(self, sock.fileno())
        sock.close()


class _Options:
    """What is set on each listening socket."""

    def __init__(
        self,
        reuse_address: bool,
        reuse_port: bool | None,
        keep_alive: bool | None,
    ) -> None:
        self._reuse_address = reuse_address
        self._reuse_port = reuse_port
        self._keep_alive = keep_alive

    def apply(self, sock: socket.socket, family: int) -> None:
        if self._reuse_address:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, True)
        if self._reuse_port and _can_reuse_port(family):
            set_reuse_port(sock)
        if self._keep_alive:
            sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, True)
        if family == socket.AF_INET6:
            # Otherwise it takes IPv4 as well, and the bind for that fails.
            sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, True)


def _can_reuse_port(family: int) -> bool:
    return not versions.REUSE_PORT_IS_INET_ONLY or family in _INET_FAMILIES


def _host_names(host: Any) -> Iterable[Any]:
    if host == "":
        return [None]
    if isinstance(host, str) or not isinstance(host, Iterable):
        return [host]
    return host


def _bind_all(
    infos: list[AddrInfo], options: _Options, is_debug: bool
) -> list[socket.socket]:
    """A bound socket for each address; closes all of them on failure."""
    sockets: list[socket.socket] = []
    try:
        for info in infos:
            sock = _make_socket(info, is_debug)
            if sock is None:
                continue
            sockets.append(sock)
            options.apply(sock, info[0])
            if not _bind(sock, info[4], is_debug):
                sockets.pop().close()
        if not sockets and versions.SKIPS_UNAVAILABLE_ADDRESS:
            addresses = [info[4] for info in infos]
            raise OSError(
                f"could not bind on any address out of {addresses!r}"
            )
    except BaseException:
        _close_all(sockets)
        raise
    return sockets


def _close_all(sockets: list[socket.socket]) -> None:
    for sock in sockets:
        sock.close()


def _make_socket(info: AddrInfo, is_debug: bool) -> socket.socket | None:
    """None where this system does not have the family, type or protocol."""
    family, type_, proto = info[:3]
    try:
        return socket.socket(family, type_, proto)
    except OSError:
        if is_debug:
            logger.warning(
                "create_server() failed to create socket.socket(%r, %r, %r)",
                family,
                type_,
                proto,
                exc_info=True,
            )
        return None


def _bind(sock: socket.socket, address: Any, is_debug: bool) -> bool:
    """False when the address is left out: the machine does not have it."""
    try:
        sock.bind(address)
    except OSError as exc:
        error = bind_error(exc, address)
        if (
            versions.SKIPS_UNAVAILABLE_ADDRESS
            and exc.errno == errno.EADDRNOTAVAIL
        ):
            if is_debug:
                logger.warning(error.strerror)
            return False
        raise error from None
    return True
