# SPDX-License-Identifier: MIT
"""What the trials of the safety tests are played on.

A Stage is a loop with a few sockets and files around it; thousands of trials
run on one. A World is what one trial of a scenario works with: sockets that
the loop is given, peers at their other ends, and what came of it all.
"""

import asyncio
import contextlib
import io
import os
import selectors
import shutil
import socket
import sys
import tempfile
import time

from support.loops import make_loop
from support.net import LIMIT, reset, silent_address

FILE_BYTES = 100_000


class NoFaults:
    """Where nothing is made to fail."""

    @contextlib.contextmanager
    def aside(self):
        yield


class Stage:
    """A loop, and what all trials on it share. Close it at the end."""

    def __init__(self, backend, faults=None):
        self.backend = backend
        self.faults = faults or NoFaults()
        self.worlds = 0
        self.reports = []
        self.unraisable = []
        self._stack = contextlib.ExitStack()
        enter = self._stack.enter_context
        self.folder = tempfile.mkdtemp()
        self._stack.callback(shutil.rmtree, self.folder)
        self.listener = enter(nonblocking_listener())
        self.address = self.listener.getsockname()
        self.unix_address = f"{self.folder}/listener"
        self.unix_listener = enter(nonblocking_listener(self.unix_address))
        self.silent = enter(silent_address())
        refusing = enter(socket.socket())
        refusing.bind(("127.0.0.1", 0))
        self.refused = refusing.getsockname()
        self.file_path = f"{self.folder}/file"
        self.content = os.urandom(FILE_BYTES)
        with open(self.file_path, "wb") as file:
            file.write(self.content)
        self.loop = make_stage_loop(backend)
        self._stack.callback(self._close_loop)
        self.loop.set_exception_handler(self._note)
        hook, sys.unraisablehook = sys.unraisablehook, self._note_unraisable
        self._stack.callback(setattr, sys, "unraisablehook", hook)

    def run(self, coroutine):
        return self.loop.run_until_complete(coroutine)

    def close(self):
        self._stack.close()

    def _note(self, loop, context):
        self.reports.append(context)

    def _note_unraisable(self, unraisable):
        # The object itself would live on.
        self.unraisable.append(unraisable.exc_value)

    def _close_loop(self):
        if not self.loop.is_closed():
            self.run(self.loop.shutdown_default_executor())
            self.loop.close()


def make_stage_loop(backend):
    """As make_loop(), but select(2) would fail for a socket closed early."""
    if backend != "external":
        return make_loop(backend)
    import becket

    return becket.SelectorEventLoop(selectors.PollSelector())


def family_of(address):
    """Of (host, port), or of a Unix socket's path or abstract name."""
    return socket.AF_INET if isinstance(address, tuple) else socket.AF_UNIX


def nonblocking_listener(address=("127.0.0.1", 0)):
    sock = socket.socket(family_of(address))
    sock.setblocking(False)
    sock.bind(address)
    sock.listen(64)
    return sock


class PipeEnd:
    """A pipe's end as a user has it: a file object without a buffer, which
    can give its number away as a socket can.
    """

    def __init__(self, number):
        self._number = number

    def fileno(self):
        return self._number

    def detach(self):
        number, self._number = self._number, -1
        return number

    def close(self):
        number = self.detach()
        if number >= 0:
            os.close(number)


def number_of(given):
    """Of a socket, a PipeEnd or a file; -1 once it is closed."""
    return -1 if getattr(given, "closed", False) else given.fileno()


class Peer:
    """The other end, in the hands of the test: what it calls never fails.

    Bytes are checked as they come: anything but the beginning of what is
    expected was meant for somebody else.
    """

    def __init__(self, world, sock, expected=b""):
        self._world = world
        self._sock = sock
        self._expected = expected
        self.data = bytearray()
        self.is_at_end = False

    def expect(self, data):
        """More that may come."""
        self._expected += data

    def send(self, data):
        with self._world.aside(), contextlib.suppress(OSError):
            # The connection may have ended by a fault.
            self._sock.send(data)

    async def reads(self, count):
        """Wait for count bytes more; EOFError when they do not come."""
        count += len(self.data)
        deadline = time.monotonic() + LIMIT
        while len(self.data) < count and not self.is_at_end:
            self.look()
            if time.monotonic() > deadline:
                raise TimeoutError("the peer got nothing")
            if len(self.data) < count:
                await asyncio.sleep(0)
        if len(self.data) < count:
            raise EOFError("the peer got an early end")

    def look(self):
        """Take what is there."""
        with self._world.aside():
            try:
                data = self._sock.recv(1 << 16)
            except BlockingIOError:
                return
            except OSError:
                data = b""
        self.is_at_end = not data
        self.data += data
        self.check()

    def check(self):
        if not self._expected.startswith(self.data):
            raise AssertionError(
                f"a peer got {bytes(self.data[:100])!r}, expected"
                f" {self._expected[:100]!r}"
            )

    def shut(self):
        with self._world.aside(), contextlib.suppress(OSError):
            self._sock.shutdown(socket.SHUT_WR)

    def close(self):
        with self._world.aside():
            self._sock.close()

    def reset(self):
        with self._world.aside():
            if (
                self._sock.fileno() >= 0
                and self._sock.family != socket.AF_UNIX
            ):
                reset(self._sock)
            self._sock.close()

    def drain(self):
        """Everything that still comes, checked."""
        while self._sock.fileno() >= 0 and not self.is_at_end:
            before = len(self.data)
            self.look()
            if len(self.data) == before:
                return


