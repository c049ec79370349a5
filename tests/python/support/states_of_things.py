# SPDX-License-Identifier: MIT
"""More of the states of states.py: pipes, subprocesses, TLS.

Importing this adds them to STATES.
"""

import asyncio
import os

from support.certificates import NAME, client_context, server_context
from support.net import small_pair, tcp_pair
from support.states import (
    LARGE,
    State,
    Talker,
    begin,
    closed_while,
    state,
    until,
)

# --- pipes ---


def pipe_to_read(loop):
    reading, writing = os.pipe()
    transport, protocol = loop.run_until_complete(
        loop.connect_read_pipe(Talker, open(reading, "rb", 0))
    )
    return transport, protocol, open(writing, "wb", 0)


@state
def reading_a_pipe(loop):
    transport, protocol, peer = pipe_to_read(loop)

    async def go_on():
        peer.write(b"ping")
        await until(lambda: protocol.data == b"ping")
        peer.close()
        await until(lambda: protocol.losses == 1)

    return State(transport, protocol, peer, go_on=go_on)


@state
def pausing_a_pipe(loop):
    transport, protocol, peer = pipe_to_read(loop)
    transport.pause_reading()
    peer.write(b"early")

    async def go_on():
        await asyncio.sleep(0)
        assert not protocol.data
        transport.resume_reading()
        await until(lambda: protocol.data == b"early")
        transport.close()
        await until(lambda: protocol.losses == 1)
        peer.close()

    return State(transport, protocol, peer, go_on=go_on)


@state
def writing_a_pipe(loop):
    """More than fits."""
    reading, writing = os.pipe()
    os.set_blocking(reading, False)
    peer = open(reading, "rb", 0)
    transport, protocol = loop.run_until_complete(
        loop.connect_write_pipe(Talker, open(writing, "wb", 0))
    )
    transport.write(LARGE)
    assert transport.get_write_buffer_size() > 0

    async def go_on():
        got = bytearray()

        def has_all():
            got.extend(peer.read(1 << 16) or b"")
            return len(got) >= len(LARGE)

        await until(has_all)
        assert got == LARGE, len(got)
        transport.close()
        await until(lambda: protocol.losses == 1)
        peer.close()

    return State(transport, protocol, peer, go_on=go_on)


# --- subprocesses ---


class Process(asyncio.SubprocessProtocol):
    def __init__(self):
        self.data = bytearray()
        self.has_exited = False
        self.losses = 0

    def pipe_data_received(self, fd, data):
        self.data += data

    def process_exited(self):
        self.has_exited = True

    def connection_lost(self, exc):
        self.losses += 1


@state
def running_a_subprocess(loop):
    """One that ends when nobody has its input open any more."""
    transport, protocol = loop.run_until_complete(
        loop.subprocess_exec(Process, "cat", stderr=None)
    )

    async def go_on():
        stdin = transport.get_pipe_transport(0)
        stdin.write(b"ping")
        await until(lambda: protocol.data == b"ping")
        stdin.close()
        await until(lambda: protocol.losses == 1)
        assert protocol.has_exited
        assert transport.get_returncode() == 0
        transport.close()

    return State(transport, protocol, go_on=go_on)


@state
def closing_a_subprocess(loop):
    """Killed, and not reaped yet."""
    transport, protocol = loop.run_until_complete(
        loop.subprocess_exec(Process, "cat", stderr=None)
    )
    transport.close()

    async def go_on():
        await until(lambda: protocol.losses == 1)

    return State(transport, protocol, go_on=go_on)


@state
def waiting_for_a_subprocess(loop):
    process = loop.run_until_complete(
        asyncio.create_subprocess_exec("cat", stdin=asyncio.subprocess.PIPE)
    )
    task = begin(loop, process.wait())

    async def go_on():
        process.stdin.close()
        assert await task == 0

    return State(process, task, go_on=go_on)


# --- TLS ---


class TlsTalker(Talker):
    def eof_received(self):
        """TLS has no half of a connection to keep open."""


@state
def shaking_hands(loop):
    """With a peer that says nothing."""
    ours, peer = tcp_pair()
    task = begin(
        loop,
        loop.create_connection(
            TlsTalker, sock=ours, ssl=client_context(), server_hostname=NAME
        ),
    )

    async def go_on():
        peer.close()
        await asyncio.wait([task])
        assert isinstance(task.exception(), OSError), task

    return State(ours, peer, task, go_on=go_on)


async def both_ends_of_tls(loop):
    ours, theirs = small_pair()
    return await asyncio.gather(
        loop.create_connection(
            TlsTalker, sock=ours, ssl=client_context(), server_hostname=NAME
        ),
        loop.connect_accepted_socket(TlsTalker, theirs, ssl=server_context()),
    )


def tls_pair(loop):
    return loop.run_until_complete(both_ends_of_tls(loop))


@state
def connected_by_tls(loop):
    (client, one), (server, other) = tls_pair(loop)

    async def go_on():
        client.write(b"ping")
        await until(lambda: other.data == b"ping")
        server.write(b"pong")
        await until(lambda: one.data == b"pong")
        client.close()
        await until(lambda: one.losses == other.losses == 1)

    return State(client, one, server, other, go_on=go_on)


@state
def writing_by_tls(loop):
    """The other side does not read."""
    (client, one), (server, other) = tls_pair(loop)
    server.pause_reading()
    data = LARGE * 4
    client.write(data)
    assert client._ssl_protocol._transport.get_write_buffer_size() > 0

    async def go_on():
        server.resume_reading()
        await until(lambda: len(other.data) == len(data))
        assert other.data == data
        client.close()
        await until(lambda: one.losses == other.losses == 1)

    return State(client, one, server, other, go_on=go_on)


@state
def saying_goodbye(loop):
    """TLS's close_notify has yet to be answered."""
    (client, one), (server, other) = tls_pair(loop)
    client.close()

    async def go_on():
        await until(lambda: one.losses == other.losses == 1)

    return State(client, one, server, other, go_on=go_on)


for _prepare in [
    reading_a_pipe,
    writing_a_pipe,
    running_a_subprocess,
    waiting_for_a_subprocess,
    shaking_hands,
    connected_by_tls,
    writing_by_tls,
    saying_goodbye,
]:
    state(closed_while(_prepare))
