# SPDX-License-Identifier: MIT
"""TLS transports: writing, flow control, buffers, what they tell."""

import asyncio
import ssl

import pytest

from support.net import peer_reads, small_pair, spin, until
from support.protocols import Buffered, Recorder
from support.tls import accepted, connected, pair

row = pytest.mark.row

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.one_poller]

MEBIBYTE = 1 << 20
KIBIBYTE = 1 << 10


# Writing.


@row("P4F-010")
@pytest.mark.parametrize(
    "bad, name",
    [("text", "str"), (None, "NoneType"), (1, "int"), ([b"x"], "list")],
)
async def test_write_takes_bytes(loop, bad, name):
    async with pair() as (client, server):
        with pytest.raises(
            TypeError,
            match=f"^data: expecting a bytes-like instance, got {name}$",
        ):
            client.transport.write(bad)
        client.transport.write(b"still there")
        assert await server.received(11) == b"still there"


@row("P4F-010")
async def test_write_takes_every_kind_of_bytes(loop):
    async with pair() as (client, server):
        changing = bytearray(b"changing ")
        client.transport.write(b"bytes ")
        client.transport.write(changing)
        changing[:] = b"x" * len(changing)
        client.transport.write(memoryview(b"--view --")[2:7])
        client.transport.write(b"")
        client.transport.writelines([b"many ", bytearray(b"kinds"), b""])
        client.transport.writelines(iter([b" of ", memoryview(b"bytes")]))
        client.transport.writelines([])
        wanted = b"bytes changing view many kinds of bytes"
        assert await server.received(len(wanted)) == wanted


@row("P4F-010")
async def test_writelines_of_text_ends_the_connection(loop, errors):
    """Unlike write(), it finds out too late to refuse."""
    async with pair() as (client, server):
        client.transport.writelines([b"good", "bad"])
        exc = await client.lost
        assert isinstance(exc, TypeError)
        await server.lost
    context = errors.pop()
    assert context["message"] == "Fatal error on SSL protocol"
    assert context["exception"] is exc


@row("P4F-010")
async def test_late_writes_warn_from_the_fifth_on(loop, caplog):
    async with pair() as (client, _):
        client.transport.abort()
        await client.lost
        for number in range(1, 8):
            client.transport.write(b"late")
            texts = [record.getMessage() for record in caplog.records]
            wanted = max(0, number - 4)
            assert texts == ["SSL connection is closed"] * wanted


async def test_write_after_close_is_dropped(loop):
    async with pair() as (client, server):
        client.transport.write(b"before")
        client.transport.close()
        client.transport.write(b"after")
        client.transport.writelines([b"after"])
        await server.lost
        assert bytes(server.data) == b"before"


@row("P2E-011")
async def test_no_write_eof(loop):
    async with pair() as (client, server):
        assert client.transport.can_write_eof() is False
        with pytest.raises(NotImplementedError):
            client.transport.write_eof()
        client.transport.write(b"still there")
        assert await server.received(11) == b"still there"


# Flow control of writing.


async def block(transport):
    """Write until the transport holds something back."""
    while not transport.get_write_buffer_size():
        transport.write(bytes(16 * KIBIBYTE))
        await asyncio.sleep(0)
    await spin(5)


@row("P4F-011", "P2E-006")
async def test_write_buffer_limits(loop):
    async with pair() as (client, _):
        transport = client.transport
        assert transport.get_write_buffer_size() == 0
        defaults = (128 * KIBIBYTE, 512 * KIBIBYTE)
        assert transport.get_write_buffer_limits() == defaults
        transport.set_write_buffer_limits(high=1000)
        assert transport.get_write_buffer_limits() == (250, 1000)
        transport.set_write_buffer_limits(low=1000)
        assert transport.get_write_buffer_limits() == (1000, 4000)
        transport.set_write_buffer_limits(high=10, low=10)
        assert transport.get_write_buffer_limits() == (10, 10)
        for high, low in ((10, 11), (-1, None), (None, -1)):
            with pytest.raises(ValueError, match="must be >= "):
                transport.set_write_buffer_limits(high, low)
        assert transport.get_write_buffer_limits() == (10, 10)
        transport.set_write_buffer_limits()
        assert transport.get_write_buffer_limits() == defaults


