# SPDX-License-Identifier: MIT
"""Whatever of asyncio's streams a user replaces is honoured, at any time."""

import asyncio
import traceback

import pytest

from support.net import spin, until
from support.streams import READ_METHODS as METHODS
from support.streams import connected, frames_of

LIMIT = 1 << 16

# --- readers ---


@pytest.mark.parametrize("name", [*METHODS, "_wait_for_data"])
@pytest.mark.parametrize("when", ["before", "after"])
async def test_method_patched_on_the_class(loop, monkeypatch, name, when):
    original = getattr(asyncio.StreamReader, name)
    seen = []

    async def patched(self, *args):
        seen.append((self, args))
        return await original(self, *args)

    if when == "before":
        monkeypatch.setattr(asyncio.StreamReader, name, patched)
    async with connected() as connection:
        reader = connection.reader
        monkeypatch.setattr(asyncio.StreamReader, name, patched)
        used = "read" if name == "_wait_for_data" else name
        task = asyncio.create_task(getattr(reader, used)(*METHODS[used]))
        await spin(1)
        connection.feed(b"four\n")
        assert await task == b"four\n"
        expected = METHODS.get(name, ("read",))
        assert seen == [(reader, expected)]
        monkeypatch.undo()
        connection.feed(b"five\n")
        assert await getattr(reader, used)(*METHODS[used]) == b"five\n"
        assert len(seen) == 1


async def test_method_patched_under_a_waiting_read(loop, monkeypatch):
    """asyncio's coroutine runs on with the code that it has."""
    async with connected() as connection:
        reader = connection.reader
        task = asyncio.create_task(reader.readexactly(4))
        await spin(1)
        monkeypatch.setattr(asyncio.StreamReader, "readexactly", None)
        connection.feed(b"ab")
        await spin(3)
        connection.feed(b"cd")
        assert await task == b"abcd"


@pytest.mark.parametrize("name", METHODS)
async def test_method_patched_on_the_instance(loop, name):
    if name == "__anext__":
        pytest.skip("looked up in the class alone")
    async with connected() as connection:
        reader = connection.reader

        async def patched(*args):
            return args

        setattr(reader, name, patched)
        assert await getattr(reader, name)(1, 2, 3) == (1, 2, 3)
        delattr(reader, name)
        connection.feed(b"four\n")
        assert await getattr(reader, name)(*METHODS[name]) == b"four\n"


async def test_inner_methods_patched_on_the_instance(loop):
    async with connected() as connection:
        reader = connection.reader
        seen = []
        wait_for_data = reader._wait_for_data

        async def readuntil(separator):
            seen.append(separator)
            return b"own\n"

        async def wait(name):
            seen.append(name)
            await wait_for_data(name)

        reader.readuntil = readuntil
        assert await reader.readline() == b"own\n"
        del reader.readuntil
        reader._wait_for_data = wait
        task = asyncio.create_task(reader.readexactly(3))
        await spin(2)
        connection.feed(b"abc")
        assert await task == b"abc"
        assert seen == [b"\n", "readexactly"]


async def test_class_attributes_of_other_kinds(loop, monkeypatch):
    async with connected() as connection:
        reader = connection.reader
        monkeypatch.setattr(
            asyncio.StreamReader, "read", staticmethod(lambda *args: args)
        )
        assert reader.read(1, 2) == (1, 2)
        monkeypatch.setattr(
            asyncio.StreamReader, "read", property(lambda self: repr)
        )
        assert reader.read is repr
        assert reader.read(1) == "1"
        monkeypatch.setattr(asyncio.StreamReader, "_limit", 7, raising=False)
        monkeypatch.delattr(asyncio.StreamReader, "read")
        with pytest.raises(AttributeError):
            reader.read(1)
        monkeypatch.undo()
        connection.feed(b"abc")
        assert await reader.read(5) == b"abc"


async def test_getattribute_of_the_class(loop, monkeypatch):
    async with connected() as connection:
        names = []

        def getattribute(self, name):
            names.append(name)
            return object.__getattribute__(self, name)

        connection.feed(b"abc")
        await spin(2)
        monkeypatch.setattr(
            asyncio.StreamReader,
            "__getattribute__",
            getattribute,
            raising=False,
        )
        assert await connection.reader.read(5) == b"abc"
        monkeypatch.undo()
        assert names[:2] == ["read", "_exception"]


class OwnBuffer(bytearray):
    """Counts what is deleted from it."""

    deleted = 0

    def __delitem__(self, key):
        self.deleted += 1
        super().__delitem__(key)

    def take_bytes(self, *args):  # Python 3.15
        self.deleted += 1
        return super().take_bytes(*args)


