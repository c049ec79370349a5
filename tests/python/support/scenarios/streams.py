# SPDX-License-Identifier: MIT
"""open_connection() and start_server()."""

import asyncio
import sys

from support.scenarios.registry import address_of, scenario


async def exchange(world, reader, writer, peer):
    request, reply = world.token("request"), world.token("reply")
    peer.expect(request)
    try:
        writer.write(request)
        await writer.drain()
        await peer.reads(len(request))
        peer.send(reply)
        peer.shut()
        got = await reader.readexactly(len(reply))
        assert got == reply, f"a stream got {got!r}"
        assert await reader.read() == b""
    except (OSError, EOFError):
        # drain() tells of a loss, and the reader why.
        world.told.append(reader.exception())
        raise
    finally:
        writer.close()
    await writer.wait_closed()


@scenario("open_connection")
def open_streams(world):
    async def play():
        reader, writer = await asyncio.open_connection(*world.stage.address)
        try:
            peer = await world.answer()
        except BaseException:
            writer.close()
            raise
        await exchange(world, reader, writer, peer)

    return play


@scenario("open_connection")
def open_streams_on_given_socket(world):
    ours, peer = world.pair()

    async def play():
        reader, writer = await asyncio.open_connection(sock=ours)
        await exchange(world, reader, writer, peer)

    return play


def closing(world, handle):
    """The handler; if cancelled before its first step, it closes as well.

    From 3.13 on the writer does so by itself when it is dropped.
    """
    if sys.version_info >= (3, 13):
        return handle
    tasks = []

    def begin(reader, writer):
        task = world.loop.create_task(handle(reader, writer))
        task.add_done_callback(lambda _: writer.close())
        tasks.append(task)

    return begin


async def serve_one_stream(world, start):
    """One client comes to the server that start(handler) starts."""
    handled = world.loop.create_future()

    async def handle(reader, writer):
        try:
            await exchange(world, reader, writer, peer)
        except BaseException as exc:
            if not handled.done():
                handled.set_exception(exc)
        if not handled.done():
            handled.set_result(None)

    server = await start(closing(world, handle))
    world.servers.append(server)
    try:
        peer = world.call(address_of(world, server))
        await handled
    finally:
        server.close()
    await server.wait_closed()


@scenario("start_server")
def serve_streams(world):
    async def play():
        await serve_one_stream(
            world,
            lambda handle: asyncio.start_server(handle, "127.0.0.1", 0),
        )

    return play


@scenario("start_server")
def serve_streams_on_given_socket(world):
    sock = world.listening()
    address = sock.getsockname()

    async def play():
        handled = world.loop.create_future()

        async def handle(reader, writer):
            data = b""
            try:
                data = await reader.read(100)
            except OSError as exc:
                world.told.append(exc)
            writer.close()
            if not handled.done():
                handled.set_result(data)

        server = await asyncio.start_server(closing(world, handle), sock=sock)
        world.servers.append(server)
        try:
            peer = world.call(address)
            peer.send(world.token())
            data = await handled
            assert world.token().startswith(data), f"a stream got {data!r}"
        finally:
            server.close()
        await server.wait_closed()

    return play
