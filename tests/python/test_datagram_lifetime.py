# SPDX-License-Identifier: MIT
"""Datagram transports: whose the descriptor is, and every way to end."""

import asyncio
import contextlib
import gc
import random
import socket
import threading
import weakref

import pytest

from support.datagrams import (
    Echo,
    Endpoint,
    arrived,
    bound,
    connected,
    finish,
    peer_receives,
    udp,
)
from support.leaks import join_all
from support.loops import make_loop, turn, turns
from support.meddling import (
    MeddlingBuffer,
    meddling,
    needs_python_buffers,
    sees_the_end,
)
from support.net import spin, until
from support.procs import check, run_code

row = pytest.mark.row


# --- whose the descriptor is ---


@pytest.fixture
def take_over():
    """Have a number that was just closed become another socket's."""
    kept = []

    def take(number):
        pair = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
        kept.extend(pair)
        for sock in pair:
            sock.settimeout(10)
        mine, other = pair if pair[0].fileno() == number else pair[::-1]
        assert mine.fileno() == number, "the number was not reused"
        return mine, other

    yield take
    for sock in kept:
        sock.close()


async def given(loop, factory=Endpoint):
    sock = udp()
    transport, protocol = await loop.create_datagram_endpoint(
        factory, sock=sock
    )
    await spin(2)
    return sock, transport, protocol


async def test_socket_closed_early(loop, take_over):
    """Nothing of a stranger's is received, sent or closed."""
    sock, transport, protocol = await given(loop)
    number = sock.fileno()
    sock.close()
    mine, other = take_over(number)
    with udp() as peer:
        transport.sendto(b"not for you", peer.getsockname())
        [error] = protocol.errors
        assert error.errno == 9
        other.send(b"private")
        await spin(5)
        assert protocol.data == []
        assert mine.recv(99) == b"private"
        assert arrived(other) == []
        transport.close()
        await protocol.lost
        await spin(2)
        mine.send(b"alive")
        assert other.recv(99) == b"alive"


async def test_socket_detached(loop, take_over):
    sock, transport, protocol = await given(loop)
    socket.close(sock.detach())
    with udp() as peer:
        transport.sendto(b"x", peer.getsockname())
    assert protocol.errors[0].errno == 9
    transport.abort()
    assert await protocol.lost is None
    await spin()


async def test_socket_closed_early_in_a_burst(loop, take_over):
    """What is held back is not sent on another's descriptor."""
    sock, transport, _ = await given(loop, Echo)
    address = sock.getsockname()
    number = sock.fileno()
    strangers = []

    def datagram_received(data, addr):
        transport.sendto(data, addr)
        if data == b"20":
            sock.close()
            strangers.extend(take_over(number))

    protocol = transport.get_protocol()
    with udp() as peer:
        for _ in range(4):
            for _ in range(16):
                peer.sendto(b"warm", address)
            await protocol.received(len(protocol.data) + 16)
        arrived(peer)
        protocol.datagram_received = datagram_received
        for i in range(40):
            peer.sendto(b"%d" % i, address)
        await until(lambda: strangers)
        await spin(3)
        mine, other = strangers
        assert arrived(other) == []
        replies = arrived(peer)
        assert replies == [b"%d" % i for i in range(len(replies))]
        assert len(replies) <= 21
        await finish(transport)
        mine.send(b"alive")
        assert other.recv(99) == b"alive"


async def test_the_socket_object_closes_it(loop):
    closed = []

    class Noting(socket.socket):
        def close(self):
            closed.append(self.fileno())
            super().close()

    sock = Noting(socket.AF_INET, socket.SOCK_DGRAM)
    number = sock.fileno()
    transport, protocol = await loop.create_datagram_endpoint(
        Endpoint, sock=sock
    )
    transport.close()
    assert closed == []
    await protocol.lost
    await spin()
    assert closed == [number]
    assert sock.fileno() == -1


async def test_open_until_connection_lost_returns(loop):
    class Looking(Endpoint):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            info = self.transport.get_extra_info("socket")
            self.calls.append(info.fileno() >= 0)
            self.transport.sendto(b"goodbye", self.peer)

    async with bound(loop, Looking) as (transport, protocol, peer, _):
        protocol.peer = peer.getsockname()
        transport.close()
        await protocol.lost
        await spin()
        assert protocol.calls == ["connection_made", "connection_lost", True]
        assert arrived(peer) == [b"goodbye"]