class Talker(asyncio.Protocol):
    """A protocol that checks what it receives, and can be waited for."""

    def __init__(self, world, expected=b""):
        self._world = world
        self._expected = expected
        self.data = bytearray()
        self.transport = None
        self.is_lost = False
        self.is_at_end = False
        self.is_paused = False
        self.error = None
        self._changed = None
        world.protocols.append(self)

    def expect(self, data):
        self._expected += data

    def connection_made(self, transport):
        self.transport = transport
        self._world.transports.append(transport)
        self._tell()

    def data_received(self, data):
        if self.is_lost:
            raise AssertionError("data_received after connection_lost")
        self.data += data
        self.check()
        self._tell()

    def eof_received(self):
        self.is_at_end = True
        self._tell()

    def connection_lost(self, exc):
        if self.is_lost:
            raise AssertionError("connection_lost came twice")
        self.is_lost = True
        self.error = exc
        self._tell()

    def pause_writing(self):
        self.is_paused = True

    def resume_writing(self):
        self.is_paused = False
        self._tell()

    def check(self):
        if not self._expected.startswith(self.data):
            raise AssertionError(
                f"a protocol got {bytes(self.data[:100])!r}, expected"
                f" {self._expected[:100]!r}"
            )

    def _tell(self):
        changed, self._changed = self._changed, None
        if changed is not None and not changed.done():
            changed.set_result(None)

    async def until(self, condition):
        """Wait for a change that makes it true; EOFError once lost."""
        while not condition(self):
            if self.is_lost:
                raise self.error or EOFError("the connection was lost")
            self._changed = self._world.loop.create_future()
            await self._changed

    async def reads(self, count):
        count += len(self.data)
        await self.until(lambda _: len(self.data) >= count)

    async def ends(self):
        if not self.is_lost:
            await self.until(lambda _: self.is_lost)


class BufferedTalker(Talker, asyncio.BufferedProtocol):
    """The same with a buffer of its own."""

    def __init__(self, world, expected=b""):
        super().__init__(world, expected)
        self._buffer = bytearray(4096)

    data_received = None

    def get_buffer(self, sizehint):
        return self._buffer

    def buffer_updated(self, nbytes):
        Talker.data_received(self, self._buffer[:nbytes])


