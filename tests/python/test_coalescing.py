# SPDX-License-Identifier: MIT
"""Writes of one callback leave together, and nobody can tell but a clock."""

import asyncio
import os
import signal
import socket

import pytest

from support.leaks import join_all, spawn
from support.loops import turn, turns
from support.net import (
    connected,
    data_segments_in,
    peer_reads,
    peer_recv,
    recv_all,
    reset,
    spin,
    tcp_pair,
)
from support.protocols import HalfOpen, Recorder

row = pytest.mark.row
becket_only = pytest.mark.becket_only
# Whoever runs the tests may have threads of its own.
ignore_fork_warning = pytest.mark.filterwarnings(
    "ignore:This process .* is multi-threaded:DeprecationWarning"
)


def there(sock):
    """What a peer has received by now, without waiting."""
    sock.setblocking(False)
    try:
        return sock.recv(1 << 20)
    except BlockingIOError:
        return None
    finally:
        sock.settimeout(10)


async def segments_of(loop, write):
    """How many segments the writes of one callback become."""
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        before = data_segments_in(peer)
        write(transport)
        await spin(2)
        count = data_segments_in(peer) - before
        return count, recv_of(peer)


def recv_of(peer):
    data = there(peer)
    return data if data is not None else b""


def header_and_body(transport):
    transport.write(b"header ")
    transport.write(b"body")


@becket_only("CPython sends inside each write()")
async def test_header_and_body_are_one_segment(loop):
    assert loop.write_through is False
    found = await segments_of(loop, header_and_body)
    assert found == (1, b"header body")


@becket_only("CPython has no such switch")
async def test_write_through_turns_it_off(loop):
    loop.write_through = True
    assert loop.write_through is True
    found = await segments_of(loop, header_and_body)
    assert found == (2, b"header body")
    loop.write_through = False
    found = await segments_of(loop, header_and_body)
    assert found == (1, b"header body")


@becket_only("CPython sends inside each write()")
async def test_write_and_writelines_are_one_segment(loop):
    def write(transport):
        transport.write(b"a")
        transport.writelines([b"b", b"c"])
        transport.write(bytearray(b"d"))

    assert await segments_of(loop, write) == (1, b"abcd")


