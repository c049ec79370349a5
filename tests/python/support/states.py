# SPDX-License-Identifier: MIT
"""The states that a loop can be in when something happens to it.

Each is a function of a loop that brings it there and returns what it leaves
in the user's hands, as a State. To cover a new method, add a function. Files
are made where tempfile makes them, and left there for the caller to remove:
a forked child must not.
"""

import asyncio
import os
import signal
import socket
import tempfile
import time
import warnings

from support.net import LIMIT, silent_address, small_pair, tcp_pair

LARGE = bytes(range(256)) * 2000


class State:
    """What a user holds, and how it goes on, if it can."""

    def __init__(self, *kept, go_on=None):
        self.kept = kept
        self.go_on = go_on


STATES = {}


def state(function):
    STATES[function.__name__] = function
    return function


class Talker(asyncio.Protocol):
    """Keeps what comes, and stays open after the peer's end."""

    def __init__(self):
        self.data = bytearray()
        self.transport = None
        self.losses = 0

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        self.data += data

    def datagram_received(self, data, address):
        self.data += data

    def error_received(self, exc):
        raise exc

    def eof_received(self):
        return True

    def connection_lost(self, exc):
        self.losses += 1


async def until(condition):
    deadline = time.monotonic() + LIMIT
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError("the loop does not go on")
        await asyncio.sleep(0)


async def arrives(sock, expected):
    """The peer gets exactly this; it is read beside the loop."""
    sock.setblocking(False)
    got = bytearray()

    def has_all():
        try:
            got.extend(sock.recv(1 << 16))
        except BlockingIOError:
            pass
        return len(got) >= len(expected)

    await until(has_all)
    assert got == expected, (len(got), len(expected))


def turn(loop):
    loop.call_soon(loop.stop)
    loop.run_forever()


def begin(loop, coroutine):
    """A task that waits."""
    task = loop.create_task(coroutine)
    turn(loop)
    assert not task.done()
    return task


def connect(loop, sock):
    return loop.run_until_complete(loop.create_connection(Talker, sock=sock))


def talk(transport, protocol, peer):
    """How a connection goes on: both sides say something."""

    async def go_on():
        before = len(protocol.data)
        peer.send(b"ping")
        await until(lambda: len(protocol.data) == before + 4)
        transport.write(b"pong")
        await arrives(peer, b"pong")
        transport.close()
        await until(lambda: protocol.losses)
        assert protocol.losses == 1

    return go_on


# --- nothing but the loop ---


@state
def made(loop):
    return State()


@state
def run(loop):
    loop.run_until_complete(asyncio.sleep(0))
    return State()


@state
def stopped_before_it_runs(loop):
    loop.stop()
    return State()


@state
def scheduled(loop):
    ran = []
    kept = [
        loop.call_soon(ran.append, 1),
        loop.call_later(1000, print, 2),
        loop.call_soon_threadsafe(ran.append, 3),
    ]
    kept[1].cancel()

    async def go_on():
        assert ran == [1, 3], ran

    return State(kept, loop.call_later(1000, print), go_on=go_on)


@state
def interrupted_in_a_callback(loop):
    """The rest of that turn is still queued."""
    ran = []
    loop.call_soon(interrupt)
    loop.call_soon(ran.append, 1)
    try:
        loop.run_forever()
    except KeyboardInterrupt:
        pass

    async def go_on():
        assert ran == [1], ran

    return State(ran, go_on=go_on)


def interrupt():
    raise KeyboardInterrupt


@state
def in_a_cycle(loop):
    loop.me = loop
    loop.set_exception_handler(lambda loop, context: None)
    loop.call_soon(print_nothing, loop)
    return State()


def print_nothing(*args):
    pass


@state
def watching(loop):
    left, right = socket.socketpair()
    right.send(b"x")
    seen = []
    loop.add_reader(left, seen.append, 1)
    loop.add_writer(right, seen.append, 2)

    async def go_on():
        before = len(seen)
        await until(lambda: {1, 2} <= set(seen[before:]))
        loop.remove_reader(left)
        loop.remove_writer(right)

    return State(left, right, go_on=go_on)


@state
def watching_what_was_closed(loop):
    left, right = socket.socketpair()
    loop.add_reader(left, print)
    left.close()
    return State(right)


@state
def handling_signals(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)

    async def go_on():
        os.kill(os.getpid(), signal.SIGUSR1)
        await until(lambda: seen)
        loop.remove_signal_handler(signal.SIGUSR1)

    return State(go_on=go_on)


