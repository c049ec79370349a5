# SPDX-License-Identifier: MIT
"""create_datagram_endpoint(): its arguments, and what it does to sockets."""

import asyncio
import contextlib
import inspect
import logging
import os
import random
import socket

import pytest

from becket import versions
from support.datagrams import Echo, Endpoint, arrived, bound, finish, udp
from support.loops import PY312
from support.net import has_ipv6, spin

row = pytest.mark.row


def path_in(folder, name):
    return str(folder / name)


@row("P1A-093", "P2A-035")
def test_signature(loop):
    reference = inspect.signature(
        asyncio.BaseEventLoop.create_datagram_endpoint
    )
    ours = inspect.signature(type(loop).create_datagram_endpoint)
    assert list(ours.parameters) == list(reference.parameters)
    for name, parameter in reference.parameters.items():
        assert ours.parameters[name].default == parameter.default
        assert ours.parameters[name].kind == parameter.kind


@row("P1A-103", "P2A-035")
async def test_reuse_address_is_gone(loop):
    with pytest.raises(TypeError, match="reuse_address"):
        await loop.create_datagram_endpoint(
            Endpoint, local_addr=("127.0.0.1", 0), reuse_address=True
        )


@row("P1A-094", "P1A-095", "P1A-096", "P1A-097")
async def test_local_address(loop):
    made = []

    def factory():
        made.append(Endpoint())
        return made[-1]

    async with bound(loop, factory) as (transport, protocol, _, address):
        assert made == [protocol]
        assert address[0] == "127.0.0.1"
        sock = transport.get_extra_info("socket")
        assert (sock.family, sock.type) == (socket.AF_INET, socket.SOCK_DGRAM)
        assert sock.getsockname() == address
        assert sock.gettimeout() == 0
        assert not sock.get_inheritable()
        assert transport.get_extra_info("peername") is None


@row("P1A-098")
async def test_remote_address(loop):
    with udp() as peer:
        transport, _ = await loop.create_datagram_endpoint(
            Endpoint, remote_addr=peer.getsockname()
        )
        assert transport.get_extra_info("peername") == peer.getsockname()
        transport.sendto(b"one")
        transport.sendto(b"two", peer.getsockname())
        assert [peer.recv(9), peer.recv(9)] == [b"one", b"two"]
        with pytest.raises(ValueError, match="Invalid address: must be None"):
            transport.sendto(b"three", ("127.0.0.1", 1))
        await finish(transport)


async def test_both_addresses(loop):
    with udp() as peer:
        transport, _ = await loop.create_datagram_endpoint(
            Endpoint,
            local_addr=("127.0.0.1", 0),
            remote_addr=peer.getsockname(),
        )
        transport.sendto(b"x")
        _, sender = peer.recvfrom(9)
        assert sender == transport.get_extra_info("sockname")
        await finish(transport)


async def test_names_are_resolved(loop):
    transport, _ = await loop.create_datagram_endpoint(
        Endpoint, local_addr=("localhost", 0), family=socket.AF_INET
    )
    assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
    await finish(transport)


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
@row("P1A-099")
async def test_ipv6(loop):
    transport, protocol = await loop.create_datagram_endpoint(
        Echo, local_addr=("::1", 0)
    )
    address = transport.get_extra_info("sockname")
    assert len(address) == 4
    with udp("::1", socket.AF_INET6) as peer:
        peer.sendto(b"six", address)
        await protocol.received(1)
        assert peer.recv(9) == b"six"
        assert protocol.senders == [peer.getsockname()]
    await finish(transport)


MANY_SENDERS = 400  # more than a loop is likely to remember


@pytest.mark.parametrize(
    ("host", "family"),
    [
        ("127.0.0.1", socket.AF_INET),
        pytest.param(
            "::1",
            socket.AF_INET6,
            marks=pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here"),
        ),
    ],
)
async def test_many_senders(loop, host, family):
    """Again and again, in no order: each is known and answered by its own
    address.
    """
    transport, protocol = await loop.create_datagram_endpoint(
        Echo, local_addr=(host, 0)
    )
    address = transport.get_extra_info("sockname")
    generator = random.Random(1)
    with contextlib.ExitStack() as stack:
        peers = [
            stack.enter_context(udp(host, family)) for _ in range(MANY_SENDERS)
        ]
        known = {peer.getsockname() for peer in peers}
        for _ in range(4):
            order = generator.choices(peers, k=MANY_SENDERS)
            for start in range(0, MANY_SENDERS, 20):
                before = len(protocol.data)
                some = order[start : start + 20]
                for peer in some:
                    peer.sendto(repr(peer.getsockname()).encode(), address)
                await protocol.received(before + len(some))
                for peer in some:
                    assert peer.recv(999) == repr(peer.getsockname()).encode()
    assert [repr(s).encode() for s in protocol.senders] == protocol.data
    assert set(protocol.senders) <= known
    await finish(transport)


