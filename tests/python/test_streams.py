# SPDX-License-Identifier: MIT
"""open_connection, start_server, StreamReader and StreamWriter."""

import asyncio
import contextlib
import gc
import socket
import sys
import weakref

import pytest

from support.leaks import join_all, spawn
from support.net import (
    has_ipv6,
    peer_recv,
    recv_exactly,
    refusing_port,
    reset,
    small_pair,
    spin,
    tcp_pair,
    until,
)

row = pytest.mark.row


@contextlib.asynccontextmanager
async def stream(pair=tcp_pair, **kwargs):
    """A reader and a writer whose peer is a plain blocking socket."""
    ours, peer = pair()
    reader, writer = await asyncio.open_connection(sock=ours, **kwargs)
    try:
        yield reader, writer, peer
    finally:
        peer.close()
        if ours.fileno() != -1:
            writer.transport.abort()
        await spin(3)
        # A reader that never looks leaves the future of the loss unread.
        with contextlib.suppress(ConnectionError):
            await writer.wait_closed()


@row("P1A-092", "P1A-134")
async def test_echo(loop):
    async def serve(reader, writer):
        while data := await reader.read(100):
            writer.write(data)
            await writer.drain()
        writer.close()
        await writer.wait_closed()
        ended.set_result(None)

    ended = loop.create_future()
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    reader, writer = await asyncio.open_connection(*address)
    assert isinstance(reader, asyncio.StreamReader)
    assert isinstance(writer, asyncio.StreamWriter)
    for number in range(50):
        writer.write(b"%d\n" % number)
        await writer.drain()
        assert await reader.readline() == b"%d\n" % number
    writer.write_eof()
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    await ended
    server.close()
    await server.wait_closed()


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on the loopback")
async def test_ipv6(loop):
    async def serve(reader, writer):
        writer.write(await reader.readexactly(4))
        writer.close()

    async with await asyncio.start_server(serve, "::1", 0) as server:
        address = server.sockets[0].getsockname()[:2]
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"six!")
        assert await reader.read() == b"six!"
        writer.close()
        await writer.wait_closed()


