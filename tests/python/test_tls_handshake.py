# SPDX-License-Identifier: MIT
"""The TLS handshake: who is told what, and every way in which it fails."""

import asyncio
import functools
import gc
import logging
import socket
import ssl
import struct

import pytest

from support.certificates import NAME, client_context, server_context
from support.net import (
    peer_reads_all,
    reset,
    served,
    spin,
    tcp_pair,
    until,
)
from support.protocols import Recorder
from support.tls import accepted, connected, pair, plain_of

row = pytest.mark.row

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.one_poller]

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
OTHER = "other.example"


def connect(sock, **kwargs):
    """A client's handshake on a socket."""
    kwargs = {"ssl": client_context(), "server_hostname": NAME, **kwargs}
    return asyncio.get_running_loop().create_connection(
        Recorder, sock=sock, **kwargs
    )


def accept(sock, factory=Recorder, **kwargs):
    """A server's handshake on a socket."""
    return asyncio.get_running_loop().connect_accepted_socket(
        factory, sock, ssl=server_context(), **kwargs
    )


@row("P4F-001")
async def test_class_name(loop):
    async with pair() as (client, server):
        for protocol in (client, server):
            assert "ssl" in type(protocol.transport).__name__.lower()
            assert isinstance(protocol.transport, asyncio.Transport)


