# SPDX-License-Identifier: MIT
"""Each allocation of a call in turn fails: it says so, and no more happens.

Run as: nomemory.py SCENARIO. The interpreter itself does not survive such
failures everywhere, so that what runs between the failing allocation and its
report is C code, as far as that goes: callbacks and protocol methods here are
built-in functions.
"""

import _testcapi
import asyncio
import contextlib
import contextvars
import functools
import gc
import operator
import os
import socket
import sys
import types
import warnings

from support.loops import loop_from_environment, turns
from support.net import tcp_pair

ALLOCATIONS_MAX = 60
ALLOWED = (MemoryError, OSError, RuntimeError, SystemError)

# A protocol without any Python code.
Protocol = functools.partial(
    types.SimpleNamespace,
    connection_made=id,
    data_received=id,
    eof_received=int,
    connection_lost=id,
    pause_writing=int,
    resume_writing=int,
    datagram_received=operator.is_,
    error_received=id,
)


def attempt(number, call):
    """Call with allocation number failing; returns the result or None."""
    _testcapi.set_nomemory(number, number + 1)
    try:
        return call()
    except ALLOWED:
        return None
    finally:
        _testcapi.remove_mem_hooks()


def sweep(call, prepare=None, tidy=None):
    """Fail each allocation of a call in turn."""
    for number in range(ALLOCATIONS_MAX):
        if prepare is not None:
            prepare()
        result = attempt(number, call)
        if tidy is not None:
            tidy(result)
        del result


def turn_that_stops(loop):
    """One turn, for which everything has been made beforehand."""
    loop.call_soon(loop.stop)
    return loop.run_forever


def sweep_turn(loop, prepare=None, tidy=None):
    """Fail each allocation of a turn of the loop in turn."""
    for number in range(ALLOCATIONS_MAX):
        if prepare is not None:
            prepare()
        call = turn_that_stops(loop)
        attempt(number, call)
        # Up to 3.11 the interpreter allocates in order to forget it.
        asyncio._set_running_loop(None)
        # The stop may have been lost with the failure, or be left over.
        turns(loop, 2)
        if tidy is not None:
            tidy()


def schedule(loop):
    context = contextvars.copy_context()
    partial = functools.partial
    for call in (
        partial(loop.call_soon, int),
        partial(loop.call_soon, max, 1, 2, 3, 4, 5, 6),
        partial(loop.call_soon, int, context=context),
        partial(loop.call_later, 1000, int),
        partial(loop.call_later, 0, int),
        partial(loop.call_at, 5, int, 1),
        partial(loop.call_soon_threadsafe, int),
        partial(loop.call_soon_threadsafe, max, 1, 2, 3, 4, 5),
    ):
        sweep(call, tidy=cancel)
    turns(loop, 2)
    sweep_turn(loop, lambda: make_work(loop))


def cancel(handle):
    if handle is not None:
        handle.cancel()


def make_work(loop):
    loop.call_soon(int)
    loop.call_soon(max, 1, 2, 3, 4, 5, 6)
    loop.call_later(0, int)
    loop.call_soon_threadsafe(int)


def handles(loop):
    made = []

    def prepare():
        made[:] = [
            loop.call_soon(int),
            loop.call_later(50, int),
            loop.call_later(60, int),
        ]

    def tidy(_):
        for handle in made:
            handle.cancel()

    partial = functools.partial
    for call in (
        lambda: made[0].cancel(),
        lambda: made[1].cancel(),
        lambda: made[1] < made[2],
        lambda: made[1] == made[2],
        lambda: hash(made[1]),
        lambda: made[1].when(),
        lambda: made[0].cancelled(),
    ):
        sweep(partial(call), prepare, tidy)
    made.clear()


def future(loop):
    sweep(loop.create_future)
    sweep(loop.time)
    sweep(functools.partial(getattr, loop, "backend"))
    sweep(loop.get_debug)
    sweep(loop.is_running)


