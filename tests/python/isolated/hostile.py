# SPDX-License-Identifier: MIT
"""Every public method with arguments that fight back: no crash, no hang.

Each trial makes a loop with a server, transports of every kind, readers,
handles, futures and operations, and calls random methods of them with random
arguments. Many of these are hostile: whatever becket asks them for (truth,
equality, a hash, a buffer, an index, a path, a descriptor, their end), they
act: they raise, close the loop or a transport, collect garbage, or call
another random method from within.

    python tests/python/isolated/hostile.py --trials 100000

The seed is printed first; --seed repeats the run. Any exception is right but
SystemError, with which the interpreter tells of a broken extension.
"""

import argparse
import asyncio
import collections
import contextlib
import contextvars
import faulthandler
import functools
import gc
import logging
import os
import pathlib
import random
import signal
import socket
import sys
import time
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from support.certificates import NAME, client_context, server_context
from support.leaks import leaked_fds, open_fds
from support.loops import BACKENDS, VARIABLE, make_loop
from support.trials import new_seed

STEPS = 25  # calls of a trial
DEPTH_MAX = 3  # of calls from within calls
TRIAL_SECONDS_MAX = 60
# They end with the process, start others, or ask the network for names.
LEFT_OUT = {"subprocess_exec", "subprocess_shell", "getaddrinfo"}
LEFT_OUT |= {"getnameinfo", "run_forever", "run_until_complete"}
# They give a descriptor away, and talk.
LEFT_OUT |= {"detach", "print_stack"}
# A socket's own recv() would then wait for ever.
LEFT_OUT |= {"setblocking", "settimeout"}


class World:
    """The objects of a trial, and what goes on with them."""

    def __init__(self, rng, loop):
        self.rng = rng
        self.loop = loop
        self.objects = [loop]
        self.depth = 0
        self.acts = 0
        self.calls = collections.Counter()
        self.broken = []
        self.is_over = False

    def judge(self, error):
        if isinstance(error, SystemError):
            self.broken.append(repr(error))

    def call_something(self):
        """One random method of one random object, with random arguments."""
        target = self.rng.choice(self.objects)
        names = names_of(type(target))
        name = self.rng.choice(names)
        self.calls[f"{type(target).__name__}.{name}"] += 1
        count = self.rng.choice((0, 1, 1, 2, 2, 3, 4))
        arguments = [make_value(self) for _ in range(count)]
        keywords = {}
        if self.rng.random() < 0.2:
            keyword = self.rng.choice(KEYWORDS)
            keywords[keyword] = make_value(self)
        try:
            result = getattr(target, name)(*arguments, **keywords)
            self.keep(result)
        except BaseException as error:
            self.judge(error)

    def keep(self, result):
        if asyncio.iscoroutine(result):
            if self.loop.is_closed() or self.rng.random() < 0.3:
                result.close()
                return
            result = asyncio.ensure_future(result, loop=self.loop)
        if isinstance(result, asyncio.Future):
            result.add_done_callback(self.heard)
        if type(result).__module__.startswith(("becket", "asyncio")):
            self.objects.append(result)

    def heard(self, future):
        if not future.cancelled():
            self.judge(future.exception())

    def act(self):
        """What a hostile object does when it is asked for something."""
        if self.is_over or self.depth >= DEPTH_MAX:
            return
        self.acts += 1
        self.depth += 1
        try:
            choice = self.rng.random()
            if choice < 0.25:
                raise self.rng.choice((ZeroDivisionError, OSError, KeyError))
            if choice < 0.5:
                self.call_something()
            elif choice < 0.6:
                gc.collect(0)
            elif choice < 0.65:
                with contextlib.suppress(RuntimeError):
                    self.loop.close()
            elif choice < 0.7:
                self.loop.stop()
            elif choice < 0.8 and len(self.objects) > 3:
                del self.objects[self.rng.randrange(1, len(self.objects))]
            elif choice < 0.9:
                self.end_something()
        finally:
            self.depth -= 1

    def end_something(self):
        target = self.rng.choice(self.objects[1:] or [None])
        for name in ("abort", "close", "cancel"):
            method = getattr(target, name, None)
            if method is not None:
                with contextlib.suppress(Exception):
                    method()
                return


