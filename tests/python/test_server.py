# SPDX-License-Identifier: MIT
"""The Server object."""

import asyncio
import functools
import select
import socket
import weakref

import pytest

from becket import versions
from support.loops import PY312, PY313
from support.net import connected, served, spin, until
from support.protocols import Echo, Recorder

row = pytest.mark.row


class Clients:
    """A server with protocols that can be looked at, and raw clients."""

    def __init__(self, loop, base=Recorder):
        self.loop = loop
        self.base = base
        self.protocols = []
        self.socks = []

    def factory(self):
        self.protocols.append(self.base())
        return self.protocols[-1]

    async def start(self, **kwargs):
        self.server = await self.loop.create_server(
            self.factory, "127.0.0.1", 0, **kwargs
        )
        self.address = self.server.sockets[0].getsockname()
        return self.server

    async def connect(self, count=1):
        for _ in range(count):
            sock = socket.create_connection(self.address, 10)
            self.socks.append(sock)
        await until(lambda: len(self.protocols) == len(self.socks))
        for protocol in self.protocols:
            await protocol.connected

    async def finish(self):
        for sock in self.socks:
            sock.close()
        for protocol in self.protocols:
            if not protocol.lost.done():
                protocol.transport.abort()
        await asyncio.gather(*(p.lost for p in self.protocols))
        self.server.close()
        await self.server.wait_closed()


@pytest.fixture
def clients(loop):
    return Clients(loop)


