# SPDX-License-Identifier: MIT
"""What client_connected_cb gets, and what is left of it.

A loop may put other objects in the place of those that asyncio makes, as long
as nobody can tell.
"""

import asyncio
import contextlib
import gc
import socket
import warnings
import weakref

import pytest

from support.net import spin, until

row = pytest.mark.row


@contextlib.asynccontextmanager
async def serving(callback):
    """A server and a client's socket."""
    server = await asyncio.start_server(callback, "127.0.0.1", 0)
    peer = socket.create_connection(server.sockets[0].getsockname(), 10)
    try:
        yield peer
    finally:
        peer.close()
        server.close()
        await spin(3)


@row("P1A-134")
async def test_reader_and_writer_belong_together(loop):
    made = loop.create_future()

    async def serve(reader, writer):
        made.set_result((reader, writer))
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()

    async with serving(serve) as peer:
        reader, writer = await made
        assert isinstance(reader, asyncio.StreamReader)
        assert isinstance(writer, asyncio.StreamWriter)
        assert writer._reader is reader
        transport = writer.transport
        assert reader._transport is transport
        protocol = transport.get_protocol()
        assert writer._protocol is protocol
        assert protocol._stream_reader is reader
        assert protocol._client_connected_cb is serve
        assert protocol._strong_reader is None
        assert list(vars(writer)) == [
            "_transport",
            "_protocol",
            "_reader",
            "_loop",
            "_complete_fut",
        ]
        peer.send(b"line\n")
        assert await asyncio.to_thread(peer.recv, 10) == b"line\n"


async def test_plain_callback(loop):
    seen = []

    def connected(reader, writer):
        seen.append((reader, writer))

    async with serving(connected) as peer:
        await until(lambda: seen)
        ((reader, writer),) = seen
        peer.send(b"abc")
        assert await reader.read(5) == b"abc"
        writer.close()
        await writer.wait_closed()
        seen.clear()


@pytest.mark.since(3, 13)  # older protocols keep their writer
async def test_callback_that_raises(loop, errors):
    def connected(reader, writer):
        raise ValueError("of the callback")

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with serving(connected):
            await until(lambda: errors)
            (context,) = errors
            errors.clear()
            # Newer releases catch it themselves, and close the connection.
            is_caught = context["message"] == (
                "Unhandled exception in client_connected_cb"
            )
            assert is_caught or context["message"].startswith(
                "Exception in callback StreamReaderProtocol.connection_made("
            )
            assert repr(context["exception"]) == (
                "ValueError('of the callback')"
            )
            del context
            gc.collect()
            await spin(2)
    unclosed = [str(w.message) for w in caught]
    if is_caught:
        assert not unclosed
    else:
        assert len(unclosed) == 1
        assert unclosed[0].startswith("unclosed <StreamWriter transport=<")


@pytest.mark.since(3, 13)  # older protocols keep their writer
async def test_a_writer_that_is_dropped(loop):
    """Its connection is closed, and a warning says so, once."""

    def connected(reader, writer):
        pass

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        async with serving(connected) as peer:
            assert await asyncio.to_thread(peer.recv, 10) == b""
            gc.collect()
    unclosed = [str(w.message) for w in caught]
    assert len(unclosed) == 1
    assert unclosed[0].startswith("unclosed <StreamWriter transport=<")


@pytest.mark.parametrize("kept", ["reader", "protocol", "weak", "nothing"])
async def test_a_factory_that_keeps_what_it_makes(loop, kept):
    """The very objects that it made are those that the callback gets."""
    made = []
    connected = loop.create_future()

    def on_connected(reader, writer):
        connected.set_result((reader, writer))

    def factory():
        reader = asyncio.StreamReader(loop=loop)
        protocol = asyncio.StreamReaderProtocol(
            reader, on_connected, loop=loop
        )
        made.append(
            {
                "reader": reader,
                "protocol": protocol,
                "weak": weakref.ref(reader),
                "nothing": None,
            }[kept]
        )
        return protocol

    server = await loop.create_server(factory, "127.0.0.1", 0)
    peer = socket.create_connection(server.sockets[0].getsockname(), 10)
    await until(lambda: made)
    if kept == "protocol":
        assert made[0]._client_connected_cb is on_connected
    reader, writer = await connected
    if kept == "reader":
        assert made[0] is reader
    elif kept == "protocol":
        assert made[0] is writer._protocol
        assert made[0]._stream_reader is reader
    elif kept == "weak":
        assert made[0]() is reader
    peer.send(b"abc")
    assert await reader.readexactly(3) == b"abc"
    peer.close()
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_reader_dies_with_its_users(loop):
    gone = []

    async def serve(reader, writer):
        gone.append(weakref.ref(reader))
        gone.append(weakref.ref(writer))
        with contextlib.suppress(ConnectionError):
            assert await reader.read(5) == b"abc"
        writer.close()

    async with serving(serve) as peer:
        peer.send(b"abc")
        assert await asyncio.to_thread(peer.recv, 10) == b""
        await spin(5)
        gc.collect()
        assert [ref() for ref in gone] == [None, None]


async def test_attributes_set_by_the_callback(loop):
    """They can have any others, like all objects of Python classes."""
    done = loop.create_future()

    async def serve(reader, writer):
        reader.mine = writer.mine = "mine"
        line = await reader.readline()
        writer.write(line)
        await writer.drain()
        done.set_result((reader.mine, writer.mine, line))
        writer.close()

    async with serving(serve) as peer:
        peer.send(b"line\n")
        assert await asyncio.to_thread(peer.recv, 10) == b"line\n"
        assert await done == ("mine", "mine", b"line\n")


async def test_stream_writer_replaced_in_asyncio(loop, monkeypatch):
    class Writer(asyncio.StreamWriter):
        def write(self, data):
            super().write(data.upper())

    async def serve(reader, writer):
        assert type(writer) is Writer
        writer.write(await reader.read(5))
        await writer.drain()
        writer.close()

    monkeypatch.setattr(asyncio.streams, "StreamWriter", Writer)
    async with serving(serve) as peer:
        peer.send(b"abc")
        assert await asyncio.to_thread(peer.recv, 10) == b"ABC"


async def test_connection_made_patched(loop, monkeypatch):
    original = asyncio.StreamReaderProtocol.connection_made
    seen = []

    def connection_made(self, transport):
        seen.append(self._client_connected_cb)
        original(self, transport)

    async def serve(reader, writer):
        writer.write(await reader.read(5))
        writer.close()

    monkeypatch.setattr(
        asyncio.StreamReaderProtocol, "connection_made", connection_made
    )
    async with serving(serve) as peer:
        peer.send(b"abc")
        assert await asyncio.to_thread(peer.recv, 10) == b"abc"
    assert seen == [serve]
