# SPDX-License-Identifier: MIT
"""Soak: mixed load for as long as you like, and nothing may be wrong.

    .venv/3.13/bin/python tests/soak/soak.py --seconds 3600

Connections over TCP, TLS and Unix sockets, datagrams, pipes, subprocesses,
timers and calls of threads, at random and at the same time. Peers are slow,
leave in the middle, reset the connection, or are threads that owe the loop
nothing; now and then no descriptor is free. Every byte that arrives is
compared with what was sent there.

The time is divided into rounds, each with a new loop; pollers and TLS engines
take turns. After each round everything has to have ended, the descriptors are
those of its start, and the resident memory has to stay flat. Any call of the
exception handler that is not about a lack of descriptors is a failure.

The seed is printed first: --seed repeats the plans, not the moments. CPython's
own loop (--oracle) does not pass: it leaves connections over TLS behind that
it accepted when descriptors were short.
"""

import argparse
import asyncio
import contextlib
import gc
import io
import json
import logging
import os
import pathlib
import platform
import random
import sys
import tempfile
import time
import traceback
import warnings

TESTS = pathlib.Path(__file__).resolve().parent.parent / "python"
sys.path.insert(0, str(TESTS))

# ruff: noqa: E402
import beside
import sides
import talks
from memory import Memory
from plans import KINDS, SERVER_STYLES, new_seed
from world import World

from support.certificates import NAME, client_context, server_context
from support.leaks import leaked_fds, open_fds
from support.loops import BACKENDS, ORACLE, make_loop

ENGINES = ("openssl", "sslobject")
WORKERS = 16
CONVERSATION_SECONDS_MAX = 20
DRAIN_SECONDS_MAX = 20
# How long no descriptor was free, and asyncio's pause after that.
STARVED_EVERY = 4.0
FAILURES_SHOWN = 10
BESIDE = ("datagrams", "pipe", "process", "timers", "threads")


def describe(task):
    """Where a task waits, and for whom it works."""
    text = io.StringIO()
    task.print_stack(file=text)
    plan = getattr(task.get_coro().cr_frame, "f_locals", {}).get("plan")
    return f"{plan and plan.describe()}\n{text.getvalue()}"


