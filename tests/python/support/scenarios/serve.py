# SPDX-License-Identifier: MIT
"""create_server()."""

import asyncio
import socket

from support.scenarios.registry import address_of, converse, scenario
from support.stage import Talker


class Host:
    """A server's protocols, in the order in which they were made.

    Whoever accepts connections ends them: leaving the context does.
    """

    def __init__(self, world):
        self._world = world
        self._made = asyncio.Queue()
        self._is_over = False

    def __enter__(self):
        return self

    def __exit__(self, *exc_info):
        self.leave()

    def leave(self):
        self._is_over = True
        self._world.abort_transports()

    def factory(self):
        protocol = self._world.talker(kind=Guest)
        protocol.host = self
        self._made.put_nowait(protocol)
        return protocol

    def welcome(self, transport):
        if self._is_over:
            transport.abort()

    async def next(self):
        protocol = await self._made.get()
        await protocol.until(lambda _: protocol.transport)
        return protocol


class Guest(Talker):
    def connection_made(self, transport):
        super().connection_made(transport)
        self.host.welcome(transport)


async def first_of(one, other):
    """Wait until other is done; raise what one raises before that."""
    await asyncio.wait([one, other], return_when=asyncio.FIRST_COMPLETED)
    if one.done():
        other.cancel()
        await one


async def serve_one(world, server, host):
    """One client comes, and everything is closed."""
    world.servers.append(server)
    try:
        peer = world.call(address_of(world, server))
        protocol = await host.next()
        await converse(world, protocol.transport, protocol, peer)
    finally:
        server.close()
    await server.wait_closed()


@scenario("create_server")
def serve_address(world):
    async def play():
        with Host(world) as host:
            server = await world.loop.create_server(
                host.factory, "127.0.0.1", 0, reuse_port=True
            )
            await serve_one(world, server, host)

    return play


@scenario("create_server")
def serve_by_name(world):
    async def play():
        hosts = ["localhost", "127.0.0.1"]
        with Host(world) as host:
            server = await world.loop.create_server(
                host.factory, hosts, 0, family=socket.AF_INET
            )
            await serve_one(world, server, host)

    return play


@scenario("create_server")
def serve_given_socket(world):
    sock = world.listening()

    async def play():
        with Host(world) as host:
            server = await world.loop.create_server(host.factory, sock=sock)
            await serve_one(world, server, host)

    return play


@scenario("create_server")
def serve_for_ever(world):
    sock = world.listening()
    address = sock.getsockname()

    async def serve_forever(server):
        try:
            await server.serve_forever()
        except RuntimeError:
            # Somebody has closed it first.
            if server.sockets:
                raise

    async def serve(host, server):
        forever = world.loop.create_task(serve_forever(server))
        try:
            peer = world.call(address)
            next_guest = world.loop.create_task(host.next())
            await first_of(forever, next_guest)
            protocol = await next_guest
            await converse(world, protocol.transport, protocol, peer)
        finally:
            # serve_forever() waits until no connection is left.
            host.leave()
            forever.cancel()
            await asyncio.wait([forever])

    async def play():
        with Host(world) as host:
            server = await world.loop.create_server(
                host.factory, sock=sock, start_serving=False
            )
            world.servers.append(server)
            await serve(host, server)

    return play


@scenario("create_server")
def serve_while_clients_give_up(world):
    async def serve(host, server):
        try:
            address = address_of(world, server)
            first = world.call(address)
            second = world.call(address)
            first.reset()
            await asyncio.sleep(0)
            second.close()
            for _ in range(2):
                protocol = await host.next()
                await protocol.ends()
        finally:
            server.close()
        await server.wait_closed()

    async def play():
        with Host(world) as host:
            server = await world.loop.create_server(
                host.factory, "127.0.0.1", 0
            )
            world.servers.append(server)
            await serve(host, server)

    return play
