# SPDX-License-Identifier: MIT
"""asyncio's streams over TLS: who replaces a method is asked, and nobody else
runs Python for what arrives.
"""

import asyncio
import contextlib
import sys

import pytest

from support.certificates import NAME, client_context, server_context
from support.net import LIMIT, spin, tcp_pair, until
from support.streams import tls_reader

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.one_poller]

MEBIBYTE = 1 << 20


@contextlib.asynccontextmanager
async def streams(limit=1 << 16):
    """A client's reader and writer, and the same of the server's."""
    accepted = asyncio.get_running_loop().create_future()
    server = await asyncio.start_server(
        lambda reader, writer: accepted.set_result((reader, writer)),
        "127.0.0.1",
        0,
        ssl=server_context(),
        limit=limit,
    )
    async with server:
        client = await asyncio.open_connection(
            *server.sockets[0].getsockname(),
            ssl=client_context(),
            server_hostname=NAME,
            limit=limit,
        )
        both = client, await accepted
        try:
            yield both
        finally:
            for _, writer in both:
                writer.close()
            for _, writer in both:
                with contextlib.suppress(Exception):
                    await writer.wait_closed()


@contextlib.contextmanager
def python_calls():
    """The names of the functions of asyncio/streams.py that run."""
    names = []

    def profile(frame, event, arg):
        code = frame.f_code
        if event == "call" and code.co_filename == asyncio.streams.__file__:
            names.append(code.co_name)

    sys.setprofile(profile)
    try:
        yield names
    finally:
        sys.setprofile(None)


