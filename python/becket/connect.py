# SPDX-License-Identifier: MIT
"""Streaming connections.

asyncio: loop.create_connection(), loop.connect_accepted_socket().

Whose socket it is decides what a failure does to it: a socket that is made
here is closed at every failure and cancellation; one that the caller passed
stays the caller's until a transport has taken it over.
"""

import asyncio
import contextlib
import contextvars
import functools
import socket
from collections.abc import Callable
from typing import Any, NoReturn, TypeVar

from becket import versions
from becket._core import SSLProtocol
from becket.addresses import AddrInfo, interleave
from becket.exceptions import logger
from becket.race import Race
from becket.sockets import SocketsMixin, refuse_ssl_socket, require_stream
from becket.tls import Tls

P = TypeVar("P", bound=asyncio.BaseProtocol)
# The errors of one attempt, in the order in which they happened.
Errors = list[OSError]


def check_ssl_timeouts(
    is_ssl: bool, handshake: float | None, shutdown: float | None
) -> None:
    """ValueError for a timeout of TLS without TLS."""
    for name, value in (("handshake", handshake), ("shutdown", shutdown)):
        if value is not None and not is_ssl:
            raise ValueError(f"ssl_{name}_timeout is only meaningful with ssl")


class ConnectMixin(SocketsMixin):
    """create_connection() and connect_accepted_socket()."""

    async def create_connection(
        self,
        protocol_factory: Callable[[], P],
        host: str | bytes | None = None,
        port: str | bytes | int | None = None,
        *,
        ssl: Any = None,
        family: int = 0,
        proto: int = 0,
        flags: int = 0,
        sock: socket.socket | None = None,
        local_addr: tuple[str, int] | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        happy_eyeballs_delay: float | None = None,
        interleave: int | None = None,
        all_errors: bool = False,
    ) -> tuple[asyncio.Transport, P]:
        """Connect to host and port, or use the connected stream socket sock.

        Returns (transport, protocol). The addresses are tried in turn, or,
        with happy_eyeballs_delay (seconds), staggered as RFC 8305 has it.
        OSError when none can be connected; with all_errors an ExceptionGroup
        of what each attempt raised.
        ssl: an SSLContext, or True for the default one.
        """
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        if server_hostname is None and ssl and not host:
            raise ValueError(
                "You must set server_hostname when using ssl without a host"
            )
        check_ssl_timeouts(
            bool(ssl), ssl_handshake_timeout, ssl_shutdown_timeout
        )
        tls = None
        if ssl:
            tls = Tls(
                ssl,
                is_server=False,
                server_hostname=host  # type: ignore[arg-type]
                if server_hostname is None
                else server_hostname,
                handshake_timeout=ssl_handshake_timeout,
                shutdown_timeout=ssl_shutdown_timeout,
            )
        if sock is not None:
            refuse_ssl_socket(sock)
        if host is None and port is None:
            connected = _check_given(sock)
        elif sock is not None:
            raise ValueError(
                "host/port and sock can not be specified at the same time"
            )
        else:
            attempts = _Attempts(self, all_errors)
            await attempts.resolve(
                (host, port), local_addr, family, proto, flags
            )
            connected = await attempts.run(happy_eyeballs_delay, interleave)
        transport, protocol = await self._make_connection(
            protocol_factory, connected, is_ours=sock is None, tls=tls
        )
        if self.get_debug():
            peer = transport.get_extra_info("socket")
            text = "%r connected to %s:%r: (%r, %r)"
            logger.debug(text, peer, host, port, transport, protocol)
        return transport, protocol

    async def connect_accepted_socket(
        self,
        protocol_factory: Callable[[], P],
        sock: socket.socket,
        *,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, P]:
        """Handle a connection that was accepted outside asyncio.

        Returns (transport, protocol).
        """
        require_stream(sock)
        check_ssl_timeouts(
            bool(ssl), ssl_handshake_timeout, ssl_shutdown_timeout
        )
        refuse_ssl_socket(sock)
        tls = None
        if ssl:
            tls = Tls(
                ssl,
                is_server=True,
                server_hostname="",
                handshake_timeout=ssl_handshake_timeout,
                shutdown_timeout=ssl_shutdown_timeout,
            )
        transport, protocol = await self._make_connection(
            protocol_factory, sock, is_ours=False, tls=tls
        )
        if self.get_debug():
            peer = transport.get_extra_info("socket")
            logger.debug("%r handled: (%r, %r)", peer, transport, protocol)
        return transport, protocol

    async def _make_connection(
        self,
        protocol_factory: Callable[[], P],
        sock: socket.socket,
        is_ours: bool,
        tls: Tls | None = None,
    ) -> tuple[asyncio.Transport, P]:
        """Give sock to a new transport and wait for connection_made()."""
        context = None
        transport: asyncio.Transport
        try:
            sock.setblocking(False)
            if versions.TRANSPORT_HAS_CONTEXT:
                context = contextvars.copy_context()
            protocol = protocol_factory()
            waiter = self.create_future()
            if tls is None:
                transport = self._make_stream_transport(
                    sock, protocol, waiter, context=context
                )
            else:
                transport = self._make_tls_transport(
                    sock, tls.protocol(self, protocol, waiter), context
                )
        except BaseException:
            if is_ours or (
                versions.FAILED_FACTORY_CLOSES_SOCKET
                and not self._is_anothers(sock)
            ):
                _discard(sock)
            raise
        try:
            await waiter
        except BaseException:
            if not self.is_closed():  # else it is collected, with a warning
                transport.close()
            del waiter  # it has the exception, which has this frame
            raise
        return transport, protocol

    def _is_anothers(self, sock: socket.socket) -> bool:
        """Whether another transport has it, so that it is left alone."""
        try:
            self._check_sock_free(sock)
        except RuntimeError:
            return True
        except Exception:
            pass  # what it is, was told: it may be no socket at all
        return False

    def _make_tls_transport(
        self,
        sock: socket.socket,
        tls: SSLProtocol,
        context: contextvars.Context | None,
    ) -> asyncio.Transport:
        transport = tls._app_transport
        assert transport is not None
        try:
            self._make_stream_transport(sock, tls, context=context)
        except BaseException:
            # Nobody has seen it, so it goes without a warning.
            transport._closed = True
            raise
        return transport


