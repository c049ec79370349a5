# SPDX-License-Identifier: MIT
"""TLS connections: the arguments ssl=, start_tls(), both versions."""

import asyncio
import gc
import ssl

import pytest

from support.certificates import NAME, client_context, server_context
from support.net import tcp_pair
from support.protocols import Recorder
from support.tls import pair

row = pytest.mark.row

pytestmark = pytest.mark.usefixtures("engine")

VERSIONS = [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3]
MEBIBYTE = 1 << 20


@pytest.mark.parametrize("version", VERSIONS, ids=lambda v: v.name)
async def test_both_ways(loop, version):
    async with pair(client_context(version)) as (client, server):
        for size in (1, 1000, 16384, 16385, MEBIBYTE):
            client.data.clear()
            server.data.clear()
            client.transport.write(b"c" * size)
            server.transport.write(b"s" * size)
            assert await server.received(size) == b"c" * size
            assert await client.received(size) == b"s" * size
        sslobj = client.transport.get_extra_info("ssl_object")
        assert sslobj.version() == version.name.replace("_", ".")
        assert client.transport.get_extra_info("cipher") == sslobj.cipher()
        assert client.transport.get_extra_info("compression") is None
        peercert = client.transport.get_extra_info("peercert")
        assert peercert["subjectAltName"] == (("DNS", NAME),)
        assert server.transport.get_extra_info("peercert") is None
        assert client.transport.get_extra_info("socket") is not None


@row("P4F-007")
async def test_close_is_heard(loop):
    async with pair() as (client, server):
        client.transport.write(b"x" * 100_000)
        client.transport.close()
        assert client.transport.is_closing()
        assert await server.lost is None
        assert await client.lost is None
        assert bytes(server.data) == b"x" * 100_000
        for protocol in (client, server):
            calls = [c for c in protocol.calls if c != "data_received"]
            assert calls == [
                "connection_made",
                "eof_received",
                "connection_lost",
            ]


async def test_write_after_the_end_is_dropped(loop, caplog):
    async with pair() as (client, server):
        client.transport.abort()
        await client.lost
        for _ in range(6):
            client.transport.write(b"late")
            client.transport.writelines([b"late"])
        assert "SSL connection is closed" in caplog.text
        assert client.transport.get_extra_info("ssl_object") is not None


async def test_untrusted_certificate(loop):
    strict = ssl.create_default_context()
    with pytest.raises(ssl.SSLCertVerificationError):
        async with pair(strict):
            pass


@row("P2E-013")
async def test_writer_start_tls(loop):
    accepted = loop.create_future()

    async def serve(reader, writer):
        assert await reader.readline() == b"start\n"
        writer.write(b"go\n")
        await writer.start_tls(server_context())
        writer.write(await reader.readline())
        await writer.drain()
        writer.close()
        await writer.wait_closed()
        accepted.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname()
        )
        writer.write(b"start\n")
        assert await reader.readline() == b"go\n"
        await writer.start_tls(client_context(), server_hostname=NAME)
        writer.write(b"secret\n")
        assert await reader.readline() == b"secret\n"
        assert writer.get_extra_info("ssl_object") is not None
        assert await reader.read() == b""
        writer.close()
        await writer.wait_closed()
        await accepted


@row("P2A-021")
@pytest.mark.becket_only("CPython has it since 3.13.13 and 3.14.4")
async def test_start_tls_takes_what_the_reader_has(loop, monkeypatch):
    from becket import versions

    monkeypatch.setattr(versions, "START_TLS_TAKES_BUFFER", True)
    hello_came = loop.create_future()
    served = loop.create_future()

    async def serve(reader, writer):
        while not reader._buffer:
            await asyncio.sleep(0)
        hello_came.set_result(None)
        await writer.start_tls(server_context())
        writer.write(await reader.readline())
        writer.close()
        await writer.wait_closed()
        served.set_result(None)

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    async with server:
        reader, writer = await asyncio.open_connection(
            *server.sockets[0].getsockname(),
            ssl=client_context(),
            server_hostname=NAME,
        )
        assert hello_came.done()
        writer.write(b"secret\n")
        assert await reader.readline() == b"secret\n"
        writer.close()
        await writer.wait_closed()
        await served


