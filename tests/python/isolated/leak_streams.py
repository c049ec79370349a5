# SPDX-License-Identifier: MIT
"""Reads and drains: completed, failed, cancelled, dropped, looked at."""

import asyncio
import contextlib
import gc
import socket
import sys
import warnings

from support.growth import check_growth
from support.loops import loop_from_environment
from support.net import tcp_pair

warnings.simplefilter("ignore")
loop = loop_from_environment()
loop.set_exception_handler(lambda *_: None)


async def connect(sock):
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
    return reader, asyncio.StreamWriter(transport, protocol, reader, loop)


async def cancelled(read):
    task = asyncio.create_task(read)
    await asyncio.sleep(0)
    task.get_stack()
    task.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await task


async def reads():
    ours, peer = tcp_pair()
    reader, writer = await connect(ours)
    for _ in range(50):
        writer.write(b"x")
        await writer.drain()
        peer.send(b"line\n1234567890rest")
        assert await reader.readline() == b"line\n"
        assert await reader.readuntil(b"3") == b"123"
        assert await reader.readexactly(3) == b"456"
        assert await reader.read(100) == b"7890rest"
        task = asyncio.create_task(reader.read(100))
        await asyncio.sleep(0)
        peer.send(b"late")
        assert await task == b"late"
        await cancelled(reader.readline())
        await cancelled(reader.readexactly(5))
        reader.read(5).close()
        reader.readline()
        writer.drain()
        waiting = reader.read(5)
        waiting.send(None)
        del waiting
        cycle = [reader.read(5)]
        cycle.append(cycle)
    del cycle
    gc.collect()
    peer.send(b"partial")
    peer.shutdown(socket.SHUT_WR)
    with contextlib.suppress(asyncio.IncompleteReadError):
        await reader.readexactly(50)
    assert await reader.read() == b""
    writer.close()
    await writer.wait_closed()
    peer.close()


async def large():
    """Received as the result of the read, and by an own data_received()."""
    ours, peer = tcp_pair()
    reader, writer = await connect(ours)
    protocol = writer.transport.get_protocol()
    original = protocol.data_received
    for own in None, original:
        if own is not None:
            protocol.data_received = lambda data: original(data)
        for _ in range(10):
            task = asyncio.create_task(reader.readexactly(1 << 16))
            await asyncio.sleep(0)
            await loop.run_in_executor(None, peer.sendall, bytes(1 << 16))
            await task
    del protocol.data_received
    writer.transport.abort()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    peer.close()


async def served():
    """A server's reader and writer, kept and dropped."""

    async def serve(reader, writer):
        writer.write(await reader.readline())
        await writer.drain()
        if await reader.readline() == b"close\n":
            writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    address = server.sockets[0].getsockname()
    # Before 3.13, a dropped writer leaves its connection open.
    ends = b"close\n", b"drop\n" if sys.version_info >= (3, 13) else b"close\n"
    for end in ends * 5:
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b"line\n" + end)
        assert await reader.read() == b"line\n"
        writer.close()
        await writer.wait_closed()
    server.close()
    await server.wait_closed()
    gc.collect()


async def dropped():
    """Tasks that wait for ever, in cycles with what they wait for."""
    ours, peer = tcp_pair()
    reader, writer = await connect(ours)
    task = asyncio.create_task(reader.read(5))
    await asyncio.sleep(0)
    reader.task = task
    writer.transport.abort()
    del reader, writer
    await asyncio.sleep(0)
    peer.close()
    await task


def scenario():
    loop.run_until_complete(reads())
    loop.run_until_complete(large())
    loop.run_until_complete(served())
    loop.run_until_complete(dropped())


check_growth(scenario)
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
