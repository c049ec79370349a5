# SPDX-License-Identifier: MIT
"""Unix sockets.

asyncio: loop.create_unix_connection(), loop.create_unix_server().

As in connect.py: a socket that is made here is closed at every failure and
cancellation; one that the caller passed stays the caller's until a transport
or a server has taken it over.
"""

import asyncio
import errno
import functools
import os
import socket
import stat
from collections.abc import Callable
from typing import Any, TypeAlias, TypeVar

from becket import versions
from becket.connect import ConnectMixin, check_ssl_timeouts
from becket.exceptions import logger
from becket.serve import ServeMixin
from becket.server import Server
from becket.sockets import refuse_ssl_socket
from becket.tls import Tls

P = TypeVar("P", bound=asyncio.BaseProtocol)
Path: TypeAlias = str | bytes | os.PathLike[str] | os.PathLike[bytes]


class UnixMixin(ConnectMixin, ServeMixin):
    """create_unix_connection() and create_unix_server()."""

    async def create_unix_connection(
        self,
        protocol_factory: Callable[[], P],
        path: Path | None = None,
        *,
        ssl: Any = None,
        sock: socket.socket | None = None,
        server_hostname: str | None = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
    ) -> tuple[asyncio.Transport, P]:
        """Connect to path, or use the connected Unix stream socket sock.

        Returns (transport, protocol). A path that begins with a NUL is a name
        in the abstract namespace. OSError as socket.connect(); BlockingIOError
        when the peer's backlog is full.
        """
        if server_hostname is not None and not ssl:
            raise ValueError("server_hostname is only meaningful with ssl")
        if server_hostname is None and ssl:
            raise ValueError("you have to pass server_hostname when using ssl")
        check_ssl_timeouts(
            bool(ssl), ssl_handshake_timeout, ssl_shutdown_timeout
        )
        tls = None
        if ssl:
            tls = Tls(
                ssl,
                is_server=False,
                server_hostname=server_hostname,
                handshake_timeout=ssl_handshake_timeout,
                shutdown_timeout=ssl_shutdown_timeout,
            )
        if path is None:
            if sock is None:
                raise ValueError("no path and sock were specified")
            connected = _check_given(sock)
        elif sock is not None:
            raise ValueError(
                "path and sock can not be specified at the same time"
            )
        else:
            connected = await self._connect_path(os.fspath(path))
        return await self._make_connection(
            protocol_factory, connected, is_ours=sock is None, tls=tls
        )

    async def _connect_path(self, path: str | bytes) -> socket.socket:
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        try:
            sock.setblocking(False)
            await self.sock_connect(sock, path)
        except BaseException:
            sock.close()
            raise
        return sock

    async def create_unix_server(  # type: ignore[override]
        self,
        protocol_factory: Callable[[], asyncio.BaseProtocol],
        path: Path | None = None,
        *,
        sock: socket.socket | None = None,
        backlog: int = 100,
        ssl: Any = None,
        ssl_handshake_timeout: float | None = None,
        ssl_shutdown_timeout: float | None = None,
        start_serving: bool = True,
        cleanup_socket: bool = versions.CLEANS_UP_UNIX_SOCKETS,
        mode: int | None = None,
    ) -> Server:
        """Listen on path, or on the bound Unix stream socket sock.

        Returns a Server. A socket file that nobody closed before is replaced.
        cleanup_socket: remove the file when the server is closed, unless it
        is another one by then. mode: the file's permissions, as for
        os.chmod(), set before anybody can connect. OSError when path cannot
        be bound.
        """
        if isinstance(ssl, bool):
            raise TypeError("ssl argument must be an SSLContext or None")
        check_ssl_timeouts(
            bool(ssl), ssl_handshake_timeout, ssl_shutdown_timeout
        )
        if path is None:
            if sock is None:
                raise ValueError(
                    "path was not specified, and no sock specified"
                )
            if mode is not None:
                raise ValueError("mode and sock can not be specified together")
            bound = _check_given(sock)
        elif sock is not None:
            raise ValueError(
                "path and sock can not be specified at the same time"
            )
        else:
            bound = _bind(os.fspath(path), mode)
        try:
            file = _SocketFile.of(bound) if cleanup_socket else None
            server = Server(
                self,
                [bound],
                protocol_factory,
                backlog,
                on_close=functools.partial(self._remove_file, file),
                ssl=ssl and (ssl, ssl_handshake_timeout, ssl_shutdown_timeout),
            )
        except BaseException:
            if sock is None:
                bound.close()
            raise
        if start_serving:
            await self._start_server(server, is_ours=sock is None)
        return server

    def _remove_file(self, file: "_SocketFile | None") -> None:
        # A forked child closes its copy of the server, and no more.
        if file is not None and not self._is_forked:
            file.remove()