@row("P2A-008")
async def test_over_a_unix_socket(loop, tmp_path):
    path = tmp_path / "socket"
    server = await loop.create_unix_server(
        lambda: Recorder(), path, ssl=server_context()
    )
    async with server:
        transport, protocol = await loop.create_unix_connection(
            Recorder,
            path,
            ssl=client_context(),
            server_hostname=NAME,
            ssl_handshake_timeout=10,
        )
        transport.close()
        assert await protocol.lost is None
    await asyncio.sleep(0)


async def test_tls_in_tls(loop):
    async with pair() as (client, server):
        inner = [Recorder(), Recorder()]
        transports = await asyncio.gather(
            loop.start_tls(
                client.transport,
                inner[0],
                client_context(),
                server_hostname=NAME,
            ),
            loop.start_tls(
                server.transport, inner[1], server_context(), server_side=True
            ),
        )
        for transport, protocol in zip(transports, inner, strict=True):
            protocol.transport = transport
        inner[0].transport.write(b"x" * MEBIBYTE)
        inner[1].transport.write(b"y" * MEBIBYTE)
        assert await inner[1].received(MEBIBYTE) == b"x" * MEBIBYTE
        assert await inner[0].received(MEBIBYTE) == b"y" * MEBIBYTE
        inner[0].transport.close()
        for protocol in (*inner, client, server):
            # The outer ones have given their transports away.
            if protocol in inner:
                assert await protocol.lost is None
        for protocol in (client, server):
            protocol.lost.set_result(None)


async def test_paused_reading_bounds_what_is_kept(loop):
    async with pair() as (client, server):
        server.transport.pause_reading()
        written = 0
        while "pause_writing" not in client.calls:
            client.transport.write(bytes(65536))
            written += 65536
            await asyncio.sleep(0)
        size = server.transport.get_read_buffer_size()
        assert size <= 2 * 256 * 1024 + 65536
        assert not server.data
        server.transport.resume_reading()
        await server.received(written)
        assert len(server.data) == written


async def test_object_outlives_the_connection(loop):
    async with pair() as (client, server):
        sslobj = client.transport.get_extra_info("ssl_object")
    with pytest.raises(ssl.SSLWantReadError):
        sslobj.read(1)
    sslobj.write(b"into the void")
    assert sslobj.version() == "TLSv1.3"


def test_object_outlives_the_loop(new_loop):
    loop = new_loop()

    async def connect():
        async with pair() as (client, _):
            return client.transport.get_extra_info("ssl_object")

    sslobj = loop.run_until_complete(connect())
    loop.close()
    del loop
    gc.collect()
    with pytest.raises(ssl.SSLWantReadError):
        sslobj.read(1)


async def test_abandoned_transport_warns(loop):
    ours, theirs = tcp_pair()
    with theirs:
        task = asyncio.ensure_future(
            loop.create_connection(
                Recorder, sock=ours, ssl=client_context(), server_hostname=NAME
            )
        )
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    del task
    gc.collect()
    assert ours.fileno() == -1


async def test_handshake_timeout(loop):
    ours, theirs = tcp_pair()
    with theirs:
        with pytest.raises(
            ConnectionAbortedError,
            match=r"^SSL handshake is taking longer than 0.05 seconds: "
            "aborting the connection$",
        ):
            await loop.create_connection(
                Recorder,
                sock=ours,
                ssl=client_context(),
                server_hostname=NAME,
                ssl_handshake_timeout=0.05,
            )


async def test_peer_leaves_in_the_handshake(loop):
    ours, theirs = tcp_pair()
    theirs.close()
    with pytest.raises(ConnectionResetError):
        await loop.create_connection(
            Recorder, sock=ours, ssl=client_context(), server_hostname=NAME
        )


