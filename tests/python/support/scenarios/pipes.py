# SPDX-License-Identifier: MIT
"""connect_read_pipe() and connect_write_pipe(): pipes, sockets, terminals."""

import asyncio
import contextlib
import functools
import io
import os
import socket
import tty

from support.scenarios.registry import ended, scenario
from support.stage import PipeEnd, Talker

SMALL_BUFFER = 4096
LARGE_BYTES = 400_000


class PipePeer:
    """The other end of a pipe, with what a Peer has."""

    def __init__(self, world, number, expected=b""):
        os.set_blocking(number, False)
        self._world = world
        self._number = number
        self._expected = expected
        self.data = bytearray()
        world.peers.append(self)

    def send(self, data):
        with self._world.aside(), contextlib.suppress(OSError):
            os.write(self._number, data)

    def look(self):
        """Whether something was there."""
        with self._world.aside(), contextlib.suppress(OSError):
            if self._number >= 0 and (data := os.read(self._number, 1 << 16)):
                self.data += data
                self.check()
                return True
        return False

    def check(self):
        if not self._expected.startswith(self.data):
            raise AssertionError(f"a peer got {bytes(self.data[:100])!r}")

    def drain(self):
        while self.look():
            pass

    def close(self):
        number, self._number = self._number, -1
        if number >= 0:
            with self._world.aside():
                os.close(number)

    reset = close


def reading_end(world):
    """An end to read from, which is given away, and who writes."""
    reading, writing = os.pipe()
    return world.give_end(PipeEnd(reading)), PipePeer(world, writing)


def writing_end(world, expected):
    """An end to write to, which is given away, and who reads."""
    reading, writing = os.pipe()
    peer = PipePeer(world, reading, expected)
    return world.give_end(PipeEnd(writing)), peer


def terminal(world, expected=b""):
    """A terminal that is given away, and who sits at it."""
    master, slave = os.openpty()
    tty.setraw(slave)
    peer = PipePeer(world, master, expected)
    return world.give_end(PipeEnd(slave)), peer


async def read(world, pipe, peer):
    token = world.token()
    transport, protocol = await world.loop.connect_read_pipe(
        functools.partial(world.talker, token * 2), pipe
    )
    with contextlib.closing(transport):
        peer.send(token)
        await protocol.reads(len(token))
        transport.pause_reading()
        peer.send(token)
        await asyncio.sleep(0)
        transport.resume_reading()
        await protocol.reads(len(token))
        peer.close()
        await protocol.ends()


async def write(world, pipe, peer, data):
    """In pieces of all kinds, more than there is room for if there is much."""
    transport, protocol = await world.loop.connect_write_pipe(
        world.talker, pipe
    )
    half = len(data) // 2
    with ended(transport):
        transport.write(data[:half])
        transport.write(bytearray(data[half:-1]))
        transport.write(memoryview(data[-1:]))
        transport.close()
        while len(peer.data) < len(data) and not protocol.is_lost:
            peer.look()
            await asyncio.sleep(0)
        await protocol.ends()


@scenario("connect_read_pipe")
def read_pipe(world):
    pipe, peer = reading_end(world)
    return functools.partial(read, world, pipe, peer)


@scenario("connect_read_pipe")
def read_pipe_of_file(world):
    reading, writing = os.pipe()
    pipe = world.give_end(io.FileIO(reading))
    peer = PipePeer(world, writing)
    return functools.partial(read, world, pipe, peer)


@scenario("connect_read_pipe")
def read_fifo(world):
    path = world.path("fifo")
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    pipe = world.give_end(PipeEnd(reading))
    peer = PipePeer(world, os.open(path, os.O_WRONLY))
    return functools.partial(read, world, pipe, peer)


@scenario("connect_read_pipe")
def read_socket(world):
    ours, peer = world.unix_pair()
    return functools.partial(read, world, ours, peer)


@scenario("connect_read_pipe")
def read_terminal(world):
    pipe, peer = terminal(world)
    return functools.partial(read, world, pipe, peer)


@scenario("connect_read_pipe")
def read_pipe_with_bad_factory(world):
    pipe, _ = reading_end(world)

    def factory():
        raise LookupError("no protocol")

    async def play():
        with contextlib.suppress(LookupError):
            await world.loop.connect_read_pipe(factory, pipe)

    return play


@scenario("connect_read_pipe")
def read_no_pipe(world):
    file = world.open_file()

    async def play():
        with contextlib.suppress(ValueError):
            await world.loop.connect_read_pipe(world.talker, file)

    return play


@scenario("connect_read_pipe")
def read_pipe_and_close_it(world):
    """connection_made() closes, and the waiter is still woken."""
    pipe, _ = reading_end(world)

    class Closing(Talker):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.close()

    async def play():
        _, protocol = await world.loop.connect_read_pipe(
            functools.partial(world.talker, kind=Closing), pipe
        )
        await protocol.ends()

    return play


@scenario("connect_read_pipe")
def read_pipe_by_stream(world):
    pipe, peer = reading_end(world)
    token = world.token()

    async def play():
        reader = asyncio.StreamReader()
        transport, _ = await world.loop.connect_read_pipe(
            lambda: asyncio.StreamReaderProtocol(reader), pipe
        )
        with contextlib.closing(transport):
            peer.send(token)
            try:
                got = await reader.readexactly(len(token))
                assert got == token, f"a stream got {got!r}"
                peer.close()
                assert await reader.read() == b""
            except (OSError, EOFError):
                world.told.append(reader.exception())
                raise

    return play


@scenario("connect_write_pipe")
def write_pipe(world):
    data = world.token()
    pipe, peer = writing_end(world, data)
    return functools.partial(write, world, pipe, peer, data)


@scenario("connect_write_pipe")
def write_more_than_fits_a_pipe(world):
    data = world.token() * (LARGE_BYTES // len(world.token()))
    pipe, peer = writing_end(world, data)
    return functools.partial(write, world, pipe, peer, data)


@scenario("connect_write_pipe")
def write_pipe_of_file(world):
    data = world.token()
    reading, writing = os.pipe()
    pipe = world.give_end(io.FileIO(writing, "w"))
    peer = PipePeer(world, reading, data)
    return functools.partial(write, world, pipe, peer, data)


@scenario("connect_write_pipe")
def write_socket(world):
    data = world.token() * (LARGE_BYTES // len(world.token()))
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    peer = world.peer(theirs, data)
    return functools.partial(write, world, world.give(ours), peer, data)


@scenario("connect_write_pipe")
def write_terminal(world):
    data = world.token() * (LARGE_BYTES // len(world.token()))
    pipe, peer = terminal(world, data)
    return functools.partial(write, world, pipe, peer, data)


@scenario("connect_write_pipe")
def write_to_reader_that_leaves(world):
    data = world.token() * (LARGE_BYTES // len(world.token()))
    pipe, peer = writing_end(world, data)

    async def play():
        transport, protocol = await world.loop.connect_write_pipe(
            world.talker, pipe
        )
        with ended(transport):
            transport.write(data)
            peer.look()
            peer.close()
            with contextlib.suppress(BrokenPipeError):
                await protocol.ends()

    return play