@row("P4F-011")
async def test_writing_is_paused_at_the_mark_itself(loop):
    """Over TCP it is paused above the mark only."""
    async with connected(sockets=small_pair) as (transport, protocol, _):
        await block(transport)
        size = transport.get_write_buffer_size()
        transport.set_write_buffer_limits(high=size + 1, low=0)
        assert "pause_writing" not in protocol.calls
        transport.set_write_buffer_limits(high=size, low=0)
        assert protocol.calls.count("pause_writing") == 1
        transport.set_write_buffer_limits(high=size + 2, low=size - 1)
        assert "resume_writing" not in protocol.calls
        transport.set_write_buffer_limits(high=size + 2, low=size)
        assert protocol.calls.count("resume_writing") == 1


@row("P4F-011")
async def test_zero_limit_can_not_be_gone_below(loop):
    """At a mark of zero even an empty buffer is full, and stays so."""
    async with connected() as (transport, protocol, _):
        transport.set_write_buffer_limits(high=0)
        assert protocol.calls == ["connection_made", "pause_writing"]


@row("P4F-011")
async def test_paused_and_resumed_while_the_peer_reads(loop):
    async with connected(sockets=small_pair) as (transport, protocol, peer):
        written = 0
        while "pause_writing" not in protocol.calls:
            transport.write(bytes(64 * KIBIBYTE))
            written += 64 * KIBIBYTE
            await asyncio.sleep(0)
        assert transport.get_write_buffer_size() >= 512 * KIBIBYTE
        assert await peer_reads(peer, written) == bytes(written)
        await spin(5)
        assert protocol.calls.count("pause_writing") == 1
        assert protocol.calls.count("resume_writing") == 1
        assert transport.get_write_buffer_size() == 0


@pytest.mark.parametrize("callback", ["pause_writing", "resume_writing"])
async def test_flow_control_callback_fails(loop, errors, callback):
    class Failing(Recorder):
        pass

    def fail(self):
        self.calls.append(callback)
        raise ZeroDivisionError(callback)

    setattr(Failing, callback, fail)
    async with connected(Failing, sockets=small_pair) as (
        transport,
        protocol,
        peer,
    ):
        await block(transport)
        size = transport.get_write_buffer_size()
        transport.set_write_buffer_limits(high=size, low=0)
        transport.set_write_buffer_limits(high=2 * size, low=size)
        assert callback in protocol.calls
        assert not protocol.lost.done()
        context = errors.pop()
        assert context["message"] == f"protocol.{callback}() failed"
        assert isinstance(context["exception"], ZeroDivisionError)


# Flow control of reading.


@row("P2E-007")
async def test_read_buffer_limits(loop):
    async with pair() as (client, _):
        transport = client.transport
        assert transport.get_read_buffer_size() == 0
        defaults = (64 * KIBIBYTE, 256 * KIBIBYTE)
        assert transport.get_read_buffer_limits() == defaults
        transport.set_read_buffer_limits(high=1000)
        assert transport.get_read_buffer_limits() == (250, 1000)
        transport.set_read_buffer_limits(low=1000)
        assert transport.get_read_buffer_limits() == (1000, 4000)
        for high, low in ((10, 11), (-1, None), (None, -1)):
            with pytest.raises(ValueError, match="must be >= "):
                transport.set_read_buffer_limits(high, low)
        transport.set_read_buffer_limits()
        assert transport.get_read_buffer_limits() == defaults