def churn(stop, faults):
    """Open and close descriptors; what is theirs alone must arrive."""
    while not stop.is_set():
        pairs = [
            socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
            for _ in range(3)
        ]
        for number, (one, two) in enumerate(pairs):
            one.settimeout(5)
            two.settimeout(5)
            one.send(b"canary %d" % number)
        for number, (one, two) in enumerate(pairs):
            got = two.recv(100)
            if got != b"canary %d" % number:
                faults.append(got)
            faults.extend(arrived(one))
            one.close()
            two.close()


async def test_canaries_survive_cancellations(loop, backend):
    """Endpoints made and cancelled while others open and close descriptors."""
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    stop = threading.Event()
    faults = []

    async def local():
        transport, _ = await loop.create_datagram_endpoint(
            Echo, local_addr=("127.0.0.1", 0)
        )
        transport.sendto(b"stray", transport.get_extra_info("sockname"))
        try:
            await asyncio.sleep(0)
        finally:
            transport.abort()

    async def remote():
        transport, _ = await loop.create_datagram_endpoint(
            Endpoint, remote_addr=("127.0.0.1", 9)
        )
        transport.sendto(b"stray")
        transport.close()

    async def given_socket():
        transport = None
        with udp() as sock:
            try:
                transport, _ = await loop.create_datagram_endpoint(
                    Echo, sock=sock
                )
                transport.sendto(b"stray", sock.getsockname())
                await asyncio.sleep(0.001)
            finally:
                if transport is not None:
                    transport.abort()

    async def closed_early():
        with udp() as sock:
            transport, _ = await loop.create_datagram_endpoint(
                Endpoint, sock=sock
            )
            address = sock.getsockname()
        transport.sendto(b"stray", address)
        transport.close()

    ways = [local, remote, given_socket]
    if backend != "external":
        # A selector that is asked about a closed descriptor fails.
        ways.append(closed_early)
    threads = [
        threading.Thread(target=churn, args=(stop, faults)) for _ in range(2)
    ]
    for thread in threads:
        thread.start()
    try:
        for _ in range(150):
            task = loop.create_task(rng.choice(ways)())
            await spin(rng.randrange(6))
            task.cancel()
            await asyncio.wait([task])
            assert task.cancelled() or task.exception() is None
        gc.collect()
        await spin(5)
    finally:
        stop.set()
        join_all(threads)
    assert faults == []


# --- what is left to the garbage collector ---


@row("P4E-030")
def test_unclosed_transport(loop, run_main):
    sock = udp()

    async def make():
        made = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, sock=sock
        )
        await spin(2)
        return made

    transport, protocol = run_main(make())
    transport.pause_reading()
    turn(loop)
    text = f"unclosed transport {transport!r}"
    with pytest.warns(ResourceWarning) as caught:
        del transport, protocol
        gc.collect()
    assert str(caught[0].message) == text
    del caught
    gc.collect()
    assert sock.fileno() == -1
    turns(loop, 2)


async def test_kept_while_it_reads(loop):
    async def make():
        transport, _ = await loop.create_datagram_endpoint(
            Echo, local_addr=("127.0.0.1", 0)
        )
        return weakref.ref(transport), transport.get_extra_info("sockname")

    alive, address = await make()
    gc.collect()
    with udp() as peer:
        peer.sendto(b"x", address)
        assert await peer_receives(peer) == [b"x"]
    await finish(alive())
    gc.collect()
    assert alive() is None


def test_cycles_are_collected(loop, run_main):
    class Cyclic(Endpoint):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.protocol = self

    async def make():
        transport, protocol = await loop.create_datagram_endpoint(
            Cyclic, local_addr=("127.0.0.1", 0)
        )
        transport.sendto(b"x", transport.get_extra_info("sockname"))
        await protocol.received(1)
        transport.close()
        await protocol.lost
        await spin(2)
        return weakref.ref(transport)

    alive = run_main(make())
    gc.collect()
    assert alive() is None


