# SPDX-License-Identifier: MIT
"""The load: keep-alive connections that each ask again when answered.

httptools does the parsing. A client library with sessions, cookies and
redirects costs as much per request as the server does, so that the client
would be what is measured; such a library checks the answers beforehand.
"""

import asyncio
import time
from urllib.parse import urlsplit

import httptools

GRACE = 15.0


class LoadError(Exception):
    pass


class Connection(asyncio.Protocol):
    """One keep-alive connection with one request in flight."""

    def __init__(self, load):
        self._load = load
        self._parser = httptools.HttpResponseParser(self)
        self._asked_at = 0.0
        self.done = asyncio.get_running_loop().create_future()

    def connection_made(self, transport):
        self._transport = transport
        self._ask()

    def _ask(self):
        self._asked_at = time.perf_counter()
        self._transport.write(self._load.request)

    def data_received(self, data):
        try:
            self._parser.feed_data(data)
        except httptools.HttpParserError as exc:
            self._end(LoadError(f"the answer is not HTTP: {exc}"))

    def on_message_complete(self):
        now = time.perf_counter()
        status = self._parser.get_status_code()
        if status != 200:
            self._end(LoadError(f"answered with status {status}"))
            return
        self._load.latencies.append(now - self._asked_at)
        if now < self._load.end and self._parser.should_keep_alive():
            self._ask()
        elif now < self._load.end:
            self._end(LoadError("the server does not keep alive"))
        else:
            self._end(None)

    def _end(self, error):
        self._transport.close()
        if self.done.done():
            return
        if error is None:
            self.done.set_result(None)
        else:
            self.done.set_exception(error)

    def connection_lost(self, exc):
        if not self.done.done():
            self.done.set_exception(LoadError(f"connection lost: {exc!r}"))


class Load:
    """One round against one server."""

    def __init__(self, url, path, connections, seconds):
        parts = urlsplit(url)
        self._address = (parts.hostname, parts.port)
        self._connections = connections
        self._seconds = seconds
        self.request = (
            f"GET {path} HTTP/1.1\r\n"
            f"Host: {parts.netloc}\r\n"
            "Accept: application/json\r\n"
            "\r\n"
        ).encode()
        self.latencies = []
        self.end = 0.0
        self.rate = 0.0

    async def run(self):
        async with asyncio.timeout(self._seconds + GRACE):
            await self._run()

    async def _run(self):
        loop = asyncio.get_running_loop()
        started = time.perf_counter()
        self.end = started + self._seconds
        protocols = []
        for _ in range(self._connections):
            connecting = loop.create_connection(
                lambda: Connection(self), *self._address
            )
            protocols.append((await connecting)[1])
        await asyncio.gather(*(protocol.done for protocol in protocols))
        elapsed = time.perf_counter() - started
        self.rate = len(self.latencies) / elapsed
