# SPDX-License-Identifier: MIT
"""Stream transports: what arrives, how, and when."""

import asyncio
import socket

import pytest

from support.leaks import join_all, spawn
from support.net import (
    connected,
    peer_recv,
    reset,
    small_pair,
    spin,
    tcp_pair,
    until,
    wait_readable,
)
from support.protocols import Buffered, HalfOpen, Recorder

row = pytest.mark.row
MAX_READ = 256 * 1024


def fd_of(transport):
    return transport.get_extra_info("socket").fileno()


class Chunks(Recorder):
    """Keeps the pieces apart."""

    def __init__(self):
        super().__init__()
        self.chunks = []

    def data_received(self, data):
        self.chunks.append(data)
        super().data_received(data)


@row("P4E-007")
async def test_data_is_bytes(loop):
    async with connected(loop, Chunks) as (transport, protocol, peer):
        peer.send(b"hello")
        await protocol.received(5)
        assert [type(chunk) for chunk in protocol.chunks] == [bytes]
        assert protocol.chunks == [b"hello"]


@row("P4E-007")
@pytest.mark.parametrize(
    "size", [1, 100, 4096, 65535, 65536, 262144, 262145, 1 << 20, 5 << 20]
)
async def test_all_sizes_arrive_intact(loop, size):
    data = bytes(range(251)) * (size // 251 + 1)
    data = data[:size]
    async with connected(loop, Chunks) as (transport, protocol, peer):
        thread = spawn(peer.sendall, data)
        assert await protocol.received(size) == data
        join_all([thread])
        assert max(map(len, protocol.chunks)) <= MAX_READ
        assert all(type(chunk) is bytes for chunk in protocol.chunks)


async def test_chunks_are_not_changed_afterwards(loop):
    """What a protocol keeps is its own, whatever is read later."""
    async with connected(loop, Chunks) as (transport, protocol, peer):
        total = b""
        for number in range(200):
            piece = bytes([number]) * (number * 37 % 5000 + 1)
            peer.sendall(piece)
            total += piece
            await protocol.received(len(total))
        assert b"".join(protocol.chunks) == total


@row("P4E-007")
async def test_one_read_per_turn(loop):
    async with connected(loop, Chunks) as (transport, protocol, peer):
        await spin(2)
        transport.pause_reading()
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4 << 20)
        peer.settimeout(0.05)
        try:
            for _ in range(64):
                peer.sendall(bytes(65536))
        except TimeoutError:
            pass
        transport.resume_reading()
        seen = []
        while not protocol.chunks:
            await asyncio.sleep(0)
        for _ in range(3):
            seen.append(len(protocol.chunks))
            await asyncio.sleep(0)
        assert seen == [1, 2, 3]


