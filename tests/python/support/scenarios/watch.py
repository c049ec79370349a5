# SPDX-License-Identifier: MIT
"""add_reader(), add_writer(), and lookups."""

import contextlib

from support.scenarios.registry import scenario


@scenario("add_reader")
def watch(world):
    ours, peer = world.pair()
    token = world.token()

    def read(future):
        with world.aside(), contextlib.suppress(OSError):
            data = ours.recv(1000)
            if not future.done():
                future.set_result(data)

    async def play():
        readable = world.loop.create_future()
        writable = world.loop.create_future()
        world.loop.add_reader(ours, read, readable)
        try:
            world.loop.add_writer(ours, set_once, writable)
            await writable
            world.loop.remove_writer(ours)
            peer.send(token)
            data = await readable
            assert token.startswith(data), data
        finally:
            with contextlib.suppress(ValueError):
                # ValueError: the user has closed it meanwhile.
                world.loop.remove_writer(ours)
                world.loop.remove_reader(ours)

    return play


def set_once(future):
    if not future.done():
        future.set_result(None)


@scenario("getaddrinfo")
def look_up(world):
    async def play():
        await world.loop.getaddrinfo("localhost", 80)
        await world.loop.getnameinfo(("127.0.0.1", 80))

    return play
