# SPDX-License-Identifier: MIT
"""Sending a file on a socket of the user.

asyncio: loop.sock_sendfile().
"""

import asyncio
import contextlib
import errno
import io
import os
import socket
from typing import IO, Any, cast

from becket import _core
from becket.sockets import SocketsMixin, refuse_ssl_socket

# Read and sent at a time where the file cannot go straight from the kernel:
# what asyncio takes.
_BLOCK_BYTES = 256 * 1024


class SendfileMixin(SocketsMixin):
    """sock_sendfile(): by the kernel, or by reading and sending."""

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
            return await self._sendfile_by_kernel(sock, file, offset, count)
        except asyncio.SendfileNotAvailableError:
            if not fallback:
                raise
        return await self._sendfile_by_blocks(sock, file, offset, count)

    async def _sendfile_by_kernel(
        self,
        sock: socket.socket,
        file: IO[bytes],
        offset: int,
        count: int | None,
    ) -> int:
        size = _regular_size(file)
        end = offset + (size if count is None else count)
        position = offset
        try:
            while position < end:
                sent = await self._sendfile_once(
                    sock, file, position, end - position
                )
                if sent == 0:
                    break
                position += sent
                if position < end:
                    # One call per turn: a fast peer does not get the loop
                    # to itself.
                    await self._wait_writable(sock)
        except OSError as exc:
            if position == offset:
                # Sending by blocks may work, or fail with a better error.
                raise asyncio.SendfileNotAvailableError(
                    "os.sendfile call failed"
                ) from exc
            if exc.errno == errno.ENOTCONN:
                raise ConnectionError(
                    "socket is not connected", errno.ENOTCONN
                ) from exc
            raise
        finally:
            if position > offset:
                _move_to(file, position)
        return position - offset

    async def _sendfile_once(
        self, sock: socket.socket, file: IO[bytes], offset: int, count: int
    ) -> int:
        """Send something; 0 at the end of the file."""
        while True:
            # Asked each time: numbers of what the user has closed meanwhile
            # may be somebody else's.
            fd = _fileno(file)
            try:
                return os.sendfile(sock.fileno(), fd, offset, count)
            except (BlockingIOError, InterruptedError):
                await self._wait_writable(sock)

    async def _wait_writable(self, sock: socket.socket) -> None:
        writable = self.create_future()
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
        if offset:
            file.seek(offset)
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
            if sent > 0 and hasattr(file, "seek"):
                file.seek(offset + sent)


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


def _regular_size(file: IO[bytes]) -> int:
    """The size of a file that the kernel can send."""
    try:
        return os.fstat(file.fileno()).st_size
    except (AttributeError, io.UnsupportedOperation, OSError) as exc:
        raise asyncio.SendfileNotAvailableError("not a regular file") from exc


def _wake(future: asyncio.Future[None]) -> None:
    if not future.done():
        future.set_result(None)