@row("P4F-012", "P2E-007")
@pytest.mark.parametrize("high", [None, 10_000, 1000 * KIBIBYTE])
async def test_paused_reading_fills_a_buffer_and_then_stops(loop, high):
    async with pair() as (client, server):
        if high is not None:
            server.transport.set_read_buffer_limits(high=high)
        _, limit = server.transport.get_read_buffer_limits()
        server.transport.pause_reading()
        assert not server.transport.is_reading()
        total = 12 * MEBIBYTE
        client.transport.write(bytes(total))
        size = -1
        while size != server.transport.get_read_buffer_size():
            size = server.transport.get_read_buffer_size()
            await spin(100)
        # One more read than the limit, and one reads 256 KiB at most.
        assert limit <= size <= limit + 256 * KIBIBYTE
        assert not server.data
        server.transport.resume_reading()
        assert server.transport.is_reading()
        assert len(await server.received(total)) == total


@row("P4F-012")
async def test_paused_and_resumed_twice(loop):
    async with pair() as (client, server):
        transport = server.transport
        transport.resume_reading()
        transport.pause_reading()
        transport.pause_reading()
        client.transport.write(b"late")
        await spin(20)
        assert not server.data
        transport.resume_reading()
        assert transport.is_reading()
        assert not server.data
        transport.resume_reading()
        assert await server.received(4) == b"late"


@row("P4F-012")
async def test_paused_in_data_received(loop):
    class Pausing(Recorder):
        def data_received(self, data):
            super().data_received(data)
            self.transport.pause_reading()

    async with pair() as (client, _):
        pass
    async with pair(protocol=Pausing) as (client, server):
        client.transport.write(b"one")
        assert await server.received(3) == b"one"
        client.transport.write(b"two")
        await spin(20)
        assert bytes(server.data) == b"one"
        server.transport.resume_reading()
        assert await server.received(6) == b"onetwo"


async def test_rest_of_what_the_user_has_read_in_part(loop):
    """Of a record that came while the transport read nothing."""
    async with pair() as (client, server):
        client.transport.write(b"one")
        assert await server.received(3) == b"one"
        server.transport.pause_reading()
        client.transport.write(b"twothree")
        await until(server.transport.get_read_buffer_size)
        tls = server.transport.get_extra_info("ssl_object")
        assert tls.read(3) == b"two"
        assert tls.pending() == 5
        assert server.transport.get_read_buffer_size() == 0
        server.transport.resume_reading()
        assert await server.received(8) == b"onethree"


async def test_user_reads_as_much_as_ever_comes(loop):
    """What was taken does not count any more: there is room for the next."""
    async with pair() as (client, server):
        server.transport.set_read_buffer_limits(high=3000)
        server.transport.pause_reading()
        tls = server.transport.get_extra_info("ssl_object")
        for number in range(10):
            piece = bytes([number]) * 2000
            client.transport.write(piece)
            await until(lambda: server.transport.get_read_buffer_size() > 2000)
            assert tls.read(4000) == piece
            assert server.transport.get_read_buffer_size() == 0
        client.transport.write(b"end")
        server.transport.resume_reading()
        assert await server.received(3) == b"end"


@row("P4F-012")
async def test_paused_reading_keeps_the_end_back(loop):
    async with accepted() as (transport, protocol, peer):
        transport.pause_reading()
        peer.sendall(b"data")
        await asyncio.to_thread(shut_down, peer)
        await spin(20)
        assert protocol.calls == ["connection_made"]
        transport.resume_reading()
        await protocol.lost
        assert bytes(protocol.data) == b"data"


def shut_down(peer):
    """Say goodbye, and do not wait long for the answer."""
    peer.settimeout(0.05)
    try:
        peer.unwrap()
    except (TimeoutError, ssl.SSLError, OSError):
        pass


# Protocols with buffers of their own.


class Viewed(Buffered):
    """Hands out a view, not the bytearray itself."""

    def get_buffer(self, sizehint):
        return memoryview(super().get_buffer(sizehint))


BYTEARRAY = pytest.param(
    Buffered,
    marks=pytest.mark.oracle_skip(
        "reads on into the copy that slicing a bytearray makes: data is lost"
    ),
)


