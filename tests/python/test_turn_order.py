# SPDX-License-Identifier: MIT
"""The order of one turn: ready work, then I/O, then timers."""

import asyncio
import socket
import threading

import pytest

from support.leaks import join_all, spawn
from support.loops import turn, turns
from support.net import tcp_pair
from support.protocols import Recorder

row = pytest.mark.row


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


@row("P4A-001", "P1A-009")
def test_ready_then_io_then_timers(loop, pair):
    left, right = pair
    ran = []

    def reader():
        ran.append("io")
        left.recv(10)

    right.send(b"x")
    loop.call_later(0, ran.append, "timer")
    loop.add_reader(left, reader)
    loop.call_soon(ran.append, "ready 1")
    loop.call_soon(ran.append, "ready 2")
    turn(loop)
    loop.remove_reader(left)
    assert ran == ["ready 1", "ready 2", "io", "timer"]


@row("P4A-001")
def test_timers_of_one_turn_run_by_due_time(loop):
    ran = []
    now = loop.time()
    for offset in (3, 1, 2):
        loop.call_at(now + offset * 1e-6, ran.append, offset)
    while loop.time() < now + 1e-3:
        pass
    turn(loop)
    assert ran == [1, 2, 3]


@row("P4A-002", "P4A-003")
def test_call_soon_chains_do_not_starve_io(loop, pair):
    left, right = pair
    count = 0

    def again():
        nonlocal count
        count += 1
        if count < 10000:
            loop.call_soon(again)

    def reader():
        loop.remove_reader(left)
        loop.stop()

    loop.add_reader(left, reader)
    right.send(b"x")
    loop.call_soon(again)
    loop.run_forever()
    assert count <= 3
    count = 10000
    turns(loop, 2)


@row("P4A-002")
def test_call_soon_chains_do_not_starve_timers(loop):
    count = 0

    def again():
        nonlocal count
        count += 1
        if count < 10_000_000:
            loop.call_soon(again)

    loop.call_later(0.02, loop.stop)
    loop.call_soon(again)
    loop.run_forever()
    assert count < 10_000_000
    count = 10_000_000
    turns(loop, 2)


@row("P4A-002")
def test_a_due_timer_with_zero_delay_does_not_run_in_its_own_turn(loop):
    ran = []
    loop.call_soon(lambda: loop.call_later(0, ran.append, "timer"))
    turn(loop)
    assert ran == []
    turn(loop)
    assert ran == ["timer"]


async def test_send_then_sleep_zero_sees_its_io(loop, pair):
    left, right = pair
    ran = []
    loop.add_reader(left, lambda: (ran.append("io"), left.recv(1)))
    right.send(b"x")
    await asyncio.sleep(0)
    # The poll of this turn found it, but this step came before it.
    await asyncio.sleep(0)
    assert ran == ["io"]
    loop.remove_reader(left)


@row("P1A-038")
def test_what_a_thread_sent_earlier_runs_earlier(loop):
    ran = []

    def callback():
        loop.call_soon(ran.append, "before")
        thread = spawn(loop.call_soon_threadsafe, ran.append, "thread")
        join_all([thread])
        loop.call_soon(ran.append, "after")

    loop.call_soon(callback)
    turns(loop, 2)
    assert ran == ["before", "thread", "after"]


@row("P1A-038")
def test_threadsafe_work_sent_while_asleep_comes_before_the_io(loop, pair):
    left, right = pair
    ran = []

    def reader():
        ran.append("io")
        left.recv(10)
        loop.remove_reader(left)
        loop.stop()

    def work():
        loop.call_soon_threadsafe(ran.append, "sent")

    loop.add_reader(left, reader)

    def both():
        # Sent from another thread before the data is there.
        join_all([spawn(work)])
        right.send(b"x")

    loop.call_soon(both)
    loop.run_forever()
    assert ran == ["sent", "io"]


