# SPDX-License-Identifier: MIT
"""The end of a TLS connection: goodbyes, cut-offs, peers that stay."""

import asyncio
import contextlib
import contextvars
import gc
import logging
import re
import socket
import ssl
import sys
import warnings

import pytest

from support.certificates import NAME, client_context, server_context
from support.meddling import (
    MeddlingBuffer,
    MeddlingLength,
    meddling,
    needs_python_buffers,
)
from support.net import (
    reset,
    served,
    small_pair,
    spin,
    tcp_pair,
    until,
)
from support.protocols import HalfOpen, Recorder
from support.tls import accepted, connected, pair, plain_of, say_goodbye

row = pytest.mark.row

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.one_poller]

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
MEBIBYTE = 1 << 20
var = contextvars.ContextVar("var", default="none")
TIMED_OUT = "SSL shutdown timed out"
VERSION = sys.version_info[:3]
CLOSES_WITH_LOWER = VERSION >= (3, 13, 1) or (3, 12, 8) <= VERSION < (3, 13)
TIMEOUT_LASTS = VERSION >= (3, 15, 2) or (3, 14, 10) <= VERSION < (3, 15)


@row("P4F-007")
@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
async def test_close_says_goodbye_and_waits_for_the_answer(loop, version):
    server = server_context(version)
    async with connected(server=server) as (transport, protocol, peer):
        peer.suppress_ragged_eofs = False
        transport.write(b"last words")
        transport.close()
        assert transport.is_closing()
        assert await asyncio.to_thread(peer.recv, 100) == b"last words"
        # An end without a goodbye would be an SSLEOFError here.
        assert await asyncio.to_thread(peer.recv, 100) == b""
        await spin(5)
        assert not protocol.lost.done()
        await asyncio.to_thread(say_goodbye, peer)
        assert await protocol.lost is None
        assert protocol.calls == [
            "connection_made",
            "eof_received",
            "connection_lost",
        ]


@row("P4F-007")
async def test_peer_says_goodbye(loop):
    """The loop answers by itself: TLS has no half-open connections."""
    async with accepted() as (transport, protocol, peer):
        peer.sendall(b"last words")
        await asyncio.to_thread(say_goodbye, peer)
        assert await protocol.lost is None
        assert bytes(protocol.data) == b"last words"
        assert transport.is_closing()
        calls = [call for call in protocol.calls if call != "data_received"]
        assert calls == ["connection_made", "eof_received", "connection_lost"]


@row("P4F-006")
async def test_eof_received_cannot_keep_it_open(loop, caplog):
    async with accepted(HalfOpen) as (_, protocol, peer):
        await asyncio.to_thread(say_goodbye, peer)
        assert await protocol.lost is None
    warned = [r for r in caplog.records if r.levelno == logging.WARNING]
    assert [record.getMessage() for record in warned] == [
        "returning true from eof_received() has no effect when using ssl"
    ]


async def test_writing_in_eof_received_is_sent(loop):
    class Answering(Recorder):
        def eof_received(self):
            super().eof_received()
            self.transport.write(b"thanks")

    async with accepted(Answering) as (_, protocol, peer):
        # Python's SSLSocket cannot read any more once it said goodbye.
        with pytest.raises(ssl.SSLError, match="after close notify"):
            await asyncio.to_thread(say_goodbye, peer)
        await protocol.lost


async def test_eof_received_fails(loop, errors):
    class Failing(Recorder):
        def eof_received(self):
            super().eof_received()
            raise ZeroDivisionError("eof")

    async with accepted(Failing) as (_, protocol, peer):
        try:
            await asyncio.to_thread(say_goodbye, peer)
        except OSError:
            pass  # the connection may be gone before the answer
        assert isinstance(await protocol.lost, ZeroDivisionError)
    context = errors.pop()
    assert context["message"] == "Error calling eof_received()"
    assert isinstance(context["exception"], ZeroDivisionError)


@row("P4F-008")
@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
async def test_end_without_goodbye(loop, version):
    client = client_context(version)
    async with accepted(client=client) as (transport, protocol, peer):
        # What the peer had not read would make its end a reset.
        transport.write(b"tickets")
        assert await asyncio.to_thread(peer.recv, 100) == b"tickets"
        peer.sendall(b"cut")
        await protocol.received(3)
        plain_of(peer).close()
        assert await protocol.lost is None
        assert bytes(protocol.data) == b"cut"
        assert protocol.calls[-1] == "connection_lost"


