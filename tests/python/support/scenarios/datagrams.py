# SPDX-License-Identifier: MIT
"""create_datagram_endpoint()."""

import asyncio
import contextlib
import socket
import time

from support.net import LIMIT
from support.scenarios.registry import ended, scenario
from support.stage import Talker

SMALL_BUFFER = 4096
BURST = 20


class DatagramTalker(Talker, asyncio.DatagramProtocol):
    """Whole datagrams alone, each of them expected."""

    answers = False
    failures = 0

    def datagram_received(self, data, address):
        if self.is_lost:
            raise AssertionError("datagram_received after connection_lost")
        check_datagram(data, self._expected)
        self.data += data
        if self.answers:
            self.transport.sendto(data, address)
        self._tell()

    def error_received(self, exc):
        self.failures += 1
        self._world.told.append(exc)
        self._tell()

    async def reads(self, count):
        """Or gives up, as what was to be answered may have been lost."""
        await self.until(lambda _: len(self.data) >= count or self.failures)

    def check(self):
        pass  # each was looked at as it came


class Answering(DatagramTalker):
    answers = True


def check_datagram(data, expected):
    if data != expected:
        raise AssertionError(f"got {data[:100]!r}, expected {expected!r}")


class DatagramPeer:
    """The other end, with what a Peer has."""

    def __init__(self, world, sock, expected):
        sock.setblocking(False)
        self._world = world
        self._sock = sock
        self._expected = expected
        self.address = sock.getsockname()
        self.count = 0
        self.sender = None  # of the last one
        world.peers.append(self)

    def send(self, address, count=1):
        """Any that is lost was sent to somebody who is gone."""
        with self._world.aside(), contextlib.suppress(OSError):
            for _ in range(count):
                self._sock.sendto(self._expected, address)

    def look(self):
        """Whether one was there."""
        with self._world.aside():
            try:
                data, self.sender = self._sock.recvfrom(1 << 16)
            except OSError:
                return False
        check_datagram(data, self._expected)
        self.count += 1
        return True

    async def gets(self, count, protocol):
        """So many datagrams in all, unless one of them may have been lost."""
        deadline = time.monotonic() + LIMIT
        while self.count < count and self._sock.fileno() >= 0:
            if self.look():
                continue
            if protocol.failures or protocol.is_lost:
                return
            if time.monotonic() > deadline:
                raise TimeoutError("the peer got nothing")
            await asyncio.sleep(0)

    def check(self):
        pass

    def drain(self):
        while self.look():
            pass

    def close(self):
        with self._world.aside():
            self._sock.close()

    reset = close