@row("P4D-005")
def test_reader_removed_by_an_earlier_callback_of_the_turn(loop, pair):
    left, right = pair
    ran = []
    # The order in which a poller reports two descriptors is its own affair,
    # so each removes the other: exactly one of them may run.
    other_left, other_right = socket.socketpair()
    with other_left, other_right:

        def first():
            ran.append("first")
            assert loop.remove_reader(other_left)

        def second():
            ran.append("second")
            assert loop.remove_reader(left)

        loop.add_reader(left, first)
        loop.add_reader(other_left, second)
        right.send(b"x")
        other_right.send(b"x")
        turn(loop)
        assert len(ran) == 1
        loop.remove_reader(left)
        loop.remove_reader(other_left)


async def test_stream_closed_by_an_earlier_callback_is_not_dispatched(loop):
    class Rival(Recorder):
        rival = None

        def data_received(self, data):
            super().data_received(data)
            self.rival.transport.abort()

    peers, protocols = [], []
    for _ in range(2):
        ours, peer = tcp_pair()
        peers.append(peer)
        _, protocol = await loop.create_connection(Rival, sock=ours)
        protocols.append(protocol)
    one, two = protocols
    one.rival, two.rival = two, one
    await asyncio.sleep(0)
    for peer in peers:
        peer.send(b"data")
    await asyncio.wait(
        [one.lost, two.lost], return_when=asyncio.FIRST_COMPLETED
    )
    await asyncio.sleep(0.01)
    served = [p for p in protocols if "data_received" in p.calls]
    assert len(served) == 1
    served[0].transport.abort()
    await asyncio.gather(one.lost, two.lost)
    for peer in peers:
        peer.close()


async def test_stream_paused_by_an_earlier_callback_is_not_dispatched(loop):
    class Rival(Recorder):
        rival = None

        def data_received(self, data):
            super().data_received(data)
            self.rival.transport.pause_reading()

    peers, protocols = [], []
    for _ in range(2):
        ours, peer = tcp_pair()
        peers.append(peer)
        _, protocol = await loop.create_connection(Rival, sock=ours)
        protocols.append(protocol)
    one, two = protocols
    one.rival, two.rival = two, one
    await asyncio.sleep(0)
    for peer in peers:
        peer.send(b"data")
    while not (one.data or two.data):
        await asyncio.sleep(0)
    await asyncio.sleep(0.01)
    first, second = (one, two) if one.data else (two, one)
    assert second.data == b""
    second.transport.resume_reading()
    assert await second.received(4) == b"data"
    for protocol in protocols:
        protocol.transport.abort()
        await protocol.lost
    await asyncio.sleep(0)
    for peer in peers:
        peer.close()


def test_stop_in_io_callback_still_runs_due_timers(loop, pair):
    left, right = pair
    ran = []

    def reader():
        ran.append("io")
        left.recv(1)
        loop.stop()

    right.send(b"x")
    loop.add_reader(left, reader)
    loop.call_later(0, ran.append, "timer")
    loop.run_forever()
    loop.remove_reader(left)
    assert ran == ["io", "timer"]


@row("P4A-023")
def test_rest_of_the_batch_runs_before_newer_work_after_an_exit(loop):
    ran = []

    def leave():
        loop.call_soon(ran.append, "newer")
        raise KeyboardInterrupt

    loop.call_soon(leave)
    loop.call_soon(ran.append, "rest")
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert ran == []
    turn(loop)
    assert ran == ["rest", "newer"]


def test_two_threads_feed_one_loop_in_order(loop):
    got = {0: [], 1: []}
    total = 2000
    ready = threading.Barrier(3)

    def feed(who):
        ready.wait(10)
        for number in range(total):
            loop.call_soon_threadsafe(got[who].append, number)
        loop.call_soon_threadsafe(done, who)

    finished = []

    def done(who):
        finished.append(who)
        if len(finished) == 2:
            loop.stop()

    threads = [spawn(feed, who) for who in (0, 1)]
    loop.call_soon(ready.wait, 10)
    loop.run_forever()
    join_all(threads)
    assert got == {0: list(range(total)), 1: list(range(total))}