def test_closed_loop(backend):
    """The transport of a closed loop does nothing any more, and warns."""
    loop = make_loop(backend)
    sock = udp()

    async def make(loop):
        made = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, sock=sock
        )
        await spin(2)
        return made

    transport, protocol = loop.run_until_complete(make(loop))
    loop.close()
    assert not transport.is_closing()
    assert transport.get_write_buffer_size() == 0
    repr(transport)
    transport.pause_reading()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.resume_reading()
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        transport.close()
    assert transport.is_closing()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport, protocol
        gc.collect()
    assert sock.fileno() == -1


@pytest.mark.becket_only("CPython's still sends")
def test_closed_loop_sends_nothing(backend):
    loop = make_loop(backend)
    sock = udp()

    async def make(loop):
        return await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, sock=sock
        )

    transport, protocol = loop.run_until_complete(make(loop))
    loop.close()
    with udp() as peer:
        transport.sendto(b"x", peer.getsockname())
        assert arrived(peer) == []
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport, protocol
        gc.collect()


# --- ending from inside ---


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize(
    "where", ["connection_made", "datagram_received", "error_received"]
)
async def test_end_in_every_callback(loop, how, where):
    class Ending(Endpoint):
        def end(self, *args):
            getattr(Endpoint, where)(self, *args)
            getattr(self.transport, how)()

    setattr(Ending, where, Ending.end)
    async with bound(loop, Ending) as (transport, protocol, peer, address):
        if where == "error_received":
            transport.sendto(bytes(70000), peer.getsockname())
        peer.sendto(b"x", address)
        peer.sendto(b"y", address)
        assert await asyncio.wait_for(protocol.lost, 10) is None
        await spin(2)
        assert protocol.calls.count("connection_lost") == 1
        assert protocol.calls[-1] == "connection_lost"
        assert transport._loop is None


async def test_everything_in_every_callback(loop):
    """Nothing crashes, whatever is called from wherever."""

    class Busy(Endpoint):
        def __getattribute__(self, name):
            found = super().__getattribute__(name)
            if name in CALLBACKS:
                for call in CALLS:
                    call(self.transport)
            return found

    CALLBACKS = {"datagram_received", "connection_lost"}
    CALLS = [
        lambda t: t and t.get_write_buffer_size(),
        lambda t: t and t.pause_reading(),
        lambda t: t and t.resume_reading(),
        lambda t: t and t.set_write_buffer_limits(),
        lambda t: t and t.is_closing(),
        lambda t: t and t.sendto(b"x", ("127.0.0.1", 9)),
        lambda t: t and t.sendto(bytes(70000), ("127.0.0.1", 9)),
        repr,
    ]
    async with bound(loop, Busy) as (transport, protocol, peer, address):
        for i in range(100):
            peer.sendto(b"%d" % i, address)
        await protocol.received(100)
        assert protocol.data == [b"%d" % i for i in range(100)]
        transport.close()
        await protocol.lost


