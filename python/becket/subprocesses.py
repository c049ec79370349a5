# SPDX-License-Identifier: MIT
"""Subprocesses.

asyncio: loop.subprocess_exec(), loop.subprocess_shell().

subprocess.Popen starts them, so that every keyword of it works; pipes.py
connects their pipes, and children.py tells when they end.
"""

import asyncio
import contextlib
import functools
import signal
import subprocess
import warnings
from collections import deque
from collections.abc import Callable
from typing import Any, TypeVar

from becket import versions
from becket.children import Child, watch
from becket.exceptions import logger
from becket.pipes import PipesMixin

P = TypeVar("P", bound=asyncio.BaseProtocol)

_NAMES = {0: "stdin", 1: "stdout", 2: "stderr"}


class WriteSubprocessPipeProto(asyncio.BaseProtocol):
    """Of the pipe to the process: tells its transport."""

    def __init__(self, proc: Any, fd: int) -> None:
        self.proc = proc
        self.fd = fd
        self.pipe: Any = None
        self.disconnected = False

    def __repr__(self) -> str:
        name = type(self).__name__
        return f"<{name} fd={self.fd} pipe={self.pipe!r}>"

    def connection_made(self, transport: Any) -> None:
        self.pipe = transport

    def connection_lost(self, exc: BaseException | None) -> None:
        self.disconnected = True
        self.proc._pipe_connection_lost(self.fd, exc)
        self.proc = None

    def pause_writing(self) -> None:
        self.proc._protocol.pause_writing()

    def resume_writing(self) -> None:
        self.proc._protocol.resume_writing()


class ReadSubprocessPipeProto(WriteSubprocessPipeProto, asyncio.Protocol):
    """Of a pipe from the process."""

    def data_received(self, data: bytes) -> None:
        self.proc._pipe_data_received(self.fd, data)