@row("P4F-002")
async def test_connection_made_comes_before_the_waiter(loop):
    class Looking(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            self.cipher = transport.get_extra_info("cipher")
            self.was_done = task.done()
            loop.call_soon(self.calls.append, "next turn")

    ours, theirs = tcp_pair()
    task = asyncio.ensure_future(accept(theirs, Looking))
    transport, _ = await connect(ours)
    accepted_transport, server = await task
    assert server.cipher is not None
    assert not server.was_done
    assert server.calls[0] == "connection_made"
    for one in (transport, accepted_transport):
        one.abort()
    await server.lost
    await spin(2)


@row("P4F-002")
async def test_early_data_waits_for_connection_made(loop):
    """What comes in one piece with the end of the handshake."""
    async with accepted() as (_, protocol, peer):
        await asyncio.to_thread(peer.sendall, b"early")
        assert await protocol.received(5) == b"early"
        assert protocol.calls == ["connection_made", "data_received"]


async def test_writing_in_connection_made(loop):
    class Greeting(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.write(b"hello")
            transport.writelines([b" ", bytearray(b"there")])

    async with pair(protocol=Greeting) as (client, server):
        assert await client.received(11) == b"hello there"
        assert await server.received(11) == b"hello there"


# What fails.


@row("P4F-003")
@pytest.mark.parametrize(
    "client, name, message",
    [
        (ssl.create_default_context, NAME, "certificate verify failed"),
        (client_context, OTHER, "Hostname mismatch"),
        (
            functools.partial(client_context, name=OTHER),
            OTHER,
            "verify failed",
        ),
    ],
    ids=["unknown authority", "wrong name", "another's certificate"],
)
async def test_certificate_refused(loop, caplog, client, name, message):
    """The client raises; the server just loses the connection; in silence."""
    ours, theirs = tcp_pair()
    factory_calls = []

    def factory():
        factory_calls.append(Recorder())
        return factory_calls[-1]

    serving = asyncio.ensure_future(accept(theirs, factory))
    with pytest.raises(ssl.SSLCertVerificationError, match=message):
        await connect(ours, ssl=client(), server_hostname=name)
    # Either the alert, or the end of the connection if none was sent.
    with pytest.raises((ssl.SSLError, ConnectionResetError)):
        transport, protocol = await serving
        raise await protocol.lost or ConnectionResetError
    assert len(factory_calls) == 1
    await spin(3)
    assert ours.fileno() == theirs.fileno() == -1
    assert not caplog.records


@row("P4F-003")
@pytest.mark.parametrize(
    "name, message",
    [
        (OTHER, "SSL handshake failed on verifying the certificate"),
        (None, "SSL handshake failed"),
    ],
)
async def test_failure_is_logged_in_debug_mode(loop, caplog, name, message):
    caplog.set_level(logging.DEBUG, "asyncio")
    loop.set_debug(True)
    ours, theirs = tcp_pair()
    with theirs:
        if name is None:
            theirs.sendall(b"no TLS here, sorry\r\n")
            with pytest.raises(ssl.SSLError):
                await connect(ours)
        else:
            serving = asyncio.ensure_future(
                asyncio.to_thread(refuse_to_fail, theirs)
            )
            with pytest.raises(ssl.SSLCertVerificationError):
                await connect(ours, server_hostname=name)
            await serving
    loop.set_debug(False)
    texts = [r.getMessage() for r in caplog.records if r.exc_info]
    assert any(text.endswith(": " + message) for text in texts), texts


def refuse_to_fail(sock):
    try:
        server_context().wrap_socket(sock, server_side=True).close()
    except OSError:
        sock.close()


@row("P4F-004")
@pytest.mark.parametrize("after", ["nothing", "hello"])
@pytest.mark.parametrize("side", [connect, accept])
async def test_peer_leaves(loop, side, after):
    ours, theirs = tcp_pair()
    if after == "nothing":
        theirs.close()
    elif side is accept:
        theirs.sendall(b"\x16\x03\x01\x02\x00\x01")  # half a client's hello
        theirs.close()
    else:
        loop.run_in_executor(None, read_and_close, theirs)
    with pytest.raises(ConnectionResetError):
        await side(ours)
    await until(lambda: theirs.fileno() == -1)
    await spin(2)
    assert ours.fileno() == -1


def read_and_close(sock):
    sock.recv(65536)
    sock.close()


@row("P4F-004")
async def test_peer_resets(loop):
    ours, theirs = tcp_pair()
    reset(theirs)
    with pytest.raises(ConnectionResetError):
        await accept(ours)
    await spin(2)
    assert ours.fileno() == -1


@row("P4F-005", "P2A-010")
@pytest.mark.parametrize("sent", [b"", b"\x16\x03\x01\x02\x00\x01"])
async def test_client_never_shakes_hands(loop, sent):
    ours, theirs = tcp_pair()
    with theirs:
        theirs.sendall(sent)
        with pytest.raises(
            ConnectionAbortedError,
            match=r"^SSL handshake is taking longer than 0\.05 seconds: "
            "aborting the connection$",
        ):
            await accept(ours, ssl_handshake_timeout=0.05)
        assert await peer_reads_all(theirs) == b""
    assert ours.fileno() == -1


@row("P4F-005", "P2A-006")
async def test_server_never_shakes_hands(loop):
    ours, theirs = tcp_pair()
    with theirs:
        with pytest.raises(
            ConnectionAbortedError, match=r"longer than 0\.05 seconds"
        ):
            await connect(ours, ssl_handshake_timeout=0.05)
        hello = await peer_reads_all(theirs)
    assert hello[:2] == b"\x16\x03"


@row("P2A-007", "P1A-129")
async def test_server_drops_who_never_shakes_hands(loop):
    """Nobody asked for this connection: nobody is told of its end."""
    made = []

    def factory():
        made.append(Recorder())
        return made[-1]

    async with served(
        loop, factory, ssl=server_context(), ssl_handshake_timeout=0.05
    ) as (_, address):
        sock = await asyncio.to_thread(connect_plain, address)
        with sock:
            assert await peer_reads_all(sock) == b""
    assert [protocol.calls for protocol in made] == [[]]
    await spin(3)


def connect_plain(address):
    return socket.create_connection(address, 10)


@row("P2A-009", "P4F-005")
async def test_unix_server_drops_who_never_shakes_hands(loop, tmp_path):
    path = str(tmp_path / "socket")
    server = await loop.create_unix_server(
        Recorder, path, ssl=server_context(), ssl_handshake_timeout=0.05
    )
    async with server:
        with socket.socket(socket.AF_UNIX) as sock:
            sock.settimeout(10)
            sock.connect(path)
            assert await peer_reads_all(sock) == b""
    await spin(3)


@row("P2A-008", "P4F-005")
async def test_unix_client_gives_up(loop, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as sock:
        sock.bind(path)
        sock.listen()
        with pytest.raises(
            ConnectionAbortedError, match=r"longer than 0\.05 seconds"
        ):
            await loop.create_unix_connection(
                Recorder,
                path,
                ssl=client_context(),
                server_hostname=NAME,
                ssl_handshake_timeout=0.05,
            )
    await spin(2)


GARBAGE = {
    "plain text": b"GET / HTTP/1.1\r\nHost: localhost\r\n\r\n",
    "zeros": bytes(64),
    "wrong version": b"\x16\x09\x09\x00\x10" + bytes(16),
    "unknown record": b"\x63\x03\x03\x00\x10" + bytes(16),
    "too long": b"\x16\x03\x03\xff\xff" + bytes(70_000),
    "data before the handshake": b"\x17\x03\x03\x00\x10" + bytes(16),
    "bad message": b"\x16\x03\x01\x00\x04\x63\x00\x00\x00",
}


@pytest.mark.parametrize("side", [connect, accept])
@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
async def test_garbage(loop, side, garbage):
    ours, theirs = tcp_pair()
    with theirs:
        sending = asyncio.ensure_future(
            asyncio.to_thread(send, theirs, garbage)
        )
        with pytest.raises(ssl.SSLError):
            await side(ours)
        await sending
    await spin(2)
    assert ours.fileno() == -1


def send(sock, data):
    try:
        sock.sendall(data)
    except OSError:
        pass


async def test_server_goes_on_after_garbage(loop):
    async with served(loop, Recorder, ssl=server_context()) as (_, address):
        for garbage in GARBAGE.values():
            with await asyncio.to_thread(connect_plain, address) as sock:
                await asyncio.to_thread(send, sock, garbage)
        transport, _ = await loop.create_connection(
            Recorder, *address, ssl=client_context(), server_hostname=NAME
        )
        assert transport.get_extra_info("cipher") is not None
        transport.abort()
        await spin(3)


@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
async def test_garbage_after_the_handshake(loop, version):
    """The protocol learns of it in connection_lost(), and nowhere else."""
    async with accepted(client=client_context(version)) as (_, server, peer):
        with plain_of(peer) as sock:
            sock.sendall(b"\x17\x03\x03\x00\x20" + b"garbage!" * 4)
            exc = await server.lost
    assert isinstance(exc, ssl.SSLError)
    assert server.calls == ["connection_made", "connection_lost"]


async def test_why_it_failed_is_told_also_when_the_alert_fails(loop):
    async with accepted(sockets=socket.socketpair) as (_, server, peer):
        with plain_of(peer) as sock:
            sock.sendall(b"GET / HTTP/1.0\r\n\r\n")
        # Of a Unix socket that is closed, both the data and EPIPE are there.
        exc = await server.lost
    assert isinstance(exc, ssl.SSLError)


async def test_records_in_pieces(loop):
    """A handshake that arrives byte by byte is one all the same."""
    ours, theirs = tcp_pair()
    incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
    tls = client_context().wrap_bio(incoming, outgoing, server_hostname=NAME)
    serving = asyncio.ensure_future(accept(ours))
    with theirs:
        while True:
            try:
                tls.do_handshake()
            except ssl.SSLWantReadError:
                await send_bytewise(theirs, outgoing.read())
                incoming.write(await asyncio.to_thread(theirs.recv, 65536))
                continue
            break
        tls.write(b"in pieces")
        await send_bytewise(theirs, outgoing.read())
        transport, protocol = await serving
        assert await protocol.received(9) == b"in pieces"
        transport.abort()
        await protocol.lost
    await spin(2)


async def send_bytewise(sock, data):
    for number in range(len(data)):
        sock.send(data[number : number + 1])
        await asyncio.sleep(0)


async def test_half_a_record_then_the_end(loop):
    """Data that is cut off is not delivered."""
    async with accepted() as (_, server, peer):
        with plain_of(peer) as sock:
            sock.sendall(
                b"\x17\x03\x03" + struct.pack(">H", 1000) + b"x" * 500
            )
        await server.lost
    assert "data_received" not in server.calls


async def test_cancelled(loop):
    ours, theirs = tcp_pair()
    with theirs:
        task = asyncio.ensure_future(connect(ours))
        hello = await asyncio.to_thread(theirs.recv, 65536)
        assert hello[:1] == b"\x16"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        del task
        await spin(3)
        gc.collect()
        assert ours.fileno() == -1


async def test_factory_fails(loop):
    ours, theirs = tcp_pair()

    def factory():
        raise ZeroDivisionError("no protocol")

    with ours, theirs:
        with pytest.raises(ZeroDivisionError, match="no protocol"):
            await accept(ours, factory)
    await spin(2)


async def test_connection_made_fails(loop, errors):
    class Failing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ZeroDivisionError("made")

    ours, theirs = tcp_pair()
    client = asyncio.ensure_future(connect(ours))
    serving = asyncio.ensure_future(accept(theirs, Failing))
    results = await asyncio.gather(client, serving, return_exceptions=True)
    for result in results:
        if isinstance(result, tuple):
            result[0].abort()
    await spin(3)
    context = errors.pop()
    assert isinstance(context["exception"], ZeroDivisionError)


async def test_many_at_once(loop):
    """Handshakes beside each other, some of which fail."""
    async with served(loop, Recorder, ssl=server_context()) as (_, address):

        async def one(number):
            name = NAME if number % 3 else OTHER
            try:
                transport, _ = await loop.create_connection(
                    Recorder,
                    *address,
                    ssl=client_context(),
                    server_hostname=name,
                )
            except ssl.SSLCertVerificationError:
                return False
            transport.abort()
            return True

        results = await asyncio.gather(*map(one, range(30)))
        assert results == [number % 3 != 0 for number in range(30)]
        await spin(5)


async def test_connected_helper_is_a_client(loop):
    async with connected() as (transport, protocol, peer):
        await asyncio.to_thread(peer.sendall, b"data")
        assert await protocol.received(4) == b"data"
        transport.write(b"back")
        assert await asyncio.to_thread(peer.recv, 100) == b"back"