@functools.cache
def names_of(cls):
    """Its public methods, and those that Python itself calls."""
    names = [
        name
        for name in dir(cls)
        if not name.startswith("_")
        and name not in LEFT_OUT
        and callable(getattr(cls, name, None))
    ]
    return [*names, "__repr__", "__eq__", "__hash__"]


KEYWORDS = ("context", "offset", "count", "fallback", "limit", "sock", "ssl")
KEYWORDS += ("server_hostname", "family", "flags", "backlog", "path", "name")
KEYWORDS += ("high", "low", "timeout", "local_addr", "remote_addr", "nonsense")


# --- what fights back ---


def hostile_method(name, answer):
    def method(self, *arguments, **keywords):
        world = self.world
        world.act()
        return answer(world) if callable(answer) else answer

    method.__name__ = name
    return method


ANSWERS = {
    "__bool__": lambda world: world.rng.random() < 0.5,
    "__eq__": lambda world: world.rng.random() < 0.5,
    "__lt__": True,
    "__hash__": lambda world: world.rng.randrange(1 << 40),
    "__index__": lambda world: world.rng.choice((0, 1, 7, -1, 1 << 70)),
    "__int__": 3,
    "__float__": 0.001,
    "__len__": lambda world: world.rng.choice((0, 3, 1 << 40)),
    "__iter__": lambda world: iter([make_value(world)] * 2),
    "__next__": lambda world: make_value(world),
    "__getitem__": lambda world: make_value(world),
    "__call__": lambda world: make_value(world),
    "__await__": lambda world: iter(()),
    "__fspath__": "/nonexistent/becket",
    "__buffer__": lambda world: memoryview(bytearray(b"hostile")),
    "__bytes__": b"hostile",
    "__str__": "hostile",
    "__repr__": "<hostile>",
    "__enter__": None,
    "__exit__": None,
    "fileno": lambda world: world.rng.choice((-1, 1 << 20, "x", None)),
    "gettimeout": lambda world: world.rng.choice((0, 0, None, 5.0)),
    "setblocking": None,
    "getsockname": ("127.0.0.1", 1),
    "getpeername": ("127.0.0.1", 1),
    "close": None,
    "detach": -1,
    "family": socket.AF_INET,
    "type": socket.SOCK_STREAM,
    "proto": 0,
    "run": None,
    "submit": lambda world: make_value(world),
    "select": lambda world: [],
    "register": None,
    "unregister": None,
    "get_buffer": lambda world: make_value(world),
    "buffer_updated": None,
    "connection_made": None,
    "connection_lost": None,
    "data_received": None,
    "datagram_received": None,
    "error_received": None,
    "eof_received": lambda world: make_value(world),
    "pause_writing": None,
    "resume_writing": None,
}


def hostile_class(name, *bases, leave_out=()):
    body = {
        key: hostile_method(key, answer)
        for key, answer in ANSWERS.items()
        if key not in leave_out
    }
    if "__del__" not in leave_out:
        body["__del__"] = hostile_method("__del__", None)
    body["world"] = None
    body["__module__"] = __name__
    return type(name, bases, body)


CONTAINER = ("__len__", "__iter__", "__getitem__", "__repr__", "__buffer__")
# A socket's own end closes its descriptor.
SOCKET = (
    "__init__",
    "__del__",
    "close",
    "detach",
    "family",
    "type",
    "proto",
    "fileno",
)
Hostile = hostile_class("Hostile", object)
HostileInt = hostile_class("HostileInt", int, leave_out=("__repr__",))
HostileStr = hostile_class("HostileStr", str, leave_out=CONTAINER)
HostileBytes = hostile_class("HostileBytes", bytes, leave_out=CONTAINER)
HostileArray = hostile_class("HostileArray", bytearray, leave_out=CONTAINER)
HostileTuple = hostile_class("HostileTuple", tuple, leave_out=CONTAINER)
HostileProtocol = hostile_class("HostileProtocol", asyncio.Protocol)
HostileBuffered = hostile_class("HostileBuffered", asyncio.BufferedProtocol)
HostileDatagrams = hostile_class("HostileDatagrams", asyncio.DatagramProtocol)
HostileSocket = hostile_class(
    "HostileSocket", socket.socket, leave_out=(*SOCKET, *CONTAINER)
)


