# SPDX-License-Identifier: MIT
"""Type references: every object gives back the one it holds on its type."""

import asyncio
import gc
import sys
import warnings

from support.loops import loop_from_environment, turns
from support.net import tcp_pair

warnings.simplefilter("ignore")


def counted(things):
    """The reference counts of the things' types, by type."""
    kinds = {}
    for thing in things:
        for kind in type(thing).__mro__:
            if kind.__flags__ & (1 << 9):
                kinds[kind] = 0
    del thing
    things.clear()
    gc.collect()
    return {kind: sys.getrefcount(kind) for kind in kinds}


async def examples(loop):
    ours, peer = tcp_pair()
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    endpoint, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, local_addr=("127.0.0.1", 0)
    )
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    peer.setblocking(False)
    waiting = loop.sock_recv(peer, 1)
    reader = asyncio.StreamReader(loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport.set_protocol(protocol)
    writer = asyncio.StreamWriter(transport, protocol, reader, loop)
    writer.write(b"x")
    made = [
        loop.call_soon(int),
        loop.call_later(0, int),
        loop.call_soon_threadsafe(int),
        transport,
        endpoint,
        server,
        server.sockets[0],
        transport.get_extra_info("socket"),
        waiting,
        waiting.__await__() if hasattr(waiting, "__await__") else None,
        loop.getaddrinfo("127.0.0.1", 80),
        reader,
        reader.read(1),
        reader.read,
        type(reader).__dict__.get("read"),
        writer,
        writer.drain(),
    ]
    for thing in made:
        if asyncio.iscoroutine(thing):
            thing.close()
    transport.abort()
    endpoint.abort()
    server.close()
    await server.wait_closed()
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    peer.close()
    return made


def scenario(loop):
    return loop.run_until_complete(examples(loop))


loop = loop_from_environment()
for _ in range(3):
    scenario(loop)
turns(loop, 3)
first = counted(scenario(loop))
for _ in range(50):
    scenario(loop)
turns(loop, 3)
second = counted(scenario(loop))
grown = {
    kind.__name__: (first[kind], second[kind])
    for kind in first
    if second.get(kind, 0) - first[kind] > 10
}
assert not grown, f"type references grow: {grown}"
assert first, "nothing was counted"
loop.close()

# The loop's own type, and its bases.
kinds = [k for k in type(loop).__mro__ if k.__flags__ & (1 << 9)]
del loop
gc.collect()
before = [sys.getrefcount(kind) for kind in kinds]
for _ in range(50):
    loop_from_environment().close()
gc.collect()
after = [sys.getrefcount(kind) for kind in kinds]
for kind, one, two in zip(kinds, before, after):
    assert two - one <= 10, (kind, one, two)
