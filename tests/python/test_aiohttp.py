# SPDX-License-Identifier: MIT
"""aiohttp, server and client, unmodified on the loop."""

import asyncio
import contextlib
import io
import os

import pytest

from support.net import refusing_port, url_of

aiohttp = pytest.importorskip("aiohttp")
web = pytest.importorskip("aiohttp.web")
from support import web_handlers as handlers  # noqa: E402

LIMIT = aiohttp.ClientTimeout(total=10)
RELEASE = web.AppKey("release", asyncio.Event)


async def hello(request):
    return web.Response(text="hello")


async def peer(request):
    """The port that the client came from."""
    return web.Response(text=str(request.transport.get_extra_info("peername")))


async def slow(request):
    """Answers when the test is over."""
    await request.app[RELEASE].wait()
    return web.Response()


async def broken(request):
    raise ValueError("in the handler")


def make_app():
    app = web.Application(client_max_size=1 << 26)
    app[RELEASE] = asyncio.Event()
    app.router.add_get("/", hello)
    app.router.add_get("/peer", peer)
    app.router.add_post("/echo", handlers.echo)
    app.router.add_get("/stream", handlers.stream)
    app.router.add_get("/chat", handlers.chat)
    app.router.add_get("/slow", slow)
    app.router.add_get("/broken", broken)
    return app


@contextlib.asynccontextmanager
async def site():
    """A running server; gives its address."""
    app = make_app()
    runner = web.AppRunner(app, shutdown_timeout=0.2)
    await runner.setup()
    place = web.TCPSite(runner, "127.0.0.1", 0)
    await place.start()
    try:
        yield url_of(runner.addresses[0])
    finally:
        app[RELEASE].set()
        await runner.cleanup()
        await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def client(**kwargs):
    async with site() as url:
        async with aiohttp.ClientSession(
            url, timeout=LIMIT, **kwargs
        ) as session:
            yield session
        # Connections end after the session, in the loop's own time.
        await asyncio.sleep(0.02)


async def test_get(loop):
    async with client() as session:
        async with session.get("/") as response:
            assert response.status == 200
            assert await response.text() == "hello"
        async with session.get("/missing") as response:
            assert response.status == 404


async def test_keep_alive(loop):
    connector = aiohttp.TCPConnector(limit=1)
    async with client(connector=connector) as session:
        ports = set()
        for _ in range(30):
            async with session.get("/peer") as response:
                ports.add(await response.text())
        assert len(ports) == 1


@pytest.mark.parametrize("size", [0, 1, 65536, 5 << 20])
async def test_bodies(loop, size):
    body = os.urandom(size)
    async with client() as session:
        async with session.post("/echo", data=io.BytesIO(body)) as response:
            assert await response.read() == body


async def test_streamed_request_body(loop):
    async def pieces():
        for number in range(200):
            yield b"%05d" % number
            await asyncio.sleep(0)

    async with client() as session:
        async with session.post("/echo", data=pieces()) as response:
            wanted = b"".join([b"%05d" % number for number in range(200)])
            assert await response.read() == wanted


async def test_streamed_response(loop):
    async with client() as session:
        async with session.get("/stream") as response:
            lines = [line async for line in response.content]
        assert lines == [b"%04d\n" % number for number in range(100)]


async def test_many_at_once(loop):
    async with client() as session:

        async def one(number):
            body = b"%d" % number * 100
            async with session.post("/echo", data=body) as response:
                assert await response.read() == body

        await asyncio.gather(*map(one, range(100)))


async def test_websocket(loop):
    async with client() as session:
        async with session.ws_connect("/chat") as ws:
            for number in range(20):
                await ws.send_str(f"message {number}")
                assert await ws.receive_str() == f"MESSAGE {number}"
            body = os.urandom(1 << 20)
            await ws.send_bytes(body)
            assert await ws.receive_bytes() == body[::-1]


async def test_timeout_and_cancellation(loop):
    async with client() as session:
        short = aiohttp.ClientTimeout(total=0.05)
        with pytest.raises(asyncio.TimeoutError):
            async with session.get("/slow", timeout=short):
                pass
        task = asyncio.create_task(session.get("/slow"))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        async with session.get("/") as response:
            assert response.status == 200


async def test_failing_handler(loop):
    async with client() as session:
        async with session.get("/broken") as response:
            assert response.status == 500
        async with session.get("/") as response:
            assert response.status == 200


async def test_refused(loop):
    async with aiohttp.ClientSession(timeout=LIMIT) as session:
        with refusing_port() as port:
            with pytest.raises(aiohttp.ClientConnectorError):
                await session.get(f"http://127.0.0.1:{port}/")


async def test_names_are_resolved(loop):
    async with site() as url:
        named = url.replace("127.0.0.1", "localhost")
        async with aiohttp.ClientSession(timeout=LIMIT) as session:
            async with session.get(named + "/") as response:
                assert await response.text() == "hello"
        await asyncio.sleep(0.02)


async def test_server_shuts_down_with_clients_connected(loop):
    async with aiohttp.ClientSession(timeout=LIMIT) as session:
        async with site() as url:
            async with session.get(url + "/") as response:
                await response.read()
            ws = await session.ws_connect(url + "/chat")
        with pytest.raises(aiohttp.ClientError):
            await session.get(url + "/")
        await ws.close()
    await asyncio.sleep(0.02)
