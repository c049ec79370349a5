# SPDX-License-Identifier: MIT
"""Servers of every kind of connection begin, serve and end alike."""

import asyncio
import contextlib
import socket

import pytest

from support.certificates import NAME, client_context, server_context
from support.net import LIMIT, spin
from support.protocols import Recorder

row = pytest.mark.row

pytestmark = pytest.mark.usefixtures("engine")

KINDS = ["tcp", "unix", "tls", "unix tls"]


class Echo(Recorder):
    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)


class Place:
    """Where servers of one kind are made, and found."""

    def __init__(self, loop, kind, folder):
        self.loop = loop
        self.is_unix = "unix" in kind
        self.is_tls = "tls" in kind
        self.path = str(folder / "socket")
        self.protocols = []

    def make_protocol(self):
        self.protocols.append(Echo())
        return self.protocols[-1]

    async def make_server(self, **kwargs):
        if self.is_tls:
            kwargs["ssl"] = server_context()
        if self.is_unix:
            return await self.loop.create_unix_server(
                self.make_protocol, self.path, **kwargs
            )
        server = await self.loop.create_server(
            self.make_protocol, "127.0.0.1", 0, **kwargs
        )
        self.address = server.sockets[0].getsockname()
        return server

    def dial(self):
        """Connect and shake hands, beside the loop."""
        sock = socket.socket(
            socket.AF_UNIX if self.is_unix else socket.AF_INET
        )
        sock.settimeout(LIMIT)
        try:
            sock.connect(self.path if self.is_unix else self.address)
            if self.is_tls:
                sock = client_context().wrap_socket(sock, server_hostname=NAME)
        except BaseException:
            sock.close()
            raise
        return sock

    async def echoes(self):
        """A client's bytes come back, and the server sees its end."""
        with await asyncio.to_thread(self.dial) as sock:
            sock.sendall(b"there and back")
            assert await asyncio.to_thread(sock.recv, 100) == b"there and back"
        await self.protocols[-1].lost

    async def refuses(self):
        with pytest.raises(OSError):  # noqa: PT011
            await asyncio.to_thread(self.dial)


@pytest.fixture(params=KINDS)
def place(loop, request, tmp_path):
    return Place(loop, request.param, tmp_path)


@row("P2D-003", "P1A-002")
async def test_start_serving(place):
    server = await place.make_server(start_serving=False)
    assert not server.is_serving()
    await place.refuses()
    await server.start_serving()
    await server.start_serving()
    assert server.is_serving()
    await place.echoes()
    await place.echoes()
    server.close()
    assert not server.is_serving()
    await server.wait_closed()
    await place.refuses()


@row("P2D-004")
async def test_serve_forever_until_it_is_cancelled(place):
    server = await place.make_server(start_serving=False)
    forever = asyncio.ensure_future(server.serve_forever())
    await spin(3)
    assert server.is_serving()
    await place.echoes()
    forever.cancel()
    with pytest.raises(asyncio.CancelledError):
        await forever
    assert not server.is_serving()
    await place.refuses()


@row("P2D-004")
async def test_close_ends_serve_forever(place):
    server = await place.make_server()
    forever = asyncio.ensure_future(server.serve_forever())
    await place.echoes()
    server.close()
    with pytest.raises(asyncio.CancelledError):
        await forever
    await server.wait_closed()
    await place.refuses()


async def test_clients_survive_the_server(place):
    server = await place.make_server()
    with await asyncio.to_thread(place.dial) as sock:
        sock.sendall(b"before ")
        assert await asyncio.to_thread(sock.recv, 100) == b"before "
        server.close()
        await place.refuses()
        sock.sendall(b"after")
        assert await asyncio.to_thread(sock.recv, 100) == b"after"
    await place.protocols[-1].lost
    await server.wait_closed()


async def test_a_client_that_leaves_at_once(place):
    """Whatever it left of a handshake, the next one is served."""
    async with await place.make_server():
        family = socket.AF_UNIX if place.is_unix else socket.AF_INET
        for words in b"", b"\x16\x03\x01", b"GET / HTTP/1.1\r\n\r\n":
            with socket.socket(family) as sock:
                sock.settimeout(LIMIT)
                sock.connect(place.path if place.is_unix else place.address)
                with contextlib.suppress(OSError):
                    sock.sendall(words)
        await place.echoes()
