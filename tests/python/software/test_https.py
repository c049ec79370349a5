# SPDX-License-Identifier: MIT
"""aiohttp and uvicorn over HTTPS, with clients that check the certificate."""

import asyncio
import contextlib
import http.client
import io
import os
import signal
import ssl
import sys
import urllib.request

import pytest

from support.certificates import (
    NAME,
    client_context,
    make_certificate,
    server_context,
)
from support.net import until
from support.procs import environment
from support.programs import running

aiohttp = pytest.importorskip("aiohttp")
httpx = pytest.importorskip("httpx")
uvicorn = pytest.importorskip("uvicorn")
web = pytest.importorskip("aiohttp.web")

pytestmark = [pytest.mark.usefixtures("engine"), pytest.mark.one_poller]

LIMIT = aiohttp.ClientTimeout(total=10)
SIZES = (0, 1, 16384, 65537, 5 << 20)


class Site:
    """What both servers answer: the peer, an echo, and what takes long."""

    def __init__(self):
        self.release = asyncio.Event()
        self.slow_began = asyncio.Event()

    async def answer(self, path, body, peer):
        if path == "/slow":
            self.slow_began.set()
            await self.release.wait()
        return body if path == "/echo" else str(peer[1]).encode()

    async def asgi(self, scope, receive, send):
        assert scope["scheme"] == "https"
        body = bytearray()
        while True:
            message = await receive()
            body += message.get("body", b"")
            if not message.get("more_body"):
                break
        answer = await self.answer(scope["path"], body, scope["client"])
        await send({"type": "http.response.start", "status": 200})
        await send({"type": "http.response.body", "body": bytes(answer)})

    async def handler(self, request):
        assert request.scheme == "https"
        peer = request.transport.get_extra_info("peername")
        body = await request.read()
        answer = await self.answer(request.path, body, peer)
        return web.Response(body=answer)


@contextlib.asynccontextmanager
async def aiohttp_site(site):
    app = web.Application(client_max_size=1 << 26)
    app.router.add_route("*", "/{name}", site.handler)
    runner = web.AppRunner(app, shutdown_timeout=10)
    await runner.setup()
    place = web.TCPSite(runner, "127.0.0.1", 0, ssl_context=server_context())
    await place.start()
    try:
        yield runner.addresses[0][1]
    finally:
        await runner.cleanup()


@contextlib.asynccontextmanager
async def uvicorn_site(site):
    certificate, key = make_certificate(NAME)
    config = uvicorn.Config(
        site.asgi,
        interface="asgi3",
        port=0,
        lifespan="off",
        log_config=None,
        access_log=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
    )
    server = uvicorn.Server(config)
    server.capture_signals = contextlib.nullcontext
    task = asyncio.create_task(server.serve())
    await until(lambda: server.started or task.done())
    try:
        yield server.servers[0].sockets[0].getsockname()[1]
    finally:
        server.should_exit = True
        await task


@pytest.fixture(params=[aiohttp_site, uvicorn_site], ids=lambda s: s.__name__)
def serve(request):
    """A server of the test's loop: gives the site and its URL."""

    @contextlib.asynccontextmanager
    async def serve():
        site = Site()
        async with request.param(site) as port:
            yield site, f"https://{NAME}:{port}"
        # Connections end after their server, in the loop's own time.
        await asyncio.sleep(0.02)

    return serve


def aiohttp_client(url, **kwargs):
    connector = aiohttp.TCPConnector(ssl=client_context(), **kwargs)
    return aiohttp.ClientSession(url, connector=connector, timeout=LIMIT)


def httpx_client(url):
    return httpx.AsyncClient(
        base_url=url, verify=client_context(), timeout=10, trust_env=False
    )


async def test_aiohttp_client(loop, serve):
    async with serve() as (_, url), aiohttp_client(url, limit=1) as session:
        peers = set()
        for size in SIZES:
            body = os.urandom(size)
            async with session.post(
                "/echo", data=io.BytesIO(body)
            ) as response:
                assert await response.read() == body
            async with session.get("/peer") as response:
                peers.add(await response.text())
        assert len(peers) == 1, "one connection, kept alive"


