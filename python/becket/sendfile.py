# SPDX-License-Identifier: MIT
"""Sending a file on a transport, or on a socket of the user.

asyncio: loop.sendfile(), loop.sock_sendfile().
"""

import asyncio
import asyncio.constants
import contextlib
import errno
import io
import os
import socket
from collections.abc import Awaitable, Callable
from typing import IO, Any, cast

from becket import _core
from becket.sendfile_fallback import FallbackProtocol
from becket.sockets import SocketsMixin, refuse_ssl_socket
from becket.versions import SENDFILE_DRAINS_AFTER_WRITE, SENDFILE_SEEKS_TO_ZERO

# Read and sent at a time where the file cannot go straight from the kernel:
# what asyncio takes.
_BLOCK_BYTES = 256 * 1024
_TRANSPORT_BLOCK_BYTES = 16 * 1024


class SendfileMixin(SocketsMixin):
    """By the kernel, or by reading and sending."""

    async def sock_sendfile(
        self,
        sock: socket.socket,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool | None = True,
    ) -> int:
        """Send the file from offset on, count bytes or up to its end.

        Returns the number of bytes sent; the file's position is moved
        accordingly, also after an error. SendfileNotAvailableError when the
        kernel cannot send this file and fallback is false.
        """
        self._require_nonblocking(sock)
        refuse_ssl_socket(sock)
        _check_arguments(sock, file, offset, count)
        try:
            return await self._sendfile_by_kernel(
                sock, self._wait_writable, file, offset, count
            )
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._sendfile_by_blocks(sock, file, offset, count)

    async def sendfile(
        self,
        transport: asyncio.WriteTransport,
        file: IO[bytes],
        offset: int = 0,
        count: int | None = None,
        *,
        fallback: bool = True,
    ) -> int:
        """Send the file from offset on, count bytes or up to its end.

        What was written before goes first; nothing may be written meanwhile.
        Returns the number of bytes sent; the file's position is moved
        accordingly, also after an error. SendfileNotAvailableError when the
        kernel cannot send this file and fallback is false; RuntimeError for a
        transport that cannot send files, or that is closing.
        """
        if transport.is_closing():
            raise RuntimeError("Transport is closing")
        modes = asyncio.constants._SendfileMode
        mode = getattr(transport, "_sendfile_compatible", modes.UNSUPPORTED)
        if mode is modes.UNSUPPORTED:
            raise RuntimeError(
                f"sendfile is not supported for transport {transport!r}"
            )
        if mode is modes.TRY_NATIVE:
            try:
                return await self._sendfile_native(
                    transport, file, offset, count
                )
            except asyncio.SendfileNotAvailableError:
                if not fallback:
                    raise
        if not fallback:
            raise RuntimeError(
                "fallback is disabled and native sendfile is not supported"
                f" for transport {transport!r}"
            )
        return await self._sendfile_fallback(transport, file, offset, count)

    async def _sendfile_native(
        self,
        transport: Any,
        file: IO[bytes],
        offset: int,
        count: int | None,
    ) -> int:
        is_reading = transport.is_reading()
        all_sent = transport._make_empty_waiter()
        transport.pause_reading()
        try:
            await all_sent
            return await self._sendfile_past(transport, file, offset, count)
        finally:
            transport._reset_empty_waiter()
            if is_reading:
                transport.resume_reading()

    async def _sendfile_past(
        self,
        transport: Any,
        file: IO[bytes],
        offset: int,
        count: int | None,
    ) -> int:
        """Send on a transport that has nothing queued."""
        theirs = transport._sock
        if theirs is None:
            raise ConnectionError("Connection is closed by peer")
        _check_arguments(theirs, file, offset, count)

        with _own_copy(theirs) as sock:

            async def wait(sock: socket.socket) -> None:
                if transport._sock is None:
                    raise ConnectionError("Connection is closed by peer")
                # The end of the connection wakes it as well.
                writable = self.create_future()
                transport._empty_waiter = writable
                await self._wait_on(sock, writable)

            return await self._sendfile_by_kernel(
                sock, wait, file, offset, count
            )

    async def _sendfile_fallback(
        self,
        transport: Any,
        file: IO[bytes],
        offset: int,
        count: int | None,
    ) -> int:
        _seek_first(file, offset)
        size = min(count or _TRANSPORT_BLOCK_BYTES, _TRANSPORT_BLOCK_BYTES)
        block = memoryview(bytearray(size))
        read_into = cast(Any, file).readinto
        sent = 0
        protocol = FallbackProtocol(self, transport)
        try:
            while not count or sent < count:
                room = min(count - sent, size) if count else size
                part = block[:room]
                length = await self.run_in_executor(None, read_into, part)
                if not length:
                    break
                if not SENDFILE_DRAINS_AFTER_WRITE:
                    await protocol.drain()
                transport.write(part[:length])
                if SENDFILE_DRAINS_AFTER_WRITE:
                    await protocol.drain()
                sent += length
            return sent
        finally:
            _seek_last(file, offset, sent)
            protocol.restore()

    async def _sendfile_by_kernel(
        self,
        sock: socket.socket,
        wait: Callable[[socket.socket], Awaitable[None]],
        file: IO[bytes],
        offset: int,
        count: int | None,
    ) -> int:
        size = _regular_size(file)
        end = offset + (size if count is None else count)
        position = offset
        _core.Loop._flush(self)  # what transports wrote before goes first
        try:
            while position < end:
                sent = _sendfile_once(
                    sock, file, position, end - position, position == offset
                )
                if sent == 0:
                    break
                position += max(sent, 0)
                # One call per turn: a fast peer does not get the loop to
                # itself. After the last as well, as asyncio's: it is over
                # when the socket takes more.
                await wait(sock)
        finally:
            if position > offset or SENDFILE_SEEKS_TO_ZERO:
                _move_to(file, position)
        return position - offset

    async def _wait_writable(self, sock: socket.socket) -> None:
        await self._wait_on(sock, self.create_future())

    async def _wait_on(
        self, sock: socket.socket, writable: asyncio.Future[None]
    ) -> None:
        fd = sock.fileno()
        # Refuses an fd that a transport has, as add_writer() does.
        _core.Loop.remove_writer(self, fd)
        handle = _core.Loop._add_writer(self, fd, _wake, writable)
        try:
            await writable
        finally:
            # Cancelled: the user has closed the socket, and whoever has the
            # number now waits for it.
            if not handle.cancelled():
                _core.Loop._remove_writer(self, fd)

    async def _sendfile_by_blocks(
        self,
        sock: socket.socket,
        file: IO[bytes],
        offset: int,
        count: int | None,
    ) -> int:
        _seek_first(file, offset)
        block = memoryview(bytearray(min(count or _BLOCK_BYTES, _BLOCK_BYTES)))
        read_into = cast(Any, file).readinto
        sent = 0
        try:
            while count is None or sent < count:
                room = len(block) if count is None else count - sent
                part = block[:room]
                length = await self.run_in_executor(None, read_into, part)
                if not length:
                    break
                await self.sock_sendall(sock, part[:length])
                sent += length
            return sent
        finally:
            _seek_last(file, offset, sent)


