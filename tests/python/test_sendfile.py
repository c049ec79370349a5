# SPDX-License-Identifier: MIT
"""loop.sendfile(): files over transports, by the kernel and by blocks."""

import asyncio
import contextlib
import functools
import io
import os
import resource
import select
import socket
import ssl

import pytest

from support.certificates import NAME, client_context, server_context
from support.leaks import open_fds
from support.net import (
    LIMIT,
    connected,
    peer_reads,
    peer_reads_all,
    reset,
    small_pair,
    spin,
    tcp_pair,
    until,
)
from support.protocols import Buffered, Recorder

row = pytest.mark.row

CONTENT = bytes(range(256)) * 8192  # 2 MiB
SMALL = b"0123456789"


@pytest.fixture
def file(tmp_path):
    path = tmp_path / "file"
    path.write_bytes(CONTENT)
    with path.open("rb") as opened:
        yield opened


class Blocks(io.RawIOBase):
    """A file that the kernel does not know."""

    def __init__(self, content):
        self.inner = io.BytesIO(content)

    def readable(self):
        return True

    def readinto(self, buffer):
        return self.inner.readinto(buffer)

    def seek(self, offset, whence=0):
        return self.inner.seek(offset, whence)

    def tell(self):
        return self.inner.tell()


def unix_pair():
    ours, peer = socket.socketpair()
    ours.settimeout(LIMIT)
    peer.settimeout(LIMIT)
    return ours, peer


@contextlib.asynccontextmanager
async def sending(loop, file, pair=small_pair, factory=Recorder):
    """A sendfile that waits for its peer: task, transport, protocol, peer."""
    async with connected(loop, factory, pair) as (transport, protocol, peer):
        task = asyncio.create_task(loop.sendfile(transport, file))
        await spin(10)
        assert not task.done()
        yield task, transport, protocol, peer


@contextlib.contextmanager
def no_free_descriptor():
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    with contextlib.ExitStack() as stack:
        limit = (max(open_fds()) + 1, hard)
        resource.setrlimit(resource.RLIMIT_NOFILE, limit)
        stack.callback(
            resource.setrlimit, resource.RLIMIT_NOFILE, (soft, hard)
        )
        with contextlib.suppress(OSError):
            while True:
                stack.callback(os.close, os.dup(0))
        yield


@row("P2A-017")
async def test_no_descriptor_is_needed(loop, file):
    async with connected(loop, Recorder) as (transport, _, peer):
        reading = asyncio.create_task(peer_reads(peer, len(CONTENT)))
        await spin()  # the executor has what it needs
        with no_free_descriptor():
            assert await loop.sendfile(transport, file) == len(CONTENT)
        assert await reading == CONTENT
        assert file.tell() == len(CONTENT)


@row("P2A-017", "P2H-008", "P4E-036")
@pytest.mark.parametrize("pair", [tcp_pair, small_pair, unix_pair])
@pytest.mark.parametrize("factory", [Recorder, Buffered])
async def test_a_file_goes_after_what_was_written(loop, file, pair, factory):
    async with connected(loop, factory, pair) as (transport, protocol, peer):
        head, tail = b"<" * 100_000, b">" * 1000
        reading = asyncio.create_task(
            peer_reads(peer, len(head) + len(CONTENT) + len(tail))
        )
        transport.write(head)
        sent = await loop.sendfile(transport, file)
        transport.write(tail)
        assert sent == len(CONTENT) == file.tell()
        assert await reading == head + CONTENT + tail
        assert transport.is_reading()
        peer.sendall(b"answer")
        assert await protocol.received(6) == b"answer"


@row("P2A-017")
@pytest.mark.parametrize(
    ("offset", "count", "expected"),
    [
        (3, 4, SMALL[3:7]),
        (3, None, SMALL[3:]),
        (0, 100, SMALL),
        (8, 100, SMALL[8:]),
        (10, None, b""),
        (20, None, b""),
    ],
)
@pytest.mark.parametrize("kind", ["regular", "blocks"])
async def test_parts(loop, tmp_path, offset, count, expected, kind):
    path = tmp_path / "small"
    path.write_bytes(SMALL)
    opened = path.open("rb") if kind == "regular" else Blocks(SMALL)
    with opened as file:
        async with connected(loop, Recorder) as (transport, _, peer):
            sent = await loop.sendfile(transport, file, offset, count)
            assert sent == len(expected)
            if expected:
                assert await peer_reads(peer, sent) == expected
                assert file.tell() == offset + sent