async def test_writes_of_two_callbacks_are_two_segments(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        before = data_segments_in(peer)
        loop.call_soon(transport.write, b"one")
        loop.call_soon(transport.write, b"two")
        await spin(2)
        assert data_segments_in(peer) - before == 2


async def test_bytes_leave_when_the_callback_returns(loop):
    """The next callback of the same turn finds them at the peer."""
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        seen = []
        loop.call_soon(transport.write, b"x")
        loop.call_soon(lambda: seen.append(there(peer)))
        await spin(2)
        assert seen == [b"x"]


async def test_write_then_call_soon(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        seen = []

        def write():
            transport.write(b"x")
            loop.call_soon(lambda: seen.append(there(peer)))

        loop.call_soon(write)
        await spin(3)
        assert seen == [b"x"]


async def test_bytes_leave_after_a_callback_that_raised(loop, errors):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        seen = []

        def write():
            transport.write(b"x")
            raise ValueError("after writing")

        loop.call_soon(write)
        loop.call_soon(lambda: seen.append(there(peer)))
        await spin(2)
        assert seen == [b"x"]
    assert len(errors) == 1
    errors.clear()


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_bytes_leave_before_the_loop_is_left(loop, run_main, kind):
    async def connect():
        ours, peer = tcp_pair()
        transport, _ = await loop.create_connection(Recorder, sock=ours)
        return transport, peer

    transport, peer = run_main(connect())

    def leave():
        transport.write(b"last")
        raise kind()

    loop.call_soon(leave)
    with pytest.raises(kind):
        loop.run_forever()
    assert there(peer) == b"last"
    transport.abort()
    turns(loop, 2)
    peer.close()


def test_bytes_leave_before_stop_returns(loop, run_main):
    async def connect():
        ours, peer = tcp_pair()
        transport, _ = await loop.create_connection(Recorder, sock=ours)
        return transport, peer

    transport, peer = run_main(connect())
    loop.call_soon(lambda: (transport.write(b"x"), loop.stop()))
    loop.run_forever()
    assert there(peer) == b"x"
    transport.abort()
    turns(loop, 2)
    peer.close()


@pytest.mark.parametrize(
    "look",
    [
        lambda transport: transport.is_closing(),
        lambda transport: transport.get_write_buffer_size(),
        lambda transport: transport.set_write_buffer_limits(high=100),
        lambda transport: transport.close(),
        lambda transport: transport.abort(),
        lambda transport: transport.write_eof(),
        lambda transport: transport.set_protocol(asyncio.Protocol()),
    ],
    ids=[
        "is_closing",
        "get_write_buffer_size",
        "set_write_buffer_limits",
        "close",
        "abort",
        "write_eof",
        "set_protocol",
    ],
)
async def test_what_could_tell_flushes_first(loop, look):
    async with connected(loop, HalfOpen) as (transport, protocol, peer):
        await spin(2)
        transport.write(b"x")
        look(transport)
        assert there(peer) == b"x"


async def test_use_of_the_socket_object_flushes_first(loop):
    async with connected(loop, HalfOpen) as (transport, protocol, peer):
        await spin(2)
        sock = transport.get_extra_info("socket")
        transport.write(b"first")
        sock.shutdown(socket.SHUT_WR)
        assert recv_all(peer) == b"first"


async def test_no_buffer_when_the_kernel_takes_it(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.write(b"a" * 1000)
        transport.write(b"b" * 1000)
        assert transport.get_write_buffer_size() == 0


async def test_a_write_to_a_reset_peer_shows_at_once(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        transport.pause_reading()
        reset(peer)
        transport.write(b"x")
        assert transport.is_closing()
        assert isinstance(await protocol.lost, ConnectionError)


async def test_write_then_abort_sends(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.write(b"x")
        transport.abort()
        await protocol.lost
        assert recv_all(peer) == b"x"


async def test_streams_flush_in_the_order_of_their_first_write(loop):
    order = []

    class Noting(Recorder):
        def data_received(self, data):
            order.append((self.name, data))

    senders, receivers = [], []
    for name in "abc":
        ours, theirs = tcp_pair()
        made = await loop.create_connection(Recorder, sock=ours)
        senders.append(made[0])
        made = await loop.create_connection(Noting, sock=theirs)
        made[1].name = name
        receivers.append(made[0])
    await spin(2)
    a, b, c = senders
    b.write(b"1")
    a.write(b"2")
    c.write(b"3")
    b.write(b"4")
    await spin(5)
    # Pollers report ready descriptors in an order of their own.
    found = dict.fromkeys(name for name, _ in order)
    assert set(found) == {"a", "b", "c"}
    data = {n: b"".join(d for m, d in order if m == n) for n in "abc"}
    assert data == {"a": b"2", "b": b"14", "c": b"3"}
    for transport in senders + receivers:
        transport.abort()
    await spin(3)


async def test_drain_and_pause_as_without_it(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=100)
        for _ in range(10):
            transport.write(b"x" * 90)
        # The kernel takes it all: whatever waits for the end of the
        # callback is not the protocol's affair.
        assert "pause_writing" not in protocol.calls
        await peer_reads(peer, 900)


async def test_past_the_high_water_mark_it_leaves_at_once(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        transport.set_write_buffer_limits(high=1000)
        transport.write(b"x" * 600)
        transport.write(b"x" * 600)
        assert there(peer) is not None
        assert protocol.calls == ["connection_made"]


@ignore_fork_warning
async def test_fork_duplicates_nothing(loop):
    """What is queued at a fork goes out once."""
    async with connected(loop, HalfOpen) as (transport, protocol, peer):
        await spin(2)
        transport.write(b"once")
        pid = os.fork()
        if pid == 0:
            os._exit(0)
        os.waitpid(pid, 0)
        transport.write(b" only")
        transport.write_eof()
        assert recv_all(peer) == b"once only"


@ignore_fork_warning
async def test_a_forked_child_finds_what_was_written(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        transport.write(b"before the child")
        pid = os.fork()
        if pid == 0:
            os._exit(there(peer) != b"before the child")
        assert os.waitpid(pid, 0)[1] == 0


async def test_write_from_another_thread_leaves_at_once(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        join_all([spawn(transport.write, b"x")])
        assert there(peer) == b"x"


def test_write_outside_the_loop_leaves_at_once(loop, run_main):
    async def connect():
        ours, peer = tcp_pair()
        transport, _ = await loop.create_connection(Recorder, sock=ours)
        return transport, peer

    transport, peer = run_main(connect())
    transport.write(b"x")
    assert there(peer) == b"x"
    transport.abort()
    turns(loop, 2)
    peer.close()


def test_python_signal_handlers_writes_leave(loop, run_main):
    """Code that runs outside any callback is flushed too."""

    async def connect():
        ours, peer = tcp_pair()
        transport, _ = await loop.create_connection(Recorder, sock=ours)
        return transport, peer

    transport, peer = run_main(connect())
    before = signal.signal(
        signal.SIGALRM, lambda *_: transport.write(b"from a handler")
    )
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.01)
        assert run_main(read(peer)) == b"from a handler"
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    transport.abort()
    turns(loop, 2)
    peer.close()


async def read(peer):
    return await peer_recv(peer)


def test_finalizers_writes_leave(loop, run_main):
    async def connect():
        ours, peer = tcp_pair()
        transport, _ = await loop.create_connection(Recorder, sock=ours)
        return transport, peer

    transport, peer = run_main(connect())

    class Dying:
        def __del__(self):
            transport.write(b"from a finalizer")

    loop.call_soon(id, Dying())
    turn(loop)
    assert there(peer) == b"from a finalizer"
    transport.abort()
    turns(loop, 2)
    peer.close()


async def test_big_and_small_writes_keep_their_order(loop):
    async with connected(loop, HalfOpen) as (transport, protocol, peer):
        wanted = bytearray()
        for size in (1, 100000, 5, 20000, 3, 16384, 16383, 7):
            piece = os.urandom(size)
            transport.write(piece if size % 2 else bytearray(piece))
            wanted += piece
        transport.write_eof()
        got = await asyncio.to_thread(recv_all, peer)
        assert got == wanted


async def test_unix_streams_too(loop):
    ours, peer = socket.socketpair()
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    await spin(2)
    transport.write(b"a")
    transport.write(b"b")
    await spin(2)
    assert there(peer) == b"ab"
    transport.abort()
    await spin(2)
    peer.close()


async def test_seqpacket_is_refused_or_kept_apart(loop):
    """A socket that keeps records is no stream: it is not taken at all."""
    ours, peer = socket.socketpair(type=socket.SOCK_SEQPACKET)
    with ours, peer:
        with pytest.raises(ValueError, match="A Stream Socket was expected"):
            await loop.create_connection(Recorder, sock=ours)
