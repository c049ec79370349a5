# SPDX-License-Identifier: MIT
"""Datagram endpoints: made, used and ended in every way."""

import asyncio
import contextlib
import gc
import os
import socket
import warnings

from support.datagrams import Echo, Endpoint, arrived, udp
from support.growth import check_growth
from support.loops import loop_from_environment

warnings.simplefilter("ignore")
loop = loop_from_environment()
loop.set_exception_handler(lambda *_: None)


class Failing(Echo):
    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        raise ValueError


class Overriding(socket.socket):
    def recvfrom(self, size):
        return super().recvfrom(size)


async def one(factory, end, kind=socket.socket):
    sock = kind(socket.AF_INET, socket.SOCK_DGRAM)
    sock.bind(("127.0.0.1", 0))
    address = sock.getsockname()
    transport, protocol = await loop.create_datagram_endpoint(
        factory, sock=sock
    )
    with udp() as peer:
        for size in (0, 10, 3000, 40):
            peer.sendto(bytes(size), address)
            peer.sendto(b"x", address)
        await protocol.received(8)
        transport.sendto(bytes(70000), peer.getsockname())
        transport.sendto(bytearray(b"x"), ("localhost", 9))
        await asyncio.sleep(0)
        arrived(peer)
        repr(transport)
        if end == "close":
            transport.close()
        elif end == "abort":
            transport.abort()
        elif end == "fatal":
            transport.sendto(b"x")
        if end != "drop":
            await protocol.lost
            return
        transport.pause_reading()
        await asyncio.sleep(0)
        transport = protocol = None
        gc.collect()


async def waiting(end):
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_DGRAM)
    left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1)
    path = f"\0becket-leak-{os.getpid()}"
    right.close()
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as right:
        right.bind(path)
        left.connect(path)
        transport, protocol = await loop.create_datagram_endpoint(
            Endpoint, sock=left
        )
        while transport.get_write_buffer_size() == 0:
            transport.sendto(bytes(1000))
        getattr(transport, end)()
        right.setblocking(False)
        while not protocol.lost.done():
            with contextlib.suppress(BlockingIOError):
                right.recv(2000)
            await asyncio.sleep(0)


def scenario():
    for end in ("close", "abort", "fatal", "drop"):
        for factory in (Endpoint, Echo, Failing):
            for _ in range(3):
                loop.run_until_complete(one(factory, end))
        loop.run_until_complete(one(Echo, end, Overriding))
    for end in ("close", "abort"):
        loop.run_until_complete(waiting(end))


# A busy machine splits the bursts in ever new ways for some rounds.
check_growth(scenario, rounds=15)
loop.close()