async def test_senders_of_other_hosts(loop):
    """All that an IPv4 address can look like, with one port for all."""
    hosts = ["127.0.0.2", "127.1.10.100", "127.99.200.255", "127.255.255.9"]
    async with bound(loop, Echo, local_addr=("0.0.0.0", 0)) as (
        _,
        protocol,
        peer,
        address,
    ):
        port = address[1]
        with contextlib.ExitStack() as stack:
            peers = [stack.enter_context(udp(host)) for host in hosts]
            for other in peers:
                other.sendto(b"?", ("127.0.0.1", port))
                peer.sendto(b"!", ("127.0.0.1", port))
            await protocol.received(2 * len(peers))
            expected = [other.getsockname() for other in peers]
            assert protocol.senders[::2] == expected
            assert [other.recv(9) for other in peers] == [b"?"] * len(peers)


@row("P1A-099")
async def test_family_alone(loop):
    transport, _ = await loop.create_datagram_endpoint(
        Endpoint, family=socket.AF_INET
    )
    with udp() as peer:
        transport.sendto(b"x", peer.getsockname())
        assert peer.recv(9) == b"x"
    await finish(transport)


@row("P1A-099")
async def test_nothing_given(loop):
    with pytest.raises(ValueError, match="unexpected address family"):
        await loop.create_datagram_endpoint(Endpoint)


@row("P1A-097")
@pytest.mark.parametrize(
    "addr", ["localhost", ("127.0.0.1",), ("::1", 0, 0, 0), ["127.0.0.1", 0]]
)
@pytest.mark.parametrize("end", ["local_addr", "remote_addr"])
async def test_not_a_pair(loop, addr, end):
    with pytest.raises(TypeError, match="2-tuple is expected"):
        await loop.create_datagram_endpoint(Endpoint, **{end: addr})


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")
async def test_families_that_do_not_meet(loop):
    with pytest.raises(ValueError, match="can not get address information"):
        await loop.create_datagram_endpoint(
            Endpoint, local_addr=("127.0.0.1", 0), remote_addr=("::1", 9)
        )


@row("P1A-100", "P1A-101", "P1A-102")
async def test_proto_and_flags_reach_the_resolver(loop):
    asked = []

    async def getaddrinfo(host, port, **kwargs):
        asked.append((host, port, kwargs))
        return [
            (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", port))
        ]

    loop.getaddrinfo = getaddrinfo
    transport, _ = await loop.create_datagram_endpoint(
        Endpoint,
        local_addr=("some name", 0),
        family=socket.AddressFamily.AF_INET,
        proto=socket.IPPROTO_UDP,
        flags=socket.AddressInfo.AI_PASSIVE,
    )
    [(host, port, kwargs)] = asked
    assert (host, port) == ("some name", 0)
    assert kwargs == {
        "family": socket.AF_INET,
        "type": socket.SOCK_DGRAM,
        "proto": socket.IPPROTO_UDP,
        "flags": socket.AI_PASSIVE,
    }
    sock = transport.get_extra_info("socket")
    assert sock.proto == socket.IPPROTO_UDP
    await finish(transport)


async def test_empty_answer_of_the_resolver(loop):
    async def getaddrinfo(*args, **kwargs):
        return []

    loop.getaddrinfo = getaddrinfo
    with pytest.raises(OSError, match="returned empty list"):
        await loop.create_datagram_endpoint(
            Endpoint, local_addr=("some name", 0)
        )


async def test_the_first_that_can_be_bound(loop):
    """Of several addresses the first that works counts, else its error."""
    answers = [
        (socket.AF_INET6, socket.SOCK_DGRAM, 17, "", ("2001:db8::1", 0, 0, 0)),
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("127.0.0.1", 0)),
    ]

    async def getaddrinfo(*args, **kwargs):
        return answers

    loop.getaddrinfo = getaddrinfo
    transport, _ = await loop.create_datagram_endpoint(
        Endpoint, local_addr=("some name", 0)
    )
    assert transport.get_extra_info("sockname")[0] == "127.0.0.1"
    await finish(transport)
    answers[1:] = [
        (socket.AF_INET, socket.SOCK_DGRAM, 17, "", ("192.0.2.1", 0))
    ]
    with pytest.raises(OSError) as caught:
        await loop.create_datagram_endpoint(
            Endpoint, local_addr=("some name", 0)
        )
    # The first one: that of the IPv6 address, where there is IPv6.
    assert caught.value.errno is not None


