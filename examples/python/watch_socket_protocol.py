# SPDX-License-Identifier: MIT
"""Register an open socket to wait for data, using a protocol."""

import asyncio
import socket

import becket


class PrintOnce(asyncio.Protocol):
    def __init__(self, on_con_lost):
        self.transport = None
        self.on_con_lost = on_con_lost

    def connection_made(self, transport):
        self.transport = transport

    def data_received(self, data):
        print("Received:", data.decode())

        # We are done: close the transport; connection_lost() follows.
        self.transport.close()

    def connection_lost(self, exc):
        # The socket has been closed.
        self.on_con_lost.set_result(True)


async def main():
    loop = asyncio.get_running_loop()
    on_con_lost = loop.create_future()

    # Create a pair of connected sockets.
    rsock, wsock = socket.socketpair()

    # Register the socket to wait for data.
    transport, protocol = await loop.create_connection(
        lambda: PrintOnce(on_con_lost), sock=rsock
    )

    # Simulate the reception of data from the network.
    loop.call_soon(wsock.send, "abc".encode())

    try:
        await protocol.on_con_lost
    finally:
        transport.close()
        wsock.close()


becket.run(main())
