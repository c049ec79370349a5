# SPDX-License-Identifier: MIT
"""More objects that programs act on: servers, datagram endpoints, pipes."""

import asyncio
import atexit
import functools
import itertools
import os
import socket
import tempfile

from things import Connection, Data, Peer, Recorder, Stream, Things


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


class Server:
    """A server of the loop, whose clients are Peers."""

    def __init__(self, world, lane, over, is_started=True):
        self._world = world
        self._over = over
        self._is_started = is_started
        self.lane = lane
        self.server = None
        self.accepted = []
        self.clients = []
        self.names = {}

    @property
    def last(self):
        """The connection that was accepted last."""
        return self.accepted[-1] if self.accepted else self._world.nothing

    @property
    def peer(self):
        """The client that was connected last."""
        return self.clients[-1] if self.clients else self._world.nothing

    def new_lane(self):
        return f"{self.lane}{len(self.accepted)}"

    def _make_accepted(self):
        return Accepted(self._world, self.new_lane(), self._over)

    def _make_protocol(self):
        self.accepted.append(self._make_accepted())
        return self.accepted[-1].protocol

    async def _serve(self, **where):
        loop = self._world.loop
        make = (
            loop.create_unix_server if "path" in where else loop.create_server
        )
        return await make(
            self._make_protocol, start_serving=self._is_started, **where
        )

    async def create(self):
        if self._over == "tcp":
            self.server = await self._serve(host="127.0.0.1", port=0)
            self._address = self.server.sockets[0].getsockname()
        else:
            self._address = new_path()
            self.server = await self._serve(path=self._address)
        self._world.note(self.lane, "serves")

    def connect(self):
        family = socket.AF_INET if self._over == "tcp" else socket.AF_UNIX
        sock = socket.socket(family)
        try:
            if self._over == "unix":
                sock.bind(new_path())  # a name to be known by
            sock.connect(self._address)
        except OSError as exc:
            self._world.note(self.lane, f"refused {type(exc).__name__}")
            sock.close()
            return
        sock.setblocking(False)
        if family == socket.AF_INET:
            # Else what it sends may wait until the kernel acknowledges what it
            # has sent before, 40 ms later: a slow loop would still see it.
            sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        peer = self._make_peer(f"{self.lane}.peer{len(self.clients)}", sock)
        self.names[sock.getsockname()] = len(self.clients)
        self.clients.append(peer)
        self._world.keep_peer(peer)

    def _make_peer(self, lane, sock):
        return Peer(self._world, lane, sock, self.flush, self._over)

    async def start_serving(self):
        # On a closed one, see docs/differences.md.
        if self.server.sockets:
            await self.server.start_serving()

    async def serve(self):
        """Serve for ever, until somebody cancels this or closes the server."""
        if self.server.sockets:
            await self.server.serve_forever()

    def drop_clients(self, is_hard):
        """What CPython's servers can do since 3.13."""
        server = self.server
        if hasattr(asyncio.Server, "close_clients"):
            (server.abort_clients if is_hard else server.close_clients)()

    def show_sockets(self):
        names = [
            f"{sock.family.name} {sock.type.name} {sock.fileno() != -1}"
            for sock in self.server.sockets
        ]
        self._world.note(self.lane, f"listens on {names}")

    def flush(self):
        for each in self.accepted:
            each.flush()

    def has_forgotten(self):
        """Whether a connection may have come while the server was closing.

        CPython leaves its transport to the collector then.
        """
        return not self.server.sockets and not self._are_all_made()

    def _are_all_made(self):
        return all(each.transport is not None for each in self.accepted)

    def state(self):
        states = [each.state() for each in self.accepted]
        serving = self.server is not None and self.server.is_serving()
        return f"{'serving' if serving else 'not serving'} {states}"

    def abort(self):
        if self.server is not None:
            self.server.close()
        for each in self.accepted:
            each.abort()


class AcceptedStream(Stream):
    """What a server of streams has accepted."""

    def __init__(self, world, lane, reader, writer):
        super().__init__(world, lane, None, 64)
        self.reader, self.writer = reader, writer

    def close(self):
        # Closed twice, CPython's TLS fails: docs/differences.md.
        if not self.writer.is_closing():
            self.writer.close()


class StreamServer(Server):
    """A server whose connections are readers and writers.

    What is done with them: "talk" answers lines, "leave" closes at once,
    "fail" raises, "plain" is no coroutine and leaves them to the program.
    """

    accepted_type = AcceptedStream

    def __init__(self, world, lane, over, does):
        super().__init__(world, lane, over)
        self._does = does

    async def _serve(self, **where):
        does = self._on_connected if self._does == "plain" else self._handle
        if "path" in where:
            return await asyncio.start_unix_server(does, limit=64, **where)
        return await asyncio.start_server(does, limit=64, **where)

    def _on_connected(self, reader, writer):
        number = self.names[writer.get_extra_info("peername")]
        accepted = self.accepted_type(
            self._world, f"{self.lane}{number}", reader, writer
        )
        accepted.number = number
        self.accepted.append(accepted)
        # Which of several comes first, after its handshake, is open.
        self.accepted.sort(key=lambda each: each.number)
        self._world.note(accepted.lane, "client connected")
        self._world.hook(accepted.lane, "client_connected")
        return accepted

    async def _handle(self, reader, writer):
        lane = self._on_connected(reader, writer).lane
        try:
            if self._does == "fail":
                raise self._world.Error("handler")
            while self._does == "talk" and (line := await reader.readline()):
                self._world.note(lane, "has read", line)
                writer.write(line.upper())
                await writer.drain()
            if not writer.is_closing():
                writer.close()
            await writer.wait_closed()
        except BaseException as exc:
            self._world.note(lane, f"ended by {type(exc).__name__}")
            raise
        self._world.note(lane, "ended")

    def _are_all_made(self):
        return len(self.accepted) == len(self.clients)


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
        self.servers = []

    def server(self, lane, over="unix", is_started=True):
        return self._add_server(Server(self, lane, over, is_started))

    def stream_server(self, lane, over="unix", does="talk"):
        return self._add_server(StreamServer(self, lane, over, does))

    def _add_server(self, server):
        self.servers.append(server)
        return self._add(server)

    def drop(self):
        super().drop()
        self.servers.clear()

    def have_forgotten(self):
        return any(each.has_forgotten() for each in self.servers)

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
