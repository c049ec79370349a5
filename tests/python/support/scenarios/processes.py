# SPDX-License-Identifier: MIT
"""Subprocesses, and the pipes that reach them."""

import asyncio
import contextlib
import errno
import functools
import os
import signal
import subprocess

from support.scenarios.registry import scenario

PIPE = asyncio.subprocess.PIPE
UNKNOWN = 255


@contextlib.contextmanager
def reliable_popen(world):
    """What Popen itself calls does not fail, in either process: when it does
    after the start, Popen forgets the process."""
    original = subprocess.Popen

    class Reliable(original):
        def __init__(self, *args, **options):
            with world.aside():
                super().__init__(*args, **options)

    subprocess.Popen = Reliable
    try:
        yield
    finally:
        subprocess.Popen = original


async def start(world, starting):
    """Await what starts a subprocess."""
    with reliable_popen(world):
        return await starting


@contextlib.contextmanager
def ended(world, transport):
    """The user's part: kill it. The loop reaps it."""
    closed = getattr(transport.get_protocol(), "_stdin_closed", None)
    try:
        yield
    finally:
        transport.close()
        # What wait_closed() of its input would raise.
        if closed is not None and closed.done() and not closed.cancelled():
            world.told.append(closed.exception())


def check_code(got, expected):
    """ChildProcessError: the loop was told that it was reaped already."""
    if got == UNKNOWN:
        raise ChildProcessError(errno.ECHILD, os.strerror(errno.ECHILD))
    assert got == expected, got


@contextlib.contextmanager
def without_pidfds():
    """Whoever is watched from now on is known by its number alone."""
    original = vars(os).pop("pidfd_open", None)
    try:
        yield
    finally:
        if original is not None:
            os.pidfd_open = original


@scenario("create_subprocess_exec")
def talk_to_a_process(world):
    token = world.token()

    async def play():
        process = await start(
            world,
            asyncio.create_subprocess_exec("cat", stdin=PIPE, stdout=PIPE),
        )
        with ended(world, process._transport):
            process.stdin.write(token)
            await process.stdin.drain()
            assert await process.stdout.readexactly(len(token)) == token
            process.stdin.close()
            assert await process.stdout.read() == b""
            check_code(await process.wait(), 0)

    return play


@scenario("create_subprocess_shell")
def run_in_a_shell(world):
    token = world.token()

    async def play():
        process = await start(
            world,
            asyncio.create_subprocess_shell(
                "cat; echo err >&2; exit 3",
                stdin=PIPE,
                stdout=PIPE,
                stderr=PIPE,
            ),
        )
        with ended(world, process._transport):
            out, err = await process.communicate(token)
            # Less, where its input was lost; that is told as an error.
            assert token.startswith(out), out
            assert err == b"err\n"
            check_code(process.returncode, 3)

    return play


async def end(world):
    transport, _ = await start(
        world,
        world.loop.subprocess_exec(
            *(asyncio.SubprocessProtocol, "sleep", "1000"),
            stdin=None,
            stdout=None,
            stderr=None,
        ),
    )
    with ended(world, transport):
        transport.send_signal(0)
        transport.terminate()
        check_code(await transport._wait(), -signal.SIGTERM)


@scenario("subprocess_exec")
def end_a_process(world):
    return functools.partial(end, world)


@scenario("subprocess_exec")
def end_a_process_by_its_number(world):
    async def play():
        with without_pidfds():
            await end(world)

    return play


async def lose(world):
    transport, _ = await start(
        world,
        world.loop.subprocess_exec(
            asyncio.SubprocessProtocol, "sleep", "1000"
        ),
    )
    with ended(world, transport):
        transport.close()
        check_code(await transport._wait(), -signal.SIGKILL)


@scenario("subprocess_exec")
def lose_a_process(world):
    """Closed at once, with all of its pipes."""
    return functools.partial(lose, world)


@scenario("subprocess_exec")
def lose_a_process_by_its_number(world):
    async def play():
        with without_pidfds():
            await lose(world)

    return play


@scenario("subprocess_exec")
def fail_to_start(world):
    async def play():
        try:
            await start(
                world,
                world.loop.subprocess_exec(
                    asyncio.SubprocessProtocol, "/no/such/program"
                ),
            )
        except FileNotFoundError:
            return
        raise AssertionError("there is such a program")

    return play