class _UnixSubprocessTransport(asyncio.SubprocessTransport):
    """A process, and the transports of its pipes.

    Its events wait (in _pending_calls) until the pipes are connected, and are
    told each in a turn of its own. connection_lost() comes when the process
    has ended and its pipes, too; a process that has inherited them can keep
    them open for long.
    """

    def __init__(
        self,
        loop: Any,
        protocol: Any,
        args: Any,
        waiter: "asyncio.Future[None]",
        options: dict[str, Any],
    ) -> None:
        self._closed = False
        super().__init__()
        self._loop = loop
        self._protocol = protocol
        self._proc: Any = None
        self._pid: int | None = None
        self._child: Child | None = None
        self._returncode: int | None = None
        self._finished = False
        self._wakes_at_exit = versions.WAIT_ENDS_AT_EXIT
        # In the order in which they are woken: a set that keeps it.
        self._exit_waiters: dict[asyncio.Future[int], None] = {}
        self._pending_calls: deque[Any] | None = deque()
        self._connecting = -1
        self._pipes: dict[int, Any] = {
            fd: None
            for fd, name in _NAMES.items()
            if options[name] == subprocess.PIPE
        }
        try:
            self._start(args, options)
            self._connect(waiter)
        except BaseException:
            self._give_up()
            raise

    def __repr__(self) -> str:
        words = [type(self).__name__]
        if self._closed:
            words.append("closed")
        if self._pid is not None:
            words.append(f"pid={self._pid}")
        if self._returncode is not None:
            words.append(f"returncode={self._returncode}")
        else:
            words.append("not started" if self._pid is None else "running")
        for fd, name in _NAMES.items():
            if self._pipes.get(fd) is not None:
                words.append(f"{name}={self._pipes[fd].pipe}")
        return f"<{' '.join(words)}>"

    def __del__(self, _warn: Any = warnings.warn) -> None:
        if not self._closed:
            _warn(f"unclosed transport {self!r}", ResourceWarning, source=self)
            self.close()

    def get_protocol(self) -> Any:
        return self._protocol

    def set_protocol(self, protocol: asyncio.BaseProtocol) -> None:
        self._protocol = protocol

    def get_pid(self) -> Any:
        return self._pid

    def get_returncode(self) -> int | None:
        return self._returncode

    def get_pipe_transport(self, fd: int) -> Any:
        return self._pipes[fd].pipe if fd in self._pipes else None

    def send_signal(self, signal: int) -> None:
        if self._proc is None:
            raise ProcessLookupError
        if self._child is not None:
            self._child.send_signal(signal)

    def terminate(self) -> None:
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        self.send_signal(signal.SIGKILL)

    def is_closing(self) -> bool:
        return self._closed

    def close(self) -> None:
        """Close the pipes, and kill the process if it runs."""
        if self._closed:
            return
        self._closed = True
        # The pipes of a closed loop are as dead as it is.
        if self._loop is not None and not self._loop.is_closed():
            for protocol in self._pipes.values():
                if protocol is not None:
                    protocol.pipe.close()
        if self._child is not None and self._child.is_running():
            if self._loop.get_debug():
                logger.warning("Close running child process: kill %r", self)
            # Gone by now, or running as somebody else.
            with contextlib.suppress(ProcessLookupError, PermissionError):
                self._proc.kill()

    # --- its beginning ---

    def _start(self, args: Any, options: dict[str, Any]) -> None:
        self._proc = subprocess.Popen(args, **options)
        self._pid = self._proc.pid
        self._extra["subprocess"] = self._proc  # type: ignore[attr-defined]
        self._child = watch(self._loop, self._proc, self._on_exit)
        if self._loop.get_debug():
            is_command = isinstance(args, (bytes, str))
            logger.debug(
                "process %r created: pid %s",
                args if is_command else args[0],
                self._pid,
            )

    def _connect(self, waiter: "asyncio.Future[None]") -> None:
        connecting = self._connect_pipes(waiter)
        try:
            task = self._loop.create_task(connecting)
        except BaseException:
            connecting.close()
            raise
        task.add_done_callback(functools.partial(self._on_connected, waiter))

    def _on_connected(self, waiter: "asyncio.Future[None]", task: Any) -> None:
        if task.cancelled():  # before it began: its own clean-up has not run
            self._give_up()
            waiter.cancel()

    async def _connect_pipes(self, waiter: "asyncio.Future[None]") -> None:
        try:
            for fd, name in _NAMES.items():
                if getattr(self._proc, name) is not None:
                    await self._connect_pipe(fd, getattr(self._proc, name))
            self._loop.call_soon(self._protocol.connection_made, self)
            for callback, arguments in self._pending_calls or ():
                self._loop.call_soon(callback, *arguments)
            self._pending_calls = None
        except (SystemExit, KeyboardInterrupt):
            raise
        except GeneratorExit:  # the loop is gone
            self._give_up()
            raise
        except BaseException as exc:
            self._give_up()
            if not waiter.done():
                waiter.set_exception(exc)
            return
        if not waiter.done():
            waiter.set_result(None)

    async def _connect_pipe(self, fd: int, pipe: Any) -> None:
        self._connecting = fd
        if fd == 0:
            _, protocol = await self._loop.connect_write_pipe(
                lambda: WriteSubprocessPipeProto(self, fd), pipe
            )
        else:
            _, protocol = await self._loop.connect_read_pipe(
                lambda: ReadSubprocessPipeProto(self, fd), pipe
            )
        self._pipes[fd] = protocol
        if self._closed:
            protocol.pipe.close()

    def _give_up(self) -> None:
        """It has failed to start: leave nothing behind."""
        self._wakes_at_exit = True
        self.close()
        if self._proc is None:
            return
        for fd, name in _NAMES.items():
            pipe = getattr(self._proc, name)
            if pipe is None or self._pipes[fd] is not None:
                continue
            if fd == self._connecting and not self._loop.is_closed():
                # A transport may have it: that forgets its number first.
                self._loop.call_soon(pipe.close)
            else:
                with contextlib.suppress(OSError):  # the others, too
                    pipe.close()
        if self._child is None:  # nobody watches it
            with contextlib.suppress(PermissionError):  # somebody else's
                self._proc.kill()
                self._proc.wait()

    async def _abandon(self) -> None:
        """Nobody is to learn of it: kill the process, and reap it."""
        self._wakes_at_exit = True
        self.close()
        await self._wait()

    # --- its events ---

    def _call(self, callback: Callable[..., object], *arguments: Any) -> None:
        if self._pending_calls is not None:
            self._pending_calls.append((callback, arguments))
        else:
            self._loop.call_soon(callback, *arguments)

    def _pipe_data_received(self, fd: int, data: bytes) -> None:
        self._call(self._protocol.pipe_data_received, fd, data)

    def _pipe_connection_lost(
        self, fd: int, exc: BaseException | None
    ) -> None:
        self._call(self._protocol.pipe_connection_lost, fd, exc)
        self._try_finish()

    def _on_exit(
        self, returncode: int, turns: int = versions.TURNS_TO_EXIT
    ) -> None:
        if turns:
            self._loop.call_soon(self._on_exit, returncode, turns - 1)
        else:
            self._process_exited(returncode)

    def _process_exited(self, returncode: int) -> None:
        if self._loop.get_debug():
            logger.info("%r exited with return code %r", self, returncode)
        self._returncode = returncode
        self._call(self._protocol.process_exited)
        if self._wakes_at_exit:
            self._wake_waiters()
        self._try_finish()

    def _try_finish(self) -> None:
        if self._returncode is None or self._finished:
            return
        pipes = self._pipes.values()
        if all(pipe is not None and pipe.disconnected for pipe in pipes):
            self._finished = True
            self._call(self._call_connection_lost, None)

    def _call_connection_lost(self, exc: None) -> None:
        try:
            self._protocol.connection_lost(exc)
        finally:
            self._wake_waiters()
            self._loop = None
            self._proc = None
            self._child = None
            self._protocol = None

    def _wake_waiters(self) -> None:
        for waiter in self._exit_waiters:
            if not waiter.done():
                waiter.set_result(self._returncode or 0)

    async def _wait(self) -> Any:
        """Wait for the process; return its returncode."""
        if self._returncode is not None:
            return self._returncode
        waiter = self._loop.create_future()
        self._exit_waiters[waiter] = None
        try:
            return await waiter
        finally:
            del self._exit_waiters[waiter]


