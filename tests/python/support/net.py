# SPDX-License-Identifier: MIT
"""Sockets for the tests: never a fixed port, never an unbounded wait."""

import asyncio
import contextlib
import socket
import struct
import time

LIMIT = 10.0


def has_ipv6():
    if not socket.has_ipv6:
        return False
    try:
        with socket.socket(socket.AF_INET6) as sock:
            sock.bind(("::1", 0))
    except OSError:
        return False
    return True


def listener(host="127.0.0.1", backlog=16, family=socket.AF_INET):
    """A listening blocking socket with a bounded wait."""
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.settimeout(LIMIT)
    sock.bind((host, 0))
    sock.listen(backlog)
    return sock


def url_of(address):
    """The http URL of a socket's address."""
    host, port = address[:2]
    return f"http://{host}:{port}"


def closed_port(host="127.0.0.1"):
    """A port that nobody listens on."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        return sock.getsockname()[1]


@contextlib.contextmanager
def refusing_port(host="127.0.0.1"):
    """A port that refuses and cannot be taken meanwhile: bound, no listen."""
    with socket.socket() as sock:
        sock.bind((host, 0))
        yield sock.getsockname()[1]


@contextlib.contextmanager
def silent_address(host="127.0.0.2"):
    """An address where connecting neither succeeds nor fails.

    The kernel drops new connections while the accept queue is full.
    """
    with contextlib.ExitStack() as stack:
        sock = stack.enter_context(listener(host, backlog=0))
        address = sock.getsockname()
        for _ in range(64):
            filler = stack.enter_context(socket.socket())
            # On the loopback a connection is made at once or not at all.
            filler.settimeout(0.05)
            try:
                filler.connect(address)
            except TimeoutError:
                break
        else:
            raise RuntimeError("the accept queue never filled")
        yield address


def tcp_pair():
    """Two connected blocking TCP sockets with bounded waits."""
    with listener() as server:
        left = socket.create_connection(server.getsockname(), LIMIT)
        right, _ = server.accept()
    left.settimeout(LIMIT)
    right.settimeout(LIMIT)
    return left, right


def recv_exactly(sock, count):
    """Read count bytes from a blocking socket."""
    parts = bytearray()
    while len(parts) < count:
        data = sock.recv(min(count - len(parts), 1 << 20))
        if not data:
            raise EOFError(f"end of file after {len(parts)} of {count} bytes")
        parts += data
    return bytes(parts)


def recv_all(sock):
    parts = bytearray()
    while data := sock.recv(1 << 20):
        parts += data
    return bytes(parts)


async def peer_recv(sock):
    """What is there for a blocking peer, read beside the loop.

    A blocking read in the callback that wrote would be before the write.
    """
    return await asyncio.to_thread(sock.recv, 1 << 16)


async def peer_reads(sock, count):
    return await asyncio.to_thread(recv_exactly, sock, count)


async def peer_reads_all(sock):
    return await asyncio.to_thread(recv_all, sock)


def reset(sock):
    """Close a socket so that the peer gets a reset, not an end of file."""
    sock.setsockopt(
        socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
    )
    sock.close()


def data_segments_in(sock):
    """How many segments with data a TCP socket has received (TCP_INFO)."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    # tcpi_data_segs_in lies behind 8 bytes, 24 words, 4 double words and
    # 4 words (linux/tcp.h).
    return struct.unpack_from("I", info, 8 + 24 * 4 + 4 * 8 + 4 * 4)[0]


def listen_backlog(sock):
    """What was given to listen(): tcpi_sacked of a listening socket."""
    info = sock.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 256)
    return struct.unpack_from("I", info, 8 + 5 * 4)[0]


def wait_readable(sock, wait=LIMIT):
    """Block until a socket or descriptor has something to read."""
    import select

    poller = select.poll()
    poller.register(sock, select.POLLIN)
    assert poller.poll(wait * 1000), "nothing to read in time"


async def spin(count=1):
    """Let the loop run count turns."""
    for _ in range(count):
        await asyncio.sleep(0)


async def until(condition, wait=LIMIT):
    """Let the loop run until condition() is true."""
    deadline = time.monotonic() + wait
    while not condition():
        if time.monotonic() > deadline:
            raise TimeoutError(f"never happened: {condition!r}")
        await asyncio.sleep(0.001)


@contextlib.asynccontextmanager
async def served(loop, factory, host="127.0.0.1", **kwargs):
    """A server of loop.create_server(); gives (server, address)."""
    server = await loop.create_server(factory, host, 0, **kwargs)
    try:
        yield server, server.sockets[0].getsockname()
    finally:
        server.close()
        await asyncio.wait_for(server.wait_closed(), LIMIT)


def small_pair(size=4096):
    """A TCP pair with small kernel buffers, so that writes back up soon."""
    with socket.socket() as server:
        server.settimeout(LIMIT)
        server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, size)
        server.bind(("127.0.0.1", 0))
        server.listen()
        left = socket.socket()
        left.settimeout(LIMIT)
        left.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        left.connect(server.getsockname())
        right, _ = server.accept()
    right.settimeout(LIMIT)
    return left, right


@contextlib.asynccontextmanager
async def connected(loop, factory, pair=tcp_pair):
    """A transport whose peer is a plain blocking socket of the test.

    Gives (transport, protocol, peer); closes all of them.
    """
    ours, peer = pair()
    transport, protocol = await loop.create_connection(factory, sock=ours)
    try:
        yield transport, protocol, peer
    finally:
        peer.close()
        if ours.fileno() != -1:
            # CPython's abort() fails on a transport that is gone.
            transport.abort()
        # connection_lost() comes in the next turn.
        await spin(3)