async def test_reset(loop):
    async with accepted() as (_, protocol, peer):
        reset(plain_of(peer))
        assert isinstance(await protocol.lost, ConnectionResetError)
        assert protocol.calls == ["connection_made", "connection_lost"]


async def test_reset_has_the_context_of_the_reader(loop):
    class Noting(Recorder):
        def connection_lost(self, exc):
            self.context = var.get()
            super().connection_lost(exc)

    var.set("connect")
    async with connected(Noting) as (_, protocol, peer):
        var.set("later")
        await spin(2)
        reset(plain_of(peer))
        assert isinstance(await protocol.lost, ConnectionResetError)
        assert protocol.context == "connect"


async def test_failure_resumes_nothing(loop):
    async with accepted() as (transport, protocol, peer):
        transport.set_write_buffer_limits(high=0)
        with plain_of(peer) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
            assert isinstance(await protocol.lost, ssl.SSLError)
        assert protocol.calls == [
            "connection_made",
            "pause_writing",
            "connection_lost",
        ]


# Peers that do not say goodbye.


@row("P4F-009", "P2A-026")
async def test_peer_never_answers(loop):
    async with connected(ssl_shutdown_timeout=0.05) as (transport, client, _):
        transport.close()
        exc = await client.lost
    assert isinstance(exc, TimeoutError)
    assert str(exc) == TIMED_OUT


@row("P4F-009", "P2A-030")
async def test_client_never_answers(loop):
    async with accepted(ssl_shutdown_timeout=0.05) as (transport, server, _):
        transport.close()
        exc = await server.lost
    assert isinstance(exc, TimeoutError)
    assert str(exc) == TIMED_OUT


@row("P4F-009", "P2A-026")
@pytest.mark.parametrize("how", ["data", "nothing"])
async def test_peer_stops_reading(loop, how):
    """What cannot be sent does not hold the connection for ever."""
    async with connected(sockets=small_pair, ssl_shutdown_timeout=0.05) as (
        transport,
        protocol,
        _,
    ):
        if how == "data":
            for _ in range(64):
                transport.write(bytes(65536))
            assert transport.get_write_buffer_size() > 0
        transport.close()
        exc = await protocol.lost
        assert isinstance(exc, TimeoutError)
        assert str(exc) == TIMED_OUT
        assert transport.get_write_buffer_size() == 0


@row("P4F-009")
@pytest.mark.skipif(not TIMEOUT_LASTS, reason="waits for ever before 3.14.10")
@pytest.mark.parametrize("goodbye", [False, True])
async def test_peer_ends_and_does_not_read(loop, goodbye):
    """What waits for it does not hold the connection for ever."""
    async with connected(sockets=small_pair, ssl_shutdown_timeout=0.05) as (
        transport,
        protocol,
        peer,
    ):
        for _ in range(64):
            transport.write(bytes(65536))
        if goodbye:
            peer.setblocking(False)
            with contextlib.suppress(ssl.SSLWantReadError):
                peer.unwrap()
        else:
            plain = plain_of(peer)
            plain.shutdown(socket.SHUT_WR)
        exc = await protocol.lost
        assert isinstance(exc, TimeoutError)
        assert str(exc) == TIMED_OUT
        if not goodbye:
            plain.close()


@row("P4F-009")
async def test_peer_ends_and_reads_on(loop):
    """All that was written arrives, and the timer does not fire later."""
    async with connected(sockets=small_pair, ssl_shutdown_timeout=10) as (
        transport,
        protocol,
        peer,
    ):
        for _ in range(16):
            transport.write(bytes(65536))
        reading = asyncio.to_thread(read_to_end, peer, 16 * 65536)
        assert await reading == 16 * 65536
        peer.shutdown(socket.SHUT_WR)
        assert await protocol.lost is None


def read_to_end(peer, size):
    got = 0
    while got < size:
        got += len(peer.recv(65536))
    return got


async def tls_client(address, unix=False):
    """A blocking client's SSLSocket."""

    def connect():
        sock = socket.socket(socket.AF_UNIX if unix else socket.AF_INET)
        sock.settimeout(10)
        sock.connect(address)
        return client_context().wrap_socket(sock, server_hostname=NAME)

    return await asyncio.to_thread(connect)


class Closing(Recorder):
    """Says goodbye at once."""

    made: list = []

    def connection_made(self, transport):
        super().connection_made(transport)
        self.made.append(self)
        transport.close()


