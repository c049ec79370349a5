# SPDX-License-Identifier: MIT
"""Datagram sockets of every family and kind, and what they overrode."""

import asyncio
import os
import socket
import struct
import sys

import pytest

from support.datagrams import (
    Echo,
    Endpoint,
    arrived,
    bound,
    finish,
    peer_receives,
    udp,
)
from support.net import has_ipv6, spin

row = pytest.mark.row


def make(family, kind, proto=0):
    """A socket, or a skipped test where it cannot be had."""
    try:
        return socket.socket(family, kind, proto)
    except OSError as error:
        pytest.skip(f"no such socket here: {error}")


# --- INET6 ---


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="no IPv6 here")


def link_local():
    """A link-local address of this machine and its interface, or skip."""
    try:
        with open("/proc/net/if_inet6") as file:
            lines = [line.split() for line in file]
    except OSError:
        lines = []
    for digits, index, _, _, _, name in lines:
        if digits.startswith("fe80"):
            groups = [digits[i : i + 4] for i in range(0, 32, 4)]
            return ":".join(groups), int(index, 16), name
    pytest.skip("no link-local address here")


@needs_ipv6
async def test_scope_ids(loop):
    address, index, name = link_local()
    transport, protocol = await loop.create_datagram_endpoint(
        Endpoint, local_addr=(f"{address}%{name}", 0)
    )
    sockname = transport.get_extra_info("sockname")
    assert sockname[3] == index
    with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as peer:
        peer.settimeout(10)
        peer.bind((address, 0, 0, index))
        peer.sendto(b"x", sockname)
        await protocol.received(1)
        [sender] = protocol.senders
        assert sender == peer.getsockname()
        # All of the same socket, named differently.
        transport.sendto(b"1", sender)
        transport.sendto(b"2", (address, sender[1], 0, index))
        transport.sendto(b"3", (f"{address}%{name}", sender[1]))
        assert await peer_receives(peer, 3) == [b"1", b"2", b"3"]
        # The kernel cannot tell which interface.
        transport.sendto(b"4", (address, sender[1]))
        transport.sendto(b"5", sender)
        assert await peer_receives(peer) in ([b"4"], [b"5"])
    await finish(transport)


@needs_ipv6
async def test_flow_info(loop):
    """It is part of the address: sent as given, and told."""
    transport, protocol = await loop.create_datagram_endpoint(
        Echo, local_addr=("::1", 0)
    )
    port = transport.get_extra_info("sockname")[1]
    with udp("::1", socket.AF_INET6) as peer:
        peer.sendto(b"x", ("::1", port, 0, 0))
        await protocol.received(1)
        own = peer.getsockname()
        transport.sendto(b"y", ("::1", own[1], 5, 0))
        transport.sendto(b"z", ("::1", own[1]))
        assert await peer_receives(peer, 3) == [b"x", b"y", b"z"]
    with pytest.raises(OverflowError) as expected:
        with socket.socket(socket.AF_INET6, socket.SOCK_DGRAM) as sock:
            sock.sendto(b"x", ("::1", 9, 1 << 20, 0))
    errors = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    transport.sendto(b"x", ("::1", 9, 1 << 20, 0))
    error = await asyncio.wait_for(protocol.lost, 10)
    assert str(error) == str(expected.value)
    assert len(errors) == 1


@needs_ipv6
async def test_ipv4_address_on_an_ipv6_socket(loop):
    transport, protocol = await loop.create_datagram_endpoint(
        Endpoint, local_addr=("::1", 0)
    )
    transport.sendto(b"x", ("127.0.0.1", 9))
    [error] = protocol.errors
    assert isinstance(error, socket.gaierror)
    await finish(transport)


