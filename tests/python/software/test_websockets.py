# SPDX-License-Identifier: MIT
"""websockets, server and client, over wss."""

import asyncio
import contextlib
import os
import random
import ssl

import pytest

from support.certificates import NAME, client_context, server_context

websockets = pytest.importorskip("websockets")
server_module = pytest.importorskip("websockets.asyncio.server")
client_module = pytest.importorskip("websockets.asyncio.client")
sync_client = pytest.importorskip("websockets.sync.client")

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.one_poller]

SIZES = (0, 1, 125, 126, 65535, 65536, 1 << 20)


async def echo(connection):
    with contextlib.suppress(websockets.ConnectionClosed):
        async for message in connection:
            await connection.send(message)


@contextlib.asynccontextmanager
async def serving(handler=echo, context=None, **kwargs):
    """Gives the server and its URL."""
    async with server_module.serve(
        handler,
        "127.0.0.1",
        0,
        ssl=context or server_context(),
        max_size=None,
        **kwargs,
    ) as server:
        port = server.sockets[0].getsockname()[1]
        yield server, f"wss://{NAME}:{port}"


def connect(url, **kwargs):
    options = {"ssl": client_context(), "max_size": None, "proxy": None}
    return client_module.connect(url, **{**options, **kwargs})


def some_text(size):
    chance = random.Random(size)
    return "".join(chance.choices("abc äöü €", k=size))


@pytest.mark.parametrize("compression", ["deflate", None])
async def test_echo(loop, compression):
    async with serving(compression=compression) as (_, url):
        async with connect(url) as connection:
            names = [ext.name for ext in connection.protocol.extensions]
            assert names == (["permessage-deflate"] if compression else [])
            for size in SIZES:
                for message in (os.urandom(size), some_text(size)):
                    await connection.send(message)
                    assert await connection.recv() == message


async def test_fragments_and_pings(loop):
    async def pieces():
        for number in range(200):
            yield b"%05d" % number
            await asyncio.sleep(0)

    async with serving() as (_, url), connect(url) as connection:
        await connection.send(pieces())
        wanted = b"".join([b"%05d" % number for number in range(200)])
        assert await connection.recv() == wanted
        for _ in range(20):
            latency = await (await connection.ping())
            assert latency >= 0


async def test_both_ways_at_once(loop):
    """Neither side reads all before it writes: nothing gets stuck."""
    messages = [os.urandom(100_000) for _ in range(50)]
    async with serving() as (_, url), connect(url) as connection:

        async def send():
            for message in messages:
                await connection.send(message)

        sending = asyncio.create_task(send())
        for message in messages:
            assert await connection.recv() == message
        await sending


async def test_many_connections(loop):
    async with serving() as (server, url):

        async def one(number):
            async with connect(url) as connection:
                for size in (1, 1000, 20_000):
                    message = str(number) * size
                    await connection.send(message)
                    assert await connection.recv() == message

        await asyncio.gather(*map(one, range(100)))
        while server.connections:
            await asyncio.sleep(0.005)


async def test_broadcast(loop):
    async with serving() as (server, url), contextlib.AsyncExitStack() as all:
        clients = [
            await all.enter_async_context(connect(url)) for _ in range(30)
        ]
        server_module.broadcast(server.connections, "to all")
        for client in clients:
            assert await client.recv() == "to all"


@pytest.mark.parametrize("code", [1000, 1001, 1011, 3000, 4999])
async def test_servers_close_code(loop, code):
    async def close(connection):
        await connection.close(code, "reason ä")

    async with serving(close) as (_, url), connect(url) as connection:
        with pytest.raises(websockets.ConnectionClosed) as caught:
            await connection.recv()
        assert caught.value.rcvd.code == code
        assert caught.value.rcvd.reason == "reason ä"
        assert connection.close_code == code


@pytest.mark.parametrize("code", [1000, 1001, 3000, 4999])
async def test_clients_close_code(loop, code):
    closed = loop.create_future()

    async def listen(connection):
        await connection.wait_closed()
        closed.set_result((connection.close_code, connection.close_reason))

    async with serving(listen) as (_, url), connect(url) as connection:
        await connection.close(code, "reason ä")
        assert await closed == (code, "reason ä")


async def test_too_large(loop):
    async with serving() as (_, url):
        async with connect(url, max_size=1000) as connection:
            await connection.send("x" * 1001)
            with pytest.raises(websockets.ConnectionClosedError) as caught:
                await connection.recv()
            assert caught.value.sent.code == 1009


async def test_peer_vanishes(loop):
    """Without a closing handshake, the code is 1006."""
    closed = loop.create_future()

    async def listen(connection):
        await connection.wait_closed()
        closed.set_result(connection.close_code)

    async with serving(listen) as (_, url), connect(url) as connection:
        connection.transport.abort()
        assert await closed == 1006
        await connection.wait_closed()
        assert connection.close_code == 1006


async def test_server_shuts_down(loop):
    """Its clients are told: going away."""
    async with contextlib.AsyncExitStack() as stack:
        async with serving() as (server, url):
            clients = [
                await stack.enter_async_context(connect(url))
                for _ in range(10)
            ]
            server.close()
            for client in clients:
                with pytest.raises(websockets.ConnectionClosedOK):
                    await client.recv()
                assert client.close_code == 1001
        with pytest.raises(OSError):
            await connect(url)


def use_blocking_client(url):
    with sync_client.connect(
        url, ssl=client_context(), max_size=None, proxy=None
    ) as connection:
        for size in SIZES:
            for message in (os.urandom(size), some_text(size)):
                connection.send(message)
                assert connection.recv(10) == message


async def test_blocking_client(loop):
    """It reads and writes on two threads, which CPython up to 3.13.0 does not
    keep apart: if one sends its request while the other takes in a session
    ticket, the answer is never seen, from asyncio's server neither. So there
    are no tickets."""
    context = server_context()
    context.num_tickets = 0
    async with serving(context=context) as (_, url):
        await asyncio.to_thread(use_blocking_client, url)


async def test_certificate_is_checked(loop):
    async with serving() as (_, url):
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(url, ssl=ssl.create_default_context())
        with pytest.raises(ssl.SSLCertVerificationError):
            await connect(url.replace(NAME, "127.0.0.1"))
        async with connect(url) as connection:
            await connection.send("fine")
            assert await connection.recv() == "fine"