def watch(loop):
    left, right = socket.socketpair()
    right.send(b"x")
    partial = functools.partial

    def remove(_=None):
        loop.remove_reader(left)
        loop.remove_writer(left)

    sweep(partial(loop.add_reader, left, int), tidy=remove)
    sweep(partial(loop.add_writer, left, int, 5), tidy=remove)
    sweep(
        partial(loop.add_reader, left, int),
        lambda: loop.add_writer(left, int),
        remove,
    )
    sweep(
        partial(loop.add_reader, left, int),
        lambda: loop.add_reader(left, int),
        remove,
    )
    sweep(
        partial(loop.remove_reader, left), lambda: loop.add_reader(left, int)
    )
    remove()

    def both():
        loop.add_reader(left, int)
        loop.add_writer(left, int)

    sweep_turn(loop, both, remove)
    left.close()
    right.close()


class Pair:
    """A transport of the loop with its peer; make() makes both anew."""

    def __init__(self, loop):
        self.loop = loop
        self.transport = self.protocol = None

    def end(self, _=None):
        self.peer.close()
        if self.ours.fileno() != -1:
            self.transport.abort()
        self.let_go()

    def let_go(self):
        self.transport = self.protocol = None
        turns(self.loop, 3)
        if self.ours.fileno() != -1:
            # The failure hit the end itself; the collector is what is left.
            gc.collect()
            turns(self.loop, 2)
            self.ours.close()

    def call(self, name, *args):
        return lambda: getattr(self.transport, name)(*args)

    def sweep_closing(self):
        """Fail each allocation of the turn after a close()."""

        def prepare():
            self.make()
            self.transport.close()

        sweep_turn(self.loop, prepare, self.end)


class Connection(Pair):
    """Over TCP."""

    def __init__(self, loop, factory=Protocol):
        super().__init__(loop)
        self.factory = factory

    def make(self):
        self.ours, self.peer = tcp_pair()
        connecting = self.loop.create_connection(self.factory, sock=self.ours)
        self.transport, self.protocol = self.loop.run_until_complete(
            connecting
        )
        turns(self.loop, 2)


def transport(loop):
    connection = Connection(loop)
    for name, *args in (
        ("write", b"x" * 100),
        ("write", bytearray(b"x" * 20000)),
        ("write", bytearray(b"x" * 100)),
        ("write", memoryview(b"x" * 100)),
        ("write", b"x" * (8 << 20)),
        ("writelines", [b"a", bytearray(b"b"), memoryview(b"c")]),
        ("write_eof",),
        ("get_extra_info", "socket"),
        ("get_extra_info", "peername"),
        ("get_extra_info", "sockname"),
        ("get_extra_info", "nothing"),
        ("get_write_buffer_size",),
        ("get_write_buffer_limits",),
        ("set_write_buffer_limits", 1000),
        ("pause_reading",),
        ("is_closing",),
        ("get_protocol",),
        ("set_protocol", Protocol()),
        ("close",),
        ("abort",),
    ):
        sweep(connection.call(name, *args), connection.make, connection.end)


def reading(loop):
    connection = Connection(loop)

    def prepare():
        connection.make()
        connection.peer.send(b"x" * 3000)

    sweep_turn(loop, prepare, connection.end)

    def ending():
        connection.make()
        connection.peer.shutdown(socket.SHUT_WR)

    sweep_turn(loop, ending, connection.end)

    def large():
        connection.make()
        connection.peer.setblocking(False)
        with contextlib.suppress(BlockingIOError):
            connection.peer.send(bytes(1 << 20))

    sweep_turn(loop, large, connection.end)


def writing(loop):
    connection = Connection(loop)

    def prepare():
        connection.make()
        loop.call_soon(connection.transport.write, b"x" * 100)
        loop.call_soon(connection.transport.write, bytearray(b"y" * 100))
        loop.call_soon(connection.transport.writelines, [b"z"] * 20)

    sweep_turn(loop, prepare, connection.end)

    def blocked():
        connection.make()
        connection.transport.write(bytes(8 << 20))
        connection.peer.recv(1 << 20)

    sweep_turn(loop, blocked, connection.end)


def closing(loop):
    Connection(loop).sweep_closing()


