# SPDX-License-Identifier: MIT
"""Write buffers, watermarks, pause_writing and resume_writing."""

import asyncio

import pytest

from support.leaks import join_all, spawn
from support.net import (
    connected,
    peer_reads,
    recv_exactly,
    small_pair,
    spin,
    until,
)
from support.protocols import Recorder

row = pytest.mark.row

BIG = 1 << 20


class Watched(Recorder):
    """Notes the size of the buffer at each pause and resumption."""

    def __init__(self):
        super().__init__()
        self.sizes = []

    def pause_writing(self):
        super().pause_writing()
        self.sizes.append(self.transport.get_write_buffer_size())

    def resume_writing(self):
        super().resume_writing()
        self.sizes.append(self.transport.get_write_buffer_size())


def flow(protocol):
    return [c for c in protocol.calls if c.endswith("_writing")]


def small(loop, factory=Watched):
    return connected(loop, factory, small_pair)


async def fill(transport):
    """Write until the kernel takes no more; returns how much was written."""
    written = 0
    while transport.get_write_buffer_size() == 0:
        transport.write(bytes(4096))
        written += 4096
    return written


@row("P2E-006", "P4E-019")
async def test_default_limits(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        assert transport.get_write_buffer_limits() == (16384, 65536)
        assert transport.get_write_buffer_size() == 0


@row("P4E-019")
@pytest.mark.parametrize(
    "given, wanted",
    [
        ({}, (16384, 65536)),
        ({"high": 1000}, (250, 1000)),
        ({"high": 0}, (0, 0)),
        ({"high": 3}, (0, 3)),
        ({"low": 100}, (100, 400)),
        ({"low": 0}, (0, 0)),
        ({"high": 100, "low": 50}, (50, 100)),
        ({"high": 100, "low": 100}, (100, 100)),
        ({"high": 2**40, "low": 1}, (1, 2**40)),
    ],
    ids=repr,
)
async def test_limits(loop, given, wanted):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        assert transport.set_write_buffer_limits(**given) is None
        assert transport.get_write_buffer_limits() == wanted


@row("P4E-019")
@pytest.mark.parametrize(
    "given, text",
    [
        ({"high": 1, "low": 5}, "high (1) must be >= low (5) must be >= 0"),
        ({"high": -1}, "high (-1) must be >= low (-1) must be >= 0"),
        ({"low": -2}, "high (-8) must be >= low (-2) must be >= 0"),
        ({"high": 5, "low": -1}, "high (5) must be >= low (-1) must be >= 0"),
    ],
    ids=repr,
)
async def test_wrong_limits(loop, given, text):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        with pytest.raises(ValueError) as caught:
            transport.set_write_buffer_limits(**given)
        # -1 // 4 rounds down, as in asyncio's own computation.
        assert str(caught.value) == text
        assert transport.get_write_buffer_limits() == (16384, 65536)


@pytest.mark.parametrize("wrong", ["x", object(), [1]])
async def test_limits_of_a_wrong_type(loop, wrong):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        with pytest.raises(TypeError):
            transport.set_write_buffer_limits(high=wrong)
        with pytest.raises(TypeError):
            transport.set_write_buffer_limits(low=wrong)


@row("P4E-019")
async def test_limits_by_position(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.set_write_buffer_limits(500, 100)
        assert transport.get_write_buffer_limits() == (100, 500)


@row("P4E-017")
async def test_pause_is_called_inside_write(loop):
    async with small(loop) as (transport, protocol, peer):
        await fill(transport)
        assert flow(protocol) == []
        transport.write(bytes(BIG))
        assert flow(protocol) == ["pause_writing"]
        # Once, however much follows.
        transport.write(bytes(BIG))
        transport.write(bytes(BIG))
        assert flow(protocol) == ["pause_writing"]


@row("P4E-017")
async def test_pause_is_strictly_above_the_limit(loop):
    async with small(loop) as (transport, protocol, peer):
        await fill(transport)
        size = transport.get_write_buffer_size()
        transport.set_write_buffer_limits(high=size + 100)
        transport.write(bytes(100))
        assert transport.get_write_buffer_size() == size + 100
        assert flow(protocol) == []
        transport.write(b"x")
        assert flow(protocol) == ["pause_writing"]
        assert protocol.sizes == [size + 101]


@row("P4E-017", "P4E-018")
async def test_no_pause_when_the_kernel_takes_it_all(loop):
    async with connected(loop, Watched) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=10)
        for _ in range(20):
            transport.write(bytes(1000))
            await peer_reads(peer, 1000)
        assert flow(protocol) == []


@row("P4E-018")
async def test_resume_when_the_buffer_is_low_enough(loop):
    async with small(loop) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=100000, low=50000)
        transport.write(bytes(BIG))
        assert flow(protocol) == ["pause_writing"]
        await spin(3)
        assert flow(protocol) == ["pause_writing"]
        thread = spawn(recv_exactly, peer, BIG)
        await until(lambda: len(protocol.sizes) == 2)
        assert flow(protocol) == ["pause_writing", "resume_writing"]
        assert protocol.sizes[0] > 100000
        assert protocol.sizes[1] <= 50000
        await asyncio.to_thread(join_all, [thread])


