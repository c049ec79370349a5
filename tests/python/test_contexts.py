# SPDX-License-Identifier: MIT
"""contextvars: which context each kind of callback runs in."""

import asyncio
import contextvars
import functools
import socket

import pytest

from support.contexts import of_call
from support.loops import turn, turns
from support.net import connected, spin, tcp_pair
from support.protocols import Recorder

row = pytest.mark.row
variable = contextvars.ContextVar("variable", default="default")


@pytest.fixture(params=["call_soon", "call_later", "call_at", "threadsafe"])
def schedule(request, loop):
    return {
        "call_soon": loop.call_soon,
        "call_later": functools.partial(loop.call_later, 0),
        "call_at": functools.partial(loop.call_at, 0),
        "threadsafe": loop.call_soon_threadsafe,
    }[request.param]


def in_new_context(value, function, *args):
    """Call a function in a context of its own where variable has a value."""

    def inside():
        variable.set(value)
        return function(*args)

    return contextvars.copy_context().run(inside)


@row("P2A-001", "P2A-002", "P2A-003", "P2A-004")
def test_given_context(loop, schedule):
    seen = []
    context = contextvars.copy_context()
    context.run(variable.set, "given")

    def callback():
        seen.append(variable.get())
        variable.set("changed")

    schedule(callback, context=context)
    turns(loop, 2)
    assert seen == ["given"]
    assert context[variable] == "changed"
    assert variable.get() == "default"


@row("P2A-001", "P2A-002", "P2A-003", "P2A-004")
def test_context_at_registration_is_copied(loop, schedule):
    seen = []

    def register():
        schedule(lambda: (seen.append(variable.get()), variable.set("inner")))
        variable.set("after registration")

    in_new_context("at registration", register)
    turns(loop, 2)
    assert seen == ["at registration"]
    assert variable.get() == "default"


@row("P2A-001")
def test_context_none_means_a_copy(loop, schedule):
    seen = []
    in_new_context(
        "here",
        lambda: schedule(lambda: seen.append(variable.get()), context=None),
    )
    turns(loop, 2)
    assert seen == ["here"]


@row("P2A-001")
@pytest.mark.parametrize("wrong", [1, "x", object(), {}])
def test_context_of_a_wrong_type(loop, errors, schedule, wrong):
    """It shows at the latest when the callback is to run in it."""
    ran = []
    try:
        schedule(ran.append, 1, context=wrong)
    except TypeError:
        return
    turns(loop, 2)
    (context,) = errors
    errors.clear()
    assert isinstance(context["exception"], (TypeError, AttributeError))
    assert ran == []


@row("P2A-001")
def test_one_context_for_many_callbacks(loop):
    seen = []
    context = contextvars.copy_context()

    def callback(number):
        seen.append(variable.get())
        variable.set(number)

    for number in range(3):
        loop.call_soon(callback, number, context=context)
    turn(loop)
    assert seen == ["default", 0, 1]


def test_context_is_left_after_an_exception(loop, errors):
    context = contextvars.copy_context()
    loop.call_soon(lambda: 1 / 0, context=context)
    turn(loop)
    errors.clear()
    # A context that was left entered could not be entered again.
    assert context.run(variable.get) == "default"


@row("P2A-005")
@pytest.mark.parametrize("side", ["reader", "writer"])
def test_watchers_keep_the_context_of_their_registration(loop, side):
    left, right = socket.socketpair()
    seen = []

    def callback():
        seen.append(variable.get())
        variable.set(f"call {len(seen)}")
        if len(seen) == 3:
            loop.stop()

    with left, right:
        right.send(b"x")
        add = getattr(loop, f"add_{side}")
        in_new_context("registered", add, left, callback)
        loop.run_forever()
        getattr(loop, f"remove_{side}")(left)
    assert seen == ["registered", "call 1", "call 2"]


@row("P2B-002")
def test_task_context(loop):
    context = contextvars.copy_context()
    context.run(variable.set, "task's own")

    async def work():
        first = variable.get()
        await asyncio.sleep(0)
        variable.set("changed")
        return first

    task = loop.create_task(work(), context=context)
    assert loop.run_until_complete(task) == "task's own"
    assert context[variable] == "changed"


def test_future_callbacks_keep_their_context(loop):
    seen = []
    future = loop.create_future()

    def done(_):
        seen.append(variable.get())

    in_new_context("adder", future.add_done_callback, done)
    context = contextvars.copy_context()
    context.run(variable.set, "given")
    future.add_done_callback(done, context=context)
    future.set_result(None)
    turn(loop)
    assert seen == ["adder", "given"]


class ContextProtocol(asyncio.Protocol):
    """Notes the variable in each call, then sets it."""

    def __init__(self, log):
        self.log = log

    def note(self, where):
        self.log.append((where, variable.get()))
        variable.set(where)

    def connection_made(self, transport):
        self.transport = transport
        self.note("made")

    def data_received(self, data):
        self.note("data")

    def eof_received(self):
        self.note("eof")

    def connection_lost(self, exc):
        self.note("lost")