def of(world, cls, *arguments):
    made = cls(*arguments)
    made.world = world
    return made


def make_value(world):
    """Something to pass: half of it hostile, half of it merely wrong."""
    rng = world.rng
    if rng.random() < 0.25:
        return rng.choice(world.objects)
    if rng.random() < 0.5:
        return rng.choice(PLAIN)()
    return rng.choice(FIGHTING)(world)


def unconnected():
    sock = socket.socket()
    sock.setblocking(False)
    return sock


async def nothing():
    pass


PLAIN = [
    lambda: None,
    lambda: 0,
    lambda: -1,
    lambda: 2**70,
    lambda: 0.001,
    lambda: float("nan"),
    lambda: "",
    lambda: "\ud800",
    lambda: "127.0.0.1",
    lambda: b"bytes" * 1000,
    lambda: bytearray(b"array"),
    lambda: memoryview(b"view"),
    lambda: ("127.0.0.1", 0),
    lambda: [],
    lambda: {},
    lambda: signal.SIGUSR1,
    lambda: len,
    lambda: Exception("an exception"),
    lambda: contextvars.copy_context(),
    unconnected,
    nothing,
    client_context,
]
FIGHTING = [
    lambda world: of(world, Hostile),
    lambda world: of(world, HostileInt, 5),
    lambda world: of(world, HostileStr, "127.0.0.1"),
    lambda world: of(world, HostileBytes, b"b" * 100),
    lambda world: of(world, HostileArray, b"b" * 100),
    lambda world: of(world, HostileTuple, ("127.0.0.1", 0)),
    lambda world: of(world, HostileProtocol),
    lambda world: of(world, HostileBuffered),
    lambda world: of(world, HostileSocket),
    lambda world: functools.partial(of, world, HostileProtocol),
    lambda world: functools.partial(of, world, HostileBuffered),
    lambda world: world.act,
    lambda world: lambda *arguments: world.act(),
]


# --- a trial ---


async def populate(world, contexts):
    """One of everything that becket makes."""
    loop, rng = world.loop, world.rng
    protocol = functools.partial(of, world, HostileProtocol)
    if rng.random() < 0.5:
        protocol = functools.partial(of, world, HostileBuffered)
    left, right = socket.socketpair()
    transport, _ = await loop.create_connection(protocol, sock=left)
    other, _ = await loop.create_connection(asyncio.Protocol, sock=right)
    world.objects += [transport, other]
    world.objects.append(await loop.create_server(protocol, "127.0.0.1", 0))
    ends, _ = await loop.create_datagram_endpoint(
        functools.partial(of, world, HostileDatagrams), ("127.0.0.1", 0)
    )
    world.objects.append(ends)
    if rng.random() < 0.3:
        world.objects += await populate_tls(loop, protocol, contexts)
    if rng.random() < 0.3:
        read_end, write_end = os.pipe()
        pipes = os.fdopen(read_end, "rb", 0), os.fdopen(write_end, "wb", 0)
        source, _ = await loop.connect_read_pipe(protocol, pipes[0])
        sink, _ = await loop.connect_write_pipe(protocol, pipes[1])
        world.objects += [source, sink]
    left, right = socket.socketpair()
    reader, writer = await asyncio.open_connection(sock=left)
    world.objects += [reader, writer, right]
    right.setblocking(False)
    world.objects.append(loop.call_soon(world.act))
    world.objects.append(loop.call_later(0.001, world.act))
    world.objects.append(loop.create_future())
    world.objects.append(asyncio.ensure_future(loop.sock_recv(right, 10)))