@row("P2A-017")
async def test_arguments(loop, file, tmp_path):
    async with connected(loop, Recorder) as (transport, _, peer):
        for wrong, error in ((0, ValueError), (-1, ValueError)):
            with pytest.raises(error, match="count must be a positive"):
                await loop.sendfile(transport, file, 0, wrong)
        with pytest.raises(TypeError, match="count must be a positive"):
            await loop.sendfile(transport, file, 0, "1")
        with pytest.raises(ValueError, match="offset must be a non-negative"):
            await loop.sendfile(transport, file, -1)
        with pytest.raises(TypeError, match="offset must be a non-negative"):
            await loop.sendfile(transport, file, "0")
        with (
            (tmp_path / "file").open() as text,
            pytest.raises(ValueError, match="binary mode"),
        ):
            await loop.sendfile(transport, text)
        assert transport.is_reading()
        transport.write(b"usable")
        assert await peer_reads(peer, 6) == b"usable"


@row("P2A-017")
async def test_what_cannot_be_sent_by_the_kernel(loop):
    async with connected(loop, Recorder) as (transport, _, peer):
        with pytest.raises(
            asyncio.SendfileNotAvailableError, match="not a regular file"
        ):
            await loop.sendfile(transport, Blocks(SMALL), fallback=False)
        assert await loop.sendfile(transport, Blocks(CONTENT[:40_000])) == (
            40_000
        )
        assert await peer_reads(peer, 40_000) == CONTENT[:40_000]


@row("P2A-017")
async def test_transports_that_cannot(loop, file):
    async with connected(loop, Recorder) as (transport, _, _):
        transport.close()
        with pytest.raises(RuntimeError, match="Transport is closing"):
            await loop.sendfile(transport, file)
    datagrams, _ = await loop.create_datagram_endpoint(
        asyncio.DatagramProtocol, ("127.0.0.1", 0)
    )
    with pytest.raises(RuntimeError, match="sendfile is not supported for"):
        await loop.sendfile(datagrams, file)
    datagrams.close()


@row("P2A-017", "P2E-016")
async def test_nothing_is_written_meanwhile(loop, file):
    async with sending(loop, file) as (task, transport, _, peer):
        with pytest.raises(RuntimeError, match="unable to write; sendfile"):
            transport.write(b"x")
        with pytest.raises(RuntimeError, match="sendfile is in progress"):
            transport.writelines([b"x"])
        assert await peer_reads(peer, len(CONTENT)) == CONTENT
        assert await task == len(CONTENT)
        transport.write(b"x")
        assert await peer_reads(peer, 1) == b"x"


@pytest.mark.becket_only("CPython's transport is lost to its loop then")
async def test_a_second_one(loop, file):
    async with sending(loop, file) as (task, transport, _, peer):
        with pytest.raises(RuntimeError, match="waiter is already set"):
            await loop.sendfile(transport, file)
        assert await peer_reads(peer, len(CONTENT)) == CONTENT
        assert await task == len(CONTENT)


async def test_cancelling(loop, file):
    async with sending(loop, file) as (task, transport, protocol, peer):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        peer.sendall(b"answer")
        assert await protocol.received(6) == b"answer"
        transport.write(b"end")
        transport.close()
        got = await peer_reads_all(peer)
        assert 3 < len(got) < len(CONTENT)
        assert got == CONTENT[: len(got) - 3] + b"end"


@pytest.mark.becket_only("CPython leaves the position as it was")
async def test_the_position_after_cancelling(loop, file):
    async with sending(loop, file) as (task, transport, _, peer):
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        transport.close()
        assert len(await peer_reads_all(peer)) == file.tell()