async def test_contexts_of_a_client_connection(loop):
    """connection_made and the reader get a copy of the creator's context."""
    log = []

    async def connect():
        variable.set("creator")
        ours, peer = tcp_pair()
        transport, protocol = await loop.create_connection(
            lambda: ContextProtocol(log), sock=ours
        )
        return peer

    peer = await asyncio.create_task(connect())
    with peer:
        for _ in range(2):
            peer.send(b"x")
            while log[-1][0] != "data" or len(log) < 2:
                await asyncio.sleep(0)
            count = len(log)
            peer.send(b"y")
            while len(log) == count:
                await asyncio.sleep(0)
            break
        peer.shutdown(socket.SHUT_WR)
        while log[-1][0] != "lost":
            await asyncio.sleep(0)
    assert log[0] == ("made", "creator")
    # Since 3.15 it is one context for all of them.
    assert log[1] == ("data", of_call("creator", "made"))
    # The reader runs in one and the same context each time.
    assert log[2] == ("data", "data")
    assert log[3] == ("eof", "data")
    # The loss is scheduled from within the end of file.
    assert log[4] == ("lost", "eof")


async def test_resume_reading_captures_the_context_anew(loop):
    log = []
    ours, peer = tcp_pair()
    transport, protocol = await loop.create_connection(
        lambda: ContextProtocol(log), sock=ours
    )
    await spin(2)
    transport.pause_reading()
    in_new_context("resumed", transport.resume_reading)
    peer.send(b"x")
    while log[-1][0] != "data":
        await asyncio.sleep(0)
    assert log[-1] == ("data", of_call("resumed", "made"))
    in_new_context("aborter", transport.abort)
    await spin(2)
    assert log[-1] == ("lost", of_call("aborter", "data"))
    peer.close()


async def test_connection_lost_runs_in_the_context_of_close(loop):
    log = []
    async with connected(loop, lambda: ContextProtocol(log)) as (
        transport,
        _,
        _,
    ):
        await spin()
        in_new_context("closer", transport.close)
        await spin(2)
    assert log[-1] == ("lost", of_call("closer", "made"))


async def test_accepted_connections_do_not_share_a_context(loop):
    log, protocols = [], []

    def factory():
        log.append(("factory", variable.get()))
        variable.set("set by a factory")
        protocols.append(ContextProtocol(log))
        return protocols[-1]

    async def serve():
        variable.set("server")
        return await loop.create_server(factory, "127.0.0.1", 0)

    server = await asyncio.create_task(serve())
    peers = []
    for _ in range(2):
        peer = socket.create_connection(server.sockets[0].getsockname(), 10)
        peers.append(peer)
        while len(protocols) < len(peers) or log[-1][0] != "made":
            await asyncio.sleep(0)
    for peer in peers:
        peer.close()
    while [where for where, _ in log].count("lost") < 2:
        await asyncio.sleep(0)
    server.close()
    await server.wait_closed()
    first = [entry for entry in log if entry[0] in ("factory", "made")]
    assert first == [
        ("factory", "server"),
        ("made", "set by a factory"),
        ("factory", "server"),
        ("made", "set by a factory"),
    ]


@row("P2A-005")
def test_signal_handlers_keep_their_context(loop):
    import os
    import signal

    seen = []

    def handler():
        seen.append(variable.get())
        variable.set(f"call {len(seen)}")
        loop.stop()

    in_new_context("signal", loop.add_signal_handler, signal.SIGUSR1, handler)
    for _ in range(2):
        loop.call_soon(os.kill, os.getpid(), signal.SIGUSR1)
        loop.run_forever()
    loop.remove_signal_handler(signal.SIGUSR1)
    assert seen == ["signal", "call 1"]


@pytest.mark.since(3, 12)
@row("P2A-051")
@pytest.mark.parametrize("key", ["task", "future", "handle"])
def test_exception_handler_runs_in_the_context_of_what_is_named(loop, key):
    """Of the first of these that has a context."""
    seen = []

    class Thing:
        def get_context(self):
            return context

    context = contextvars.copy_context()
    context.run(variable.set, "of the thing")
    loop.set_exception_handler(lambda *_: seen.append(variable.get()))
    loop.call_exception_handler({"message": "m", key: Thing()})
    loop.call_exception_handler({"message": "m", key: object()})
    assert seen == ["of the thing", "default"]


@pytest.mark.since(3, 12)
@row("P2A-051")
def test_exception_handler_runs_in_the_context_of_the_failure(loop):
    seen = []
    loop.set_exception_handler(lambda *_: seen.append(variable.get()))
    in_new_context("failing", loop.call_soon, lambda: 1 / 0)
    turn(loop)
    assert seen == ["failing"]


async def test_recorder_context_does_not_leak_into_the_caller(loop):
    async with connected(loop, Recorder):
        variable.set("mine")
        await spin(3)
        assert variable.get() == "mine"
