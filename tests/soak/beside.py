# SPDX-License-Identifier: MIT
"""What goes on beside a soak's connections: datagrams, pipes, subprocesses,
timers, threads, and times without a free descriptor."""

import asyncio
import contextlib
import errno
import os
import resource
import signal
import socket
import struct
import subprocess
import threading

from content import PERIOD, Stream
from talks import talk_by_sock

from support.leaks import open_fds

DATAGRAM = struct.Struct(">QIII")  # conversation, number, key, size
DATAGRAM_MAX = 9000
# Earlier Popens leave descriptors open when they lack one (gh-87474).
POPEN_CLEANS_UP = hasattr(subprocess.Popen, "_on_error_fd_closer")
RESENT_AFTER = 0.2
TRIES_MAX = 50


# --- datagrams ---


class EchoServer(asyncio.DatagramProtocol):
    """Sends what is right back to where it came from."""

    def __init__(self, world):
        self.world = world

    def connection_made(self, transport):
        self.transport = transport

    def datagram_received(self, data, addr):
        check_datagram(self.world, data)
        self.transport.sendto(data, addr)

    def error_received(self, exc):
        self.world.counts["errors of datagrams"] += 1


class EchoClient(asyncio.DatagramProtocol):
    def __init__(self, world, number):
        self.world = world
        self.number = number
        self.waiting = {}  # by the datagram's number

    def datagram_received(self, data, addr):
        head = check_datagram(self.world, data)
        if head[0] != self.number:
            self.world.fail(f"datagram of {head[0]} came to {self.number}")
            return
        future = self.waiting.pop(head[1], None)
        if future is not None and not future.done():
            future.set_result(None)

    def error_received(self, exc):
        self.world.counts["errors of datagrams"] += 1


def make_datagram(world, number, index):
    size = int(2 ** world.rng.uniform(0, 13))
    key = world.rng.randrange(PERIOD)
    head = DATAGRAM.pack(number, index, key, size)
    return head + bytes(world.content.piece(key, 0, size))


def check_datagram(world, data):
    head = DATAGRAM.unpack_from(data)
    body = memoryview(data)[DATAGRAM.size :]
    wanted = world.content.piece(head[2], 0, head[3])
    if body != wanted:
        world.fail(f"a wrong datagram: {head}, {len(body)} bytes")
    world.note_checked(len(data))
    return head


async def exchange_datagrams(world, address):
    """Send some, and again as long as no answer has come."""
    loop = asyncio.get_running_loop()
    world.started += 1
    is_connected = world.rng.random() < 0.5
    where = {"local_addr": ("127.0.0.1", 0)}
    if is_connected:
        where = {"remote_addr": address}
    transport, client = await loop.create_datagram_endpoint(
        lambda: EchoClient(world, world.started), **where
    )
    target = None if is_connected else address
    try:
        for index in range(world.rng.randint(1, 60)):
            data = make_datagram(world, client.number, index)
            answered = client.waiting[index] = loop.create_future()
            transport.sendto(data, target)
            if world.rng.random() < 0.7:
                await answer(world, transport, data, target, answered)
    finally:
        if world.rng.random() < 0.5:
            transport.abort()
        else:
            transport.close()
    world.counts["datagram endpoints"] += 1


async def answer(world, transport, data, target, answered):
    for _ in range(TRIES_MAX):
        done, _ = await asyncio.wait([answered], timeout=RESENT_AFTER)
        if done:
            world.counts["datagrams answered"] += 1
            return
        world.counts["datagrams sent again"] += 1
        transport.sendto(data, target)
    world.fail("no datagram is answered any more")


# --- pipes ---


class Outlet(asyncio.BaseProtocol):
    """The writing end: sends the stream as fast as the pipe takes it."""

    def __init__(self, world, stream, leaves_after):
        self.world = world
        self.stream = stream
        self.leaves_after = leaves_after
        self.is_paused = False
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport
        self.pump()

    def pause_writing(self):
        self.is_paused = True

    def resume_writing(self):
        self.is_paused = False
        self.pump()

    def pump(self):
        while not (self.is_paused or self.transport.is_closing()):
            if self.leaves_after is not None:
                if self.stream.sent >= self.leaves_after:
                    self.transport.abort()
                    return
            if self.stream.is_sent:
                self.transport.close()
                return
            size = self.world.rng.randint(1, 1 << 16)
            self.transport.write(self.stream.take(size))

    def connection_lost(self, exc):
        self.over.set_result(exc)


class Inlet(asyncio.Protocol):
    def __init__(self, world, stream, leaves_after):
        self.world = world
        self.stream = stream
        self.leaves_after = leaves_after
        self.over = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.stream.check(data)
        self.world.note_checked(len(data))
        if self.leaves_after is not None:
            if self.stream.received >= self.leaves_after:
                self.transport.close()
        elif self.world.rng.random() < 0.1:
            self.transport.pause_reading()
            asyncio.get_running_loop().call_later(
                self.world.rng.uniform(0, 0.005),
                self.transport.resume_reading,
            )

    def connection_lost(self, exc):
        self.over.set_result(exc)


async def fill_pipe(world):
    loop = asyncio.get_running_loop()
    rng = world.rng
    size = int(2 ** rng.uniform(0, 18))
    stream = Stream(world.content, rng.randrange(PERIOD), size)
    leaver = rng.choice(("", "", "inlet", "outlet"))
    leaves_after = rng.randrange(size)
    inlet = Inlet(world, stream, leaves_after if leaver == "inlet" else None)
    outlet = Outlet(
        world, stream, leaves_after if leaver == "outlet" else None
    )
    read_end, write_end = os.pipe()
    with os.fdopen(read_end, "rb", 0) as source:
        with os.fdopen(write_end, "wb", 0) as sink:
            await loop.connect_read_pipe(lambda: inlet, source)
            await loop.connect_write_pipe(lambda: outlet, sink)
            await asyncio.gather(inlet.over, outlet.over)
    if not leaver and not stream.is_received:
        ends = f"{outlet.over.result()!r}, {inlet.over.result()!r}"
        world.fail(f"a pipe lost {size - stream.received} of {size}: {ends}")
    world.counts["pipes"] += 1