@pytest.mark.parametrize("size", [1, 65536, 65537, 300000, 5 << 20])
async def test_big_data_both_ways(loop, size):
    data = bytes(range(256)) * (size // 256 + 1)
    data = data[:size]

    async def serve(reader, writer):
        received = await reader.readexactly(size)
        writer.write(received)
        await writer.drain()
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        writer.write(data)
        await writer.drain()
        assert await reader.read(-1) == data
        assert reader.at_eof()
        writer.close()
        await writer.wait_closed()


async def test_read(loop):
    async with stream() as (reader, writer, peer):
        peer.send(b"hello world")
        assert await reader.read(5) == b"hello"
        assert await reader.read(100) == b" world"
        assert await reader.read(0) == b""
        waiting = asyncio.create_task(reader.read(10))
        await spin(2)
        assert not waiting.done()
        peer.send(b"late")
        assert await waiting == b"late"
        assert not reader.at_eof()
        peer.shutdown(socket.SHUT_WR)
        assert await reader.read(10) == b""
        assert reader.at_eof()
        assert await reader.read() == b""


async def test_readexactly(loop):
    async with stream() as (reader, writer, peer):
        waiting = asyncio.create_task(reader.readexactly(6))
        for piece in (b"ab", b"cd", b"ef"):
            await spin(2)
            peer.send(piece)
        assert await waiting == b"abcdef"
        assert await reader.readexactly(0) == b""
        with pytest.raises(ValueError):
            await reader.readexactly(-1)
        peer.send(b"part")
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readexactly(10)
        assert caught.value.partial == b"part"
        assert caught.value.expected == 10


async def test_readline(loop):
    async with stream() as (reader, writer, peer):
        peer.send(b"one\ntwo\nthr")
        assert await reader.readline() == b"one\n"
        assert await reader.readline() == b"two\n"
        waiting = asyncio.create_task(reader.readline())
        await spin(2)
        peer.send(b"ee\nrest")
        assert await waiting == b"three\n"
        peer.shutdown(socket.SHUT_WR)
        assert await reader.readline() == b"rest"
        assert await reader.readline() == b""


async def test_async_iteration(loop):
    async with stream() as (reader, writer, peer):
        peer.send(b"a\nb\nc")
        peer.shutdown(socket.SHUT_WR)
        assert [line async for line in reader] == [b"a\n", b"b\n", b"c"]


async def test_readuntil(loop):
    async with stream() as (reader, writer, peer):
        peer.send(b"head\r\n\r\nbody")
        assert await reader.readuntil(b"\r\n\r\n") == b"head\r\n\r\n"
        waiting = asyncio.create_task(reader.readuntil(b"END"))
        await spin(2)
        peer.send(b"EN")
        await spin(2)
        peer.send(b"D")
        assert await waiting == b"bodyEND"
        with pytest.raises(ValueError):
            await reader.readuntil(b"")
        peer.send(b"no separator")
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(asyncio.IncompleteReadError) as caught:
            await reader.readuntil(b"|")
        assert caught.value.partial == b"no separator"


@pytest.mark.since(3, 13)
async def test_readuntil_with_several_separators(loop):
    async with stream() as (reader, writer, peer):
        peer.send(b"one\r\ntwo\nthree")
        assert await reader.readuntil((b"\r\n", b"\n")) == b"one\r\n"
        assert await reader.readuntil((b"\r\n", b"\n")) == b"two\n"


async def test_limit(loop):
    async with stream(limit=100) as (reader, writer, peer):
        peer.send(b"x" * 150 + b"\n")
        with pytest.raises(ValueError, match="limit"):
            await reader.readline()
    async with stream(limit=100) as (reader, writer, peer):
        peer.send(b"x" * 150)
        with pytest.raises(asyncio.LimitOverrunError) as caught:
            await reader.readuntil(b"\n")
        assert caught.value.consumed == 150
        assert await reader.readexactly(150) == b"x" * 150


async def test_limit_pauses_the_transport(loop):
    """More than twice the limit in the buffer stops the reading."""
    data = bytes(range(256)) * 4096
    async with stream(limit=1000) as (reader, writer, peer):
        thread = spawn(peer.sendall, data)
        await until(lambda: not writer.transport.is_reading())
        got = bytearray()
        while len(got) < len(data):
            chunk = await reader.read(10000)
            assert chunk
            got += chunk
        assert got == data
        await asyncio.to_thread(join_all, [thread])
        assert writer.transport.is_reading()


async def test_a_paused_reader_holds_the_peer_back(loop):
    async with stream(small_pair, limit=1000) as (reader, writer, peer):
        peer.settimeout(0.05)
        sent = 0
        try:
            while sent < 64 << 20:
                sent += await asyncio.to_thread(peer.send, bytes(65536))
        except TimeoutError:
            pass
        assert sent < 32 << 20
        assert not writer.transport.is_reading()
        got = 0
        while got < sent:
            got += len(await reader.read(1 << 20))
        assert got == sent


async def test_drain_waits(loop):
    async with stream(small_pair) as (reader, writer, peer):
        writer.write(bytes(1 << 20))
        draining = asyncio.create_task(writer.drain())
        await spin(5)
        assert not draining.done()
        thread = spawn(recv_exactly, peer, 1 << 20)
        await draining
        await asyncio.to_thread(join_all, [thread])


@row("P4E-037")
async def test_several_drains_at_once(loop):
    async with stream(small_pair) as (reader, writer, peer):
        writer.write(bytes(1 << 20))
        draining = [asyncio.create_task(writer.drain()) for _ in range(3)]
        await spin(3)
        assert not any(task.done() for task in draining)
        thread = spawn(recv_exactly, peer, 1 << 20)
        await asyncio.gather(*draining)
        await asyncio.to_thread(join_all, [thread])


@row("P4E-037")
async def test_drain_on_a_lost_connection(loop):
    async with stream() as (reader, writer, peer):
        await spin(2)
        reset(peer)
        with pytest.raises(ConnectionResetError):
            while True:
                writer.write(b"x")
                await writer.drain()
                await asyncio.sleep(0)


async def test_waiting_drain_of_a_connection_that_is_lost(loop):
    async with stream(small_pair) as (reader, writer, peer):
        writer.write(bytes(1 << 20))
        draining = asyncio.create_task(writer.drain())
        await spin(2)
        reset(peer)
        with pytest.raises(ConnectionError):
            await draining


async def test_reader_gets_the_exception(loop):
    async with stream() as (reader, writer, peer):
        waiting = asyncio.create_task(reader.read(10))
        await spin(2)
        reset(peer)
        with pytest.raises(ConnectionResetError):
            await waiting
        assert isinstance(reader.exception(), ConnectionResetError)
        with pytest.raises(ConnectionResetError):
            await reader.readline()


async def test_data_before_a_reset_is_lost_with_it_as_in_cpython(loop):
    async with stream() as (reader, writer, peer):
        peer.send(b"x")
        assert await reader.read(1) == b"x"
        reset(peer)
        with pytest.raises(ConnectionResetError):
            await reader.read(1)


@row("P2E-014")
async def test_close_and_wait_closed(loop):
    async with stream() as (reader, writer, peer):
        assert not writer.is_closing()
        writer.write(b"last")
        writer.close()
        assert writer.is_closing()
        await writer.wait_closed()
        await writer.wait_closed()
        assert await asyncio.to_thread(recv_exactly, peer, 4) == b"last"
        assert peer.recv(1) == b""
        # The reader sees an end, not a fault.
        assert await reader.read() == b""


async def test_writer_methods(loop):
    async with stream() as (reader, writer, peer):
        assert writer.can_write_eof() is True
        assert writer.get_extra_info("peername") == peer.getsockname()
        assert writer.get_extra_info("missing", 1) == 1
        assert writer.transport.get_write_buffer_size() == 0
        writer.writelines([b"one", b"two"])
        await writer.drain()
        assert await peer_recv(peer) == b"onetwo"
        writer.write_eof()
        assert await peer_recv(peer) == b""


async def test_two_readers_at_once_are_refused(loop):
    async with stream() as (reader, writer, peer):
        first = asyncio.create_task(reader.read(1))
        await spin(2)
        with pytest.raises(
            RuntimeError, match="called while another coroutine is already"
        ):
            await reader.read(1)
        peer.send(b"x")
        assert await first == b"x"


async def test_cancelled_read_loses_nothing(loop):
    async with stream() as (reader, writer, peer):
        for number in range(20):
            task = asyncio.create_task(reader.readexactly(4))
            await spin(number % 3)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task
        peer.send(b"data")
        assert await reader.readexactly(4) == b"data"
        task = asyncio.create_task(reader.readexactly(4))
        await spin(2)
        peer.send(b"ab")
        await spin(5)
        task.cancel()
        await spin(2)
        peer.send(b"cd")
        assert await reader.readexactly(4) == b"abcd"


async def test_read_with_a_timeout(loop):
    async with stream() as (reader, writer, peer):
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.01):
                await reader.readline()
        peer.send(b"line\n")
        assert await reader.readline() == b"line\n"