@pytest.mark.becket_only("CPython keeps the transport in sendfile's state")
async def test_cancelling_before_it_begins(loop, file):
    async with connected(loop, Recorder, small_pair) as (transport, _, peer):
        transport.write(CONTENT)
        task = asyncio.create_task(loop.sendfile(transport, file))
        await spin(3)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        assert transport.is_reading()
        transport.write(b"x")
        assert await peer_reads(peer, len(CONTENT) + 1) == CONTENT + b"x"


@pytest.mark.parametrize("on_transport", [True, False])
async def test_is_not_sent_before_what_others_wrote(loop, file, on_transport):
    """In one callback; epoll tells what came first."""
    async with (
        connected(loop, Recorder) as (writer, _, writer_peer),
        connected(loop, Recorder) as (transport, _, transport_peer),
    ):
        ours, sock_peer = tcp_pair()
        with ours, sock_peer, select.epoll() as arrivals:
            ours.setblocking(False)
            peer = transport_peer if on_transport else sock_peer
            for sock in peer, writer_peer:
                arrivals.register(sock, select.EPOLLIN | select.EPOLLET)
            writer.write(b"first")
            if on_transport:
                await loop.sendfile(transport, file, 0, 100)
            else:
                await loop.sock_sendfile(ours, file, 0, 100)
            await spin(1)
            found = [number for number, _ in arrivals.poll(0)]
            assert found == [writer_peer.fileno(), peer.fileno()]


@contextlib.asynccontextmanager
async def either_way(loop, on_transport):
    """A function that sends a file over a small Unix socket, and its peer."""
    ours, peer = unix_pair()
    with ours, peer:
        ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
        if not on_transport:
            ours.setblocking(False)
            yield functools.partial(loop.sock_sendfile, ours), peer
            return
        async with connected(loop, Recorder, lambda: (ours, peer)) as (
            transport,
            *_,
        ):
            yield functools.partial(loop.sendfile, transport), peer


@row("P2A-017", "P2A-018")
@pytest.mark.parametrize("on_transport", [True, False])
async def test_is_over_when_the_socket_takes_more(loop, file, on_transport):
    async with either_way(loop, on_transport) as (send, peer):
        task = asyncio.create_task(send(file, 0, 4000))
        await spin(10)
        assert len(peer.recv(5000, socket.MSG_PEEK)) == 4000
        assert not task.done()
        assert await peer_reads(peer, 4000) == CONTENT[:4000]
        assert await asyncio.wait_for(task, LIMIT) == 4000


@row("P2A-017", "P2A-018")
@pytest.mark.parametrize("on_transport", [True, False])
async def test_turns_of_a_small_file(loop, file, on_transport):
    """It is sent, there is room, the task goes on, and so does its waiter."""
    async with either_way(loop, on_transport) as (send, _):
        task = asyncio.create_task(send(file, 0, 1))
        turns = 0
        while not task.done():
            await spin()
            turns += 1
        assert turns == 4


async def test_the_peer_goes(loop, file):
    async with sending(loop, file) as (task, _, _, peer):
        reset(peer)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(task, LIMIT)


@pytest.mark.becket_only("CPython's sendfile waits for ever")
@pytest.mark.parametrize("how", ["close", "abort"])
async def test_the_transport_is_closed(loop, file, how):
    async with sending(loop, file) as (task, transport, protocol, _):
        getattr(transport, how)()
        with pytest.raises(ConnectionError, match="Connection is closed"):
            await asyncio.wait_for(task, LIMIT)
        assert await protocol.lost is None
        assert 0 < file.tell() < len(CONTENT)


@pytest.mark.becket_only("CPython's loop stumbles over its lost transport")
async def test_the_peer_goes_before_it_begins(loop, file):
    async with connected(loop, Recorder, small_pair) as (transport, _, peer):
        transport.write(CONTENT)
        task = asyncio.create_task(loop.sendfile(transport, file))
        await spin(3)
        reset(peer)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(task, LIMIT)


