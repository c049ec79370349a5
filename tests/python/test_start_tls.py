# SPDX-License-Identifier: MIT
"""start_tls(): its steps, its failures, and transports that are not ours."""

import asyncio
import contextlib
import gc
import ssl
import sys
import weakref

import pytest

from support.certificates import NAME, client_context, server_context
from support.net import spin, tcp_pair
from support.protocols import Recorder

row = pytest.mark.row

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.one_poller]

KIBIBYTE = 1 << 10
OTHER = "other.example"


@contextlib.asynccontextmanager
async def plain_pair(loop):
    """Two protocols that are connected without TLS."""
    ours, theirs = tcp_pair()
    _, client = await loop.create_connection(Recorder, sock=ours)
    _, server = await loop.connect_accepted_socket(Recorder, theirs)
    transports = [client.transport, server.transport]
    try:
        yield client, server
    finally:
        for transport in transports:
            transport.abort()
        await spin(3)


async def upgrade(loop, client, server):
    """Both ends at once; the protocols get their new transports."""
    transports = await asyncio.gather(
        loop.start_tls(
            client.transport, client, client_context(), server_hostname=NAME
        ),
        loop.start_tls(
            server.transport, server, server_context(), server_side=True
        ),
    )
    client.transport, server.transport = transports


@row("P2A-020")
async def test_upgrade(loop):
    async with plain_pair(loop) as (client, server):
        client.transport.write(b"plain")
        assert await server.received(5) == b"plain"
        before = client.transport
        await upgrade(loop, client, server)
        assert client.transport is not before
        assert client.transport.get_protocol() is client
        assert client.transport.get_extra_info("cipher") is not None
        client.transport.write(b" secret")
        assert await server.received(12) == b"plain secret"
        server.transport.write(b"x" * 300_000)
        await client.received(300_000)
        client.transport.close()
        for protocol in (client, server):
            assert await protocol.lost is None
            assert protocol.calls.count("connection_made") == 1
            assert protocol.calls.count("connection_lost") == 1


@row("P2A-020")
async def test_other_protocol(loop):
    """The protocol of before hears nothing any more."""
    async with plain_pair(loop) as (client, server):
        inner = [Recorder(), Recorder()]
        for recorder, outer in zip(inner, (client, server), strict=True):
            recorder.transport = outer.transport
        await upgrade(loop, *inner)
        inner[0].transport.write(b"secret")
        assert await inner[1].received(6) == b"secret"
        inner[0].transport.close()
        assert await inner[0].lost is await inner[1].lost is None
        assert client.calls == server.calls == ["connection_made"]
        assert "connection_made" not in inner[0].calls + inner[1].calls


@row("P2A-020")
@pytest.mark.parametrize("bad", [None, True, "context"])
async def test_needs_a_context(loop, bad):
    async with plain_pair(loop) as (client, _):
        with pytest.raises(
            TypeError,
            match="^sslcontext is expected to be an instance of"
            " ssl.SSLContext, got ",
        ):
            await loop.start_tls(client.transport, client, bad)
        client.transport.write(b"goes on")


@row("P2A-020")
async def test_needs_a_transport_for_it(loop):
    class Own(asyncio.Transport):
        pass

    for bad in (Own(), object()):
        with pytest.raises(
            TypeError,
            match=r"^transport .* is not supported by start_tls\(\)$",
        ):
            await loop.start_tls(bad, Recorder(), client_context())


@row("P2A-020", "P2A-031", "P4F-017")
@pytest.mark.parametrize("value", [0, -1])
@pytest.mark.parametrize(
    "keyword", ["ssl_handshake_timeout", "ssl_shutdown_timeout"]
)
async def test_timeouts_are_positive(loop, keyword, value):
    async with plain_pair(loop) as (client, server):
        with pytest.raises(
            ValueError,
            match=f"^{keyword} should be a positive number, got {value}$",
        ):
            await loop.start_tls(
                client.transport,
                client,
                client_context(),
                server_hostname=NAME,
                **{keyword: value},
            )
        client.transport.write(b"goes on")
        assert await server.received(7) == b"goes on"


