# SPDX-License-Identifier: MIT
"""From the bytes that a read waits for to the task that goes on.

In between are a future, its callback, and a handle of the loop's. becket makes
do with less of them, which nobody may be able to tell.
"""

import asyncio
import contextvars
import functools
import gc
import weakref

import pytest

from support.loops import make_loop
from support.net import spin, tcp_pair
from support.streams import connected

VARIABLE = contextvars.ContextVar("variable", default="outside")


async def started(connection, size=10):
    """A task that waits in read(), and the future that it waits for."""
    task = asyncio.ensure_future(connection.reader.read(size))
    await spin(2)
    waiter = connection.reader._waiter
    assert waiter is not None
    assert task._fut_waiter is waiter
    return task, waiter


# --- the future ---


async def test_waiter_that_somebody_keeps(loop):
    async with connected() as connection:
        task, waiter = await started(connection)
        assert not waiter.done()
        assert waiter.get_loop() is loop
        connection.feed(b"one")
        assert await task == b"one"
        assert waiter.done()
        assert waiter.result() is None
        assert connection.reader._waiter is None
        task, other = await started(connection)
        assert other is not waiter
        assert not other.done()
        connection.feed(b"two")
        assert await task == b"two"


async def test_waiter_that_nobody_keeps(loop):
    """Nothing of it shows in the next one."""
    async with connected() as connection:
        for number in range(5):
            task, waiter = await started(connection)
            assert not hasattr(waiter, "mark")
            assert weakref.getweakrefcount(waiter) == 0
            assert not waiter._asyncio_future_blocking
            waiter.mark = number
            dead = []
            ref = weakref.ref(waiter, dead.append)
            del waiter
            connection.feed(b"data")
            assert await task == b"data"
            assert dead == [ref]
            assert ref() is None


@pytest.mark.parametrize("extra", ["attribute", "reference", "nothing"])
async def test_waiter_with(loop, extra):
    async with connected() as connection:
        for _ in range(3):
            task, waiter = await started(connection)
            assert not hasattr(waiter, "mark")
            if extra == "attribute":
                waiter.mark = True
            elif extra == "reference":
                ref = weakref.ref(waiter)
            del waiter
            connection.feed(b"data")
            assert await task == b"data"
            if extra == "reference":
                assert ref() is None


class Rescue:
    """Garbage that its finalizer brings back to life, with what it has."""

    def __init__(self, rescued, content):
        self.tell = functools.partial(rescued.append, content)
        self.cycle = self

    def __del__(self):
        self.tell()


async def test_waiter_that_was_garbage(loop, errors):
    """The one after it still tells of an exception that nobody fetches."""
    rescued = []
    Rescue(rescued, loop.create_future())
    gc.collect()
    assert gc.is_finalized(rescued[0])
    async with connected() as connection:
        rescued[0].add_done_callback(lambda _: None)
        connection.reader._waiter = rescued.pop()
        connection.feed(b"data")
        await spin(3)
        assert await connection.reader.read(10) == b"data"
        read = connection.reader.read(10)
        waiter = read.send(None)
        waiter._asyncio_future_blocking = False
        assert not gc.is_finalized(waiter)
        waiter.set_exception(OSError("on purpose"))
        read.close()
        del read, waiter
        gc.collect()
        (report,) = errors
        errors.clear()
        assert report["message"] == "Future exception was never retrieved"


async def test_further_callbacks(loop):
    async with connected() as connection:
        task, waiter = await started(connection)
        order = []
        task.add_done_callback(lambda _: order.append("task"))
        waiter.add_done_callback(lambda _: order.append("first"))
        waiter.add_done_callback(lambda _: order.append("second"))
        connection.feed(b"data")
        await spin(4)
        assert order == ["first", "second", "task"]
        assert task.result() == b"data"


async def test_cancelled_between(loop):
    """After the bytes have come, before the task has gone on."""
    async with connected() as connection:
        task, waiter = await started(connection)

        def cancel_when_done():
            if waiter.done():
                task.cancel()
            else:
                loop.call_soon(cancel_when_done)

        loop.call_soon(cancel_when_done)
        connection.feed(b"data")
        with pytest.raises(asyncio.CancelledError):
            await task
        assert connection.reader._waiter is None
        assert await connection.reader.read(10) == b"data"


# --- without a task ---


