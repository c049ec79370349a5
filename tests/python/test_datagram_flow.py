# SPDX-License-Identifier: MIT
"""Datagrams that wait for the kernel: marks, accounting, order, the end."""

import asyncio
import contextlib
import contextvars
import errno
import socket
import sys

import pytest

from support.datagrams import Endpoint, finish, small_unix_pair
from support.loops import PY313
from support.net import spin, until

row = pytest.mark.row

KB = 1024
# What a datagram that waits counts beyond its bytes.
HEADER = 8 if PY313 else 0
# CPython 3.13.0 adds the header and never takes it away again.
oracle_leaks = pytest.mark.oracle_skip(
    "its accounting leaks 8 bytes for each datagram that waited",
    when=(3, 13) <= sys.version_info < (3, 14),
)


@contextlib.asynccontextmanager
async def paired(loop, factory=Endpoint, path=None):
    """An endpoint whose peer takes few datagrams; (transport, proto, peer)."""
    left, right = small_unix_pair()
    transport, protocol = await loop.create_datagram_endpoint(
        factory, sock=left
    )
    right.setblocking(False)
    try:
        yield transport, protocol, right
    finally:
        right.close()
        await finish(transport)


@contextlib.asynccontextmanager
async def named(loop, folder, factory=Endpoint):
    """As paired(), with a peer that has a name."""
    path = str(folder / "peer")
    peer = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    peer.bind(path)
    peer.setblocking(False)
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    sock.connect(path)
    transport, protocol = await loop.create_datagram_endpoint(
        factory, sock=sock
    )
    try:
        yield transport, protocol, peer
    finally:
        peer.close()
        await finish(transport)


def data_of(number, size=KB):
    return b"%-*d" % (size, number)


def fill(transport, size=KB):
    """Send until something waits; returns how many were sent."""
    count = 0
    while (
        transport.get_write_buffer_size() == 0 and not transport.is_closing()
    ):
        transport.sendto(data_of(count, size))
        count += 1
    return count


def take(peer):
    """What is there now."""
    found = []
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(peer.recv(1 << 16))
    return found


async def drain(peer, count):
    """Read count datagrams while the loop runs."""
    found = []

    def enough():
        found.extend(take(peer))
        return len(found) >= count

    await until(enough)
    return found


@row("P2E-010", "P2E-009")
async def test_accounting(loop, tmp_path):
    async with named(loop, tmp_path) as (transport, _, _):
        fill(transport)
        assert transport.get_write_buffer_size() == KB + HEADER
        transport.sendto(b"x" * 10)
        assert transport.get_write_buffer_size() == KB + 10 + 2 * HEADER
        transport.sendto(b"")
        assert transport.get_write_buffer_size() == KB + 10 + (
            3 * HEADER if PY313 else 0
        )
        assert "write=<polling" in repr(transport)


@oracle_leaks
@row("P2E-010")
async def test_accounting_ends_at_nothing(loop, tmp_path):
    async with named(loop, tmp_path) as (transport, protocol, peer):
        count = fill(transport)
        for number in range(count, count + 100):
            transport.sendto(data_of(number))
        found = await drain(peer, count + 100)
        assert found == [data_of(i) for i in range(count + 100)]
        await until(lambda: transport.get_write_buffer_size() == 0)
        assert protocol.calls[1:] == ["pause_writing", "resume_writing"]


@row("P2E-006")
async def test_limits(loop, tmp_path):
    async with named(loop, tmp_path) as (transport, protocol, peer):
        assert transport.get_write_buffer_limits() == (16 * KB, 64 * KB)
        transport.set_write_buffer_limits(high=100)
        assert transport.get_write_buffer_limits() == (25, 100)
        transport.set_write_buffer_limits(low=10)
        assert transport.get_write_buffer_limits() == (10, 40)
        with pytest.raises(ValueError, match="must be >= low"):
            transport.set_write_buffer_limits(high=1, low=2)
        transport.set_write_buffer_limits(high=2000, low=1500)
        count = fill(transport)
        assert protocol.calls[1:] == []
        transport.sendto(data_of(count))
        assert protocol.calls[1:] == ["pause_writing"]
        await drain(peer, count + 1)
        await until(lambda: "resume_writing" in protocol.calls)


async def test_lower_limits_pause_at_once(loop, tmp_path):
    async with named(loop, tmp_path) as (transport, protocol, _):
        fill(transport)
        transport.set_write_buffer_limits(high=0)
        assert protocol.calls[1:] == ["pause_writing"]


async def test_what_waits_does_not_change(loop, tmp_path):
    async with named(loop, tmp_path) as (transport, _, peer):
        count = fill(transport)
        data = bytearray(b"before")
        transport.sendto(data)
        transport.sendto(memoryview(data))
        data[:] = b"after!"
        found = await drain(peer, count + 2)
        assert found[-2:] == [b"before"] * 2


