# SPDX-License-Identifier: MIT
"""Connections over TLS for the tests."""

import asyncio
import contextlib
import socket

import pytest

from support.certificates import NAME, client_context, server_context
from support.net import LIMIT, spin, tcp_pair
from support.protocols import Recorder


def use_engine(config, monkeypatch, name):
    """The test's loops speak TLS by this engine; CPython has only one."""
    if config.getoption("--oracle"):
        if name == "openssl":
            pytest.skip("CPython has the SSLObject alone")
        return
    monkeypatch.setenv("BECKET_TLS_ENGINE", name)
    import becket

    with contextlib.closing(becket.new_event_loop()) as loop:
        if loop.tls_engine != name:
            pytest.skip("this Python's OpenSSL cannot be called directly")


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


@contextlib.asynccontextmanager
async def connected(factory=Recorder, server=None, sockets=tcp_pair, **kwargs):
    """A TLS client whose peer is a blocking SSLSocket of the test."""
    loop = asyncio.get_running_loop()
    ours, theirs = sockets()
    kwargs = {"ssl": client_context(), "server_hostname": NAME, **kwargs}
    accepting = asyncio.to_thread(
        (server or server_context()).wrap_socket, theirs, server_side=True
    )
    connecting = loop.create_connection(factory, sock=ours, **kwargs)
    peer, (transport, protocol) = await asyncio.gather(accepting, connecting)
    try:
        yield transport, protocol, peer
    finally:
        peer.close()
        transport.abort()
        await spin(3)


@contextlib.asynccontextmanager
async def accepted(factory=Recorder, client=None, sockets=tcp_pair, **kwargs):
    """A TLS server's connection whose peer is a blocking SSLSocket."""
    loop = asyncio.get_running_loop()
    ours, theirs = sockets()
    connecting = asyncio.to_thread(
        (client or client_context()).wrap_socket, theirs, server_hostname=NAME
    )
    accepting = loop.connect_accepted_socket(
        factory,
        ours,
        ssl=kwargs.pop("ssl", None) or server_context(),
        **kwargs,
    )
    peer, (transport, protocol) = await asyncio.gather(connecting, accepting)
    try:
        yield transport, protocol, peer
    finally:
        peer.close()
        transport.abort()
        await spin(3)


def say_goodbye(peer):
    """Send and await close_notify; the connection itself stays open."""
    peer.settimeout(LIMIT)
    peer.unwrap()


def plain_of(peer):
    """The socket below an SSLSocket, which no longer has it."""
    return socket.socket(fileno=peer.detach())
