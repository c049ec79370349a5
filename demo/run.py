# SPDX-License-Identifier: MIT
"""FastAPI under uvicorn, on becket and on stock asyncio, side by side.

Starts the same application twice, checks its answers with a real client,
then loads both servers in turn and compares them. Ends by itself.
"""

import argparse
import asyncio
import os
import platform
import signal
import statistics
import sys
import time

import aiohttp
import fastapi
import rich.box
import uvicorn
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

import becket
from load import Load, LoadError
from servers import DemoError, Server, stop_all

PATH = "/items/42?q=becket"
CHECK_LIMIT = 20.0


class Contender:
    """One server with what was measured of it."""

    def __init__(self, server, package):
        self.server = server
        self.package = package
        self.served_by = None
        self.rates = []
        self.latencies = []
        self.cpu = []


def parse_arguments(arguments):
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--rounds", type=int, default=6, help="rounds for each server")
    add("--seconds", type=float, default=2.0, help="length of one round")
    add("--connections", type=int, default=16, help="kept alive at a time")
    return parser.parse_args(arguments)


def split_cpus():
    """One core for the servers, the rest for the client, when there are two.

    Returns the servers' cores, or None when cores cannot be had apart.
    """
    if not hasattr(os, "sched_setaffinity"):
        return None
    cpus = sorted(os.sched_getaffinity(0))
    if len(cpus) < 2:
        return None
    os.sched_setaffinity(0, set(cpus[1:]))
    return {cpus[0]}


async def expect(response, status, what):
    if response.status != status:
        raise DemoError(f"{what}: status {response.status}, not {status}")
    return await response.read()


def same(found, wanted, what):
    if found != wanted:
        raise DemoError(f"{what}: answered {found!r}, not {wanted!r}")


async def check_answers(contender):
    """Use the application as its users would, and look at every answer."""
    name = contender.server.name
    limit = aiohttp.ClientTimeout(total=CHECK_LIMIT)
    url = contender.server.url
    async with aiohttp.ClientSession(url, timeout=limit) as session:
        async with session.get("/loop") as response:
            await expect(response, 200, f"{name} /loop")
            answer = await response.json()
        contender.served_by = answer["loop"]
        if answer["backend"]:
            contender.served_by += f" ({answer['backend']})"
        if answer["loop"].split(".")[0] != contender.package:
            raise DemoError(f"{name} was served by {answer['loop']}")
        async with session.get(PATH) as response:
            await expect(response, 200, f"{name} {PATH}")
            found = await response.json()
            same(found, {"item_id": 42, "q": "becket"}, f"{name} {PATH}")
        async with session.get("/items/0") as response:
            await expect(response, 404, f"{name} missing item")
        order = {"name": "rope", "price": 2.5, "count": 4}
        async with session.post("/orders", json=order) as response:
            await expect(response, 200, f"{name} order")
            found = await response.json()
            same(found, {"name": "rope", "total": 10.0}, f"{name} order")
        async with session.post("/orders", json={"name": 1}) as response:
            await expect(response, 422, f"{name} bad order")
        body = os.urandom(1 << 20)
        async with session.post("/echo", data=body) as response:
            found = await expect(response, 200, f"{name} echo")
            same(found == body, True, f"{name} echo of 1 MiB intact")


async def one_round(contender, options):
    server = contender.server
    load = Load(server.url, PATH, options.connections, options.seconds)
    before = server.cpu_seconds()
    try:
        await load.run()
    except (LoadError, OSError, TimeoutError) as exc:
        server.check_alive()
        raise DemoError(f"load on {server.name}: {exc!r}") from exc
    after = server.cpu_seconds()
    contender.rates.append(load.rate)
    contender.latencies.extend(load.latencies)
    if before is not None and after is not None and load.latencies:
        contender.cpu.append((after - before) / len(load.latencies))


def progress_bar(console):
    return Progress(
        TextColumn("{task.description:<16}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} rounds"),
        TextColumn("{task.fields[rate]:>9}"),
        TimeElapsedColumn(),
        console=console,
    )


