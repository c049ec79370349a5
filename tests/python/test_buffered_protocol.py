# SPDX-License-Identifier: MIT
"""BufferedProtocol: reading into the protocol's own buffer."""

import array
import asyncio
import socket

import pytest

from support.leaks import join_all, spawn
from support.net import connected, reset, spin
from support.protocols import Buffered

row = pytest.mark.row


@row("P2E-001", "P4E-033")
async def test_data_goes_into_the_buffer(loop):
    async with connected(loop, Buffered) as (transport, protocol, peer):
        peer.send(b"hello")
        assert await protocol.received(5) == b"hello"
        assert protocol.hints == [-1]
        peer.send(b"again")
        assert await protocol.received(10) == b"helloagain"
        assert protocol.hints == [-1, -1]
        peer.close()
        assert await protocol.lost is None
        assert protocol.calls == [
            "connection_made",
            "buffer_updated",
            "buffer_updated",
            "eof_received",
            "connection_lost",
        ]


@row("P2E-001")
@pytest.mark.parametrize("size", [1, 7, 4096, 1 << 20])
async def test_sizes_of_the_buffer(loop, size):
    data = bytes(range(256)) * (256 if size > 7 else 4)
    async with connected(loop, lambda: Buffered(size)) as (
        transport,
        protocol,
        peer,
    ):
        thread = spawn(peer.sendall, data)
        assert await protocol.received(len(data)) == data
        join_all([thread])


@row("P4E-033")
@pytest.mark.parametrize(
    "make",
    [
        lambda: bytearray(100),
        lambda: memoryview(bytearray(100)),
        lambda: memoryview(bytearray(200))[50:150],
        lambda: array.array("b", bytes(100)),
    ],
    ids=["bytearray", "memoryview", "slice", "array"],
)
async def test_kinds_of_buffers(loop, make):
    class Own(Buffered):
        def get_buffer(self, sizehint):
            self.buffer = make()
            return self.buffer

        def buffer_updated(self, nbytes):
            self.data += bytes(self.buffer[:nbytes])
            super().buffer_updated(0)

    async with connected(loop, Own) as (transport, protocol, peer):
        peer.send(b"hello")
        assert await protocol.received(5) == b"hello"


@row("P4E-033")
@pytest.mark.parametrize("empty", [bytearray(), memoryview(bytearray(4))[:0]])
async def test_empty_buffer(loop, errors, empty):
    class Empty(Buffered):
        def get_buffer(self, sizehint):
            return empty

    async with connected(loop, Empty) as (transport, protocol, peer):
        peer.send(b"x")
        exc = await protocol.lost
        assert type(exc) is RuntimeError
        assert str(exc) == "get_buffer() returned an empty buffer"
    (context,) = errors
    errors.clear()
    assert context["message"] == (
        "Fatal error: protocol.get_buffer() call failed."
    )
    assert context["exception"] is exc
    assert context["transport"] is transport
    assert context["protocol"] is protocol


@row("P4E-033")
@pytest.mark.parametrize("wrong", [None, 5, "text", b"", object()])
async def test_what_is_not_a_writable_buffer(loop, errors, wrong):
    class Wrong(Buffered):
        def get_buffer(self, sizehint):
            return wrong

    async with connected(loop, Wrong) as (transport, protocol, peer):
        peer.send(b"x")
        exc = await protocol.lost
        assert isinstance(exc, (TypeError, RuntimeError))
    (context,) = errors
    errors.clear()
    assert context["exception"] is exc


@row("P4E-033")
async def test_read_only_buffer(loop, errors):
    class ReadOnly(Buffered):
        def get_buffer(self, sizehint):
            return b"read only"

    async with connected(loop, ReadOnly) as (transport, protocol, peer):
        peer.send(b"x")
        exc = await protocol.lost
        assert isinstance(exc, (TypeError, BufferError))
    (context,) = errors
    errors.clear()
    assert context["message"] in (
        "Fatal read error on socket transport",
        "Fatal error: protocol.get_buffer() call failed.",
    )