async def test_one_ends_another(loop):
    """In its datagram_received, each endpoint aborts the next of a ring."""
    count = 10

    class Ring(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            ring[(ring.index(self) + 1) % count].transport.abort()

    ring = []
    addresses = []
    for _ in range(count):
        transport, protocol = await loop.create_datagram_endpoint(
            Ring, local_addr=("127.0.0.1", 0)
        )
        ring.append(protocol)
        addresses.append(transport.get_extra_info("sockname"))
    with udp() as peer:
        for address in addresses:
            peer.sendto(b"x", address)
        await spin(5)
    for protocol in ring:
        await finish(protocol.transport)
        assert protocol.calls.count("connection_lost") == 1


async def test_nobody_else_holds_it_in_a_burst(loop):
    """A transport that is dropped in its own datagram_received."""

    class Dropping(Echo):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"5":
                transport = self.transport
                transport.pause_reading()
                self.transport = None
                gc.collect()
                transport.abort()

    async with bound(loop, Dropping) as (_, protocol, peer, address):
        for i in range(40):
            peer.sendto(b"%d" % i, address)
        await asyncio.wait_for(protocol.lost, 10)
        assert protocol.data == [b"%d" % i for i in range(6)]


def test_loop_cannot_be_closed_inside(loop, run_main):
    class Closing(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            with pytest.raises(RuntimeError, match="Cannot close a running"):
                self.loop.close()

    async def main():
        async with bound(loop, Closing) as (_, protocol, peer, address):
            peer.sendto(b"x", address)
            peer.sendto(b"y", address)
            assert await protocol.received(2) == [b"x", b"y"]

    run_main(main())


async def test_other_threads_may_send(loop):
    """It is not meant for them, and yet nothing is lost or waits."""
    async with connected(loop) as (transport, _, peer):

        def send():
            for i in range(100):
                transport.sendto(b"%d" % i)

        await asyncio.to_thread(send)
        assert arrived(peer) == [b"%d" % i for i in range(100)]


# --- fork ---


FORK = """
import asyncio, os, socket, sys, warnings
from support.datagrams import Echo, arrived, udp
from support.loops import loop_from_environment

warnings.simplefilter("ignore", DeprecationWarning)
warnings.simplefilter("ignore", ResourceWarning)
loop = loop_from_environment()


class Forking(Echo):
    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        if data == b"10":
            pid = os.fork()
            if pid == 0:
                self.transport.sendto(b"the child's", addr)
                self.transport.close()
                os._exit(42)
            status = os.waitpid(pid, 0)[1]
            assert os.waitstatus_to_exitcode(status) == 42


async def main():
    transport, protocol = await loop.create_datagram_endpoint(
        Forking, local_addr=("127.0.0.1", 0)
    )
    address = transport.get_extra_info("sockname")
    with udp() as peer:
        for _ in range(6):
            for _ in range(8):
                peer.sendto(b"0", address)
            await protocol.received(len(protocol.data) + 8)
        arrived(peer)
        protocol.data.clear()
        for i in range(20):
            peer.sendto(b"%d" % i, address)
        await protocol.received(20)
        await asyncio.sleep(0)
        found = arrived(peer)
        assert found == [b"%d" % i for i in range(20)], found
    transport.close()
    await protocol.lost


loop.run_until_complete(main())
loop.close()
print("done")
"""


@pytest.mark.becket_only("CPython's child sends on the parent's socket")
def test_fork_in_a_burst(backend):
    """The child sends nothing; the parent's goes on."""
    done = check(run_code(backend, FORK))
    assert done.stdout == "done\n"


def test_exit_with_an_open_endpoint(backend):
    code = """
    import asyncio
    from support.loops import loop_from_environment

    loop = loop_from_environment()

    async def main():
        global made
        made = await loop.create_datagram_endpoint(
            asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
        )
        made[0].sendto(b"x", made[0].get_extra_info("sockname"))

    loop.run_until_complete(main())
    """
    done = check(run_code(backend, code))
    assert "Traceback" not in done.stderr


class OwnMethods(socket.socket):
    def send(self, *arguments):
        return super().send(*arguments)

    def sendto(self, *arguments):
        return super().sendto(*arguments)


class AlwaysFull(socket.socket):
    def sendto(self, *arguments):
        raise BlockingIOError


def socket_of(kind):
    sock = kind(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return sock


@needs_python_buffers
@pytest.mark.becket_only("CPython raises AttributeError from inside")
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("kind", [socket.socket, OwnMethods, AlwaysFull])
@pytest.mark.parametrize("is_connected", [False, True])
def test_data_that_sees_the_end(loop, kind, fails, is_connected):
    """Outside of a run it can run the loop until the socket is gone."""
    with udp() as peer:
        ours = socket_of(kind)
        if is_connected:
            ours.connect(peer.getsockname())
        transport, protocol = loop.run_until_complete(
            loop.create_datagram_endpoint(Endpoint, sock=ours)
        )

        hook = sees_the_end(loop, transport, protocol, fails)
        data = meddling(MeddlingBuffer, hook)
        # Where the socket's method has met it, it raises.
        with contextlib.suppress(ValueError, OSError):
            transport.sendto(
                data, None if is_connected else peer.getsockname()
            )
        assert ours.fileno() == -1
        assert arrived(peer) == []