async def all_rounds(contenders, options, console):
    """Rounds in turn, the order changing, so that drift hits both alike."""
    with progress_bar(console) as progress:
        total = len(contenders) * options.rounds
        bar = progress.add_task("warming up", total=total, rate="")
        for contender in contenders:
            warm_up = argparse.Namespace(
                connections=options.connections,
                seconds=min(0.5, options.seconds),
            )
            await one_round(contender, warm_up)
            contender.rates.clear()
            contender.latencies.clear()
            contender.cpu.clear()
        order = list(contenders)
        for _ in range(options.rounds):
            for contender in order:
                progress.update(bar, description=contender.server.name)
                await one_round(contender, options)
                rate = f"{contender.rates[-1]:,.0f}/s"
                progress.update(bar, advance=1, rate=rate)
            order.reverse()


def percentile(ordered, fraction):
    """The smallest value that at least this fraction does not exceed."""
    rank = max(1, -(-len(ordered) * fraction // 1))
    return ordered[min(len(ordered), int(rank)) - 1]


def show_results(contenders, console):
    table = Table(box=rich.box.SIMPLE_HEAD)
    table.add_column("loop")
    for heading in ("requests/s", "p50 ms", "p90 ms", "p99 ms", "CPU us/req"):
        table.add_column(heading, justify="right")
    for contender in contenders:
        ordered = sorted(contender.latencies)
        cpu = "-"
        if contender.cpu:
            cpu = f"{statistics.median(contender.cpu) * 1e6:.0f}"
        row = [f"{statistics.median(contender.rates):,.0f}"]
        for fraction in (0.50, 0.90, 0.99):
            row.append(f"{percentile(ordered, fraction) * 1e3:.2f}")
        table.add_row(contender.server.name, *row, cpu)
    console.print(table)
    ours, theirs = contenders
    ratios = sorted(a / b for a, b in zip(ours.rates, theirs.rates))
    console.print(
        f"becket serves {statistics.median(ratios):.2f} times the requests of"
        f" stock asyncio (median of {len(ratios)} rounds,"
        f" {ratios[0]:.2f} to {ratios[-1]:.2f})"
    )


def start(cpus):
    """Start both servers; stops what was started if one fails."""
    servers = []
    try:
        servers.append(Server("becket", "becket:new_event_loop", cpus))
        servers.append(Server("asyncio", "asyncio", cpus))
        for server in servers:
            server.wait_started()
    except BaseException:
        for server in servers:
            server.stop()
        raise
    return servers


async def compare(contenders, options, console):
    for contender in contenders:
        await check_answers(contender)
        console.print(
            f"{contender.server.url}  answers as it should,"
            f" served by [bold]{contender.served_by}[/bold]"
        )
    await all_rounds(contenders, options, console)


def show_versions(cpus, options, console):
    console.print(
        f"becket {becket.__version__} · Python {platform.python_version()}"
        f" · uvicorn {uvicorn.__version__} · FastAPI {fastapi.__version__}"
    )
    where = "cores shared with the client"
    if cpus is not None:
        where = f"servers on core {min(cpus)}, client on the others"
    console.print(
        f"{options.connections} keep-alive connections, GET {PATH}, {where}"
    )


def demonstrate(options, console):
    cpus = split_cpus()
    show_versions(cpus, options, console)
    servers = start(cpus)
    contenders = [Contender(server, server.name) for server in servers]
    try:
        # The client is on CPython's own loop for both, whatever is installed.
        with asyncio.Runner(loop_factory=asyncio.SelectorEventLoop) as runner:
            runner.run(compare(contenders, options, console))
    except BaseException:
        for server in servers:
            server.stop()
        raise
    stop_all(servers)
    show_results(contenders, console)


def main(arguments=None):
    options = parse_arguments(arguments)
    console = Console(highlight=False, soft_wrap=True)
    started = time.monotonic()
    # Ended from outside, the demonstration still stops its servers.
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(143))
    try:
        demonstrate(options, console)
    except (DemoError, aiohttp.ClientError, TimeoutError) as exc:
        print(f"demo failed: {exc or type(exc).__name__}", file=sys.stderr)
        return 1
    except KeyboardInterrupt:
        print("demo interrupted", file=sys.stderr)
        return 130
    console.print(f"done in {time.monotonic() - started:.0f} s")
    return 0


if __name__ == "__main__":
    sys.exit(main())
