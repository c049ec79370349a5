# SPDX-License-Identifier: MIT
"""Handlers of aiohttp's that the tests of several servers use."""

import aiohttp
from aiohttp import web


async def echo(request):
    return web.Response(body=await request.read())


async def stream(request):
    response = web.StreamResponse()
    await response.prepare(request)
    for number in range(100):
        await response.write(b"%04d\n" % number)
    await response.write_eof()
    return response


async def chat(request):
    """Answers text in capitals, and bytes backwards."""
    ws = web.WebSocketResponse()
    await ws.prepare(request)
    async for message in ws:
        if message.type is aiohttp.WSMsgType.TEXT:
            await ws.send_str(message.data.upper())
        elif message.type is aiohttp.WSMsgType.BINARY:
            await ws.send_bytes(message.data[::-1])
    return ws
