# SPDX-License-Identifier: MIT
"""Datagram transports: what they are, sending, receiving, errors, the end."""

import asyncio
import re
import select
import socket
import weakref

import pytest

from support import net
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
from support.net import spin

row = pytest.mark.row


# --- what it is ---


@row("P4G-001", "P1A-096")
async def test_kind(loop):
    async with bound(loop) as (transport, _, _, _):
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, asyncio.BaseTransport)


@row("P4G-001", "P1A-096")
@pytest.mark.oracle_skip(
    "up to 3.11 its transport is no DatagramTransport",
    when=not issubclass(
        asyncio.selector_events._SelectorDatagramTransport,
        asyncio.DatagramTransport,
    ),
)
async def test_is_a_datagram_transport(loop):
    async with bound(loop) as (transport, _, _, _):
        assert isinstance(transport, asyncio.DatagramTransport)


@row("P4G-001")
async def test_is_no_byte_stream(loop):
    async with bound(loop) as (transport, _, _, _):
        for call in (
            lambda: transport.write(b"x"),
            lambda: transport.writelines([b"x"]),
            lambda: transport.write_eof(),
            lambda: transport.can_write_eof(),
        ):
            with pytest.raises(NotImplementedError):
                call()
        assert not hasattr(transport, "_start_tls_compatible")
        assert not hasattr(transport, "_sendfile_compatible")


async def test_extra_info(loop):
    async with bound(loop) as (transport, _, _, address):
        info = transport.get_extra_info
        assert info("sockname") == address
        assert info("peername", "x") is None
        assert info("missing") is None
        assert info("missing", 5) == 5
        assert transport._extra.keys() == {"socket", "sockname", "peername"}
        sock = info("socket")
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert sock is info("socket")
        for name in ("recv", "sendto", "close"):
            assert not hasattr(sock, name)
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 100000)


async def test_attributes_can_be_assigned(loop):
    async with bound(loop) as (transport, _, peer, _):
        sent = []
        transport.sendto = lambda *args: sent.append(args)
        transport.sendto(b"x")
        assert sent == [(b"x",)]
        transport.mine = 1
        assert transport.mine == 1
        assert arrived(peer) == []
        assert weakref.ref(transport)() is transport
        assert transport._loop is loop
        assert transport._sock.fileno() == transport._sock_fd
        assert transport._address is None
        assert transport._conn_lost == 0
        assert transport._closing is False
        assert transport.max_size == 256 * 1024


async def test_repr(loop):
    async with bound(loop) as (transport, protocol, _, _):
        await spin()
        pattern = (
            r"<\w*DatagramTransport fd=\d+ read=polling"
            r" write=<idle, bufsize=0>>"
        )
        assert re.fullmatch(pattern, repr(transport))
        transport.pause_reading()
        assert "read=idle" in repr(transport)
        transport.close()
        assert "Transport closing fd=" in repr(transport)
        await protocol.lost
        await spin()
        assert re.fullmatch(
            r"<\w*DatagramTransport closed fd=\d+>", repr(transport)
        )


# --- sending ---


@pytest.mark.parametrize(
    "data",
    [b"bytes", bytearray(b"bytes"), memoryview(b"xbytesx")[1:6]],
    ids=lambda data: type(data).__name__,
)
async def test_what_can_be_sent(loop, data):
    async with bound(loop) as (transport, _, peer, _):
        transport.sendto(data, peer.getsockname())
        transport.sendto(data=data, addr=peer.getsockname())
        assert arrived(peer) == [b"bytes"] * 2
    async with connected(loop) as (transport, _, peer):
        transport.sendto(data)
        assert arrived(peer) == [b"bytes"]


class Bytes(bytes):
    pass


async def test_subclasses_of_bytes(loop):
    async with bound(loop) as (transport, _, peer, _):
        transport.sendto(Bytes(b"x"), peer.getsockname())
        transport.sendto(
            memoryview(bytearray(b"abcd")).cast("H"), peer.getsockname()
        )
        assert arrived(peer) == [b"x", b"abcd"]


@pytest.mark.parametrize("data", ["text", 5, None, [b"x"]])
async def test_what_cannot_be_sent(loop, data):
    async with bound(loop) as (transport, protocol, peer, _):
        with pytest.raises(TypeError, match="data argument must be a bytes"):
            transport.sendto(data, peer.getsockname())
        with pytest.raises(TypeError):
            transport.sendto()
        with pytest.raises(TypeError):
            transport.sendto(b"x", None, None)
        assert protocol.errors == []
        assert not transport.is_closing()


