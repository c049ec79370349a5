# SPDX-License-Identifier: MIT
"""create_connection: what it makes, from what, and in which order."""

import asyncio
import errno
import socket

import pytest

from support.leaks import join_all, spawn
from support.loops import turns
from support.net import (
    connected,
    has_ipv6,
    listener,
    peer_recv,
    recv_exactly,
    refusing_port,
    silent_address,
    spin,
    tcp_pair,
    wait_readable,
)
from support.protocols import Recorder

row = pytest.mark.row
needs_ipv6 = pytest.mark.skipif(
    not has_ipv6(), reason="no IPv6 on the loopback"
)


@pytest.fixture
def server():
    with listener() as sock:
        yield sock


async def finish(transport, *socks):
    transport.abort()
    await spin(2)
    for sock in socks:
        sock.close()


@row("P1A-066", "P1A-067", "P1A-069", "P1A-073", "P1A-074")
async def test_transport_and_protocol(loop, server):
    host, port = server.getsockname()
    transport, protocol = await loop.create_connection(Recorder, host, port)
    peer, _ = server.accept()
    assert isinstance(transport, asyncio.Transport)
    assert isinstance(protocol, Recorder)
    assert protocol.transport is transport
    assert transport.get_protocol() is protocol
    transport.write(b"to the peer")
    assert await peer_recv(peer) == b"to the peer"
    peer.send(b"answer")
    assert await protocol.received(6) == b"answer"
    await finish(transport, peer)


@row("P1A-069")
async def test_the_loop_goes_on_while_connecting(loop):
    ran = []
    with silent_address() as address:
        task = asyncio.create_task(loop.create_connection(Recorder, *address))
        loop.call_later(0.01, ran.append, "timer")
        while not ran:
            await asyncio.sleep(0.001)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@row("P1A-069")
def test_it_is_a_coroutine(loop):
    coroutine = loop.create_connection(Recorder, "127.0.0.1", 1)
    assert asyncio.iscoroutine(coroutine)
    coroutine.close()


@row("P1A-068", "P1A-070", "P1A-071", "P1A-072", "P4E-001")
async def test_order_of_the_start(loop, server):
    order = []

    class Ordered(asyncio.Protocol):
        def connection_made(self, transport):
            order.append("connection_made")
            assert transport.get_extra_info("peername") == address
            # From here on there is something to read.
            wait_readable(transport.get_extra_info("socket").fileno())

        def data_received(self, data):
            order.append("data_received")
            received.set()

    def factory(*args):
        assert args == ()
        order.append("factory")
        return Ordered()

    received = asyncio.Event()
    address = server.getsockname()
    peers = []

    def serve():
        peers.append(server.accept()[0])
        peers[0].send(b"early")

    thread = spawn(serve)
    transport, _ = await loop.create_connection(factory, *address)
    order.append("returned")
    await received.wait()
    join_all([thread])
    assert order == ["factory", "connection_made", "returned", "data_received"]
    await finish(transport, *peers)


@row("P1A-070")
async def test_factory_is_not_called_when_the_connection_fails(loop):
    called = []
    with refusing_port() as port:
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(
                lambda: called.append(1), "127.0.0.1", port
            )
    assert called == []


async def test_a_failing_close_hides_no_refusal(loop, monkeypatch):
    """Why it could not connect says more than why it could not close."""
    real_close = socket.socket._real_close

    def close(sock):
        real_close(sock)
        raise OSError(errno.EIO, "close failed")

    with refusing_port() as port, monkeypatch.context() as patch:
        patch.setattr(socket.socket, "_real_close", close)
        with pytest.raises(ConnectionRefusedError):
            await loop.create_connection(Recorder, "127.0.0.1", port)


@row("P1A-071")
async def test_failing_factory(loop, server):
    def factory():
        raise ValueError("factory failed")

    import gc
    import warnings

    with warnings.catch_warnings():
        # CPython leaves the socket to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        with pytest.raises(ValueError, match="^factory failed$"):
            await loop.create_connection(factory, *server.getsockname())
        gc.collect()
    peer, _ = server.accept()
    assert peer.recv(1) == b""
    peer.close()


