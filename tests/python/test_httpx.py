# SPDX-License-Identifier: MIT
"""httpx as a client on the loop, against a server on the same loop."""

import asyncio
import contextlib
import functools
import os

import pytest

from support.net import refusing_port, url_of

httpx = pytest.importorskip("httpx")


async def serve_one(release, reader, writer):
    """Just enough of HTTP/1.1: echoes each body, keeps the connection."""
    with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
        while True:
            head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            request, *fields = head.split("\r\n")
            length = 0
            for field in fields:
                name, _, value = field.partition(":")
                if name.lower() == "content-length":
                    length = int(value)
            body = await reader.readexactly(length)
            method, path, _ = request.split(" ")
            if path == "/slow":
                await release.wait()
            answer = body if method == "POST" else path.encode()
            writer.write(
                b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(answer)
            )
            writer.write(answer)
            await writer.drain()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def client():
    release = asyncio.Event()
    serve = functools.partial(serve_one, release)
    server = await asyncio.start_server(serve, "127.0.0.1", 0)
    url = url_of(server.sockets[0].getsockname())
    async with httpx.AsyncClient(
        base_url=url, timeout=10, trust_env=False
    ) as made:
        yield made
    release.set()
    server.close()
    await asyncio.sleep(0.02)


async def test_get(loop):
    async with client() as http:
        response = await http.get("/path")
        assert response.status_code == 200
        assert response.text == "/path"


async def test_keep_alive(loop):
    async with client() as http:
        for number in range(30):
            response = await http.get(f"/{number}")
            assert response.text == f"/{number}"


@pytest.mark.parametrize("size", [0, 1, 65536, 5 << 20])
async def test_bodies(loop, size):
    body = os.urandom(size)
    async with client() as http:
        response = await http.post("/", content=body)
        assert response.content == body


async def test_many_at_once(loop):
    async with client() as http:

        async def one(number):
            response = await http.post("/", content=b"%d" % number)
            assert response.content == b"%d" % number

        await asyncio.gather(*map(one, range(50)))


async def test_streamed_response(loop):
    body = os.urandom(1 << 20)
    async with client() as http:
        async with http.stream("POST", "/", content=body) as response:
            got = b"".join([piece async for piece in response.aiter_bytes()])
        assert got == body


async def test_timeout(loop):
    async with client() as http:
        with pytest.raises(httpx.ReadTimeout):
            await http.get("/slow", timeout=0.05)
        assert (await http.get("/after")).text == "/after"


async def test_cancellation(loop):
    async with client() as http:
        task = asyncio.create_task(http.get("/slow"))
        await asyncio.sleep(0.02)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert (await http.get("/after")).text == "/after"


async def test_refused(loop):
    with refusing_port() as port:
        async with httpx.AsyncClient(timeout=10, trust_env=False) as http:
            with pytest.raises(httpx.ConnectError):
                await http.get(f"http://127.0.0.1:{port}/")


async def test_names_are_resolved(loop):
    async with client() as http:
        url = str(http.base_url).replace("127.0.0.1", "localhost")
        assert (await http.get(url + "/named")).text == "/named"