@row("P2E-009")
@pytest.mark.since(3, 13)
async def test_empty_datagrams(loop):
    async with bound(loop, Echo) as (transport, protocol, peer, address):
        transport.sendto(b"", peer.getsockname())
        assert arrived(peer) == [b""]
        peer.sendto(b"", address)
        assert await protocol.received(1) == [b""]
        assert await peer_receives(peer) == [b""]


@row("P2E-009")
@pytest.mark.before(3, 13)
async def test_empty_datagrams_are_not_sent(loop):
    async with bound(loop, Echo) as (transport, protocol, peer, address):
        transport.sendto(b"", peer.getsockname())
        transport.sendto(b"", "not looked at")
        peer.sendto(b"", address)
        assert await protocol.received(1) == [b""]
        await spin(2)
        assert arrived(peer) == []


async def test_names_can_be_sent_to(loop):
    """sendto() resolves them, as the socket's own does."""
    async with bound(loop) as (transport, protocol, peer, _):
        port = peer.getsockname()[1]
        transport.sendto(b"x", ("localhost", port))
        assert arrived(peer) == [b"x"]
        transport.sendto(b"x", ("no such name.invalid", port))
        [error] = protocol.errors
        assert isinstance(error, socket.gaierror)
        assert not transport.is_closing()


async def test_addresses_that_are_not_plain(loop):
    class Text(str):
        pass

    class Number(int):
        pass

    async with bound(loop) as (transport, _, peer, _):
        host, port = peer.getsockname()
        transport.sendto(b"1", (Text(host), Number(port)))
        transport.sendto(b"2", tuple([host, port]))
        transport.sendto(b"3", (host, port))
        transport.sendto(b"4", (bytearray(host.encode()), port))
        transport.sendto(b"5", (host.encode(), port))
        assert arrived(peer) == [b"1", b"2", b"3", b"4", b"5"]


@row("P4G-003")
async def test_no_address(loop, errors):
    """Not an OSError: the transport is lost."""
    async with bound(loop) as (transport, protocol, _, _):
        transport.sendto(b"x")
        assert transport.is_closing()
        assert protocol.errors == []
        error = await asyncio.wait_for(protocol.lost, 10)
        assert isinstance(error, TypeError)
        [context] = errors
        assert context.keys() == {
            "message",
            "exception",
            "transport",
            "protocol",
        }
        assert context["message"] == "Fatal write error on datagram transport"
        assert context["exception"] is error
        assert context["transport"] is transport
        assert context["protocol"] is protocol
        errors.clear()


@row("P4G-003")
@pytest.mark.parametrize(
    "addr",
    [
        "a string",
        ("127.0.0.1",),
        ("127.0.0.1", "80"),
        ("127.0.0.1", 70000),
        ("127.0.0.1", -1),
        ("127.0.0.1", 1, 2),
        (5, 5),
        ("x" * 70 + ".y", 1),
        ("nul\0", 1),
    ],
)
async def test_bad_addresses(loop, errors, addr):
    """The socket's own exception ends the transport, as in asyncio."""
    with udp() as sock:
        with pytest.raises(Exception) as expected:
            sock.sendto(b"x", addr)
    async with bound(loop) as (transport, protocol, _, _):
        transport.sendto(b"x", addr)
        if isinstance(expected.value, OSError):
            [error] = protocol.errors
        else:
            error = await asyncio.wait_for(protocol.lost, 10)
            assert errors.pop()["exception"] is error
        assert type(error) is expected.type
        assert str(error) == str(expected.value)


@row("P4G-006", "P1A-098")
async def test_address_of_a_connected_socket(loop):
    async with connected(loop) as (transport, _, peer):
        transport.sendto(b"1", peer.getsockname())
        transport.sendto(b"2", None)
        with pytest.raises(ValueError) as caught:
            transport.sendto(b"3", ("127.0.0.1", 1))
        assert str(caught.value) == (
            f"Invalid address: must be None or {peer.getsockname()}"
        )
        assert arrived(peer) == [b"1", b"2"]
        assert transport._address == peer.getsockname()


@row("P4G-002")
async def test_too_large(loop):
    async with bound(loop) as (transport, protocol, peer, _):
        transport.sendto(bytes(70000), peer.getsockname())
        [error] = protocol.errors
        assert isinstance(error, OSError)
        assert str(error) == "[Errno 90] Message too long"
        assert not transport.is_closing()
        transport.sendto(bytes(65507), peer.getsockname())
        assert arrived(peer) == [bytes(65507)]


