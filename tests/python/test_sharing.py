# SPDX-License-Identifier: MIT
"""The loop beside other threads and signals: who gets to run."""

import functools
import re
import signal
import threading
import time

import pytest

from support.leaks import join_all, spawn
from support.loops import turns
from support.procs import check, finish, run_code, start_code


def endless(loop):
    """A callback without Python code that schedules itself again."""
    callback = functools.partial(loop.call_soon, None)
    callback.__setstate__((loop.call_soon, (callback,), {}, {}))
    return callback


class Counter:
    """A thread that counts as fast as it may."""

    def __init__(self):
        self.count = 0
        self._end = threading.Event()
        self._thread = spawn(self._run)

    def _run(self):
        while not self._end.is_set():
            self.count += 1

    def stop(self):
        self._end.set()
        join_all([self._thread])
        return self.count


def test_threads_run_while_the_loop_waits(loop):
    counter = Counter()
    loop.call_later(0.2, loop.stop)
    loop.run_forever()
    assert counter.stop() > 10_000


def test_threads_run_beside_a_busy_loop(loop):
    """Also when no callback runs any Python code."""
    handle = loop.call_soon(endless(loop))
    counter = Counter()
    loop.call_later(0.3, loop.stop)
    loop.run_forever()
    assert counter.stop() > 1000
    handle.cancel()
    # What the callback scheduled last is dropped with the loop.
    loop.close()


def test_a_thread_can_stop_a_busy_loop(loop):
    loop.call_soon(endless(loop))
    guard = loop.call_later(20, loop.stop)
    started = time.monotonic()
    thread = spawn(loop.call_soon_threadsafe, loop.stop)
    loop.run_forever()
    join_all([thread])
    assert time.monotonic() - started < 10
    guard.cancel()
    loop.close()


def test_signals_reach_a_busy_loop(loop):
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    try:
        loop.call_soon(endless(loop))
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        loop.call_later(0.2, loop.stop)
        loop.run_forever()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen == [1]
    loop.close()


BUSY = """
    import functools
    from support.loops import loop_from_environment

    loop = loop_from_environment()
    callback = functools.partial(loop.call_soon, None)
    callback.__setstate__((loop.call_soon, (callback,), {}, {}))
    loop.call_soon(print, "ready")
    loop.call_soon(callback)
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        print("interrupted")
    loop.close()
"""


def test_ctrl_c_reaches_a_busy_loop(backend):
    process = start_code(backend, BUSY)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(signal.SIGINT)
    done = check(finish(process))
    assert done.stdout == "interrupted\n"


def test_two_busy_loops_share(new_loop):
    counts = []
    loops = [new_loop() for _ in range(2)]

    def run(loop):
        count = 0

        def again():
            nonlocal count
            count += 1
            loop.call_soon(again)

        again()
        loop.call_later(0.2, loop.stop)
        loop.run_forever()
        counts.append(count)
        count = None

    threads = [spawn(run, loop) for loop in loops]
    join_all(threads)
    assert min(counts) > 50
    for loop in loops:
        loop.close()


@pytest.mark.parametrize("options", [("-X", "dev"), ("-W", "error")])
def test_a_whole_program_in_development_mode(backend, options):
    """Debug mode and all warnings find nothing to complain about."""
    code = """
        import asyncio
        from support.loops import loop_from_environment

        async def serve(reader, writer):
            while data := await reader.read(100):
                writer.write(data)
                await writer.drain()
            writer.close()
            await writer.wait_closed()

        async def client(address):
            reader, writer = await asyncio.open_connection(*address)
            for _ in range(20):
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
            writer.close()
            await writer.wait_closed()

        async def main():
            loop = asyncio.get_running_loop()
            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            async with server:
                address = server.sockets[0].getsockname()
                await asyncio.gather(*(client(address) for _ in range(10)))
            await loop.getaddrinfo("localhost", 80)
            await loop.run_in_executor(None, int)
            await asyncio.to_thread(int)

        with asyncio.Runner(loop_factory=loop_from_environment) as runner:
            runner.run(main())
    """
    done = check(run_code(backend, code, options=options))
    # A machine that is busy with other things makes callbacks slow.
    said = [
        line
        for line in done.stderr.splitlines()
        if not re.fullmatch(r"Executing .* took [\d.]+ seconds", line)
    ]
    assert said == []


def test_turns_are_cheap(loop):
    """An upper bound that only a gross fault would exceed."""
    started = time.perf_counter()
    for _ in range(5000):
        loop.call_soon(int)
    turns(loop, 500)
    assert time.perf_counter() - started < 5