async def test_feed_data_by_hand_mixes_in(loop):
    async with stream() as (reader, writer, peer):
        reader.feed_data(b"by hand ")
        peer.send(b"by wire")
        assert await reader.readexactly(15) == b"by hand by wire"


async def test_open_connection_refused(loop):
    with refusing_port() as port:
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


@pytest.mark.skipif(
    sys.version_info < (3, 11, 7) or sys.version_info[:3] == (3, 12, 0),
    reason="asyncio left the connection open before 3.11.7 and 3.12.1",
)
async def test_failing_client_callback(loop, errors):
    async def serve(reader, writer):
        raise ValueError("in the callback")

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
    await spin(2)
    gc.collect()
    found = [context["message"] for context in errors]
    errors.clear()
    assert found[0] == "Unhandled exception in client_connected_cb"


async def test_plain_function_as_client_callback(loop):
    served = loop.create_future()

    def serve(reader, writer):
        served.set_result((reader, writer))

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()
        reader, writer = await asyncio.open_connection(*address)
        _, theirs = await served
        theirs.write(b"x")
        theirs.close()
        assert await reader.read() == b"x"
        writer.close()
        await writer.wait_closed()


async def test_reader_does_not_keep_the_protocol_alive(loop):
    """Between events the loop holds no reader and no buffer."""
    async with stream() as (reader, writer, peer):
        peer.send(b"x")
        assert await reader.read(1) == b"x"
        held = sys_references(reader)
        for _ in range(10):
            peer.send(b"y")
            assert await reader.read(1) == b"y"
        await spin(2)
        assert sys_references(reader) == held


def sys_references(thing):
    import sys

    return sys.getrefcount(thing)


async def test_everything_is_released(loop):
    alive = []
    async with stream() as (reader, writer, peer):
        peer.send(b"x")
        assert await reader.read(1) == b"x"
        alive += [
            weakref.ref(thing)
            for thing in (
                reader,
                writer,
                writer.transport,
                writer.transport.get_protocol(),
            )
        ]
    del reader, writer, peer
    await spin(3)
    gc.collect()
    assert [reference() for reference in alive] == [None] * 4


async def test_many_streams(loop):
    async def serve(reader, writer):
        async for line in reader:
            writer.write(line)
        writer.close()

    async with await asyncio.start_server(serve, "127.0.0.1", 0) as server:
        address = server.sockets[0].getsockname()

        async def client(number):
            reader, writer = await asyncio.open_connection(*address)
            for turn in range(20):
                line = b"%d %d\n" % (number, turn)
                writer.write(line)
                assert await reader.readline() == line
            writer.write_eof()
            assert await reader.read() == b""
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*map(client, range(40)))
