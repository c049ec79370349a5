# SPDX-License-Identifier: MIT
"""In which context a stream's protocol is called, and when a stream may go."""

import asyncio
import contextvars
import gc
import warnings
import weakref

import pytest

from support.contexts import of_call
from support.leaks import join_all, spawn
from support.loops import turns
from support.net import (
    connected,
    peer_reads,
    recv_exactly,
    reset,
    small_pair,
    spin,
    tcp_pair,
    until,
)
from support.protocols import Recorder

BIG = 1 << 20

var = contextvars.ContextVar("var", default="none")


class Noting(Recorder):
    """Notes the context of each call."""

    def __init__(self):
        super().__init__()
        self.contexts = {}

    def data_received(self, data):
        super().data_received(data)
        self.contexts["data_received"] = var.get()

    def resume_writing(self):
        super().resume_writing()
        self.contexts["resume_writing"] = var.get()

    def connection_lost(self, exc):
        self.contexts["connection_lost"] = var.get()
        super().connection_lost(exc)


async def drain(transport, peer):
    """Let the peer take all that is unsent, whatever size that has."""
    peer.settimeout(0.05)
    while transport.get_write_buffer_size() > 0:
        try:
            await asyncio.to_thread(peer.recv, BIG)
        except TimeoutError:
            continue


async def test_resume_writing_has_the_context_of_the_blocked_write(loop):
    async with connected(loop, Noting, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        var.set("first")
        transport.write(bytes(BIG))
        var.set("second")
        transport.write(bytes(10))
        var.set("later")
        await drain(transport, peer)
        await until(lambda: "resume_writing" in protocol.contexts)
        assert protocol.contexts["resume_writing"] == of_call("first", "none")


@pytest.mark.since(3, 12)
async def test_writelines_renews_the_context_of_writing(loop):
    async with connected(loop, Noting, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        var.set("first")
        transport.write(bytes(BIG))
        var.set("second")
        transport.writelines([b"1", b"2"])
        var.set("later")
        await drain(transport, peer)
        await until(lambda: "resume_writing" in protocol.contexts)
        assert protocol.contexts["resume_writing"] == of_call("second", "none")


async def test_a_blocked_write_of_resume_writing_has_its_own_context(loop):
    class Again(Noting):
        contexts_seen = ()

        def resume_writing(self):
            super().resume_writing()
            self.contexts_seen += (var.get(),)
            if len(self.contexts_seen) == 1:
                var.set("when resumed")
                self.transport.write(bytes(BIG))
                var.set("after that")

    async with connected(loop, Again, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        # Resumed when all is sent, so that the next write is the first again.
        transport.set_write_buffer_limits(high=0)
        var.set("at first")
        transport.write(bytes(BIG))
        var.set("later")
        await drain(transport, peer)
        await until(lambda: len(protocol.contexts_seen) == 2)
        assert protocol.contexts_seen == (
            of_call("at first", "none"),
            of_call("when resumed", "after that"),
        )


async def test_end_of_a_flush_has_the_context_of_the_blocked_write(loop):
    async with connected(loop, Noting, small_pair) as (
        transport,
        protocol,
        peer,
    ):
        var.set("write")
        transport.write(bytes(BIG))
        var.set("close")
        transport.close()
        await peer_reads(peer, BIG)
        await protocol.lost
        assert protocol.contexts["connection_lost"] == of_call("write", "none")


async def test_failed_read_has_the_context_of_the_reader(loop):
    var.set("connect")
    async with connected(loop, Noting) as (transport, protocol, peer):
        var.set("later")
        await spin(2)
        reset(peer)
        assert isinstance(await protocol.lost, ConnectionResetError)
        assert protocol.contexts["connection_lost"] == "connect"


async def test_context_while_reading_begins(loop):
    """pause and resume in connection_made: the start of reading decides."""

    class Resuming(Noting):
        def connection_made(self, transport):
            super().connection_made(transport)
            transport.pause_reading()
            var.set("in connection_made")
            transport.resume_reading()

    var.set("connect")
    async with connected(loop, Resuming) as (_, protocol, peer):
        peer.send(b"x")
        await protocol.received(1)
        assert protocol.contexts["data_received"] == of_call(
            "connect", "in connection_made"
        )


async def test_one_receive_has_one_context(loop):
    """Also when get_buffer() closes, which takes a context for the end."""
    seen = []

    class Closing(asyncio.BufferedProtocol):
        def connection_made(self, transport):
            self.transport = transport
            self.lost = loop.create_future()

        def get_buffer(self, sizehint):
            self.transport.close()
            var.set("in get_buffer")
            return bytearray(10)

        def buffer_updated(self, nbytes):
            seen.append(("buffer_updated", var.get()))

        def connection_lost(self, exc):
            seen.append(("connection_lost", var.get()))
            self.lost.set_result(None)

    var.set("connect")
    async with connected(loop, Closing) as (_, protocol, peer):
        var.set("later")
        peer.send(b"x")
        await protocol.lost
    assert seen == [
        ("buffer_updated", "in get_buffer"),
        ("connection_lost", of_call("connect", "in get_buffer")),
    ]


def test_abandoned_while_sending(loop, run_main):
    """What is unsent holds a transport, and nothing else does."""
    gone = []

    async def connect():
        ours, peer = small_pair()
        transport, _ = await loop.create_connection(
            asyncio.Protocol, sock=ours
        )
        await spin(2)
        transport.pause_reading()
        transport.write(bytes(BIG))
        weakref.finalize(transport, gone.append, True)
        return peer

    peer = run_main(connect())
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        turns(loop, 2)
        gc.collect()
        assert not gone
        got = []
        thread = spawn(lambda: got.append(len(recv_exactly(peer, BIG))))

        async def sent():
            await until(lambda: got)
            # The last writable event may still be to come.
            await spin(3)

        run_main(sent())
        join_all([thread])
        gc.collect()
        texts = [str(warning.message) for warning in caught]
        caught.clear()
    assert got == [BIG]
    assert gone
    assert any(text.startswith("unclosed transport ") for text in texts)
    assert peer.recv(1) == b""
    peer.close()


def test_abandoned_after_the_end_of_file(loop, run_main):
    """Kept open for writing by the protocol, and then dropped."""

    class HalfOpen(asyncio.Protocol):
        is_over = False

        def eof_received(self):
            HalfOpen.is_over = True
            return True

    async def connect():
        ours, peer = tcp_pair()
        transport, _ = await loop.create_connection(HalfOpen, sock=ours)
        peer.shutdown(1)
        await until(lambda: HalfOpen.is_over)
        return weakref.ref(transport), peer

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        transport, peer = run_main(connect())
        turns(loop, 2)
        gc.collect()
        texts = [str(warning.message) for warning in caught]
        # The warnings hold what they are about.
        caught.clear()
        gc.collect()
    assert transport() is None
    assert any(text.startswith("unclosed transport ") for text in texts)
    assert peer.recv(1) == b""
    peer.close()