def reader(loop):
    def make():
        return asyncio.StreamReaderProtocol(
            asyncio.StreamReader(loop=loop), loop=loop
        )

    connection = Connection(loop, make)

    def prepare():
        connection.make()
        connection.peer.send(b"x" * 3000)

    sweep_turn(loop, prepare, connection.end)


class Stream(Connection):
    """A connection with a reader and a writer."""

    def __init__(self, loop):
        super().__init__(loop, self._make_protocol)
        self.made = []

    def _make_protocol(self):
        self.reader = asyncio.StreamReader(loop=self.loop)
        return asyncio.StreamReaderProtocol(self.reader, loop=self.loop)

    def make(self):
        super().make()
        protocol = self.transport.get_protocol()
        self.writer = asyncio.StreamWriter(
            self.transport, protocol, self.reader, self.loop
        )
        self.writer.write(b"")

    def end(self, _=None):
        for coroutine in self.made:
            with contextlib.suppress(*ALLOWED):
                coroutine.close()
        self.made.clear()
        super().end()

    def step(self):
        try:
            return self.made[0].send(None)
        except (StopIteration, asyncio.IncompleteReadError):
            return None

    def wait(self, name, *args):
        """Begin to read, and have the data come before the next step."""
        self.made.append(getattr(self.reader, name)(*args))
        self.made[0].send(None)
        self.peer.send(b"line\n")
        turns(self.loop, 2)


def reads(loop):
    stream = Stream(loop)
    stream.make()
    sweep(lambda: stream.reader.read(5).close())
    sweep(lambda: stream.writer.write(b"x"))
    stream.end()
    for name, args in (
        ("read", (5,)),
        ("readexactly", (5,)),
        ("readline", ()),
        ("readuntil", (b"e",)),
        ("__anext__", ()),
    ):

        def begin(data, name=name, args=args):
            stream.make()
            stream.peer.send(data)
            turns(loop, 2)
            stream.made.append(getattr(stream.reader, name)(*args))

        sweep(stream.step, functools.partial(begin, b"line\n"), stream.end)
        sweep(stream.step, functools.partial(begin, b""), stream.end)

        def waiting(name=name, args=args):
            stream.make()
            stream.wait(name, *args)

        sweep(stream.step, waiting, stream.end)
        sweep(lambda: stream.made[0].close(), waiting, stream.end)


def waking(loop):
    """What happens to a read that waits: its data arrives."""
    stream = Stream(loop)

    def prepare():
        stream.make()
        stream.made.append(stream.reader.read(100))
        stream.made[0].send(None)
        stream.peer.send(b"x" * 100)

    sweep_turn(loop, prepare, stream.end)


def draining(loop):
    stream = Stream(loop)

    def prepare():
        stream.make()
        stream.made.append(stream.writer.drain())

    sweep(stream.step, prepare, stream.end)


def accepting(loop):
    async def serve():
        return await loop.create_server(Protocol, "127.0.0.1", 0)

    server = loop.run_until_complete(serve())
    address = server.sockets[0].getsockname()
    socks = []

    def prepare():
        socks.append(socket.create_connection(address, 10))

    def tidy():
        socks.pop().close()
        turns(loop, 4)

    sweep_turn(loop, prepare, tidy)
    server.close()
    turns(loop, 2)


def serving_streams(loop):
    """The accept of a connection whose protocol is asyncio's for streams."""
    protocols = []
    socks = []

    async def serve():
        return await loop.create_server(protocols.pop, "127.0.0.1", 0)

    server = loop.run_until_complete(serve())
    address = server.sockets[0].getsockname()

    def prepare():
        reader = asyncio.StreamReader(loop=loop)
        protocols.append(
            asyncio.StreamReaderProtocol(reader, close_writer, loop=loop)
        )
        del reader
        socks.append(socket.create_connection(address, 10))

    def tidy():
        socks.pop().close()
        turns(loop, 4)
        protocols.clear()

    sweep_turn(loop, prepare, tidy)
    server.close()
    turns(loop, 2)


def close_writer(reader, writer):
    writer.close()