@row("P4E-019")
async def test_high_zero_pauses_on_any_buffered_byte(loop):
    async with small(loop) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=0)
        written = await fill(transport)
        assert flow(protocol) == ["pause_writing"]
        await peer_reads(peer, written)
        await until(lambda: len(flow(protocol)) == 2)
        assert protocol.sizes[1] == 0


@row("P4E-020")
async def test_new_limits_may_pause_at_once(loop):
    async with small(loop) as (transport, protocol, peer):
        await fill(transport)
        assert flow(protocol) == []
        transport.set_write_buffer_limits(high=0)
        assert flow(protocol) == ["pause_writing"]


@row("P4E-020")
async def test_new_limits_never_resume(loop):
    async with small(loop) as (transport, protocol, peer):
        transport.write(bytes(BIG))
        assert flow(protocol) == ["pause_writing"]
        transport.set_write_buffer_limits(high=10 * BIG)
        await spin(3)
        assert flow(protocol) == ["pause_writing"]


@row("P4E-017", "P4E-018")
async def test_pauses_and_resumptions_alternate(loop):
    async with small(loop) as (transport, protocol, peer):
        total = 0
        for round_ in range(5):
            transport.write(bytes(200000))
            total += 200000
            assert flow(protocol) == (
                ["pause_writing", "resume_writing"] * round_
                + ["pause_writing"]
            )
            thread = spawn(recv_exactly, peer, 200000)
            await until(lambda: flow(protocol)[-1] == "resume_writing")
            await asyncio.to_thread(join_all, [thread])
            await until(lambda: transport.get_write_buffer_size() == 0)


@row("P4E-018")
async def test_failing_pause_writing(loop, errors):
    class Failing(Recorder):
        def pause_writing(self):
            raise ValueError("no pause")

    async with small(loop, Failing) as (transport, protocol, peer):
        transport.write(bytes(BIG))
        (context,) = errors
        errors.clear()
        assert context["message"] == "protocol.pause_writing() failed"
        assert str(context["exception"]) == "no pause"
        assert context["transport"] is transport
        assert context["protocol"] is protocol
        await peer_reads(peer, BIG)


@row("P4E-018")
async def test_failing_resume_writing(loop, errors):
    class Failing(Recorder):
        def resume_writing(self):
            raise ValueError("no resumption")

    async with small(loop, Failing) as (transport, protocol, peer):
        transport.write(bytes(BIG))
        await peer_reads(peer, BIG)
        await until(lambda: errors)
        (context,) = errors
        errors.clear()
        assert context["message"] == "protocol.resume_writing() failed"
        assert not transport.is_closing()
        transport.write(b"works on")
        assert await peer_reads(peer, 8) == b"works on"


