# SPDX-License-Identifier: MIT
"""Connections: ended in every way, with data in both directions."""

import asyncio
import contextlib
import gc
import socket
import warnings

from support.growth import check_growth
from support.loops import loop_from_environment
from support.net import reset, tcp_pair
from support.protocols import Buffered, Echo, Recorder

warnings.simplefilter("ignore")
loop = loop_from_environment()
loop.set_exception_handler(lambda *_: None)


class Failing(Recorder):
    def data_received(self, data):
        raise ValueError


async def one(factory, end):
    ours, peer = tcp_pair()
    transport, protocol = await loop.create_connection(factory, sock=ours)
    peer.send(b"x" * 3000)
    transport.write(b"y" * 3000)
    transport.writelines([b"a", bytearray(b"b")])
    await asyncio.sleep(0)
    transport.get_extra_info("socket")
    repr(transport)
    if end == "close":
        transport.close()
    elif end == "abort":
        transport.abort()
    elif end == "eof":
        peer.shutdown(socket.SHUT_WR)
    elif end == "reset":
        reset(peer)
    if end != "drop":
        await protocol.lost
    else:
        transport.pause_reading()
        transport = protocol = None
        gc.collect()
    peer.close()


async def serving():
    async def serve(reader, writer):
        with contextlib.suppress(ConnectionError):
            while data := await reader.read(100):
                writer.write(data)
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    for _ in range(20):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"hello")
        assert await reader.readexactly(5) == b"hello"
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()


def scenario():
    for end in ("close", "abort", "eof", "reset", "drop"):
        for factory in (Recorder, Echo, Buffered, Failing):
            if end == "drop" and factory is Failing:
                continue
            for _ in range(3):
                loop.run_until_complete(one(factory, end))
    loop.run_until_complete(serving())


check_growth(scenario)
loop.close()
