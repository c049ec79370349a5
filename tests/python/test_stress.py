# SPDX-License-Identifier: MIT
"""Many connections at random, every byte accounted for."""

import asyncio
import random
import struct

import pytest

from support.loops import ORACLE
from support.net import spin, tcp_pair, until

STEPS = 1500
PAIRS = 25


class End(asyncio.Protocol):
    """One end of a connection that knows what it has to receive.

    The bytes of a connection are a function of its key and the position, so
    that any byte of another connection, or at a wrong place, shows.
    """

    def __init__(self, key):
        self.key = key
        self.sent = 0
        self.received = 0
        self.other = None
        self.over = asyncio.get_running_loop().create_future()
        self.has_ended = False
        self.is_eof_sent = False
        self.calls_after_end = 0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.calls_after_end += self.has_ended
        wanted = pattern(self.other.key, self.received, len(data))
        assert data == wanted, f"{self.key}: wrong bytes at {self.received}"
        self.received += len(data)

    def eof_received(self):
        self.calls_after_end += self.has_ended
        return True

    def connection_lost(self, exc):
        assert not self.has_ended
        self.has_ended = True
        self.over.set_result(exc)

    def send(self, size):
        if not self.is_eof_sent and not self.transport.is_closing():
            data = pattern(self.key, self.sent, size)
            self.sent += size
            self.transport.write(data)


def pattern(key, start, size):
    """size bytes of the endless stream of this key, from start on."""
    first, rest = divmod(start, 8)
    count = (rest + size + 7) // 8
    words = struct.pack(
        f"<{count}Q",
        *((n * 2654435761 + key) % 2**64 for n in range(first, first + count)),
    )
    return words[rest : rest + size]


def act(rng, end, backend):
    """One random thing that a program might do."""
    choice = rng.random()
    transport = end.transport
    if choice < 0.45:
        end.send(rng.choice((1, 7, 100, 1500, 16384, 70000)))
    elif choice < 0.55 and not transport.is_closing() and not end.is_eof_sent:
        pieces = [rng.randrange(1, 300) for _ in range(rng.randrange(1, 20))]
        data = pattern(end.key, end.sent, sum(pieces))
        end.sent += sum(pieces)
        offsets = [sum(pieces[:n]) for n in range(len(pieces) + 1)]
        transport.writelines([data[a:b] for a, b in zip(offsets, offsets[1:])])
    elif choice < 0.65:
        transport.pause_reading()
    elif choice < 0.85:
        transport.resume_reading()
    elif choice < 0.90:
        transport.get_write_buffer_size()
        repr(transport)
    elif choice < 0.95:
        transport.get_extra_info("socket")
    elif choice < 0.965 and not transport.is_closing():
        end.is_eof_sent = True
        try:
            transport.write_eof()
        except OSError:
            # CPython's shutdown() fails when the peer has just gone.
            assert backend == ORACLE
    elif choice < 0.98:
        transport.close()
    elif choice < 0.99:
        transport.abort()


async def connect(loop, keys):
    left, right = tcp_pair()
    first, second = End(keys[0]), End(keys[1])
    first.other, second.other = second, first
    await loop.create_connection(lambda: first, sock=left)
    await loop.create_connection(lambda: second, sock=right)
    return first, second


def settle(end):
    """Let an end receive what is still under way, then close it."""
    end.transport.resume_reading()
    end.send(10)


@pytest.mark.timeout(60)
async def test_every_byte_arrives_where_it_belongs(loop, backend):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    pairs = []
    for _ in range(PAIRS):
        keys = rng.randrange(1 << 60), rng.randrange(1 << 60)
        pairs.append(await connect(loop, keys))
    for step in range(STEPS):
        for end in rng.choice(pairs):
            if not end.has_ended:
                act(rng, end, backend)
        if step % 5 == 0:
            await asyncio.sleep(0)
    for first, second in pairs:
        for end in (first, second):
            if not end.has_ended:
                settle(end)
    await asyncio.sleep(0)
    # Those whose both ends are open deliver everything.
    for first, second in pairs:
        for end in (first, second):
            other = end.other
            if not (
                end.transport.is_closing() or other.transport.is_closing()
            ):
                await until(lambda e=end, o=other: e.received == o.sent)
    for first, second in pairs:
        for end in (first, second):
            if not end.has_ended:
                end.transport.abort()
    ends = [end for pair in pairs for end in pair]
    await asyncio.gather(*(end.over for end in ends))
    await spin(3)
    assert all(end.calls_after_end == 0 for end in ends)
    assert all(end.received <= end.other.sent for end in ends)


async def test_connections_come_and_go(loop):
    """Numbers are reused all the time; nobody hears another's bytes."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    living = []
    for _ in range(200):
        keys = rng.randrange(1 << 60), rng.randrange(1 << 60)
        living.append(await connect(loop, keys))
        for end in rng.choice(living):
            if not end.has_ended:
                end.transport.resume_reading()
                end.send(rng.choice((1, 1000, 50000)))
        if len(living) > 5:
            for end in living.pop(rng.randrange(len(living))):
                getattr(end.transport, rng.choice(("close", "abort")))()
                if rng.random() < 0.5:
                    await asyncio.sleep(0)
    for pair in living:
        for end in pair:
            if not end.has_ended:
                end.transport.abort()
            await end.over
    await spin(3)