async def test_a_file_that_ends_early(loop, file, tmp_path):
    async with sending(loop, file) as (task, _, _, peer):
        with (tmp_path / "file").open("r+b") as writer:
            writer.truncate(len(CONTENT) // 2)
        got = await peer_reads(peer, len(CONTENT) // 2)
        sent = await task
        assert sent == len(CONTENT) // 2 == file.tell()
        assert got == CONTENT[:sent]


async def test_the_protocol_is_swapped_and_back(loop):
    """By blocks: the protocol hears nothing but the end."""
    async with connected(loop, Recorder, small_pair) as pieces:
        transport, protocol, peer = pieces
        task = asyncio.create_task(loop.sendfile(transport, Blocks(CONTENT)))
        await until(lambda: transport.get_protocol() is not protocol)
        peer.sendall(b"early")
        assert await peer_reads(peer, len(CONTENT)) == CONTENT
        assert await task == len(CONTENT)
        assert transport.get_protocol() is protocol
        assert await protocol.received(5) == b"early"
        # If the last block paused writing, the resuming comes afterwards.
        assert "pause_writing" not in protocol.calls
        assert "connection_lost" not in protocol.calls


async def test_the_peer_goes_while_blocks_are_sent(loop):
    async with connected(loop, Recorder, small_pair) as pieces:
        transport, protocol, peer = pieces
        task = asyncio.create_task(loop.sendfile(transport, Blocks(CONTENT)))
        await until(lambda: transport.get_write_buffer_size() > 65536)
        reset(peer)
        with pytest.raises(ConnectionError):
            await asyncio.wait_for(task, LIMIT)
        await protocol.lost


async def test_writing_was_paused(loop):
    async with connected(loop, Recorder, small_pair) as pieces:
        transport, protocol, peer = pieces
        transport.write(CONTENT)
        assert protocol.calls == ["connection_made", "pause_writing"]
        task = asyncio.create_task(loop.sendfile(transport, Blocks(SMALL)))
        expected = CONTENT + SMALL
        assert await peer_reads(peer, len(expected)) == expected
        assert await task == len(SMALL)
        assert protocol.calls[-1] == "resume_writing"


@row("P2A-019")
async def test_offset_zero(loop):
    """Later Pythons seek to it; before, reading goes on from the position."""
    with Blocks(SMALL) as file:
        file.seek(4)
        async with connected(loop, Recorder) as (transport, _, peer):
            sent = await loop.sendfile(transport, file, 0)
            got = await peer_reads(peer, sent)
        assert got == (SMALL if seeks_to_zero() else SMALL[4:])


@pytest.mark.parametrize("on_transport", [True, False])
async def test_nothing_to_send(loop, file, on_transport):
    """Later Pythons set the position; before, it stays where it was."""
    file.seek(4)
    async with connected(loop, Recorder) as (transport, _, peer):
        if on_transport:
            sent = await loop.sendfile(transport, file, len(CONTENT))
        else:
            peer.setblocking(False)
            sent = await loop.sock_sendfile(peer, file, len(CONTENT))
    assert sent == 0
    assert file.tell() == (len(CONTENT) if seeks_to_zero() else 4)


def seeks_to_zero():
    import inspect

    source = inspect.getsource(
        asyncio.base_events.BaseEventLoop._sendfile_fallback
    )
    return "if offset:" not in source


@row("P2A-017")
async def test_over_tls(loop, file):
    ours, theirs = tcp_pair()
    (client, _), (server, received) = await asyncio.gather(
        loop.create_connection(
            Recorder, sock=ours, ssl=client_context(), server_hostname=NAME
        ),
        loop.connect_accepted_socket(Recorder, theirs, ssl=server_context()),
    )
    assert isinstance(client.get_extra_info("ssl_object"), ssl.SSLObject)
    with pytest.raises(RuntimeError, match="fallback is disabled"):
        await loop.sendfile(client, file, fallback=False)
    assert await loop.sendfile(client, file, 5) == len(CONTENT) - 5
    assert file.tell() == len(CONTENT)
    assert await received.received(len(CONTENT) - 5) == CONTENT[5:]
    for transport in (client, server):
        transport.abort()
        await transport.get_protocol().lost
