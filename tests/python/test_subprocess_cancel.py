# SPDX-License-Identifier: MIT
"""Cancelled at each place where it waits: a subprocess leaves nothing."""

import asyncio
import contextlib
import itertools
import signal
import sys

import pytest

from support.children import SLEEP, children, children_left, python
from support.leaks import leaked_fds, open_fds
from support.procs import check, run_code

row = pytest.mark.row

LIMIT = 10
PIPE = asyncio.subprocess.PIPE
# More turns than any of these takes.
TURNS = 60

HANGS = pytest.mark.oracle_skip(
    "waits for ever", when=sys.version_info < (3, 14, 7)
)


@pytest.fixture(autouse=True)
def nothing_left():
    before, fds = children(), open_fds()
    yield
    left = children_left(before)
    assert not left, f"left behind: {left}"
    assert not leaked_fds(fds)


class Log(asyncio.SubprocessProtocol):
    def __init__(self):
        self.calls = []

    def connection_made(self, transport):
        self.calls.append("made")

    def pipe_connection_lost(self, fd, exc):
        self.calls.append(f"pipe {fd} lost")

    def process_exited(self):
        self.calls.append("exited")

    def connection_lost(self, exc):
        self.calls.append("lost")


async def turns(count):
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition):
    async def wait():
        while not condition():
            await asyncio.sleep(0.001)

    await asyncio.wait_for(wait(), LIMIT)


async def outcome_of(task):
    done, _ = await asyncio.wait([task], timeout=LIMIT)
    assert done, "cancelled, and still there"
    try:
        return task.result()
    except asyncio.CancelledError:
        return None


PIPES = {
    "none": (None, None, None),
    "in": (PIPE, None, None),
    "out": (None, PIPE, None),
    "all": (PIPE, PIPE, PIPE),
}


@row("P4G-023")
@HANGS
@pytest.mark.parametrize("pipes", PIPES)
async def test_start_is_cancelled(loop, pipes):
    """After one turn, after two, and so on until it is done before that."""
    options = dict(zip(("stdin", "stdout", "stderr"), PIPES[pipes]))
    tasks = asyncio.all_tasks()
    for count in itertools.count():
        assert count < TURNS
        protocols = []

        def factory(protocols=protocols):
            protocols.append(Log())
            return protocols[-1]

        starting = loop.create_task(
            loop.subprocess_exec(factory, *SLEEP, **options)
        )
        await turns(count)
        if starting.done():
            break
        starting.cancel()
        result = await outcome_of(starting)
        assert result is None
        # Killed and reaped by now, except if nothing was started.
        assert not children()
        if count:
            # The protocol is told of it as of any other.
            (protocol,) = protocols
            await until(lambda protocol=protocol: "lost" in protocol.calls)
            assert protocol.calls[0] == "made"
            assert protocol.calls[-1] == "lost"
            assert "exited" in protocol.calls
    assert count > 2
    transport, _ = await starting
    transport.close()
    await asyncio.wait_for(transport._wait(), LIMIT)
    assert asyncio.all_tasks() == tasks


@row("P4G-023")
@HANGS
async def test_start_is_cancelled_twice(loop):
    """The second one does not wait for the process; it is reaped all the
    same."""
    for first in range(1, 8):
        for second in range(4):
            starting = loop.create_task(
                loop.subprocess_exec(Log, *SLEEP),
            )
            await turns(first)
            if starting.done():
                (await starting)[0].close()
                break
            starting.cancel()
            await turns(second)
            starting.cancel()
            assert await outcome_of(starting) is None
            await until(lambda: not children())
    await until(lambda: not children())
    await turns(10)


@row("P4G-023")
@HANGS
@pytest.mark.parametrize("milliseconds", [0, 1, 2, 5])
async def test_start_times_out(loop, milliseconds):
    """As wait_for() cancels."""

    async def start():
        process = await asyncio.create_subprocess_exec(
            *SLEEP, stdin=PIPE, stdout=PIPE
        )
        # Cancelled from here on: the process is ours to kill.
        try:
            await process.wait()
        finally:
            process.kill()
            process._transport.close()
            await process.wait()

    for _ in range(5):
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(start(), milliseconds / 1000)
        await until(lambda: not children())