class SubprocessesMixin(PipesMixin):
    """subprocess_exec() and subprocess_shell()."""

    async def subprocess_shell(
        self,
        protocol_factory: Callable[[], P],
        cmd: bytes | str,
        *,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        universal_newlines: Any = False,
        shell: Any = True,
        bufsize: Any = 0,
        encoding: Any = None,
        errors: Any = None,
        text: Any = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, P]:
        """Run cmd in a shell. Returns (transport, protocol).

        The other keywords are those of subprocess.Popen. ValueError for what
        does not go with pipes of bytes; OSError as Popen.
        """
        if not isinstance(cmd, (bytes, str)):
            raise ValueError("cmd must be a string")
        if universal_newlines:
            raise ValueError("universal_newlines must be False")
        if not shell:
            raise ValueError("shell must be True")
        _refuse_text(bufsize, text, encoding, errors)
        options = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        options |= {"shell": True, "bufsize": bufsize, **kwargs}
        return await self._spawn(
            protocol_factory, f"run shell command {cmd!r}", cmd, options
        )

    async def subprocess_exec(
        self,
        protocol_factory: Callable[[], P],
        program: Any,
        *args: Any,
        stdin: Any = subprocess.PIPE,
        stdout: Any = subprocess.PIPE,
        stderr: Any = subprocess.PIPE,
        universal_newlines: Any = False,
        shell: Any = False,
        bufsize: Any = 0,
        encoding: Any = None,
        errors: Any = None,
        text: Any = None,
        **kwargs: Any,
    ) -> tuple[asyncio.SubprocessTransport, P]:
        """Run program with args. Returns (transport, protocol).

        The other keywords are those of subprocess.Popen. ValueError for what
        does not go with pipes of bytes; OSError as Popen.
        """
        if universal_newlines:
            raise ValueError("universal_newlines must be False")
        if shell:
            raise ValueError("shell must be False")
        _refuse_text(bufsize, text, encoding, errors)
        options = {"stdin": stdin, "stdout": stdout, "stderr": stderr}
        options |= {"shell": False, "bufsize": bufsize, **kwargs}
        return await self._spawn(
            protocol_factory,
            f"execute program {program!r}",
            (program, *args),
            options,
        )

    async def _spawn(
        self,
        protocol_factory: Callable[[], P],
        deed: str,
        args: Any,
        options: dict[str, Any],
    ) -> tuple[asyncio.SubprocessTransport, P]:
        protocol = protocol_factory()
        is_debug = self.get_debug()
        if is_debug:
            logger.debug("%s", " ".join([deed, *_describe_pipes(options)]))
        waiter = self.create_future()
        transport = _UnixSubprocessTransport(
            self, protocol, args, waiter, options
        )
        try:
            await waiter
        except (SystemExit, KeyboardInterrupt):
            raise
        except GeneratorExit:  # nothing can be waited for any more
            transport.close()
            raise
        except BaseException:
            await transport._abandon()
            raise
        if is_debug:
            logger.info("%s: %r", deed, transport)
        return transport, protocol


def _refuse_text(bufsize: Any, text: Any, encoding: Any, errors: Any) -> None:
    if bufsize != 0:
        raise ValueError("bufsize must be 0")
    if text:
        raise ValueError("text must be False")
    if encoding is not None:
        raise ValueError("encoding must be None")
    if errors is not None:
        raise ValueError("errors must be None")


def _describe_pipes(options: dict[str, Any]) -> list[str]:
    """What debug mode tells of a process that is about to start."""
    shown = {
        name: _describe_pipe(options[name])
        for name in _NAMES.values()
        if options[name] is not None
    }
    if options["stderr"] == subprocess.STDOUT and "stdout" in shown:
        del shown["stderr"]
        shown["stdout=stderr"] = shown.pop("stdout")
    return [f"{name}={text}" for name, text in shown.items()]


def _describe_pipe(pipe: Any) -> str:
    if pipe == subprocess.PIPE:
        return "<pipe>"
    return "<stdout>" if pipe == subprocess.STDOUT else repr(pipe)
