# SPDX-License-Identifier: MIT
"""What a stream transport is, tells and lets be assigned."""

import asyncio
import pickle
import re
import socket
import weakref

import pytest

from support.net import (
    connected,
    has_ipv6,
    listener,
    peer_reads_all,
    spin,
)
from support.protocols import Recorder

row = pytest.mark.row


@row("P1A-074")
async def test_kind(loop):
    async with connected(loop, Recorder) as (transport, _, _):
        assert isinstance(transport, asyncio.Transport)
        assert isinstance(transport, asyncio.ReadTransport)
        assert isinstance(transport, asyncio.WriteTransport)
        assert isinstance(transport, asyncio.BaseTransport)
        assert not isinstance(transport, asyncio.DatagramTransport)


@row("P4E-029")
async def test_extra_info(loop):
    async with connected(loop, Recorder) as (transport, _, peer):
        info = transport.get_extra_info
        assert info("peername") == peer.getsockname()
        assert info("sockname") == peer.getpeername()
        assert info("missing") is None
        assert info("missing", 5) == 5
        assert info("missing", default="x") == "x"
        for name in ("sslcontext", "ssl_object", "peercert", "cipher"):
            assert info(name) is None
        with pytest.raises(TypeError):
            info()


@row("P2E-012", "P2D-007")
async def test_the_socket(loop):
    async with connected(loop, Recorder) as (transport, _, peer):
        sock = transport.get_extra_info("socket")
        assert isinstance(sock, asyncio.trsock.TransportSocket)
        assert sock.fileno() >= 0
        assert sock.family == socket.AF_INET
        assert sock.type == socket.SOCK_STREAM
        assert sock.getsockname() == peer.getpeername()
        assert sock.getpeername() == peer.getsockname()
        assert sock.gettimeout() == 0
        assert sock.get_inheritable() is False
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE) == 1
        for name in ("recv", "send", "close", "accept", "detach"):
            assert not hasattr(sock, name)
        dup = sock.dup()
        dup.close()
        assert transport.get_extra_info("socket").fileno() == sock.fileno()


