# SPDX-License-Identifier: MIT
"""What the methods of readers and writers give: coroutines, to all who look.

On a loop of becket's they may be served in C; nobody may be able to tell, but
by their types.
"""

import asyncio
import collections.abc
import contextlib
import gc
import inspect
import io
import sys
import unittest.mock
import warnings
import weakref

import pytest

from support.loops import PY312
from support.net import spin, tcp_pair
from support.streams import READ_METHODS as METHODS
from support.streams import connected, frames_of


def messages_of(caught):
    return [str(warning.message) for warning in caught]


# --- what it is ---


@pytest.mark.parametrize("name", METHODS)
async def test_is_a_coroutine(loop, name):
    async with connected() as connection:
        read = getattr(connection.reader, name)(*METHODS[name])
        assert asyncio.iscoroutine(read)
        assert inspect.isawaitable(read)
        assert isinstance(read, collections.abc.Coroutine)
        assert read.__name__ == name
        assert read.__qualname__ == f"StreamReader.{name}"
        assert repr(read).startswith(
            f"<coroutine object StreamReader.{name} at 0x"
        )
        assert inspect.getcoroutinestate(read) == inspect.CORO_CREATED
        assert not read.cr_running
        assert read.cr_await is None
        assert read.cr_origin is None
        assert read.cr_code is getattr(asyncio.StreamReader, name).__code__
        read.close()
        assert inspect.getcoroutinestate(read) == inspect.CORO_CLOSED


async def test_drain_is_a_coroutine(loop):
    async with connected() as connection:
        drain = connection.writer.drain()
        assert asyncio.iscoroutine(drain)
        assert drain.__qualname__ == "StreamWriter.drain"
        assert inspect.getcoroutinestate(drain) == inspect.CORO_CREATED
        assert await drain is None


async def test_classes(loop):
    async with connected() as connection:
        reader, writer = connection.reader, connection.writer
        assert isinstance(reader, asyncio.StreamReader)
        assert isinstance(writer, asyncio.StreamWriter)
        assert type(reader).__name__ == "StreamReader"
        assert repr(reader).startswith("<StreamReader transport=<")
        assert repr(writer).startswith("<StreamWriter transport=<")
        assert list(vars(reader)) == [
            "_limit",
            "_loop",
            "_buffer",
            "_eof",
            "_waiter",
            "_exception",
            "_transport",
            "_paused",
        ]


@pytest.mark.parametrize("name", ["read", "readexactly", "readuntil"])
async def test_methods_look_like_functions(loop, name):
    original = getattr(asyncio.StreamReader, name)
    async with connected() as connection:
        method = getattr(connection.reader, name)
        assert inspect.ismethod(method)
        assert method.__self__ is connection.reader
        assert inspect.iscoroutinefunction(method)
        assert method == getattr(connection.reader, name)
        assert inspect.signature(method) == inspect.signature(
            original.__get__(connection.reader)
        )
        for attribute in ("__name__", "__qualname__", "__doc__", "__module__"):
            assert getattr(method, attribute) == getattr(original, attribute)
        assert hasattr(type(connection.reader), name)


async def test_mocks_of_a_reader(loop):
    async with connected() as connection:
        mock = unittest.mock.create_autospec(connection.reader)
        mock.read.return_value = b"mocked"
        assert await mock.read(5) == b"mocked"
        with unittest.mock.patch.object(
            connection.reader, "read", return_value=b"patched"
        ):
            assert await connection.reader.read(5) == b"patched"
        connection.feed(b"real")
        assert await connection.reader.read(5) == b"real"


# --- its life ---


async def test_starts_with_none_only(loop):
    async with connected() as connection:
        read = connection.reader.read(5)
        with pytest.raises(TypeError, match="can't send non-None value to a"):
            read.send(1)
        read.close()
        with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
            read.send(None)
        with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
            read.throw(ValueError())


async def test_is_awaited_once(loop):
    async with connected() as connection:
        connection.feed(b"12345")
        read = connection.reader.readexactly(5)
        assert await read == b"12345"
        with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
            await read


async def test_does_nothing_before_it_is_awaited(loop):
    async with connected() as connection:
        connection.feed(b"12345")
        await spin(2)
        connection.reader.read(5).close()
        assert bytes(connection.reader._buffer) == b"12345"
        assert await connection.reader.read(5) == b"12345"


@pytest.mark.parametrize("name", METHODS)
async def test_never_awaited(loop, name):
    async with connected() as connection:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            getattr(connection.reader, name)(*METHODS[name])
            gc.collect()
    assert messages_of(caught) == [
        f"coroutine 'StreamReader.{name}' was never awaited"
    ]
    assert caught[0].category is RuntimeWarning


async def test_drain_never_awaited(loop):
    async with connected() as connection:
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            connection.writer.drain()
            gc.collect()
    assert messages_of(caught) == [
        "coroutine 'StreamWriter.drain' was never awaited"
    ]


