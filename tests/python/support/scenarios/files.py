# SPDX-License-Identifier: MIT
"""sendfile() of transports."""

import asyncio
import contextlib
import functools
import io
import socket

from support.scenarios.registry import ended, scenario

SMALL_BUFFER = 4096
HEAD = 1000


async def send(world, sock, file, peer, **options):
    """The file, between what is written before and after it."""
    head, tail = world.token("head"), world.token("tail")
    offset = options.get("offset", 0)
    content = world.stage.content[offset:]
    peer.expect(head + content + tail)
    transport, protocol = await world.loop.create_connection(
        world.talker, sock=sock
    )

    async def send_all():
        transport.write(head)
        assert await world.loop.sendfile(transport, file, **options) == len(
            content
        )
        transport.write(tail)
        transport.close()
        await protocol.ends()

    with ended(transport):
        sending = world.loop.create_task(send_all())
        try:
            while not sending.done():
                peer.look()
                await asyncio.sleep(0)
            await sending
        finally:
            sending.cancel()


def slow_pair(world):
    ours, theirs = socket.socketpair()
    ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, SMALL_BUFFER)
    return world.give(ours), world.peer(theirs)


@scenario("sendfile")
def send_file_by_transport(world):
    ours, peer = world.pair(buffers=SMALL_BUFFER)
    file = world.open_file()
    return functools.partial(send, world, ours, file, peer)


@scenario("sendfile")
def send_part_of_file_by_unix_transport(world):
    ours, peer = slow_pair(world)
    file = world.open_file()
    return functools.partial(send, world, ours, file, peer, offset=HEAD)


@scenario("sendfile")
def send_file_by_transport_in_blocks(world):
    """What is no file of the system's is read and written."""
    ours, peer = world.pair(buffers=SMALL_BUFFER)
    file = io.BytesIO(world.stage.content)
    return functools.partial(send, world, ours, file, peer)


@scenario("sendfile")
def send_no_file_without_fallback(world):
    ours, peer = world.pair()

    async def play():
        transport, protocol = await world.loop.create_connection(
            world.talker, sock=ours
        )
        with ended(transport):
            with contextlib.suppress(asyncio.SendfileNotAvailableError):
                await world.loop.sendfile(
                    transport, io.BytesIO(b"file"), fallback=False
                )
            transport.close()
            await protocol.ends()

    return play
