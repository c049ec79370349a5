# SPDX-License-Identifier: MIT
"""The HTTP frameworks, each with an application that says hello."""

import asyncio
import socket
from typing import Any

import aiohttp.web
import uvicorn

from child import CERTIFICATE

GREETING = b"Hello, world!"
HEADERS = [
    (b"content-type", b"text/plain"),
    (b"content-length", str(len(GREETING)).encode()),
]


async def say_hello(scope: Any, receive: Any, send: Any) -> None:
    """ASGI: uvicorn writes the headers and the body one after the other."""
    start = {"type": "http.response.start", "status": 200, "headers": HEADERS}
    await send(start)
    await send({"type": "http.response.body", "body": GREETING})


def serve_uvicorn(listener: socket.socket, **options: Any) -> object:
    config = uvicorn.Config(
        say_hello,
        http="httptools",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_level="warning",
        access_log=False,
        **options,
    )
    server = uvicorn.Server(config)
    return asyncio.ensure_future(server.serve(sockets=[listener]))


async def start_uvicorn(listener: socket.socket) -> object:
    return serve_uvicorn(listener)


async def start_uvicorn_tls(listener: socket.socket) -> object:
    certificate, key = CERTIFICATE
    return serve_uvicorn(listener, ssl_certfile=certificate, ssl_keyfile=key)


async def handle(request: aiohttp.web.Request) -> aiohttp.web.Response:
    return aiohttp.web.Response(body=GREETING, content_type="text/plain")


async def start_aiohttp(listener: socket.socket) -> object:
    application = aiohttp.web.Application()
    application.router.add_get("/", handle)
    runner = aiohttp.web.AppRunner(application, access_log=None)
    await runner.setup()
    await aiohttp.web.SockSite(runner, listener).start()
    return runner