async def test_address_in_use(loop):
    with udp() as taken:
        with pytest.raises(OSError, match="in use"):
            await loop.create_datagram_endpoint(
                Endpoint, local_addr=taken.getsockname()
            )


@row("P1A-104")
async def test_reuse_port(loop):
    async with bound(loop, reuse_port=True) as (first, _, _, address):
        sock = first.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 1
        second, _ = await loop.create_datagram_endpoint(
            Endpoint, local_addr=address, reuse_port=True
        )
        assert second.get_extra_info("sockname") == address
        with pytest.raises(OSError, match="in use"):
            await loop.create_datagram_endpoint(Endpoint, local_addr=address)
        await finish(second)


@row("P1A-104")
async def test_reuse_port_is_off(loop):
    async with bound(loop) as (transport, _, _, _):
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT) == 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR) == 0
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 0


@row("P1A-104")
async def test_reuse_port_without_support(loop, monkeypatch):
    monkeypatch.delattr(socket, "SO_REUSEPORT")
    with pytest.raises(ValueError, match="not supported by socket module"):
        await loop.create_datagram_endpoint(
            Endpoint, local_addr=("127.0.0.1", 0), reuse_port=True
        )


@row("P1A-105")
async def test_broadcast(loop):
    async with bound(loop, allow_broadcast=True) as (transport, _, _, _):
        sock = transport.get_extra_info("socket")
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_BROADCAST) == 1


@row("P1A-105", "P4G-002")
async def test_broadcast_address(loop):
    """The loopback network has one, which needs the permission."""
    address = ("127.255.255.255", 9)
    async with bound(loop) as (transport, protocol, _, _):
        transport.sendto(b"x", address)
        [error] = protocol.errors
        assert isinstance(error, PermissionError)
    async with bound(loop, allow_broadcast=True) as (transport, protocol, *_):
        transport.sendto(b"x", address)
        assert protocol.errors == []


@row("P4G-009", "P1A-098")
async def test_broadcast_with_a_remote_address(loop):
    """It is not connected, but there is only one address to send to."""
    with udp() as peer:
        address = peer.getsockname()
        transport, protocol = await loop.create_datagram_endpoint(
            Endpoint, remote_addr=address, allow_broadcast=True
        )
        assert transport.get_extra_info("peername") is None
        with pytest.raises(OSError):
            transport.get_extra_info("socket").getpeername()
        transport.sendto(b"one")
        transport.sendto(b"two", address)
        assert [peer.recv(9), peer.recv(9)] == [b"one", b"two"]
        with pytest.raises(ValueError, match="Invalid address: must be None"):
            transport.sendto(b"three", ("127.0.0.1", 1))
        # Others may send to it.
        with udp() as other:
            sock = transport.get_extra_info("socket")
            port = sock.getsockname()[1]  # it has one since it sent
            other.sendto(b"from another", ("127.0.0.1", port))
            assert await protocol.received(1) == [b"from another"]
        await finish(transport)


# --- sock= ---


@row("P1A-106")
async def test_given_socket(loop):
    sock = udp()
    address = sock.getsockname()
    transport, protocol = await loop.create_datagram_endpoint(Echo, sock=sock)
    assert sock.gettimeout() == 0
    assert transport.get_extra_info("sockname") == address
    with udp() as peer:
        peer.sendto(b"x", address)
        await protocol.received(1)
        assert peer.recv(9) == b"x"
    transport.close()
    await protocol.lost
    await spin()
    assert sock.fileno() == -1


@row("P1A-106", "P4G-007")
async def test_given_connected_socket(loop):
    """Another address in sendto() is not looked at."""
    with udp() as peer:
        sock = udp()
        sock.connect(peer.getsockname())
        transport, _ = await loop.create_datagram_endpoint(Endpoint, sock=sock)
        assert transport.get_extra_info("peername") == peer.getsockname()
        transport.sendto(b"one")
        transport.sendto(b"two", ("127.0.0.1", 1))
        transport.sendto(b"three", "what is no address at all")
        assert [peer.recv(9) for _ in range(3)] == [b"one", b"two", b"three"]
        await finish(transport)


@row("P1A-106")
async def test_stream_socket(loop):
    text = (
        "A UDP Socket was expected, got"
        if versions.ENDPOINT_TAKES_DATAGRAM_SOCKETS_ONLY
        else "A datagram socket was expected, got"
    )
    with socket.socket() as sock:
        with pytest.raises(ValueError, match=text):
            await loop.create_datagram_endpoint(Endpoint, sock=sock)
        assert sock.fileno() >= 0
        assert sock.gettimeout() is None


