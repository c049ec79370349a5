# SPDX-License-Identifier: MIT
"""TLS: connections, servers' sides, start_tls(), streams, sendfile()."""

import asyncio
import contextlib
import functools
import socket
import ssl

from support.certificates import NAME, client_context, server_context
from support.scenarios.registry import converse, ended, scenario
from support.stage import Peer

# A cancelled connection shakes hands or says goodbye all the same, as in
# CPython, and its peer has left: so long it waits.
PATIENCE = {"ssl_handshake_timeout": 0.7, "ssl_shutdown_timeout": 0.7}


@functools.cache
def context(is_server):
    return server_context() if is_server else client_context()


class TlsPeer(Peer):
    """A peer that speaks TLS; bytes go and come while it is driven."""

    def __init__(self, world, sock, is_server):
        super().__init__(world, sock)
        self._incoming = ssl.MemoryBIO()
        self._outgoing = ssl.MemoryBIO()
        self._tls = context(is_server).wrap_bio(
            self._incoming,
            self._outgoing,
            server_side=is_server,
            server_hostname=None if is_server else NAME,
        )
        self._unsent = b""
        self._is_shaken = False

    def send(self, data):
        self._unsent += data
        self.look()

    def look(self):
        if self._sock.fileno() < 0 or self.is_at_end:
            return
        with self._world.aside():
            self._receive()
            try:
                self._go_on()
            except ssl.SSLWantReadError:
                pass
            except ssl.SSLError:
                self.is_at_end = True  # cut off, or reset
            with contextlib.suppress(OSError):
                self._sock.send(self._outgoing.read())
        self.check()

    def _receive(self):
        try:
            data = self._sock.recv(1 << 16)
        except BlockingIOError:
            return
        except OSError:
            data = b""
        if data:
            self._incoming.write(data)
        else:
            self._incoming.write_eof()

    def _go_on(self):
        if not self._is_shaken:
            self._tls.do_handshake()
            self._is_shaken = True
        if self._unsent:
            # Over memory it takes all.
            self._tls.write(self._unsent)
            self._unsent = b""
        while data := self._tls.read(1 << 16):
            self.data += data
        self.is_at_end = True
        self._tls.unwrap()


@contextlib.contextmanager
def driven(peer, world):
    """Its side goes on by itself meanwhile."""

    async def drive():
        while not peer.is_at_end:
            peer.look()
            await asyncio.sleep(0)

    task = world.loop.create_task(drive())
    try:
        yield peer
    finally:
        task.cancel()


def tls_pair(world, is_server=False):
    """A socket to give away, and a peer that will speak TLS on the other
    end: a server unless is_server.
    """
    ours = socket.socket()
    ours.connect(world.stage.address)
    theirs, _ = world.stage.listener.accept()
    theirs.setblocking(False)
    peer = TlsPeer(world, theirs, not is_server)
    world.peers.append(peer)
    return world.give(ours), peer


@scenario("create_connection")
def connect_over_tls(world):
    ours, peer = tls_pair(world)

    async def play():
        with driven(peer, world):
            transport, protocol = await world.loop.create_connection(
                world.talker,
                sock=ours,
                ssl=context(False),
                server_hostname=NAME,
                **PATIENCE,
            )
            await converse(world, transport, protocol, peer)

    return play


@scenario("connect_accepted_socket")
def accept_over_tls(world):
    ours, peer = tls_pair(world, is_server=True)

    async def play():
        with driven(peer, world):
            transport, protocol = await world.loop.connect_accepted_socket(
                world.talker,
                ours,
                ssl=context(True),
                **PATIENCE,
            )
            await converse(world, transport, protocol, peer)

    return play


@scenario("start_tls")
def start_tls(world):
    ours, peer = tls_pair(world)

    async def play():
        transport, protocol = await world.loop.create_connection(
            world.talker, sock=ours
        )
        with ended(transport), driven(peer, world):
            transport = await world.loop.start_tls(
                transport,
                protocol,
                context(False),
                server_hostname=NAME,
                **PATIENCE,
            )
            # None: somebody has closed it meanwhile.
            if transport is not None:
                await converse(world, transport, protocol, peer)

    return play


@scenario("open_connection")
def open_streams_over_tls(world):
    ours, peer = tls_pair(world)
    request, reply = world.token("request"), world.token("reply")

    async def exchange(reader, writer):
        peer.expect(request)
        try:
            writer.write(request)
            await writer.drain()
            await peer.reads(len(request))
            peer.send(reply)
            got = await reader.readexactly(len(reply))
            assert got == reply, f"a stream got {got!r}"
        except (OSError, EOFError):
            # drain() tells of a loss, and the reader why; the peer may have
            # seen it first.
            await asyncio.sleep(0)
            await asyncio.sleep(0)
            world.told.append(reader.exception())
            raise
        finally:
            writer.close()
        await writer.wait_closed()

    async def play():
        with driven(peer, world):
            reader, writer = await asyncio.open_connection(
                sock=ours,
                ssl=context(False),
                server_hostname=NAME,
                **PATIENCE,
            )
            try:
                await exchange(reader, writer)
            finally:
                writer.transport.abort()  # it says no goodbye to nobody

    return play


@scenario("sendfile")
def send_file_over_tls(world):
    ours, peer = tls_pair(world)
    file = world.open_file()
    peer.expect(world.stage.content)

    async def play():
        with driven(peer, world):
            transport, protocol = await world.loop.create_connection(
                world.talker,
                sock=ours,
                ssl=context(False),
                server_hostname=NAME,
                **PATIENCE,
            )
            with ended(transport):
                sent = await world.loop.sendfile(transport, file)
                assert sent == len(world.stage.content)
                transport.close()
                await protocol.ends()

    return play