def sock_calls(loop):
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    buffer = bytearray(10)
    made = []

    def drain(_=None):
        for coroutine in made:
            coroutine.close()
        made.clear()
        turns(loop, 2)
        for sock in (left, right):
            with contextlib.suppress(BlockingIOError):
                while sock.recv(1 << 20):
                    pass

    for make in (
        lambda: loop.sock_recv(right, 10),
        lambda: loop.sock_recv_into(right, buffer),
        lambda: loop.sock_recvfrom(right, 10),
        lambda: loop.sock_sendall(left, b"x"),
    ):
        sweep(make, tidy=lambda made: made is None or made.close())

        def ready(make=make):
            left.send(b"data")
            made.append(make())

        def waiting(make=make):
            made.append(make())

        def step():
            try:
                return made[0].send(None)
            except StopIteration:
                return None

        sweep(step, ready, drain)
        sweep(step, waiting, drain)
    left.close()
    right.close()


def other_sock_calls(loop):
    """Those that need sockets of other kinds."""
    with (
        socket.socket(type=socket.SOCK_DGRAM) as one,
        socket.socket(type=socket.SOCK_DGRAM) as other,
        socket.create_server(("127.0.0.1", 0), backlog=1000) as server,
    ):
        for sock in (one, other, server):
            sock.setblocking(False)
        one.bind(("127.0.0.1", 0))
        address = one.getsockname()
        buffer = bytearray(10)
        for make, prepare in (
            (
                lambda: loop.sock_recvfrom_into(one, buffer),
                lambda: other.sendto(b"x", address),
            ),
            (lambda: loop.sock_sendto(other, b"x", address), int),
        ):
            sweep_steps(loop, make, prepare)
        # Its step is socket.accept(), which loses a descriptor by itself.
        sweep(
            lambda: loop.sock_accept(server),
            tidy=lambda made: made is None or made.close(),
        )
    connect_steps(loop)


def first_step(operation):
    try:
        return operation.send(None)
    except StopIteration as exc:
        return exc.value


def sweep_steps(loop, make, prepare):
    """Fail each allocation of the making, and of the step to the result."""
    sweep(make, tidy=lambda made: made is None or made.close())
    for number in range(ALLOCATIONS_MAX):
        prepare()
        operation = make()
        attempt(number, functools.partial(first_step, operation))
        operation.close()
        turns(loop, 1)


def connect_steps(loop):
    with socket.create_server(("127.0.0.1", 0), backlog=1000) as server:
        for number in range(ALLOCATIONS_MAX):
            with socket.socket() as sock:
                sock.setblocking(False)
                operation = loop._sock_connect(sock, server.getsockname())
                attempt(number, functools.partial(first_step, operation))
                operation.close()
                turns(loop, 1)


def of_the_core(loop):
    """Methods of the C classes that nothing else here calls."""
    coroutines = []

    async def nothing():
        pass

    def task():
        return loop.create_task(coroutines[-1])

    def end_task(made):
        if made is not None:
            made.cancel()
        turns(loop, 2)
        coroutines.pop().close()

    sweep(task, lambda: coroutines.append(nothing()), end_task)
    connection = Connection(loop)
    for name in ("is_reading", "resume_reading", "can_write_eof"):
        sweep(connection.call(name), connection.make, connection.end)
    server = loop.run_until_complete(
        loop.create_server(Protocol, "127.0.0.1", 0, start_serving=False)
    )
    sweep(server._start_accepting, tidy=lambda _: server._stop_accepting())
    sweep(server._clients)
    server.close()
    sweep(loop._stats)
    lookups(loop)


def lookups(loop):
    """Of an address: the answer comes from a thread, in a later turn."""
    for make in (
        lambda: loop._getnameinfo(("127.0.0.1", 80), 3),
        lambda: loop._getaddrinfo(b"127.0.0.1", b"80", 0, 1, 0, 4),
    ):
        for number in range(ALLOCATIONS_MAX):
            future = attempt(number, make)
            if future is not None:
                loop.run_until_complete(asyncio.wait([future]))
                future.exception()


def loops(_):
    """Made and closed, as far as that is C."""
    from becket import _core

    made = []

    def make():
        made.append(_core.Loop.__new__(_core.Loop))

    def tidy(_):
        made.clear()

    sweep(make, tidy=tidy)