@row("P2A-027")
async def test_server_shutdown_timeout(loop, monkeypatch):
    monkeypatch.setattr(Closing, "made", [])
    async with served(
        loop, Closing, ssl=server_context(), ssl_shutdown_timeout=0.05
    ) as (_, address):
        with await tls_client(address):
            await until(lambda: Closing.made)
            exc = await Closing.made[0].lost
    assert isinstance(exc, TimeoutError)
    assert str(exc) == TIMED_OUT


@row("P2A-029", "P2A-009")
async def test_unix_server_shutdown_timeout(loop, tmp_path, monkeypatch):
    monkeypatch.setattr(Closing, "made", [])
    path = str(tmp_path / "socket")
    server = await loop.create_unix_server(
        Closing, path, ssl=server_context(), ssl_shutdown_timeout=0.05
    )
    async with server:
        with await tls_client(path, unix=True):
            await until(lambda: Closing.made)
            exc = await Closing.made[0].lost
    assert isinstance(exc, TimeoutError)
    await spin(2)


@row("P2A-028", "P2A-008")
async def test_unix_client_shutdown_timeout(loop):
    def pair():
        left, right = socket.socketpair()
        right.settimeout(10)
        return left, right

    ours, theirs = pair()
    accepting = asyncio.to_thread(
        server_context().wrap_socket, theirs, server_side=True
    )
    connecting = loop.create_unix_connection(
        Recorder,
        sock=ours,
        ssl=client_context(),
        server_hostname=NAME,
        ssl_shutdown_timeout=0.05,
    )
    peer, (transport, protocol) = await asyncio.gather(accepting, connecting)
    with peer:
        transport.close()
        exc = await protocol.lost
    assert isinstance(exc, TimeoutError)
    assert str(exc) == TIMED_OUT


@row("P2A-031")
@pytest.mark.parametrize("side", ["client", "server"])
async def test_start_tls_shutdown_timeout(loop, side):
    ours, theirs = tcp_pair()
    lower, _ = await loop.create_connection(Recorder, sock=ours)
    protocol = Recorder()
    if side == "client":
        context, wrap, kwargs = (
            client_context(),
            server_context().wrap_socket,
            {"server_hostname": NAME},
        )
        wrapping = asyncio.to_thread(wrap, theirs, server_side=True)
    else:
        context, wrap, kwargs = (
            server_context(),
            client_context().wrap_socket,
            {"server_side": True},
        )
        wrapping = asyncio.to_thread(wrap, theirs, server_hostname=NAME)
    peer, transport = await asyncio.gather(
        wrapping,
        loop.start_tls(
            lower, protocol, context, ssl_shutdown_timeout=0.05, **kwargs
        ),
    )
    with peer:
        transport.close()
        exc = await protocol.lost
    assert isinstance(exc, TimeoutError)
    assert str(exc) == TIMED_OUT


# How much arrives.


@pytest.mark.parametrize("size", [1, 100_000, 5 * MEBIBYTE])
async def test_close_sends_what_was_written(loop, size):
    async with pair() as (client, server):
        client.transport.write(b"x" * size)
        client.transport.close()
        assert await server.lost is None
        assert len(server.data) == size
        assert await client.lost is None


async def test_close_while_the_peer_pauses_reading(loop):
    """The peer gets all of it once it reads again."""
    async with pair() as (client, server):
        server.transport.pause_reading()
        client.transport.write(b"x" * MEBIBYTE)
        client.transport.close()
        await spin(50)
        assert not server.data
        server.transport.resume_reading()
        assert await server.lost is None
        assert len(server.data) == MEBIBYTE


async def test_abort_drops_what_was_written(loop):
    async with connected(sockets=small_pair) as (transport, protocol, _):
        transport.write(bytes(4 * MEBIBYTE))
        transport.abort()
        assert transport.is_closing()
        assert await protocol.lost is None
        assert protocol.calls[-1] == "connection_lost"
        assert "eof_received" not in protocol.calls


async def test_abort_while_it_closes(loop):
    async with connected() as (transport, protocol, _):
        transport.close()
        await spin(3)
        transport.abort()
        assert await protocol.lost is None


async def test_both_close_at_once(loop):
    async with pair() as (client, server):
        client.transport.close()
        server.transport.close()
        assert await client.lost is None
        assert await server.lost is None


async def test_data_after_close_is_not_delivered(loop):
    async with connected() as (transport, protocol, peer):
        transport.close()
        await asyncio.to_thread(peer.sendall, b"too late")
        try:
            await asyncio.to_thread(say_goodbye, peer)
        except OSError:
            pass  # what was not read may have reset the connection
        await protocol.lost
        assert "data_received" not in protocol.calls