@row("P1A-072", "P4E-003")
async def test_failing_connection_made(loop, server, errors):
    class Failing(Recorder):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ValueError("connection_made failed")

    transport, protocol = await loop.create_connection(
        Failing, *server.getsockname()
    )
    peer, _ = server.accept()
    peer.send(b"still works")
    assert await protocol.received(11) == b"still works"
    (context,) = errors
    errors.clear()
    assert context["message"].startswith("Exception in callback ")
    assert str(context["exception"]) == "connection_made failed"
    await finish(transport, peer)


@row("P1A-075")
async def test_factory_that_gives_an_existing_protocol(loop, server):
    mine = Recorder()
    transport, protocol = await loop.create_connection(
        lambda: mine, *server.getsockname()
    )
    assert protocol is mine
    await finish(transport)


@row("P1A-075")
async def test_any_object_can_be_the_protocol(loop, server):
    class Duck:
        def connection_made(self, transport):
            self.calls = ["made"]

        def data_received(self, data):
            self.calls.append(data)

        def eof_received(self):
            self.calls.append("eof")

        def connection_lost(self, exc):
            self.calls.append("lost")
            lost.set()

    lost = asyncio.Event()
    transport, protocol = await loop.create_connection(
        Duck, *server.getsockname()
    )
    peer, _ = server.accept()
    peer.send(b"quack")
    peer.close()
    await lost.wait()
    assert protocol.calls == ["made", b"quack", "eof", "lost"]


@row("P1A-076")
@pytest.mark.parametrize("off", [None, False])
async def test_without_tls(loop, server, off):
    transport, _ = await loop.create_connection(
        Recorder, *server.getsockname(), ssl=off
    )
    assert transport.get_extra_info("sslcontext") is None
    await finish(transport)


@row("P1A-079", "P2A-006", "P2A-026")
@pytest.mark.parametrize(
    "name, value",
    [
        ("server_hostname", "example"),
        ("server_hostname", ""),
        ("ssl_handshake_timeout", 1.0),
        ("ssl_shutdown_timeout", 1.0),
    ],
)
async def test_tls_arguments_without_tls(loop, name, value):
    with pytest.raises(
        ValueError, match=f"^{name} is only meaningful with ssl$"
    ):
        await loop.create_connection(Recorder, "127.0.0.1", 1, **{name: value})


@row("P1A-081")
async def test_tls_without_host(loop):
    with pytest.raises(ValueError, match="server_hostname"):
        await loop.create_connection(Recorder, "", 1, ssl=True)


@row("P1A-067", "P1A-083")
@pytest.mark.parametrize("host", ["127.0.0.1", "localhost", b"localhost"])
@pytest.mark.parametrize("family", [0, socket.AF_INET])
async def test_hosts(loop, server, host, family):
    port = server.getsockname()[1]
    transport, _ = await loop.create_connection(
        Recorder, host, port, family=family
    )
    assert transport.get_extra_info("peername") == ("127.0.0.1", port)
    await finish(transport)


@needs_ipv6
@row("P1A-067", "P1A-083")
async def test_ipv6(loop):
    with listener("::1", family=socket.AF_INET6) as server:
        port = server.getsockname()[1]
        transport, _ = await loop.create_connection(
            Recorder, "::1", port, family=socket.AF_INET6
        )
        assert transport.get_extra_info("peername")[:2] == ("::1", port)
        assert transport.get_extra_info("sockname")[0] == "::1"
        await finish(transport)


@row("P4C-009")
@pytest.mark.parametrize(
    "host, port", [("::1%lo", 80), ("127.0.0.1", "http"), ("name", 80)]
)
async def test_what_is_not_a_literal_is_looked_up(loop, host, port):
    asked = []

    async def resolve(*args, **kwargs):
        asked.append(args)
        raise socket.gaierror(-2, "not known")

    loop.getaddrinfo = resolve
    with pytest.raises(socket.gaierror):
        await loop.create_connection(Recorder, host, port)
    del loop.getaddrinfo
    assert asked == [(host, port)]