@row("P4E-002")
async def test_pause_reading_in_connection_made(loop):
    class Paused(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async with connected(loop, Paused) as (transport, protocol, peer):
        assert not transport.is_reading()
        peer.send(b"waits")
        wait_readable(fd_of(transport))
        await spin(5)
        assert protocol.data == b""
        transport.resume_reading()
        assert await protocol.received(5) == b"waits"


@row("P2E-002", "P2E-003")
async def test_pause_and_resume(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        assert transport.is_reading()
        assert transport.pause_reading() is None
        assert not transport.is_reading()
        transport.pause_reading()
        peer.send(b"first")
        wait_readable(fd_of(transport))
        await spin(5)
        assert protocol.data == b""
        assert transport.resume_reading() is None
        transport.resume_reading()
        assert transport.is_reading()
        assert await protocol.received(5) == b"first"


async def test_pause_within_data_received(loop):
    class OneAtATime(Chunks):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async with connected(loop, OneAtATime) as (transport, protocol, peer):
        peer.send(b"one")
        await protocol.received(3)
        peer.send(b"two")
        wait_readable(fd_of(transport))
        await spin(5)
        assert protocol.chunks == [b"one"]
        transport.resume_reading()
        await protocol.received(6)
        assert protocol.chunks == [b"one", b"two"]


async def test_pause_and_resume_in_one_callback(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        for _ in range(5):
            transport.pause_reading()
            transport.resume_reading()
        peer.send(b"x")
        assert await protocol.received(1) == b"x"


async def test_end_of_file_waits_while_paused(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        transport.pause_reading()
        peer.send(b"last words")
        peer.shutdown(socket.SHUT_WR)
        await spin(5)
        assert protocol.calls == ["connection_made"]
        transport.resume_reading()
        assert await protocol.lost is None
        assert protocol.calls[1:] == [
            "data_received",
            "eof_received",
            "connection_lost",
        ]
        assert protocol.data == b"last words"


@row("P2E-002", "P2E-003")
async def test_reading_state_of_a_closed_transport(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.close()
        assert not transport.is_reading()
        transport.pause_reading()
        transport.resume_reading()
        assert not transport.is_reading()
        await protocol.lost
        transport.pause_reading()
        transport.resume_reading()


@row("P4E-008")
async def test_end_of_file_closes(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        peer.shutdown(socket.SHUT_WR)
        assert await protocol.lost is None
        assert protocol.calls == [
            "connection_made",
            "eof_received",
            "connection_lost",
        ]
        assert transport.is_closing()
        assert peer.recv(1) == b""


def test_end_of_file_is_told_again_after_an_interrupt(loop, run_main):
    class Interrupts(Recorder):
        def eof_received(self):
            super().eof_received()
            if self.calls.count("eof_received") == 1:
                raise KeyboardInterrupt

    async def connect():
        ours, peer = tcp_pair()
        _, protocol = await loop.create_connection(Interrupts, sock=ours)
        return protocol, peer

    protocol, peer = run_main(connect())
    with peer:
        peer.shutdown(socket.SHUT_WR)
        with pytest.raises(KeyboardInterrupt):
            loop.run_until_complete(protocol.lost)
        assert loop.run_until_complete(protocol.lost) is None
    assert protocol.calls.count("eof_received") == 2


@row("P4E-008")
@pytest.mark.parametrize("value", [None, False, 0, "", []])
async def test_false_return_values_of_eof_received(loop, value):
    class Ends(Recorder):
        def eof_received(self):
            super().eof_received()
            return value

    async with connected(loop, Ends) as (transport, protocol, peer):
        peer.shutdown(socket.SHUT_WR)
        assert await protocol.lost is None


@row("P4E-008")
async def test_end_of_file_still_flushes(loop):
    data = bytes(1 << 20)
    async with connected(loop, Recorder, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        transport.write(data)
        assert transport.get_write_buffer_size() > 0
        peer.shutdown(socket.SHUT_WR)
        await protocol.eof
        got = []
        thread = spawn(read_to_end, peer, got)
        assert await protocol.lost is None
        join_all([thread])
        assert b"".join(got) == data


def read_to_end(sock, got):
    while data := sock.recv(1 << 16):
        got.append(data)


@row("P4E-009")
async def test_half_open(loop):
    async with connected(loop, HalfOpen) as (transport, protocol, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.eof
        await spin(5)
        assert not transport.is_closing()
        assert transport.is_reading()
        assert protocol.calls.count("eof_received") == 1
        transport.write(b"still talking")
        assert await peer_recv(peer) == b"still talking"
        transport.close()
        assert await protocol.lost is None
        assert peer.recv(1) == b""


async def test_half_open_spends_no_cpu(loop):
    """The end of file is reported once and then no longer watched."""
    import time

    async with connected(loop, HalfOpen) as (transport, protocol, peer):
        peer.shutdown(socket.SHUT_WR)
        await protocol.eof
        began = time.process_time()
        await asyncio.sleep(0.1)
        assert time.process_time() - began < 0.05


@row("P4E-004", "P1A-217", "P1A-218")
async def test_failing_data_received(loop, errors):
    class Failing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            raise ValueError("bad data")

    async with connected(loop, Failing) as (transport, protocol, peer):
        peer.send(b"x")
        exc = await protocol.lost
        assert type(exc) is ValueError
    (context,) = errors
    errors.clear()
    assert context == {
        "message": "Fatal error: protocol.data_received() call failed.",
        "exception": exc,
        "transport": transport,
        "protocol": protocol,
    }


@row("P4E-005")
async def test_failing_eof_received(loop, errors):
    class Failing(Recorder):
        def eof_received(self):
            super().eof_received()
            raise ValueError("bad end")

    async with connected(loop, Failing) as (transport, protocol, peer):
        peer.shutdown(socket.SHUT_WR)
        exc = await protocol.lost
        assert type(exc) is ValueError
    (context,) = errors
    errors.clear()
    assert context["message"] == (
        "Fatal error: protocol.eof_received() call failed."
    )
    assert context["exception"] is exc
    assert context["transport"] is transport
    assert context["protocol"] is protocol


@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
@pytest.mark.parametrize("where", ["data_received", "eof_received"])
def test_exit_exceptions_leave_the_loop(loop, run_main, kind, where):
    class Leaving(Recorder):
        def leave(self, *args):
            raise kind()

    setattr(Leaving, where, Leaving.leave)

    async def connect():
        ours, peer = tcp_pair()
        made = await loop.create_connection(Leaving, sock=ours)
        return *made, peer

    transport, protocol, peer = run_main(connect())
    if where == "data_received":
        peer.send(b"x")
    else:
        peer.shutdown(socket.SHUT_WR)
    with pytest.raises(kind):
        loop.run_until_complete(asyncio.sleep(10))
    assert not transport.is_closing()
    transport.abort()
    for task in asyncio.all_tasks(loop):
        task.cancel()
    run_main(asyncio.sleep(0))
    run_main(asyncio.sleep(0))
    peer.close()


@row("P4E-027")
async def test_reset_by_the_peer(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        reset(peer)
        exc = await protocol.lost
        assert type(exc) is ConnectionResetError
        assert exc.errno == 104
        assert "eof_received" not in protocol.calls


async def test_data_before_a_reset_or_an_end(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        peer.send(b"last words")
        peer.close()
        assert await protocol.lost is None
        assert protocol.data == b"last words"


@row("P2E-005", "P4E-032")
async def test_set_protocol(loop):
    async with connected(loop, Recorder) as (transport, first, peer):
        peer.send(b"one")
        await first.received(3)
        second = Recorder()
        assert transport.set_protocol(second) is None
        assert transport.get_protocol() is second
        peer.send(b"two")
        assert await second.received(3) == b"two"
        assert first.data == b"one"
        third = Buffered()
        transport.set_protocol(third)
        peer.send(b"three")
        assert await third.received(5) == b"three"
        transport.set_protocol(first)
        peer.close()
        await first.lost
        assert first.calls[-2:] == ["eof_received", "connection_lost"]
        assert "connection_made" not in second.calls + third.calls
        assert "connection_lost" not in second.calls + third.calls


async def test_methods_replaced_in_mid_stream(loop):
    """Protocol methods are looked up at each call."""
    async with connected(loop, Recorder) as (transport, protocol, peer):
        peer.send(b"one")
        await protocol.received(3)
        got = []
        protocol.data_received = got.append
        peer.send(b"two")
        await until(lambda: got)
        assert got == [b"two"]
        del protocol.data_received
        peer.send(b"three")
        assert await protocol.received(8) == b"onethree"


async def test_abort_within_data_received(loop):
    class Aborting(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.abort()
            self.calls.append("returned")

    async with connected(loop, Aborting) as (transport, protocol, peer):
        peer.send(b"x")
        assert await protocol.lost is None
        assert protocol.calls == [
            "connection_made",
            "data_received",
            "returned",
            "connection_lost",
        ]


async def test_close_within_data_received_drops_what_follows(loop):
    class Closing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.close()

    async with connected(loop, Closing) as (transport, protocol, peer):
        peer.send(b"one")
        await protocol.received(3)
        try:
            peer.send(b"two")
        except ConnectionError:
            pass
        await protocol.lost
        await spin(3)
        assert protocol.data == b"one"
        assert protocol.calls.count("connection_lost") == 1


async def test_many_streams_at_once(loop):
    pairs = [tcp_pair() for _ in range(50)]
    protocols = []
    for ours, _ in pairs:
        made = await loop.create_connection(Recorder, sock=ours)
        protocols.append(made[1])
    for round_ in range(5):
        for number, (_, peer) in enumerate(pairs):
            peer.send(b"%02d" % number)
        for number, protocol in enumerate(protocols):
            wanted = (round_ + 1) * 2
            assert await protocol.received(wanted) == b"%02d" % number * (
                round_ + 1
            )
    for _, peer in pairs:
        peer.close()
    await asyncio.gather(*(protocol.lost for protocol in protocols))
