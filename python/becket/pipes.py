# SPDX-License-Identifier: MIT
"""Pipes, FIFOs, sockets and character devices, each in one direction.

asyncio: loop.connect_read_pipe() and loop.connect_write_pipe().

The pipe stays an object that the user has as well, and may close: its number
is then somebody else's. So it is asked for its number at every system call,
and what watches that number by then is left alone.
"""

import asyncio
import errno
import os
import stat
import warnings
from asyncio import constants, transports
from collections.abc import Callable
from typing import Any, TypeVar

from becket.base import LoopBase
from becket.exceptions import logger

P = TypeVar("P", bound=asyncio.BaseProtocol)


def _wake(waiter: asyncio.Future[None] | None) -> None:
    if waiter is not None and not waiter.done():
        waiter.set_result(None)


class _PipeMixin:
    """What both directions share."""

    _closing: bool
    _fileno: Any
    _handles: dict[str, Any]  # of what was given to the loop to watch
    _loop: Any
    _pipe: Any
    _protocol: Any

    def _take(self, pipe: Any, protocol: Any, refusal: str) -> int:
        """Take the pipe over; return the mode of its file."""
        self._pipe = None  # __del__() leaves alone what was not taken
        self._handles = {}
        fileno = pipe.fileno()
        mode = os.fstat(fileno).st_mode
        kinds = (stat.S_ISFIFO, stat.S_ISSOCK, stat.S_ISCHR)
        if not any(is_kind(mode) for is_kind in kinds):
            self._fileno = self._protocol = None
            raise ValueError(refusal)
        os.set_blocking(fileno, False)
        self._pipe = pipe
        self._fileno = fileno
        self._protocol = protocol
        return mode

    def _describe(self, polling: bool, *more: str) -> str:
        words = [type(self).__name__]
        if self._pipe is None:
            words.append("closed")
        elif self._closing:
            words.append("closing")
        words.append(f"fd={self._fileno}")
        if self._pipe is None:
            words.append("closed")
        else:
            words += ["polling" if polling else "idle", *more]
        return f"<{' '.join(words)}>"

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_protocol(self) -> Any:
        return self._protocol

    def is_closing(self) -> bool:
        return self._closing

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if self._pipe is not None:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self._pipe.close()

    def _report(self, exc: BaseException, message: str, quiet: bool) -> None:
        if not quiet:
            self._loop.call_exception_handler(
                {
                    "message": message,
                    "exception": exc,
                    "transport": self,
                    "protocol": self._protocol,
                }
            )
        elif self._loop.get_debug():
            logger.debug("%r: %s", self, message, exc_info=True)

    def _number(self) -> int:
        """The pipe's number now; EBADF once the user has closed it."""
        try:
            number: int = self._pipe.fileno()
        except ValueError:  # a file object's word for it
            number = -1
        if number != self._fileno:
            raise OSError(errno.EBADF, os.strerror(errno.EBADF))
        return number

    def _watch(self, event: str, callback: Callable[[], object]) -> bool:
        """Whether it is watched; one that cannot be is lost."""
        add = getattr(self._loop, f"_add_{event}")
        try:
            self._handles[event] = add(self._number(), callback)
        except OSError as exc:
            self._close(exc)
            return False
        return True

    def _unwatch(self, event: str) -> None:
        if event not in self._handles:
            return
        handle = self._handles.pop(event)
        # Cancelled: somebody else has taken its place.
        if handle is None or not handle.cancelled():
            getattr(self._loop, f"_remove_{event}")(self._fileno)

    def _close(self, exc: BaseException | None) -> None:
        raise NotImplementedError

    def _call_connection_lost(self, exc: BaseException | None) -> None:
        if self._pipe is None:  # told already
            return
        # Nothing may watch a descriptor whose number is about to be free.
        self._unwatch("reader")
        self._unwatch("writer")
        try:
            self._protocol.connection_lost(exc)
        finally:
            pipe, self._pipe = self._pipe, None
            self._protocol = None
            loop, self._loop = self._loop, None
            try:
                loop._flush()  # what streams wrote before goes first
            finally:
                pipe.close()