@pytest.mark.parametrize("family", [socket.AF_INET6, 99])
async def test_host_of_another_family(loop, server, family):
    with pytest.raises(OSError):
        await loop.create_connection(
            Recorder, *server.getsockname(), family=family
        )


@row("P1A-084", "P1A-085", "P1A-086", "P4A-033")
async def test_arguments_of_the_lookup(loop, server):
    asked = []
    original = loop.getaddrinfo

    async def resolve(host, port, **kwargs):
        asked.append((host, port, kwargs))
        return await original("127.0.0.1", port, **kwargs)

    loop.getaddrinfo = resolve
    port = server.getsockname()[1]
    transport, _ = await loop.create_connection(
        Recorder,
        "name.example",
        port,
        family=socket.AF_INET,
        proto=socket.IPPROTO_TCP,
        flags=socket.AI_ADDRCONFIG,
    )
    del loop.getaddrinfo
    assert asked == [
        (
            "name.example",
            port,
            {
                "family": socket.AF_INET,
                "type": socket.SOCK_STREAM,
                "proto": socket.IPPROTO_TCP,
                "flags": socket.AI_ADDRCONFIG,
            },
        )
    ]
    await finish(transport)


@row("P4C-009")
async def test_a_literal_is_not_looked_up(loop, server):
    async def resolve(host, port, **kwargs):
        raise AssertionError("looked up")

    loop.getaddrinfo = resolve
    host, port = server.getsockname()
    for given in (port, str(port), str(port).encode()):
        transport, _ = await loop.create_connection(Recorder, host, given)
        await finish(transport)
    for proto in (0, socket.IPPROTO_TCP):
        transport, _ = await loop.create_connection(
            Recorder, host.encode(), port, proto=proto
        )
        await finish(transport)
    del loop.getaddrinfo


@row("P4C-009")
async def test_a_literal_for_another_protocol_is_looked_up(loop):
    async def resolve(*args, **kwargs):
        asked.append((args, kwargs["proto"]))
        raise socket.gaierror(-2, "not known")

    asked = []
    loop.getaddrinfo = resolve
    with pytest.raises(socket.gaierror):
        await loop.create_connection(Recorder, "127.0.0.1", 80, proto=99)
    del loop.getaddrinfo
    assert asked == [(("127.0.0.1", 80), 99)]


async def test_empty_answer_of_the_lookup(loop):
    async def resolve(host, port, **kwargs):
        return []

    loop.getaddrinfo = resolve
    with pytest.raises(
        OSError, match=r"^getaddrinfo\(\) returned empty list$"
    ):
        await loop.create_connection(Recorder, "name.example", 80)
    del loop.getaddrinfo


async def test_failing_lookup(loop):
    with pytest.raises(socket.gaierror):
        await loop.create_connection(Recorder, "does-not-exist.invalid", 80)
    with pytest.raises(socket.gaierror):
        await loop.create_connection(Recorder, "localhost", "no-such-service")


@row("P1A-087")
async def test_given_socket(loop, server):
    sock = socket.create_connection(server.getsockname(), 10)
    peer, _ = server.accept()
    fd = sock.fileno()
    transport, protocol = await loop.create_connection(Recorder, sock=sock)
    found = transport.get_extra_info("socket")
    assert found.fileno() == fd
    assert sock.gettimeout() == 0
    transport.write(b"x")
    assert await peer_recv(peer) == b"x"
    peer.send(b"y")
    assert await protocol.received(1) == b"y"
    transport.close()
    assert await protocol.lost is None
    await spin()
    assert sock.fileno() == -1
    peer.close()


@row("P1A-087")
async def test_given_unix_socket(loop):
    sock, peer = socket.socketpair()
    transport, protocol = await loop.create_connection(Recorder, sock=sock)
    transport.write(b"x")
    assert await peer_recv(peer) == b"x"
    peer.close()
    assert await protocol.lost is None
    await spin()
    assert sock.fileno() == -1


