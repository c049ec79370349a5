# SPDX-License-Identifier: MIT
"""The sock_*() methods."""

import asyncio
import contextlib
import io
import socket

from support.scenarios.registry import scenario
from support.stage import FILE_BYTES

SMALL_BUFFER = 4096
LARGE_BYTES = 400_000


@scenario("sock_recv")
def receive(world):
    ours, peer = world.pair()

    async def play():
        world.loop.call_soon(world.loop.call_soon, peer.send, world.token())
        data = await world.loop.sock_recv(ours, 1000)
        assert world.token().startswith(data), data
        peer.shut()
        assert await world.loop.sock_recv(ours, 1000) == b""

    return play


@scenario("sock_recv_into")
def receive_into(world):
    ours, peer = world.pair()
    buffer = bytearray(1000)

    async def play():
        world.loop.call_soon(world.loop.call_soon, peer.send, world.token())
        count = await world.loop.sock_recv_into(ours, buffer)
        assert world.token().startswith(buffer[:count]), buffer[:count]

    return play


def sender(world, sock, address):
    def send():
        with world.aside():
            sock.sendto(world.token(), address)

    return send


@scenario("sock_recvfrom")
def receive_from(world):
    ours, theirs = world.datagrams()
    their_address = theirs.getsockname()
    send = sender(world, theirs, ours.getsockname())

    async def play():
        world.loop.call_soon(world.loop.call_soon, send)
        data, address = await world.loop.sock_recvfrom(ours, 1000)
        assert (data, address) == (world.token(), their_address)

    return play


@scenario("sock_recvfrom_into")
def receive_from_into(world):
    ours, theirs = world.datagrams()
    buffer = bytearray(1000)
    their_address = theirs.getsockname()
    send = sender(world, theirs, ours.getsockname())

    async def play():
        world.loop.call_soon(world.loop.call_soon, send)
        count, address = await world.loop.sock_recvfrom_into(ours, buffer)
        assert buffer[:count] == world.token(), buffer[:count]
        assert address == their_address

    return play


@scenario("sock_sendall")
def send_everything(world):
    data = world.token() * (LARGE_BYTES // len(world.token()))
    ours, peer = world.pair(data, SMALL_BUFFER)

    async def play():
        sending = world.loop.create_task(world.loop.sock_sendall(ours, data))
        try:
            while not sending.done() or len(peer.data) < len(data):
                peer.look()
                if sending.done() and sending.exception() is not None:
                    break
                await asyncio.sleep(0)
            await sending
        finally:
            sending.cancel()

    return play


@scenario("sock_sendto")
def send_to(world):
    ours, theirs = world.datagrams()

    address = theirs.getsockname()

    async def play():
        await world.loop.sock_sendto(ours, world.token(), address)
        with world.aside():
            assert theirs.recv(1000) == world.token()

    return play


@contextlib.contextmanager
def ended(world, sock):
    """The user's part: what was accepted is closed."""
    try:
        yield
    finally:
        with world.aside():
            sock.close()


@scenario("sock_accept")
def accept(world):
    sock = world.listening()
    address = sock.getsockname()
    peers = []

    def call():
        peers.append(world.call(address, world.token()))

    async def play():
        world.loop.call_soon(call)
        conn, _ = await world.loop.sock_accept(sock)
        with ended(world, conn):
            assert conn.gettimeout() == 0
            await world.loop.sock_sendall(conn, world.token())
            await peers[0].reads(len(world.token()))

    return play


@scenario("sock_connect")
def connect_socket(world):
    sock = world.give(socket.socket())

    async def play():
        await world.loop.sock_connect(sock, world.stage.address)
        peer = await world.answer(world.token())
        await world.loop.sock_sendall(sock, world.token())
        await peer.reads(len(world.token()))

    return play


@scenario("sock_connect")
def connect_socket_by_name(world):
    sock = world.give(socket.socket())

    async def play():
        port = world.stage.address[1]
        await world.loop.sock_connect(sock, ("localhost", port))
        await world.answer()

    return play


@scenario("sock_connect")
def connect_socket_refused(world):
    sock = world.give(socket.socket())

    async def play():
        with contextlib.suppress(ConnectionRefusedError):
            await world.loop.sock_connect(sock, world.stage.refused)

    return play


@scenario("sock_connect")
def connect_socket_without_answer(world):
    sock = world.give(socket.socket())

    async def play():
        world.loop.call_later(0.002, asyncio.current_task().cancel)
        with contextlib.suppress(asyncio.CancelledError):
            await world.loop.sock_connect(sock, world.stage.silent)

    return play


async def send_file(world, sock, file, peer):
    sending = world.loop.create_task(world.loop.sock_sendfile(sock, file))
    try:
        while not sending.done() or len(peer.data) < FILE_BYTES:
            peer.look()
            if sending.done() and sending.exception() is not None:
                break
            await asyncio.sleep(0)
        assert await sending == FILE_BYTES
    finally:
        sending.cancel()


@scenario("sock_sendfile")
def send_file_by_kernel(world):
    ours, peer = world.pair(world.stage.content, SMALL_BUFFER)
    file = world.open_file()

    async def play():
        await send_file(world, ours, file, peer)

    return play


@scenario("sock_sendfile")
def send_file_by_blocks(world):
    ours, peer = world.pair(world.stage.content, SMALL_BUFFER)

    async def play():
        file = io.BytesIO(world.stage.content)
        await send_file(world, ours, file, peer)

    return play
