# SPDX-License-Identifier: MIT
"""What transports do once they are connected."""

import asyncio
import functools

from support.scenarios.registry import ended, scenario
from support.stage import Talker

SMALL_BUFFER = 4096
LARGE_BYTES = 400_000


@scenario("create_connection")
def write_more_than_fits(world):
    data = world.token() * (LARGE_BYTES // len(world.token()))
    ours, peer = world.pair(data, SMALL_BUFFER)

    async def play():
        transport, protocol = await world.loop.create_connection(
            world.talker, sock=ours
        )
        with ended(transport):
            transport.write(data[:1000])
            transport.write(bytearray(data[1000:200_000]))
            transport.writelines([data[200_000:300_000], data[300_000:]])
            transport.close()
            while len(peer.data) < len(data):
                await peer.reads(1)
            await protocol.ends()

    return play


@scenario("create_connection")
def half_close(world):
    request, reply = world.token("request"), world.token("reply")
    ours, peer = world.pair(request)

    async def play():
        transport, protocol = await world.loop.create_connection(
            functools.partial(world.talker, reply), sock=ours
        )
        with ended(transport):
            transport.write(request)
            transport.write_eof()
            await peer.reads(len(request))
            peer.send(reply)
            peer.shut()
            await protocol.until(lambda _: protocol.is_at_end)
            await protocol.ends()

    return play


@scenario("create_connection")
def pause_and_resume(world):
    reply = world.token("reply")
    ours, peer = world.pair()

    async def play():
        transport, protocol = await world.loop.create_connection(
            functools.partial(world.talker, reply), sock=ours
        )
        with ended(transport):
            transport.pause_reading()
            peer.send(reply)
            await asyncio.sleep(0)
            transport.get_extra_info("socket").getsockname()
            transport.resume_reading()
            await protocol.reads(len(reply))
            transport.set_protocol(Talker(world))
            transport.close()
            await asyncio.sleep(0)

    return play


@scenario("create_connection")
def peer_resets(world):
    ours, peer = world.pair(world.token())

    async def play():
        transport, protocol = await world.loop.create_connection(
            world.talker, sock=ours
        )
        with ended(transport):
            peer.reset()
            transport.write(world.token())
            await protocol.ends()

    return play
