# SPDX-License-Identifier: MIT
"""One sock_recv() after the other, while the fd changes hands.

becket keeps an fd registered between two of them. Nobody may be able to tell.
"""

import asyncio
import os

import pytest

from support.net import peer_recv, spin, tcp_pair

IDLE = 0.05  # seconds in which a loop that has nothing to do does nothing


@pytest.fixture
def pair():
    """A non-blocking TCP socket and its blocking peer."""
    ours, peer = tcp_pair()
    ours.setblocking(False)
    with ours, peer:
        yield ours, peer


async def receive(loop, sock, peer, data):
    """Wait for data that comes later."""
    waiting = loop.create_task(loop.sock_recv(sock, 100))
    await spin(2)
    peer.sendall(data)
    assert await waiting == data


async def test_many_receives(loop, pair):
    ours, peer = pair
    for number in range(100):
        await receive(loop, ours, peer, b"%d" % number)


async def test_data_between_receives(loop, pair):
    ours, peer = pair
    for number in range(10):
        await receive(loop, ours, peer, b"%d" % number)
        peer.sendall(b"meanwhile")
        await asyncio.sleep(0.001)
        assert await loop.sock_recv(ours, 100) == b"meanwhile"


async def test_end_between_receives(loop, pair):
    ours, peer = pair
    await receive(loop, ours, peer, b"last")
    peer.close()
    await asyncio.sleep(0.001)
    assert await loop.sock_recv(ours, 100) == b""


async def test_what_nobody_receives_keeps_no_loop_awake(loop, pair):
    ours, peer = pair
    await receive(loop, ours, peer, b"first")
    peer.sendall(b"for nobody")
    await asyncio.sleep(0.001)
    before = os.times()
    await asyncio.sleep(IDLE)
    after = os.times()
    assert after.user + after.system - before.user - before.system <= IDLE / 2
    assert await loop.sock_recv(ours, 100) == b"for nobody"


@pytest.mark.parametrize("is_busy", [False, True], ids=["sleeping", "busy"])
async def test_number_of_another_socket(loop, is_busy):
    """The socket is closed, and the next one gets its number."""
    number = None
    for _ in range(5):
        ours, peer = tcp_pair()
        ours.setblocking(False)
        with ours, peer:
            assert number in (None, ours.fileno())
            number = ours.fileno()
            task = asyncio.ensure_future(spin(1000)) if is_busy else None
            await receive(loop, ours, peer, b"one")
            await receive(loop, ours, peer, b"two")
            if task is not None:
                await task


@pytest.mark.parametrize("is_busy", [False, True], ids=["sleeping", "busy"])
async def test_other_file_under_the_same_number(loop, pair, is_busy):
    """Neither the socket object nor its number changes, only the file."""
    ours, peer = pair
    await receive(loop, ours, peer, b"of the first")
    others = tcp_pair()
    with others[0], others[1]:
        os.dup2(others[0].fileno(), ours.fileno(), inheritable=False)
        ours.setblocking(False)
        task = asyncio.ensure_future(spin(1000)) if is_busy else None
        await receive(loop, ours, others[1], b"of the second")
        if task is not None:
            await task


async def test_closed_while_a_copy_lives(loop, pair):
    """The kernel goes on to report what nobody asks for any more."""
    ours, peer = pair
    await receive(loop, ours, peer, b"first")
    with ours.dup() as copy:
        ours.close()
        peer.sendall(b"for the copy")
        await asyncio.sleep(0.001)
        assert await loop.sock_recv(copy, 100) == b"for the copy"
        await receive(loop, copy, peer, b"second")


async def test_reader_after_a_receive(loop, pair):
    ours, peer = pair
    await receive(loop, ours, peer, b"first")
    assert not loop.remove_reader(ours)
    ready = loop.create_future()

    def on_ready():
        loop.remove_reader(ours)
        ready.set_result(ours.recv(100))

    loop.add_reader(ours, on_ready)
    await spin(2)
    peer.sendall(b"second")
    assert await ready == b"second"
    await receive(loop, ours, peer, b"third")


async def test_writer_beside_receives(loop, pair):
    ours, peer = pair
    await receive(loop, ours, peer, b"first")
    written = loop.create_future()
    loop.add_writer(ours, lambda: written.done() or written.set_result(None))
    await receive(loop, ours, peer, b"second")
    await written
    assert loop.remove_writer(ours)
    await receive(loop, ours, peer, b"third")


async def test_transport_after_a_receive(loop, pair):
    """A transport takes the socket over."""
    ours, peer = pair
    await receive(loop, ours, peer, b"first")
    reader, writer = await asyncio.open_connection(sock=ours)
    peer.sendall(b"second")
    assert await reader.read(100) == b"second"
    writer.write(b"reply")
    assert await peer_recv(peer) == b"reply"
    writer.close()
    await writer.wait_closed()


async def test_cancelled_receives(loop, pair):
    """What comes after a cancel belongs to the next one."""
    ours, peer = pair
    for number in range(10):
        await receive(loop, ours, peer, b"%d" % number)
        waiting = loop.create_task(loop.sock_recv(ours, 100))
        await spin(2)
        waiting.cancel()
        peer.sendall(b"kept")
        with pytest.raises(asyncio.CancelledError):
            await waiting
        assert await loop.sock_recv(ours, 100) == b"kept"


async def test_socket_dies_between_receives(loop):
    """Nothing keeps the socket object alive."""
    ours, peer = tcp_pair()
    ours.setblocking(False)
    with peer:
        await receive(loop, ours, peer, b"data")
        with pytest.warns(ResourceWarning, match="unclosed"):
            del ours
        assert peer.recv(100) == b""
