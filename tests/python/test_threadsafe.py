# SPDX-License-Identifier: MIT
"""call_soon_threadsafe and run_coroutine_threadsafe."""

import asyncio
import gc
import queue
import signal
import threading
import time

import pytest

from support.leaks import join_all, spawn
from support.loops import PY314, turn

row = pytest.mark.row


@row("P1A-038")
def test_wakes_a_sleeping_loop(loop):
    delays = []

    def feed():
        for _ in range(20):
            sent = time.monotonic()
            arrived = queue.SimpleQueue()
            loop.call_soon_threadsafe(
                lambda arrived=arrived: arrived.put(time.monotonic())
            )
            delays.append(arrived.get(timeout=10) - sent)
        loop.call_soon_threadsafe(loop.stop)

    thread = spawn(feed)
    loop.run_forever()
    join_all([thread])
    assert sorted(delays)[10] < 0.05


@row("P1A-038")
def test_many_threads_lose_nothing(loop):
    threads_count, each = 8, 500
    ran = []

    def feed(who):
        for number in range(each):
            loop.call_soon_threadsafe(ran.append, (who, number))

    threads = [spawn(feed, who) for who in range(threads_count)]

    async def drain():
        while len(ran) < threads_count * each:
            await asyncio.sleep(0.001)

    loop.run_until_complete(asyncio.wait_for(drain(), 20))
    join_all(threads)
    assert len(ran) == len(set(ran)) == threads_count * each
    for who in range(threads_count):
        mine = [number for owner, number in ran if owner == who]
        assert mine == list(range(each))


@row("P1A-038")
def test_sent_before_the_loop_runs(loop):
    ran = []
    join_all([spawn(loop.call_soon_threadsafe, ran.append, 1)])
    turn(loop)
    assert ran == [1]


@row("P1A-038")
def test_from_the_loop_thread(loop):
    ran = []
    loop.call_soon_threadsafe(ran.append, 1)
    loop.call_soon(ran.append, 2)
    turn(loop)
    assert ran == [1, 2]


@row("P1A-038")
def test_from_a_signal_handler(loop):
    before = signal.signal(
        signal.SIGALRM, lambda *_: loop.call_soon_threadsafe(loop.stop)
    )
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        started = time.monotonic()
        loop.call_later(10, loop.stop)
        loop.run_forever()
        assert time.monotonic() - started < 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


@row("P1A-038")
def test_from_a_finalizer(loop):
    ran = []

    class Cycle:
        def __init__(self):
            self.me = self

        def __del__(self):
            loop.call_soon_threadsafe(ran.append, 1)

    Cycle()
    gc.collect()
    turn(loop)
    assert ran == [1]


@row("P1A-036", "P1A-233")
def test_returns_a_handle_that_cancels(loop):
    ran = []
    handle = loop.call_soon_threadsafe(ran.append, 1)
    assert isinstance(handle, asyncio.Handle)
    if PY314:
        assert isinstance(handle, asyncio.events._ThreadSafeHandle)
    handle.cancel()
    turn(loop)
    assert ran == []


@row("P2C-006")
@pytest.mark.since(3, 14)
def test_cancel_waits_for_the_running_callback(loop):
    """From 3.14 on, who cancels from outside knows that it is over."""
    started, order = threading.Event(), []

    def callback():
        started.set()
        time.sleep(0.05)
        order.append("callback")
        loop.stop()

    handle = loop.call_soon_threadsafe(callback)

    def cancel():
        started.wait(10)
        handle.cancel()
        order.append("cancelled")

    thread = spawn(cancel)
    loop.run_forever()
    join_all([thread])
    assert order == ["callback", "cancelled"]


def test_cancel_from_the_sending_thread(loop):
    ran = []

    def feed():
        for _ in range(200):
            loop.call_soon_threadsafe(ran.append, "no").cancel()
        loop.call_soon_threadsafe(loop.stop)

    # The loop is not running yet, so that none can have run before.
    join_all([spawn(feed)])
    loop.run_forever()
    assert ran == []


@row("P4A-031")
def test_after_close(loop):
    loop.close()
    caught = []

    def feed():
        try:
            loop.call_soon_threadsafe(print)
        except RuntimeError as exc:
            caught.append(str(exc))

    join_all([spawn(feed)])
    assert caught == ["Event loop is closed"]


@row("P4A-031")
def test_racing_with_close(new_loop):
    for _ in range(20):
        loop = new_loop()
        go = threading.Event()

        def feed(loop=loop, go=go):
            go.wait(10)
            for _ in range(1000):
                try:
                    loop.call_soon_threadsafe(int)
                except RuntimeError as exc:
                    assert str(exc) == "Event loop is closed"
                    return

        threads = [spawn(feed) for _ in range(2)]
        go.set()
        loop.call_soon(loop.stop)
        loop.run_forever()
        loop.close()
        join_all(threads)


@row("P2F-019")
def test_run_coroutine_threadsafe(loop):
    results = []

    async def work(value):
        await asyncio.sleep(0.001)
        return value * 2

    def feed():
        future = asyncio.run_coroutine_threadsafe(work(21), loop)
        results.append(future.result(10))
        loop.call_soon_threadsafe(loop.stop)

    thread = spawn(feed)
    loop.run_forever()
    join_all([thread])
    assert results == [42]


@row("P2F-019")
async def test_wrap_future(loop):
    import concurrent.futures

    source = concurrent.futures.Future()
    wrapped = asyncio.wrap_future(source)
    thread = spawn(source.set_result, "from a thread")
    assert await wrapped == "from a thread"
    join_all([thread])


def test_stop_from_another_thread_needs_a_wake_up(loop):
    thread = spawn(lambda: loop.call_soon_threadsafe(loop.stop))
    loop.call_later(20, loop.stop)
    started = time.monotonic()
    loop.run_forever()
    join_all([thread])
    assert time.monotonic() - started < 10


def test_exceptions_of_threadsafe_callbacks_go_to_the_handler(loop, errors):
    join_all([spawn(loop.call_soon_threadsafe, lambda: 1 / 0)])
    turn(loop)
    (context,) = errors
    errors.clear()
    assert isinstance(context["exception"], ZeroDivisionError)
    assert isinstance(context["handle"], asyncio.Handle)