# --- tasks ---


@state
def waiting_tasks(loop):
    future = loop.create_future()

    async def wait():
        return await future

    task = begin(loop, wait())

    async def go_on():
        future.set_result(7)
        assert await task == 7

    return State(future, task, go_on=go_on)


@state
def open_generators(loop):
    async def numbers():
        yield 1
        yield 2

    generator = numbers()
    loop.run_until_complete(anext(generator))

    async def go_on():
        assert await anext(generator) == 2
        await generator.aclose()

    return State(generator, go_on=go_on)


@state
def busy_executor(loop):
    future = loop.run_in_executor(None, time.sleep, 0.05)
    turn(loop)

    async def go_on():
        await future
        await loop.shutdown_default_executor()

    return State(future, go_on=go_on)


@state
def looking_up(loop):
    task = loop.create_task(loop.getaddrinfo("localhost", 80))
    turn(loop)

    async def go_on():
        assert await task
        await loop.shutdown_default_executor()

    return State(task, go_on=go_on)


# --- sockets of the user ---


def nonblocking_pair():
    ours, peer = tcp_pair()
    ours.setblocking(False)
    return ours, peer


@state
def receiving(loop):
    ours, peer = nonblocking_pair()
    task = begin(loop, loop.sock_recv(ours, 100))

    async def go_on():
        peer.send(b"x")
        assert await task == b"x"

    return State(ours, peer, task, go_on=go_on)


@state
def sending(loop):
    ours, peer = small_pair()
    ours.setblocking(False)
    task = begin(loop, loop.sock_sendall(ours, LARGE))

    async def go_on():
        await arrives(peer, LARGE)
        await task

    return State(ours, peer, task, go_on=go_on)


@state
def accepting(loop):
    sock = socket.create_server(("127.0.0.1", 0))
    sock.setblocking(False)
    task = begin(loop, loop.sock_accept(sock))

    async def go_on():
        with socket.create_connection(sock.getsockname(), LIMIT):
            conn, _ = await task
            conn.close()

    return State(sock, task, go_on=go_on)


@state
def connecting(loop):
    """Nobody answers, ever."""
    silent = silent_address()
    address = silent.__enter__()
    task = begin(loop, loop.create_connection(Talker, *address))

    async def go_on():
        task.cancel()
        await asyncio.wait([task])

    return State(silent, task, go_on=go_on)


# --- transports ---


@state
def connected(loop):
    ours, peer = tcp_pair()
    transport, protocol = connect(loop, ours)
    return State(
        transport, protocol, peer, go_on=talk(transport, protocol, peer)
    )


@state
def writing(loop):
    """More than the kernel takes: bytes and a bytearray are queued."""
    ours, peer = small_pair()
    transport, protocol = connect(loop, ours)
    transport.write(LARGE)
    transport.write(bytearray(b"end"))
    assert transport.get_write_buffer_size() > 0

    async def go_on():
        await arrives(peer, LARGE + b"end")
        transport.close()
        await until(lambda: protocol.losses)

    return State(transport, protocol, peer, go_on=go_on)


@state
def paused(loop):
    ours, peer = tcp_pair()
    transport, protocol = connect(loop, ours)
    transport.pause_reading()
    peer.send(b"early")
    turn(loop)

    async def go_on():
        assert protocol.data == b""
        transport.resume_reading()
        await until(lambda: protocol.data == b"early")
        await talk(transport, protocol, peer)()

    return State(transport, protocol, peer, go_on=go_on)


@state
def half_closed(loop):
    ours, peer = tcp_pair()
    transport, protocol = connect(loop, ours)
    peer.shutdown(socket.SHUT_WR)
    turn(loop)
    turn(loop)

    async def go_on():
        transport.write(b"late")
        transport.write_eof()
        await arrives(peer, b"late")
        transport.close()
        await until(lambda: protocol.losses)

    return State(transport, protocol, peer, go_on=go_on)


@state
def closing(loop):
    """Closed, with bytes that still have to leave."""
    ours, peer = small_pair()
    transport, protocol = connect(loop, ours)
    transport.write(LARGE)
    transport.close()

    async def go_on():
        await arrives(peer, LARGE)
        await until(lambda: protocol.losses)

    return State(transport, protocol, peer, go_on=go_on)