@needs_ipv6
async def test_both_families_on_one_socket(loop):
    sock = socket.socket(socket.AF_INET6, socket.SOCK_DGRAM)
    sock.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, 0)
    sock.bind(("::", 0))
    port = sock.getsockname()[1]
    transport, protocol = await loop.create_datagram_endpoint(Echo, sock=sock)
    with udp() as four, udp("::1", socket.AF_INET6) as six:
        four.sendto(b"4", ("127.0.0.1", port))
        six.sendto(b"6", ("::1", port))
        assert sorted(await protocol.received(2)) == [b"4", b"6"]
        assert await peer_receives(four) == [b"4"]
        assert await peer_receives(six) == [b"6"]
        hosts = {sender[0] for sender in protocol.senders}
        assert hosts == {"::ffff:127.0.0.1", "::1"}
    await finish(transport)


# --- UNIX ---


async def test_unix_names(loop, tmp_path):
    """Names that are no text, and senders that have none."""
    path = os.fsencode(tmp_path) + b"/\xff\xfe"
    peer_path = os.fsencode(tmp_path) + b"/peer"
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as peer:
        peer.settimeout(10)
        sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        sock.bind(path)
        transport, protocol = await loop.create_datagram_endpoint(
            Endpoint, sock=sock
        )
        name = os.fsdecode(path)
        assert transport.get_extra_info("sockname") == name
        peer.sendto(b"1", path)
        await protocol.received(1)
        peer.bind(peer_path)
        peer.sendto(b"2", path)
        peer.sendto(b"3", path)
        await protocol.received(3)
        assert protocol.senders == [None, *[os.fsdecode(peer_path)] * 2]
        for addr in (peer_path, os.fsdecode(peer_path), protocol.senders[1]):
            transport.sendto(b"x", addr)
            assert peer.recv(9) == b"x"
        transport.sendto(b"x", os.fsdecode(path) + "-nobody")
        [error] = protocol.errors
        assert isinstance(error, FileNotFoundError)
        await finish(transport)


async def test_unix_path_too_long(loop, tmp_path):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(str(tmp_path / "sock"))
    transport, protocol = await loop.create_datagram_endpoint(
        Endpoint, sock=sock
    )
    transport.sendto(b"x", "/" + "x" * 200)
    [error] = protocol.errors
    assert "path too long" in str(error)
    assert not transport.is_closing()
    await finish(transport)


async def test_unix_seqpacket(loop):
    """Messages over a connection: its end is an empty one, over and over."""
    if sys.version_info < (3, 13):
        pytest.skip("SOCK_DGRAM only before")
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
    right.settimeout(10)
    transport, protocol = await loop.create_datagram_endpoint(
        Endpoint, sock=left
    )
    right.send(b"one")
    right.send(b"two")
    assert await protocol.received(2) == [b"one", b"two"]
    right.close()
    await protocol.received(4)
    assert protocol.data[2:4] == [b"", b""]
    await finish(transport)


# --- others ---


def ask_for_links(sequence):
    """RTM_GETLINK of rtnetlink(7), for all interfaces."""
    header = struct.pack("=IHHII", 32, 18, 0x301, sequence, 0)
    return header + struct.pack("=BxHiII", 0, 0, 0, 0, 0)


async def test_netlink(loop):
    sock = make(socket.AF_NETLINK, socket.SOCK_DGRAM, 0)
    sock.bind((0, 0))
    transport, protocol = await loop.create_datagram_endpoint(
        Endpoint, sock=sock
    )
    transport.sendto(ask_for_links(7), (0, 0))
    [answer, *_] = await protocol.received(1)
    length, kind, _, sequence, _ = struct.unpack_from("=IHHII", answer)
    assert (kind, sequence) == (16, 7)  # RTM_NEWLINK
    assert length <= len(answer)
    assert protocol.senders[0] == (0, 0)
    assert transport.get_extra_info("sockname")[0] != 0
    await finish(transport)


async def test_netlink_of_the_raw_kind(loop):
    if sys.version_info < (3, 13):
        pytest.skip("SOCK_DGRAM only before")
    sock = make(socket.AF_NETLINK, socket.SOCK_RAW, 0)
    sock.bind((0, 0))
    transport, protocol = await loop.create_datagram_endpoint(
        Endpoint, sock=sock
    )
    transport.sendto(ask_for_links(9), (0, 0))
    await protocol.received(1)
    await finish(transport)