async def test_error_received_raises(loop):
    class Failing(Endpoint):
        def error_received(self, exc):
            super().error_received(exc)
            raise LookupError("from error_received")

    async with bound(loop, Failing) as (transport, protocol, peer, _):
        with pytest.raises(LookupError):
            transport.sendto(bytes(70000), peer.getsockname())
        assert len(protocol.errors) == 1
        assert not transport.is_closing()


async def test_protocols_without_methods(loop, errors):
    """What is missing is only missed when it is called."""

    class Bare:
        def connection_made(self, transport):
            pass

        def connection_lost(self, exc):
            pass

    async with bound(loop, Bare) as (transport, _, peer, address):
        with pytest.raises(AttributeError, match="error_received"):
            transport.sendto(bytes(70000), peer.getsockname())
        peer.sendto(b"x", address)
        while not errors:
            await spin()
        [context] = errors
        assert "datagram_received" in str(context["exception"])
        errors.clear()


# --- receiving ---


@row("P4G-004")
async def test_datagrams_keep_their_bounds(loop):
    async with bound(loop, Echo) as (_, protocol, peer, address):
        sent = [bytes([i]) * size for i, size in enumerate((1, 5, 900, 60000))]
        for data in sent:
            peer.sendto(data, address)
        assert await protocol.received(4) == sent
        assert await peer_receives(peer, 4) == sent
        assert protocol.senders == [peer.getsockname()] * 4
        assert all(type(data) is bytes for data in protocol.data)


@pytest.mark.becket_only("CPython makes a new tuple each time")
async def test_the_address_of_a_repeated_peer_is_reused(loop):
    async with bound(loop) as (_, protocol, peer, address):
        for _ in range(3):
            peer.sendto(b"x", address)
        await protocol.received(3)
        first, *rest = protocol.senders
        assert first == peer.getsockname()
        assert all(sender is first for sender in rest)


async def test_peers_are_not_mixed_up(loop):
    async with bound(loop, Echo) as (_, protocol, one, address):
        with udp() as two:
            for i in range(20):
                peer = (one, two)[i % 3 == 0]
                peer.sendto(b"%d" % i, address)
            await protocol.received(20)
            expected = [(one, two)[i % 3 == 0] for i in range(20)]
            assert protocol.senders == [s.getsockname() for s in expected]
            for peer in (one, two):
                mine = [b"%d" % i for i in range(20) if expected[i] is peer]
                assert await peer_receives(peer, len(mine)) == mine