class _UnixReadPipeTransport(_PipeMixin, asyncio.ReadTransport):
    """Hands what arrives to data_received(); at the end, eof_received()."""

    max_size = 256 * 1024  # bytes of one turn

    def __init__(
        self,
        loop: Any,
        pipe: Any,
        protocol: Any,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(extra)
        self._extra["pipe"] = pipe  # type: ignore[attr-defined]
        self._loop = loop
        self._closing = False
        self._paused = False
        self._polling = False
        self._take(pipe, protocol, "Pipe transport is for pipes/sockets only.")
        loop.call_soon(protocol.connection_made, self)
        loop.call_soon(self._start)
        loop.call_soon(_wake, waiter)

    def __repr__(self) -> str:
        return self._describe(self._polling)

    def is_reading(self) -> bool:
        return not self._paused and not self._closing

    def pause_reading(self) -> None:
        if not self.is_reading():
            return
        self._paused = True
        self._stop()
        if self._loop.get_debug():
            logger.debug("%r pauses reading", self)

    def resume_reading(self) -> None:
        if self._closing or not self._paused:
            return
        self._paused = False
        self._start()
        if self._loop.get_debug():
            logger.debug("%r resumes reading", self)

    def close(self) -> None:
        if not self._closing:
            self._close(None)

    def _start(self) -> None:
        if self.is_reading():
            self._polling = self._watch("reader", self._read_ready)

    def _stop(self) -> None:
        self._polling = False
        self._unwatch("reader")

    def _read_ready(self) -> None:
        try:
            data = os.read(self._number(), self.max_size)
        except (BlockingIOError, InterruptedError):
            return
        except OSError as exc:
            # EIO: how a terminal ends.
            message = "Fatal read error on pipe transport"
            self._report(exc, message, exc.errno == errno.EIO)
            self._close(exc)
            return
        if data:
            self._protocol.data_received(data)
            return
        if self._loop.get_debug():
            logger.info("%r was closed by peer", self)
        self._closing = True
        self._stop()
        self._loop.call_soon(self._protocol.eof_received)
        self._loop.call_soon(self._call_connection_lost, None)

    def _close(self, exc: BaseException | None) -> None:
        if self._pipe is None:
            return
        self._closing = True
        self._stop()
        self._loop.call_soon(self._call_connection_lost, exc)


class _UnixWritePipeTransport(
    _PipeMixin,
    transports._FlowControlMixin,
    asyncio.WriteTransport,
):
    """Writes at once what the pipe takes, and the rest as it takes more."""

    def __init__(
        self,
        loop: Any,
        pipe: Any,
        protocol: Any,
        waiter: asyncio.Future[None] | None = None,
        extra: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(extra, loop)
        self._extra["pipe"] = pipe  # type: ignore[attr-defined]
        self._buffer = bytearray()
        self._conn_lost = 0
        self._closing = False
        mode = self._take(
            pipe,
            protocol,
            "Pipe transport is only for pipes, sockets and character devices",
        )
        loop.call_soon(protocol.connection_made, self)
        # The end that is written becomes readable when the other one closes;
        # a terminal becomes so when somebody types.
        if not stat.S_ISCHR(mode):
            loop.call_soon(self._watch_peer)
        loop.call_soon(_wake, waiter)

    def __repr__(self) -> str:
        size = self.get_write_buffer_size()
        return self._describe(bool(self._buffer), f"bufsize={size}")

    def get_write_buffer_size(self) -> int:
        return len(self._buffer)

    def write(self, data: Any) -> None:
        assert isinstance(data, (bytes, bytearray, memoryview)), repr(data)
        if isinstance(data, bytearray):
            data = memoryview(data)
        if not data:
            return
        if not self._buffer and self._loop is not None:
            self._loop._flush()  # what streams wrote before goes first
        if self._conn_lost or self._closing:
            self._count_lost_write()
            return
        if not self._buffer:
            sent = self._send(data)
            if sent is None or sent == len(data):
                return
            if sent > 0:
                data = memoryview(data)[sent:]
            if not self._watch("writer", self._write_ready):
                return
        self._buffer += data
        self._maybe_pause_protocol()  # type: ignore[attr-defined]

    def can_write_eof(self) -> bool:
        return True

    def write_eof(self) -> None:
        if self._closing:
            return
        assert self._pipe
        self._closing = True
        if not self._buffer:
            self._unwatch("reader")
            self._loop.call_soon(self._call_connection_lost, None)

    def close(self) -> None:
        if self._pipe is not None and not self._closing:
            self.write_eof()

    def abort(self) -> None:
        self._close(None)

    def _count_lost_write(self) -> None:
        if self._conn_lost >= constants.LOG_THRESHOLD_FOR_CONNLOST_WRITES:
            logger.warning(
                "pipe closed by peer or os.write(pipe, data) raised exception."
            )
        self._conn_lost += 1

    def _send(self, data: Any) -> int | None:
        """How much the pipe took; None when it is broken."""
        try:
            return os.write(self._number(), data)
        except (BlockingIOError, InterruptedError):
            return 0
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._conn_lost += 1
            message = "Fatal write error on pipe transport"
            self._report(exc, message, isinstance(exc, OSError))
            self._close(exc)
            return None

    def _watch_peer(self) -> None:
        if self._pipe is not None and (self._buffer or not self._closing):
            self._watch("reader", self._read_ready)

    def _read_ready(self) -> None:
        if self._loop.get_debug():
            logger.info("%r was closed by peer", self)
        self._close(BrokenPipeError() if self._buffer else None)

    def _write_ready(self) -> None:
        assert self._buffer, "Data should not be empty"
        sent = self._send(self._buffer)
        if sent is None:
            return
        del self._buffer[:sent]
        if self._buffer:
            return
        self._unwatch("writer")
        # It may write more, and close: then that leaves first.
        self._maybe_resume_protocol()  # type: ignore[attr-defined]
        if self._closing and not self._buffer:
            self._call_connection_lost(None)

    def _close(self, exc: BaseException | None) -> None:
        if self._pipe is None:
            return
        self._closing = True
        self._unwatch("writer")
        self._buffer.clear()
        self._unwatch("reader")
        self._loop.call_soon(self._call_connection_lost, exc)


class PipesMixin(LoopBase):
    """connect_read_pipe(), connect_write_pipe()."""

    async def connect_read_pipe(
        self, protocol_factory: Callable[[], P], pipe: Any
    ) -> tuple[asyncio.ReadTransport, P]:
        """Read from pipe, a file object that the transport takes over.

        Returns (transport, protocol). ValueError for what is no pipe, FIFO,
        socket or character device.
        """
        protocol = protocol_factory()
        waiter = self.create_future()
        transport = _UnixReadPipeTransport(self, pipe, protocol, waiter)
        await self._pipe_connected("Read", transport, waiter, pipe)
        return transport, protocol

    async def connect_write_pipe(
        self, protocol_factory: Callable[[], P], pipe: Any
    ) -> tuple[asyncio.WriteTransport, P]:
        """Write to pipe, a file object that the transport takes over.

        Returns (transport, protocol). ValueError as connect_read_pipe().
        """
        protocol = protocol_factory()
        waiter = self.create_future()
        transport = _UnixWritePipeTransport(self, pipe, protocol, waiter)
        await self._pipe_connected("Write", transport, waiter, pipe)
        return transport, protocol

    async def _pipe_connected(
        self, kind: str, transport: Any, waiter: Any, pipe: Any
    ) -> None:
        try:
            await waiter
        except BaseException:
            if not self.is_closed():  # else it is collected, with a warning
                transport.close()
            raise
        if self.get_debug():
            logger.debug(
                "%s pipe %r connected: (%r, %r)",
                kind,
                pipe.fileno(),
                transport,
                transport.get_protocol(),
            )
