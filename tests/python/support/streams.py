# SPDX-License-Identifier: MIT
"""asyncio's StreamReader twice: served by Python alone, and by the loop.

Both get the same bytes from a real socket, in the same turns of the loop, so
that whatever a program sees of one it has to see of the other.
"""

import asyncio
import contextlib
import fcntl
import socket
import ssl
import sys
import termios
import time
import traceback

from support.certificates import NAME, client_context, server_context
from support.net import LIMIT, tcp_pair

# Each async method of a reader, with arguments by which it reads b"four\n".
READ_METHODS = {
    "read": (5,),
    "readexactly": (5,),
    "readuntil": (b"\n",),
    "readline": (),
    "__anext__": (),
}
RECEIVE_MAX = 1 << 18  # as asyncio's and becket's transports
RECORD_MAX = 1 << 14
RECORD_OVERHEAD = 22  # TLS 1.3: header, type, tag


CLOSE_WAIT = 8  # linux/tcp_states.h


def bytes_waiting(sock):
    """How much a socket has received and not handed out."""
    answer = fcntl.ioctl(sock.fileno(), termios.FIONREAD, bytes(4))
    return int.from_bytes(answer, sys.byteorder)


def tcp_state(sock):
    """The first byte of TCP_INFO (linux/tcp.h)."""
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 1)[0]


def wait_until(condition):
    """Beside the loop: what is under way on the loopback arrives soon."""
    deadline = time.monotonic() + LIMIT
    while not condition():
        assert time.monotonic() < deadline, "nothing arrives"
        time.sleep(0)


class PlainTransport(asyncio.Transport):
    """What a StreamReader needs of a transport, on add_reader()."""

    def __init__(self, loop, sock, reader):
        super().__init__()
        self._loop = loop
        self._sock = sock
        self._reader = reader
        self._is_reading = False
        self._is_at_eof = False
        self._sock.setblocking(False)
        reader.set_transport(self)
        self.resume_reading()

    def _on_readable(self):
        data = self._sock.recv(RECEIVE_MAX)
        if data:
            self._reader.feed_data(data)
        else:
            self._is_at_eof = True
            self._loop.remove_reader(self._sock)
            self._reader.feed_eof()

    def is_reading(self):
        return self._is_reading

    def pause_reading(self):
        self._is_reading = False
        self._loop.remove_reader(self._sock)

    def resume_reading(self):
        self._is_reading = True
        if not self._is_at_eof:
            self._loop.add_reader(self._sock, self._on_readable)

    def close(self):
        self._loop.remove_reader(self._sock)
        self._sock.close()


@contextlib.asynccontextmanager
async def plain_reader(limit):
    """A reader that no loop knows, and the socket that feeds it."""
    loop = asyncio.get_running_loop()
    ours, peer = tcp_pair()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    transport = PlainTransport(loop, ours, reader)
    try:
        await asyncio.sleep(0)
        yield Connection(reader, transport, ours, peer)
    finally:
        transport.close()
        peer.close()


