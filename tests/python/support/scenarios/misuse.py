# SPDX-License-Identifier: MIT
"""Sockets and pipes that are given twice, or are closed already."""

import asyncio
import contextlib
import socket

from support.scenarios.registry import scenario
from support.scenarios.serve import Host
from support.stage import PipeEnd


@contextlib.contextmanager
def refusal(world):
    """Here it may be raised."""
    try:
        yield
    except OSError as exc:
        world.told.append(exc)
    except (ValueError, RuntimeError):
        pass


@contextlib.contextmanager
def all_ended(world):
    try:
        yield
    finally:
        world.abort_transports()


async def settle():
    for _ in range(3):
        await asyncio.sleep(0)


async def give_twice(world, first, second):
    """One of them may be refused."""
    with all_ended(world):
        results = await asyncio.gather(
            first(), second(), return_exceptions=True
        )
        for result in results:
            if isinstance(result, Exception):
                with refusal(world):
                    raise result
        await settle()


@scenario("create_connection")
def give_socket_to_two_connections(world):
    ours, peer = world.pair()

    def connect():
        return world.loop.create_connection(world.talker, sock=ours)

    async def play():
        await give_twice(world, connect, connect)

    return play


@scenario("create_connection")
def give_socket_of_connection_that_closes(world):
    """Which closes the socket of the other one."""
    ours, peer = world.pair()
    token = world.token()
    peer.expect(token)

    async def play():
        with all_ended(world):
            one, _ = await world.loop.create_connection(
                world.talker, sock=ours
            )
            one.close()
            with refusal(world):
                other, _ = await world.loop.create_connection(
                    world.talker, sock=ours
                )
                other.write(token)
            await settle()

    return play


@scenario("create_connection")
def give_socket_that_is_closed(world):
    ours, _ = world.pair()

    async def play():
        ours.close()
        for connect in (
            world.loop.create_connection,
            world.loop.create_unix_connection,
            world.loop.connect_accepted_socket,
        ):
            with refusal(world):
                if connect == world.loop.connect_accepted_socket:
                    await connect(world.talker, ours)
                else:
                    await connect(world.talker, sock=ours)
        for method, *arguments in (
            (world.loop.sock_recv, 10),
            (world.loop.sock_recv_into, bytearray(10)),
            (world.loop.sock_recvfrom, 10),
            (world.loop.sock_sendall, b"x"),
            (world.loop.sock_sendto, b"x", world.stage.address),
            (world.loop.sock_connect, world.stage.address),
            (world.loop.sock_accept,),
        ):
            with refusal(world):
                await method(ours, *arguments)

    return play


@scenario("connect_read_pipe")
def give_pipe_both_ways(world):
    """A socket to read from and to write to, closed by the first."""
    ours, peer = world.unix_pair()
    token = world.token()
    peer.expect(token)

    async def play():
        with all_ended(world):
            reading, _ = await world.loop.connect_read_pipe(world.talker, ours)
            writing, _ = await world.loop.connect_write_pipe(
                world.talker, ours
            )
            writing.write(token)
            reading.close()
            await settle()
            writing.write(token)
            writing.close()
            await settle()

    return play


@scenario("connect_read_pipe")
def give_pipe_that_is_closed(world):
    ours, _ = world.unix_pair()
    end = world.give_end(PipeEnd(ours.detach()))

    async def play():
        end.close()
        for connect in (
            world.loop.connect_read_pipe,
            world.loop.connect_write_pipe,
        ):
            with refusal(world):
                await connect(world.talker, end)

    return play


@scenario("create_server")
def give_socket_to_two_servers(world):
    sock = world.listening()
    address = sock.getsockname()

    async def play():
        with Host(world) as host:
            for _ in range(2):
                with refusal(world):
                    world.servers.append(
                        await world.loop.create_server(host.factory, sock=sock)
                    )
            try:
                world.call(address)
                await settle()
            finally:
                world.close_servers()
        await settle()

    return play


@scenario("create_datagram_endpoint")
def give_socket_to_two_endpoints(world):
    ours, theirs = world.datagrams()
    address = ours.getsockname()

    class Endpoint(asyncio.DatagramProtocol):
        def connection_made(self, transport):
            world.transports.append(transport)

    def connect():
        return world.loop.create_datagram_endpoint(Endpoint, sock=ours)

    async def play():
        with all_ended(world):
            await give_twice(world, connect, connect)
            with world.aside(), contextlib.suppress(OSError):
                theirs.sendto(world.token(), address)
            await settle()

    return play


@scenario("sock_recv")
def use_socket_of_transport(world):
    """Refused, or a race for its bytes; a stranger gets none of them."""
    ours, peer = world.pair()

    async def play():
        with all_ended(world):
            transport, protocol = await world.loop.create_connection(
                world.talker, sock=ours
            )
            for method, *arguments in (
                (world.loop.sock_recv, 10),
                (world.loop.sock_sendall, b""),
            ):
                with refusal(world):
                    await method(ours, *arguments)
            transport.close()
            await protocol.ends()

    return play


@scenario("sock_recv")
def receive_twice_at_once(world):
    """As CPython: the second takes the first one's place."""
    ours, peer = world.pair()

    async def play():
        tasks = [
            world.loop.create_task(world.loop.sock_recv(ours, 10))
            for _ in range(2)
        ]
        try:
            await asyncio.sleep(0)
            peer.send(b"x")
            await asyncio.wait(
                tasks, return_when=asyncio.FIRST_COMPLETED, timeout=1
            )
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.wait(tasks)
        for task in tasks:
            if not task.cancelled() and task.exception():
                raise task.exception()

    return play


@scenario("sock_connect")
def connect_socket_twice(world):
    sock = world.give(socket.socket())

    def connect():
        return world.loop.sock_connect(sock, world.stage.address)

    async def play():
        await give_twice(world, connect, connect)

    return play