@row("P1A-087")
async def test_given_datagram_socket(loop):
    with socket.socket(type=socket.SOCK_DGRAM) as sock:
        with pytest.raises(ValueError, match="^A Stream Socket was expected"):
            await loop.create_connection(Recorder, sock=sock)


@row("P4D-013", "P1A-087")
async def test_given_ssl_socket(loop):
    import ssl

    ours, peer = tcp_pair()
    context = ssl.create_default_context()
    wrapped = context.wrap_socket(
        ours, server_hostname="x", do_handshake_on_connect=False
    )
    with wrapped, peer:
        with pytest.raises(
            TypeError, match="^Socket cannot be of type SSLSocket$"
        ):
            await loop.create_connection(Recorder, sock=wrapped)


@row("P1A-088")
@pytest.mark.parametrize(
    "args", [{"host": "127.0.0.1"}, {"port": 1}, {"host": "x", "port": 1}]
)
async def test_socket_excludes_host_and_port(loop, args):
    with socket.socket() as sock:
        with pytest.raises(
            ValueError,
            match="^host/port and sock can not be specified at the same time",
        ):
            await loop.create_connection(Recorder, sock=sock, **args)


@row("P1A-088")
async def test_what_is_passed_over_with_a_socket(loop):
    ours, peer = tcp_pair()
    transport, protocol = await loop.create_connection(
        Recorder,
        sock=ours,
        family=socket.AF_INET6,
        proto=socket.IPPROTO_UDP,
        flags=socket.AI_NUMERICHOST,
        local_addr=("192.0.2.1", 1),
    )
    peer.send(b"works")
    assert await protocol.received(5) == b"works"
    await finish(transport, peer)


@row("P1A-088")
async def test_neither_socket_nor_address(loop):
    with pytest.raises(
        ValueError,
        match="^host and port was not specified and no sock specified$",
    ):
        await loop.create_connection(Recorder)


@row("P1A-089", "P1A-090")
@pytest.mark.parametrize("host", ["127.0.0.1", "127.0.0.3", "localhost"])
async def test_local_address(loop, server, host):
    transport, _ = await loop.create_connection(
        Recorder, *server.getsockname(), local_addr=(host, 0)
    )
    peer, address = server.accept()
    wanted = "127.0.0.1" if host == "localhost" else host
    assert address[0] == wanted
    assert transport.get_extra_info("sockname") == address
    await finish(transport, peer)


@row("P1A-089")
async def test_local_address_that_is_taken(loop, server):
    host, port = server.getsockname()
    with pytest.raises(
        OSError,
        match=r"error while attempting to bind on address "
        rf"\('127.0.0.1', {port}\): (\[errno 98\] )?address already in use",
    ) as caught:
        await loop.create_connection(
            Recorder, host, port, local_addr=(host, port)
        )
    assert caught.value.errno == 98


@row("P1A-089")
async def test_local_address_of_another_machine(loop, server):
    with pytest.raises(OSError, match="error while attempting to bind on"):
        await loop.create_connection(
            Recorder, *server.getsockname(), local_addr=("192.0.2.1", 0)
        )


def has_nodelay(transport):
    sock = transport.get_extra_info("socket")
    return sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY) != 0


@row("P4D-017")
async def test_nodelay(loop, server):
    address = server.getsockname()
    transport, _ = await loop.create_connection(Recorder, *address)
    assert has_nodelay(transport)
    await finish(transport)
    sock = socket.socket(proto=socket.IPPROTO_TCP)
    sock.connect(address)
    transport, _ = await loop.create_connection(Recorder, sock=sock)
    assert has_nodelay(transport)
    await finish(transport)


