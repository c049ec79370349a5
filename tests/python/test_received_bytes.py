# SPDX-License-Identifier: MIT
"""Received bytes are as immutable as any, whoever keeps them.

becket uses the memory of those that nobody has kept again: each test receives
so often that it would show.
"""

import asyncio
import contextlib
import random

import pytest

from support.net import connected, peer_reads, tcp_pair

# Up to 512 bytes CPython allocates itself; and each of these arrives whole.
SIZES = [1, 500, 513, 1024, 1000, 8000, 8001, 7000, 20000]
MESSAGES = 60


class Taker(asyncio.Protocol):
    """Hands what it gets to take(), one message at a time."""

    def __init__(self, take):
        self.take = take
        self.waiter = None

    def data_received(self, data):
        assert type(data) is bytes
        self.take(data)
        self.waiter.set_result(None)
        # No reference of ours is left when this returns.


def messages(size):
    generator = random.Random(size)
    return [generator.randbytes(size) for _ in range(MESSAGES)]


async def exchange(loop, take, sent):
    """Every message arrives whole: it is sent after the one before it."""
    async with connected(loop, lambda: Taker(take)) as (_, protocol, peer):
        for message in sent:
            protocol.waiter = loop.create_future()
            peer.sendall(message)
            await protocol.waiter


@pytest.mark.parametrize("size", SIZES)
async def test_what_is_kept_stays_as_it_was(loop, size):
    sent = messages(size)
    kept = []

    def take(data):
        # Every third is dropped, so that the others could take its place.
        kept.append(data if len(kept) % 3 else None)

    await exchange(loop, take, sent)
    assert kept == [m if i % 3 else None for i, m in enumerate(sent)]


@pytest.mark.parametrize("keep", [memoryview, lambda data: [data], iter])
async def test_kept_by_something_else(loop, keep):
    sent = messages(2000)
    kept = []

    def take(data):
        kept.append(keep(data) if len(kept) % 2 else None)

    await exchange(loop, take, sent)
    for message, what in zip(sent[1::2], kept[1::2]):
        if isinstance(what, list):
            (what,) = what
        assert bytes(what) == message


@pytest.mark.parametrize("size", SIZES)
async def test_each_has_its_own_hash(loop, size):
    found = []
    sent = messages(size)
    await exchange(loop, lambda data: found.append(hash(data)), sent)
    assert found == [hash(message) for message in sent]


async def test_sizes_that_change(loop):
    """Longer, shorter, and at last much shorter than the ones before."""
    sizes = [1024, 1030, 1000, 1024, 990, 5000, 1024, 600, 560, 513, 9000]
    sent = [random.Random(n).randbytes(size) for n, size in enumerate(sizes)]
    copies = []

    def take(data):
        copies.append((len(data), bytes(memoryview(data)), data + b"end"))

    await exchange(loop, take, sent)
    assert copies == [(len(m), m, m + b"end") for m in sent]


@pytest.mark.parametrize("size", [1024, 20000])
async def test_what_is_written_is_sent_as_it_came(loop, size):
    """An echo, and between the echoes another connection's messages."""
    replies = messages(size)
    others = messages(size + 1)

    class Echo(Taker):
        def data_received(self, data):
            self.transport.write(data)
            super().data_received(data)

        def connection_made(self, transport):
            self.transport = transport

    async with (
        connected(loop, lambda: Echo(len)) as (_, echo, peer),
        connected(loop, lambda: Taker(hash)) as (_, other, other_peer),
    ):
        for reply, noise in zip(replies, others):
            echo.waiter = loop.create_future()
            other.waiter = loop.create_future()
            peer.sendall(reply)
            other_peer.sendall(noise)
            await asyncio.gather(echo.waiter, other.waiter)
            assert await peer_reads(peer, size) == reply


async def test_written_and_not_taken_by_the_kernel(loop):
    """The queue of a peer that does not read keeps what it was given."""
    sent = messages(20000)

    async with connected(loop, asyncio.Protocol) as (slow, _, peer):
        slow.set_write_buffer_limits(high=1 << 30)
        await exchange(loop, slow.write, sent * 10)
        expected = b"".join(sent * 10)
        assert await peer_reads(peer, len(expected)) == expected


# --- through asyncio's streams ---


async def read_each(sent, use, peer, reader):
    """Each message is read by itself and given to use(data, index)."""
    for index, message in enumerate(sent):
        read = asyncio.ensure_future(reader.read(1 << 16))
        await asyncio.sleep(0)
        peer.sendall(message)
        use(await read, index)


@contextlib.asynccontextmanager
async def open_streams():
    ours, peer = tcp_pair()
    reader, writer = await asyncio.open_connection(sock=ours)
    try:
        yield reader, writer, peer
    finally:
        writer.close()
        peer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("every", [1, 2, 3])
async def test_results_of_reads_stay_as_they_were(loop, size, every):
    sent = messages(size)
    kept = {}

    def use(data, index):
        if index % every == 0:
            kept[index] = data

    async with open_streams() as (reader, _, peer):
        await read_each(sent, use, peer, reader)
    assert kept == {i: m for i, m in enumerate(sent) if i % every == 0}


@pytest.mark.parametrize("size", [600, 1024, 2048, 2049])
async def test_results_of_reads_have_their_own_hash(loop, size):
    sent = messages(size)

    def use(data, index):
        assert hash(data) == hash(sent[index])
        assert data == sent[index]
        assert len(data) == size

    async with open_streams() as (reader, _, peer):
        await read_each(sent, use, peer, reader)


async def test_results_of_reads_with_memoryviews(loop):
    sent = messages(1500)
    views = {}

    def use(data, index):
        if index % 2:
            views[index] = memoryview(data)

    async with open_streams() as (reader, _, peer):
        await read_each(sent, use, peer, reader)
    assert all(view == sent[index] for index, view in views.items())


async def test_results_of_reads_that_are_written(loop):
    """The kernel takes them when it can: until then the writer has them."""
    sent = messages(2000)

    async with open_streams() as (reader, writer, peer):
        ours, theirs = tcp_pair()
        _, slow = await asyncio.open_connection(sock=ours)
        slow.transport.pause_reading()
        filler = b"x" * (1 << 22)
        slow.write(filler)

        def use(data, index):
            slow.write(data)

        await read_each(sent, use, peer, reader)
        got = await peer_reads(theirs, len(filler) + 2000 * len(sent))
        assert got == filler + b"".join(sent)
        slow.close()
        theirs.close()
        await slow.wait_closed()


async def test_results_of_reads_through_tasks(loop):
    """They go on to others, which drop them at any later time."""
    sent = messages(1024)
    queue = asyncio.Queue()

    async def compare():
        for message in sent:
            await asyncio.sleep(0)
            assert await queue.get() == message

    task = asyncio.ensure_future(compare())
    async with open_streams() as (reader, _, peer):
        await read_each(
            sent, lambda data, _: queue.put_nowait(data), peer, reader
        )
        await task
