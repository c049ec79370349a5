# SPDX-License-Identifier: MIT
"""More objects that programs act on: servers, datagram endpoints, pipes."""

import asyncio
import atexit
import functools
import itertools
import os
import socket
import tempfile

from things import Connection, Data, Peer, Recorder, Things


@functools.cache
def folder():
    made = tempfile.TemporaryDirectory(prefix="becket-differential-")
    atexit.register(made.cleanup)
    return made.name


NUMBERS = itertools.count()


def new_path():
    """A path for a Unix socket, in a folder that goes with the process."""
    return os.path.join(folder(), str(next(NUMBERS)))


class Accepted(Connection):
    """A connection that a server of the loop has accepted."""

    def __init__(self, world, lane, over):
        super().__init__(world, lane, None, "accepted", 0)
        self.data = Data(over)
        self.peer = None


class Server:
    """A server of the loop, whose clients are Peers."""

    def __init__(self, world, lane, over):
        self._world = world
        self._over = over
        self.lane = lane
        self.server = None
        self.accepted = []
        self.clients = []

    @property
    def last(self):
        """The connection that was accepted last."""
        return self.accepted[-1] if self.accepted else self._world.nothing

    @property
    def peer(self):
        """The client that was connected last."""
        return self.clients[-1] if self.clients else self._world.nothing

    def _make_protocol(self):
        lane = f"{self.lane}{len(self.accepted)}"
        self.accepted.append(Accepted(self._world, lane, self._over))
        return self.accepted[-1].protocol

    async def create(self):
        loop = self._world.loop
        if self._over == "tcp":
            self.server = await loop.create_server(
                self._make_protocol, "127.0.0.1", 0
            )
            self._address = self.server.sockets[0].getsockname()
        else:
            self._address = new_path()
            self.server = await loop.create_unix_server(
                self._make_protocol, self._address
            )
        self._world.note(self.lane, "serves")

    def connect(self):
        family = socket.AF_INET if self._over == "tcp" else socket.AF_UNIX
        sock = socket.socket(family)
        try:
            sock.connect(self._address)
        except OSError as exc:
            self._world.note(self.lane, f"refused {type(exc).__name__}")
            sock.close()
            return
        sock.setblocking(False)
        lane = f"{self.lane}.peer{len(self.clients)}"
        peer = Peer(self._world, lane, sock, self.flush, self._over)
        self.clients.append(peer)
        self._world.keep_peer(peer)

    async def start_serving(self):
        # On a closed one, see docs/differences.md.
        if self.server.sockets:
            await self.server.start_serving()

    def flush(self):
        for each in self.accepted:
            each.flush()

    def is_failing(self):
        """Whether a connection has come while the server was closing.

        CPython leaves its transport to the collector.
        """
        return any(each.transport is None for each in self.accepted)

    def state(self):
        states = [each.state() for each in self.accepted]
        serving = self.server is not None and self.server.is_serving()
        return f"{'serving' if serving else 'not serving'} {states}"

    def abort(self):
        if self.server is not None:
            self.server.close()
        for each in self.accepted:
            each.abort()


class DatagramRecorder(asyncio.DatagramProtocol):
    """Notes every call; each datagram has its number, as none is joined."""

    _called = Recorder._called
    __init__ = Recorder.__init__
    connection_made = Recorder.connection_made
    pause_writing = Recorder.pause_writing
    resume_writing = Recorder.resume_writing
    connection_lost = Recorder.connection_lost
    _received = 0

    def datagram_received(self, data, addr):
        self._received += 1
        what = f" {self._received} {type(addr).__name__}"
        return self._called("datagram_received", what, data)

    def error_received(self, exc):
        return self._called("error_received", f" {type(exc).__name__}")


class DatagramPeer(Peer):
    """The far end: every datagram is noted by itself."""

    def recv(self):
        self._flush()
        for number in range(64):
            try:
                data = self.sock.recv(1 << 17)
            except OSError as exc:
                self._note(f"received {number}, {type(exc).__name__}")
                return
            self._world.note(self._lane, f"received {number}", data)


def datagram_pair(over):
    if over == "unix":
        both = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    else:
        both = [socket.socket(type=socket.SOCK_DGRAM) for _ in range(2)]
        for sock in both:
            sock.bind(("127.0.0.1", 0))
        both[0].connect(both[1].getsockname())
        both[1].connect(both[0].getsockname())
    for sock in both:
        sock.setblocking(False)
    return both