async def test_both_ways(loop):
    async with streams() as ((reader, writer), (their_reader, their_writer)):
        for size in 1, 1000, 16384, 16385, 100_000:
            data = bytes(range(256)) * (size // 256 + 1)
            writer.write(data[:size])
            await writer.drain()
            assert await their_reader.readexactly(size) == data[:size]
            their_writer.write(data[:size])
            await their_writer.drain()
            assert await reader.readexactly(size) == data[:size]


@pytest.mark.becket_only("asyncio runs its own Python functions")
async def test_no_python_runs(loop):
    async with streams() as ((reader, writer), (their_reader, their_writer)):

        async def echo():
            while data := await their_reader.read(1000):
                their_writer.write(data)
                await their_writer.drain()

        async def exchange():
            writer.write(b"line\n")
            await writer.drain()
            assert await reader.readline() == b"line\n"

        echoing = asyncio.ensure_future(echo())
        await exchange()
        with python_calls() as names:
            for _ in range(3):
                await exchange()
        assert names == []
        echoing.cancel()


async def test_read_waits_for_what_is_left(loop):
    async with streams() as ((_, writer), (reader, _)):
        reading = asyncio.ensure_future(reader.readexactly(10))
        for part in b"0123", b"456", b"789ab":
            await spin(3)
            assert not reading.done()
            writer.write(part)
        assert await reading == b"0123456789"
        assert await reader.read(100) == b"ab"


async def test_replaced_on_the_instance(loop):
    async with streams() as ((_, writer), (reader, _)):
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        seen = []
        original = reader.feed_data
        reader.feed_data = lambda data: (seen.append(data), original(data))
        writer.write(b"two")
        assert await reader.readexactly(3) == b"two"
        assert seen == [b"two"]
        del reader.feed_data
        writer.write(b"three")
        assert await reader.readexactly(5) == b"three"
        assert seen == [b"two"]


@pytest.mark.parametrize(
    "owner, name",
    [
        (asyncio.StreamReader, "feed_data"),
        (asyncio.StreamReaderProtocol, "data_received"),
    ],
)
async def test_patched_on_the_class(loop, monkeypatch, owner, name):
    original = getattr(owner, name)
    seen = []

    def patched(self, data):
        seen.append(bytes(data))
        return original(self, data)

    async with streams() as ((_, writer), (reader, _)):
        writer.write(b"one")
        assert await reader.readexactly(3) == b"one"
        monkeypatch.setattr(owner, name, patched)
        writer.write(b"two")
        assert await reader.readexactly(3) == b"two"
        assert seen == [b"two"]
        monkeypatch.undo()
        writer.write(b"three")
        assert await reader.readexactly(5) == b"three"
        assert seen == [b"two"]


@pytest.mark.parametrize("name", ["write", "is_closing"])
async def test_a_method_of_the_transport_replaced(loop, name):
    async with streams() as ((_, writer), (reader, _)):
        writer.write(b"one")
        await writer.drain()
        assert await reader.readexactly(3) == b"one"
        seen = []
        original = getattr(writer.transport, name)
        try:
            setattr(
                writer.transport,
                name,
                lambda *args: (seen.append(args), original(*args))[1],
            )
        except AttributeError:
            pytest.skip("this transport takes no attributes")
        writer.write(b"two")
        await writer.drain()
        assert await reader.readexactly(3) == b"two"
        assert seen == [(b"two",)] if name == "write" else [()]
        delattr(writer.transport, name)
        writer.write(b"three")
        await writer.drain()
        assert await reader.readexactly(5) == b"three"
        assert len(seen) == 1


async def test_text_is_refused(loop):
    async with streams() as ((_, writer), (reader, _)):
        writer.write(b"warm")
        with pytest.raises(TypeError, match="^data: expecting a bytes-like"):
            writer.write("text")
        assert await reader.readexactly(4) == b"warm"


async def test_drain_waits_for_a_peer_that_does_not_read(loop):
    async with streams() as ((_, writer), (reader, _)):
        for _ in range(16):
            writer.write(bytes(MEBIBYTE))
        draining = asyncio.ensure_future(writer.drain())
        await spin(5)
        assert not draining.done()

        async def read_all():
            left = 16 * MEBIBYTE
            while left > 0:
                left -= len(await reader.read(MEBIBYTE))

        await read_all()
        await draining


async def test_reading_pauses_at_the_limit(loop):
    """What a StreamReader keeps is bounded, and so is what is decrypted."""
    async with streams(limit=1000) as ((_, writer), (reader, _)):
        for _ in range(16):
            writer.write(bytes(MEBIBYTE))
        await until(lambda: reader._paused)
        await spin(10)
        kept = len(reader._buffer)
        await spin(10)
        assert len(reader._buffer) == kept <= MEBIBYTE
        left = 16 * MEBIBYTE
        while left > 0:
            left -= len(await reader.read(MEBIBYTE))


async def test_lost_while_a_read_waits(loop):
    async with streams() as ((_, writer), (reader, _)):
        reading = asyncio.ensure_future(reader.read(10))
        await spin(3)
        writer.transport.abort()
        with contextlib.suppress(ConnectionError):
            assert await asyncio.wait_for(reading, LIMIT) == b""


async def test_drain_after_the_connection_was_lost(loop):
    async with streams() as ((_, writer), (reader, _)):
        writer.write(b"x")
        await writer.drain()
        assert await reader.readexactly(1) == b"x"
        writer.transport.abort()
        await spin(5)
        with pytest.raises(ConnectionResetError):
            await writer.drain()


async def test_start_tls_of_streams_in_use(loop):
    """The same reader and writer go on, over the new transport."""
    ours, theirs = tcp_pair()
    reader, writer = await asyncio.open_connection(sock=ours)
    their_reader, their_writer = await asyncio.open_connection(sock=theirs)
    writer.write(b"plain")
    assert await their_reader.readexactly(5) == b"plain"
    # By this asyncio knows who is the server.
    their_writer._protocol._client_connected_cb = print
    await asyncio.gather(
        writer.start_tls(client_context(), server_hostname=NAME),
        their_writer.start_tls(server_context()),
    )
    for _ in range(3):
        writer.write(b"secret")
        await writer.drain()
        assert await their_reader.readexactly(6) == b"secret"
        their_writer.write(b"answer")
        await their_writer.drain()
        assert await reader.readexactly(6) == b"answer"
    for each in writer, their_writer:
        each.close()
        with contextlib.suppress(Exception):
            await each.wait_closed()


async def test_a_reader_of_which_much_waits(loop):
    """Records that arrived together are one piece for the reader."""
    async with tls_reader(1 << 16) as connection:
        connection.feed(b"a" * 10)
        connection.feed(b"b" * 10)
        await spin(2)
        assert await connection.reader.read(100) == b"a" * 10 + b"b" * 10