@row("P4G-008")
async def test_close_sends_what_waits(loop, tmp_path):
    async with named(loop, tmp_path) as (transport, protocol, peer):
        count = fill(transport)
        transport.close()
        await spin(5)
        assert "connection_lost" not in protocol.calls
        assert transport.is_closing()
        transport.sendto(b"behind")
        found = await drain(peer, count + 1)
        assert found[-1] == b"behind"
        assert await asyncio.wait_for(protocol.lost, 10) is None


async def test_abort_drops_what_waits(loop, tmp_path):
    async with named(loop, tmp_path) as (transport, protocol, peer):
        count = fill(transport)
        transport.close()
        transport.abort()
        assert await asyncio.wait_for(protocol.lost, 10) is None
        assert len(take(peer)) == count - 1


async def test_failures_of_what_waits(loop, tmp_path):
    """One each turn, as they come."""
    async with named(loop, tmp_path) as (transport, protocol, peer):
        fill(transport)
        transport.sendto(b"x")
        peer.close()
        await protocol.failed(2)
        # The first tells of the end, and ends the connection as well.
        assert [error.errno for error in protocol.errors] == [
            errno.ECONNREFUSED,
            errno.ENOTCONN,
        ]
        assert not transport.is_closing()
        await spin(2)  # CPython's writer stays for one event more


async def test_callbacks_that_fail(loop, tmp_path, errors):
    class Failing(Endpoint):
        def pause_writing(self):
            super().pause_writing()
            raise LookupError("pause")

        def resume_writing(self):
            super().resume_writing()
            raise LookupError("resume")

    async with named(loop, tmp_path, Failing) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=100, low=50)
        count = fill(transport)
        await drain(peer, count)
        await until(lambda: "resume_writing" in protocol.calls)
        assert [context["message"] for context in errors] == [
            "protocol.pause_writing() failed",
            "protocol.resume_writing() failed",
        ]
        assert all(context["transport"] is transport for context in errors)
        assert all(context["protocol"] is protocol for context in errors)
        errors.clear()


async def test_exit_from_pause_writing(loop, tmp_path):
    class Leaving(Endpoint):
        def pause_writing(self):
            raise KeyboardInterrupt

    async with named(loop, tmp_path, Leaving) as (transport, _, _):
        transport.set_write_buffer_limits(high=100, low=50)
        with pytest.raises(KeyboardInterrupt):
            fill(transport)


async def end_in(loop, tmp_path, end, where):
    class Ending(Endpoint):
        def pause_writing(self):
            super().pause_writing()
            if where == "pause_writing":
                getattr(self.transport, end)()

        def resume_writing(self):
            super().resume_writing()
            if where == "resume_writing":
                getattr(self.transport, end)()

    async with named(loop, tmp_path, Ending) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=100, low=50)
        fill(transport)

        def over():
            take(peer)
            return protocol.lost.done()

        await until(over)
        assert protocol.calls.count("connection_lost") == 1


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_end_in_pause_writing(loop, tmp_path, end):
    await end_in(loop, tmp_path, end, "pause_writing")


@pytest.mark.oracle_skip("it calls connection_lost() twice then")
@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_end_in_resume_writing(loop, tmp_path, end):
    await end_in(loop, tmp_path, end, "resume_writing")


async def test_resume_writing_may_send(loop, tmp_path):
    class Sending(Endpoint):
        def resume_writing(self):
            super().resume_writing()
            self.transport.sendto(b"from resume_writing")

    async with named(loop, tmp_path, Sending) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=100, low=50)
        count = fill(transport)
        transport.close()
        found = await drain(peer, count + 1)
        assert found[-1] == b"from resume_writing"
        assert await asyncio.wait_for(protocol.lost, 10) is None


async def test_contexts(loop, tmp_path):
    """What comes of a send that waited runs in its context."""
    variable = contextvars.ContextVar("variable", default="none")

    class Looking(Endpoint):
        def resume_writing(self):
            super().resume_writing()
            self.calls.append(variable.get())

        def connection_lost(self, exc):
            self.calls.append(variable.get())
            super().connection_lost(exc)

    async with named(loop, tmp_path, Looking) as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=100, low=50)
        variable.set("filling")
        count = fill(transport)
        variable.set("closing")
        transport.close()
        variable.set("later")
        await drain(peer, count)
        await asyncio.wait_for(protocol.lost, 10)
        assert protocol.calls[-3:] == ["filling", "filling", "connection_lost"]


async def test_a_pair_without_names(loop, errors):
    """asyncio takes a peer without a name for none: sendto() needs one."""
    async with paired(loop) as (transport, protocol, peer):
        peer.send(b"hello")
        assert await protocol.received(1) == [b"hello"]
        assert protocol.senders == [None]
        transport.sendto(b"x")
        error = await asyncio.wait_for(protocol.lost, 10)
        assert isinstance(error, TypeError)
        errors.clear()
