# SPDX-License-Identifier: MIT
"""A server on one loop: serve.py LOOP PROGRAM SIZE

Prints its address, which is a port, or for a Unix socket its abstract name;
serves until it is killed.
"""

import asyncio
import importlib
import socket
import ssl
import sys
import tempfile
from collections.abc import Callable, Coroutine
from typing import Any, cast

import child
from child import CERTIFICATE
from loops import LOOPS

READ_BYTES = 65536  # of a stream or a socket, at most
BACKLOG = 1024  # more than any row has connections
CONGESTION = b"reno"  # inherited by what is accepted: see load/peer.c

StartServer = Callable[[int], Coroutine[Any, Any, str]]


class Echo(asyncio.Protocol):
    transport: asyncio.Transport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        # Not every loop's transport derives from asyncio's.
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.transport.write(data)


class DatagramEcho(asyncio.DatagramProtocol):
    transport: asyncio.DatagramTransport

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.DatagramTransport, transport)

    def datagram_received(self, data: bytes, addr: Any) -> None:
        self.transport.sendto(data, addr)


class FileServer(asyncio.Protocol):
    """Answers each receive with the whole file."""

    transport: asyncio.Transport

    def __init__(self, path: str) -> None:
        self.file = open(path, "rb")  # each connection has its own position

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        loop = asyncio.get_running_loop()
        self.task = loop.create_task(self.send())
        self.task.add_done_callback(lambda task: task.result())

    async def send(self) -> None:
        loop = asyncio.get_running_loop()
        await loop.sendfile(self.transport, self.file)

    def connection_lost(self, exc: Exception | None) -> None:
        self.file.close()


class BufferedEcho(asyncio.BufferedProtocol):
    """Sends a message from the buffer that it came into, once it is whole.

    The client sends the next one when it has all of this one: then nobody
    reads from the buffer any more.
    """

    transport: asyncio.Transport

    def __init__(self, size: int) -> None:
        self.buffer = memoryview(bytearray(size))
        self.size = size
        self.filled = 0

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def get_buffer(self, sizehint: int) -> memoryview:
        return self.buffer[self.filled :]

    def buffer_updated(self, nbytes: int) -> None:
        self.filled += nbytes
        if self.filled == self.size:
            self.filled = 0
            self.transport.write(self.buffer)


async def echo_stream(
    reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    try:
        while data := await reader.read(READ_BYTES):
            writer.write(data)
            await writer.drain()
    except ConnectionError:
        pass  # the client has seen enough
    finally:
        writer.close()


async def echo_sock(sock: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    try:
        while data := await loop.sock_recv(sock, READ_BYTES):
            await loop.sock_sendall(sock, data)
    except ConnectionError:
        pass
    finally:
        sock.close()


def server_context() -> ssl.SSLContext:
    """Version and cipher are those that OpenSSL chooses by itself, and the
    load generator refuses any other.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    context.load_cert_chain(*CERTIFICATE)
    return context


def listen() -> tuple[socket.socket, str]:
    """A listener and its port: some loops take the fd out of the socket."""
    # The protocol is named, or asyncio would not set TCP_NODELAY.
    listener = socket.socket(
        socket.AF_INET, socket.SOCK_STREAM, socket.IPPROTO_TCP
    )
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, CONGESTION)
    listener.bind(("127.0.0.1", 0))
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener, str(listener.getsockname()[1])


def listen_unix() -> tuple[socket.socket, str]:
    """A listener and its name, which the kernel chose."""
    listener = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
    listener.bind("")
    listener.listen(BACKLOG)
    listener.setblocking(False)
    return listener, listener.getsockname()[1:].decode()


async def start_protocol(size: int) -> str:
    listener, port = listen()
    loop = asyncio.get_running_loop()
    background.append(await loop.create_server(Echo, sock=listener))
    return port


async def start_tls_protocol(size: int) -> str:
    listener, port = listen()
    loop = asyncio.get_running_loop()
    context = server_context()
    background.append(
        await loop.create_server(Echo, sock=listener, ssl=context)
    )
    return port


async def start_buffered(size: int) -> str:
    def make() -> BufferedEcho:
        return BufferedEcho(size)

    listener, port = listen()
    loop = asyncio.get_running_loop()
    background.append(await loop.create_server(make, sock=listener))
    return port


async def start_stream(size: int) -> str:
    listener, port = listen()
    background.append(await asyncio.start_server(echo_stream, sock=listener))
    return port


async def start_tls_stream(size: int) -> str:
    listener, port = listen()
    context = server_context()
    background.append(
        await asyncio.start_server(echo_stream, sock=listener, ssl=context)
    )
    return port


async def accept_socks(listener: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    tasks = set()
    while True:
        sock, _ = await loop.sock_accept(listener)
        sock.setblocking(False)
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        task = loop.create_task(echo_sock(sock))
        tasks.add(task)
        task.add_done_callback(tasks.discard)


async def start_sock(size: int) -> str:
    listener, port = listen()
    background.append(asyncio.ensure_future(accept_socks(listener)))
    return port


async def start_unix(size: int) -> str:
    listener, name = listen_unix()
    loop = asyncio.get_running_loop()
    background.append(await loop.create_unix_server(Echo, sock=listener))
    return name


async def start_udp(size: int) -> str:
    loop = asyncio.get_running_loop()
    transport, _ = await loop.create_datagram_endpoint(
        DatagramEcho, local_addr=("127.0.0.1", 0)
    )
    background.append(transport)
    return str(transport.get_extra_info("sockname")[1])


async def start_sendfile(size: int) -> str:
    file = tempfile.TemporaryFile()  # its bytes as in load/main.c
    file.write(bytes(i & 255 for i in range(size)))
    file.flush()
    path = f"/proc/self/fd/{file.fileno()}"
    listener, port = listen()
    loop = asyncio.get_running_loop()
    server = await loop.create_server(lambda: FileServer(path), sock=listener)
    background.extend((file, server))
    return port


def start_web(name: str) -> StartServer:
    """The frameworks are imported when they are served."""

    async def start(size: int) -> str:
        start_it = getattr(importlib.import_module("web"), f"start_{name}")
        listener, port = listen()
        background.append(await start_it(listener))
        return port

    return start


SERVERS: dict[str, StartServer] = {
    "protocol": start_protocol,
    "buffered": start_buffered,
    "stream": start_stream,
    "sock": start_sock,
    "unix": start_unix,
    "udp": start_udp,
    "sendfile": start_sendfile,
    "tls_protocol": start_tls_protocol,
    "tls_stream": start_tls_stream,
    "uvicorn": start_web("uvicorn"),
    "uvicorn_tls": start_web("uvicorn_tls"),
    "aiohttp": start_web("aiohttp"),
}

background: list[object] = []  # what must live as long as the server


def main() -> None:
    child.die_with_parent()
    child.settle_malloc()
    name, program, size = sys.argv[1:]
    loop = LOOPS[name].make()
    asyncio.set_event_loop(loop)
    child.fail_loudly(loop)
    print(loop.run_until_complete(SERVERS[program](int(size))), flush=True)
    loop.run_forever()
    sys.exit("the loop stopped: see above")


if __name__ == "__main__":
    main()
