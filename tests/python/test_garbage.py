# SPDX-License-Identifier: MIT
"""What is left to the garbage collector: warnings, no leaks, no crashes."""

import asyncio
import gc
import socket
import warnings
import weakref

import pytest

from support.ends import play_ends
from support.leaks import open_fds
from support.loops import make_loop, turn, turns
from support.net import spin, tcp_pair
from support.protocols import Recorder

row = pytest.mark.row


@row("P4A-030")
def test_unclosed_loop(backend):
    before = open_fds()
    loop = make_loop(backend)
    text = f"unclosed event loop {loop!r}"
    assert "running=False closed=False debug=False" in text
    with pytest.warns(ResourceWarning) as caught:
        del loop
        gc.collect()
    texts = [str(warning.message) for warning in caught]
    assert texts.count(text) == 1
    # It closed itself.
    assert set(open_fds()) == set(before)


@row("P4A-030")
def test_closed_loop_does_not_warn(backend):
    loop = make_loop(backend)
    loop.close()
    alive = weakref.ref(loop)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        del loop
        gc.collect()
    assert alive() is None


def test_unclosed_loop_with_everything(backend):
    """Handles, timers, watchers and a transport go with it."""
    left, right = socket.socketpair()
    ours, peer = tcp_pair()
    loop = make_loop(backend)
    loop.set_exception_handler(lambda *_: None)

    async def connect(loop):
        return await loop.create_connection(asyncio.Protocol, sock=ours)

    made = loop.run_until_complete(connect(loop))
    loop.call_soon(print)
    loop.call_later(100, print)
    loop.call_soon_threadsafe(print)
    loop.add_reader(left, print)
    alive = weakref.ref(loop)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        del loop, made
        gc.collect()
    texts = sorted(str(warning.message)[:20] for warning in caught)
    # The warnings name the loop and the transport, and so hold them.
    del caught
    gc.collect()
    assert alive() is None
    assert "unclosed event loop " in texts
    assert "unclosed transport <" in texts
    for sock in (left, right, ours, peer):
        sock.close()


def test_running_loop_in_a_cycle(backend):
    loop = make_loop(backend)
    loop.me = loop
    loop.call_soon(loop.stop)
    loop.run_forever()
    loop.close()
    alive = weakref.ref(loop)
    del loop
    gc.collect()
    assert alive() is None


@row("P4E-030")
def test_unclosed_transport(loop, run_main):
    ours, peer = tcp_pair()

    async def connect():
        made = await loop.create_connection(asyncio.Protocol, sock=ours)
        await spin(2)
        return made

    transport, protocol = run_main(connect())
    transport.pause_reading()
    # becket lets go of what no longer reads when it next looks.
    turn(loop)
    text = f"unclosed transport {transport!r}"
    with pytest.warns(ResourceWarning) as caught:
        del transport, protocol
        gc.collect()
    assert str(caught[0].message) == text
    assert caught[0].source is not None
    del caught
    gc.collect()
    # Its socket is closed.
    assert ours.fileno() == -1
    assert peer.recv(1) == b""
    peer.close()
    turns(loop, 2)


@row("P4E-030", "P2D-011")
@pytest.mark.since(3, 13)
def test_unclosed_transport_of_a_server(loop, run_main):
    """An abandoned client is collected and leaves the server's count."""
    protocols = []

    class Forgetful(asyncio.Protocol):
        def connection_made(self, transport):
            transport.pause_reading()
            protocols.append(weakref.ref(transport))

    async def serve():
        server = await loop.create_server(Forgetful, "127.0.0.1", 0)
        peer = socket.create_connection(server.sockets[0].getsockname(), 10)
        while not protocols:
            await asyncio.sleep(0)
        await spin(3)
        return server, peer

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        # CPython's transports are collected, becket's may go at once.
        server, peer = run_main(serve())
        gc.collect()
        turns(loop, 2)
        gc.collect()
    texts = [str(warning.message) for warning in caught]
    assert any(text.startswith("unclosed transport ") for text in texts)
    caught.clear()  # each warning refers to what it is about
    assert protocols[0]() is None
    server.close()
    run_main(server.wait_closed())
    assert peer.recv(1) == b""
    peer.close()