@pytest.mark.parametrize("method", ["wait", "communicate", "read", "drain"])
async def test_later_calls_are_cancelled(loop, method):
    """The process goes on, and can be asked again."""
    process = await asyncio.create_subprocess_exec(
        *python(
            "import shutil, sys, time; sys.stdin.buffer.read(1);"
            "shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"
        ),
        stdin=PIPE,
        stdout=PIPE,
    )
    if method == "drain":
        process.stdin.write(bytes(1 << 20))
    calls = {
        "wait": process.wait,
        "communicate": process.communicate,
        "read": process.stdout.read,
        "drain": process.stdin.drain,
    }
    task = loop.create_task(calls[method]())
    await turns(3)
    if method == "communicate" and sys.version_info >= (3, 12):
        # It has closed the input, as asyncio's does.
        assert process.stdin.is_closing()
    if not task.done():
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
    assert process.returncode is None
    process.kill()
    assert await asyncio.wait_for(process.wait(), LIMIT) == -signal.SIGKILL
    await process.stdout.read()
    # Where asyncio does not do it by itself.
    closed = process._protocol._stdin_closed
    await asyncio.wait([closed], timeout=LIMIT)
    closed.exception()


CLOSE = """
    import asyncio, gc, subprocess, time
    from support.children import children, children_left
    from support.leaks import leaked_fds, open_fds
    from support.loops import loop_from_environment

    def play(turns):
        loop = loop_from_environment()
        task = loop.create_task(
            loop.subprocess_exec(asyncio.SubprocessProtocol, "cat")
        )
        for _ in range(turns):
            loop.call_soon(loop.stop)
            loop.run_forever()
        loop.close()

    play(1)
    gc.collect()
    fds = open_fds()
    for turns in range(1, 15):
        play(turns)
        gc.collect()
    assert not leaked_fds(fds), leaked_fds(fds)
    while children():
        # Popen collects what was killed and nobody has waited for.
        subprocess.run(["true"], check=True)
    print("nothing left")
"""


@pytest.mark.becket_only("CPython leaves processes and descriptors behind")
def test_loop_is_closed_while_it_starts(backend):
    """In each of its turns: killed, and no exception where nobody sees it."""
    done = check(run_code(backend, CLOSE))
    assert done.stdout == "nothing left\n"
    assert "Traceback" not in done.stderr, done.stderr


@row("P4G-023")
@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
def test_interrupted_while_it_starts(new_loop, error):
    """It leaves at once, as everywhere, and the transport can be closed."""
    loop = new_loop()
    made = []

    def interrupt():
        raise error

    async def main():
        task = loop.create_task(loop.subprocess_exec(Log, *SLEEP))
        await turns(1)
        loop.call_soon(interrupt)
        made.append(await task)

    task = loop.create_task(main())
    with pytest.raises(error):
        loop.run_until_complete(task)
    loop.run_until_complete(task)
    transport, protocol = made[0]
    transport.close()
    loop.run_until_complete(transport._wait())

    async def end():
        await until(lambda: "lost" in protocol.calls)

    loop.run_until_complete(end())


@HANGS
@pytest.mark.parametrize("count", range(1, 8))
async def test_its_pipes_are_cancelled(loop, count):
    """As asyncio.run() does at its end: every task, its own one too."""
    tasks = asyncio.all_tasks()
    starting = loop.create_task(loop.subprocess_exec(Log, *SLEEP))
    await turns(count)
    for task in asyncio.all_tasks() - tasks - {starting}:
        task.cancel()
    transport = None
    with contextlib.suppress(asyncio.CancelledError):
        transport, _ = await asyncio.wait_for(starting, LIMIT)
    if transport is not None:  # they were connected already
        transport.close()
        await asyncio.wait_for(transport._wait(), LIMIT)
    assert not children()
    await turns(10)