@row("P4D-017")
@pytest.mark.becket_only("CPython looks at the socket object's proto")
async def test_nodelay_whatever_the_socket_object_says(loop, server):
    sock = socket.create_connection(server.getsockname(), 10)
    sock = socket.socket(fileno=sock.detach(), proto=0)
    transport, _ = await loop.create_connection(Recorder, sock=sock)
    assert has_nodelay(transport)
    await finish(transport)


async def test_made_sockets_are_not_inherited(loop, server):
    transport, _ = await loop.create_connection(
        Recorder, *server.getsockname()
    )
    sock = transport.get_extra_info("socket")
    assert sock.get_inheritable() is False
    await finish(transport)


async def test_cancel_while_connecting(loop):
    with silent_address() as address:
        task = asyncio.create_task(loop.create_connection(Recorder, *address))
        await asyncio.sleep(0.01)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@pytest.mark.parametrize("steps", range(6))
async def test_cancel_at_every_step(loop, server, steps):
    """Wherever it is cancelled, nothing stays open."""
    import gc
    import warnings

    with warnings.catch_warnings():
        # CPython leaves a transport whose waiter was cancelled closed, but
        # not every step before it.
        warnings.simplefilter("ignore", ResourceWarning)
        task = asyncio.create_task(
            loop.create_connection(Recorder, *server.getsockname())
        )
        await spin(steps)
        task.cancel()
        try:
            transport, _ = await task
        except asyncio.CancelledError:
            pass
        else:
            transport.abort()
        await spin(3)
        del task
        gc.collect()
    server.settimeout(0.05)
    try:
        peer, _ = server.accept()
    except TimeoutError:
        return
    with peer:
        peer.settimeout(10)
        try:
            assert peer.recv(1) == b""
        except ConnectionResetError:
            pass


async def test_timeout_while_connecting(loop):
    with silent_address() as address:
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(0.02):
                await loop.create_connection(Recorder, *address)


async def test_many_connections(loop):
    protocols = []

    def factory():
        protocols.append(Recorder())
        return protocols[-1]

    server = await loop.create_server(factory, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    made = await asyncio.gather(
        *(loop.create_connection(Recorder, *address) for _ in range(50))
    )
    for number, (transport, _) in enumerate(made):
        transport.write(b"%03d" % number)
    while len(protocols) < 50:
        await asyncio.sleep(0)
    got = [await protocol.received(3) for protocol in protocols]
    assert sorted(got) == [b"%03d" % number for number in range(50)]
    for transport, _ in made:
        transport.close()
    await asyncio.gather(*(protocol.lost for protocol in protocols))
    server.close()
    await server.wait_closed()


def test_connection_survives_between_runs(loop, server, run_main):
    async def connect():
        return await loop.create_connection(Recorder, *server.getsockname())

    transport, protocol = run_main(connect())
    peer, _ = server.accept()
    peer.send(b"between")
    assert run_main(protocol.received(7)) == b"between"
    transport.write(b"written while stopped")
    assert recv_exactly(peer, 21) == b"written while stopped"
    transport.close()
    turns(loop, 3)
    peer.close()


@pytest.mark.parametrize("wrong", [{"nonsense": 1}, {"host": 1, "port": 1}])
async def test_wrong_arguments(loop, wrong):
    with pytest.raises((TypeError, OSError, AttributeError)):
        await loop.create_connection(Recorder, **wrong)


async def test_positional_arguments(loop):
    with pytest.raises(TypeError):
        await loop.create_connection(Recorder, "127.0.0.1", 1, None)


async def test_connected_helper_leaves_nothing(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        assert not transport.is_closing()
    assert protocol.calls[-1] == "connection_lost"


async def test_socket_of_another_transport_is_left_alone(loop):
    ours, peer = tcp_pair()
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    with pytest.raises(RuntimeError, match="is used by transport"):
        await loop.create_connection(Recorder, sock=ours)
    with pytest.raises(ZeroDivisionError):
        await loop.create_connection(lambda: 1 / 0, sock=ours)
    peer.send(b"still there")
    assert await protocol.received(11) == b"still there"
    transport.close()
    await protocol.lost
    peer.close()
