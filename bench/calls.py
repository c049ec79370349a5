# SPDX-License-Identifier: MIT
"""How fast becket's loop is next to CPython's own, on three small jobs.

    calls.py [--rounds N] [--seconds S]

    call_soon    a callback that schedules itself anew
    call_later   timers that come due at once, a thousand waiting besides
    echo         64 bytes to a server and back over one TCP connection, both
                 ends on the loop under test

The two loops take turns within each round, so that what else the machine does
falls on both. Printed: the median rate of each, and the median of the ratios
of the rounds with the lowest and highest one. A ratio above 1 means that
becket is faster.
"""

import argparse
import asyncio
import platform
import statistics
import time

import becket

LOOPS = {
    "becket": becket.SelectorEventLoop,
    "asyncio": asyncio.SelectorEventLoop,
}
CHECK_EVERY = 100  # turns between two looks at the clock
WAITING_TIMERS = 1000
MESSAGE = b"x" * 64


class Job:
    """Runs step after step until the time is up; counts the steps."""

    def __init__(self, loop, seconds):
        self.loop = loop
        self.steps = 0
        self.start = time.perf_counter()
        self.end = self.start + seconds

    def is_over(self):
        self.steps += 1
        return (
            self.steps % CHECK_EVERY == 0 and time.perf_counter() >= self.end
        )

    def rate(self):
        return self.steps / (time.perf_counter() - self.start)


def call_soon(loop, seconds):
    job = Job(loop, seconds)

    def step():
        if job.is_over():
            loop.stop()
        else:
            loop.call_soon(step)

    loop.call_soon(step)
    loop.run_forever()
    return job.rate()


def call_later(loop, seconds):
    waiting = [loop.call_later(3600 + n, print) for n in range(WAITING_TIMERS)]
    job = Job(loop, seconds)

    def step():
        if job.is_over():
            loop.stop()
        else:
            loop.call_later(0, step)

    loop.call_later(0, step)
    loop.run_forever()
    rate = job.rate()
    for handle in waiting:
        handle.cancel()
    return rate


class EchoServer(asyncio.Protocol):
    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.transport.write(data)


class EchoClient(asyncio.Protocol):
    """Sends the next message once the last is back."""

    def __init__(self, job):
        self.job = job
        self.missing = 0
        self.done = job.loop.create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.send()

    def send(self):
        self.missing = len(MESSAGE)
        self.transport.write(MESSAGE)

    def data_received(self, data):
        self.missing -= len(data)
        if self.missing > 0:
            return
        if self.job.is_over():
            self.transport.close()
        else:
            self.send()

    def connection_lost(self, exc):
        if exc is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(exc)


async def exchange(seconds):
    loop = asyncio.get_running_loop()
    server = await loop.create_server(EchoServer, "127.0.0.1", 0)
    port = server.sockets[0].getsockname()[1]
    job = Job(loop, seconds)
    client = EchoClient(job)
    await loop.create_connection(lambda: client, "127.0.0.1", port)
    await client.done
    rate = job.rate()
    server.close()
    await server.wait_closed()
    return rate


def echo(loop, seconds):
    return loop.run_until_complete(exchange(seconds))


def measure(job, make_loop, seconds):
    loop = make_loop()
    try:
        return job(loop, seconds)
    finally:
        loop.close()


def compare(job, rounds, seconds):
    rates = {name: [] for name in LOOPS}
    for number in range(rounds):
        names = list(LOOPS)
        if number % 2:
            names.reverse()  # being first is no advantage to either
        for name in names:
            rates[name].append(measure(job, LOOPS[name], seconds))
    ratios = [
        ours / theirs
        for ours, theirs in zip(rates["becket"], rates["asyncio"])
    ]
    medians = "".join(f"{statistics.median(r):12,.0f}" for r in rates.values())
    print(
        f"{job.__name__:12}{medians}{statistics.median(ratios):8.2f}"
        f"   {min(ratios):.2f} to {max(ratios):.2f}",
        flush=True,
    )


def main():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=float, default=0.5)
    options = parser.parse_args()
    print(f"Python {platform.python_version()}, {options.rounds} rounds")
    header = "".join(f"{name + '/s':>12}" for name in LOOPS)
    print(f"{'':12}{header}{'ratio':>8}   range")
    for job in (call_soon, call_later, echo):
        compare(job, options.rounds, options.seconds)


if __name__ == "__main__":
    main()
