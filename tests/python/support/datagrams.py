# SPDX-License-Identifier: MIT
"""Datagram endpoints and their peers, for the tests."""

import asyncio
import contextlib
import socket

from support.net import LIMIT, spin


class Endpoint(asyncio.DatagramProtocol):
    """Keeps every call in order, and lets a test wait for datagrams."""

    def __init__(self):
        self.loop = asyncio.get_running_loop()
        self.calls = []
        self.data = []
        self.senders = []
        self.errors = []
        self.transport = None
        self.lost = self.loop.create_future()
        self._waiters = []

    def connection_made(self, transport):
        self.calls.append("connection_made")
        self.transport = transport

    def datagram_received(self, data, addr):
        self.calls.append(data)
        self.data.append(data)
        self.senders.append(addr)
        self._wake()

    def error_received(self, exc):
        self.calls.append("error_received")
        self.errors.append(exc)
        self._wake()

    def pause_writing(self):
        self.calls.append("pause_writing")

    def resume_writing(self):
        self.calls.append("resume_writing")

    def connection_lost(self, exc):
        self.calls.append("connection_lost")
        if not self.lost.done():
            self.lost.set_result(exc)

    async def received(self, count):
        """Wait until count datagrams are there; returns all of them."""
        await self._until(lambda: len(self.data) >= count)
        return self.data

    async def failed(self, count=1):
        """Wait until count errors were told; returns all of them."""
        await self._until(lambda: len(self.errors) >= count)
        return self.errors

    async def _until(self, condition):
        if not condition():
            waiter = self.loop.create_future()
            self._waiters.append((condition, waiter))
            await asyncio.wait_for(waiter, LIMIT)

    def _wake(self):
        for condition, waiter in self._waiters:
            if not waiter.done() and condition():
                waiter.set_result(None)


class Echo(Endpoint):
    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        self.transport.sendto(data, addr)


def udp(host="127.0.0.1", family=socket.AF_INET):
    """A bound blocking UDP socket with a bounded wait."""
    sock = socket.socket(family, socket.SOCK_DGRAM)
    sock.settimeout(LIMIT)
    sock.bind((host, 0))
    return sock


def arrived(sock):
    """The datagrams that a socket has by now, without waiting."""
    found = []
    sock.setblocking(False)
    with contextlib.suppress(BlockingIOError):
        while True:
            found.append(sock.recv(1 << 16))
    sock.settimeout(LIMIT)
    return found


async def peer_receives(sock, count=1):
    """count datagrams of a blocking peer, read beside the loop."""
    return [await asyncio.to_thread(sock.recv, 1 << 16) for _ in range(count)]


@contextlib.asynccontextmanager
async def bound(loop, factory=Endpoint, **kwargs):
    """An endpoint on 127.0.0.1; gives (transport, protocol, peer, address).

    The peer is a plain blocking socket, not connected; address is that of the
    endpoint.
    """
    kwargs.setdefault("local_addr", ("127.0.0.1", 0))
    transport, protocol = await loop.create_datagram_endpoint(
        factory, **kwargs
    )
    with udp() as peer:
        address = transport.get_extra_info("sockname")
        try:
            yield transport, protocol, peer, address
        finally:
            await finish(transport)


@contextlib.asynccontextmanager
async def connected(loop, factory=Endpoint):
    """An endpoint connected to a peer; gives (transport, protocol, peer)."""
    with udp() as peer:
        transport, protocol = await loop.create_datagram_endpoint(
            factory, remote_addr=peer.getsockname()
        )
        try:
            peer.connect(transport.get_extra_info("sockname"))
            yield transport, protocol, peer
        finally:
            await finish(transport)


async def finish(transport):
    """End a transport that may have ended already."""
    if transport._loop is not None:
        transport.abort()
    await spin(2)


def small_unix_pair():
    """Two connected Unix datagram sockets that hold few datagrams.

    The second one is bound, or the first could not send: CPython's transport
    takes a peer without a name for none.
    """
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    return left, right