class _SocketFile:
    """The file that a Unix socket is bound to."""

    def __init__(self, path: str | bytes, status: os.stat_result) -> None:
        self._path = path
        self._identity = _identity(status)

    @classmethod
    def of(cls, sock: socket.socket) -> "_SocketFile | None":
        """None for a socket that has no file: abstract, or removed."""
        path = sock.getsockname()
        if not path or _is_abstract(path):
            return None
        try:
            return cls(path, os.stat(path))
        except FileNotFoundError:
            return None

    def remove(self) -> None:
        """Remove the file, unless another one is in its place."""
        try:
            if _identity(os.stat(self._path)) == self._identity:
                os.unlink(self._path)
        except FileNotFoundError:
            pass
        except OSError as exc:
            logger.error(
                "Unable to clean up listening UNIX socket %r: %r",
                self._path,
                exc,
            )


def _identity(status: os.stat_result) -> tuple[int, int, int]:
    """Tells one socket file from another.

    The inode's number is not enough: a server that replaces the file may get
    the same one, since file systems use numbers again. A socket file's
    modification time is that of its bind().
    """
    return status.st_dev, status.st_ino, status.st_mtime_ns


def _check_given(sock: socket.socket) -> socket.socket:
    refuse_ssl_socket(sock)
    if sock.family != socket.AF_UNIX or sock.type != socket.SOCK_STREAM:
        raise ValueError(
            f"A UNIX Domain Stream Socket was expected, got {sock!r}"
        )
    return sock


def _is_abstract(path: str | bytes) -> bool:
    return path[0] in (0, "\0")


def _bind(path: str | bytes, mode: int | None) -> socket.socket:
    """A socket bound to path, in place of a stale one."""
    if not path:
        raise ValueError("path must not be empty")
    if _is_abstract(path):
        if mode is not None:
            raise ValueError("mode is not supported for abstract Unix sockets")
    else:
        remove_stale_file(path)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    try:
        _bind_to(sock, path)
        if mode is not None:
            _set_mode(path, mode)
    except BaseException:
        sock.close()
        raise
    return sock


def remove_stale_file(path: str | bytes) -> None:
    """Remove the socket file that a server before has left, if there is one.

    A file of another kind stays, and makes bind() fail.
    """
    try:
        if stat.S_ISSOCK(os.stat(path).st_mode):
            os.remove(path)
    except FileNotFoundError:
        pass
    except OSError as exc:
        # The folder may allow no more than to make sockets.
        logger.error(
            "Unable to check or remove stale UNIX socket %r: %r", path, exc
        )


def _bind_to(sock: socket.socket, path: str | bytes) -> None:
    try:
        sock.bind(path)
    except OSError as exc:
        if exc.errno != errno.EADDRINUSE:
            raise
        text = f"Address {path!r} is already in use"
        raise OSError(errno.EADDRINUSE, text) from None


def _set_mode(path: str | bytes, mode: int) -> None:
    """Nobody can connect before the socket listens."""
    try:
        os.chmod(path, mode)
    except BaseException:
        os.unlink(path)
        raise