@row("P4F-017", "P4F-005")
async def test_handshake_timeout(loop):
    async with plain_pair(loop) as (client, server):
        with pytest.raises(
            ConnectionAbortedError, match=r"longer than 0\.05 seconds"
        ):
            await loop.start_tls(
                client.transport,
                client,
                client_context(),
                server_hostname=NAME,
                ssl_handshake_timeout=0.05,
            )
        await server.lost
        assert client.transport.is_closing()


@row("P4F-017", "P4F-003")
async def test_handshake_fails(loop):
    """The transport below is closed with it."""
    async with plain_pair(loop) as (client, server):
        results = await asyncio.gather(
            loop.start_tls(
                client.transport,
                client,
                client_context(),
                server_hostname=OTHER,
            ),
            loop.start_tls(
                server.transport, server, server_context(), server_side=True
            ),
            return_exceptions=True,
        )
        assert isinstance(results[0], ssl.SSLCertVerificationError)
        assert client.transport.is_closing()
        if isinstance(results[1], asyncio.Transport):
            results[1].abort()
        await spin(3)


@row("P4F-017")
async def test_cancelled(loop):
    async with plain_pair(loop) as (client, server):
        task = asyncio.ensure_future(
            loop.start_tls(
                client.transport,
                client,
                client_context(),
                server_hostname=NAME,
            )
        )
        assert (await server.received(5))[:1] == b"\x16"
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert client.transport.is_closing()
        await server.lost


@row("P4F-017")
async def test_cancelled_before_it_began(loop):
    async with plain_pair(loop) as (client, server):
        task = asyncio.ensure_future(
            loop.start_tls(
                client.transport,
                client,
                client_context(),
                server_hostname=NAME,
            )
        )
        await asyncio.sleep(0)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await server.lost


@pytest.mark.parametrize("how", ["abort", "close"])
async def test_lower_transport_is_lost_before_it_begins(loop, how):
    """connection_lost() then comes ahead of connection_made(). aiohttp asks
    for None, which tells it that there is no connection."""
    async with plain_pair(loop) as (client, server):
        getattr(client.transport, how)()
        transport = await loop.start_tls(
            client.transport, client, client_context(), server_hostname=NAME
        )
        assert transport is None
        await spin(5)
        assert client.lost.done()
        await server.lost


# A transport of the test's own: what is asked of it, and when.


class Lower(asyncio.Transport):
    """One end of a connection in memory; writes down what is asked of it."""

    _start_tls_compatible = True

    def __init__(self, loop):
        super().__init__({"peername": "nobody"})
        self.loop = loop
        self.asked = []
        self.peer = None
        self.protocol = None
        self.is_paused = False
        self.is_lost = False
        self.waiting = bytearray()

    def set_protocol(self, protocol):
        self.asked.append("set_protocol")
        self.protocol = protocol

    def write(self, data):
        self.asked.append("write")
        assert isinstance(data, (bytes, bytearray, memoryview))
        self.peer.waiting += data
        self.loop.call_soon(self.peer.deliver)

    def deliver(self):
        while self.waiting and not self.is_paused and not self.is_lost:
            buffer = self.protocol.get_buffer(len(self.waiting))
            count = min(len(buffer), len(self.waiting))
            buffer[:count] = self.waiting[:count]
            del self.waiting[:count]
            self.protocol.buffer_updated(count)

    def pause_reading(self):
        self.asked.append("pause_reading")
        self.is_paused = True

    def resume_reading(self):
        self.asked.append("resume_reading")
        self.is_paused = False
        self.loop.call_soon(self.deliver)

    def close(self):
        self.asked.append("close")
        self.lose(None)

    def abort(self):
        self.asked.append("abort")
        self.lose(None)

    def _force_close(self, exc):
        self.asked.append("_force_close")
        self.lose(exc)

    def is_closing(self):
        self.asked.append("is_closing")
        return self.is_lost

    def get_extra_info(self, name, default=None):
        self.asked.append("get_extra_info")
        return super().get_extra_info(name, default)

    def lose(self, exc):
        if not self.is_lost:
            self.is_lost = True
            self.loop.call_soon(self.protocol.connection_lost, exc)
            self.loop.call_soon(self.peer.hear_the_end)

    def hear_the_end(self):
        if not self.is_lost:
            self.deliver()
            if not self.protocol.eof_received():
                self.lose(None)