class Datagrams:
    """A datagram endpoint that is connected to a Peer."""

    def __init__(self, world, lane, sock):
        self._world = world
        self._sock = sock
        self.lane = lane
        self.transport = None
        self.data = Data()

    async def create(self):
        self.transport, _ = await self._world.loop.create_datagram_endpoint(
            lambda: DatagramRecorder(self._world, self.lane, self),
            sock=self._sock,
        )
        self._world.note(self.lane, "is connected")

    def send(self, size):
        # After the end, see docs/differences.md.
        if self._sock.fileno() != -1:
            self.transport.sendto(self.data(size))

    def flush(self):
        if self.transport is not None:
            self.transport.get_write_buffer_size()

    def state(self):
        if self.transport is None:
            return "never made"
        closing = "closing" if self.transport.is_closing() else "open"
        return (
            f"{closing}, {'no fd' if self._sock.fileno() == -1 else 'an fd'}"
        )

    def abort(self):
        if self.transport is not None:
            self.transport.abort()


class PipeRecorder(Recorder):
    """The protocol of a pipe, of either direction."""


class PipePeer(Peer):
    """The other end of a pipe, which the program reads or writes itself."""

    def __init__(self, world, lane, file, flush):
        super().__init__(world, lane, self, flush)
        self.file = file

    # What Peer asks of a socket.

    def _write(self, data):
        return os.write(self.file.fileno(), data)

    def send(self, data):
        try:
            sent = self._write(data)
        except (OSError, ValueError) as exc:
            self._note(f"send failed {type(exc).__name__}")
        else:
            self._note("sent all" if sent == len(data) else "sent a part")

    def recv(self, most=1 << 22):
        self._flush()
        parts = []
        state = "open"
        while True:
            try:
                data = os.read(self.file.fileno(), 65536)
            except (OSError, ValueError) as exc:
                state = type(exc).__name__
                break
            if not data:
                state = "at its end"
                break
            parts.append(data)
        self._world.note(self._lane, f"received, {state}", b"".join(parts))

    def close(self):
        self._flush()
        self.file.close()


class Pipe:
    """One end of a pipe as a transport; the other end is a PipePeer."""

    def __init__(self, world, lane, file, is_reader):
        self._world = world
        self._file = file
        self._is_reader = is_reader
        self.lane = lane
        self.transport = None
        self.data = Data()

    async def create(self):
        loop = self._world.loop
        connect = (
            loop.connect_read_pipe
            if self._is_reader
            else loop.connect_write_pipe
        )
        self.transport, _ = await connect(
            lambda: PipeRecorder(self._world, self.lane, self), self._file
        )
        self._world.note(self.lane, "is connected")

    def write(self, size):
        self.transport.write(self.data(size))

    def close(self):
        # A second close(), see docs/differences.md.
        if not self.transport.is_closing():
            self.transport.close()

    def abort(self):
        if self.transport is None or self.transport.is_closing():
            return
        if self._is_reader:
            self.transport.close()
        else:
            self.transport.abort()

    def flush(self):
        if self.transport is not None and not self._is_reader:
            self.transport.get_write_buffer_size()

    def state(self):
        if self.transport is None:
            return "never made"
        closing = "closing" if self.transport.is_closing() else "open"
        return f"{closing}, file {'closed' if self._file.closed else 'open'}"


class MoreThings(Things):
    """Makes these, next to those of Things."""

    def __init__(self):
        super().__init__()
        self._servers = []

    def server(self, lane, over="unix"):
        self._servers.append(Server(self, lane, over))
        return self._add(self._servers[-1])

    def are_failing(self):
        return any(each.is_failing() for each in self._servers)

    def datagrams(self, lane, over="unix"):
        sock, far = datagram_pair(over)
        thing = Datagrams(self, lane, sock)
        thing.peer = DatagramPeer(self, f"{lane}.peer", far, thing.flush)
        self.keep_peer(thing.peer)
        return self._add(thing)

    def pipe(self, lane, is_reader):
        ends = os.pipe()
        for number in ends:
            os.set_blocking(number, False)
        ours, theirs = ends if is_reader else reversed(ends)
        mode, other = ("rb", "wb") if is_reader else ("wb", "rb")
        thing = Pipe(self, lane, open(ours, mode, 0), is_reader)
        thing.peer = PipePeer(
            self, f"{lane}.peer", open(theirs, other, 0), thing.flush
        )
        self.keep_peer(thing.peer)
        return self._add(thing)