class Endpoint(Pair):
    """Over UDP."""

    def make(self):
        self.ours = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.ours.bind(("127.0.0.1", 0))
        self.peer = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
        self.peer.connect(self.ours.getsockname())
        self.address = self.peer.getsockname()
        self.transport, self.protocol = self.loop.run_until_complete(
            self.loop.create_datagram_endpoint(Protocol, sock=self.ours)
        )
        turns(self.loop, 2)

    def send(self, data):
        return lambda: self.transport.sendto(data, self.address)


def datagrams(loop):
    endpoint = Endpoint(loop)
    for call in (
        endpoint.send(b"x"),
        endpoint.send(bytearray(b"x")),
        endpoint.send(memoryview(b"x")),
        endpoint.send(bytes(70000)),
        endpoint.call("sendto", b"x", ("localhost", 9)),
        endpoint.call("sendto", b"x"),
        endpoint.call("get_write_buffer_size"),
        endpoint.call("set_write_buffer_limits", 1000),
        endpoint.call("get_extra_info", "socket"),
        endpoint.call("pause_reading"),
        endpoint.call("set_protocol", Protocol()),
        endpoint.call("close"),
        endpoint.call("abort"),
    ):
        sweep(call, endpoint.make, endpoint.end)

    def received():
        endpoint.make()
        endpoint.peer.send(b"x" * 3000)

    sweep_turn(loop, received, endpoint.end)
    endpoint.sweep_closing()


def datagrams_waiting(loop):
    """What the kernel does not take, and what comes of it."""
    made = []

    def prepare():
        ours, peer = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
        ours.connect(peer_name(peer))
        transport, _ = loop.run_until_complete(
            loop.create_datagram_endpoint(Protocol, sock=ours)
        )
        turns(loop, 2)
        while transport.get_write_buffer_size() == 0:
            transport.sendto(bytes(1000))
        made.append((ours, peer, transport))

    def drained():
        prepare()
        made[0][1].setblocking(False)
        with contextlib.suppress(BlockingIOError):
            while True:
                made[0][1].recv(2000)

    def tidy(_=None):
        ours, peer, transport = made.pop()
        peer.close()
        if ours.fileno() != -1:
            transport.abort()
        del transport
        turns(loop, 3)
        gc.collect()
        ours.close()

    sweep(lambda: made[0][2].sendto(b"x" * 100), prepare, tidy)
    sweep(lambda: made[0][2].sendto(bytearray(b"x")), prepare, tidy)
    sweep_turn(loop, drained, tidy)


def peer_name(peer):
    peer.bind("")  # the kernel chooses an abstract name, unix(7)
    return peer.getsockname()


SCENARIOS = {
    function.__name__: function
    for function in (
        schedule,
        handles,
        future,
        watch,
        transport,
        reading,
        writing,
        closing,
        reader,
        reads,
        waking,
        draining,
        accepting,
        serving_streams,
        sock_calls,
        other_sock_calls,
        of_the_core,
        loops,
        datagrams,
        datagrams_waiting,
    )
}


def still_works(loop):
    assert loop.run_until_complete(asyncio.sleep(0.0001, 5)) == 5
    seen = []
    connection = Connection(loop, lambda: Protocol(data_received=seen.append))
    connection.make()
    connection.peer.send(b"in")
    turns(loop, 2)
    assert b"".join(seen) == b"in"
    connection.transport.write(b"out")
    turns(loop, 1)
    assert connection.peer.recv(10) == b"out"
    connection.end()


def main(scenarios):
    warnings.simplefilter("ignore")
    sys.unraisablehook = lambda _: None
    scenario = scenarios[sys.argv[1]]
    loop = loop_from_environment()
    loop.set_exception_handler(lambda *_: None)
    still_works(loop)
    gc.collect()
    before = len(os.listdir("/proc/self/fd"))
    scenario(loop)
    gc.collect()
    turns(loop, 3)
    still_works(loop)
    gc.collect()
    after = len(os.listdir("/proc/self/fd"))
    assert after <= before, f"descriptors: {before} before, {after} after"
    loop.close()
    print("done")


if __name__ == "__main__":
    main(SCENARIOS)