GIVE_UP = {
    "close": lambda read: read.close(),
    "throw": lambda read: read.throw(ValueError("thrown")),
    "exit": lambda read: read.throw(GeneratorExit),
    "drop": lambda read: None,
}


@pytest.mark.parametrize("how", GIVE_UP)
@pytest.mark.parametrize("name", ["readexactly", "readline"])
async def test_given_up(loop, name, how):
    """The reader waits for nothing any more, and the next read gets it all."""
    async with connected() as connection:
        reader = connection.reader
        read = getattr(reader, name)(*METHODS[name])
        waiter = read.send(None)
        assert reader._waiter is waiter
        assert inspect.getcoroutinestate(read) == inspect.CORO_SUSPENDED
        with contextlib.suppress(ValueError, GeneratorExit):
            GIVE_UP[how](read)
        del read
        gc.collect()
        assert reader._waiter is None
        connection.feed(b"abc")
        assert await reader.read(5) == b"abc"


async def test_a_second_reader_is_refused(loop):
    async with connected() as connection:
        reader = connection.reader
        task = asyncio.create_task(reader.readline())
        await spin(1)
        for name, args in METHODS.items():
            shown = {"readline": "readuntil", "__anext__": "readuntil"}
            message = (
                f"{shown.get(name, name)}() called while another coroutine"
                " is already waiting for incoming data"
            )
            with pytest.raises(RuntimeError) as caught:
                await getattr(reader, name)(*args)
            assert str(caught.value) == message
        connection.feed(b"line\n")
        assert await task == b"line\n"


async def test_results_are_not_kept(loop):
    """Neither by the coroutine that is done nor by what carried the result."""
    async with connected() as connection:
        reader = connection.reader
        connection.feed(b"x" * 100)
        data = await reader.read(1000)
        mine = bytes(100)
        assert sys.getrefcount(data) == sys.getrefcount(mine)
        connection.feed(b"x" * 40000)
        read = reader.readexactly(40000)
        data = await read
        assert sys.getrefcount(data) == sys.getrefcount(mine)


async def test_results_that_are_kept(loop):
    """StopIteration is the coroutine's own for whoever takes hold of it."""
    async with connected() as connection:
        reader = connection.reader
        connection.feed(b"y" * 100)
        await spin(2)
        with pytest.raises(StopIteration) as first:
            reader.read(1000).send(None)
        connection.feed(b"z" * 100)
        await spin(2)
        with pytest.raises(StopIteration) as second:
            next(reader.read(1000).__await__())
        assert first.value.value == b"y" * 100
        assert first.value.args == (b"y" * 100,)
        assert second.value.value == b"z" * 100
        assert second.value.args == (b"z" * 100,)
        assert first.value.__context__ is None


async def test_reader_is_not_kept(loop):
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    ours, peer = tcp_pair()
    transport, _ = await loop.create_connection(lambda: protocol, sock=ours)
    alive = weakref.ref(reader)
    peer.sendall(b"abc")
    read = reader.read(5)
    assert await read == b"abc"
    del reader
    gc.collect()
    assert alive() is None
    transport.abort()
    await spin(2)
    peer.close()


# --- errors ---


@pytest.mark.parametrize("name", ["read", "readexactly", "readuntil"])
async def test_bad_arguments(loop, name):
    async with connected() as connection:
        reader = connection.reader
        original = getattr(asyncio.StreamReader, name)
        for args, kwargs in (
            ((1, 2), {}),
            ((), {"nonsense": 1}),
            ((1,), {"n": 1, "separator": b"x"}),
        ):
            with pytest.raises(TypeError) as expected:
                original(reader, *args, **kwargs)
            with pytest.raises(TypeError) as caught:
                getattr(reader, name)(*args, **kwargs)
            assert str(caught.value) == str(expected.value)
        with pytest.raises(TypeError, match="missing 1 required positional"):
            reader.readexactly()


async def test_arguments_by_keyword(loop):
    async with connected() as connection:
        reader = connection.reader
        connection.feed(b"one two;three")
        assert await reader.read(n=3) == b"one"
        assert await reader.readexactly(n=1) == b" "
        assert await reader.readuntil(separator=b";") == b"two;"
        assert await reader.read(True) == b"t"


@pytest.mark.since(3, 13)
async def test_several_separators(loop):
    async with connected() as connection:
        task = asyncio.create_task(
            connection.reader.readuntil((b";", b"\r\n"))
        )
        await spin(1)
        connection.feed(b"one\r")
        await spin(2)
        connection.feed(b"\ntwo;")
        assert await task == b"one\r\n"


async def test_arguments_of_other_types(loop):
    async with connected() as connection:
        reader = connection.reader
        connection.feed(b"abc")
        await spin(2)
        with pytest.raises(TypeError):
            await reader.read("2")
        with pytest.raises(TypeError):
            await reader.readexactly(1.5)
        with pytest.raises(TypeError):
            await reader.readuntil("b")
        assert await reader.readuntil(bytearray(b"b")) == b"ab"


