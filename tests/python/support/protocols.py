# SPDX-License-Identifier: MIT
"""Protocols that write down what happens to them."""

import asyncio


class Recorder(asyncio.Protocol):
    """Keeps every call in order, and futures to wait for."""

    def __init__(self, loop=None):
        self.loop = loop or asyncio.get_running_loop()
        self.calls = []
        self.data = bytearray()
        self.transport = None
        self.connected = self.loop.create_future()
        self.eof = self.loop.create_future()
        self.lost = self.loop.create_future()
        self._waiters = []

    def connection_made(self, transport):
        self.calls.append("connection_made")
        self.transport = transport
        if not self.connected.done():
            self.connected.set_result(transport)

    def data_received(self, data):
        self.calls.append("data_received")
        self.data += data
        self._check_waiters()

    def eof_received(self):
        self.calls.append("eof_received")
        if not self.eof.done():
            self.eof.set_result(None)

    def connection_lost(self, exc):
        self.calls.append("connection_lost")
        self.exc = exc
        if not self.lost.done():
            self.lost.set_result(exc)

    def pause_writing(self):
        self.calls.append("pause_writing")

    def resume_writing(self):
        self.calls.append("resume_writing")

    async def received(self, count):
        """Wait until count bytes are there; returns all of them."""
        if len(self.data) < count:
            waiter = self.loop.create_future()
            self._waiters.append((count, waiter))
            await waiter
        return bytes(self.data)

    def _check_waiters(self):
        for count, waiter in self._waiters:
            if len(self.data) >= count and not waiter.done():
                waiter.set_result(None)


class HalfOpen(Recorder):
    """Stays open for writing after the peer's end of file."""

    def eof_received(self):
        super().eof_received()
        return True


class Echo(Recorder):
    def data_received(self, data):
        super().data_received(data)
        self.transport.write(data)


class Buffered(asyncio.BufferedProtocol):
    """A BufferedProtocol with a buffer of its own."""

    def __init__(self, size=4096, loop=None):
        self.loop = loop or asyncio.get_running_loop()
        self.buffer = bytearray(size)
        self.data = bytearray()
        self.hints = []
        self.calls = []
        self.lost = self.loop.create_future()
        self._waiters = []

    def connection_made(self, transport):
        self.calls.append("connection_made")
        self.transport = transport

    def get_buffer(self, sizehint):
        self.hints.append(sizehint)
        return self.buffer

    def buffer_updated(self, nbytes):
        self.calls.append("buffer_updated")
        self.data += self.buffer[:nbytes]
        for count, waiter in self._waiters:
            if len(self.data) >= count and not waiter.done():
                waiter.set_result(None)

    def eof_received(self):
        self.calls.append("eof_received")

    def connection_lost(self, exc):
        self.calls.append("connection_lost")
        if not self.lost.done():
            self.lost.set_result(exc)

    async def received(self, count):
        if len(self.data) < count:
            waiter = self.loop.create_future()
            self._waiters.append((count, waiter))
            await waiter
        return bytes(self.data)