class _Attempts:
    """Connecting to one of several addresses."""

    def __init__(self, loop: SocketsMixin, all_errors: bool) -> None:
        self._loop = loop
        self._all_errors = all_errors
        self._infos: list[AddrInfo] = []
        self._local: list[AddrInfo] | None = None
        self._errors: list[Errors] = []

    async def resolve(
        self,
        remote: tuple[Any, Any],
        local: tuple[Any, Any] | None,
        family: int,
        proto: int,
        flags: int,
    ) -> None:
        """Look up the addresses to connect to and to bind to."""
        resolve = functools.partial(
            self._loop._ensure_resolved,
            family=family,
            type=socket.SOCK_STREAM,
            proto=proto,
            flags=flags,
        )
        self._infos = _check_found(await resolve(remote))
        if local is not None:
            self._local = _check_found(await resolve(local))

    async def run(
        self, delay: float | None, first_count: int | None
    ) -> socket.socket:
        """Return a connected socket, or raise what the attempts raised."""
        if delay is not None and first_count is None:
            first_count = 1
        if first_count:
            self._infos = interleave(self._infos, first_count)
        if delay is None:
            sock = await self._in_turn()
        else:
            sock = await self._staggered(delay)
        if sock is None:
            _raise_errors(self._take_errors(), self._all_errors)
        return sock

    def _take_errors(self) -> Errors:
        """All errors, in the order of the attempts.

        They leave this object, which their tracebacks refer to.
        """
        errors = [error for attempt in self._errors for error in attempt]
        for attempt in self._errors:
            attempt.clear()
        return errors

    async def _in_turn(self) -> socket.socket | None:
        for info in self._infos:
            try:
                return await self._connect(info)
            except OSError:
                continue
        return None

    async def _staggered(self, delay: float) -> socket.socket | None:
        race: Race[socket.socket] = Race(self._loop, delay, _discard)
        return await race.run(
            functools.partial(self._connect, info) for info in self._infos
        )

    async def _connect(self, info: AddrInfo) -> socket.socket:
        """Make, bind and connect one socket."""
        errors: Errors = []
        self._errors.append(errors)
        family, type_, proto, _, address = info
        try:
            sock = socket.socket(family=family, type=type_, proto=proto)
            try:
                sock.setblocking(False)
                if self._local is not None:
                    _bind_local(sock, self._local, errors)
                await self._loop.sock_connect(sock, address)
            except BaseException:
                _discard(sock)
                raise
        except OSError as exc:
            errors.append(exc)
            raise
        return sock


def _discard(sock: socket.socket) -> None:
    """Close it; more has failed by now than its close() could tell of."""
    with contextlib.suppress(OSError):
        sock.close()


def _check_given(sock: socket.socket | None) -> socket.socket:
    if sock is None:
        raise ValueError(
            "host and port was not specified and no sock specified"
        )
    require_stream(sock)
    return sock


def _check_found(infos: list[AddrInfo]) -> list[AddrInfo]:
    if not infos:
        raise OSError("getaddrinfo() returned empty list")
    return infos


def _bind_local(
    sock: socket.socket, local: list[AddrInfo], errors: Errors
) -> None:
    """Bind to the first local address that works; OSError if none does.

    The failures of the others count among the attempt's errors.
    """
    family = sock.family
    for local_family, _, _, _, address in local:
        if local_family != family:
            continue
        try:
            sock.bind(address)
            return
        except OSError as exc:
            errors.append(bind_error(exc, address))
    if not errors:
        raise OSError(f"no matching local address with {family=} found")
    # The attempt, which this ends, adds it again.
    raise errors.pop()


def bind_error(exc: OSError, address: object) -> OSError:
    """The error of a bind() with the address in it."""
    text = str(exc) if versions.BIND_TEXT_HAS_ERRNO else exc.strerror or ""
    return OSError(
        exc.errno,
        "error while attempting to bind on address"
        f" {address!r}: {text.lower()}",
    )


def _raise_errors(errors: Errors, all_errors: bool) -> NoReturn:
    """Raise what says most about why no attempt succeeded."""
    try:
        if not errors:
            raise TimeoutError("create_connection failed")
        if all_errors:
            raise ExceptionGroup("create_connection failed", errors)
        texts = [str(error) for error in errors]
        if len(set(texts)) == 1:
            raise errors[0]
        raise OSError("Multiple exceptions: {}".format(", ".join(texts)))
    finally:
        # Its tracebacks refer to this list.
        errors.clear()
