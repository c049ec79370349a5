# SPDX-License-Identifier: MIT
"""Connections over TLS for the tests."""

import asyncio
import contextlib

from support.certificates import NAME, client_context, server_context
from support.net import tcp_pair
from support.protocols import Recorder


@contextlib.asynccontextmanager
async def pair(client=None, server=None, protocol=Recorder, **kwargs):
    """Two protocols that are connected over TLS: client's and server's."""
    loop = asyncio.get_running_loop()
    ours, theirs = tcp_pair()
    both = await asyncio.gather(
        loop.create_connection(
            protocol,
            sock=ours,
            ssl=client or client_context(),
            server_hostname=NAME,
            **kwargs,
        ),
        loop.connect_accepted_socket(
            protocol, theirs, ssl=server or server_context()
        ),
    )
    protocols = [protocol for _, protocol in both]
    try:
        yield protocols
    finally:
        for transport, _ in both:
            transport.abort()
        for protocol in protocols:
            await protocol.lost
        await asyncio.sleep(0)