def udp_peer(world):
    sock = socket.socket(type=socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    return DatagramPeer(world, sock, world.token())


def unix_peer(world):
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.bind(world.path("peer"))
    return DatagramPeer(world, sock, world.token())


def given_unix_socket(world, peer):
    """Connected to the peer, and the peer to it."""
    sock = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    sock.bind(world.path())
    sock.connect(peer.address)
    return world.give(sock)


def factory(world, kind=DatagramTalker):
    return lambda: world.talker(world.token(), kind)


async def exchange(world, transport, protocol, peer):
    """Both sides say something, and the loop's side closes."""
    token = world.token()
    with ended(transport):
        transport.sendto(token, peer.address)
        await peer.gets(1, protocol)
        if peer.sender:
            peer.send(peer.sender)
            await protocol.reads(len(token))
        transport.close()
        await protocol.ends()


@scenario("create_datagram_endpoint")
def bind_endpoint(world):
    peer = udp_peer(world)

    async def play():
        transport, protocol = await world.loop.create_datagram_endpoint(
            factory(world), local_addr=("127.0.0.1", 0), reuse_port=True
        )
        await exchange(world, transport, protocol, peer)

    return play


@scenario("create_datagram_endpoint")
def connect_endpoint(world):
    peer = udp_peer(world)

    async def play():
        transport, protocol = await world.loop.create_datagram_endpoint(
            factory(world), remote_addr=peer.address
        )
        await exchange(world, transport, protocol, peer)

    return play


@scenario("create_datagram_endpoint")
def connect_endpoint_by_name(world):
    peer = udp_peer(world)

    async def play():
        transport, protocol = await world.loop.create_datagram_endpoint(
            factory(world),
            local_addr=("127.0.0.1", 0),
            remote_addr=("localhost", peer.address[1]),
            family=socket.AF_INET,
        )
        await exchange(world, transport, protocol, peer)

    return play


@scenario("create_datagram_endpoint")
def open_endpoint_that_broadcasts(world):
    peer = udp_peer(world)

    async def play():
        transport, protocol = await world.loop.create_datagram_endpoint(
            factory(world),
            remote_addr=peer.address,
            allow_broadcast=True,
        )
        await exchange(world, transport, protocol, peer)

    return play


@scenario("create_datagram_endpoint")
def open_endpoint_on_given_socket(world):
    sock = world.give(socket.socket(type=socket.SOCK_DGRAM))
    sock.bind(("127.0.0.1", 0))
    peer = udp_peer(world)

    async def play():
        transport, protocol = await world.loop.create_datagram_endpoint(
            factory(world), sock=sock
        )
        await exchange(world, transport, protocol, peer)

    return play


@scenario("create_datagram_endpoint")
def bind_unix_endpoint(world):
    peer = unix_peer(world)
    path = world.path()

    async def play():
        transport, protocol = await world.loop.create_datagram_endpoint(
            factory(world),
            local_addr=path,
            remote_addr=peer.address,
            family=socket.AF_UNIX,
        )
        await exchange(world, transport, protocol, peer)

    return play


@scenario("create_datagram_endpoint")
def send_more_datagrams_than_fit(world):
    """They wait for a peer that reads slowly."""
    peer = unix_peer(world)
    ours = given_unix_socket(world, peer)

    async def play():
        transport, protocol = await world.loop.create_datagram_endpoint(
            factory(world), sock=ours
        )
        with ended(transport):
            for _ in range(10 * BURST):
                if not transport.is_closing():
                    transport.sendto(world.token(), peer.address)
            transport.close()
            while not protocol.is_lost:
                peer.look()
                await asyncio.sleep(0)
        await protocol.ends()

    return play


@scenario("create_datagram_endpoint")
def answer_a_burst(world):
    """What is sent while datagrams arrive leaves together."""
    peer = unix_peer(world)
    ours = given_unix_socket(world, peer)
    address = ours.getsockname()

    async def play():
        transport, protocol = await world.loop.create_datagram_endpoint(
            factory(world, Answering), sock=ours
        )
        with ended(transport):
            peer.send(address, BURST)
            await protocol.reads(BURST * len(world.token()))
            await peer.gets(BURST, protocol)
            transport.close()
            await protocol.ends()

    return play


@scenario("create_datagram_endpoint")
def send_to_nobody(world):
    """The answer is told to the protocol, and the endpoint goes on."""

    async def play():
        transport, protocol = await world.loop.create_datagram_endpoint(
            factory(world), remote_addr=world.stage.refused
        )
        with ended(transport):
            transport.sendto(world.token())
            await asyncio.sleep(0)
            transport.sendto(world.token())
            await asyncio.sleep(0)
            transport.abort()
            await protocol.ends()

    return play


@scenario("create_datagram_endpoint")
def open_endpoint_with_bad_factory(world):
    sock = world.give(socket.socket(type=socket.SOCK_DGRAM))

    def no_protocol():
        raise LookupError("no protocol")

    async def play():
        for kwargs in ({"sock": sock}, {"local_addr": ("127.0.0.1", 0)}):
            with contextlib.suppress(LookupError):
                await world.loop.create_datagram_endpoint(
                    no_protocol, **kwargs
                )

    return play