@row("P4F-013")
@pytest.mark.parametrize("kind", [Viewed, BYTEARRAY])
@pytest.mark.parametrize("size", [1, 10, 1000, 65536])
async def test_buffered_protocol(loop, size, kind):
    total = 1000 if size == 1 else 100_000
    async with pair(protocol=lambda: kind(size)) as (client, server):
        data = bytes(range(250)) * (total // 250)
        client.transport.write(data)
        assert await server.received(total) == data
        assert all(type(hint) is int and hint >= 0 for hint in server.hints)


@row("P4F-013")
async def test_empty_buffer_is_the_end(loop):
    """Over TCP it is an error; here nothing read is taken for the end."""
    async with accepted(lambda: Buffered(0)) as (_, protocol, peer):
        peer.sendall(b"data")
        try:
            await asyncio.to_thread(shut_down, peer)
        finally:
            await protocol.lost
        assert "buffer_updated" not in protocol.calls
        assert protocol.calls[:2] == ["connection_made", "eof_received"]


@row("P4F-013")
@pytest.mark.parametrize("method", ["get_buffer", "buffer_updated"])
async def test_buffered_protocol_fails(loop, errors, method):
    class Failing(Buffered):
        is_armed = False

    def fail(self, count):
        if self.is_armed:
            raise ZeroDivisionError(method)
        return getattr(Buffered, method)(self, count)

    setattr(Failing, method, fail)
    async with accepted(Failing) as (_, protocol, peer):
        protocol.is_armed = True
        peer.sendall(b"data")
        exc = await protocol.lost
        assert isinstance(exc, ZeroDivisionError)
    context = errors.pop()
    assert context["message"] == "Fatal error on SSL protocol"
    assert context["exception"] is exc


async def test_data_received_fails(loop, errors):
    class Failing(Recorder):
        def data_received(self, data):
            raise ZeroDivisionError("data")

    async with accepted(Failing) as (_, protocol, peer):
        peer.sendall(b"data")
        exc = await protocol.lost
        assert isinstance(exc, ZeroDivisionError)
    context = errors.pop()
    assert context["message"] == "Fatal error on SSL protocol"
    assert context["exception"] is exc


async def test_protocols_change_places(loop):
    async with pair() as (client, server):
        transport = server.transport
        assert transport.get_protocol() is server
        buffered = Buffered()
        transport.set_protocol(buffered)
        assert transport.get_protocol() is buffered
        client.transport.write(b"one")
        assert await buffered.received(3) == b"one"
        transport.set_protocol(server)
        client.transport.write(b"two")
        assert await server.received(3) == b"two"
        assert "connection_made" not in buffered.calls


# What it tells.


@row("P4F-016")
async def test_extra_info_of_both_transports(loop):
    async with pair() as (client, _):
        ask = client.transport.get_extra_info
        sock = ask("socket")
        assert ask("peername") == sock.getpeername()
        assert ask("sockname") == sock.getsockname()
        assert isinstance(ask("sslcontext"), ssl.SSLContext)
        assert isinstance(ask("ssl_object"), ssl.SSLObject)
        assert ask("cipher") == ask("ssl_object").cipher()
        assert ask("peercert") == ask("ssl_object").getpeercert()
        assert ask("compression", "default") is None
        assert ask("nonsense") is None
        assert ask("nonsense", "default") == "default"


@row("P4F-016")
async def test_extra_info_after_the_end(loop):
    """Its own is still known, the lower transport's not any more."""
    async with pair() as (client, _):
        ask = client.transport.get_extra_info
        client.transport.abort()
        await client.lost
        assert ask("cipher") is not None
        assert ask("ssl_object") is not None
        assert ask("peername") is None
        assert ask("socket", "default") == "default"


@row("P2E-016")
async def test_marks(loop):
    async with pair() as (client, _):
        assert client.transport._start_tls_compatible is True
        mode = client.transport._sendfile_compatible
        assert mode is asyncio.constants._SendfileMode.FALLBACK
