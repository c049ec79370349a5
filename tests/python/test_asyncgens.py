# SPDX-License-Identifier: MIT
"""Asynchronous generators: hooks, finalizers, shutdown."""

import asyncio
import gc
import sys
import warnings

import pytest

from support.leaks import join_all, spawn
from support.loops import turn, turns

row = pytest.mark.row


class Generator:
    """Makes a generator that notes when it was closed."""

    def __init__(self):
        self.closed = []

    async def numbers(self):
        try:
            for number in range(10):
                yield number
        finally:
            await asyncio.sleep(0)
            self.closed.append(asyncio.get_running_loop())


@row("P1A-026", "P4C-004")
def test_shutdown_asyncgens_closes_open_generators(loop):
    source = Generator()
    kept = []

    async def use():
        generator = source.numbers()
        kept.append(generator)
        assert await anext(generator) == 0

    loop.run_until_complete(use())
    assert source.closed == []
    assert loop.run_until_complete(loop.shutdown_asyncgens()) is None
    assert source.closed == [loop]


@row("P1A-026")
def test_shutdown_asyncgens_without_generators(loop):
    assert asyncio.iscoroutine(coroutine := loop.shutdown_asyncgens())
    assert loop.run_until_complete(coroutine) is None
    assert loop.run_until_complete(loop.shutdown_asyncgens()) is None


@row("P4C-004")
def test_cancelled_generators_are_not_reported(loop, errors):
    kept = []

    async def cancelled():
        try:
            yield 1
        finally:
            raise asyncio.CancelledError

    async def use():
        kept.append(cancelled())
        await anext(kept[0])

    loop.run_until_complete(use())
    loop.run_until_complete(loop.shutdown_asyncgens())
    assert errors == []


@row("P1A-027", "P4C-003")
def test_iterating_after_the_shutdown_warns(loop):
    source = Generator()
    loop.run_until_complete(loop.shutdown_asyncgens())

    async def use():
        generator = source.numbers()
        with pytest.warns(
            ResourceWarning,
            match=r"asynchronous generator .* was scheduled after"
            r" loop\.shutdown_asyncgens\(\) call",
        ):
            assert await anext(generator) == 0
        await generator.aclose()

    loop.run_until_complete(use())
    assert source.closed == [loop]


@row("P1A-028")
def test_documented_way_to_end(loop):
    source = Generator()
    kept = []

    async def use():
        kept.append(source.numbers())
        await anext(kept[0])
        loop.stop()

    task = loop.create_task(use())
    try:
        loop.run_forever()
    finally:
        loop.run_until_complete(loop.shutdown_asyncgens())
        loop.close()
    assert task.done()
    assert source.closed == [loop]


@row("P1A-026", "P4C-004")
def test_failing_generators_are_reported(loop, errors):
    kept = []

    async def failing():
        try:
            yield 1
        finally:
            raise ZeroDivisionError("in finally")

    async def use():
        kept.append(failing())
        await anext(kept[0])

    loop.run_until_complete(use())
    loop.run_until_complete(loop.shutdown_asyncgens())
    (context,) = errors
    errors.clear()
    assert context["message"].startswith(
        "an error occurred during closing of asynchronous generator"
    )
    assert isinstance(context["exception"], ZeroDivisionError)
    assert context["asyncgen"] is kept[0]


@row("P4C-002")
def test_abandoned_generator_is_closed_by_the_loop(loop):
    source = Generator()

    async def use():
        async for _ in source.numbers():
            break

    loop.run_until_complete(use())
    gc.collect()
    turns(loop, 4)
    assert source.closed == [loop]


@row("P4C-002")
def test_generator_abandoned_in_another_thread(loop):
    source = Generator()
    kept = []

    async def use():
        kept.append(source.numbers())
        await anext(kept[0])

    loop.run_until_complete(use())

    def drop():
        kept.clear()
        gc.collect()

    join_all([spawn(drop)])
    turns(loop, 4)
    assert source.closed == [loop]


@row("P4C-002")
def test_generator_abandoned_after_close(loop):
    source = Generator()
    kept = []

    async def use():
        kept.append(source.numbers())
        await anext(kept[0])

    loop.run_until_complete(use())
    loop.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        kept.clear()
        gc.collect()
    assert source.closed == []


@row("P4C-001")
def test_hooks_are_set_for_the_run_and_restored(loop):
    def firstiter(generator):
        pass

    def finalizer(generator):
        pass

    async def inside():
        return sys.get_asyncgen_hooks()

    before = sys.get_asyncgen_hooks()
    sys.set_asyncgen_hooks(firstiter, finalizer)
    try:
        hooks = loop.run_until_complete(inside())
        assert hooks.firstiter not in (None, firstiter)
        assert hooks.finalizer not in (None, finalizer)
        assert tuple(sys.get_asyncgen_hooks()) == (firstiter, finalizer)
    finally:
        sys.set_asyncgen_hooks(*before)


@row("P4C-001")
def test_hooks_are_restored_after_an_exception(loop):
    before = sys.get_asyncgen_hooks()

    def leave():
        raise KeyboardInterrupt

    loop.call_soon(leave)
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert sys.get_asyncgen_hooks() == before


def test_finished_generators_are_not_kept(loop):
    import weakref

    source = Generator()
    alive = []

    async def use():
        generator = source.numbers()
        alive.append(weakref.ref(generator))
        async for _ in generator:
            pass

    loop.run_until_complete(use())
    gc.collect()
    assert alive[0]() is None
    turn(loop)


async def test_async_for_and_comprehensions(loop):
    source = Generator()
    assert [n async for n in source.numbers()] == list(range(10))
    assert {n async for n in source.numbers() if n % 2} == {1, 3, 5, 7, 9}
    assert source.closed == [loop, loop]