# --- subprocesses ---


def retrieve(future):
    """Its error is no news."""
    if not future.cancelled():
        future.exception()


async def run_process(world):
    """One that gives back what it is given, or is killed meanwhile."""
    if world.is_starved and not POPEN_CLEANS_UP:
        return
    rng = world.rng
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(
        "cat", stdin=pipe, stdout=pipe
    )
    # Where asyncio does not do it by itself.
    process._protocol._stdin_closed.add_done_callback(retrieve)
    size = int(2 ** rng.uniform(0, 18))
    stream = Stream(world.content, rng.randrange(PERIOD), size)
    is_killed = rng.random() < 0.3
    await asyncio.gather(
        feed_process(world, process, stream, is_killed),
        hear_process(world, process, stream),
    )
    code = await process.wait()
    if code != (-signal.SIGKILL if is_killed else 0):
        world.fail(f"a process ended with {code}, killed: {is_killed}")
    if not is_killed and not stream.is_received:
        world.fail(f"a process lost {size - stream.received} of {size} bytes")
    world.counts["subprocesses"] += 1


async def feed_process(world, process, stream, is_killed):
    end = world.rng.randrange(stream.size) if is_killed else stream.size
    while stream.sent < end:
        process.stdin.write(stream.take(world.rng.randint(1, 1 << 16)))
        await process.stdin.drain()
    if is_killed:
        process.kill()
    process.stdin.close()


async def hear_process(world, process, stream):
    while data := await process.stdout.read(world.rng.randint(1, 1 << 16)):
        stream.check(data)
        world.note_checked(len(data))


# --- timers and threads ---


async def run_timers(world):
    """Many timers at once: none too early, none out of turn, none twice."""
    loop = asyncio.get_running_loop()
    start = loop.time()
    fired = []
    handles = []
    for number in range(world.rng.randint(1, 300)):
        when = start + world.rng.uniform(0, 0.05)
        handles.append(
            loop.call_at(
                when,
                lambda w, n: fired.append((w, n, loop.time())),
                when,
                number,
            )
        )
    cancelled = set()
    for number, handle in enumerate(handles):
        if world.rng.random() < 0.4:
            handle.cancel()
            cancelled.add(number)
    await asyncio.sleep(0.06)
    if [f[0] for f in fired] != sorted(f[0] for f in fired):
        world.fail("timers fired out of turn")
    # The loop rounds up to the clock's resolution, as asyncio's.
    if any(now < when - 0.001 for when, _, now in fired):
        world.fail("a timer fired too early")
    numbers = sorted(f[1] for f in fired)
    if numbers != sorted(set(range(len(handles))) - cancelled):
        world.fail("timers were lost, or fired twice, or after cancel()")
    world.counts["timers"] += len(handles)


async def hear_threads(world):
    """A thread's calls arrive, all of them and in its order."""
    loop = asyncio.get_running_loop()
    count = world.rng.randint(1, 200)
    heard = []
    over = loop.create_future()

    def call():
        for number in range(count):
            loop.call_soon_threadsafe(heard.append, number)
        loop.call_soon_threadsafe(over.set_result, None)

    thread = threading.Thread(target=call)
    thread.start()
    await over
    thread.join()
    if heard != list(range(count)):
        world.fail(f"calls of a thread arrived as {heard}")
    number = world.rng.random()
    if await loop.run_in_executor(None, lambda: number) != number:
        world.fail("the executor's answer is another's")
    world.counts["calls of threads"] += count


# --- no descriptor is free ---


def new_socket(kind):
    sock = socket.socket(socket.AF_UNIX if kind == "unix" else socket.AF_INET)
    sock.setblocking(False)
    return sock


def next_number():
    """Above all that are open. (poll() fails under a limit that is less than
    what it is asked about.)"""
    return max(open_fds()) + 1


@contextlib.contextmanager
def no_free_descriptor(world):
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    fillers = []
    world.is_starved = True
    try:
        resource.setrlimit(resource.RLIMIT_NOFILE, (next_number(), hard))
        with contextlib.suppress(OSError):
            while True:
                fillers.append(os.dup(0))
        yield
    finally:
        for filler in fillers:
            os.close(filler)
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


async def starve(world, addresses):
    """Connect while accept() has no descriptor to give.

    The connections wait in the backlog, as long as asyncio says, and are
    served afterwards as if nothing had been.
    """
    plans = [world.new_plan() for _ in range(4)]
    plans = [plan for plan in plans if plan.kind != "tls"]
    socks = []
    for plan in plans:
        plan.client = "sock"
        socks.append(new_socket(plan.kind))
    talks = []
    with no_free_descriptor(world):
        for plan, sock in zip(plans, socks):
            address = addresses[plan.kind, plan.server]
            talk = talk_by_sock(world, plan, address, sock)
            talks.append(asyncio.ensure_future(talk))
        await asyncio.sleep(world.rng.uniform(0.02, 0.3))
    await asyncio.gather(*talks)
    for plan in plans:
        if not plan.is_rude:
            await plan.served
        world.note_end(plan)
    world.is_starved = False
    world.counts["times without a descriptor"] += 1


def is_lack(error):
    return isinstance(error, OSError) and error.errno == errno.EMFILE