def memory_pair(loop):
    left, right = Lower(loop), Lower(loop)
    left.peer, right.peer = right, left
    return left, right


async def memory_tls(loop):
    """(lower transports, protocols) of a TLS connection in memory."""
    lowers = memory_pair(loop)
    protocols = [Recorder(), Recorder()]
    for lower, protocol in zip(lowers, protocols, strict=True):
        protocol.transport = lower
    await upgrade(loop, *protocols)
    return lowers, protocols


@row("P4F-014")
async def test_own_transport_carries_tls(loop):
    lowers, (client, server) = await memory_tls(loop)
    client.transport.write(b"x" * 100_000)
    assert await server.received(100_000) == b"x" * 100_000
    assert client.transport.get_extra_info("peername") == "nobody"
    server.transport.pause_reading()
    server.transport.set_read_buffer_limits(high=10 * KIBIBYTE)
    client.transport.write(b"y" * 100_000)
    await spin(10)
    assert "pause_reading" in lowers[1].asked[4:]
    server.transport.resume_reading()
    await server.received(200_000)
    client.transport.close()
    assert await client.lost is await server.lost is None
    allowed = {"set_protocol", "write", "pause_reading", "resume_reading"}
    allowed |= {"close", "get_extra_info", "is_closing"}
    for lower in lowers:
        assert set(lower.asked) <= allowed
        assert lower.is_lost


@row("P4F-014", "P2E-015")
async def test_abort_of_an_own_transport(loop):
    lowers, (client, server) = await memory_tls(loop)
    client.transport.abort()
    # CPython says abort() before 3.13, which does the same.
    assert {"_force_close", "abort"} & set(lowers[0].asked)
    assert await client.lost is None
    assert await server.lost is None


@row("P4F-014", "P2E-015")
async def test_shutdown_timeout_of_an_own_transport(loop):
    lowers = memory_pair(loop)
    protocols = [Recorder(), Recorder()]
    transports = await asyncio.gather(
        loop.start_tls(
            lowers[0],
            protocols[0],
            client_context(),
            server_hostname=NAME,
            ssl_shutdown_timeout=0.05,
        ),
        loop.start_tls(
            lowers[1], protocols[1], server_context(), server_side=True
        ),
    )
    lowers[1].is_paused = True
    transports[0].close()
    exc = await protocols[0].lost
    assert isinstance(exc, TimeoutError)
    assert "_force_close" in lowers[0].asked
    lowers[1].is_paused = False
    lowers[1].hear_the_end()
    await protocols[1].lost


@row("P4F-017")
async def test_steps(loop):
    left, right = memory_pair(loop)
    protocol = Recorder()
    task = asyncio.ensure_future(
        loop.start_tls(left, protocol, client_context(), server_hostname=NAME)
    )
    await asyncio.sleep(0)
    # Nothing is sent before the loop is back.
    assert left.asked == ["pause_reading", "set_protocol"]
    await asyncio.sleep(0)
    assert left.asked == [
        "pause_reading",
        "set_protocol",
        "write",
        "resume_reading",
    ]
    assert not task.done()
    assert bytes(right.waiting[:2]) == b"\x16\x03"
    right.protocol = Recorder()
    right.is_lost = True
    left.hear_the_end()
    with pytest.raises(ConnectionResetError):
        await task
    assert left.is_lost
    assert "close" in left.asked
    # It was connected before: now it is not any more.
    assert protocol.calls == ["connection_lost"]