@row("P4E-033")
async def test_failing_get_buffer(loop, errors):
    class Failing(Buffered):
        def get_buffer(self, sizehint):
            raise ValueError("no buffer")

    async with connected(loop, Failing) as (transport, protocol, peer):
        peer.send(b"x")
        exc = await protocol.lost
        assert type(exc) is ValueError
    (context,) = errors
    errors.clear()
    assert context["message"] == (
        "Fatal error: protocol.get_buffer() call failed."
    )


@row("P4E-034")
async def test_failing_buffer_updated(loop, errors):
    class Failing(Buffered):
        def buffer_updated(self, nbytes):
            raise ValueError("not updated")

    async with connected(loop, Failing) as (transport, protocol, peer):
        peer.send(b"x")
        exc = await protocol.lost
        assert type(exc) is ValueError
    (context,) = errors
    errors.clear()
    assert context["message"] == (
        "Fatal error: protocol.buffer_updated() call failed."
    )
    assert context["exception"] is exc


async def test_failing_eof_received(loop, errors):
    class Failing(Buffered):
        def eof_received(self):
            raise ValueError("bad end")

    async with connected(loop, Failing) as (transport, protocol, peer):
        peer.shutdown(socket.SHUT_WR)
        exc = await protocol.lost
        assert type(exc) is ValueError
    (context,) = errors
    errors.clear()
    assert context["message"] == (
        "Fatal error: protocol.eof_received() call failed."
    )


@row("P4E-032", "P2E-005")
async def test_choice_is_made_by_isinstance(loop):
    """Methods alone do not make a buffered protocol."""

    class Both(asyncio.Protocol):
        def __init__(self):
            self.got = asyncio.get_running_loop().create_future()

        def get_buffer(self, sizehint):
            raise AssertionError("not a BufferedProtocol")

        def buffer_updated(self, nbytes):
            raise AssertionError("not a BufferedProtocol")

        def data_received(self, data):
            self.got.set_result(data)

    async with connected(loop, Both) as (transport, protocol, peer):
        peer.send(b"data")
        assert await protocol.got == b"data"


async def test_buffer_is_not_held_between_reads(loop):
    async with connected(loop, Buffered) as (transport, protocol, peer):
        peer.send(b"one")
        await protocol.received(3)
        await spin(2)
        # A held buffer could not be resized.
        protocol.buffer.extend(bytes(100))
        peer.send(b"two")
        assert await protocol.received(6) == b"onetwo"


async def test_pause_and_resume(loop):
    async with connected(loop, Buffered) as (transport, protocol, peer):
        await spin(2)
        transport.pause_reading()
        peer.send(b"x")
        await spin(5)
        assert protocol.hints == []
        transport.resume_reading()
        assert await protocol.received(1) == b"x"


async def test_reset_by_the_peer(loop):
    async with connected(loop, Buffered) as (transport, protocol, peer):
        await spin(2)
        reset(peer)
        assert type(await protocol.lost) is ConnectionResetError


async def test_close_within_buffer_updated(loop):
    class Closing(Buffered):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.close()

    async with connected(loop, Closing) as (transport, protocol, peer):
        peer.send(b"one")
        assert await protocol.lost is None
        assert protocol.calls == [
            "connection_made",
            "buffer_updated",
            "connection_lost",
        ]


async def test_set_protocol_within_buffer_updated(loop):
    from support.protocols import Recorder

    class Switching(Buffered):
        def buffer_updated(self, nbytes):
            super().buffer_updated(nbytes)
            self.transport.set_protocol(after)

    after = Recorder()
    async with connected(loop, Switching) as (transport, protocol, peer):
        peer.send(b"one")
        await protocol.received(3)
        peer.send(b"two")
        assert await after.received(3) == b"two"
        assert protocol.data == b"one"