async def test_write_within_resume_writing(loop):
    class Greedy(Recorder):
        left = 5

        def resume_writing(self):
            super().resume_writing()
            if self.left:
                self.left -= 1
                self.transport.write(bytes(200000))

    async with small(loop, Greedy) as (transport, protocol, peer):
        transport.write(bytes(200000))
        await peer_reads(peer, 6 * 200000)
        await until(lambda: transport.get_write_buffer_size() == 0)
        assert flow(protocol)[0] == "pause_writing"
        assert flow(protocol).count("resume_writing") == 6


@row("P4E-026")
@pytest.mark.oracle_skip("it calls connection_lost() twice")
async def test_resume_writing_that_closes(loop):
    class Closing(Recorder):
        def resume_writing(self):
            super().resume_writing()
            self.transport.close()

    async with small(loop, Closing) as (transport, protocol, peer):
        transport.write(bytes(BIG))
        await peer_reads(peer, BIG)
        assert await protocol.lost is None
        await spin(5)
        assert protocol.calls.count("connection_lost") == 1
        assert protocol.calls[-1] == "connection_lost"


@row("P4E-026")
@pytest.mark.oracle_skip("it tears the transport down twice")
async def test_resume_writing_that_aborts(loop):
    class Aborting(Recorder):
        def resume_writing(self):
            super().resume_writing()
            self.transport.abort()

    async with small(loop, Aborting) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=1000, low=999)
        transport.write(bytes(BIG))
        thread = spawn(drain_until_the_end, peer)
        assert await protocol.lost is None
        await spin(5)
        assert protocol.calls.count("connection_lost") == 1
        await asyncio.to_thread(join_all, [thread])


def drain_until_the_end(sock):
    try:
        while sock.recv(1 << 16):
            pass
    except ConnectionError:
        pass


async def test_pause_writing_that_aborts(loop):
    class Aborting(Recorder):
        def pause_writing(self):
            super().pause_writing()
            self.transport.abort()

    async with small(loop, Aborting) as (transport, protocol, peer):
        transport.write(bytes(BIG))
        assert transport.get_write_buffer_size() == 0
        assert await protocol.lost is None
        assert protocol.calls == [
            "connection_made",
            "pause_writing",
            "connection_lost",
        ]


async def test_size_of_the_buffer(loop):
    async with small(loop) as (transport, protocol, peer):
        await fill(transport)
        size = transport.get_write_buffer_size()
        transport.write(bytes(1000))
        transport.write(bytearray(234))
        transport.write(memoryview(bytes(10)))
        assert transport.get_write_buffer_size() == size + 1244
        transport.abort()
        assert transport.get_write_buffer_size() == 0


async def test_size_of_the_buffer_counts_bytes_not_items(loop):
    import array

    async with small(loop) as (transport, protocol, peer):
        await fill(transport)
        size = transport.get_write_buffer_size()
        view = memoryview(array.array("Q", range(100))).cast("B")
        transport.write(view)
        assert transport.get_write_buffer_size() == size + 800


async def test_pause_goes_to_the_current_protocol(loop):
    async with small(loop) as (transport, first, peer):
        second = Recorder()
        transport.set_protocol(second)
        transport.write(bytes(BIG))
        assert second.calls == ["pause_writing"]
        assert flow(first) == []


async def test_writelines_counts_too(loop):
    async with small(loop) as (transport, protocol, peer):
        await fill(transport)
        size = transport.get_write_buffer_size()
        transport.writelines([bytes(100)] * 10)
        assert transport.get_write_buffer_size() == size + 1000


@row("P2E-008")
@pytest.mark.oracle_skip("3.12 and 3.13.0 forget it after writelines()")
async def test_writelines_pauses_too(loop):
    async with small(loop) as (transport, protocol, peer):
        transport.writelines([bytes(BIG // 2)] * 2)
        assert flow(protocol) == ["pause_writing"]