async def test_packet_sockets(loop):
    """Ethernet frames of the loopback interface."""
    sock = make(socket.AF_PACKET, socket.SOCK_DGRAM, socket.htons(0x88B5))
    sock.bind(("lo", 0x88B5))
    transport, protocol = await loop.create_datagram_endpoint(
        Endpoint, sock=sock
    )
    transport.sendto(b"frame", ("lo", 0x88B5, 0, 0, b"\0" * 6))
    data = await protocol.received(1)
    assert data[0] == b"frame"
    assert protocol.senders[0][:2] == ("lo", 0x88B5)
    await finish(transport)


async def test_raw_sockets(loop):
    if sys.version_info < (3, 13):
        pytest.skip("SOCK_DGRAM only before")
    sock = make(socket.AF_INET, socket.SOCK_RAW, socket.IPPROTO_ICMP)
    transport, protocol = await loop.create_datagram_endpoint(
        Endpoint, sock=sock
    )
    echo = struct.pack("!BBHHH", 8, 0, 0xF7FD, 1, 1)  # with its checksum
    transport.sendto(echo, ("127.0.0.1", 0))
    await protocol.received(2)  # the request, seen as well, and the reply
    assert protocol.data[-1][20] == 0
    assert protocol.senders[-1] == ("127.0.0.1", 0)
    await finish(transport)


# --- sockets of the user's own making ---


class Counting(socket.socket):
    """Overrides what a transport calls."""

    def __init__(self, *args):
        super().__init__(*args)
        self.calls = []

    def recvfrom(self, *args):
        self.calls.append(("recvfrom", *args))
        return super().recvfrom(*args)

    def sendto(self, *args):
        self.calls.append(("sendto", *args))
        return super().sendto(*args)

    def send(self, *args):
        self.calls.append(("send", *args))
        return super().send(*args)


