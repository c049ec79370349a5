# SPDX-License-Identifier: MIT
"""What decides how a stream's bytes reach its reader.

The exact classes of asyncio may be served without running Python code;
anything of the user's own gets the ordinary calls, whenever it appears.
"""

import asyncio
import socket

import pytest

from support.net import spin, tcp_pair, until


async def open_with(loop, reader, protocol):
    ours, peer = tcp_pair()
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    return writer, peer


async def finish(writer, peer):
    peer.close()
    await spin(2)
    writer.close()
    await writer.wait_closed()
    await spin(2)


class LoudReader(asyncio.StreamReader):
    """Overrides both calls."""

    def __init__(self, *args, **kwargs):
        super().__init__(*args, **kwargs)
        self.calls = []

    def feed_data(self, data):
        self.calls.append(data)
        super().feed_data(data.upper())

    def feed_eof(self):
        self.calls.append("eof")
        super().feed_eof()


class PlainReader(asyncio.StreamReader):
    """Overrides nothing."""


class LoudProtocol(asyncio.StreamReaderProtocol):
    def data_received(self, data):
        self.seen = getattr(self, "seen", b"") + data
        super().data_received(data.upper())

    def eof_received(self):
        self.seen_eof = True
        return super().eof_received()


async def test_exact_classes(loop):
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    writer, peer = await open_with(loop, reader, protocol)
    peer.send(b"plain")
    assert await reader.readexactly(5) == b"plain"
    await finish(writer, peer)
    assert reader.at_eof()


async def test_subclassed_reader_that_overrides(loop):
    reader = LoudReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    writer, peer = await open_with(loop, reader, protocol)
    peer.send(b"loud")
    assert await reader.readexactly(4) == b"LOUD"
    await finish(writer, peer)
    # eof_received() and connection_lost() both say it.
    assert reader.calls == [b"loud", "eof", "eof"]


async def test_subclassed_reader_that_overrides_nothing(loop):
    reader = PlainReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    writer, peer = await open_with(loop, reader, protocol)
    peer.send(b"plain")
    assert await reader.readexactly(5) == b"plain"
    await finish(writer, peer)
    assert reader.at_eof()


async def test_subclassed_protocol(loop):
    reader = asyncio.StreamReader(loop=loop)
    protocol = LoudProtocol(reader, loop=loop)
    writer, peer = await open_with(loop, reader, protocol)
    peer.send(b"protocol")
    assert await reader.readexactly(8) == b"PROTOCOL"
    await finish(writer, peer)
    assert protocol.seen == b"protocol"
    assert protocol.seen_eof


async def test_feed_data_replaced_on_the_instance(loop):
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    writer, peer = await open_with(loop, reader, protocol)
    peer.send(b"one")
    assert await reader.readexactly(3) == b"one"
    seen = []
    original = reader.feed_data
    reader.feed_data = lambda data: (seen.append(data), original(data))
    peer.send(b"two")
    assert await reader.readexactly(3) == b"two"
    assert seen == [b"two"]
    del reader.feed_data
    peer.send(b"three")
    assert await reader.readexactly(5) == b"three"
    assert seen == [b"two"]
    await finish(writer, peer)


async def test_feed_eof_replaced_on_the_instance(loop):
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    writer, peer = await open_with(loop, reader, protocol)
    seen = []
    original = reader.feed_eof
    reader.feed_eof = lambda: (seen.append("eof"), original())
    peer.shutdown(socket.SHUT_WR)
    assert await reader.read() == b""
    assert seen[0] == "eof"
    await finish(writer, peer)


@pytest.mark.parametrize("name", ["feed_data", "data_received"])
async def test_patched_on_the_class(loop, monkeypatch, name):
    """As tracing packages do it."""
    owner = {
        "feed_data": asyncio.StreamReader,
        "data_received": asyncio.StreamReaderProtocol,
    }[name]
    original = getattr(owner, name)
    seen = []

    def patched(self, data):
        seen.append(bytes(data))
        return original(self, data)

    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    writer, peer = await open_with(loop, reader, protocol)
    peer.send(b"one")
    assert await reader.readexactly(3) == b"one"
    monkeypatch.setattr(owner, name, patched)
    peer.send(b"two")
    assert await reader.readexactly(3) == b"two"
    assert seen == [b"two"]
    monkeypatch.undo()
    peer.send(b"three")
    assert await reader.readexactly(5) == b"three"
    assert seen == [b"two"]
    await finish(writer, peer)


async def test_data_received_replaced_on_the_instance(loop):
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    writer, peer = await open_with(loop, reader, protocol)
    peer.send(b"one")
    assert await reader.readexactly(3) == b"one"
    seen = []
    protocol.data_received = seen.append
    peer.send(b"two")
    await until(lambda: seen)
    assert seen == [b"two"]
    await finish(writer, peer)


async def test_the_class_of_a_reader_changes(loop):
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    writer, peer = await open_with(loop, reader, protocol)
    peer.send(b"one")
    assert await reader.readexactly(3) == b"one"
    reader.calls = []
    reader.__class__ = LoudReader
    peer.send(b"two")
    assert await reader.readexactly(3) == b"TWO"
    assert reader.calls == [b"two"]
    await finish(writer, peer)


async def test_the_protocol_is_swapped(loop):
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    writer, peer = await open_with(loop, reader, protocol)
    peer.send(b"one")
    assert await reader.readexactly(3) == b"one"
    other_reader = LoudReader(loop=loop)
    other = asyncio.StreamReaderProtocol(other_reader, loop=loop)
    writer.transport.set_protocol(other)
    other.connection_made(writer.transport)
    peer.send(b"two")
    assert await other_reader.readexactly(3) == b"TWO"
    writer.transport.set_protocol(protocol)
    peer.send(b"three")
    assert await reader.readexactly(5) == b"three"
    await finish(writer, peer)


async def test_buffer_replaced_under_a_waiting_reader(loop):
    """Packages that know StreamReader's insides put another buffer in."""
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    writer, peer = await open_with(loop, reader, protocol)
    task = asyncio.create_task(reader.readexactly(6))
    await spin(2)
    reader._buffer = bytearray(b"own")
    peer.send(b"abc")
    assert await task == b"ownabc"
    await finish(writer, peer)


async def test_data_after_feed_eof_is_refused_as_asyncio_does(loop, errors):
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    writer, peer = await open_with(loop, reader, protocol)
    reader.feed_eof()
    peer.send(b"late")
    await until(lambda: errors)
    (context,) = errors
    errors.clear()
    # feed_data() asserts that no end of file has come before.
    assert isinstance(context["exception"], AssertionError)
    assert context["message"] == (
        "Fatal error: protocol.data_received() call failed."
    )
    peer.close()
    await spin(3)
    with pytest.raises(AssertionError):
        await writer.wait_closed()
    reader.exception()


async def test_set_exception_reaches_the_reader(loop):
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    writer, peer = await open_with(loop, reader, protocol)
    task = asyncio.create_task(reader.read(1))
    await spin(2)
    reader.set_exception(ValueError("from outside"))
    with pytest.raises(ValueError, match="from outside"):
        await task
    await finish(writer, peer)


async def test_reader_collected_while_connected(loop):
    """On the server's side the protocol holds its reader weakly."""
    import gc
    import weakref

    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    alive = weakref.ref(reader)
    ours, peer = tcp_pair()
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    del reader
    gc.collect()
    if alive() is None:
        peer.send(b"nobody reads")
        await spin(5)
    transport.abort()
    await spin(3)
    peer.close()
