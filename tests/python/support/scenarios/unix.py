# SPDX-License-Identifier: MIT
"""create_unix_connection(), create_unix_server(), and their streams."""

import asyncio
import contextlib
import functools

from support.scenarios.registry import converse, ended, scenario
from support.scenarios.serve import Host, serve_one
from support.scenarios.streams import exchange, serve_one_stream
from support.stage import BufferedTalker


def answer(world):
    return world.answer(listener=world.stage.unix_listener)


@scenario("create_unix_connection")
def connect_to_path(world):
    async def play():
        transport, protocol = await world.loop.create_unix_connection(
            world.talker, world.stage.unix_address
        )
        with ended(transport):
            peer = await answer(world)
            await converse(world, transport, protocol, peer)

    return play


@scenario("create_unix_connection")
def connect_to_path_buffered(world):
    ours, peer = world.unix_pair()

    async def play():
        transport, protocol = await world.loop.create_unix_connection(
            functools.partial(world.talker, kind=BufferedTalker), sock=ours
        )
        await converse(world, transport, protocol, peer)

    return play


@scenario("create_unix_connection")
def connect_to_no_path(world):
    async def play():
        # Interrupted in vain it looks as if the backlog was full.
        with contextlib.suppress(FileNotFoundError, BlockingIOError):
            transport, _ = await world.loop.create_unix_connection(
                world.talker, world.path()
            )
            transport.abort()

    return play


@scenario("create_unix_connection")
def connect_unix_with_bad_factory(world):
    ours, _ = world.unix_pair()

    def factory():
        raise LookupError("no protocol")

    async def play():
        for kwargs in ({"sock": ours}, {"path": world.stage.unix_address}):
            with contextlib.suppress(LookupError):
                await world.loop.create_unix_connection(factory, **kwargs)

    return play


@scenario("create_unix_server")
def serve_path(world):
    path = world.path()

    async def play():
        with Host(world) as host:
            server = await world.loop.create_unix_server(host.factory, path)
            await serve_one(world, server, host)

    return play


@scenario("create_unix_server")
def serve_abstract_name(world):
    name = "\0" + world.path()

    async def play():
        with Host(world) as host:
            server = await world.loop.create_unix_server(host.factory, name)
            await serve_one(world, server, host)

    return play


@scenario("create_unix_server")
def serve_given_unix_socket(world):
    sock = world.listening(world.path())

    async def play():
        with Host(world) as host:
            server = await world.loop.create_unix_server(
                host.factory, sock=sock
            )
            await serve_one(world, server, host)

    return play


@scenario("open_unix_connection")
def open_unix_streams(world):
    async def play():
        reader, writer = await asyncio.open_unix_connection(
            world.stage.unix_address
        )
        try:
            peer = await answer(world)
        except BaseException:
            writer.close()
            raise
        await exchange(world, reader, writer, peer)

    return play


@scenario("open_unix_connection")
def open_streams_on_given_unix_socket(world):
    ours, peer = world.unix_pair()

    async def play():
        reader, writer = await asyncio.open_unix_connection(sock=ours)
        await exchange(world, reader, writer, peer)

    return play


@scenario("start_unix_server")
def serve_unix_streams(world):
    path = world.path()

    async def play():
        await serve_one_stream(
            world,
            lambda handle: asyncio.start_unix_server(handle, path),
        )

    return play