@row("P2D-007")
async def test_what_the_socket_refuses(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        sock = transport.get_extra_info("socket")
        assert repr(sock) == (
            f"<asyncio.TransportSocket fd={sock.fileno()},"
            f" family={sock.family!s}, type={sock.type!s},"
            f" proto={sock.proto}, laddr={sock.getsockname()},"
            f" raddr={sock.getpeername()}>"
        )
        sock.settimeout(0)
        sock.setblocking(False)
        with pytest.raises(
            ValueError,
            match=r"^settimeout\(\): only 0 timeout is allowed on transport",
        ):
            sock.settimeout(1)
        with pytest.raises(
            ValueError, match=r"^setblocking\(\): transport sockets cannot be"
        ):
            sock.setblocking(True)
        with pytest.raises(TypeError, match="^Cannot serialize "):
            pickle.dumps(sock)
        sock.shutdown(socket.SHUT_WR)
        assert peer.recv(1) == b""


async def test_the_socket_keeps_working_with_the_transport(loop):
    """Asking for the socket object changes nothing about the stream."""
    async with connected(loop, Recorder) as (transport, protocol, peer):
        sock = transport.get_extra_info("socket")
        peer.send(b"x")
        assert await protocol.received(1) == b"x"
        assert transport.get_extra_info("socket").fileno() == sock.fileno()
        transport.close()
        await protocol.lost
        await spin()
        assert sock.fileno() == -1


@pytest.mark.skipif(not has_ipv6(), reason="no IPv6 on the loopback")
async def test_ipv6_names(loop):
    with listener("::1", family=socket.AF_INET6) as server:
        transport, protocol = await loop.create_connection(
            Recorder, *server.getsockname()[:2]
        )
        info = transport.get_extra_info
        assert info("peername") == server.getsockname()
        assert info("sockname")[0] == "::1" and len(info("sockname")) == 4
        transport.abort()
        await protocol.lost
        await spin()


async def test_unix_names(loop):
    ours, peer = socket.socketpair()
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    assert transport.get_extra_info("sockname") == ""
    assert transport.get_extra_info("peername") == ""
    transport.abort()
    await protocol.lost
    await spin()
    peer.close()


@row("P4B-014")
async def test_repr(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        await spin(2)
        fd = transport.get_extra_info("socket").fileno()
        name = type(transport).__name__
        assert repr(transport) == (
            f"<{name} fd={fd} read=polling write=<idle, bufsize=0>>"
        )
        transport.pause_reading()
        assert repr(transport) == (
            f"<{name} fd={fd} read=idle write=<idle, bufsize=0>>"
        )
        transport.close()
        assert repr(transport).startswith(f"<{name} closing fd={fd} ")
        await protocol.lost
        await spin()
        assert repr(transport) == f"<{name} closed fd={fd}>"


@row("P4B-014")
async def test_repr_with_a_full_buffer(loop):
    from support.net import small_pair

    async with connected(loop, Recorder, small_pair) as (transport, _, _):
        await spin(2)
        transport.write(bytes(1 << 20))
        size = transport.get_write_buffer_size()
        assert re.search(
            rf" read=polling write=<polling, bufsize={size}>>$",
            repr(transport),
        )


@row("P4B-014")
def test_repr_after_the_loop_is_closed(loop, run_main):
    from support.net import tcp_pair

    async def connect():
        ours, peer = tcp_pair()
        transport, _ = await loop.create_connection(Recorder, sock=ours)
        return transport, ours, peer

    transport, ours, peer = run_main(connect())
    loop.close()
    fd = ours.fileno()
    assert repr(transport) == f"<{type(transport).__name__} fd={fd}>"
    ours.close()
    peer.close()
    with pytest.warns(ResourceWarning, match="unclosed transport"):
        del transport
        import gc

        gc.collect()


@row("P4A-033")
async def test_methods_can_be_replaced_on_the_instance(loop):
    async with connected(loop, Recorder) as (transport, _, _):
        written = []
        transport.write = written.append
        transport.write(b"caught")
        assert written == [b"caught"]
        del transport.write
        transport.own_attribute = 5
        assert transport.own_attribute == 5


@row("P2E-015", "P2E-016")
async def test_private_attributes_that_packages_read(loop):
    async with connected(loop, Recorder) as (transport, protocol, _):
        assert transport._start_tls_compatible is True
        assert transport._sendfile_compatible is not None
        assert transport._loop is loop
        assert transport._sock is not None
        assert transport._sock.fileno() >= 0
        assert transport._protocol is protocol


@row("P2E-015")
@pytest.mark.parametrize("error", [None, ValueError("forced")])
async def test_force_close(loop, error):
    """What asyncio's TLS does to the transport under it."""
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport._force_close(error)
        assert transport.is_closing()
        assert await protocol.lost is error
        assert await peer_reads_all(peer) == b""


async def test_weak_references(loop):
    async with connected(loop, Recorder) as (transport, _, _):
        assert weakref.ref(transport)() is transport
        assert {transport: 1}[transport] == 1


async def test_attributes_of_the_abstract_class_are_all_there(loop):
    async with connected(loop, Recorder) as (transport, _, _):
        for name in dir(asyncio.Transport):
            if not name.startswith("_"):
                assert callable(getattr(transport, name)), name


async def test_wrong_arguments(loop):
    async with connected(loop, Recorder) as (transport, _, _):
        for call in (
            lambda: transport.write(),
            lambda: transport.write(b"x", b"y"),
            lambda: transport.close(1),
            lambda: transport.abort(1),
            lambda: transport.set_protocol(),
            lambda: transport.writelines(),
            lambda: transport.pause_reading(1),
        ):
            with pytest.raises(TypeError):
                call()


async def test_data_by_keyword(loop):
    from support.net import peer_recv

    async with connected(loop, Recorder) as (transport, _, peer):
        transport.write(data=b"by keyword")
        assert await peer_recv(peer) == b"by keyword"
        transport.writelines(list_of_data=[b"these", b" too"])
        await spin()
        assert await peer_recv(peer) == b"these too"


async def test_set_protocol_takes_anything(loop):
    """As in CPython, what is wrong with it shows when it is called."""
    async with connected(loop, Recorder) as (transport, protocol, peer):
        transport.set_protocol(None)
        assert transport.get_protocol() is None
        transport.set_protocol(protocol)
        peer.send(b"x")
        assert await protocol.received(1) == b"x"


async def test_extra_info_socket_options_are_shared(loop):
    async with connected(loop, Recorder) as (transport, _, peer):
        sock = transport.get_extra_info("socket")
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 10000)
        again = transport.get_extra_info("socket")
        size = again.getsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF)
        assert size == 20000
