# SPDX-License-Identifier: MIT
"""create_server: which sockets it makes, and connect_accepted_socket."""

import asyncio
import errno
import socket
import sys

import pytest

from support.net import (
    has_ipv6,
    listen_backlog,
    listener,
    peer_recv,
    served,
    spin,
    tcp_pair,
    until,
)
from support.protocols import Echo, Recorder

row = pytest.mark.row
needs_ipv6 = pytest.mark.skipif(
    not has_ipv6(), reason="no IPv6 on the loopback"
)


def option(sock, name, level=socket.SOL_SOCKET):
    return sock.getsockopt(level, getattr(socket, name))


async def close(server):
    server.close()
    await server.wait_closed()


@row("P1A-118", "P1A-119", "P1A-132", "P1A-121")
async def test_serves(loop):
    coroutine = loop.create_server(Echo, "127.0.0.1", 0)
    assert asyncio.iscoroutine(coroutine)
    server = await coroutine
    (sock,) = server.sockets
    host, port = sock.getsockname()
    assert host == "127.0.0.1" and port > 0
    reader, writer = await asyncio.open_connection(host, port)
    writer.write(b"hello")
    assert await reader.readexactly(5) == b"hello"
    writer.close()
    await writer.wait_closed()
    await close(server)


@row("P1A-225", "P1A-226", "P2D-013")
async def test_kind_of_the_server(loop):
    async with served(loop, Recorder) as (server, _):
        assert isinstance(server, asyncio.AbstractServer)


@row("P1A-120", "P1A-227")
async def test_closed_server_refuses(loop):
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    await close(server)
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 10)


@row("P1A-122", "P1A-135", "P4C-010")
async def test_sequence_of_hosts(loop):
    hosts = ["127.0.0.1", "127.0.0.2", "127.0.0.1"]
    server = await loop.create_server(Recorder, hosts, 0)
    found = sorted(sock.getsockname()[0] for sock in server.sockets)
    assert found == ["127.0.0.1", "127.0.0.2"]
    for sock in server.sockets:
        socket.create_connection(sock.getsockname(), 10).close()
    await close(server)


@needs_ipv6
@row("P1A-122", "P1A-123")
async def test_both_families(loop):
    server = await loop.create_server(Recorder, ["127.0.0.1", "::1"], 0)
    families = {sock.family for sock in server.sockets}
    assert families == {socket.AF_INET, socket.AF_INET6}
    for sock in server.sockets:
        if sock.family == socket.AF_INET6:
            assert option(sock, "IPV6_V6ONLY", socket.IPPROTO_IPV6) == 1
        socket.create_connection(sock.getsockname()[:2], 10).close()
    await close(server)


@row("P1A-123")
@pytest.mark.parametrize("host", [None, ""])
async def test_all_interfaces(loop, host):
    server = await loop.create_server(Recorder, host, 0)
    addresses = {sock.getsockname()[0] for sock in server.sockets}
    assert "0.0.0.0" in addresses
    assert addresses <= {"0.0.0.0", "::"}
    for sock in server.sockets:
        port = sock.getsockname()[1]
        local = "127.0.0.1" if sock.family == socket.AF_INET else "::1"
        socket.create_connection((local, port), 10).close()
    await close(server)


@row("P1A-124")
async def test_family(loop):
    server = await loop.create_server(Recorder, None, 0, family=socket.AF_INET)
    assert [s.family for s in server.sockets] == [socket.AF_INET]
    await close(server)
    with pytest.raises(OSError):
        await loop.create_server(
            Recorder, "127.0.0.1", 0, family=socket.AF_INET6
        )


@row("P4C-009")
async def test_a_literal_is_not_looked_up(loop):
    async def resolve(host, port, **kwargs):
        raise AssertionError("looked up")

    loop.getaddrinfo = resolve
    for port in (0, "0", b"0", None):
        server = await loop.create_server(Recorder, "127.0.0.1", port)
        await close(server)
    del loop.getaddrinfo


@row("P1A-125", "P4A-033")
async def test_arguments_of_the_lookup(loop):
    asked = []

    async def resolve(host, port, **kwargs):
        asked.append((host, port, kwargs))
        return socket.getaddrinfo("127.0.0.1", port, type=socket.SOCK_STREAM)

    loop.getaddrinfo = resolve
    server = await loop.create_server(
        Recorder, "name.example", 0, flags=socket.AI_CANONNAME
    )
    del loop.getaddrinfo
    assert asked == [
        (
            "name.example",
            0,
            {
                "family": socket.AF_UNSPEC,
                "type": socket.SOCK_STREAM,
                "proto": 0,
                "flags": socket.AI_CANONNAME,
            },
        )
    ]
    await close(server)