async def test_httpx_client(loop, serve):
    async with serve() as (_, url), httpx_client(url) as client:
        peers = set()
        for size in SIZES:
            body = os.urandom(size)
            assert (await client.post("/echo", content=body)).content == body
            peers.add((await client.get("/peer")).text)
        assert len(peers) == 1, "one connection, kept alive"


def use_standard_clients(url):
    """http.client keeps its connection alive, urllib makes one for each."""
    context = client_context()
    address = url.removeprefix("https://")
    connection = http.client.HTTPSConnection(
        address, timeout=10, context=context
    )
    peers = set()
    with contextlib.closing(connection):
        for size in SIZES:
            body = os.urandom(size)
            connection.request("POST", "/echo", body)
            assert connection.getresponse().read() == body
            connection.request("GET", "/peer")
            peers.add(connection.getresponse().read())
    assert len(peers) == 1, "one connection, kept alive"
    for size in SIZES:
        body = os.urandom(size)
        with urllib.request.urlopen(
            f"{url}/echo", body, 10, context=context
        ) as response:
            assert response.read() == body


async def test_standard_clients(loop, serve):
    async with serve() as (_, url):
        await asyncio.to_thread(use_standard_clients, url)


async def test_many_at_once(loop, serve):
    async with serve() as (_, url), aiohttp_client(url) as session:

        async def one(number):
            body = b"%d." % number * 5000
            async with session.post(
                "/echo", data=io.BytesIO(body)
            ) as response:
                assert await response.read() == body

        await asyncio.gather(*map(one, range(60)))


async def test_certificate_is_checked(loop, serve):
    async with serve() as (_, url):
        strange = aiohttp.TCPConnector(ssl=ssl.create_default_context())
        async with aiohttp.ClientSession(connector=strange) as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get(f"{url}/peer")
        numeric = url.replace(NAME, "127.0.0.1")
        async with aiohttp_client(numeric) as session:
            with pytest.raises(aiohttp.ClientConnectorCertificateError):
                await session.get("/peer")
        async with aiohttp_client(url) as session:
            async with session.get("/peer") as response:
                assert response.status == 200


async def test_graceful_shutdown(loop, serve):
    """What was asked is answered; nobody new is let in."""
    async with contextlib.AsyncExitStack() as stack:
        session = await stack.enter_async_context(aiohttp_client(None))
        async with serve() as (site, url):
            asking = asyncio.create_task(session.get(f"{url}/slow"))
            await site.slow_began.wait()
            loop.call_later(0.05, site.release.set)
        async with await asking as response:
            assert response.status == 200
            assert (await response.read()).isdigit()
        with pytest.raises(aiohttp.ClientConnectorError):
            await session.get(f"{url}/peer")


APPLICATION = """
import asyncio

async def app(scope, receive, send):
    if scope["type"] != "http":
        return
    print("asked", flush=True)
    await asyncio.sleep(0.3)
    module = type(asyncio.get_running_loop()).__module__
    await send({"type": "http.response.start", "status": 200})
    await send({"type": "http.response.body", "body": module.encode()})
"""


async def test_uvicorn_command_line(backend, loop, tmp_path):
    """Told to end during a request, it answers before it does."""
    (tmp_path / "application.py").write_text(APPLICATION)
    env = environment(backend)
    env["PYTHONPATH"] += f":{tmp_path}"
    certificate, key = make_certificate(NAME)
    command = [sys.executable, "-m", "uvicorn", "application:app"]
    command += ["--port", "0", "--lifespan", "off", "--no-use-colors"]
    command += ["--loop", "support.loops:loop_from_environment"]
    command += [f"--ssl-certfile={certificate}", f"--ssl-keyfile={key}"]
    ready = r"running on https://127\.0\.0\.1:(\d+)"
    with running(command, tmp_path / "log", ready, env=env) as (server, found):
        url = f"https://{NAME}:{found[1]}"
        async with aiohttp_client(url) as session:
            asking = asyncio.create_task(session.get("/"))
            await asyncio.to_thread(server.wait_for, "asked")
            server.process.send_signal(signal.SIGTERM)
            async with await asking as response:
                expected = type(loop).__module__
                assert await response.text() == expected
        code = await asyncio.to_thread(server.wait)
        assert code in (0, -signal.SIGTERM), server.output
        assert "Finished server process" in server.output
        assert "Traceback" not in server.output
