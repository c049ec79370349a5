# SPDX-License-Identifier: MIT
"""A pipe that its user closes early: its number is then somebody else's."""

import asyncio
import contextlib
import errno
import os
import socket

import pytest

LIMIT = 10

pytestmark = pytest.mark.becket_only("CPython goes on with the number")


class Log(asyncio.Protocol):
    def __init__(self):
        self.data = b""
        self.lost = asyncio.get_running_loop().create_future()

    def data_received(self, data):
        self.data += data

    def connection_lost(self, exc):
        self.lost.set_result(exc)


async def lost(protocol):
    return await asyncio.wait_for(protocol.lost, LIMIT)


@pytest.fixture
def stack():
    with contextlib.ExitStack() as stack:
        yield stack


def file_and_number(stack, mode):
    """An end of a pipe as a file, and the number of the other end."""
    ends = os.pipe()
    if mode == "rb":
        ours, theirs = ends
    else:
        theirs, ours = ends
    stack.callback(os.close, theirs)
    return stack.enter_context(open(ours, mode, 0)), theirs


def take_over(stack, number):
    """The socket that has the number now, and its peer."""
    one, two = socket.socketpair()
    stack.enter_context(one)
    stack.enter_context(two)
    one.settimeout(LIMIT)
    two.settimeout(LIMIT)
    if number not in (one.fileno(), two.fileno()):
        os.dup2(one.fileno(), number, inheritable=False)
        one.close()
        one = stack.enter_context(socket.socket(fileno=number))
    return (one, two) if one.fileno() == number else (two, one)


async def test_nothing_is_written_to_a_stranger(loop, stack):
    ours, _ = file_and_number(stack, "wb")
    number = ours.fileno()
    transport, protocol = await loop.connect_write_pipe(Log, ours)
    ours.close()
    _, peer = take_over(stack, number)
    transport.write(b"for the pipe")
    assert (await lost(protocol)).errno == errno.EBADF
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(100)


async def test_what_waits_is_not_written_to_a_stranger(loop, stack):
    ours, theirs = file_and_number(stack, "wb")
    number = ours.fileno()
    transport, protocol = await loop.connect_write_pipe(Log, ours)
    transport.write(bytes(1 << 20))
    assert transport.get_write_buffer_size() > 0
    ours.close()
    _, peer = take_over(stack, number)
    os.read(theirs, 1 << 16)
    for _ in range(5):
        await asyncio.sleep(0)
    transport.abort()
    await lost(protocol)
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(100)


async def test_nothing_is_read_from_a_stranger(loop, stack):
    ours, _ = file_and_number(stack, "rb")
    number = ours.fileno()
    told = []
    loop.set_exception_handler(lambda loop, context: told.append(context))
    transport, protocol = await loop.connect_read_pipe(Log, ours)
    transport.pause_reading()
    ours.close()
    stranger, peer = take_over(stack, number)
    peer.send(b"for the socket")
    transport.resume_reading()
    assert (await lost(protocol)).errno == errno.EBADF
    assert protocol.data == b""
    assert stranger.recv(100) == b"for the socket"
    assert told == []


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_a_stranger_of_this_loop_stays_watched(loop, stack, end):
    """The new one is watched under the number that the old one had."""
    ours, _ = file_and_number(stack, "wb")
    number = ours.fileno()
    transport, protocol = await loop.connect_write_pipe(Log, ours)
    ours.close()
    stranger, peer = take_over(stack, number)
    readable = asyncio.Event()
    loop.add_reader(stranger, readable.set)
    getattr(transport, end)()
    await lost(protocol)
    await asyncio.sleep(0)
    peer.send(b"x")
    await asyncio.wait_for(readable.wait(), LIMIT)
    assert loop.remove_reader(stranger)


async def test_it_leaves_nothing_watched(loop, stack):
    """A number that nobody has is not polled any more."""
    ours, _ = file_and_number(stack, "rb")
    number = ours.fileno()
    transport, protocol = await loop.connect_read_pipe(Log, ours)
    ours.close()
    transport.close()
    assert await lost(protocol) is None
    assert not loop.remove_reader(number)
    stranger, peer = take_over(stack, number)
    readable = asyncio.Event()
    loop.add_reader(stranger, readable.set)
    peer.send(b"x")
    await asyncio.wait_for(readable.wait(), LIMIT)
    loop.remove_reader(stranger)