@row("P1A-107")
@pytest.mark.parametrize(
    "modifier",
    [
        {"local_addr": ("127.0.0.1", 0)},
        {"remote_addr": ("127.0.0.1", 9)},
        {"family": 1},
        {"proto": 1},
        {"flags": 1},
        {"reuse_port": True},
        {"allow_broadcast": True},
    ],
)
async def test_socket_and_modifiers(loop, modifier):
    [(name, value)] = modifier.items()
    with udp() as sock:
        with pytest.raises(ValueError) as caught:
            await loop.create_datagram_endpoint(
                Endpoint, sock=sock, **modifier
            )
        assert str(caught.value) == (
            "socket modifier keyword arguments can not be used when sock is"
            f" specified. ({name}={value})"
        )
        assert sock.fileno() >= 0


async def test_socket_and_modifiers_that_say_nothing(loop):
    transport, _ = await loop.create_datagram_endpoint(
        Endpoint, sock=udp(), family=0, reuse_port=False
    )
    await finish(transport)


@pytest.mark.oracle_skip(
    "up to 3.11 it makes a second transport over it", when=not PY312
)
async def test_socket_that_a_transport_has(loop):
    sock = udp()
    transport, _ = await loop.create_datagram_endpoint(Endpoint, sock=sock)
    with pytest.raises(RuntimeError, match="is used by transport"):
        await loop.create_datagram_endpoint(Endpoint, sock=sock)
    assert sock.fileno() >= 0
    transport.sendto(b"x", sock.getsockname())
    await finish(transport)


# --- failures on the way ---


def failing_factory():
    raise LookupError


@pytest.mark.becket_only("CPython leaves the socket to the collector")
async def test_failing_factory(loop):
    with pytest.raises(LookupError):
        await loop.create_datagram_endpoint(
            failing_factory, local_addr=("127.0.0.1", 0)
        )


async def test_failing_factory_and_a_given_socket(loop):
    with udp() as sock:
        with pytest.raises(LookupError):
            await loop.create_datagram_endpoint(failing_factory, sock=sock)
        assert sock.fileno() >= 0


async def test_cancelled_before_connection_made(loop):
    made = []

    def factory():
        made.append(Endpoint())
        return made[-1]

    task = loop.create_task(
        loop.create_datagram_endpoint(factory, local_addr=("127.0.0.1", 0))
    )
    while not made:
        await spin()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert await asyncio.wait_for(made[0].lost, 10) is None
    assert made[0].calls == ["connection_made", "connection_lost"]


async def test_connection_made_raises(loop, errors):
    class Failing(Endpoint):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise LookupError

    async with bound(loop, Failing) as (_, protocol, peer, address):
        peer.sendto(b"x", address)
        assert await protocol.received(1) == [b"x"]
    [context] = errors
    assert isinstance(context["exception"], LookupError)
    errors.clear()


async def test_debug_log(loop, caplog):
    loop.set_debug(True)
    with caplog.at_level(logging.DEBUG, "asyncio"):
        async with bound(loop) as (transport, protocol, peer, _):
            [record] = [r for r in caplog.records if "endpoint" in r.message]
            assert record.levelno == logging.INFO
            assert record.msg == (
                "Datagram endpoint local_addr=%r remote_addr=%r created:"
                " (%r, %r)"
            )
            assert record.args == (
                ("127.0.0.1", 0),
                None,
                transport,
                protocol,
            )
            caplog.clear()
            client, _ = await loop.create_datagram_endpoint(
                Endpoint, remote_addr=peer.getsockname()
            )
            [record] = [r for r in caplog.records if "endpoint" in r.message]
            assert record.levelno == logging.DEBUG
            await finish(client)


# --- Unix sockets ---


@row("P2A-015", "P1A-094")
async def test_unix_path(loop, tmp_path):
    path = path_in(tmp_path, "server")
    other = path_in(tmp_path, "client")
    server, protocol = await loop.create_datagram_endpoint(
        Echo, local_addr=path, family=socket.AF_UNIX
    )
    assert server.get_extra_info("sockname") == path
    client, answers = await loop.create_datagram_endpoint(
        Endpoint, local_addr=other, remote_addr=path, family=socket.AF_UNIX
    )
    assert client.get_extra_info("peername") == path
    client.sendto(b"one")
    client.sendto(b"two", path)
    assert await answers.received(2) == [b"one", b"two"]
    assert protocol.senders == [other, other]
    with pytest.raises(ValueError, match="Invalid address"):
        client.sendto(b"x", other)
    server.sendto(b"by name", other)
    assert await answers.received(3) == [b"one", b"two", b"by name"]
    await finish(client)
    await finish(server)