def test_open_transport_is_not_collected(loop, run_main):
    """While it reads, the loop keeps it."""
    got = []

    class Keeping(asyncio.Protocol):
        def data_received(self, data):
            got.append(data)

        def connection_lost(self, exc):
            got.append("lost")

    async def connect():
        ours, peer = tcp_pair()
        await loop.create_connection(Keeping, sock=ours)
        return peer

    peer = run_main(connect())
    gc.collect()
    peer.send(b"x")
    turns(loop, 3)
    assert got == [b"x"]
    peer.close()
    turns(loop, 3)
    assert got == [b"x", "lost"]


def test_transport_with_data_to_write_is_not_collected(loop, run_main):
    from support.net import recv_all, small_pair

    async def connect():
        ours, peer = small_pair()
        transport, _ = await loop.create_connection(
            asyncio.Protocol, sock=ours
        )
        transport.write(bytes(1 << 20))
        transport.close()
        return peer

    async def read(peer):
        return await asyncio.to_thread(recv_all, peer)

    peer = run_main(connect())
    gc.collect()
    assert len(run_main(read(peer))) == 1 << 20
    peer.close()


def test_cancelled_handles_release_at_once(loop):
    class Marker:
        pass

    markers = [Marker() for _ in range(100)]
    alive = [weakref.ref(marker) for marker in markers]
    handles = [loop.call_later(3600, print, marker) for marker in markers]
    markers.clear()
    for handle in handles:
        handle.cancel()
    gc.collect()
    assert [r() for r in alive if r() is not None] == []


def test_reference_counts_of_callbacks_are_balanced(loop):
    import sys

    def callback(*args):
        pass

    argument = object()
    before = sys.getrefcount(callback), sys.getrefcount(argument)
    for _ in range(100):
        loop.call_soon(callback, argument)
        loop.call_later(0, callback, argument, argument)
        loop.call_soon_threadsafe(callback, *[argument] * 5)
        loop.call_soon(callback, argument).cancel()
    turns(loop, 3)
    gc.collect()
    assert (sys.getrefcount(callback), sys.getrefcount(argument)) == before


def test_reference_counts_of_data_are_balanced(loop, run_main):
    import sys

    data = bytes(1000)

    async def exchange():
        ours, peer = tcp_pair()
        transport, protocol = await loop.create_connection(Recorder, sock=ours)
        for _ in range(50):
            transport.write(data)
            transport.writelines([data, data])
            await asyncio.sleep(0)
        transport.abort()
        await protocol.lost
        await spin()
        peer.close()

    run_main(exchange())
    gc.collect()
    before = sys.getrefcount(data)
    run_main(exchange())
    gc.collect()
    assert sys.getrefcount(data) == before


def test_contexts_are_released(loop):
    import contextvars

    class Marker:
        pass

    variable = contextvars.ContextVar("variable")
    context = contextvars.copy_context()
    marker = Marker()
    alive = weakref.ref(marker)
    context.run(variable.set, marker)
    loop.call_soon(int, context=context)
    loop.call_later(0, int, context=context)
    turns(loop, 2)
    del marker, context
    gc.collect()
    assert alive() is None


def test_collection_during_callbacks(loop, run_main):
    """The collector may run at any allocation: force it to run at all."""
    gc.set_threshold(1)
    try:

        async def work():
            ours, peer = tcp_pair()
            transport, protocol = await loop.create_connection(
                Recorder, sock=ours
            )
            peer.send(b"x" * 1000)
            await protocol.received(1000)
            transport.write(b"y" * 1000)
            loop.call_later(0, int)
            loop.call_soon_threadsafe(int)
            await asyncio.sleep(0.001)
            transport.close()
            await protocol.lost
            await spin()
            peer.close()

        run_main(work())
    finally:
        gc.set_threshold(700, 10, 10)