@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
async def test_data_after_the_goodbye(loop, version):
    """The peer has heard our goodbye and talks on: that is an error."""
    server = server_context(version)
    async with connected(server=server) as (transport, protocol, peer):
        transport.close()
        assert await asyncio.to_thread(peer.recv, 100) == b""
        await asyncio.to_thread(peer.sendall, b"talks on")
        error = await protocol.lost
        assert isinstance(error, ssl.SSLError)
        assert error.reason == "APPLICATION_DATA_AFTER_CLOSE_NOTIFY"
        assert bytes(protocol.data) == b""


@row("P4G-034")
async def test_is_closing_with_the_lower_transport(loop):
    ours, theirs = tcp_pair()
    lower, _ = await loop.create_connection(Recorder, sock=ours)
    protocol = Recorder()
    peer, transport = await asyncio.gather(
        asyncio.to_thread(
            server_context().wrap_socket, theirs, server_side=True
        ),
        loop.start_tls(
            lower, protocol, client_context(), server_hostname=NAME
        ),
    )
    with peer:
        assert not transport.is_closing()
        lower.close()
        assert transport.is_closing() == CLOSES_WITH_LOWER
        await protocol.lost
        assert transport.is_closing()


async def test_is_closing_where_sending_fails(loop):
    """What was put off is sent first, so that its failure is seen."""
    async with connected() as (transport, protocol, peer):
        reset(plain_of(peer))
        lower = transport._ssl_protocol._transport
        transport.write(b"nobody reads this")
        assert transport.is_closing() == CLOSES_WITH_LOWER
        assert lower.is_closing()
        assert isinstance(await protocol.lost, OSError)


@row("P4F-015")
def test_unclosed(new_loop):
    loop = new_loop()
    ours, theirs = tcp_pair()

    async def connect(loop):
        await asyncio.gather(
            loop.create_connection(
                asyncio.Protocol,
                sock=ours,
                ssl=client_context(),
                server_hostname=NAME,
            ),
            asyncio.to_thread(accept_and_leave, theirs),
        )

    with theirs:
        loop.run_until_complete(connect(loop))
        loop.run_until_complete(loop.shutdown_default_executor())
        with warnings.catch_warnings(record=True) as caught:
            warnings.simplefilter("always")
            loop.close()
            del loop
            gc.collect()
    texts = [str(w.message) for w in caught]
    assert any(
        re.match(r"unclosed transport <asyncio\._SSLProtocolTransport ", text)
        for text in texts
    ), texts


def accept_and_leave(sock):
    """The server's side of a handshake; the caller's socket stays."""
    copy = sock.dup()
    copy.settimeout(10)
    server_context().wrap_socket(copy, server_side=True).close()


def write_line(transport, data):
    transport.writelines([data, b"more"])


def write_data(transport, data):
    transport.write(data)


@pytest.mark.becket_only("CPython raises AttributeError from inside")
@pytest.mark.parametrize(
    "kind, write",
    [
        pytest.param(MeddlingBuffer, write_data, marks=needs_python_buffers),
        pytest.param(MeddlingBuffer, write_line, marks=needs_python_buffers),
        (MeddlingLength, write_data),
    ],
)
@pytest.mark.parametrize("fails", [False, True])
@pytest.mark.parametrize("end", ["close", "abort"])
def test_data_that_sees_the_end(loop, errors, kind, write, fails, end):
    """Outside of a run it can run the loop until the connection is gone."""

    async def connect():
        ours, theirs = tcp_pair()
        return await asyncio.gather(
            loop.create_connection(
                Recorder, sock=ours, ssl=client_context(), server_hostname=NAME
            ),
            loop.connect_accepted_socket(
                Recorder, theirs, ssl=server_context()
            ),
        )

    async def both_lost():
        await asyncio.wait_for(protocol.lost, 10)
        await asyncio.wait_for(other.lost, 10)
        await spin(3)

    def see_the_end():
        getattr(transport, end)()
        getattr(transport, end)()
        loop.run_until_complete(both_lost())
        if fails:
            raise ValueError("the data is gone")

    (transport, protocol), (_, other) = loop.run_until_complete(connect())
    # What fails in its __len__ is the caller's.
    raises = fails and kind is MeddlingLength
    with pytest.raises(ValueError) if raises else contextlib.nullcontext():
        write(transport, meddling(kind, see_the_end))
    loop.run_until_complete(spin(3))
    assert other.data == b""
    told = [type(context["exception"]) for context in errors]
    assert told == ([ValueError] if fails and not raises else [])
    errors.clear()