@row("P2A-015")
async def test_abstract_address(loop):
    name = f"\0becket-test-{os.getpid()}"
    server, protocol = await loop.create_datagram_endpoint(
        Echo, local_addr=name, family=socket.AF_UNIX
    )
    assert server.get_extra_info("sockname") == name.encode()
    client, answers = await loop.create_datagram_endpoint(
        Endpoint,
        local_addr=name + "-client",
        remote_addr=name,
        family=socket.AF_UNIX,
    )
    client.sendto(b"x")
    assert await answers.received(1) == [b"x"]
    assert protocol.senders == [name.encode() + b"-client"]
    server.sendto(b"str", name + "-client")
    server.sendto(b"bytes", name.encode() + b"-client")
    assert await answers.received(3) == [b"x", b"str", b"bytes"]
    await finish(client)
    await finish(server)


@row("P2A-015")
@pytest.mark.parametrize("addr", [b"/tmp/x", ("127.0.0.1", 0), 5])
async def test_unix_address_that_is_no_string(loop, addr):
    for end in ("local_addr", "remote_addr"):
        with pytest.raises(TypeError, match="string is expected"):
            await loop.create_datagram_endpoint(
                Endpoint, family=socket.AF_UNIX, **{end: addr}
            )


@row("P2A-015")
async def test_stale_socket_file_is_removed(loop, tmp_path):
    path = path_in(tmp_path, "sock")
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as sock:
        sock.bind(path)
    transport, _ = await loop.create_datagram_endpoint(
        Endpoint, local_addr=path, family=socket.AF_UNIX
    )
    await finish(transport)
    # It stays there, as with CPython.
    assert os.path.exists(path)


@row("P2A-015")
async def test_file_that_is_no_socket_stays(loop, tmp_path):
    path = tmp_path / "file"
    path.write_text("precious")
    with pytest.raises(OSError, match="in use"):
        await loop.create_datagram_endpoint(
            Endpoint, local_addr=str(path), family=socket.AF_UNIX
        )
    assert path.read_text() == "precious"


async def test_stale_file_that_cannot_be_looked_at(loop, tmp_path, caplog):
    path = str(tmp_path / "file" / "sock")
    (tmp_path / "file").write_text("")
    with pytest.raises(OSError):
        await loop.create_datagram_endpoint(
            Endpoint, local_addr=path, family=socket.AF_UNIX
        )
    assert "Unable to check or remove stale UNIX socket" in caplog.text


async def test_path_that_is_too_long(loop):
    for end in ("local_addr", "remote_addr"):
        with pytest.raises(OSError, match="path too long"):
            await loop.create_datagram_endpoint(
                Endpoint, family=socket.AF_UNIX, **{end: "/" + "x" * 200}
            )


async def test_nobody_at_the_path(loop, tmp_path):
    with pytest.raises(FileNotFoundError):
        await loop.create_datagram_endpoint(
            Endpoint,
            remote_addr=path_in(tmp_path, "nobody"),
            family=socket.AF_UNIX,
        )


# --- the documentation's example ---


@row("P1A-109")
async def test_echo_of_the_documentation(loop):
    done = loop.create_future()
    printed = []

    class EchoServerProtocol:
        def connection_made(self, transport):
            self.transport = transport

        def datagram_received(self, data, addr):
            message = data.decode()
            printed.append(f"Received {message!r} from {addr}")
            self.transport.sendto(data, addr)

        def connection_lost(self, exc):
            pass

    class EchoClientProtocol:
        def connection_made(self, transport):
            self.transport = transport
            self.transport.sendto(b"Hello World!")

        def datagram_received(self, data, addr):
            printed.append("Received: " + data.decode())
            self.transport.close()

        def error_received(self, exc):
            done.set_exception(exc)

        def connection_lost(self, exc):
            done.set_result(exc)

    server, _ = await loop.create_datagram_endpoint(
        EchoServerProtocol, local_addr=("127.0.0.1", 0)
    )
    client, _ = await loop.create_datagram_endpoint(
        EchoClientProtocol, remote_addr=server.get_extra_info("sockname")
    )
    assert await asyncio.wait_for(done, 10) is None
    assert printed[1] == "Received: Hello World!"
    assert "Received 'Hello World!' from ('127.0.0.1'," in printed[0]
    server.close()
    await spin(2)


async def test_nothing_is_sent_by_itself(loop):
    async with bound(loop) as (_, _, peer, _):
        await spin(3)
        assert arrived(peer) == []