@row("P4F-014")
async def test_lower_transport_pauses_writing(loop):
    """What comes meanwhile is kept above, and sent when it resumes."""
    lowers, (client, server) = await memory_tls(loop)
    tls = lowers[0].protocol
    tls.pause_writing()
    before = lowers[0].asked.count("write")
    for _ in range(10):
        client.transport.write(b"x" * 100_000)
    await spin(3)
    assert lowers[0].asked.count("write") == before
    assert client.transport.get_write_buffer_size() > 1_000_000
    assert "pause_writing" in client.calls
    tls.resume_writing()
    assert client.transport.get_write_buffer_size() == 0
    assert "resume_writing" in client.calls
    await server.received(1_000_000)
    client.transport.close()
    await client.lost
    await server.lost


def frees_failed():
    """create_connection() and start_tls() leave no cycle when they fail."""
    return sys.version_info >= (3, 15) or sys.version_info[:3] >= (3, 14, 9)


@pytest.mark.oracle_skip("left to the collector", when=not frees_failed())
@pytest.mark.parametrize("how", ["start_tls", "create_connection"])
async def test_failed_handshake_leaves_no_cycle(loop, how):
    gc.collect()
    gc.disable()
    try:
        protocol = weakref.ref(await fail_handshake(loop, how))
        await spin(5)
        assert protocol() is None
    finally:
        gc.enable()


class Forgetful(asyncio.Protocol):
    """Keeps nothing, least of all the exception."""


async def fail_handshake(loop, how):
    """Where the protocol of the failed connection is still to be seen."""
    ours, theirs = tcp_pair()
    protocol = Forgetful()
    kwargs = {"server_hostname": NAME}
    with theirs:
        theirs.send(b"this is no TLS, and long enough to be told\r\n")
        with pytest.raises(ssl.SSLError):
            if how == "start_tls":
                lower, _ = await loop.create_connection(
                    asyncio.Protocol, sock=ours
                )
                await loop.start_tls(
                    lower, protocol, client_context(), **kwargs
                )
            else:
                await loop.create_connection(
                    lambda: protocol, sock=ours, ssl=client_context(), **kwargs
                )
    return protocol


def checks_names():
    """wrap_bio() refuses a context that checks names without a name."""
    version = sys.version_info[:3]
    return version >= (3, 14, 8) or (3, 13, 16) <= version < (3, 14)


@pytest.mark.skipif(not checks_names(), reason="not checked before 3.14.8")
async def test_a_name_is_needed_where_it_is_checked(loop):
    async with plain_pair(loop) as (client, _):
        with pytest.raises(ValueError, match="requires server_hostname"):
            await loop.start_tls(client.transport, client, client_context())
    ours, theirs = tcp_pair()
    with theirs:
        with pytest.raises(ValueError, match="requires server_hostname"):
            await loop.create_connection(
                Recorder, sock=ours, ssl=client_context(), server_hostname=""
            )
        assert ours.fileno() == -1
        assert theirs.recv(1) == b""


async def test_failure_after_write_eof_below(loop, errors):
    """No alert can be sent, which is no failure of its own."""
    ours, theirs = tcp_pair()
    plain, protocol = await loop.create_connection(Recorder, sock=ours)
    upgrading = asyncio.ensure_future(
        loop.start_tls(
            plain,
            protocol,
            client_context(name=OTHER),
            server_hostname=NAME,
        )
    )
    await spin(3)
    plain.write_eof()
    with theirs, contextlib.suppress(ssl.SSLError, ConnectionError):
        await asyncio.to_thread(
            server_context().wrap_socket, theirs, server_side=True
        )
    with pytest.raises(ssl.SSLCertVerificationError):
        await upgrading
    assert isinstance(await protocol.lost, ssl.SSLError)
    assert [each["message"] for each in errors] == []
