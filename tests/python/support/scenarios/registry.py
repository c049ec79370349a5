# SPDX-License-Identifier: MIT
"""The list of scenarios, and what most of them do."""

import contextlib
from collections.abc import Callable
from typing import NamedTuple


class Scenario(NamedTuple):
    name: str
    prepare: Callable
    method: str  # of the loop, or of asyncio, that it is about

    @property
    def module(self):
        """The last part of the name of its module: 'connect'."""
        return self.prepare.__module__.rpartition(".")[2]


SCENARIOS = {}


def scenario(method):
    """Register a function as a scenario about this method."""

    def register(prepare):
        name = prepare.__name__
        assert name not in SCENARIOS
        SCENARIOS[name] = Scenario(name, prepare, method)
        return prepare

    return register


def chosen(only=None):
    """The scenarios of a module here, or the one of this name, or all."""
    found = [
        scenario
        for scenario in SCENARIOS.values()
        if only in (None, scenario.name, scenario.module)
    ]
    if not found:
        raise SystemExit(f"no scenario is, or is in, {only!r}")
    return found


@contextlib.contextmanager
def ended(transport):
    """The user's part: whoever has a transport ends it."""
    try:
        yield transport
    finally:
        # CPython's abort() fails on a transport that is gone.
        if transport.get_protocol() is not None:
            transport.abort()


def address_of(world, server):
    """Where a server listens. Python 3.11 has servers that do nowhere."""
    if not server.sockets:
        raise OSError("the server has no socket")
    with world.aside():
        return server.sockets[0].getsockname()


async def converse(world, transport, protocol, peer):
    """Both sides say something, and the loop's side closes."""
    with ended(transport):
        request, reply = world.token("request"), world.token("reply")
        peer.expect(request * 3)
        protocol.expect(reply)
        transport.write(request)
        transport.writelines([request, bytearray(request)])
        await peer.reads(len(request) * 3)
        peer.send(reply)
        await protocol.reads(len(reply))
        transport.close()
        await protocol.ends()