class Round:
    """One loop, its servers and their load."""

    def __init__(self, world, loop, folder, contexts):
        self.world = world
        self.loop = loop
        self.folder = folder
        self.contexts = contexts
        self.addresses = {}
        self.servers = []
        self.is_ending = False

    async def run(self, seconds):
        self.loop.set_exception_handler(self.world.on_exception)
        await self.serve()
        before = open_fds()
        workers = [asyncio.ensure_future(self.work()) for _ in range(WORKERS)]
        workers.append(asyncio.ensure_future(self.starve_at_times()))
        try:
            deadline = time.monotonic() + seconds
            while time.monotonic() < deadline and not self.world.failures:
                await asyncio.sleep(0.1)
            self.is_ending = True
            await asyncio.wait_for(
                asyncio.gather(*workers), CONVERSATION_SECONDS_MAX + 5
            )
            await self.drain()
            self.check_fds(before)
        finally:
            for worker in workers:
                worker.cancel()
            for server in self.servers:
                server.close()
            self.echo.close()
            await asyncio.sleep(0)

    async def serve(self):
        for style in SERVER_STYLES:
            for kind in KINDS:
                await self.serve_one(kind, style)
        self.echo, _ = await self.loop.create_datagram_endpoint(
            lambda: beside.EchoServer(self.world), ("127.0.0.1", 0)
        )

    async def serve_one(self, kind, style):
        where = {"host": "127.0.0.1", "port": 0}
        if kind == "tls":
            where["ssl"] = self.contexts[0]
        path = os.path.join(self.folder, f"{style}.sock")
        if kind == "unix":
            where = {"path": path}
        if style == "streams":
            start = asyncio.start_server
            if kind == "unix":
                start = asyncio.start_unix_server

            async def handle(reader, writer):
                await talks.serve_by_streams(self.world, kind, reader, writer)

            server = await start(handle, **where)
        else:
            start = self.loop.create_server
            if kind == "unix":
                start = self.loop.create_unix_server
            cls = sides.CLASSES[style]
            server = await start(
                lambda: cls(self.world, "server", kind, style), **where
            )
        self.servers.append(server)
        address = path
        if kind != "unix":
            address = server.sockets[0].getsockname()
        self.addresses[kind, style] = address

    # --- the load ---

    async def work(self):
        while not (self.is_ending or self.world.failures):
            task = asyncio.ensure_future(self.do_something())
            done, _ = await asyncio.wait(
                [task], timeout=CONVERSATION_SECONDS_MAX
            )
            if not done:
                stacks = "\n".join(map(describe, asyncio.all_tasks()))
                self.world.fail(f"never ends: {stacks}")
                task.cancel()
                return
            error = task.exception()
            if error is None:
                continue
            if beside.is_lack(error):
                self.world.counts["refused for want of a descriptor"] += 1
                await asyncio.sleep(0.05)
            else:
                self.world.fail("".join(traceback.format_exception(error)))

    async def do_something(self):
        choice = self.world.rng.random()
        if choice < 0.8:
            await self.converse(self.world.new_plan())
            return
        what = self.world.rng.choice(BESIDE)
        if what == "datagrams":
            address = self.echo.get_extra_info("sockname")
            await beside.exchange_datagrams(self.world, address)
        elif what == "pipe":
            await beside.fill_pipe(self.world)
        elif what == "process":
            await beside.run_process(self.world)
        elif what == "timers":
            await beside.run_timers(self.world)
        else:
            await beside.hear_threads(self.world)

    async def converse(self, plan):
        talk = asyncio.ensure_future(self.talk(plan))
        if plan.ending == "cancel" and plan.actor == "client":
            if plan.client in ("streams", "sock"):
                delay = self.world.rng.uniform(0, 0.02)
                self.loop.call_later(delay, talk.cancel)
        try:
            await talk
        except asyncio.CancelledError:
            if plan.ending != "cancel":
                raise
        except Exception as error:
            error.add_note(plan.describe())
            raise
        if not plan.is_rude:
            await plan.served
        self.world.note_end(plan)

    async def talk(self, plan):
        address = self.addresses[plan.kind, plan.server]
        if plan.client == "sock":
            sock = beside.new_socket(plan.kind)
            await talks.talk_by_sock(self.world, plan, address, sock)
        elif plan.client == "raw":
            rng = random.Random(self.world.rng.random())
            client = talks.RawClient(self.world, plan, address, rng)
            self.world.note_checked(await asyncio.to_thread(client.run))
        elif plan.client == "streams":
            await self.talk_by_streams(plan, address)
        else:
            cls = sides.CLASSES[plan.client]
            side = cls(self.world, "client", plan.kind, plan.client, plan)
            await self.connect(lambda: side, plan.kind, address)
            await asyncio.shield(side.over)

    async def talk_by_streams(self, plan, address):
        reader = asyncio.StreamReader()
        protocol = asyncio.StreamReaderProtocol(reader)
        transport, _ = await self.connect(lambda: protocol, plan.kind, address)
        writer = asyncio.StreamWriter(transport, protocol, reader, self.loop)
        writer.write(plan.header)
        await talks.talk_by_streams(self.world, plan, "client", reader, writer)

    def connect(self, factory, kind, address):
        if kind == "unix":
            return self.loop.create_unix_connection(factory, address)
        tls = {}
        if kind == "tls":
            tls = {"ssl": self.contexts[1], "server_hostname": NAME}
        return self.loop.create_connection(factory, *address, **tls)

    async def starve_at_times(self):
        passed = STARVED_EVERY - self.world.rng.uniform(0.2, 1)
        while not self.is_ending:
            await asyncio.sleep(0.1)
            passed += 0.1
            if passed > STARVED_EVERY:
                passed = 0.0
                await beside.starve(self.world, self.addresses)

    # --- the end ---

    async def drain(self):
        """Everything that has begun comes to its end."""
        deadline = time.monotonic() + DRAIN_SECONDS_MAX
        this_task = asyncio.current_task()
        while self.world.sides or asyncio.all_tasks() != {this_task}:
            if time.monotonic() > deadline:
                stacks = "\n".join(map(describe, asyncio.all_tasks()))
                self.world.fail(f"{len(self.world.sides)} never end: {stacks}")
                return
            await asyncio.sleep(0.01)
        self.world.plans.clear()

    def check_fds(self, before):
        leaked = leaked_fds(before, wait=0)
        if leaked:
            self.world.fail(f"descriptors are left: {leaked}")


