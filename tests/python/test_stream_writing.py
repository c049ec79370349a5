# SPDX-License-Identifier: MIT
"""Stream transports: write, writelines, write_eof."""

import array
import asyncio
import logging
import select
import socket

import pytest

from support.leaks import join_all, spawn
from support.loops import PY312, PY314, turn
from support.meddling import (
    MeddlingBuffer,
    MeddlingLength,
    meddling,
    needs_python_buffers,
    sees_the_end,
)
from support.net import (
    connected,
    peer_reads,
    peer_reads_all,
    peer_recv,
    recv_all,
    recv_exactly,
    reset,
    small_pair,
    spin,
    tcp_pair,
    until,
)
from support.protocols import HalfOpen, Recorder
from support.writes import write_and_look, write_much, write_past_the_limit

row = pytest.mark.row


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, logger="asyncio")
    return caplog


def warnings_of(log):
    return [
        record.getMessage()
        for record in log.records
        if record.levelno == logging.WARNING
    ]


@row("P4E-015")
async def test_write(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        assert transport.write(b"hello") is None
        assert transport.get_write_buffer_size() == 0
        assert await peer_recv(peer) == b"hello"


def write_and_close(transport):
    transport.write(b"a little")
    transport.close()


def write_and_end(transport):
    transport.write(b"a little")
    transport.write_eof()


def end(transport):
    transport.write_eof()


@pytest.mark.parametrize(
    "write",
    [
        write_much,
        write_past_the_limit,
        write_and_look,
        write_and_close,
        write_and_end,
        end,
    ],
)
async def test_what_is_sent_early_is_not_before_what_was_written(loop, write):
    """Two connections in one callback; epoll tells what came first."""
    async with (
        connected(loop, Recorder) as (first, _, first_peer),
        connected(loop, Recorder) as (second, _, second_peer),
    ):
        with select.epoll() as arrivals:
            for peer in second_peer, first_peer:
                arrivals.register(peer, select.EPOLLIN | select.EPOLLET)
            first.write(b"first")
            write(second)
            await spin(1)
            found = [number for number, _ in arrivals.poll(0)]
        assert found == [first_peer.fileno(), second_peer.fileno()]


@row("P4E-010")
@pytest.mark.parametrize(
    "data",
    [
        b"bytes",
        bytearray(b"bytearray"),
        memoryview(b"memoryview"),
        memoryview(bytearray(b"slice of it"))[2:6],
        memoryview(b"every second")[::2],
        memoryview(array.array("I", [1, 2, 3])),
    ],
    ids=["bytes", "bytearray", "view", "slice", "strided", "wide"],
)
async def test_kinds_of_data(loop, data):
    wanted = bytes(data)
    async with connected(loop, Recorder) as (transport, protocol, peer):
        if isinstance(data, memoryview) and not data.c_contiguous:
            pytest.skip("CPython refuses it in send()")
        transport.write(data)
        transport.write(b"|")
        assert await peer_reads(peer, len(wanted) + 1) == wanted + b"|"


KINDS_OF_MEDDLING = [
    pytest.param(MeddlingBuffer, marks=needs_python_buffers, id="buffer"),
    pytest.param(MeddlingLength, id="length"),
]


def write_line(transport, data):
    transport.writelines([data])


def write_data(transport, data):
    transport.write(data)


@pytest.mark.becket_only("CPython's depends on what the kernel takes")
@pytest.mark.parametrize("size", [10, 20_000])
@pytest.mark.parametrize("before", [b"before", bytes(1_000_000)])
@pytest.mark.parametrize("kind", KINDS_OF_MEDDLING)
async def test_data_that_ends_the_stream(loop, kind, before, size):
    """It comes after the end; what was written before is sent."""
    async with connected(loop, HalfOpen, pair=small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(before)
        with pytest.raises(RuntimeError, match="write.. after write_eof"):
            transport.write(meddling(kind, transport.write_eof, size))
        assert await peer_reads_all(peer) == before
        peer.sendall(b"still there")
        await until(lambda: protocol.data == b"still there")


@needs_python_buffers
@pytest.mark.becket_only("CPython's depends on what the kernel takes")
@pytest.mark.parametrize("before", [b"before", bytes(1_000_000)])
async def test_a_line_that_ends_the_stream(loop, before):
    async with connected(loop, HalfOpen, pair=small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(before)
        with pytest.raises(RuntimeError, match="after write_eof"):
            transport.writelines(
                [b"line", meddling(MeddlingBuffer, transport.write_eof)]
            )
        assert await peer_reads_all(peer) == before
        peer.sendall(b"still there")
        await until(lambda: protocol.data == b"still there")


@pytest.mark.parametrize("kind", KINDS_OF_MEDDLING)
async def test_data_that_ends_a_stream_that_closes(loop, kind):
    """write_eof() does nothing after close()."""
    async with connected(loop, Recorder, pair=small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(bytes(1_000_000))
        transport.close()
        transport.write(meddling(kind, transport.write_eof))
        transport.write(b"more")
        assert await peer_reads_all(peer) == bytes(1_000_000) + (
            b"d" * 10 + b"more"
        )
        assert await asyncio.wait_for(protocol.lost, 10) is None


@needs_python_buffers
@pytest.mark.becket_only("CPython sends it in the middle of the close")
@pytest.mark.parametrize("write", [write_data, write_line])
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_data_that_closes_the_stream(loop, log, end, write):
    """It is dropped, as all that is written after the close."""
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.write(b"before")
        write(transport, meddling(MeddlingBuffer, getattr(transport, end)))
        assert await peer_reads_all(peer) == b"before"
        assert await asyncio.wait_for(protocol.lost, 10) is None
        assert warnings_of(log) == []


@needs_python_buffers
async def test_data_that_closes_a_stream_that_waits(loop):
    async with connected(loop, Recorder, pair=small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(bytes(1_000_000))
        transport.write(meddling(MeddlingBuffer, transport.close))
        assert await peer_reads_all(peer) == bytes(1_000_000) + b"d" * 10
        assert await asyncio.wait_for(protocol.lost, 10) is None


@needs_python_buffers
@pytest.mark.becket_only("CPython raises AttributeError from inside")
@pytest.mark.parametrize("size", [10, 20_000])
@pytest.mark.parametrize("write", [write_data, write_line])
@pytest.mark.parametrize("fails", [False, True])
def test_data_that_sees_the_end(loop, write, size, fails):
    """Outside of a run it can run the loop until the connection is gone."""
    ours, peer = tcp_pair()
    transport, protocol = loop.run_until_complete(
        loop.create_connection(Recorder, sock=ours)
    )

    hook = sees_the_end(loop, transport, protocol, fails)
    data = meddling(MeddlingBuffer, hook, size)
    with peer:
        if fails:
            with pytest.raises(ValueError, match="the data is gone"):
                write(transport, data)
        else:
            write(transport, data)
        assert recv_all(peer) == b""


@row("P4E-010")
@pytest.mark.parametrize("wrong", ["text", None, 5, [b"x"], object()])
async def test_write_of_a_wrong_type(loop, wrong):
    name = type(wrong).__name__
    if PY314:
        text = (
            "data argument must be a bytes, bytearray, or memoryview object,"
            f" not '{name}'"
        )
    else:
        text = f"data argument must be a bytes-like object, not '{name}'"
    async with connected(loop, Recorder) as (transport, protocol, peer):
        with pytest.raises(TypeError) as caught:
            transport.write(wrong)
        assert str(caught.value) == text
        transport.write(b"still works")
        assert await peer_recv(peer) == b"still works"
        transport.close()
        with pytest.raises(TypeError):
            transport.write(wrong)


@row("P4E-010")
async def test_arrays_are_refused_by_write(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        with pytest.raises(TypeError):
            transport.write(array.array("b", b"x"))


@row("P4E-011")
async def test_write_of_nothing(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        for empty in (b"", bytearray(), memoryview(b"")):
            assert transport.write(empty) is None
        assert transport.get_write_buffer_size() == 0
        transport.write_eof()
        with pytest.raises(RuntimeError):
            transport.write(b"")


@row("P4E-012")
async def test_write_after_write_eof(loop):
    text = r"^Cannot call write\(\) after write_eof\(\)$"
    async with connected(loop, HalfOpen) as (transport, protocol, peer):
        transport.write_eof()
        with pytest.raises(RuntimeError, match=text):
            transport.write(b"x")
        transport.close()
        with pytest.raises(RuntimeError, match=text):
            transport.write(b"x")
        await protocol.lost
        with pytest.raises(RuntimeError, match=text):
            transport.write(b"x")


@row("P4E-012", "P4E-035")
async def test_writelines_after_write_eof(loop):
    name = "writelines" if PY312 else "write"
    async with connected(loop, HalfOpen) as (transport, protocol, peer):
        transport.write_eof()
        with pytest.raises(
            RuntimeError, match=rf"^Cannot call {name}\(\) after write_eof"
        ):
            transport.writelines([b"x"])


@row("P4E-015")
@pytest.mark.parametrize("size", [1, 1000, 65536, 262144, 4 << 20, 20 << 20])
async def test_sizes(loop, size):
    data = bytes(range(253)) * (size // 253 + 1)
    data = data[:size]
    async with connected(loop, Recorder) as (transport, protocol, peer):
        got = []
        thread = spawn(lambda: got.append(recv_exactly(peer, size)))
        transport.write(data)
        await asyncio.to_thread(join_all, [thread])
        assert got == [data]
        await until(lambda: transport.get_write_buffer_size() == 0)


async def test_many_writes_keep_their_order(loop):
    pieces = [bytes([n % 256]) * (n * 97 % 3000) for n in range(2000)]
    async with connected(loop, Recorder, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        got = []
        total = sum(map(len, pieces))
        thread = spawn(lambda: got.append(recv_exactly(peer, total)))
        for number, piece in enumerate(pieces):
            transport.write(piece)
            if number % 100 == 0:
                await asyncio.sleep(0)
        await asyncio.to_thread(join_all, [thread])
        assert got == [b"".join(pieces)]


@row("P2E-008", "P4E-035")
@pytest.mark.parametrize("kind", [list, tuple, lambda items: iter(items)])
async def test_writelines(loop, kind):
    pieces = [b"one", bytearray(b"two"), memoryview(b"three")]
    async with connected(loop, Recorder) as (transport, protocol, peer):
        assert transport.writelines(kind(pieces)) is None
        assert await peer_reads(peer, 11) == b"onetwothree"


@row("P4E-035")
async def test_writelines_of_nothing(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        for empty in ([], (), [b""], [b"", b""]):
            if not PY312 or not empty:
                transport.writelines(empty)
        transport.write(b"end")
        assert await peer_recv(peer) == b"end"


@row("P2E-008")
async def test_writelines_with_more_pieces_than_one_call_takes(loop):
    pieces = [b"%06d" % number for number in range(5000)]
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.writelines(pieces)
        assert await peer_reads(peer, 30000) == b"".join(pieces)


async def test_writelines_after_write_under_pressure(loop):
    async with connected(loop, Recorder, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        first = b"a" * (1 << 20)
        transport.write(first)
        transport.writelines([b"b" * 1000, b"c" * 100000, b"d"])
        got = []
        thread = spawn(lambda: got.append(recv_exactly(peer, 1149577)))
        await asyncio.to_thread(join_all, [thread])
        assert got[0] == first + b"b" * 1000 + b"c" * 100000 + b"d"


@pytest.mark.parametrize("wrong", [None, 5, [None], ["text"], [1]])
async def test_writelines_of_a_wrong_type(loop, wrong):
    if not wrong:
        pytest.skip("None counts as nothing in CPython")
    async with connected(loop, Recorder) as (transport, protocol, peer):
        with pytest.raises(TypeError):
            transport.writelines(wrong)


@row("P4E-016")
@pytest.mark.becket_only("CPython 3.12 and later sends the changed bytes")
async def test_mutable_data_is_copied(loop):
    async with connected(loop, Recorder, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        data = bytearray(b"a" * (1 << 20))
        view = memoryview(bytearray(b"b" * 1000))
        transport.write(data)
        transport.write(view)
        data[:] = b"x" * len(data)
        data.clear()
        view[:] = b"y" * 1000
        view.release()
        got = []
        total = (1 << 20) + 1000
        thread = spawn(lambda: got.append(recv_exactly(peer, total)))
        await asyncio.to_thread(join_all, [thread])
        assert got[0] == b"a" * (1 << 20) + b"b" * 1000


@row("P4E-016")
@pytest.mark.becket_only("CPython sends inside write()")
async def test_small_mutable_data_changed_in_the_same_callback(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        data = bytearray(b"before")
        transport.write(data)
        data[:] = b"after!"
        transport.write(data)
        data.clear()
        await asyncio.sleep(0)
        assert await peer_reads(peer, 12) == b"beforeafter!"


@row("P4E-021")
async def test_write_eof(loop):
    async with connected(loop, HalfOpen) as (transport, protocol, peer):
        assert transport.can_write_eof() is True
        transport.write(b"last")
        assert transport.write_eof() is None
        transport.write_eof()
        assert await peer_reads_all(peer) == b"last"
        peer.send(b"still heard")
        assert await protocol.received(11) == b"still heard"
        assert not transport.is_closing()


@row("P4E-021")
async def test_write_eof_after_the_flush(loop):
    data = bytes(1 << 20)
    async with connected(loop, HalfOpen, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(data)
        transport.write_eof()
        assert transport.get_write_buffer_size() > 0
        got = []
        thread = spawn(lambda: got.append(recv_all(peer)))
        await asyncio.to_thread(join_all, [thread])
        assert got == [data]


@row("P4E-021")
async def test_write_eof_on_a_closing_transport(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.close()
        assert transport.write_eof() is None
        await protocol.lost
        assert transport.write_eof() is None


async def test_write_eof_then_close(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.write(b"x")
        transport.write_eof()
        transport.close()
        assert await protocol.lost is None
        assert await peer_reads_all(peer) == b"x"


@row("P4E-013")
async def test_write_after_close_is_dropped(loop, log):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.close()
        for _ in range(4):
            transport.write(b"dropped")
        assert warnings_of(log) == []
        transport.write(b"dropped")
        transport.write(b"dropped")
        assert warnings_of(log) == ["socket.send() raised exception."] * 2
        await protocol.lost
        assert await peer_reads_all(peer) == b""


@row("P4E-013")
async def test_write_after_connection_lost(loop, log):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        reset(peer)
        await protocol.lost
        for _ in range(10):
            transport.write(b"dropped")
        assert "socket.send() raised exception." in warnings_of(log)


@row("P4E-013")
async def test_write_after_abort(loop, log):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.abort()
        transport.write(b"dropped")
        await protocol.lost
        transport.write(b"dropped")
        assert await peer_reads_all(peer) == b""


@row("P4E-014")
async def test_write_after_close_while_flushing(loop):
    """As long as close() flushes, what is written still goes out."""
    data = b"a" * (1 << 20)
    async with connected(loop, Recorder, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(data)
        assert transport.get_write_buffer_size() > 0
        transport.close()
        transport.write(b"b" * 10)
        got = []
        thread = spawn(lambda: got.append(recv_all(peer)))
        assert await protocol.lost is None
        join_all([thread])
        assert got == [data + b"b" * 10]


@pytest.mark.becket_only("CPython raises from some of these")
@pytest.mark.parametrize("state", ["closed", "aborted", "reset", "lost"])
async def test_nothing_raises_once_the_connection_ends(loop, state):
    async with connected(loop, HalfOpen) as (transport, protocol, peer):
        await spin(2)
        if state == "reset":
            reset(peer)
        elif state == "aborted":
            transport.abort()
        else:
            transport.close()
        if state == "lost":
            await protocol.lost
        for _ in range(3):
            transport.write(b"x")
            transport.writelines([b"x", b"y"])
            transport.write(b"")
            transport.writelines([])
        transport.write_eof()
        transport.pause_reading()
        transport.resume_reading()
        transport.get_write_buffer_size()
        transport.set_write_buffer_limits(high=10)
        transport.close()
        transport.abort()
        repr(transport)
        await protocol.lost
        transport.close()
        transport.abort()
        transport.set_protocol(protocol)


@row("P4E-015")
async def test_write_to_a_peer_that_has_reset(loop, errors):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        transport.pause_reading()
        reset(peer)
        transport.write(b"x")
        # The failure shows at once, though it raises nothing.
        assert transport.is_closing()
        assert isinstance(await protocol.lost, ConnectionError)
    assert errors == []


@row("P4E-015", "P4E-027")
async def test_broken_pipe_while_flushing(loop, errors):
    async with connected(loop, HalfOpen, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(bytes(1 << 20))
        await spin(2)
        reset(peer)
        assert isinstance(await protocol.lost, ConnectionError)
        assert transport.get_write_buffer_size() == 0
    assert errors == []


async def test_write_in_connection_made(loop):
    class Greeting(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"welcome")

    async with connected(loop, Greeting) as (transport, protocol, peer):
        assert await peer_recv(peer) == b"welcome"


async def test_write_in_data_received(loop):
    class Answering(Recorder):
        def data_received(self, data):
            self.transport.write(data.upper())

    async with connected(loop, Answering) as (transport, protocol, peer):
        peer.setblocking(False)
        for _ in range(20):
            await loop.sock_sendall(peer, b"question")
            assert await loop.sock_recv(peer, 100) == b"QUESTION"


async def test_write_in_connection_lost_is_dropped(loop):
    class Late(Recorder):
        def connection_lost(self, exc):
            self.transport.write(b"too late")
            self.transport.write_eof()
            self.transport.close()
            super().connection_lost(exc)

    async with connected(loop, Late) as (transport, protocol, peer):
        transport.close()
        await protocol.lost
        assert await peer_reads_all(peer) == b""


def test_write_while_the_loop_does_not_run(loop, run_main):
    async def connect():
        ours, peer = tcp_pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        return transport, protocol, peer

    transport, protocol, peer = run_main(connect())
    transport.write(b"at once")
    assert peer.recv(100) == b"at once"
    transport.writelines([b"these ", b"too"])
    assert recv_exactly(peer, 9) == b"these too"
    transport.write(b"and then")
    transport.close()
    turn(loop)
    assert recv_all(peer) == b"and then"
    peer.close()


async def test_write_from_another_thread(loop):
    """Not promised by asyncio, but programs do it and CPython sends."""
    async with connected(loop, Recorder) as (transport, protocol, peer):
        join_all([spawn(transport.write, b"from a thread")])
        assert peer.recv(100) == b"from a thread"


async def test_full_duplex(loop):
    """Both directions at full load at once."""
    size = 4 << 20
    data = bytes(range(256)) * (size // 256)
    async with connected(loop, Recorder) as (transport, protocol, peer):
        got = []
        reader = spawn(lambda: got.append(recv_exactly(peer, size)))
        writer = spawn(peer.sendall, data)
        transport.write(data)
        assert await protocol.received(size) == data
        await asyncio.to_thread(join_all, [reader, writer])
        assert got == [data]


async def test_unix_streams(loop):
    ours, peer = socket.socketpair()
    peer.settimeout(10)
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    data = bytes(1 << 20)
    got = []
    thread = spawn(lambda: got.append(recv_exactly(peer, len(data))))
    transport.write(data)
    await asyncio.to_thread(join_all, [thread])
    assert got == [data]
    peer.close()
    await protocol.lost
    await spin()