async def populate_tls(loop, protocol, contexts):
    left, right = socket.socketpair()
    both = await asyncio.gather(
        loop.connect_accepted_socket(protocol, right, ssl=contexts[0]),
        loop.create_connection(
            asyncio.Protocol, sock=left, ssl=contexts[1], server_hostname=NAME
        ),
        return_exceptions=True,
    )
    return [each[0] for each in both if isinstance(each, tuple)]


class Trial:
    def __init__(self, rng, backend, contexts):
        self.world = World(rng, make_loop(backend))
        self.contexts = contexts

    def run(self):
        world, loop = self.world, self.world.loop
        loop.set_exception_handler(
            lambda _, context: world.judge(context.get("exception"))
        )
        if world.rng.random() < 0.1:
            loop.set_debug(True)
        self.bounded(populate(world, self.contexts))
        for _ in range(STEPS):
            world.call_something()
            if world.rng.random() < 0.6:
                self.turn()
        self.end()

    def bounded(self, coroutine):
        loop = self.world.loop
        try:
            loop.run_until_complete(asyncio.wait_for(coroutine, 5))
        except BaseException as error:
            coroutine.close()
            self.world.judge(error)

    def turn(self):
        loop = self.world.loop
        try:
            loop.call_soon(loop.stop)
            loop.run_forever()
        except BaseException as error:
            self.world.judge(error)

    def end(self):
        """Nobody fights any more; everything ends."""
        world, loop = self.world, self.world.loop
        world.is_over = True
        for target in list(world.objects[1:]):
            for name in ("abort", "cancel", "close"):
                method = getattr(target, name, None)
                if method is not None:
                    with contextlib.suppress(BaseException):
                        method()
        world.objects.clear()
        if not loop.is_closed():
            with contextlib.suppress(BaseException):
                for task in asyncio.all_tasks(loop):
                    task.cancel()
            for _ in range(4):
                self.turn()
        with contextlib.suppress(BaseException):
            loop.close()


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--seed", type=int, default=new_seed())
    parser.add_argument(
        "--poller", choices=BACKENDS, default=os.environ.get(VARIABLE)
    )
    return parser.parse_args(argv)


def be_quiet():
    """Much is complained of here, rightly."""
    logging.disable(logging.CRITICAL)
    warnings.simplefilter("ignore")


def main():
    options = parse(sys.argv[1:])
    print("seed", options.seed, flush=True)
    be_quiet()
    faulthandler.enable()
    contexts = server_context(), client_context()
    calls, trials, acts = collections.Counter(), 0, 0
    broken = []
    sys.unraisablehook = lambda info: (
        broken.append(repr(info.exc_value))
        if isinstance(info.exc_value, SystemError)
        else None
    )
    started = time.monotonic()
    before = open_fds()
    for number in range(options.trials):
        if options.seconds and time.monotonic() - started > options.seconds:
            break
        rng = random.Random(f"{options.seed} {number}")
        backend = options.poller or rng.choice(BACKENDS)
        faulthandler.dump_traceback_later(TRIAL_SECONDS_MAX, exit=True)
        trial = Trial(rng, backend, contexts)
        trial.run()
        broken += trial.world.broken
        calls.update(trial.world.calls)
        acts += trial.world.acts
        trials += 1
        if broken:
            sys.exit(f"trial {number} of seed {options.seed}: {broken}")
    faulthandler.cancel_dump_traceback_later()
    del trial
    gc.collect()
    left = leaked_fds(before)
    if left:
        sys.exit(f"descriptors are left by seed {options.seed}: {left}")
    print(
        f"{trials} trials: {calls.total()} calls of {len(calls)} methods,"
        f" {acts} acts of hostile objects: no crash, nothing is left",
        flush=True,
    )


if __name__ == "__main__":
    main()