@row("P4G-005")
async def test_datagram_received_raises(loop, errors):
    class Failing(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"bad":
                raise LookupError("from datagram_received")

    async with bound(loop, Failing) as (transport, protocol, peer, address):
        for data in (b"1", b"bad", b"2", b"bad", b"3"):
            peer.sendto(data, address)
        await protocol.received(5)
        await spin(2)
        assert not transport.is_closing()
        assert len(errors) == 2
        for context in errors:
            assert isinstance(context["exception"], LookupError)
            assert re.match(
                r"Exception in callback \w*DatagramTransport\._read_ready\(\)",
                context["message"],
            )
            assert "handle" in context
        errors.clear()


@row("P4G-002")
async def test_refused(loop):
    """A connected socket hears that nobody listens there."""
    peer = udp()
    address = peer.getsockname()
    peer.close()
    transport, protocol = await loop.create_datagram_endpoint(
        Endpoint, remote_addr=address
    )
    transport.sendto(b"x")
    [error] = await protocol.failed()
    assert isinstance(error, ConnectionRefusedError)
    assert not transport.is_closing()
    # Without a receive in between the next send hears it.
    transport.sendto(b"x")
    transport.sendto(b"x")
    assert len(protocol.errors) == 2
    await finish(transport)


async def test_set_protocol(loop):
    async with bound(loop) as (transport, first, peer, address):
        second = Endpoint()
        transport.set_protocol(second)
        assert transport.get_protocol() is second
        peer.sendto(b"x", address)
        assert await second.received(1) == [b"x"]
        assert first.data == []
        transport.sendto(bytes(70000), peer.getsockname())
        assert len(second.errors) == 1
        transport.close()
        await asyncio.wait_for(second.lost, 10)
        await spin()
        assert transport.get_protocol() is None


async def test_replaced_methods_are_called(loop):
    async with bound(loop) as (_, protocol, peer, address):
        got = loop.create_future()
        protocol.datagram_received = lambda data, addr: got.set_result(data)
        peer.sendto(b"x", address)
        assert await asyncio.wait_for(got, 10) == b"x"


async def test_pause_and_resume_reading(loop):
    async with bound(loop) as (transport, protocol, peer, address):
        assert transport.is_reading()
        transport.pause_reading()
        transport.pause_reading()
        assert not transport.is_reading()
        peer.sendto(b"x", address)
        await spin(5)
        assert protocol.data == []
        transport.resume_reading()
        transport.resume_reading()
        assert transport.is_reading()
        assert await protocol.received(1) == [b"x"]


async def test_paused_in_connection_made(loop):
    class Pausing(Endpoint):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()

    async with bound(loop, Pausing) as (transport, protocol, peer, address):
        peer.sendto(b"x", address)
        await spin(5)
        assert protocol.data == []
        transport.resume_reading()
        assert await protocol.received(1) == [b"x"]


# --- the end ---


@row("P4G-008")
async def test_close(loop):
    async with bound(loop) as (transport, protocol, peer, address):
        transport.sendto(b"last", peer.getsockname())
        peer.sendto(b"too late", address)
        transport.close()
        assert transport.is_closing()
        assert not transport.is_reading()
        transport.close()
        transport.resume_reading()
        transport.pause_reading()
        assert protocol.calls == ["connection_made"]
        assert await asyncio.wait_for(protocol.lost, 10) is None
        assert protocol.calls == ["connection_made", "connection_lost"]
        await spin()
        assert transport.get_extra_info("socket").fileno() == -1
        assert arrived(peer) == [b"last"]
        assert transport.get_extra_info("sockname") == address
        transport.close()


async def test_abort(loop):
    async with bound(loop) as (transport, protocol, _, _):
        transport.abort()
        assert transport.is_closing()
        assert await asyncio.wait_for(protocol.lost, 10) is None
        assert protocol.calls == ["connection_made", "connection_lost"]


async def test_connection_lost_raises(loop, errors):
    class Failing(Endpoint):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise LookupError

    async with bound(loop, Failing) as (transport, protocol, _, _):
        transport.close()
        await protocol.lost
        await spin()
        [context] = errors
        assert "_call_connection_lost(" in context["message"]
        assert transport.get_extra_info("socket").fileno() == -1
        errors.clear()


async def test_sendto_before_connection_lost(loop):
    """The socket is still there, and sends, unless there is one address."""
    async with bound(loop) as (transport, protocol, peer, _):
        transport.close()
        transport.sendto(b"after close", peer.getsockname())
        assert arrived(peer) == [b"after close"]
        await protocol.lost
    async with bound(loop) as (transport, protocol, peer, _):
        transport.abort()
        transport.sendto(b"after abort", peer.getsockname())
        assert arrived(peer) == [b"after abort"]
        await protocol.lost
    async with connected(loop) as (transport, protocol, peer):
        transport.close()
        transport.sendto(b"dropped")
        assert arrived(peer) == []
        await protocol.lost


async def test_sendto_after_the_end_of_a_connected_one(loop, caplog):
    async with connected(loop) as (transport, protocol, peer):
        transport.close()
        await protocol.lost
        await spin()
        for _ in range(4):
            transport.sendto(b"dropped")
        assert "socket.send() raised" not in caplog.text
        for _ in range(2):
            transport.sendto(b"dropped")
        assert "socket.send() raised exception" in caplog.text
        assert arrived(peer) == []


@pytest.mark.becket_only("CPython raises AttributeError from inside")
async def test_sendto_after_the_end(loop):
    async with bound(loop) as (transport, protocol, peer, _):
        transport.close()
        await protocol.lost
        await spin()
        transport.sendto(b"dropped", peer.getsockname())
        assert arrived(peer) == []
        assert transport.get_write_buffer_size() == 0


async def test_is_not_sent_before_what_streams_wrote(loop):
    """In one callback; epoll tells what came first."""
    async with (
        net.connected(loop, asyncio.Protocol) as (stream, _, stream_peer),
        bound(loop) as (transport, _, peer, _),
    ):
        with select.epoll() as arrivals:
            for sock in peer, stream_peer:
                arrivals.register(sock, select.EPOLLIN | select.EPOLLET)
            stream.write(b"first")
            transport.sendto(b"second", peer.getsockname())
            await spin(1)
            found = [number for number, _ in arrivals.poll(0)]
        assert found == [stream_peer.fileno(), peer.fileno()]
