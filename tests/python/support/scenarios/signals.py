# SPDX-License-Identifier: MIT
"""Signals as callbacks of the loop."""

import asyncio
import contextlib
import os
import signal

from support.scenarios.processes import check_code, ended, start
from support.scenarios.registry import scenario

# A signal is told in the turn after the one that it arrives in.
TURNS_MAX = 10
SENDINGS_MAX = 3
# Seconds: before the first alarm, in which the loop sleeps; between others.
ALARM = (0.001, 0.01)


@contextlib.contextmanager
def handled(world, *signals):
    """Each adds to the list that is given; theirs is the default after it."""
    came = []
    added = []
    try:
        for number in signals:
            world.loop.add_signal_handler(number, came.append, number)
            added.append(number)
        yield came
        while added:
            assert world.loop.remove_signal_handler(added.pop())
    finally:
        for number in added:
            world.loop.remove_signal_handler(number)
        with world.aside():
            put_back(signals)


def put_back(signals):
    """What a remove_signal_handler() that failed has left."""
    for number in signals:
        signal.signal(number, signal.SIG_DFL)


async def deliver(came, number, send):
    """Send it, again if it was lost, until it came."""
    for _ in range(SENDINGS_MAX):
        send()
        for _ in range(TURNS_MAX):
            if number in came:
                return
            await asyncio.sleep(0)
    raise EOFError("the signal did not come")


def raised(number):
    return lambda: signal.raise_signal(number)


@scenario("add_signal_handler")
def handle_a_signal(world):
    async def play():
        with handled(world, signal.SIGUSR1) as came:
            await deliver(came, signal.SIGUSR1, raised(signal.SIGUSR1))
        assert not world.loop.remove_signal_handler(signal.SIGUSR1)

    return play


@scenario("add_signal_handler")
def handle_several_signals(world):
    """Two at once, from this process as if from any; one handler replaced."""

    def send():
        os.kill(os.getpid(), signal.SIGUSR1)
        os.kill(os.getpid(), signal.SIGUSR2)

    async def play():
        with handled(world, signal.SIGUSR1, signal.SIGUSR2) as came:
            await deliver(came, signal.SIGUSR1, send)
            await deliver(came, signal.SIGUSR2, send)
            world.loop.add_signal_handler(signal.SIGUSR2, came.append, 0)
            await deliver(came, 0, raised(signal.SIGUSR2))

    return play


@scenario("add_signal_handler")
def handle_an_alarm(world):
    """It ends the wait of a loop that has nothing else to do."""

    async def play():
        arrived = world.loop.create_future()

        def arrive():
            if not arrived.done():
                arrived.set_result(None)

        with handled(world, signal.SIGALRM):
            world.loop.add_signal_handler(signal.SIGALRM, arrive)
            signal.setitimer(signal.ITIMER_REAL, *ALARM)
            try:
                await arrived
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)

    return play


@scenario("add_signal_handler")
def handle_what_cannot_be(world):
    async def play():
        try:
            world.loop.add_signal_handler(signal.SIGKILL, print)
        except RuntimeError as exc:
            if "cannot be caught" in str(exc):
                return
            raise
        raise AssertionError("it can be caught")

    return play


@scenario("add_signal_handler")
def handle_the_end_of_a_process(world):
    """SIGCHLD is the user's to handle: the loop reaps without it."""

    async def play():
        with handled(world, signal.SIGCHLD) as came:
            process = await start(
                world, asyncio.create_subprocess_exec("true")
            )
            with ended(world, process._transport):
                check_code(await process.wait(), 0)
            await deliver(came, signal.SIGCHLD, raised(signal.SIGCHLD))

    return play
