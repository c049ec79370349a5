# SPDX-License-Identifier: MIT
"""sock_* and the resolver: completed, failed and cancelled."""

import asyncio
import contextlib
import socket

from support.growth import check_growth
from support.loops import loop_from_environment
from support.net import closed_port

loop = loop_from_environment()


async def calls():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    buffer = bytearray(100)
    for _ in range(100):
        await loop.sock_sendall(left, b"hello")
        assert await loop.sock_recv(right, 100) == b"hello"
        task = asyncio.create_task(loop.sock_recv(right, 100))
        await asyncio.sleep(0)
        await loop.sock_sendall(left, b"late")
        assert await task == b"late"
        task = asyncio.create_task(loop.sock_recv_into(right, buffer))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task
        loop.sock_recv(right, 1).close()
    left.close()
    right.close()
    for _ in range(20):
        with socket.socket() as sock:
            sock.setblocking(False)
            with contextlib.suppress(ConnectionRefusedError):
                await loop.sock_connect(sock, ("127.0.0.1", closed_port()))
        with contextlib.suppress(TypeError, AttributeError):
            await loop.sock_recv(5, 5)
        await loop.getaddrinfo("localhost", 80)
        with contextlib.suppress(socket.gaierror):
            await loop.getaddrinfo("localhost", "no-such-service")
        task = asyncio.create_task(loop.getaddrinfo("localhost", 80))
        await asyncio.sleep(0)
        task.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await task


def scenario():
    loop.run_until_complete(calls())


check_growth(scenario)
loop.run_until_complete(loop.shutdown_default_executor())
loop.close()