@contextlib.asynccontextmanager
async def loop_reader(limit):
    """The reader of a connection of the loop's, and its peer."""
    loop = asyncio.get_running_loop()
    ours, peer = tcp_pair()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    try:
        await asyncio.sleep(0)
        yield Connection(reader, transport, ours, peer)
    finally:
        peer.close()
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def tls_reader(limit):
    """The same over TLS."""
    loop = asyncio.get_running_loop()
    reader = asyncio.StreamReader(limit=limit, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    ours, theirs = tcp_pair()
    server = server_context(ssl.TLSVersion.TLSv1_3)
    server.num_tickets = 0  # nothing comes but what is fed
    peer, (transport, _) = await asyncio.gather(
        asyncio.to_thread(server.wrap_socket, theirs, server_side=True),
        loop.create_connection(
            lambda: protocol,
            sock=ours,
            ssl=client_context(),
            server_hostname=NAME,
        ),
    )
    try:
        await asyncio.sleep(0)
        yield TlsConnection(reader, transport, ours, peer)
    finally:
        peer.close()
        transport.abort()
        await asyncio.sleep(0)
        await asyncio.sleep(0)


@contextlib.asynccontextmanager
async def connected(limit=1 << 16):
    """The same with its writer, which has written before."""
    async with loop_reader(limit) as connection:
        transport = connection.transport
        loop = asyncio.get_running_loop()
        writer = asyncio.StreamWriter(
            transport, transport.get_protocol(), connection.reader, loop
        )
        writer.write(b"")
        writer.write(b"first")
        connection.writer = writer
        yield connection


class Connection:
    """A reader under test, and its peer."""

    def __init__(self, reader, transport, ours, peer):
        self.reader = reader
        self.transport = transport
        self._ours = ours
        self._peer = peer

    def feed(self, data):
        """The next poll finds this."""
        before = bytes_waiting(self._ours)
        self._peer.sendall(data)
        wait_until(lambda: bytes_waiting(self._ours) == before + len(data))

    def feed_eof(self):
        self._peer.shutdown(socket.SHUT_WR)
        wait_until(lambda: tcp_state(self._ours) == CLOSE_WAIT)

    def read_all_written(self):
        """Blocks until the loop's side has nothing more to send."""
        self._peer.settimeout(0.2)
        with contextlib.suppress(TimeoutError):
            while self._peer.recv(1 << 20):
                pass

    def look(self):
        """What a program sees of the reader."""
        reader = self.reader
        return {
            "buffer": bytes(reader._buffer),
            "eof": reader._eof,
            "paused": reader._paused,
            "waits": reader._waiter is not None,
            "exception": repr(reader.exception()),
            "at_eof": reader.at_eof(),
            "reading": self.transport.is_reading(),
        }


class TlsConnection(Connection):
    def feed(self, data):
        records = -(-len(data) // RECORD_MAX)
        size = len(data) + records * RECORD_OVERHEAD
        before = bytes_waiting(self._ours)
        self._peer.sendall(data)
        wait_until(lambda: bytes_waiting(self._ours) == before + size)

    def feed_eof(self):
        raise NotImplementedError("TLS has no half-closed connections")


def frames_of(exc):
    """The functions that a traceback shows, with their lines."""
    return [
        (frame.f_code.co_name, line)
        for frame, line in traceback.walk_tb(exc.__traceback__)
    ]


def outcome_of(task):
    """How a task ended, as comparable words."""
    if not task.done():
        return "pending"
    if task.cancelled():
        return "cancelled"
    exc = task.exception()
    if exc is None:
        return task.result()
    chain = repr(exc.__context__), repr(exc.__cause__)
    return type(exc).__name__, exc.args, chain, frames_of(exc)


class Play:
    """A list of steps, played on one connection; it notes what is seen.

    Each step is a tuple of a name (of a method here) and arguments.
    """

    def __init__(self, connection, looks):
        self.connection = connection
        self.looks = looks
        self.tasks = []
        self.seen = []

    async def run(self, steps):
        for step in steps:
            self.seen.append(step)
            await getattr(self, step[0])(*step[1:])
            self.seen.append([outcome_of(task) for task in self.tasks])
            if self.looks:
                self.seen.append(self.connection.look())
        for task in self.tasks:
            task.cancel()
        await asyncio.gather(*self.tasks, return_exceptions=True)
        self.seen.append([outcome_of(task) for task in self.tasks])
        self.seen.append(self.connection.look())
        return self.seen

    async def start(self, name, *args):
        reader = self.connection.reader

        async def read():
            return await getattr(reader, name)(*args)

        self.tasks.append(asyncio.ensure_future(read()))

    async def start_task(self, name, *args):
        """The read itself is the task's coroutine."""
        read = getattr(self.connection.reader, name)(*args)
        self.tasks.append(asyncio.ensure_future(read))

    async def turn(self):
        await asyncio.sleep(0)

    async def feed(self, data):
        if not self.connection.reader._paused:
            self.connection.feed(data)

    async def eof(self):
        if not self.connection.reader._paused:
            self.connection.feed_eof()

    async def feed_by_hand(self, data):
        self.connection.reader.feed_data(data)

    async def cancel(self, number):
        if number < len(self.tasks):
            self.tasks[number].cancel()

    async def fail(self, exception, *args):
        self.connection.reader.set_exception(exception(*args))

    async def look(self):
        self.seen.append(self.connection.look())

    async def show(self, number):
        """What the read looks like while it waits."""
        if number >= len(self.tasks) or self.tasks[number].done():
            return
        chain = []
        awaited = self.tasks[number].get_coro()
        while awaited is not None and hasattr(awaited, "cr_await"):
            frame = awaited.cr_frame
            chain.append((awaited.__qualname__, frame and frame.f_lineno))
            awaited = awaited.cr_await
        self.seen.append((chain, type(awaited).__name__))

    async def do(self, action):
        """Anything else: a function of the connection."""
        self.seen.append(action(self.connection))


async def play_twice(steps, limit=1 << 16, looks=False, served=loop_reader):
    """What is seen with a plain reader, and with one of the loop's."""
    seen = []
    for open_reader in plain_reader, served:
        async with open_reader(limit) as connection:
            seen.append(await Play(connection, looks).run(steps))
    return seen