async def test_overridden_methods_are_called(loop):
    sock = Counting(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    address = sock.getsockname()
    transport, protocol = await loop.create_datagram_endpoint(Echo, sock=sock)
    with udp() as peer:
        for i in range(5):
            peer.sendto(b"%d" % i, address)
        await protocol.received(5)
        assert await peer_receives(peer, 5) == [b"%d" % i for i in range(5)]
        expected = []
        for i in range(5):
            expected += [
                ("recvfrom", 256 * 1024),
                ("sendto", b"%d" % i, peer.getsockname()),
            ]
        assert sock.calls[:10] == expected
        transport.sendto(bytes(70000), peer.getsockname())
        assert len(protocol.errors) == 1
    await finish(transport)


async def test_overridden_send_of_a_connected_socket(loop):
    with udp() as peer:
        sock = Counting(socket.AF_INET, socket.SOCK_DGRAM)
        sock.connect(peer.getsockname())
        transport, _ = await loop.create_datagram_endpoint(Endpoint, sock=sock)
        transport.sendto(b"x")
        assert sock.calls == [("send", b"x")]
        assert arrived(peer) == [b"x"]
        await finish(transport)


class Reluctant(socket.socket):
    """Takes a datagram at the third attempt only."""

    attempts = 0
    error = BlockingIOError

    def sendto(self, *args):
        self.attempts += 1
        if self.attempts % 3:
            raise self.error
        return super().sendto(*args)


async def reluctant(loop, factory=Endpoint):
    sock = Reluctant(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    transport, protocol = await loop.create_datagram_endpoint(
        factory, sock=sock
    )
    return sock, transport, protocol


async def test_a_method_that_would_block(loop):
    sock, transport, protocol = await reluctant(loop)
    with udp() as peer:
        for i in range(4):
            transport.sendto(b"%d" % i, peer.getsockname())
        assert arrived(peer) == []
        assert transport.get_write_buffer_size() > 0
        assert await peer_receives(peer, 4) == [b"%d" % i for i in range(4)]
        assert protocol.errors == []
        sock.error = InterruptedError
        transport.sendto(b"interrupted", peer.getsockname())
        transport.close()
        assert await peer_receives(peer) == [b"interrupted"]
        assert await asyncio.wait_for(protocol.lost, 10) is None


async def test_a_method_that_fails_later(loop):
    sock, transport, protocol = await reluctant(loop)
    with udp() as peer:
        transport.sendto(b"1", peer.getsockname())
        sock.error = ConnectionRefusedError("told later")
        assert await protocol.failed() == [sock.error]
        assert not transport.is_closing()
        await spin(2)
    await finish(transport)


@pytest.mark.oracle_skip("its writer stays, and ends it once more")
async def test_a_method_that_fails_fatally_later(loop, errors):
    sock, transport, protocol = await reluctant(loop)
    with udp() as peer:
        transport.sendto(b"2", peer.getsockname())
        sock.error = LookupError
        error = await asyncio.wait_for(protocol.lost, 10)
        assert isinstance(error, LookupError)
        [context] = errors
        assert context["message"] == "Fatal write error on datagram transport"
        errors.clear()


class FailingReceive(socket.socket):
    error = None

    def recvfrom(self, size):
        if self.error is None:
            return super().recvfrom(size)
        super().recvfrom(size)
        raise self.error


async def test_a_receive_that_fails(loop, errors):
    sock = FailingReceive(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    transport, protocol = await loop.create_datagram_endpoint(
        Endpoint, sock=sock
    )
    with udp() as peer:
        sock.error = OSError(5, "told")
        peer.sendto(b"x", sock.getsockname())
        assert await protocol.failed() == [sock.error]
        sock.error = InterruptedError()
        peer.sendto(b"x", sock.getsockname())
        await spin(5)
        assert len(protocol.errors) == 1
        sock.error = LookupError("fatal")
        peer.sendto(b"x", sock.getsockname())
        assert await asyncio.wait_for(protocol.lost, 10) is sock.error
        [context] = errors
        assert context["message"] == "Fatal read error on datagram transport"
        assert context["transport"] is transport
        errors.clear()


async def test_what_a_method_does_meanwhile(loop):
    """It may close the transport under the call."""

    class Closing(socket.socket):
        def sendto(self, *args):
            transport.abort()
            return super().sendto(*args)

    sock = Closing(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    transport, protocol = await loop.create_datagram_endpoint(
        Endpoint, sock=sock
    )
    with udp() as peer:
        transport.sendto(b"x", peer.getsockname())
        assert arrived(peer) == [b"x"]
        assert await asyncio.wait_for(protocol.lost, 10) is None


# --- audit events ---


async def test_audit_events(loop):
    """socket.sendto is told as CPython's transport has it told."""
    seen = []

    def hook(event, args):
        if event == "socket.sendto" and watching:
            seen.append(args[1])

    watching = True
    sys.addaudithook(hook)  # there is no way to remove it
    try:
        async with bound(loop) as (transport, _, peer, _):
            address = peer.getsockname()
            for _ in range(3):
                transport.sendto(b"x", address)
            transport.sendto(b"x", ("localhost", address[1]))
            assert seen == [address] * 3 + [("localhost", address[1])]
    finally:
        watching = False


async def test_audit_hooks_may_refuse(loop, errors):
    refused = None

    def hook(event, args):
        if event == "socket.sendto" and args[1] == refused:
            raise PermissionError if mild else LookupError

    sys.addaudithook(hook)
    async with bound(loop) as (transport, protocol, peer, _):
        mild = True
        refused = peer.getsockname()
        transport.sendto(b"x", refused)
        [error] = protocol.errors
        assert isinstance(error, PermissionError)
        mild = False
        transport.sendto(b"x", refused)
        error = await asyncio.wait_for(protocol.lost, 10)
        assert isinstance(error, LookupError)
        refused = None
        assert arrived(peer) == []
        errors.clear()