async def test_attributes_replaced(loop):
    async with connected() as connection:
        reader = connection.reader
        reader._buffer = OwnBuffer(b"own")
        assert await reader.read(2) == b"ow"
        assert reader._buffer.deleted == 1
        reader._buffer = bytearray(b"line")
        reader._limit = 2
        with pytest.raises(asyncio.LimitOverrunError):
            await reader.readuntil(b"e")
        reader._limit = 2.5
        assert await reader.read(4) == b"line"
        reader._limit = LIMIT
        reader._exception = KeyError("own")
        with pytest.raises(KeyError):
            await reader.readline()
        reader._exception = None
        reader._eof = 1
        assert await reader.read(5) == b""
        reader._eof = False
        task = asyncio.create_task(reader.read(5))
        await spin(1)
        own = reader._waiter = loop.create_future()
        connection.feed(b"abc")
        await until(own.done)
        assert not task.done()
        task.cancel()
        await spin(2)
        assert await reader.read(5) == b"abc"


async def test_attributes_added_and_removed(loop):
    async with connected() as connection:
        reader = connection.reader
        reader.mine = 1
        connection.feed(b"abc")
        assert await reader.read(1) == b"a"
        exception = reader.__dict__.pop("_exception")
        with pytest.raises(AttributeError, match="_exception"):
            await reader.read(1)
        reader._exception = exception
        assert await reader.read(1) == b"b"
        reader.__dict__ = dict(reader.__dict__)
        assert await reader.read(1) == b"c"


async def test_futures_in_python(loop, monkeypatch):
    monkeypatch.setattr(asyncio.futures, "Future", asyncio.futures._PyFuture)
    async with connected() as connection:
        task = asyncio.create_task(connection.reader.read(5))
        await spin(1)
        assert type(connection.reader._waiter) is asyncio.futures._PyFuture
        connection.feed(b"abc")
        assert await task == b"abc"


async def test_own_create_future(loop):
    async with connected() as connection:
        made = []

        def create_future():
            made.append(asyncio.Future(loop=loop))
            return made[-1]

        loop.create_future = create_future
        task = asyncio.create_task(connection.reader.readexactly(4))
        await spin(1)
        assert connection.reader._waiter is made[-1]
        connection.feed(b"ab")
        await spin(3)
        del loop.create_future
        connection.feed(b"cd")
        assert await task == b"abcd"
        assert len(made) == 2


async def test_views_of_the_buffer(loop):
    """A bytearray with an export cannot change its size."""
    async with connected() as connection:
        reader = connection.reader
        connection.feed(b"abcd")
        await spin(2)
        with memoryview(reader._buffer):
            with pytest.raises(BufferError):
                await reader.read(2)
            with pytest.raises(BufferError):
                await reader.readexactly(2)
        assert await reader.readexactly(4) == b"abcd"


async def test_subclasses_are_left_alone(loop):
    class Reader(asyncio.StreamReader):
        async def read(self, n=-1):
            return (await super().read(n)).upper()

    reader = Reader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    async with connected() as connection:
        connection.transport.set_protocol(protocol)
        connection.feed(b"abc")
        assert await reader.read(5) == b"ABC"
        assert type(reader) is Reader


async def test_class_exchanged_under_a_waiting_read(loop):
    class Reader(asyncio.StreamReader):
        def feed_data(self, data):
            super().feed_data(data.upper())

    async with connected() as connection:
        task = asyncio.create_task(connection.reader.read(5))
        await spin(1)
        connection.reader.__class__ = Reader
        connection.feed(b"abc")
        assert await task == b"ABC"
        assert type(connection.reader) is Reader


# --- writers ---


@pytest.mark.row("P4E-037")
async def test_drain_waits_for_the_peer(loop):
    async with connected() as connection:
        writer = connection.writer
        await writer.drain()
        transport = connection.transport
        transport.set_write_buffer_limits(high=1000)
        while not transport.get_protocol()._paused:
            writer.write(bytes(1 << 20))
        task = asyncio.create_task(writer.drain())
        other = asyncio.create_task(writer.drain())
        await spin(3)
        assert not task.done()
        other.cancel()
        await asyncio.to_thread(connection.read_all_written)
        await task
        assert not transport.get_protocol()._paused


@pytest.mark.row("P4E-037")
async def test_drain_of_a_lost_connection(loop):
    async with connected() as connection:
        writer = connection.writer
        connection.transport.abort()
        await spin(3)
        with pytest.raises(ConnectionResetError, match="Connection lost"):
            await writer.drain()


@pytest.mark.row("P4E-037")
async def test_drain_of_a_closing_connection(loop):
    """It lets the loop run once, so that the loss can be told."""
    async with connected() as connection:
        connection.transport.abort()
        with pytest.raises(ConnectionResetError):
            await connection.writer.drain()


async def test_drain_raises_what_the_reader_has(loop):
    async with connected() as connection:
        connection.reader.set_exception(ValueError("of the reader"))
        with pytest.raises(ValueError, match="of the reader") as caught:
            await connection.writer.drain()
        assert [name for name, _ in frames_of(caught.value)][-1] == "drain"
        connection.reader._exception = None