ACTIONS = {
    "close": lambda transport: transport.close(),
    "abort": lambda transport: transport.abort(),
    "write": lambda transport: transport.write(b"again"),
    "pause": lambda transport: transport.pause_reading(),
    "close twice": lambda transport: (transport.close(), transport.close()),
    "write and abort": lambda transport: (
        transport.write(b"x" * 100_000),
        transport.abort(),
    ),
}
CALLBACKS = [
    "connection_made",
    "data_received",
    "eof_received",
    "connection_lost",
    "pause_writing",
    "resume_writing",
]


# The peer's handshake never ends, or nobody reads the goodbye.
NEVER_END = {
    ("connection_made", "abort"),
    ("connection_made", "close twice"),
    ("connection_made", "pause"),
}


@pytest.mark.parametrize(
    "callback, action",
    [
        (callback, action)
        for callback in CALLBACKS
        for action in ACTIONS
        if (callback, action) not in NEVER_END
    ],
)
async def test_actions_inside_callbacks(loop, callback, action):
    class Reentrant(Recorder):
        def _act(self, name, *args):
            getattr(Recorder, name)(self, *args)
            if name == callback and self.transport is not None:
                ACTIONS[action](self.transport)

    for name in CALLBACKS:
        setattr(
            Reentrant,
            name,
            lambda self, *args, name=name: self._act(name, *args),
        )
    async with pair(protocol=Reentrant) as (client, server):
        client.transport.write(b"x" * (2 * MEBIBYTE))
        for _ in range(20):
            await asyncio.sleep(0)
        if not server.transport.is_closing():
            server.transport.resume_reading()
        client.transport.close()
    for protocol in (client, server):
        assert protocol.calls.count("connection_made") == 1
        assert protocol.calls.count("connection_lost") == 1
        assert protocol.calls.count("eof_received") <= 1
        assert protocol.calls[-1] in ("connection_lost", "pause_writing")


@pytest.mark.becket_only("CPython has no choice of engines")
async def test_engine_of_a_wrong_name(loop, monkeypatch):
    monkeypatch.setenv("BECKET_TLS_ENGINE", "gnutls")
    with pytest.raises(ValueError, match="BECKET_TLS_ENGINE .* 'gnutls'"):
        _ = loop.tls_engine


class OwnObject(ssl.SSLObject):
    """A user's, whose methods count."""


async def test_own_class_of_objects(loop):
    context = client_context()
    context.sslobject_class = OwnObject
    async with pair(context) as (client, server):
        assert type(client.transport.get_extra_info("ssl_object")) is OwnObject
        client.transport.write(b"own")
        assert await server.received(3) == b"own"


async def test_key_log(loop, tmp_path):
    context = client_context()
    context.keylog_filename = str(tmp_path / "keys")
    async with pair(context) as (client, server):
        client.transport.write(b"logged")
        assert await server.received(6) == b"logged"
    assert "CLIENT_TRAFFIC_SECRET_0" in (tmp_path / "keys").read_text()


async def test_second_close_lets_go(loop):
    async with pair() as (client, server):
        client.transport.close()
        client.transport.close()
        assert client.transport.is_closing()
        assert await client.lost is None


@pytest.mark.becket_only("CPython raises AttributeError after two closes")
async def test_two_closes_leave_a_transport_of_use(loop):
    async with pair() as (client, _):
        transport = client.transport
        transport.close()
        transport.close()
        await client.lost
        transport.close()
        transport.write(b"late")
        transport.writelines([b"late"])
        transport.abort()
        transport.pause_reading()
        transport.resume_reading()
        assert transport.get_extra_info("cipher", 1) == 1
        assert transport.get_write_buffer_size() == 0
        assert transport.get_protocol() is None
        assert transport._ssl_protocol is None


async def test_garbage_instead_of_records(loop):
    ours, theirs = tcp_pair()
    with theirs:
        theirs.sendall(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        with pytest.raises(ssl.SSLError):
            await loop.create_connection(
                Recorder, sock=ours, ssl=client_context(), server_hostname=NAME
            )
