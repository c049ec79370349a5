# SPDX-License-Identifier: MIT
"""Who closes a descriptor, and that nothing ever goes to a stranger."""

import asyncio
import gc
import os
import random
import select
import socket
import threading

import pytest

from becket import versions
from support.leaks import join_all
from support.loops import turns
from support.net import (
    connected,
    listener,
    peer_reads,
    peer_reads_all,
    peer_recv,
    silent_address,
    small_pair,
    spin,
    tcp_pair,
)
from support.protocols import Recorder

row = pytest.mark.row


@pytest.fixture
def stranger():
    """Takes over a number that has just been closed."""
    kept = []

    def take(number):
        one, two = socket.socketpair()
        kept.extend((one, two))
        one.settimeout(10)
        two.settimeout(10)
        if one.fileno() == number:
            return one, two
        assert two.fileno() == number, "the number was not reused"
        return two, one

    yield take
    for sock in kept:
        sock.close()


def nothing_arrives(sock):
    """Whether a socket has nothing to read."""
    return not select.select([sock], [], [], 0)[0]


async def attach(loop):
    ours, peer = tcp_pair()
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    await spin(2)
    return ours, peer, transport, protocol


async def test_socket_closed_early_then_written(loop, stranger):
    ours, peer, transport, protocol = await attach(loop)
    number = ours.fileno()
    ours.close()
    mine, other = stranger(number)
    transport.write(b"secret")
    transport.write(b"secret")
    await spin(2)
    exc = await protocol.lost
    assert isinstance(exc, OSError) and exc.errno == 9
    assert nothing_arrives(other)
    # The stranger's descriptor is still open and its own.
    assert mine.fileno() == number
    mine.send(b"alive")
    assert other.recv(10) == b"alive"
    peer.close()


async def test_socket_closed_early_then_data_for_the_stranger(loop, stranger):
    ours, peer, transport, protocol = await attach(loop)
    number = ours.fileno()
    ours.close()
    mine, other = stranger(number)
    other.send(b"not for you")
    await spin(5)
    assert protocol.data == b""
    assert mine.recv(100) == b"not for you"
    transport.abort()
    await protocol.lost
    await spin(2)
    assert mine.fileno() == number
    os.fstat(number)
    peer.close()


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_socket_closed_early_then_ended(loop, stranger, end):
    """The end of the transport does not close the stranger's descriptor."""
    ours, peer, transport, protocol = await attach(loop)
    number = ours.fileno()
    ours.close()
    mine, other = stranger(number)
    getattr(transport, end)()
    await protocol.lost
    await spin(2)
    mine.send(b"alive")
    assert other.recv(10) == b"alive"
    peer.close()


@pytest.mark.becket_only("CPython removes the stranger's registration")
async def test_ending_keeps_the_strangers_watcher(loop, stranger, backend):
    ours, peer, transport, protocol = await attach(loop)
    number = ours.fileno()
    transport.pause_reading()
    ours.close()
    mine, other = stranger(number)
    transport.close()
    got = loop.create_future()
    loop.add_reader(mine, got.set_result, "readable")
    await protocol.lost
    await spin(2)
    other.send(b"x")
    assert await got == "readable"
    assert loop.remove_reader(mine)
    peer.close()


async def test_detached_socket(loop, stranger):
    """detach() takes the number away as close() does."""
    ours, peer, transport, protocol = await attach(loop)
    number = ours.detach()
    transport.write(b"where to?")
    await spin(2)
    exc = await protocol.lost
    assert isinstance(exc, OSError) and exc.errno == 9
    os.fstat(number)
    os.close(number)
    peer.settimeout(10)
    assert peer.recv(10) == b""
    peer.close()


@row("P1A-087")
async def test_the_transport_closes_through_the_socket_object(loop):
    ours, peer, transport, protocol = await attach(loop)
    transport.close()
    await protocol.lost
    await spin()
    assert ours.fileno() == -1
    ours.close()
    peer.close()


async def test_close_of_a_socket_subclass_is_called(loop):
    closed = []

    class Noting(socket.socket):
        def close(self):
            closed.append(self.fileno())
            super().close()

    left, right = tcp_pair()
    ours = Noting(fileno=left.detach())
    number = ours.fileno()
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    transport.close()
    await protocol.lost
    await spin()
    assert closed == [number]
    assert ours.fileno() == -1
    right.close()


async def test_socket_object_got_from_the_transport(loop):
    """Asked for, the object follows the transport to its end."""
    with listener() as server:
        transport, protocol = await loop.create_connection(
            Recorder, *server.getsockname()
        )
        sock = transport.get_extra_info("socket")
        number = sock.fileno()
        os.fstat(number)
        transport.close()
        await protocol.lost
        await spin()
        assert sock.fileno() == -1
        with pytest.raises(OSError):
            os.fstat(number)