async def test_unknown_host(loop):
    with pytest.raises(socket.gaierror):
        await loop.create_server(Recorder, "does-not-exist.invalid", 0)


@row("P1A-126")
async def test_given_socket(loop):
    sock = socket.socket()
    sock.bind(("127.0.0.1", 0))
    server = await loop.create_server(Echo, sock=sock)
    assert [s.fileno() for s in server.sockets] == [sock.fileno()]
    assert sock.gettimeout() == 0
    with socket.create_connection(sock.getsockname(), 10) as client:
        client.setblocking(False)
        await loop.sock_sendall(client, b"x")
        assert await loop.sock_recv(client, 1) == b"x"
    await close(server)
    assert sock.fileno() == -1


@row("P1A-126")
async def test_given_unix_socket(loop, tmp_path):
    """As servers that make their sockets themselves hand them over."""
    path = str(tmp_path / "socket")
    sock = socket.socket(socket.AF_UNIX)
    sock.bind(path)
    server = await loop.create_server(Echo, sock=sock)
    with socket.socket(socket.AF_UNIX) as client:
        client.setblocking(False)
        await loop.sock_connect(client, path)
        await loop.sock_sendall(client, b"unix")
        assert await loop.sock_recv(client, 10) == b"unix"
    await close(server)
    await spin(3)
    assert sock.fileno() == -1


@row("P1A-126")
async def test_given_listening_socket_with_waiting_connections(loop):
    sock = listener()
    clients = [
        socket.create_connection(sock.getsockname(), 10) for _ in range(3)
    ]
    protocols = []
    server = await loop.create_server(
        lambda: protocols.append(Recorder()) or protocols[-1], sock=sock
    )
    await until(lambda: len(protocols) == 3)
    for client in clients:
        client.close()
    await asyncio.gather(*(protocol.lost for protocol in protocols))
    await close(server)


@row("P1A-127")
async def test_given_socket_of_a_wrong_kind(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="^A Stream Socket was expected"):
            await loop.create_server(Recorder, sock=sock)


@row("P1A-127")
@pytest.mark.parametrize("args", [{"host": "x"}, {"port": 1}])
async def test_socket_excludes_host_and_port(loop, args):
    with socket.socket() as sock:
        with pytest.raises(
            ValueError,
            match="^host/port and sock can not be specified at the same time",
        ):
            await loop.create_server(Recorder, sock=sock, **args)


@row("P1A-127")
async def test_nothing_given(loop):
    with pytest.raises(
        ValueError, match="^Neither host/port nor sock were specified$"
    ):
        await loop.create_server(Recorder)


@row("P1A-128", "P4D-015")
async def test_backlog_bounds_what_one_turn_accepts(loop):
    sock = listener()
    clients = [
        socket.create_connection(sock.getsockname(), 10) for _ in range(10)
    ]
    counts, transports = [0], []

    class Counting(asyncio.Protocol):
        def __init__(self):
            counts[-1] += 1

        def connection_made(self, transport):
            transports.append(transport)

    server = await loop.create_server(Counting, sock=sock, backlog=3)
    for _ in range(100):
        await asyncio.sleep(0)
        if sum(counts) == len(clients):
            break
        counts.append(0)
    # asyncio accepts one more from 3.14 on.
    assert 2 <= max(counts) <= 4
    assert sum(counts) == len(clients)
    await until(lambda: len(transports) == len(clients))
    for transport in transports:
        transport.abort()
    await close(server)
    for client in clients:
        client.close()


@row("P1A-129")
@pytest.mark.parametrize("wrong", [True, False])
async def test_tls_of_a_wrong_type(loop, wrong):
    with pytest.raises(
        TypeError, match="^ssl argument must be an SSLContext or None$"
    ):
        await loop.create_server(Recorder, "127.0.0.1", 0, ssl=wrong)


@row("P2A-007", "P2A-010", "P2A-027", "P2A-030")
@pytest.mark.parametrize(
    "name", ["ssl_handshake_timeout", "ssl_shutdown_timeout"]
)
async def test_tls_arguments_without_tls(loop, name):
    text = f"^{name} is only meaningful with ssl$"
    with pytest.raises(ValueError, match=text):
        await loop.create_server(Recorder, "127.0.0.1", 0, **{name: 1.0})
    ours, peer = tcp_pair()
    with ours, peer:
        with pytest.raises(ValueError, match=text):
            await loop.connect_accepted_socket(Recorder, ours, **{name: 1.0})