def _sendfile_once(
    sock: socket.socket,
    file: IO[bytes],
    offset: int,
    count: int,
    is_first: bool,
) -> int:
    """Send something; 0 at the end of the file, -1 when there is no room."""
    try:
        # Asked each time: numbers of what the user has closed meanwhile may
        # be somebody else's.
        return os.sendfile(sock.fileno(), _fileno(file), offset, count)
    except (BlockingIOError, InterruptedError):
        return -1
    except OSError as exc:
        if is_first:
            # Sending by blocks may work, or fail with a better error.
            raise asyncio.SendfileNotAvailableError(
                "os.sendfile call failed"
            ) from exc
        if exc.errno == errno.ENOTCONN:
            raise ConnectionError(
                "socket is not connected", errno.ENOTCONN
            ) from exc
        raise


def _check_arguments(
    sock: socket.socket, file: IO[bytes], offset: object, count: object
) -> None:
    if "b" not in getattr(file, "mode", "b"):
        raise ValueError("file should be opened in binary mode")
    if sock.type != socket.SOCK_STREAM:
        raise ValueError("only SOCK_STREAM type sockets are supported")
    if count is not None:
        _check_number(
            count, 1, f"count must be a positive integer (got {count!r})"
        )
    _check_number(
        offset, 0, f"offset must be a non-negative integer (got {offset!r})"
    )


def _check_number(number: object, least: int, complaint: str) -> None:
    if not isinstance(number, int):
        raise TypeError(complaint)
    if number < least:
        raise ValueError(complaint)


def _fileno(file: IO[bytes]) -> int:
    """OSError for a file that is closed, as for a number that is not open."""
    try:
        return file.fileno()
    except ValueError as exc:
        raise OSError(errno.EBADF, os.strerror(errno.EBADF)) from exc


def _move_to(file: IO[bytes], position: int) -> None:
    """Set the descriptor's position, unless the file has been closed."""
    with contextlib.suppress(ValueError):
        os.lseek(file.fileno(), position, os.SEEK_SET)


def _own_copy(sock: Any) -> socket.socket:
    """A descriptor of our own: it stays this connection's, and may be watched,
    whatever becomes of the transport meanwhile.
    """
    try:
        number = socket.dup(sock.fileno())
    except OSError as exc:
        if exc.errno not in (errno.EMFILE, errno.ENFILE):
            raise
        # asyncio needs none: what it sends then is copied.
        raise asyncio.SendfileNotAvailableError(
            "no descriptor is free for os.sendfile()"
        ) from exc
    try:
        # Non-blocking already: that is the open socket's, which both share.
        return socket.socket(sock.family, sock.type, sock.proto, number)
    except BaseException:
        socket.close(number)
        raise


def _regular_size(file: IO[bytes]) -> int:
    """The size of a file that the kernel can send."""
    try:
        return os.fstat(file.fileno()).st_size
    except (AttributeError, io.UnsupportedOperation, OSError) as exc:
        raise asyncio.SendfileNotAvailableError("not a regular file") from exc


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)


def _seek_first(file: IO[bytes], offset: int) -> None:
    if offset or (SENDFILE_SEEKS_TO_ZERO and hasattr(file, "seek")):
        file.seek(offset)


def _seek_last(file: IO[bytes], offset: int, sent: int) -> None:
    if sent > 0 and hasattr(file, "seek"):
        file.seek(offset + sent)