@row("P2D-001", "P2D-002")
async def test_loop_and_state(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    assert server.get_loop() is loop
    assert server.is_serving() is True
    assert server.close() is None
    assert server.is_serving() is False
    assert server.close() is None
    await server.wait_closed()
    assert server.get_loop() is loop


@row("P1A-232", "P2D-006", "P2D-007", "P1A-227")
async def test_sockets(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    sockets = server.sockets
    assert type(sockets) is tuple
    (sock,) = sockets
    assert isinstance(sock, asyncio.trsock.TransportSocket)
    assert sock.family == socket.AF_INET
    assert sock.type == socket.SOCK_STREAM
    assert sock.fileno() >= 0
    assert sock.gettimeout() == 0
    with pytest.raises(ValueError):
        sock.settimeout(1)
    with pytest.raises(ValueError):
        sock.setblocking(True)
    address = sock.getsockname()
    assert repr(sock) == (
        f"<asyncio.TransportSocket fd={sock.fileno()},"
        f" family={sock.family!s}, type={sock.type!s}, proto={sock.proto},"
        f" laddr={address}>"
    )
    server.close()
    assert server.sockets == ()
    await server.wait_closed()
    assert server.sockets == ()


@row("P2D-012")
async def test_repr(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    assert repr(server).startswith("<Server sockets=(<asyncio.TransportSocket")
    server.close()
    assert repr(server) == "<Server sockets=()>"
    await server.wait_closed()


@row("P1A-228")
async def test_close_keeps_the_clients(loop):
    clients = Clients(loop, Echo)
    server = await clients.start()
    await clients.connect()
    server.close()
    clients.socks[0].setblocking(False)
    await loop.sock_sendall(clients.socks[0], b"still here")
    assert await loop.sock_recv(clients.socks[0], 100) == b"still here"
    await clients.finish()


@row("P1A-227", "P1A-229", "P4G-027")
async def test_close_closes_the_socket_at_once(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    server.close()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 10)
    await server.wait_closed()


@row("P1A-231")
async def test_wait_closed_is_a_coroutine(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    server.close()
    coroutine = server.wait_closed()
    assert asyncio.iscoroutine(coroutine)
    assert await coroutine is None
    assert await server.wait_closed() is None


@row("P1A-230", "P2D-008", "P4G-030")
@pytest.mark.since(3, 12)
async def test_wait_closed_waits_for_close_and_for_the_clients(clients):
    server = await clients.start()
    await clients.connect()
    waiting = [asyncio.create_task(server.wait_closed()) for _ in range(3)]
    await spin(3)
    assert not any(task.done() for task in waiting)
    server.close()
    await spin(3)
    assert not any(task.done() for task in waiting)
    clients.socks[0].close()
    await asyncio.gather(*waiting)
    assert clients.protocols[0].lost.done()
    await clients.finish()


@row("P2D-008", "P4G-030")
@pytest.mark.since(3, 12)
async def test_wait_closed_before_close_without_clients(clients):
    server = await clients.start()
    waiting = asyncio.create_task(server.wait_closed())
    await spin(5)
    assert not waiting.done()
    server.close()
    await waiting
    await clients.finish()


@row("P4G-031")
@pytest.mark.before(3, 12)
async def test_wait_closed_of_a_closed_server_does_not_wait(clients):
    assert not PY312
    server = await clients.start()
    await clients.connect()
    server.close()
    await server.wait_closed()
    assert not clients.protocols[0].lost.done()
    await clients.finish()


@row("P2D-003")
async def test_start_serving_twice(loop):
    server = await loop.create_server(
        Recorder, "127.0.0.1", 0, start_serving=False
    )
    assert await server.start_serving() is None
    await server.start_serving()
    assert server.is_serving()
    server.close()
    await server.wait_closed()


@row("P2D-003", "P4G-029")
@pytest.mark.becket_only("CPython raises a TypeError without a meaning")
async def test_start_serving_after_close(loop):
    server = await loop.create_server(
        Recorder, "127.0.0.1", 0, start_serving=False
    )
    server.close()
    with pytest.raises(RuntimeError, match="^server .* is closed$"):
        await server.start_serving()
    await server.wait_closed()


@row("P2D-004")
async def test_serve_forever(loop):
    clients = Clients(loop)
    server = await clients.start(start_serving=False)
    task = asyncio.create_task(server.serve_forever())
    await spin(2)
    assert server.is_serving()
    await clients.connect()
    clients.socks[0].close()
    await clients.protocols[0].lost
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert server.sockets == ()
    assert not server.is_serving()
    await clients.finish()


@row("P2D-004")
async def test_serve_forever_twice(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    task = asyncio.create_task(server.serve_forever())
    await spin(2)
    with pytest.raises(
        RuntimeError,
        match=r"^server <Server .*> is already being awaited on"
        r" serve_forever\(\)$",
    ):
        await server.serve_forever()
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await task
    await server.wait_closed()


@row("P2D-004", "P4G-027")
async def test_close_ends_serve_forever(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    loop.call_later(0.01, server.close)
    with pytest.raises(asyncio.CancelledError):
        await asyncio.create_task(server.serve_forever())
    await server.wait_closed()


@row("P2D-004")
async def test_serve_forever_of_a_closed_server(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    server.close()
    with pytest.raises(RuntimeError, match="^server <Server .*> is closed$"):
        await server.serve_forever()
    await server.wait_closed()


@row("P4G-028")
@pytest.mark.since(3, 12)
async def test_cancelled_serve_forever_waits_for_the_clients(clients):
    server = await clients.start()
    await clients.connect()
    task = asyncio.create_task(server.serve_forever())
    await spin(2)
    task.cancel()
    await spin(5)
    # Later versions close them, so that nobody waits for a client.
    assert task.done() == versions.CANCEL_CLOSES_CLIENTS
    if not versions.CANCEL_CLOSES_CLIENTS:
        clients.socks[0].close()
    with pytest.raises(asyncio.CancelledError):
        await task
    await clients.finish()


@row("P2D-005")
async def test_context_manager(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    async with server as entered:
        assert entered is server
        assert server.is_serving()
    assert server.sockets == ()
    with pytest.raises(ZeroDivisionError):
        async with await loop.create_server(Recorder, "127.0.0.1", 0):
            raise ZeroDivisionError


@row("P2D-009", "P2H-011")
@pytest.mark.since(3, 13)
async def test_close_clients(clients):
    server = await clients.start()
    await clients.connect(3)
    assert server.close_clients() is None
    assert all(p.transport.is_closing() for p in clients.protocols)
    server.close()
    await server.wait_closed()
    assert [p.exc for p in clients.protocols] == [None] * 3
    for sock in clients.socks:
        assert sock.recv(1) == b""
    await clients.finish()


@row("P2D-009")
@pytest.mark.since(3, 13)
async def test_close_clients_flushes(clients):
    server = await clients.start()
    await clients.connect()
    data = bytes(8 << 20)
    transport = clients.protocols[0].transport
    transport.write(data)
    assert transport.get_write_buffer_size() > 0
    server.close()
    server.close_clients()
    await spin(3)
    assert not clients.protocols[0].lost.done()
    sock = clients.socks[0]
    sock.setblocking(False)
    got = 0
    while chunk := await loop_recv(sock):
        got += len(chunk)
    assert got == len(data)
    await server.wait_closed()
    await clients.finish()


async def loop_recv(sock):
    return await asyncio.get_running_loop().sock_recv(sock, 1 << 20)


@row("P2D-010", "P2H-011")
@pytest.mark.since(3, 13)
async def test_abort_clients(clients):
    server = await clients.start()
    await clients.connect(2)
    transport = clients.protocols[0].transport
    transport.write(bytes(8 << 20))
    server.close()
    assert server.abort_clients() is None
    assert transport.get_write_buffer_size() == 0
    await server.wait_closed()
    assert [p.exc for p in clients.protocols] == [None] * 2
    await clients.finish()


@row("P4G-032")
@pytest.mark.since(3, 13)
async def test_clients_that_come_and_go_while_all_are_closed(clients):
    """What a close() does to the others disturbs nothing."""
    server = await clients.start()
    await clients.connect(5)
    closed = []

    def close_all_others(transport):
        closed.append(transport)
        if len(closed) == 1:
            server.abort_clients()
            server.close_clients()

    for protocol in clients.protocols:
        transport = protocol.transport
        transport.close = functools.partial(close_all_others, transport)
    server.close_clients()
    assert len(closed) >= 5
    for protocol in clients.protocols:
        assert await protocol.lost is None
        del protocol.transport.close
    closed.clear()
    await clients.finish()


@row("P4G-032")
@pytest.mark.since(3, 13)
async def test_close_clients_without_clients(clients):
    assert PY313
    server = await clients.start()
    server.close_clients()
    server.abort_clients()
    await clients.connect()
    await clients.finish()


@row("P4E-031")
@pytest.mark.since(3, 12)
async def test_client_detaches_after_connection_lost(clients):
    """The server waits until connection_lost() has been called."""
    order = []

    class Noting(Recorder):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            order.append("lost")

    clients.base = Noting
    server = await clients.start()
    await clients.connect()
    server.close()

    async def wait():
        await server.wait_closed()
        order.append("closed")

    task = asyncio.create_task(wait())
    clients.socks[0].close()
    await task
    assert order == ["lost", "closed"]
    await clients.finish()


@row("P4A-033")
async def test_attributes_can_be_assigned(loop):
    async with served(loop, Recorder) as (server, _):
        server.extra = 1
        assert server.extra == 1
        assert weakref.ref(server)() is server


async def test_server_survives_without_a_reference(loop):
    import gc

    clients = Clients(loop)
    server = await clients.start()
    alive = server.sockets
    del server
    clients.server = None
    gc.collect()
    await clients.connect()
    assert clients.protocols[0].transport is not None
    clients.socks[0].close()
    await clients.protocols[0].lost
    # Only the loop's end can close it now; its socket is found by number.
    del alive
    await close_listening(loop, clients.address)


async def close_listening(loop, address):
    """Close the server that nobody refers to: through its transport."""
    import gc

    for found in gc.get_objects():
        if isinstance(found, asyncio.AbstractServer):
            for sock in found.sockets:
                if sock.getsockname() == address:
                    found.close()
                    await found.wait_closed()
                    return
    raise AssertionError("the server is gone")


async def test_close_within_connection_made(loop):
    class Closing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            server.close()

    clients = Clients(loop, Closing)
    server = await clients.start()
    await clients.connect()
    assert server.sockets == ()
    await clients.finish()


async def test_close_while_connections_wait(loop):
    """Connections that the kernel has, the loop not yet, are dropped."""
    clients = Clients(loop)
    server = await clients.start()
    socks = [socket.create_connection(clients.address, 10) for _ in range(5)]
    server.close()
    await server.wait_closed()
    await spin(2)
    for sock in socks:
        with sock:
            try:
                assert sock.recv(1) == b""
            except ConnectionResetError:
                pass
    assert clients.protocols == []


@pytest.mark.since(3, 13)
async def test_the_server_holds_clients_weakly(loop):
    import gc

    clients = Clients(loop)
    server = await clients.start()
    await clients.connect()
    alive = weakref.ref(clients.protocols[0].transport)
    clients.socks[0].close()
    await clients.protocols[0].lost
    clients.protocols.clear()
    clients.socks.clear()
    await spin(2)
    gc.collect()
    assert alive() is None
    server.close()
    await server.wait_closed()


async def test_closed_behind_what_transports_wrote(loop):
    """Whoever waits in the backlog is reset when the listener closes."""
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    async with connected(loop, asyncio.Protocol) as (stream, _, peer):
        with (
            socket.create_connection(server.sockets[0].getsockname()) as late,
            select.epoll() as arrivals,
        ):
            for sock in late, peer:
                arrivals.register(sock, select.EPOLLIN | select.EPOLLET)
            stream.write(b"just now")
            server.close()
            found = [number for number, _ in arrivals.poll(0)]
            assert found == [peer.fileno(), late.fileno()]
