# SPDX-License-Identifier: MIT
"""The objects that programs act on: connections, sockets, streams, jobs.

The far end of a connection is a Peer, a socket used without any loop, so that
what it does happens at once and in order; or another connection of the same
loop.
"""

import asyncio
import concurrent.futures
import contextlib
import itertools
import os
import random
import signal
import socket
import struct
import tempfile

import flaws

# Every byte that is sent tells where it belongs.
PATTERN = random.Random(0).randbytes(65521)
LARGE = 1 << 20
# More turns than it takes to send a small file.
SENDING = 12


class Data:
    """Bytes to send: each call goes on where the one before has ended."""

    def __init__(self, over="unix", most=2 * LARGE):
        self._at = 0
        # How much more TCP takes is a matter of time.
        self._most = most if over == "unix" else 16384

    def __call__(self, size):
        size = min(size, self._most)
        start = self._at % len(PATTERN)
        self._at += size
        return (PATTERN * (2 + size // len(PATTERN)))[start : start + size]


def stream_pair(over):
    """Two connected sockets, non-blocking."""
    if over == "unix":
        both = socket.socketpair()
    else:
        with socket.create_server(("127.0.0.1", 0)) as server:
            first = socket.create_connection(server.getsockname())
            both = first, server.accept()[0]
            for sock in both:
                sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    for sock in both:
        sock.setblocking(False)
    return both


def new_file():
    """A file whose bytes are those of PATTERN."""
    file = tempfile.TemporaryFile(buffering=0)
    file.write(PATTERN * 4)
    file.seek(0)
    return file


def is_safe_to_writelines(transport, sizes):
    """Whether this Python's CPython loop does as it should."""
    if transport.is_closing() and flaws.WRITELINES_FAILS_LATE:
        return False
    queued = transport.get_write_buffer_size() + sum(sizes)
    _, high = transport.get_write_buffer_limits()
    return queued <= high or not flaws.WRITELINES_NEVER_PAUSES


class Peer:
    """The far end of a connection, a plain socket."""

    def __init__(self, world, lane, sock, flush, over="unix"):
        self._world = world
        self._lane = lane
        # docs/differences.md: writes leave when the callback returns, unless
        # somebody asks for what is left to write.
        self._flush = flush
        self.sock = sock
        self.data = Data(over)
        self._is_busy = lambda: False

    def keep_while(self, is_busy):
        """Leave the socket open as long as this is true."""
        self._is_busy = is_busy

    def is_kept(self):
        return self._is_busy() and not self._world.loop.is_closed()

    def send(self, data):
        try:
            sent = self.sock.send(data)
        except OSError as exc:
            self._note(f"send failed {type(exc).__name__}")
        else:
            self._note("sent all" if sent == len(data) else "sent a part")

    def recv(self, most=4 * LARGE):
        """Take what there is, and note whether the end has come."""
        self._flush()
        parts = []
        state = "open"
        while most > 0:
            try:
                data = self.sock.recv(min(most, 65536))
            except BlockingIOError:
                break
            except OSError as exc:
                state = f"failed {type(exc).__name__}"
                break
            if not data:
                state = "at its end"
                break
            parts.append(data)
            most -= len(data)
        self._world.note(self._lane, f"received, {state}", b"".join(parts))

    def write_eof(self):
        with contextlib.suppress(OSError):
            self.sock.shutdown(socket.SHUT_WR)

    def close(self):
        if self.is_kept():
            return
        self._flush()
        self.sock.close()

    def reset(self):
        """Close so that the other side sees an error, where it can."""
        if self.is_kept():
            return
        self._flush()
        with contextlib.suppress(OSError):
            linger = struct.pack("ii", 1, 0)
            self.sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        self.sock.close()

    def _note(self, what):
        self._world.note(self._lane, what)


class Recorder(asyncio.Protocol):
    """Notes every call, and does then what the program says."""

    def __init__(self, world, lane, owner):
        self._world = world
        self._lane = lane
        self._owner = owner

    def _called(self, method, what="", data=None):
        self._world.note(self._lane, f"{method}{what}", data)
        return self._world.hook(self._lane, method)

    def connection_made(self, transport):
        self._owner.transport = transport
        return self._called("connection_made")

    def data_received(self, data):
        return self._called("data_received", data=data)

    def eof_received(self):
        return self._called("eof_received")

    def pause_writing(self):
        return self._called("pause_writing")

    def resume_writing(self):
        return self._called("resume_writing")

    def connection_lost(self, exc):
        self._owner.is_lost = True
        what = "" if exc is None else f" {type(exc).__name__}"
        return self._called("connection_lost", what)


class BufferedRecorder(asyncio.BufferedProtocol):
    """The same over a buffer of its own."""

    _called = Recorder._called
    connection_made = Recorder.connection_made
    eof_received = Recorder.eof_received
    pause_writing = Recorder.pause_writing
    resume_writing = Recorder.resume_writing
    connection_lost = Recorder.connection_lost

    def __init__(self, world, lane, owner, size):
        Recorder.__init__(self, world, lane, owner)
        self._buffer = bytearray(size)

    def get_buffer(self, sizehint):
        self._called("get_buffer")
        return self._buffer

    def buffer_updated(self, nbytes):
        data = self._buffer[:nbytes]
        return self._called("buffer_updated", data=data)


class Connection:
    """A transport of the loop, with its protocol; maybe with a Peer."""

    def __init__(self, world, lane, sock, how, buffer):
        self._world = world
        self._sock = sock
        self._how = how
        self._buffer = buffer
        self._swaps = itertools.count(2)
        self.lane = lane
        self.transport = None
        self.is_lost = False
        self._sending = None
        self._sent_in = None
        self.peer = None
        self.protocol = self._make_protocol(lane, buffer)
        self.data = Data()

    def _make_protocol(self, lane, buffer):
        if buffer:
            return BufferedRecorder(self._world, lane, self, buffer)
        return Recorder(self._world, lane, self)

    async def create(self):
        loop = self._world.loop
        if self._how == "accepted":
            making = loop.connect_accepted_socket(
                lambda: self.protocol, self._sock
            )
        else:
            making = loop.create_connection(
                lambda: self.protocol, sock=self._sock
            )
        self.transport, _ = await making
        self._world.note(self.lane, "is connected")

    def new_protocol(self, buffer=0):
        """Another protocol, under the name of this one and a number."""
        lane = f"{self.lane}{next(self._swaps)}"
        self.protocol = self._make_protocol(lane, buffer)
        return self.protocol

    def is_over(self):
        """Whether CPython still sends, or fails from inside.

        See docs/differences.md.
        """
        return self.is_lost and flaws.ABORT_FAILS_LATE

    def write(self, size):
        # What it writes while it is closing, CPython fails to send.
        is_late = self._world.resuming and self.transport.is_closing()
        if self.is_over() or self.is_sending() or is_late:
            return
        self.transport.write(self.data(size))
        if self.peer is not None and self.peer.sock.fileno() == -1:
            # One by one, as docs/differences.md has it of a peer that is gone.
            self.flush()

    def is_sending(self):
        """Whether a file is sent, or was in this step.

        How many turns that takes is open, and nothing may be written, nor the
        connection closed, meanwhile.
        """
        if self._sending is not None:
            return True
        return self._sent_in == self._world.step_number

    def can_send_file(self):
        """Whether CPython's sendfile() comes to its end.

        See docs/differences.md.
        """
        if self.transport is None or self.is_sending():
            return False
        is_alone = self.peer is None or self.peer.sock.fileno() == -1
        # How much of a large backlog is read meanwhile is open.
        is_slow = len(getattr(self.protocol, "_buffer", bytes(64))) < 64
        return not (
            is_alone
            or is_slow
            or self.is_over()
            or self.transport.is_closing()
            or self.is_pending()
        )

    async def sendfile(self, offset, count, fallback=True):
        """Send a file, which goes on when this is cancelled.

        How far a cancelled one has come is open.
        """
        if self.can_send_file():
            self._sending = self._world.loop.create_task(
                self._send_file(offset, count, fallback)
            )
            # The file ends where the kernel takes more, or at once.
            self._world.each_turn(self._is_drained)
            await asyncio.shield(self._sending)
            self.peer.recv()

    async def _send_file(self, offset, count, fallback):
        end = self._world.turn + SENDING
        try:
            with new_file() as file:
                sent = await self._world.loop.sendfile(
                    self.transport, file, offset, count, fallback=fallback
                )
                what = f"sent {sent}, at {file.tell()}"
            while self._world.turn < end:
                await asyncio.sleep(0)
            self._world.note(f"{self.lane}.file", what)
        finally:
            self._sending = None
            self._sent_in = self._world.step_number

    def _is_drained(self):
        self.peer.recv()
        return self._sending is not None

    def write_eof(self):
        if self.is_sending():
            return
        with contextlib.suppress(OSError):
            # Of a peer that has reset the connection: docs/differences.md.
            self.transport.write_eof()

    def close(self):
        # Twice connection_lost() in CPython: docs/differences.md.
        if not self._world.resuming and not self.is_sending():
            self.transport.close()

    def writelines(self, *sizes):
        if self.is_over() or self.is_sending():
            return
        parts = [self.data(size) for size in sizes]
        if is_safe_to_writelines(self.transport, sizes):
            self.transport.writelines(parts)
        else:
            self.transport.write(b"".join(parts))

    def is_reading(self):
        if self.is_sending():
            return None
        return self.transport.is_reading()

    def pause(self):
        # The end of sendfile() resumes it.
        if not self.is_sending():
            self.transport.pause_reading()

    def resume(self):
        if not self.is_sending():
            self.transport.resume_reading()

    def is_pending(self):
        if self.transport is None:
            return False
        return self.transport.get_write_buffer_size() > 0

    flush = is_pending

    def state(self):
        if self.transport is None:
            return "never made"
        sock = self.transport.get_extra_info("socket")
        parts = [
            "closing" if self.transport.is_closing() else "open",
            "no fd" if sock.fileno() == -1 else "an fd",
            "reading" if self.transport.is_reading() else "not reading",
        ]
        if self.is_pending():
            parts.append("data pending")
        return ", ".join(parts)

    def abort(self):
        if self.transport is None:
            return
        if self.is_sending():
            return
        if not self.is_over() and not self._world.resuming:
            self.transport.abort()


class Watched:
    """A socket that a program watches itself, or uses with sock_*()."""

    def __init__(self, world, lane, sock):
        self._world = world
        self.lane = lane
        self.sock = sock
        self.data = Data()
        self.buffer = bytearray(8)

    def flush(self):
        """Nothing waits to be sent here."""

    def take(self):
        """What a reader does: take what is there, leave at the end."""
        try:
            data = self.sock.recv(65536)
        except OSError as exc:
            self._world.note(self.lane, f"failed {type(exc).__name__}")
            data = b""
        self._world.note(self.lane, "took", data)
        if not data:
            self._world.loop.remove_reader(self.sock)

    def state(self):
        return "an fd" if self.sock.fileno() >= 0 else "no fd"

    def abort(self):
        if self.sock.fileno() >= 0:
            self._world.loop.remove_reader(self.sock)
            self._world.loop.remove_writer(self.sock)
            self.sock.close()


class Stream:
    """A reader and a writer; the far end is a Peer."""

    def __init__(self, world, lane, sock, limit):
        self._world = world
        self._sock = sock
        self._limit = limit
        self.lane = lane
        self.reader = self.writer = None
        self.data = Data()

    async def create(self):
        self.reader, self.writer = await asyncio.open_connection(
            sock=self._sock, limit=self._limit
        )
        self._world.note(self.lane, "is connected")

    def write(self, size):
        self.writer.write(self.data(size))

    def writelines(self, *sizes):
        parts = [self.data(size) for size in sizes]
        if is_safe_to_writelines(self.writer.transport, sizes):
            self.writer.writelines(parts)
        else:
            self.writer.write(b"".join(parts))

    def flush(self):
        if self.writer is not None:
            self.writer.transport.get_write_buffer_size()

    def is_over(self):
        """Whether CPython's abort() fails from inside.

        See docs/differences.md.
        """
        sock = self.writer.get_extra_info("socket")
        is_lost = sock is not None and sock.fileno() == -1
        return is_lost and flaws.ABORT_FAILS_LATE

    def state(self):
        if self.writer is None:
            return "never made"
        transport = self.writer.transport
        # TLS forgets it at the end.
        sock = transport.get_extra_info("socket")
        fd = -1 if sock is None else sock.fileno()
        return (
            f"{'closing' if transport.is_closing() else 'open'},"
            f"{'' if transport.is_reading() else ' not'} reading,"
            f" {'no fd' if fd == -1 else 'an fd'},"
            f" {'' if self.reader.at_eof() else 'not '}at its end"
        )

    def abort(self):
        if self.writer is not None and not self.is_over():
            self.writer.transport.abort()


class Jobs(concurrent.futures.ThreadPoolExecutor):
    """An executor whose jobs run when the program says so, in a thread."""

    def __init__(self, world):
        super().__init__(1)
        self._world = world
        self._jobs = []

    def submit(self, function, /, *args, **kwargs):
        future = concurrent.futures.Future()
        self._jobs.append((future, function, args))
        return future

    def run(self):
        """Run all jobs; each has told its loop when this returns."""
        jobs, self._jobs = self._jobs, []
        for future, function, args in jobs:
            if future.set_running_or_notify_cancel():
                self._world.in_thread(self._run, future, function, args)

    def _run(self, future, function, args):
        try:
            future.set_result(function(*args))
        except Exception as exc:
            future.set_exception(exc)


class PromptJobs(Jobs):
    """The default executor: a job has run when it is handed over."""

    def submit(self, function, /, *args, **kwargs):
        future = super().submit(function, *args, **kwargs)
        self.run()
        return future


class Things:
    """What a program can make; all of it is made before the first step."""

    def __init__(self):
        self._things = []
        self._peers = []

    def transport(self, lane, over="unix", how="connection", buffer=0):
        """A connection whose far end is a Peer."""
        sock, far = stream_pair(over)
        thing = Connection(self, lane, sock, how, buffer)
        thing.data = Data(over)
        thing.peer = self._add_peer(thing, far, over)
        thing.peer.keep_while(thing.is_sending)
        self._things.append(thing)
        return thing

    def pair(self, lanes, over="unix", how="connection", buffer=0):
        """Two connections of the loop, to each other."""
        things = [
            Connection(self, lane, sock, how, buffer)
            for lane, sock in zip(lanes, stream_pair(over))
        ]
        self._things += things
        return things

    def watched(self, lane, over="unix"):
        sock, far = stream_pair(over)
        thing = Watched(self, lane, sock)
        thing.peer = self._add_peer(thing, far)
        self._things.append(thing)
        return thing

    def stream(self, lane, over="unix", limit=64):
        sock, far = stream_pair(over)
        thing = Stream(self, lane, sock, limit)
        thing.peer = self._add_peer(thing, far)
        self._things.append(thing)
        return thing

    def _add_peer(self, thing, sock, over="unix"):
        peer = Peer(self, f"{thing.lane}.peer", sock, thing.flush, over)
        self.keep_peer(peer)
        return peer

    def keep_peer(self, peer):
        """It is closed when the program has ended."""
        self._peers.append(peer)

    def _add(self, thing):
        self._things.append(thing)
        return thing

    def job(self, value):
        """What runs in the executor; 0 fails."""
        if value == 0:
            raise self.Error("job")
        return value

    def kill(self, number=signal.SIGUSR1):
        """Send the process a signal, unless that would end it."""
        if signal.getsignal(number) is signal.SIG_DFL:
            self.log("nobody handles the signal")
        else:
            os.kill(os.getpid(), number)

    async def _create_all(self, say):
        for thing in self._things:
            if hasattr(thing, "create"):
                await thing.create()

    def states(self):
        return [(thing.lane, thing.state()) for thing in self._things]

    def stop_sending(self):
        for thing in self._things:
            if getattr(thing, "_sending", None) is not None:
                thing._sending.cancel()

    def abort_all(self):
        for thing in self._things:
            thing.abort()

    def close_peers(self):
        for peer in self._peers:
            peer.close()

    def drop(self):
        self._things.clear()
        self._peers.clear()