async def test_awaited_by_hand(loop):
    async with connected() as connection:
        read = connection.reader.read(10)
        waiter = read.send(None)
        assert waiter is connection.reader._waiter
        assert waiter._asyncio_future_blocking
        with pytest.raises(
            RuntimeError, match="await wasn't used with future"
        ):
            read.send(None)


async def test_awaited_by_hand_twice(loop):
    async with connected() as connection:
        read = connection.reader.read(10)
        waiter = read.send(None)
        waiter._asyncio_future_blocking = False
        assert read.send(None) is waiter
        assert waiter._asyncio_future_blocking
        waiter._asyncio_future_blocking = False
        connection.feed(b"data")
        await spin(2)
        with pytest.raises(StopIteration) as caught:
            read.send(None)
        assert caught.value.value == b"data"


async def test_callback_that_raises(loop, errors):
    seen = []

    def fail(future):
        seen.append((future, VARIABLE.get()))
        raise OSError("on purpose")

    async with connected() as connection:
        read = connection.reader.read(10)
        waiter = read.send(None)
        waiter._asyncio_future_blocking = False
        context = contextvars.copy_context()
        context.run(VARIABLE.set, "inside")
        waiter.add_done_callback(fail, context=context)
        connection.feed(b"data")
        await spin(3)
        assert seen == [(waiter, "inside")]
        (report,) = errors
        errors.clear()
        assert report["message"].startswith("Exception in callback ")
        assert "fail(" in report["message"]
        assert report["exception"].args == ("on purpose",)
        handle = report["handle"]
        assert isinstance(handle, asyncio.Handle)
        assert not handle.cancelled()
        assert set(report) == {"message", "exception", "handle"}
        with pytest.raises(StopIteration):
            read.send(None)


async def test_callback_that_closes_the_read(loop):
    async with connected() as connection:
        read = connection.reader.read(10)
        waiter = read.send(None)
        waiter._asyncio_future_blocking = False
        waiter.add_done_callback(lambda _: read.close())
        connection.feed(b"data")
        await spin(3)
        assert bytes(connection.reader._buffer) == b"data"


# --- the loop ---


@pytest.mark.parametrize("exit_class", [SystemExit, KeyboardInterrupt])
def test_exit_leaves_the_loop(loop, run_main, exit_class):
    async def main():
        async with connected() as connection:

            async def read_and_leave():
                await connection.reader.read(10)
                raise exit_class("on purpose")

            task = asyncio.ensure_future(read_and_leave())
            await spin(2)
            connection.feed(b"data")
            await task

    with pytest.raises(exit_class, match="on purpose"):
        run_main(main())
    for task in asyncio.all_tasks(loop):
        task.cancel()
    run_main(spin(4))


async def test_debug_mode_begins_between(loop):
    """The task's wake-up is queued without it, and runs in it."""
    async with connected() as connection:
        task, waiter = await started(connection)

        def begin_when_done():
            if waiter.done():
                loop.set_debug(True)
            else:
                loop.call_soon(begin_when_done)

        loop.call_soon(begin_when_done)
        connection.feed(b"data")
        assert await task == b"data"
        assert loop.get_debug()


async def wake_and_stop(loop, mark):
    """Stop the loop when the read's bytes are there, before it has them."""
    ours, peer = tcp_pair()
    reader, writer = await asyncio.open_connection(sock=ours)
    task = asyncio.ensure_future(reader.read(10))
    task.mark = mark
    await spin(2)
    waiter = reader._waiter

    def stop_when_done():
        if waiter.done():
            loop.stop()
        else:
            loop.call_soon(stop_when_done)

    loop.call_soon(stop_when_done)
    peer.sendall(b"data")
    await task
    writer.close()
    peer.close()


class Mark:
    pass


@pytest.mark.parametrize("is_closed", [True, False])
@pytest.mark.filterwarnings("ignore::ResourceWarning")
@pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning")
def test_loop_ends_between(backend, is_closed):
    """What is queued then goes with the loop."""
    loop = make_loop(backend)
    loop.set_exception_handler(lambda *_: None)
    mark = Mark()
    alive = weakref.ref(mark)
    main = loop.create_task(wake_and_stop(loop, mark))
    loop.run_forever()
    assert not main.done()
    del main, mark
    gc.collect()
    assert alive() is not None
    if is_closed:
        loop.close()
    ended = weakref.ref(loop)
    del loop
    gc.collect()
    assert ended() is None
    assert alive() is None