async def test_traceback_of_a_cancelled_read(loop):
    async with connected() as connection:
        task = asyncio.create_task(connection.reader.readline())
        await spin(1)
        task.cancel("enough")
        with pytest.raises(asyncio.CancelledError, match="enough") as caught:
            await task
        names = [name for name, _ in frames_of(caught.value)]
        assert names[-3:] == ["readline", "readuntil", "_wait_for_data"]


async def test_what_a_waiting_task_shows(loop):
    async with connected() as connection:

        async def main():
            return await connection.reader.readline()

        for coroutine in main(), connection.reader.readline():
            task = asyncio.create_task(coroutine)
            await spin(1)
            name = coroutine.__qualname__
            assert f"coro=<{name}() running at " in repr(task)
            assert "wait_for=<Future pending cb=[" in repr(task)
            (frame,) = task.get_stack()
            assert frame.f_code is coroutine.cr_code
            chain = []
            while hasattr(coroutine, "cr_await"):
                chain.append(coroutine.__name__)
                coroutine = coroutine.cr_await
            assert chain[-3:] == ["readline", "readuntil", "_wait_for_data"]
            assert type(coroutine).__name__ == "FutureIter"
            connection.feed(b"line\n")
            assert await task == b"line\n"


async def test_looking_at_a_read_that_has_its_data(loop):
    """Between the data and the reader's turn."""
    async with connected() as connection:
        task = asyncio.create_task(connection.reader.read(100))
        await spin(1)
        seen = []

        def look():
            if connection.reader._waiter is not None:
                loop.call_soon(look)
                return
            task.print_stack(file=io.StringIO())
            seen.append(task.get_stack()[0].f_code.co_name)

        loop.call_soon(look)
        connection.feed(b"data")
        assert await task == b"data"
        assert seen == ["read"]


# --- who drives it ---


@pytest.mark.skipif(not PY312, reason="newer than this Python")
async def test_eager_tasks(loop):
    loop.set_task_factory(asyncio.eager_task_factory)
    async with connected() as connection:
        connection.feed(b"abc")
        await spin(2)
        task = asyncio.create_task(connection.reader.read(5))
        assert task.done()
        assert task.result() == b"abc"
        task = asyncio.create_task(connection.reader.read(5))
        assert not task.done()
        connection.feed(b"def")
        assert await task == b"def"


async def test_tasks_in_python(loop):
    async with connected() as connection:
        task = asyncio.tasks._PyTask(
            connection.reader.readexactly(6), loop=loop
        )
        await spin(1)
        connection.feed(b"abc")
        await spin(2)
        connection.feed(b"def")
        assert await task == b"abcdef"
        task = asyncio.tasks._PyTask(connection.reader.read(6), loop=loop)
        await spin(1)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


async def test_wait_for(loop):
    """The bytes of a read that was given up are the next one's."""
    async with connected() as connection:
        reader = connection.reader
        for _ in range(3):
            with pytest.raises(asyncio.TimeoutError):
                await asyncio.wait_for(reader.readexactly(4), 0.001)
            connection.feed(b"a")
        connection.feed(b"b")
        assert await asyncio.wait_for(reader.readexactly(4), 10) == b"aaab"


async def test_iteration(loop):
    async with connected() as connection:
        connection.feed(b"one\ntwo\nrest")
        connection.feed_eof()
        lines = [line async for line in connection.reader]
        assert lines == [b"one\n", b"two\n", b"rest"]


async def test_read_before_its_waiter_is_done(loop):
    async with connected() as connection:
        read = connection.reader.read(5)
        waiter = read.send(None)
        waiter._asyncio_future_blocking = False
        assert read.send(None) is waiter
        with pytest.raises(RuntimeError, match="await wasn't used with"):
            read.send(None)
        assert connection.reader._waiter is None


async def test_a_read_that_drives_itself(loop):
    """Re-entered from the loop's methods that it calls."""
    async with connected() as connection:
        reader = connection.reader
        read = reader.read(5)
        refused = []

        def create_future():
            with pytest.raises(ValueError, match="already executing") as one:
                read.send(None)
            with pytest.raises(ValueError, match="already executing"):
                read.close()
            refused.append(str(one.value))
            return asyncio.Future(loop=loop)

        loop.create_future = create_future
        task = asyncio.create_task(read)
        await spin(1)
        del loop.create_future
        assert refused == ["coroutine already executing"]
        connection.feed(b"data")
        assert await task == b"data"


async def test_debug_mode_remembers_the_origin(loop):
    async with connected() as connection:
        loop.set_debug(True)
        await spin(2)
        try:
            read = connection.reader.read(5)
            assert read.cr_origin[0][2] == (
                "test_debug_mode_remembers_the_origin"
            )
            read.close()
            connection.feed(b"abc")
            assert await connection.reader.read(5) == b"abc"
            await connection.writer.drain()
        finally:
            loop.set_debug(False)
            await spin(2)