@row("P1A-087")
async def test_failed_use_of_a_given_socket(loop):
    """What create_connection() refuses, it leaves to its owner."""
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError):
            await loop.create_connection(Recorder, sock=sock)
        assert sock.fileno() >= 0


async def test_factory_failing_with_a_given_socket(loop):
    ours, peer = tcp_pair()

    def factory():
        raise ValueError("no protocol")

    with pytest.raises(ValueError):
        await loop.create_connection(factory, sock=ours)
    # Up to 3.14.7 it is still the user's, and still open.
    assert (ours.fileno() < 0) == versions.FAILED_FACTORY_CLOSES_SOCKET
    ours.close()
    peer.close()


async def test_cancelled_with_a_given_socket(loop):
    """The transport exists by then, so it closes the socket."""
    ours, peer = tcp_pair()
    task = asyncio.create_task(loop.create_connection(Recorder, sock=ours))
    await spin(1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await spin(3)
    assert ours.fileno() == -1
    assert peer.recv(1) == b""
    peer.close()


async def test_cancelled_server_with_a_given_socket(loop):
    """Nobody has the server, and the socket is still its owner's."""
    with socket.socket() as sock:
        sock.bind(("127.0.0.1", 0))
        task = loop.create_task(loop.create_server(Recorder, sock=sock))
        await spin(1)
        task.cancel()
        await asyncio.wait([task])
        del task
        gc.collect()
        await spin(2)
        assert sock.fileno() >= 0


@pytest.mark.becket_only("CPython's Server.close() raises ValueError then")
async def test_listening_socket_closed_early(loop, stranger, errors):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = await loop.create_server(Recorder, sock=sock)
    number = sock.fileno()
    sock.close()
    mine, other = stranger(number)
    other.send(b"x")
    await spin(3)
    assert mine.recv(10) == b"x"
    # Where the number is polled as such, accepting fails and says so.
    assert {context["exception"].errno for context in errors} <= {9}
    errors.clear()
    server.close()
    await server.wait_closed()
    await spin(2)
    mine.send(b"alive")
    assert other.recv(10) == b"alive"


async def test_accepted_connection_belongs_to_the_loop_alone(loop):
    protocols = []
    server = await loop.create_server(
        lambda: protocols.append(Recorder()) or protocols[-1], "127.0.0.1", 0
    )
    with socket.create_connection(server.sockets[0].getsockname(), 10):
        while not protocols:
            await asyncio.sleep(0)
        transport = await protocols[0].connected
        sock = transport.get_extra_info("socket")
        number = sock.fileno()
        transport.close()
        await protocols[0].lost
        await spin()
        assert sock.fileno() == -1
        with pytest.raises(OSError):
            os.fstat(number)
    server.close()
    await server.wait_closed()


class Churn:
    """Threads that open and close descriptors as fast as they can.

    Their pairs are canaries: each sends its own token to itself; anything
    else that arrives was meant for somebody else.
    """

    def __init__(self, threads=2):
        self._end = threading.Event()
        self.faults = []
        self.rounds = 0
        self._threads = [
            threading.Thread(target=self._run, daemon=True)
            for _ in range(threads)
        ]

    def __enter__(self):
        for thread in self._threads:
            thread.start()
        return self

    def __exit__(self, *exc_info):
        self._end.set()
        join_all(self._threads)
        if exc_info[0] is None:
            assert self.faults == []
            assert self.rounds > 0

    def _run(self):
        try:
            while not self._end.is_set():
                self._one()
                self.rounds += 1
        except Exception as exc:
            self.faults.append(repr(exc))

    def _one(self):
        pairs = [socket.socketpair() for _ in range(3)]
        for number, (one, two) in enumerate(pairs):
            one.settimeout(5)
            two.settimeout(5)
            one.send(b"canary %d" % number)
        for number, (one, two) in enumerate(pairs):
            got = two.recv(100)
            if got != b"canary %d" % number:
                self.faults.append(f"a canary received {got!r}")
            if not nothing_arrives(one):
                self.faults.append(f"a canary was sent {one.recv(100)!r}")
        for one, two in pairs:
            one.close()
            two.close()


def interrupted_ways(loop, address, silent):
    """Everything that waits on a descriptor, to be cancelled half way."""

    async def connect():
        transport, _ = await loop.create_connection(Recorder, *address)
        transport.write(b"not for canaries")
        await asyncio.sleep(0)
        transport.abort()

    async def connect_silent():
        await loop.create_connection(Recorder, *silent)

    async def sock_connect():
        with socket.socket() as sock:
            sock.setblocking(False)
            await loop.sock_connect(sock, silent)

    async def sock_recv():
        one, two = socket.socketpair()
        with one, two:
            one.setblocking(False)
            await loop.sock_recv(one, 10)

    async def sock_sendall():
        one, two = socket.socketpair()
        with one, two:
            one.setblocking(False)
            await loop.sock_sendall(one, bytes(1 << 20))

    async def given_socket():
        one, two = socket.socketpair()
        with two:
            transport = None
            try:
                transport, _ = await loop.create_connection(Recorder, sock=one)
                transport.write(bytes(1 << 20))
                await asyncio.sleep(0.001)
            finally:
                if transport is not None:
                    transport.abort()

    async def serve():
        server = await loop.create_server(Recorder, "127.0.0.1", 0)
        await asyncio.sleep(0)
        server.close()

    return [
        connect,
        connect_silent,
        sock_connect,
        sock_recv,
        sock_sendall,
        given_socket,
        serve,
    ]


@pytest.mark.oracle_skip("it leaves sockets to the collector")
async def test_canaries_survive_cancellations_everywhere(loop):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    with silent_address() as silent:
        server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        ways = interrupted_ways(loop, address, silent)
        with Churn() as churn:
            for _ in range(150):
                task = asyncio.create_task(rng.choice(ways)())
                await spin(rng.randrange(5))
                task.cancel()
                await asyncio.wait([task])
                if not task.cancelled():
                    # Ended before the cancellation came, or ran past it.
                    assert task.exception() is None
            rounds = churn.rounds
        assert rounds >= 0
        server.close()
        await spin(5)


async def test_a_closed_transport_no_longer_owns_its_number(loop, stranger):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        number = transport.get_extra_info("socket").fileno()
        transport.close()
        await protocol.lost
        await spin()
        mine, other = stranger(number)
        transport.write(b"x")
        transport.close()
        await spin(2)
        assert nothing_arrives(other)
        mine.send(b"alive")
        assert other.recv(10) == b"alive"


@pytest.fixture
def two_files(tmp_path):
    """A file to send, and a stranger's, of the same size."""
    size = 1 << 20
    (tmp_path / "mine").write_bytes(b"m" * size)
    (tmp_path / "strange").write_bytes(b"s" * size)
    return tmp_path / "mine", tmp_path / "strange"


async def start_sendfile(loop, path):
    """A sock_sendfile() that waits for its peer; (task, file, ours, peer)."""
    ours, peer = small_pair()
    ours.setblocking(False)
    file = open(path, "rb")  # noqa: SIM115
    task = loop.create_task(loop.sock_sendfile(ours, file))
    await spin(5)
    assert not task.done()
    return task, file, ours, peer


@pytest.mark.oracle_skip("it sends from the number, whosever it is")
async def test_a_file_closed_early_is_not_replaced(loop, two_files):
    mine, strange = two_files
    task, file, ours, peer = await start_sendfile(loop, mine)
    number = file.fileno()
    file.close()
    with open(strange, "rb") as other:
        assert other.fileno() == number, "the number was not reused"
        reading = loop.create_task(peer_reads_all(peer))
        with pytest.raises(OSError, match="Bad file descriptor"):
            await task
        ours.close()
        assert set(await reading) == {ord("m")}
        # Nor was the stranger's position set.
        assert other.tell() == os.lseek(number, 0, os.SEEK_CUR) == 0
    peer.close()


@pytest.mark.oracle_skip("it withdraws the number, whosever it is")
async def test_a_socket_closed_early_in_sendfile(loop, two_files):
    """Who has the number afterwards, and waits for it, goes on waiting."""
    task, file, ours, peer = await start_sendfile(loop, two_files[0])
    number = ours.fileno()
    ours.close()
    other, other_peer = socket.socketpair()
    assert other.fileno() == number, "the number was not reused"
    other.setblocking(False)
    other_peer.settimeout(10)
    size = 1 << 20
    sending = loop.create_task(loop.sock_sendall(other, bytes(size)))
    await spin(3)
    assert not sending.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await peer_reads(other_peer, size) == bytes(size)
    await sending
    for thing in (file, peer, other, other_peer):
        thing.close()


def test_loop_close_with_open_transports(loop, run_main):
    """Their sockets are not closed by it, and nothing crashes afterwards."""
    ours, peer = tcp_pair()

    async def connect():
        return await loop.create_connection(
            lambda: asyncio.Protocol(), sock=ours
        )

    transport, _ = run_main(connect())
    loop.close()
    assert ours.fileno() >= 0
    peer.send(b"x")
    ours.close()
    peer.close()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        gc.collect()


def test_between_runs_nothing_is_read(loop, run_main):
    ours, peer = tcp_pair()

    async def connect():
        return await loop.create_connection(Recorder, sock=ours)

    transport, protocol = run_main(connect())
    peer.send(b"waits")
    assert protocol.data == b""
    turns(loop, 3)
    assert protocol.data == b"waits"
    transport.abort()
    turns(loop, 2)
    peer.close()


async def test_blocking_flag_of_a_given_socket(loop):
    """create_connection(sock=) makes it non-blocking; so it stays."""
    ours, peer = tcp_pair()
    assert ours.gettimeout() == 10
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    assert ours.gettimeout() == 0
    transport.write(b"x")
    assert await peer_recv(peer) == b"x"
    transport.abort()
    await protocol.lost
    await spin()
    peer.close()