class Soak:
    def __init__(self, options):
        self.options = options
        self.world = World(options)
        self.memory = Memory()
        self.rounds = 0

    def run(self):
        contexts = server_context(), client_context()
        deadline = time.monotonic() + self.options.seconds
        with contextlib.ExitStack() as stack:
            folder = stack.enter_context(tempfile.TemporaryDirectory())
            self.world.path = os.path.join(folder, "block")
            pathlib.Path(self.world.path).write_bytes(self.world.content.block)
            before = open_fds()
            for loop_name, engine in self.turns():
                left = deadline - time.monotonic()
                if left <= 0 or self.world.failures:
                    break
                seconds = min(left, self.options.round_seconds)
                self.play(loop_name, engine, folder, contexts, seconds)
                for path in pathlib.Path(folder).glob("*.sock"):
                    path.unlink()
                self.check_after(before, f"{loop_name}, {engine}")

    def turns(self):
        if self.options.oracle:
            while True:
                yield ORACLE, ENGINES[1]
        while True:
            for engine in ENGINES:
                for backend in BACKENDS:
                    yield backend, engine

    def play(self, loop_name, engine, folder, contexts, seconds):
        os.environ["BECKET_TLS_ENGINE"] = engine
        loop = make_loop(loop_name)
        asyncio.set_event_loop(loop)
        try:
            one = Round(self.world, loop, folder, contexts)
            loop.run_until_complete(one.run(seconds))
            loop.run_until_complete(loop.shutdown_default_executor())
        finally:
            asyncio.set_event_loop(None)
            loop.close()
        self.rounds += 1

    def check_after(self, before, name):
        gc.collect()
        leaked = leaked_fds(before)
        if leaked:
            self.world.fail(f"descriptors are left by the loop: {leaked}")
        self.memory.look()
        print(
            f"round {self.rounds} ({name}):"
            f" {self.world.counts['connections']} connections,"
            f" {self.memory.resident[-1]} KiB",
            flush=True,
        )


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=60)
    parser.add_argument(
        "--round-seconds",
        type=float,
        help="for one loop; a twelfth of the whole if nothing is said,"
        " and a minute at most",
    )
    parser.add_argument("--seed", type=int, default=new_seed())
    parser.add_argument(
        "--kind", choices=KINDS, help="connections of this kind alone"
    )
    parser.add_argument("--report", metavar="FILE", help="write the counts")
    parser.add_argument(
        "--oracle", action="store_true", help="on CPython's own loop"
    )
    options = parser.parse_args(argv)
    if options.round_seconds is None:
        options.round_seconds = min(options.seconds / 12, 60)
    return options


def summary(soak, seconds):
    return {
        "seed": soak.options.seed,
        "python": platform.python_version(),
        "seconds": round(seconds),
        "rounds": soak.rounds,
        "counts": dict(sorted(soak.world.counts.items())),
        "endings": dict(sorted(soak.world.endings.items())),
        "memory": soak.memory.summary(),
        "failures": soak.world.failures,
    }


def print_summary(result):
    for title in ("counts", "endings"):
        print(f"{title}:")
        for name, count in result[title].items():
            print(f"{count:14,} {name}")
    memory = result["memory"]
    print(
        f"resident memory grew by {memory['growth_kib']} KiB"
        f" in {memory['rounds']} rounds (allowed: {memory['limit_kib']})"
    )


def main():
    options = parse(sys.argv[1:])
    print("seed", options.seed, flush=True)
    warnings.simplefilter("error", ResourceWarning)
    # It warns of what is written after the end, which is not rare here.
    logging.getLogger("asyncio").setLevel(logging.ERROR)
    started = time.monotonic()
    soak = Soak(options)
    sys.unraisablehook = lambda info: soak.world.fail(
        f"unraisable: {info.exc_value!r} in {info.object!r}"
    )
    soak.run()
    if soak.memory.is_growing():
        soak.world.fail(f"memory grows: {soak.memory.resident}")
    result = summary(soak, time.monotonic() - started)
    print_summary(result)
    if options.report:
        pathlib.Path(options.report).write_text(json.dumps(result, indent=2))
    failures = soak.world.failures
    for failure in failures[:FAILURES_SHOWN]:
        print("FAILED:", failure)
    if not failures:
        print("nothing was lost, nothing was left")
    # A round counts as a test: see tools/run_tests.py.
    print(f"{soak.rounds} passed, {len(failures)} failed")
    sys.exit(1 if failures else 0)


if __name__ == "__main__":
    main()
