# SPDX-License-Identifier: MIT
"""create_connection() and connect_accepted_socket()."""

import asyncio
import contextlib
import functools
import socket

from support.scenarios.registry import converse, ended, scenario
from support.stage import BufferedTalker, Talker


@scenario("create_connection")
def connect_to_address(world):
    async def play():
        transport, protocol = await world.loop.create_connection(
            world.talker, *world.stage.address
        )
        with ended(transport):
            peer = await world.answer()
            await converse(world, transport, protocol, peer)

    return play


@scenario("create_connection")
def connect_by_name(world):
    async def play():
        port = world.stage.address[1]
        transport, protocol = await world.loop.create_connection(
            world.talker, "localhost", port, family=socket.AF_INET
        )
        with ended(transport):
            caller = transport.get_extra_info("sockname")
            peer = await world.answer(caller=caller)
            await converse(world, transport, protocol, peer)

    return play


@scenario("create_connection")
def connect_from_local_address(world):
    async def play():
        transport, protocol = await world.loop.create_connection(
            world.talker, *world.stage.address, local_addr=("127.0.0.1", 0)
        )
        with ended(transport):
            peer = await world.answer()
            await converse(world, transport, protocol, peer)

    return play


@scenario("create_connection")
def connect_buffered(world):
    async def play():
        transport, protocol = await world.loop.create_connection(
            functools.partial(world.talker, kind=BufferedTalker),
            *world.stage.address,
        )
        with ended(transport):
            peer = await world.answer()
            await converse(world, transport, protocol, peer)

    return play


@scenario("create_connection")
def connect_refused(world):
    async def play():
        with contextlib.suppress(ConnectionRefusedError):
            transport, _ = await world.loop.create_connection(
                world.talker, *world.stage.refused
            )
            transport.abort()

    return play


@scenario("create_connection")
def connect_without_answer(world):
    """Nothing ever comes of it, so it is cancelled in any case."""

    async def play():
        world.loop.call_later(0.002, asyncio.current_task().cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await world.loop.create_connection(
                world.talker, *world.stage.silent
            )

    return play


@scenario("create_connection")
def connect_to_one_of_many(world):
    """Happy eyeballs: one is silent, one refuses, two answer."""
    stage = world.stage
    addresses = [stage.silent, stage.refused, stage.address, stage.address]
    infos = [
        (socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP, "", address)
        for address in addresses
    ]

    async def resolve(host, port, **kwargs):
        await asyncio.sleep(0)
        return infos

    async def play():
        world.loop.getaddrinfo = resolve
        try:
            transport, protocol = await world.loop.create_connection(
                world.talker,
                "name.example",
                80,
                happy_eyeballs_delay=0.0005,
            )
        finally:
            del world.loop.getaddrinfo
        with ended(transport):
            request = world.token("request")
            transport.write(request)
            transport.close()
            await protocol.ends()

    return play


@scenario("create_connection")
def connect_given_socket(world):
    ours, peer = world.pair()

    async def play():
        transport, protocol = await world.loop.create_connection(
            world.talker, sock=ours
        )
        await converse(world, transport, protocol, peer)

    return play


@scenario("create_connection")
def connect_given_unix_socket(world):
    ours, theirs = socket.socketpair()
    world.give(ours)
    peer = world.peer(theirs)

    async def play():
        transport, protocol = await world.loop.create_connection(
            world.talker, sock=ours
        )
        await converse(world, transport, protocol, peer)

    return play


@scenario("create_connection")
def connect_with_bad_factory(world):
    ours, _ = world.pair()

    def factory():
        raise LookupError("no protocol")

    async def play():
        for kwargs in ({"sock": ours}, address_of(world)):
            with contextlib.suppress(LookupError):
                await world.loop.create_connection(factory, **kwargs)

    return play


def address_of(world):
    host, port = world.stage.address
    return {"host": host, "port": port}


@scenario("create_connection")
def connect_with_factory_that_ends_it(world):
    """connection_made() closes, and the waiter is still woken."""
    ours, _ = world.pair()

    class Closing(Talker):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.close()

    async def play():
        _, protocol = await world.loop.create_connection(
            functools.partial(world.talker, kind=Closing), sock=ours
        )
        await protocol.ends()

    return play


@scenario("connect_accepted_socket")
def connect_accepted(world):
    ours, peer = world.pair()

    async def play():
        transport, protocol = await world.loop.connect_accepted_socket(
            world.talker, ours
        )
        await converse(world, transport, protocol, peer)

    return play