@row("P1A-130")
@pytest.mark.parametrize(
    "given, wanted",
    [({}, 1), ({"reuse_address": True}, 1), ({"reuse_address": False}, 0)],
)
async def test_reuse_address(loop, given, wanted):
    async with served(loop, Recorder, **given) as (server, _):
        assert option(server.sockets[0], "SO_REUSEADDR") == wanted


@row("P1A-131")
async def test_reuse_port(loop):
    async with served(loop, Recorder, reuse_port=True) as (server, address):
        assert option(server.sockets[0], "SO_REUSEPORT") == 1
        second = await loop.create_server(Recorder, *address, reuse_port=True)
        assert second.sockets[0].getsockname() == address
        await close(second)
        with pytest.raises(OSError):
            await loop.create_server(Recorder, *address)


@row("P2A-042")
@pytest.mark.since(3, 14)
async def test_reuse_port_of_other_families(loop, tmp_path):
    """Linux refuses the option there: it is not set, and nothing fails."""

    async def resolve(host, port, **kwargs):
        path = str(tmp_path / "socket")
        return [(socket.AF_UNIX, socket.SOCK_STREAM, 0, "", path)]

    loop.getaddrinfo = resolve
    server = await loop.create_server(Recorder, "name", 0, reuse_port=True)
    assert [sock.family for sock in server.sockets] == [socket.AF_UNIX]
    await close(server)


@row("P2A-041", "P2H-011")
@pytest.mark.since(3, 13)
async def test_keep_alive(loop):
    async with served(loop, Recorder, keep_alive=True) as (server, _):
        assert option(server.sockets[0], "SO_KEEPALIVE") == 1
    async with served(loop, Recorder) as (server, _):
        assert option(server.sockets[0], "SO_KEEPALIVE") == 0


async def test_port_in_use(loop):
    with listener() as sock:
        address = sock.getsockname()
        with pytest.raises(OSError) as caught:
            await loop.create_server(Recorder, *address)
    assert caught.value.errno == 98
    assert "error while attempting to bind on address" in str(caught.value)
    assert "address already in use" in str(caught.value)


@row("P4C-010")
@pytest.mark.since(3, 13)
async def test_no_address_of_this_machine(loop):
    with pytest.raises(
        OSError, match="^could not bind on any address out of "
    ):
        await loop.create_server(Recorder, "192.0.2.1", 0)


@row("P4C-010")
@pytest.mark.before(3, 13)
@pytest.mark.skipif(
    sys.version_info >= (3, 12, 2) or (3, 11, 8) <= sys.version_info < (3, 12),
    reason="later releases pass such an address over",
)
async def test_an_address_that_is_not_there_is_an_error(loop):
    for hosts in ("192.0.2.1", ["127.0.0.1", "192.0.2.1"]):
        with pytest.raises(
            OSError,
            match="error while attempting to bind on address"
            r" \('192.0.2.1', 0\): cannot assign requested address",
        ) as caught:
            await loop.create_server(Recorder, hosts, 0)
        assert caught.value.errno == errno.EADDRNOTAVAIL


@row("P4C-010")
@pytest.mark.since(3, 13)
async def test_addresses_that_are_not_there_are_passed_over(loop):
    server = await loop.create_server(Recorder, ["192.0.2.1", "127.0.0.1"], 0)
    assert [s.getsockname()[0] for s in server.sockets] == ["127.0.0.1"]
    await close(server)


async def test_one_of_several_addresses_in_use(loop):
    """What was bound before the failure is closed again."""
    with listener("127.0.0.2") as sock:
        port = sock.getsockname()[1]
        with pytest.raises(OSError):
            await loop.create_server(
                Recorder, ["127.0.0.1", "127.0.0.2"], port
            )
        with pytest.raises(ConnectionRefusedError):
            socket.create_connection(("127.0.0.1", port), 10)


@row("P2A-011", "P2D-003")
async def test_start_serving_false(loop):
    server = await loop.create_server(
        Echo, "127.0.0.1", 0, start_serving=False
    )
    address = server.sockets[0].getsockname()
    assert not server.is_serving()
    with pytest.raises(ConnectionRefusedError):
        socket.create_connection(address, 10)
    await server.start_serving()
    assert server.is_serving()
    socket.create_connection(address, 10).close()
    await close(server)


