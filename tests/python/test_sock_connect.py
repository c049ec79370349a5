# SPDX-License-Identifier: MIT
"""sock_connect and sock_accept."""

import asyncio
import socket

import pytest

from support.net import (
    has_ipv6,
    listener,
    refusing_port,
    silent_address,
    spin,
)

row = pytest.mark.row


@pytest.fixture
def client():
    with socket.socket() as sock:
        sock.setblocking(False)
        yield sock


@pytest.fixture
def server():
    with listener() as sock:
        sock.setblocking(False)
        yield sock


@row("P1A-164")
async def test_connect(loop, client, server):
    address = server.getsockname()
    assert await loop.sock_connect(client, address) is None
    assert client.getpeername() == address


@row("P1A-164", "P4C-012")
async def test_refused(loop, client):
    with refusing_port() as port:
        with pytest.raises(ConnectionRefusedError) as caught:
            await loop.sock_connect(client, ("127.0.0.1", port))
    assert caught.value.errno == 111
    assert str(caught.value) == (
        f"[Errno 111] Connect call failed ('127.0.0.1', {port})"
    )
    assert loop.remove_writer(client) is False


@row("P1A-167", "P4C-009")
async def test_a_literal_is_not_resolved(loop, client, server):
    async def refuse(*args, **kwargs):
        raise AssertionError("resolved")

    loop.getaddrinfo = refuse
    await loop.sock_connect(client, server.getsockname())
    del loop.getaddrinfo


@row("P1A-168", "P4D-011", "P4A-033")
async def test_a_name_is_resolved_by_the_loop(loop, client, server):
    asked = []
    original = loop.getaddrinfo

    async def resolve(host, port, **kwargs):
        asked.append((host, port, kwargs["family"]))
        return await original(host, port, **kwargs)

    loop.getaddrinfo = resolve
    port = server.getsockname()[1]
    await loop.sock_connect(client, ("localhost", port))
    del loop.getaddrinfo
    assert asked == [("localhost", port, socket.AF_INET)]
    assert client.getpeername() == ("127.0.0.1", port)


async def test_unknown_name(loop, client):
    with pytest.raises(socket.gaierror):
        await loop.sock_connect(client, ("does-not-exist.invalid", 1))


async def test_cancelled(loop, client):
    with silent_address() as address:
        task = asyncio.create_task(loop.sock_connect(client, address))
        await spin(3)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await spin(2)
        assert loop.remove_writer(client) is False


async def test_timeout(loop, client):
    with silent_address() as address:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await loop.sock_connect(client, address)


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on the loopback")
async def test_ipv6(loop):
    with listener("::1", family=socket.AF_INET6) as server:
        with socket.socket(socket.AF_INET6) as client:
            client.setblocking(False)
            await loop.sock_connect(client, server.getsockname())
            assert client.getpeername()[:2] == server.getsockname()[:2]


@row("P4D-011")
async def test_unix(loop, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            await loop.sock_connect(client, path)
            assert client.getpeername() == path
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            with pytest.raises(FileNotFoundError):
                await loop.sock_connect(client, path + ".missing")


async def test_datagram_connect(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as one:
        with socket.socket(type=socket.SOCK_DGRAM) as two:
            two.bind(("127.0.0.1", 0))
            one.setblocking(False)
            await loop.sock_connect(one, two.getsockname())
            assert one.getpeername() == two.getsockname()


@pytest.mark.parametrize(
    "address",
    [None, 5, (), ("127.0.0.1",), ("127.0.0.1", 1, 2, 3, 4)],
    ids=repr,
)
async def test_bad_addresses(loop, client, address):
    with pytest.raises((TypeError, ValueError, IndexError, OSError)):
        await loop.sock_connect(client, address)


async def test_connect_again(loop, client, server):
    await loop.sock_connect(client, server.getsockname())
    # Linux tells the caller once that the connection has been made.
    await loop.sock_connect(client, server.getsockname())
    with pytest.raises(OSError) as caught:
        await loop.sock_connect(client, server.getsockname())
    assert caught.value.errno == 106


@row("P1A-169", "P1A-171", "P4D-012")
async def test_accept(loop, client, server):
    accepting = asyncio.create_task(loop.sock_accept(server))
    await spin(2)
    assert not accepting.done()
    await loop.sock_connect(client, server.getsockname())
    conn, address = await accepting
    with conn:
        assert type(conn) is socket.socket
        assert address == client.getsockname()
        assert conn.gettimeout() == 0
        assert conn.get_inheritable() is False
        await loop.sock_sendall(conn, b"hello")
        assert await loop.sock_recv(client, 10) == b"hello"


@row("P1A-169", "P4D-007")
async def test_accept_of_a_waiting_connection_takes_no_turn(loop, server):
    with socket.create_connection(server.getsockname(), 10) as client:
        ran = []
        loop.call_soon(ran.append, 1)
        conn, address = await loop.sock_accept(server)
        assert ran == []
        assert address == client.getsockname()
        conn.close()
    await spin()


@row("P1A-170")
async def test_accept_on_a_socket_that_does_not_listen(loop, client):
    with pytest.raises(OSError):
        await loop.sock_accept(client)


async def test_accept_cancelled(loop, server):
    task = asyncio.create_task(loop.sock_accept(server))
    await spin(2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    await spin(2)
    assert loop.remove_reader(server) is False
    with socket.create_connection(server.getsockname(), 10):
        conn, _ = await loop.sock_accept(server)
        conn.close()


async def test_accept_many(loop, server):
    clients = []
    for _ in range(10):
        clients.append(socket.create_connection(server.getsockname(), 10))
    addresses = set()
    for _ in range(10):
        conn, address = await loop.sock_accept(server)
        addresses.add(address)
        conn.close()
    assert addresses == {client.getsockname() for client in clients}
    for sock in clients:
        sock.close()


async def test_unix_accept(loop, tmp_path):
    path = str(tmp_path / "socket")
    with socket.socket(socket.AF_UNIX) as server:
        server.bind(path)
        server.listen()
        server.setblocking(False)
        with socket.socket(socket.AF_UNIX) as client:
            client.setblocking(False)
            await loop.sock_connect(client, path)
            conn, address = await loop.sock_accept(server)
            with conn:
                assert address == ""
                assert conn.family == socket.AF_UNIX
                await loop.sock_sendall(client, b"unix")
                assert await loop.sock_recv(conn, 10) == b"unix"


def test_audit_events(backend):
    """sock_connect tells audit hooks what the blocking call tells them."""
    from support.procs import check, run_code

    code = """
        import socket, sys
        from support.loops import loop_from_environment

        events = []
        sys.addaudithook(
            lambda name, args: events.append((name, args[1:]))
            if name == "socket.connect" else None
        )
        loop = loop_from_environment()
        with socket.create_server(("127.0.0.1", 0)) as server:
            with socket.socket() as client:
                client.setblocking(False)
                address = server.getsockname()
                loop.run_until_complete(loop.sock_connect(client, address))
        loop.close()
        assert events == [("socket.connect", (address,))], events
    """
    check(run_code(backend, code))
