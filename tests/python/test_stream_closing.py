# SPDX-License-Identifier: MIT
"""Stream transports: close, abort, connection_lost."""

import asyncio
import gc
import socket

import pytest

from support.leaks import join_all, spawn
from support.loops import turn
from support.net import (
    connected,
    peer_reads_all,
    recv_all,
    reset,
    small_pair,
    spin,
    tcp_pair,
)
from support.protocols import HalfOpen, Recorder

row = pytest.mark.row
BIG = 1 << 20


@row("P4E-022", "P2E-004")
async def test_close(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        assert transport.is_closing() is False
        assert transport.close() is None
        assert transport.is_closing() is True
        assert "connection_lost" not in protocol.calls
        assert await protocol.lost is None
        assert peer.recv(1) == b""


@row("P4E-022")
async def test_close_twice(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.close()
        transport.close()
        await protocol.lost
        transport.close()
        await spin(3)
        assert protocol.calls.count("connection_lost") == 1


@row("P4E-022")
async def test_connection_lost_comes_in_the_next_turn(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        order = []
        protocol.connection_lost = lambda exc: order.append("lost")
        loop.call_soon(order.append, "before")
        transport.close()
        loop.call_soon(order.append, "after")
        assert order == []
        await spin()
        assert order == ["before", "lost", "after"]


@row("P4E-022")
async def test_close_flushes(loop):
    data = bytes(range(256)) * 4096
    async with connected(loop, Recorder, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(data)
        transport.close()
        await spin(3)
        assert not protocol.lost.done()
        assert transport.get_write_buffer_size() > 0
        got = []
        thread = spawn(lambda: got.append(recv_all(peer)))
        assert await protocol.lost is None
        await asyncio.to_thread(join_all, [thread])
        assert got == [data]


@row("P4E-022")
async def test_close_stops_reading(loop):
    async with connected(loop, Recorder, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        await spin(2)
        transport.write(bytes(BIG))
        transport.close()
        peer.send(b"not heard")
        await spin(5)
        assert protocol.data == b""
        transport.abort()
        await protocol.lost


@row("P4E-023", "P4E-025")
async def test_close_with_a_stuck_peer_needs_abort(loop):
    async with connected(loop, Recorder, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(bytes(BIG))
        transport.close()
        await asyncio.sleep(0.05)
        assert not protocol.lost.done()
        transport.abort()
        assert transport.get_write_buffer_size() == 0
        assert await protocol.lost is None
        assert protocol.calls.count("connection_lost") == 1


@row("P4E-024")
async def test_abort(loop):
    async with connected(loop, Recorder, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(bytes(BIG))
        assert transport.abort() is None
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        assert await protocol.lost is None
        # What the kernel had taken still arrives, and an end, no reset.
        got = await peer_reads_all(peer)
        assert len(got) < BIG


@row("P4E-024")
async def test_abort_twice(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.abort()
        transport.abort()
        transport.close()
        await protocol.lost
        await spin(3)
        assert protocol.calls.count("connection_lost") == 1


@row("P4E-025")
async def test_abort_after_connection_lost_is_scheduled(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.close()
        transport.abort()
        await protocol.lost
        await spin(3)
        assert protocol.calls.count("connection_lost") == 1


@row("P4E-025")
@pytest.mark.becket_only("CPython's abort() raises AttributeError then")
async def test_abort_after_a_flushing_close_has_ended(loop):
    async with connected(loop, Recorder, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(bytes(BIG))
        transport.close()
        await peer_reads_all(peer)
        await protocol.lost
        transport.abort()
        transport.close()
        await spin(3)
        assert protocol.calls.count("connection_lost") == 1


async def test_write_then_abort_delivers_what_the_kernel_took(loop):
    """write() sends at once in asyncio, so abort() does not unsend it."""
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.write(b"sent before")
        transport.abort()
        await protocol.lost
        assert recv_all(peer) == b"sent before"


@row("P4E-006")
async def test_failing_connection_lost(loop, errors):
    class Failing(Recorder):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise ValueError("in connection_lost")

    async with connected(loop, Failing) as (transport, protocol, peer):
        sock = transport.get_extra_info("socket")
        transport.close()
        await protocol.lost
        await spin(2)
        assert sock.fileno() == -1
        assert peer.recv(1) == b""
    (context,) = errors
    errors.clear()
    assert str(context["exception"]) == "in connection_lost"
    assert context["message"].startswith("Exception in callback ")


@row("P4E-006")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exit_exception_in_connection_lost(loop, run_main, kind):
    class Leaving(Recorder):
        def connection_lost(self, exc):
            raise kind()

    async def connect():
        ours, peer = tcp_pair()
        transport, _ = await loop.create_connection(Leaving, sock=ours)
        return transport, ours, peer

    transport, ours, peer = run_main(connect())
    transport.close()
    with pytest.raises(kind):
        loop.run_forever()
    assert ours.fileno() == -1
    with peer:
        assert peer.recv(1) == b""
    turn(loop)


@row("P4E-028")
async def test_after_connection_lost(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        names = transport.get_extra_info("peername")
        transport.close()
        await protocol.lost
        await spin(2)
        assert transport.get_protocol() is None
        # Packages look here for whether a transport is gone.
        assert transport._loop is transport._sock is None
        assert transport.get_extra_info("peername") == names
        assert transport.get_extra_info("socket").fileno() == -1
        assert transport.is_closing()
        assert transport.get_write_buffer_size() == 0
        assert "closed" in repr(transport)


async def test_protocol_is_released_after_connection_lost(loop):
    import weakref

    ours, peer = tcp_pair()
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    alive = weakref.ref(protocol)
    transport.close()
    await protocol.lost
    await spin(2)
    del protocol
    gc.collect()
    assert alive() is None
    peer.close()


async def test_transport_is_released_after_connection_lost(loop):
    import weakref

    ours, peer = tcp_pair()
    transport, protocol = await loop.create_connection(
        asyncio.Protocol, sock=ours
    )
    alive = weakref.ref(transport)
    transport.close()
    await spin(3)
    del transport, protocol
    gc.collect()
    assert alive() is None
    peer.close()


@row("P4E-028")
async def test_connection_lost_is_the_last_call(loop):
    """Data that is there when close() comes is not delivered after it."""
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        peer.send(b"x" * 100000)
        transport.close()
        peer.close()
        await protocol.lost
        await spin(5)
        assert protocol.calls[-1] == "connection_lost"
        assert protocol.calls.count("connection_lost") == 1


async def test_close_in_connection_made(loop):
    class Closing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.close()

    ours, peer = tcp_pair()
    transport, protocol = await loop.create_connection(Closing, sock=ours)
    assert transport.is_closing()
    assert await protocol.lost is None
    assert protocol.calls == ["connection_made", "connection_lost"]
    await spin()
    peer.close()


async def test_abort_in_connection_made(loop):
    class Aborting(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"x")
            transport.abort()

    ours, peer = tcp_pair()
    transport, protocol = await loop.create_connection(Aborting, sock=ours)
    assert await protocol.lost is None
    assert protocol.calls == ["connection_made", "connection_lost"]
    await spin()
    peer.close()


async def test_close_in_eof_received(loop):
    class Closing(HalfOpen):
        def eof_received(self):
            self.transport.close()
            return super().eof_received()

    async with connected(loop, Closing) as (transport, protocol, peer):
        peer.shutdown(socket.SHUT_WR)
        assert await protocol.lost is None
        assert protocol.calls == [
            "connection_made",
            "eof_received",
            "connection_lost",
        ]


async def test_reset_while_closing(loop):
    async with connected(loop, Recorder, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(bytes(BIG))
        transport.close()
        await spin(2)
        reset(peer)
        assert isinstance(await protocol.lost, ConnectionError)
        assert protocol.calls.count("connection_lost") == 1


async def test_both_ends_close_at_once(loop):
    for _ in range(20):
        ours, theirs = tcp_pair()
        one, first = await loop.create_connection(Recorder, sock=ours)
        two, second = await loop.create_connection(Recorder, sock=theirs)
        one.write(b"a")
        two.write(b"b")
        one.close()
        two.close()
        assert await first.lost is None
        await second.lost
        await spin()
        assert ours.fileno() == theirs.fileno() == -1


async def test_set_protocol_while_closing(loop):
    async with connected(loop, Recorder) as (transport, first, peer):
        second = Recorder()
        transport.close()
        transport.set_protocol(second)
        await second.lost
        assert second.calls == ["connection_lost"]
        assert "connection_lost" not in first.calls


async def test_many_closes(loop):
    transports, protocols, peers = [], [], []
    for _ in range(100):
        ours, peer = tcp_pair()
        made = await loop.create_connection(Recorder, sock=ours)
        transports.append(made[0])
        protocols.append(made[1])
        peers.append(peer)
    for number, transport in enumerate(transports):
        if number % 2:
            transport.close()
        else:
            transport.abort()
    await asyncio.gather(*(protocol.lost for protocol in protocols))
    await spin()
    for peer in peers:
        assert peer.recv(1) == b""
        peer.close()
