# SPDX-License-Identifier: MIT
"""create_unix_connection: paths, sockets, names, failures, flow."""

import asyncio
import errno
import gc
import inspect
import os
import pathlib
import socket
import threading

import pytest

from becket import versions
from support.net import LIMIT, connected, peer_reads, spin, until
from support.protocols import Buffered, Echo, Recorder

row = pytest.mark.row


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A folder whose paths fit into a Unix address, which are short."""
    monkeypatch.chdir(tmp_path)
    return pathlib.Path(".")


def unix_pair():
    left, right = socket.socketpair(socket.AF_UNIX, socket.SOCK_STREAM)
    left.settimeout(LIMIT)
    right.settimeout(LIMIT)
    return left, right


def listening(path, backlog=16):
    sock = socket.socket(socket.AF_UNIX)
    sock.settimeout(LIMIT)
    sock.bind(os.fspath(path) if isinstance(path, os.PathLike) else path)
    sock.listen(backlog)
    return sock


async def accept(server):
    peer, _ = await asyncio.to_thread(server.accept)
    peer.settimeout(LIMIT)
    return peer


def abstract_name():
    return f"\0becket-test-{os.getpid()}-{threading.get_ident()}"


KINDS = {
    "str": lambda folder: str(folder / "s"),
    "bytes": lambda folder: bytes(folder / "s"),
    "pathlike": lambda folder: folder / "s",
    "abstract": lambda folder: abstract_name(),
    "abstract-bytes": lambda folder: abstract_name().encode() + b"\0\xff",
    "long": lambda folder: str(folder / ("n" * 100)),
}


@row("P1A-110", "P1A-111", "P1A-112", "P1A-114", "P1A-116", "P2A-013")
@pytest.mark.parametrize("kind", KINDS)
async def test_every_kind_of_path(loop, folder, kind):
    path = KINDS[kind](folder)
    with listening(path) as server:
        coroutine = loop.create_unix_connection(Recorder, path)
        assert inspect.iscoroutine(coroutine)
        transport, protocol = await coroutine
        assert isinstance(protocol, Recorder)
        assert isinstance(transport, asyncio.Transport)
        sock = transport.get_extra_info("socket")
        assert sock.family == socket.AF_UNIX
        assert sock.type == socket.SOCK_STREAM
        assert transport.get_extra_info("peername") == server.getsockname()
        assert transport.get_extra_info("sockname") == ""
        with await accept(server) as peer:
            transport.write(b"to the peer")
            assert await peer_reads(peer, 11) == b"to the peer"
            peer.sendall(b"back")
            assert await protocol.received(4) == b"back"
        assert await protocol.lost is None
    assert protocol.calls == [
        "connection_made",
        "data_received",
        "eof_received",
        "connection_lost",
    ]


@row("P1A-110")
async def test_names_after_the_close(loop, folder):
    for name in ("s", "n" * 100):
        with listening(folder / name) as server:
            transport, protocol = await loop.create_unix_connection(
                Recorder, folder / name
            )
            (await accept(server)).close()
            await protocol.lost
            await spin(2)
            assert transport.get_extra_info("peername") == name
            assert transport.get_extra_info("sockname") == ""
            assert transport.get_extra_info("socket").fileno() == -1


async def test_names_when_the_socket_was_closed_early(loop, folder):
    with listening(folder / "s") as server:
        transport, protocol = await loop.create_unix_connection(
            Recorder, folder / "s"
        )
        (await accept(server)).close()
        transport.get_extra_info("socket")._sock.close()
        assert transport.get_extra_info("peername") == "s"
        transport.abort()
        await protocol.lost


@row("P1A-113", "P1A-115")
@pytest.mark.parametrize(
    "arguments, text",
    [
        ({}, "no path and sock were specified"),
        (
            {"path": "x", "sock": True},
            "path and sock can not be specified at the same time",
        ),
        (
            {"path": "x", "server_hostname": "here"},
            "server_hostname is only meaningful with ssl",
        ),
        (
            {"path": "x", "ssl": True},
            "you have to pass server_hostname when using ssl",
        ),
        (
            {"path": "x", "ssl_handshake_timeout": 1},
            "ssl_handshake_timeout is only meaningful with ssl",
        ),
        (
            {"path": "x", "ssl_shutdown_timeout": 1},
            "ssl_shutdown_timeout is only meaningful with ssl",
        ),
    ],
)
async def test_arguments_that_do_not_fit(loop, arguments, text):
    with pytest.raises(ValueError) as caught:
        await loop.create_unix_connection(Recorder, **arguments)
    assert str(caught.value) == text


@row("P1A-113")
@pytest.mark.parametrize(
    "family, kind",
    [
        (socket.AF_INET, socket.SOCK_STREAM),
        (socket.AF_UNIX, socket.SOCK_DGRAM),
        (socket.AF_UNIX, socket.SOCK_SEQPACKET),
    ],
)
async def test_socket_of_another_kind(loop, family, kind):
    with socket.socket(family, kind) as sock:
        with pytest.raises(ValueError, match="A UNIX Domain Stream Socket"):
            await loop.create_unix_connection(Recorder, sock=sock)
        assert sock.fileno() != -1


@row("P1A-115")
async def test_given_socket(loop):
    ours, peer = unix_pair()
    with peer:
        transport, protocol = await loop.create_unix_connection(
            Recorder, sock=ours
        )
        assert ours.gettimeout() == 0
        transport.write(b"x" * 10)
        assert await peer_reads(peer, 10) == b"x" * 10
        transport.close()
        await protocol.lost
        await spin(2)
        assert ours.fileno() == -1


@row("P1A-111")
async def test_failures_of_connect(loop, folder):
    with pytest.raises(FileNotFoundError):
        await loop.create_unix_connection(Recorder, folder / "missing")
    (folder / "file").write_text("")
    with pytest.raises(ConnectionRefusedError):
        await loop.create_unix_connection(Recorder, folder / "file")
    with pytest.raises(OSError, match="too long"):
        await loop.create_unix_connection(Recorder, "x" * 200)
    with pytest.raises(TypeError):
        await loop.create_unix_connection(Recorder, 12)
    with socket.socket(socket.AF_UNIX) as unconnected:
        transport, protocol = await loop.create_unix_connection(
            Recorder, sock=unconnected
        )
        assert isinstance(await protocol.lost, OSError)
        assert transport.is_closing()


@pytest.mark.becket_only("CPython takes the socket for a connected one")
async def test_full_backlog(loop, folder):
    with listening(folder / "s", backlog=0) as server:
        filler = socket.socket(socket.AF_UNIX)
        filler.connect("s")
        with filler:
            with pytest.raises(BlockingIOError) as caught:
                await loop.create_unix_connection(Recorder, "s")
            assert caught.value.errno == errno.EAGAIN
            with socket.socket(socket.AF_UNIX) as sock:
                sock.setblocking(False)
                with pytest.raises(BlockingIOError):
                    await loop.sock_connect(sock, "s")
        server.accept()[0].close()
        transport, protocol = await loop.create_unix_connection(Recorder, "s")
        transport.abort()
        await protocol.lost


def failing_factory():
    raise ZeroDivisionError


@row("P1A-110")
@pytest.mark.oracle_skip("leaves the socket open")
async def test_factory_that_raises(loop, folder):
    with listening(folder / "s") as server:
        with pytest.raises(ZeroDivisionError):
            await loop.create_unix_connection(failing_factory, "s")
        with await accept(server) as peer:
            assert peer.recv(1) == b""


@row("P1A-110")
async def test_factory_that_raises_for_a_given_socket(loop):
    ours, peer = unix_pair()
    with peer, ours:
        with pytest.raises(ZeroDivisionError):
            await loop.create_unix_connection(failing_factory, sock=ours)
        is_closed = ours.fileno() == -1
        assert is_closed == versions.FAILED_FACTORY_CLOSES_SOCKET


async def test_cancelled_at_every_step(loop, folder):
    """What was made is closed, wherever the cancellation arrives."""
    with listening(folder / "s", backlog=64):
        for steps in range(6):
            task = loop.create_task(loop.create_unix_connection(Recorder, "s"))
            await spin(steps)
            task.cancel()
            try:
                transport, protocol = await task
            except asyncio.CancelledError:
                continue
            transport.abort()
            await protocol.lost
        await spin(3)
        gc.collect()


async def test_streams(loop, folder):
    async def handle(reader, writer):
        writer.write((await reader.readline()).upper())
        await writer.drain()
        writer.close()
        await writer.wait_closed()

    server = await asyncio.start_unix_server(handle, folder / "s")
    reader, writer = await asyncio.open_unix_connection("s")
    writer.write(b"hello\n")
    writer.write_eof()
    assert await reader.read() == b"HELLO\n"
    writer.close()
    await writer.wait_closed()
    server.close()
    await server.wait_closed()


async def test_flow_control(loop):
    ours, peer = unix_pair()
    with peer:
        transport, protocol = await loop.create_unix_connection(
            Recorder, sock=ours
        )
        total = 4 << 20
        transport.write(b"a" * total)
        assert protocol.calls[-1] == "pause_writing"
        assert transport.get_write_buffer_size() > 0
        assert await peer_reads(peer, total) == b"a" * total
        await until(lambda: "resume_writing" in protocol.calls)
        transport.close()
        await protocol.lost


async def test_large_echo_both_ways(loop, folder):
    server = await loop.create_unix_server(Echo, "s")
    transport, protocol = await loop.create_unix_connection(
        lambda: Buffered(1 << 16), "s"
    )
    data = bytes(range(256)) * 16384
    transport.write(data)
    assert await protocol.received(len(data)) == data
    transport.close()
    await protocol.lost
    server.close()
    await server.wait_closed()


async def test_half_open(loop):
    ours, peer = unix_pair()
    with peer:
        transport, protocol = await loop.create_unix_connection(
            Recorder, sock=ours
        )
        transport.write(b"last")
        transport.write_eof()
        assert await peer_reads(peer, 4) == b"last"
        assert peer.recv(1) == b""
        peer.sendall(b"still")
        assert await protocol.received(5) == b"still"
        transport.close()
        await protocol.lost


async def test_peer_that_dies_with_unread_data(loop):
    """On a Unix socket, too, that is a reset."""
    ours, peer = unix_pair()
    transport, protocol = await loop.create_unix_connection(
        Recorder, sock=ours
    )
    transport.write(b"never read")
    await spin(2)
    peer.close()
    assert isinstance(await protocol.lost, ConnectionResetError)


async def test_passing_a_descriptor_past_the_transport(loop):
    """socket.send_fds() on the transport's own socket works, in order."""
    async with connected(loop, Recorder, unix_pair) as (transport, _, peer):
        read_end, write_end = os.pipe()
        sock = transport.get_extra_info("socket")
        transport.write(b"first")
        # Whoever takes the number finds the data sent.
        with socket.socket(fileno=sock.dup().detach()) as raw:
            socket.send_fds(raw, [b"fd"], [read_end])
        data = await asyncio.to_thread(peer.recv, 5)
        assert data == b"first"
        data, fds, _, _ = await asyncio.to_thread(socket.recv_fds, peer, 10, 1)
        assert data == b"fd"
        os.write(write_end, b"through")
        assert os.read(fds[0], 10) == b"through"
        for fd in (read_end, write_end, *fds):
            os.close(fd)
