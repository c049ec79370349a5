# SPDX-License-Identifier: MIT
"""Ending things from inside their own callbacks."""

import asyncio
import contextlib
import gc
import socket

import pytest

from support.loops import turn, turns
from support.net import connected, small_pair, spin, tcp_pair, until
from support.protocols import Buffered, Recorder

row = pytest.mark.row


@pytest.mark.parametrize("how", ["close", "abort"])
@pytest.mark.parametrize(
    "where", ["connection_made", "data_received", "eof_received"]
)
async def test_end_in_every_callback(loop, how, where):
    class Ending(Recorder):
        def end(self, *args):
            getattr(Recorder, where)(self, *args)
            getattr(self.transport, how)()

    setattr(Ending, where, Ending.end)
    ours, peer = tcp_pair()
    transport, protocol = await loop.create_connection(Ending, sock=ours)
    with contextlib.suppress(OSError):
        # In connection_made the end may have come before this.
        peer.send(b"x")
        peer.shutdown(socket.SHUT_WR)
    assert await protocol.lost is None
    await spin(2)
    assert protocol.calls.count("connection_lost") == 1
    assert protocol.calls[-1] == "connection_lost"
    assert ours.fileno() == -1
    peer.close()


@pytest.mark.parametrize("how", ["close", "abort"])
async def test_end_in_pause_writing(loop, how):
    class Ending(Recorder):
        def pause_writing(self):
            super().pause_writing()
            getattr(self.transport, how)()

    async with connected(loop, Ending, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(bytes(1 << 20))
        transport.write(b"more")
        assert transport.is_closing()
        transport.abort()
        await protocol.lost
        assert protocol.calls.count("connection_lost") == 1


async def test_end_in_get_buffer(loop):
    class Ending(Buffered):
        def get_buffer(self, sizehint):
            self.transport.abort()
            return super().get_buffer(sizehint)

    async with connected(loop, Ending) as (transport, protocol, peer):
        peer.send(b"x")
        await protocol.lost
        assert protocol.calls.count("connection_lost") == 1


async def test_one_stream_ends_another(loop):
    """In its data_received, each stream aborts the next of a ring."""
    count = 20

    class Ring(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.next.transport.abort()

    protocols, peers = [], []
    for _ in range(count):
        ours, peer = tcp_pair()
        made = await loop.create_connection(Ring, sock=ours)
        protocols.append(made[1])
        peers.append(peer)
    for number, protocol in enumerate(protocols):
        protocol.next = protocols[(number + 1) % count]
    await spin(2)
    for peer in peers:
        peer.send(b"x")
    await spin(3)
    for protocol in protocols:
        if not protocol.lost.done():
            protocol.transport.abort()
    await asyncio.gather(*(protocol.lost for protocol in protocols))
    for protocol in protocols:
        assert protocol.calls.count("connection_lost") == 1
        calls = protocol.calls
        assert "data_received" not in calls[calls.index("connection_lost") :]
    await spin()
    for peer in peers:
        peer.close()


@pytest.mark.oracle_skip("an assertion in the server fails then")
async def test_server_closed_in_its_factory(loop):
    made = []

    def factory():
        server.close()
        made.append(Recorder())
        return made[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    peers = [socket.create_connection(address, 10) for _ in range(3)]
    await until(lambda: made)
    await spin(3)
    for peer in peers:
        peer.close()
    for protocol in made:
        if protocol.calls:
            await protocol.lost
    await server.wait_closed()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 10)


async def test_server_closed_in_data_received(loop):
    class Closing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            server.close()

    made = []
    server = await loop.create_server(
        lambda: made.append(Closing()) or made[-1], "127.0.0.1", 0
    )
    with socket.create_connection(server.sockets[0].getsockname(), 10) as peer:
        peer.send(b"x")
        while not made or not made[0].data:
            await asyncio.sleep(0)
        assert server.sockets == ()
    await made[0].lost
    await server.wait_closed()


@pytest.mark.parametrize("where", ["data_received", "connection_lost"])
def test_stop_in_a_protocol(loop, run_main, where):
    class Stopping(Recorder):
        def stop(self, *args):
            getattr(Recorder, where)(self, *args)
            loop.stop()

    setattr(Stopping, where, Stopping.stop)

    async def connect():
        ours, peer = tcp_pair()
        _, protocol = await loop.create_connection(Stopping, sock=ours)
        return protocol, peer

    protocol, peer = run_main(connect())
    peer.send(b"x")
    peer.close()
    loop.run_forever()
    turns(loop, 3)
    assert protocol.lost.done()
    assert protocol.data == b"x"


def test_loop_closed_between_turns_with_events_pending(loop, run_main):
    """What was readable when the loop was closed is simply dropped."""
    left, right = socket.socketpair()
    loop.add_reader(left, print)
    right.send(b"x")
    loop.call_soon(print)
    loop.close()
    left.close()
    right.close()


def test_watcher_that_closes_its_socket(loop):
    left, right = socket.socketpair()
    right.send(b"x")

    def reader():
        loop.remove_reader(left)
        left.close()

    loop.add_reader(left, reader)
    turns(loop, 3)
    assert left.fileno() == -1
    right.close()


def test_watcher_that_adds_and_removes_many(loop):
    pairs = [socket.socketpair() for _ in range(20)]
    calls = []

    def reader(number):
        calls.append(number)
        for left, _ in pairs:
            loop.remove_reader(left)
        for other, (left, _) in enumerate(pairs):
            if other not in calls:
                loop.add_reader(left, reader, other)

    for number, (left, right) in enumerate(pairs):
        right.send(b"x")
        loop.add_reader(left, reader, number)
    turns(loop, 25)
    assert sorted(calls) == list(range(20))
    for left, right in pairs:
        loop.remove_reader(left)
        left.close()
        right.close()


def test_timer_that_cancels_all_others(loop):
    ran = []
    when = loop.time() - 1
    handles = []

    def cancel_all():
        ran.append(1)
        for handle in handles:
            handle.cancel()

    for _ in range(10):
        handles.append(loop.call_at(when, cancel_all))
    turns(loop, 3)
    assert ran == [1]


def test_exception_handler_that_schedules_and_stops(loop):
    seen = []

    def handler(loop, context):
        seen.append(context["message"])
        loop.call_soon(seen.append, "scheduled")
        loop.stop()

    loop.set_exception_handler(handler)
    loop.call_soon(lambda: 1 / 0)
    loop.run_forever()
    assert len(seen) == 1
    turn(loop)
    assert seen[1:] == ["scheduled"]


def test_finalizers_that_use_the_loop(loop):
    """Objects that die inside the loop may call it."""
    ran = []

    class Dying:
        def __call__(self, *args):
            pass

        def __del__(self):
            loop.call_soon(ran.append, "from __del__")
            loop.call_later(10, print).cancel()

    # As a callback, as an argument, and by a cancellation.
    loop.call_soon(Dying())
    loop.call_soon(print_nothing, Dying())
    loop.call_later(100, Dying()).cancel()
    turns(loop, 2)
    gc.collect()
    turns(loop, 2)
    assert ran == ["from __del__"] * 3


def print_nothing(_):
    pass


def test_finalizers_at_close(loop):
    """Closing drops what is queued; a finalizer finds the loop closed."""
    seen = []

    class Dying:
        def __call__(self):
            pass

        def __del__(self):
            try:
                loop.call_soon(print)
            except RuntimeError as exc:
                seen.append(str(exc))

    loop.call_soon(Dying())
    loop.call_later(10, Dying())
    loop.call_soon_threadsafe(Dying())
    loop.close()
    gc.collect()
    assert set(seen) <= {"Event loop is closed"}
    assert len(seen) == 3


async def test_set_protocol_in_data_received(loop):
    second = Recorder()

    class Handing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.set_protocol(second)

    async with connected(loop, Handing) as (transport, protocol, peer):
        peer.send(b"one")
        await protocol.received(3)
        peer.send(b"two")
        assert await second.received(3) == b"two"
        assert protocol.data == b"one"


async def test_write_and_close_from_each_others_callbacks(loop):
    """Two ends of one connection in one loop, each answering the other."""

    class Ping(Recorder):
        def data_received(self, data):
            super().data_received(data)
            if len(self.data) < 1000:
                self.transport.write(b"x")
            else:
                self.transport.close()

    ours, theirs = tcp_pair()
    one, first = await loop.create_connection(Ping, sock=ours)
    two, second = await loop.create_connection(Ping, sock=theirs)
    one.write(b"x")
    await first.lost
    await second.lost
    await spin()
    assert len(first.data) + len(second.data) >= 1999