@pytest.mark.becket_only("about objects of becket's own")
def test_what_is_watched_may_be_held_by_others(backend):
    """By a debugger, or by the collector itself: after the loop has died."""
    left, right = socket.socketpair()
    loop = make_loop(backend)
    loop.add_reader(left, print)
    held = [one for one in gc.get_objects() if type(one).__name__ == "Watch"]
    assert held
    loop.remove_reader(left)
    loop.close()
    del loop
    gc.collect()
    held.clear()
    left.close()
    right.close()


@pytest.mark.one_poller
def test_a_dead_loops_handles_may_live_on(backend):
    loop = make_loop(backend)
    handles = [
        loop.call_soon(print),
        loop.call_later(1, print),
        loop.call_soon_threadsafe(print),
    ]
    loop.close()
    del loop
    gc.collect()
    for handle in handles:
        repr(handle)
        handle.cancel()
        assert handle.cancelled()
    handles.clear()
    gc.collect()


def test_futures_and_tasks_of_a_closed_loop(loop):
    future = loop.create_future()
    task = loop.create_task(asyncio.sleep(0))
    loop.run_until_complete(task)
    loop.close()
    future.set_result(1)
    with pytest.raises(RuntimeError, match="Event loop is closed"):
        future.add_done_callback(print)


@row("P4A-030")
@pytest.mark.timeout(300)
def test_every_state(backend, request):
    """The table of isolated/ends.py, all of it with --full."""
    play_ends(backend, "garbage", request.config.getoption("--full"))


class Holder:
    """Holds the handle of a call of its own method, which holds it."""

    def __init__(self, loop, schedule):
        self.calls = 0
        self.handle = schedule(loop, self.call)

    def call(self):
        self.calls += 1


def soon(loop, callback):
    return loop.call_soon(callback)


def threadsafe(loop, callback):
    return loop.call_soon_threadsafe(callback)


def later(loop, callback):
    return loop.call_later(0, callback)


SCHEDULES = pytest.mark.parametrize("schedule", [soon, threadsafe, later])


@SCHEDULES
@pytest.mark.parametrize("is_cancelled", [False, True])
def test_handles_in_cycles_are_collected(
    loop, run_main, schedule, is_cancelled
):
    async def main():
        holder = Holder(loop, schedule)
        await asyncio.sleep(0)
        if is_cancelled:
            holder.handle.cancel()
        gc.collect()  # nothing of it is garbage
        await asyncio.sleep(0.001)
        assert holder.calls == (schedule is not later or not is_cancelled)
        return weakref.ref(holder)

    alive = run_main(main())
    gc.collect()
    assert alive() is None


def leave_queued(loop, schedule):
    """In the queue of a loop that has run; a weak reference to its holder."""
    alive = []

    def stop():
        holder = Holder(loop, schedule)
        holder.loop = loop
        alive.append(weakref.ref(holder))
        loop.stop()

    loop.call_soon(stop)
    loop.run_forever()
    return alive[0]


@SCHEDULES
def test_handles_of_an_unclosed_loop_are_collected(backend, schedule):
    """They were queued while it ran, and it has stopped before their turn."""
    loop = make_loop(backend)
    alive = leave_queued(loop, schedule)
    gc.collect()
    assert alive() is not None
    with pytest.warns(ResourceWarning, match="unclosed event loop"):
        del loop
        gc.collect()
    assert alive() is None


def test_many_handles_do_not_bring_the_collector(loop, run_main):
    async def main():
        gc.collect()
        before = gc.get_stats()[0]["collections"]
        handles = [loop.call_soon(int) for _ in range(5000)]
        await asyncio.sleep(0)
        assert not any(handle.cancelled() for handle in handles)
        return gc.get_stats()[0]["collections"] - before

    assert run_main(main()) <= 20
