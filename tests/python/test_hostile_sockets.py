# SPDX-License-Identifier: MIT
"""Socket objects, selectors and protocols whose own code meddles."""

import asyncio
import selectors

import pytest

import becket
from support.net import tcp_pair

pytestmark = pytest.mark.becket_only(
    "CPython never asks for the number while it sends or receives"
)


class Proxy:
    """A socket object that is no socket.socket, with a hook in fileno()."""

    def __init__(self, sock):
        self._sock = sock
        self.hook = None

    def __getattr__(self, name):
        return getattr(self._sock, name)

    def fileno(self):
        hook, self.hook = self.hook, None
        if hook is not None:
            hook()
        return self._sock.fileno()


@pytest.fixture
def proxy_pair():
    ours, peer = tcp_pair()
    ours.setblocking(False)
    peer.settimeout(5)
    with ours, peer:
        yield Proxy(ours), peer


def read_to_end(peer):
    received = b""
    while chunk := peer.recv(65536):
        received += chunk
    return received


async def test_bytes_are_sent_once(loop, proxy_pair):
    sock, peer = proxy_pair
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
    sock.hook = transport.get_write_buffer_size
    transport.write(b"hello")
    transport.write(b"world")
    transport.close()
    assert await asyncio.to_thread(read_to_end, peer) == b"helloworld"


async def test_abort_while_sending(loop, proxy_pair):
    sock, peer = proxy_pair
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=sock)
    sock.hook = transport.abort
    transport.write(b"x" * (1 << 20))
    assert transport.is_closing()
    await asyncio.sleep(0)
    assert sock._sock.fileno() == -1


@pytest.mark.parametrize("meddle", ["clear", "extend"])
async def test_reader_buffer_changed_by_fileno(loop, proxy_pair, meddle):
    sock, peer = proxy_pair
    reader = asyncio.StreamReader(limit=1 << 20, loop=loop)
    protocol = asyncio.StreamReaderProtocol(reader, loop=loop)
    transport, _ = await loop.create_connection(lambda: protocol, sock=sock)
    size = 200_000

    async def send():
        await asyncio.to_thread(peer.sendall, b"y" * size)

    for _ in range(5):  # the size of a receive follows what the peer sends
        await send()
        await reader.readexactly(size)

    def hook():
        if meddle == "clear":
            reader._buffer.clear()
        else:
            reader._buffer.extend(b"ZZ")

    sock.hook = hook
    await send()
    expected = size if meddle == "clear" else size + 2
    data = await reader.readexactly(expected)
    assert data.count(b"y") == size
    transport.abort()
    await asyncio.sleep(0)


async def test_protocol_taken_away_while_it_is_looked_up(loop, monkeypatch):
    ours, peer = tcp_pair()
    reader = asyncio.StreamReader(loop=loop)
    original = asyncio.StreamReaderProtocol.data_received
    looked_up = []

    def data_received(protocol):
        looked_up.append(True)
        if transport.get_protocol() is protocol:
            transport.set_protocol(asyncio.Protocol())
        return original.__get__(protocol)

    with peer:
        transport, _ = await loop.create_connection(
            lambda: asyncio.StreamReaderProtocol(reader, loop=loop), sock=ours
        )
        monkeypatch.setattr(
            asyncio.StreamReaderProtocol,
            "data_received",
            property(data_received),
        )
        peer.sendall(b"data")
        async with asyncio.timeout(5):
            while not looked_up:
                await asyncio.sleep(0)
        transport.abort()
        await asyncio.sleep(0)


def test_selector_that_aborts_the_stream_it_is_told_of():
    class Meddling(selectors.SelectSelector):
        hook = None

        def _meddle(self):
            hook, self.hook = self.hook, None
            if hook is not None:
                hook()

        def modify(self, *arguments):
            key = super().modify(*arguments)
            self._meddle()
            return key

    selector = Meddling()
    loop = becket.SelectorEventLoop(selector)

    async def main():
        ours, peer = tcp_pair()
        with peer:
            transport, _ = await loop.create_connection(
                asyncio.Protocol, sock=ours
            )
            await asyncio.sleep(0)
            selector.hook = transport.abort
            transport.write(b"x" * (16 << 20))
            assert transport.is_closing()
            await asyncio.sleep(0)
            assert ours.fileno() == -1

    try:
        loop.run_until_complete(main())
    finally:
        loop.close()