async def test_bad_writes(loop):
    async with connected() as connection:
        writer = connection.writer
        with pytest.raises(TypeError) as caught:
            writer.write("text")
        assert [name for name, _ in frames_of(caught.value)][1] == "write"
        with pytest.raises(TypeError, match="positional argument"):
            writer.write()
        writer.write(data=b"by keyword")
        writer.write_eof()
        with pytest.raises(RuntimeError, match="after write_eof"):
            writer.write(b"late")


async def test_writer_patched(loop, monkeypatch):
    async with connected() as connection:
        writer, transport = connection.writer, connection.transport
        seen = []
        transport.write = lambda data: seen.append(("instance", data))
        writer.write(b"a")
        del transport.write
        writer.write = lambda data: seen.append(("writer", data))
        writer.write(b"b")
        del writer.write
        monkeypatch.setattr(
            asyncio.StreamWriter,
            "write",
            lambda self, data: seen.append(("class", data)),
        )
        writer.write(b"c")
        monkeypatch.undo()
        assert seen == [
            ("instance", b"a"),
            ("writer", b"b"),
            ("class", b"c"),
        ]


async def test_drain_patched(loop, monkeypatch):
    async with connected() as connection:
        writer, protocol = connection.writer, connection.transport
        protocol = protocol.get_protocol()
        seen = []

        async def helper(*args):
            seen.append(args)

        protocol._drain_helper = helper
        await writer.drain()
        del protocol._drain_helper
        monkeypatch.setattr(
            asyncio.StreamReaderProtocol, "_drain_helper", helper
        )
        await writer.drain()
        monkeypatch.undo()
        connection.transport.is_closing = lambda: seen.append("closing")
        await writer.drain()
        del connection.transport.is_closing
        connection.reader.exception = lambda: seen.append("exception")
        await writer.drain()
        del connection.reader.exception
        protocol._paused = True
        task = asyncio.create_task(writer.drain())
        await spin(2)
        assert not task.done()
        protocol.resume_writing()
        await task
        assert seen == [(), (protocol,), "closing", "exception"]


async def test_writer_with_another_transport(loop):
    class Transport(asyncio.Transport):
        def __init__(self):
            self.seen = []

        def write(self, data):
            self.seen.append(data)

        def is_closing(self):
            self.seen.append("closing")
            return False

    async with connected() as connection:
        real = connection.writer._transport
        connection.writer._transport = fake = Transport()
        connection.writer.write(b"a")
        await connection.writer.drain()
        assert fake.seen == [b"a", "closing"]
        connection.writer._transport = real


async def test_drain_shows_what_it_waits_for(loop):
    async with connected() as connection:
        connection.transport.get_protocol()._paused = True
        task = asyncio.create_task(connection.writer.drain())
        await spin(1)
        (frame,) = task.get_stack()
        lines = traceback.format_list(traceback.extract_stack(frame))
        assert "_drain_helper" in lines[-1]
        connection.transport.get_protocol().resume_writing()
        await task


# --- as many attributes as usual, but not the same ---


async def test_another_attribute_of_a_reader(loop):
    async with connected() as connection:
        reader = connection.reader
        connection.feed(b"data")
        await spin(2)
        exception = reader._exception
        del reader._exception
        reader.other = None
        with pytest.raises(AttributeError, match="_exception"):
            await reader.read(10)
        with pytest.raises(AttributeError, match="_exception"):
            await connection.writer.drain()
        reader._exception = exception
        assert await reader.read(10) == b"data"
        del reader.other
        connection.feed(b"more")
        assert await reader.read(10) == b"more"


async def test_another_attribute_of_a_writer(loop):
    async with connected() as connection:
        writer = connection.writer
        reader = writer._reader
        del writer._reader
        writer.other = None
        with pytest.raises(AttributeError, match="_reader"):
            await writer.drain()
        writer._reader = reader
        await writer.drain()
        del writer.other
        await writer.drain()


async def test_another_attribute_of_a_protocol(loop):
    async with connected() as connection:
        protocol = connection.transport.get_protocol()
        seen = []
        del protocol._source_traceback
        protocol.data_received = seen.append
        task = asyncio.create_task(connection.reader.read(10))
        await spin(2)
        connection.feed(b"data")
        await spin(3)
        assert seen == [b"data"]
        del protocol.data_received
        connection.feed(b"more")
        assert await task == b"more"


async def test_method_of_a_protocol_in_place_of_an_attribute(loop):
    async with connected() as connection:
        protocol = connection.transport.get_protocol()
        seen = []

        async def patched():
            seen.append(None)

        del protocol._source_traceback
        protocol._drain_helper = patched
        await connection.writer.drain()
        assert seen == [None]