@state
def aborted(loop):
    """connection_lost() has still to come."""
    ours, peer = tcp_pair()
    transport, protocol = connect(loop, ours)
    transport.abort()

    async def go_on():
        await until(lambda: protocol.losses == 1)

    return State(transport, protocol, peer, go_on=go_on)


@state
def forgotten_connection(loop):
    """The program keeps nothing of it."""
    ours, peer = tcp_pair()
    connect(loop, ours)
    return State(peer)


@state
def connected_by_unix_socket(loop):
    ours, peer = socket.socketpair()
    transport, protocol = connect(loop, ours)
    return State(
        transport, protocol, peer, go_on=talk(transport, protocol, peer)
    )


@state
def serving(loop):
    """A server, with one connection."""
    made = []

    def factory():
        made.append(Talker())
        return made[-1]

    server = loop.run_until_complete(loop.create_server(factory, "127.0.0.1"))
    address = server.sockets[0].getsockname()
    peer = socket.create_connection(address, LIMIT)
    loop.run_until_complete(until(lambda: made and made[0].transport))

    async def go_on():
        with socket.create_connection(address, LIMIT) as another:
            await until(lambda: len(made) == 2 and made[1].transport)
            await talk(made[1].transport, made[1], another)()
        await talk(made[0].transport, made[0], peer)()
        server.close()
        await server.wait_closed()

    return State(server, made, peer, go_on=go_on)


@state
def serving_by_unix_socket(loop):
    path = f"{tempfile.mkdtemp()}/socket"
    server = loop.run_until_complete(loop.create_unix_server(Talker, path))

    async def go_on():
        transport, _ = await loop.create_unix_connection(Talker, path)
        transport.close()
        await asyncio.sleep(0)
        server.close()

    return State(server, go_on=go_on)


@state
def streams(loop):
    """A reader that waits, and a writer."""
    ours, peer = tcp_pair()
    reader, writer = loop.run_until_complete(open_streams(ours))
    task = begin(loop, reader.readline())

    async def go_on():
        peer.send(b"line\n")
        assert await task == b"line\n"
        writer.write(b"answer")
        await writer.drain()
        await arrives(peer, b"answer")
        writer.close()
        await writer.wait_closed()

    return State(reader, writer, task, peer, go_on=go_on)


async def open_streams(sock):
    return await asyncio.open_connection(sock=sock)


@state
def datagrams(loop):
    peer = socket.socket(type=socket.SOCK_DGRAM)
    peer.bind(("127.0.0.1", 0))
    transport, protocol = loop.run_until_complete(
        loop.create_datagram_endpoint(
            Talker, local_addr=("127.0.0.1", 0), remote_addr=peer.getsockname()
        )
    )
    address = transport.get_extra_info("sockname")

    async def go_on():
        peer.sendto(b"ping", address)
        await until(lambda: protocol.data == b"ping")
        transport.sendto(b"pong")
        await arrives(peer, b"pong")
        transport.close()
        await until(lambda: protocol.losses)

    return State(transport, protocol, peer, go_on=go_on)


@state
def waiting_datagrams(loop):
    """The peer reads nothing, so that the kernel takes no more."""
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.bind(f"{tempfile.mkdtemp()}/socket")
    ours = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    ours.connect(peer.getsockname())
    transport, protocol = loop.run_until_complete(
        loop.create_datagram_endpoint(Talker, sock=ours)
    )
    sent = 0
    while not transport.get_write_buffer_size():
        sent += 1
        assert sent < 10_000, "the kernel takes everything"
        transport.sendto(b"x" * 1000)

    async def go_on():
        await arrives(peer, b"x" * 1000 * sent)
        transport.close()
        await until(lambda: protocol.losses)

    return State(transport, protocol, peer, go_on=go_on)


# --- closed loops ---


@state
def closed(loop):
    loop.run_until_complete(asyncio.sleep(0))
    loop.close()
    return State()


def closed_while(prepare):
    """The same state, and then the loop was closed."""

    def closed_too(loop):
        prepared = prepare(loop)
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop.close()
        return State(prepared.kept)

    closed_too.__name__ = f"closed_while_{prepare.__name__}"
    return closed_too


for _prepare in [
    scheduled,
    watching,
    handling_signals,
    waiting_tasks,
    open_generators,
    busy_executor,
    looking_up,
    receiving,
    connecting,
    connected,
    writing,
    closing,
    aborted,
    serving,
    serving_by_unix_socket,
    streams,
    datagrams,
    waiting_datagrams,
]:
    state(closed_while(_prepare))