@row("P1A-128")
async def test_backlog(loop):
    async with served(loop, Recorder, backlog=7) as (server, _):
        assert listen_backlog(server.sockets[0]) == 7
    async with served(loop, Recorder) as (server, _):
        assert listen_backlog(server.sockets[0]) == 100


async def test_made_sockets_are_not_inherited(loop):
    async with served(loop, Recorder) as (server, address):
        assert server.sockets[0].get_inheritable() is False


@row("P4D-017")
async def test_accepted_sockets(loop):
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    async with served(loop, factory) as (server, address):
        with socket.create_connection(address, 10) as client:
            await until(lambda: protocols)
            transport = await protocols[0].connected
            sock = transport.get_extra_info("socket")
            nodelay = option(sock, "TCP_NODELAY", socket.IPPROTO_TCP)
            assert nodelay != 0
            assert sock.get_inheritable() is False
            assert sock.gettimeout() == 0
            peername = transport.get_extra_info("peername")
            assert peername == client.getsockname()
            assert transport.get_extra_info("sockname") == address
        await protocols[0].lost


async def test_factory_is_called_for_each_connection(loop):
    protocols = []

    def factory(*args):
        assert args == ()
        protocols.append(Recorder())
        return protocols[-1]

    async with served(loop, factory) as (server, address):
        clients = [socket.create_connection(address, 10) for _ in range(5)]
        await until(lambda: len(protocols) == 5)
        assert len({id(protocol) for protocol in protocols}) == 5
        for client in clients:
            client.close()
        await asyncio.gather(*(protocol.lost for protocol in protocols))


async def test_burst_of_connections(loop):
    count = 300
    async with served(loop, Echo, backlog=count) as (server, address):

        async def one(number):
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"%04d" % number)
            assert await reader.readexactly(4) == b"%04d" % number
            writer.close()
            await writer.wait_closed()

        await asyncio.gather(*map(one, range(count)))


@row("P1A-139", "P1A-140", "P1A-141", "P1A-143", "P2A-053")
async def test_connect_accepted_socket(loop):
    with listener() as server:
        client = socket.create_connection(server.getsockname(), 10)
        conn, _ = server.accept()
        coroutine = loop.connect_accepted_socket(Recorder, conn)
        assert asyncio.iscoroutine(coroutine)
        transport, protocol = await coroutine
        assert conn.gettimeout() == 0
        assert protocol.calls == ["connection_made"]
        client.send(b"hello")
        assert await protocol.received(5) == b"hello"
        transport.write(b"world")
        assert await peer_recv(client) == b"world"
        fd = conn.fileno()
        assert transport.get_extra_info("socket").fileno() == fd
        client.close()
        assert await protocol.lost is None
        await spin()
        assert conn.fileno() == -1


@row("P1A-141")
async def test_connect_accepted_socket_of_a_wrong_kind(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="^A Stream Socket was expected"):
            await loop.connect_accepted_socket(Recorder, sock)


async def test_connect_accepted_unix_socket(loop):
    ours, peer = socket.socketpair()
    transport, protocol = await loop.connect_accepted_socket(Recorder, ours)
    peer.send(b"unix")
    assert await protocol.received(4) == b"unix"
    transport.close()
    await protocol.lost
    peer.close()


@row("P4D-013")
async def test_ssl_sockets_are_refused(loop):
    import ssl

    context = ssl.create_default_context()
    ours, peer = tcp_pair()
    wrapped = context.wrap_socket(
        ours, server_hostname="x", do_handshake_on_connect=False
    )
    with wrapped, peer:
        for make in (
            lambda: loop.create_server(Recorder, sock=wrapped),
            lambda: loop.connect_accepted_socket(Recorder, wrapped),
        ):
            with pytest.raises(
                TypeError, match="^Socket cannot be of type SSLSocket$"
            ):
                await make()


@pytest.mark.becket_only("CPython leaves the bound socket to the collector")
async def test_wrong_backlog_leaves_nothing_open(loop):
    with pytest.raises(TypeError):
        await loop.create_server(Recorder, "127.0.0.1", 0, backlog="x")


@pytest.mark.parametrize(
    "kwargs", [{"port": "no-such-service"}, {"host": 5}], ids=repr
)
async def test_wrong_arguments(loop, kwargs):
    given = {"host": "127.0.0.1", "port": 0, **kwargs}
    with pytest.raises((TypeError, OSError)):
        await loop.create_server(Recorder, **given)


async def test_unknown_argument(loop):
    with pytest.raises(TypeError):
        await loop.create_server(Recorder, "127.0.0.1", 0, nonsense=1)