class World:
    """One trial's own things."""

    def __init__(self, stage):
        stage.worlds += 1
        self.stage = stage
        self.loop = stage.loop
        self.number = stage.worlds
        self.given = []  # sockets that the loop is given
        self.files = []  # files that it is given
        self.peers = []
        self.protocols = []
        self.transports = []
        self.servers = []
        self.told = []  # errors that a scenario was told and kept to itself
        self._kept = []  # numbers that were detached, with their inodes
        self._others = contextlib.ExitStack()

    def aside(self):
        """What the test calls for itself in here never fails."""
        return self.stage.faults.aside()

    def keep(self, resource):
        """Close it at the end, whatever happens to it."""
        self._others.callback(resource.close)
        return resource

    def token(self, name="data"):
        """Bytes that only this trial sends."""
        return f"<trial {self.number}: {name}>".encode()

    def talker(self, expected=b"", kind=Talker):
        return kind(self, expected)

    def peer(self, sock, expected=b""):
        sock.setblocking(False)
        peer = Peer(self, sock, expected)
        self.peers.append(peer)
        return peer

    def give(self, sock):
        """A socket that is the user's and that the loop will be given."""
        sock.setblocking(False)
        self.given.append(sock)
        return sock

    def give_end(self, end):
        """The same of the end of a pipe, or of a file that is one."""
        os.set_blocking(end.fileno(), False)
        self.given.append(end)
        return end

    def path(self, name="socket"):
        """Where nothing is yet; what will be there is removed."""
        path = f"{self.stage.folder}/{self.number}-{name}"
        self._others.callback(remove, path)
        return path

    def pair(self, expected=b"", buffers=None):
        """A connected TCP socket to give away, and the peer."""
        ours = socket.socket()
        if buffers:
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, buffers)
        # On the loopback it is made at once, as the listener has room.
        ours.connect(self.stage.address)
        theirs, _ = self.stage.listener.accept()
        return self.give(ours), self.peer(theirs, expected)

    def unix_pair(self, expected=b""):
        """The same over a Unix socket."""
        ours, theirs = socket.socketpair()
        return self.give(ours), self.peer(theirs, expected)

    def datagrams(self):
        """A UDP socket to give away, and its peer's."""
        ours = socket.socket(type=socket.SOCK_DGRAM)
        ours.bind(("127.0.0.1", 0))
        theirs = socket.socket(type=socket.SOCK_DGRAM)
        theirs.bind(("127.0.0.1", 0))
        return self.give(ours), self.keep(theirs)

    def listening(self, address=("127.0.0.1", 0)):
        """A listening socket to give away."""
        sock = socket.socket(family_of(address))
        sock.bind(address)
        sock.listen(16)
        return self.give(sock)

    def open_file(self):
        file = open(self.stage.file_path, "rb")  # noqa: SIM115
        self.files.append(file)
        return file

    def call(self, address, expected=b""):
        """A peer that connects to a server of the loop."""
        with self.aside():
            sock = socket.socket(family_of(address))
            peer = self.peer(sock, expected)
            with contextlib.suppress(BlockingIOError):
                sock.connect(address)
        return peer

    async def answer(self, expected=b"", caller=None, listener=None):
        """The peer of a connection that the loop has made.

        With caller the one of this address; others have been given up.
        """
        listener = listener or self.stage.listener
        deadline = time.monotonic() + LIMIT
        while True:
            with self.aside(), contextlib.suppress(BlockingIOError):
                sock, address = listener.accept()
                if caller in (None, address):
                    return self.peer(sock, expected)
                sock.close()
            if time.monotonic() > deadline:
                raise TimeoutError("nobody connected")
            await asyncio.sleep(0)

    # --- what a user does at the worst moment ---

    def close_given(self):
        with self.aside():
            for sock in self.given:
                sock.close()

    def detach_given(self):
        """And close the number, which is then a canary's."""
        with self.aside():
            for number in self._detached():
                os.close(number)

    def keep_given(self):
        """Detach, and go on using the descriptor for something else."""
        with self.aside():
            for number in self._detached():
                self._kept.append((number, os.fstat(number).st_ino))

    def _detached(self):
        """The numbers of what was given; files that keep them are closed."""
        for given in self.given:
            if isinstance(given, io.FileIO):
                given.close()
            elif (number := given.detach()) >= 0:
                yield number

    def shut_given(self):
        with self.aside():
            for sock in self.given:
                if isinstance(sock, socket.socket):
                    with contextlib.suppress(OSError):
                        sock.shutdown(socket.SHUT_RDWR)

    def close_files(self):
        for file in self.files:
            with contextlib.suppress(OSError):  # made to fail, it is closed
                file.close()

    def close_peers(self):
        for peer in self.peers:
            peer.close()

    def reset_peers(self):
        for peer in self.peers:
            peer.reset()

    def abort_transports(self):
        for transport in self.transports:
            # Pipes that are read are closed without more ado.
            getattr(transport, "abort", transport.close)()

    def close_transports(self):
        for transport in self.transports:
            transport.close()

    def close_servers(self):
        for server in self.servers:
            server.close()

    # --- the end ---

    def open_given(self):
        """Which of the given sockets are open: 'open closed'."""
        return " ".join(
            "closed" if number_of(given) < 0 else "open"
            for given in self.given
        )

    def end_goodbyes(self):
        """Of TLS that was closed, to peers that are not driven any more.

        Their sockets are about to be closed, which epoll does not tell: the
        numbers would be those of open connections until the goodbye's end.
        """
        for transport in self.transports:
            if (
                transport.is_closing()
                and transport.get_protocol() is not None
                and transport.get_extra_info("ssl_object") is not None
            ):
                transport.abort()

    def check(self):
        """Nothing was received by those for whom it was not meant."""
        for peer in self.peers:
            peer.drain()
        for party in (*self.peers, *self.protocols):
            party.check()
        for number, inode in self._kept:
            if os.fstat(number).st_ino != inode:
                raise AssertionError(f"detached {number} is another file")

    def close(self):
        for number, _ in self._kept:
            os.close(number)
        self._kept.clear()
        for sock in self.given:
            sock.close()
        self.close_files()
        self.close_peers()
        self._others.close()
        for listener in (self.stage.listener, self.stage.unix_listener):
            with contextlib.suppress(BlockingIOError):
                while True:
                    listener.accept()[0].close()


def remove(path):
    with contextlib.suppress(FileNotFoundError):
        os.unlink(path)
