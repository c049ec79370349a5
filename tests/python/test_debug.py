# SPDX-License-Identifier: MIT
"""The debug API and everything that debug mode adds."""

import asyncio
import gc
import logging
import socket
import sys
import time
import warnings

import pytest

from support.leaks import join_all, spawn
from support.loops import make_loop, turn
from support.net import connected, peer_recv, served, spin, until
from support.procs import check, run_code
from support.protocols import Recorder

row = pytest.mark.row


@pytest.fixture
def debug(loop):
    loop.set_debug(True)
    yield loop
    if not loop.is_closed():
        loop.set_debug(False)


@pytest.fixture
def log(caplog):
    caplog.set_level(logging.DEBUG, logger="asyncio")
    return caplog


def messages(log, level):
    return [r.getMessage() for r in log.records if r.levelno == level]


@row("P1A-222", "P1A-224")
def test_get_and_set_debug(loop):
    assert loop.get_debug() is False
    loop.set_debug(True)
    assert loop.get_debug() is True
    loop.set_debug(False)
    assert loop.get_debug() is False


DEFAULT = """
    from support.loops import loop_from_environment
    loop = loop_from_environment()
    print(loop.get_debug())
    loop.close()
"""


@row("P1A-223", "P4B-001", "P2F-021")
@pytest.mark.one_poller
@pytest.mark.parametrize(
    "variables, options, expected",
    [
        ({}, (), "False"),
        ({"PYTHONASYNCIODEBUG": "1"}, (), "True"),
        ({"PYTHONASYNCIODEBUG": "0"}, (), "True"),
        ({"PYTHONASYNCIODEBUG": ""}, (), "False"),
        ({"PYTHONDEVMODE": "1"}, (), "True"),
        ({}, ("-X", "dev"), "True"),
    ],
)
def test_default_of_debug(backend, variables, options, expected):
    done = check(run_code(backend, DEFAULT, options=options, **variables))
    assert done.stdout.strip() == expected


@row("P1A-223", "P4B-001")
@pytest.mark.one_poller
def test_ignored_environment(backend):
    code = f"import sys; sys.path[:0] = {sys.path!r}\n" + "\n".join(
        line.strip() for line in DEFAULT.splitlines()
    )
    done = run_code(backend, code, options=("-E",), PYTHONASYNCIODEBUG="1")
    assert check(done).stdout.strip() == "False"


THREAD_TEXT = (
    "Non-thread-safe operation invoked on an event loop other than the"
    " current one"
)


@row("P1A-007", "P4B-002")
@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
    ],
    ids=["call_soon", "call_later", "call_at"],
)
def test_foreign_thread_is_refused(debug, call):
    caught = []

    def work():
        try:
            call(debug)
        except RuntimeError as exc:
            caught.append(str(exc))

    def callback():
        join_all([spawn(work)])
        debug.stop()

    debug.call_soon(callback)
    debug.run_forever()
    assert caught == [THREAD_TEXT]


@row("P1A-007", "P4B-002")
def test_what_a_foreign_thread_may_do(debug):
    done = []

    def work():
        debug.create_future()
        debug.time()
        debug.get_debug()
        debug.call_soon_threadsafe(done.append, "sent")
        debug.stop()
        done.append("all allowed")

    debug.call_soon(lambda: join_all([spawn(work)]))
    debug.call_later(5, debug.stop)
    debug.run_forever()
    turn(debug)
    assert sorted(done) == ["all allowed", "sent"]


@row("P4B-002")
def test_foreign_thread_without_debug_or_without_a_run(loop):
    ran = []
    join_all([spawn(loop.call_soon, ran.append, "not running")])
    loop.set_debug(True)
    join_all([spawn(loop.call_soon, ran.append, "debug, not running")])
    turn(loop)
    loop.set_debug(False)
    assert ran == ["not running", "debug, not running"]


async def coroutine_function():
    pass


CHECKED = [
    ("call_soon", "call_soon", lambda loop, f: loop.call_soon(f)),
    (
        "call_soon_threadsafe",
        "call_soon_threadsafe",
        lambda loop, f: loop.call_soon_threadsafe(f),
    ),
    ("call_at", "call_at", lambda loop, f: loop.call_at(1, f)),
    ("call_later", "call_at", lambda loop, f: loop.call_later(1, f)),
    (
        "run_in_executor",
        "run_in_executor",
        lambda loop, f: loop.run_in_executor(None, f),
    ),
]


@row("P4B-003", "P4B-004", "P4A-011")
@pytest.mark.parametrize("name, shown, call", CHECKED)
def test_coroutine_as_callback(debug, name, shown, call):
    text = rf"^coroutines cannot be used with {shown}\(\)$"
    with pytest.raises(TypeError, match=text):
        call(debug, coroutine_function)
    coroutine = coroutine_function()
    with pytest.raises(TypeError, match=text):
        call(debug, coroutine)
    coroutine.close()


@row("P4B-003", "P4B-004")
@pytest.mark.parametrize("name, shown, call", CHECKED)
def test_not_callable_as_callback(debug, name, shown, call):
    text = rf"^a callable object was expected by {shown}\(\), got 1$"
    with pytest.raises(TypeError, match=text):
        call(debug, 1)


@row("P4B-003")
def test_not_callable_without_debug(loop, errors):
    """The fault shows when the callback is called."""
    loop.call_soon(1)
    turn(loop)
    (context,) = errors
    errors.clear()
    assert type(context["exception"]) is TypeError


@row("P4B-005")
def test_slow_callback(debug, log):
    debug.slow_callback_duration = 0.01

    def slow(argument):
        time.sleep(0.02)

    debug.call_soon(slow, "argument")
    turn(debug)
    (text,) = messages(log, logging.WARNING)
    assert text.startswith(
        "Executing <Handle test_slow_callback.<locals>.slow"
    )
    assert "('argument')" in text
    assert " took 0.0" in text
    assert text.endswith(" seconds")


@row("P4B-005")
def test_slow_task_step_names_the_task(debug, log):
    debug.slow_callback_duration = 0.01

    async def slow():
        time.sleep(0.02)

    debug.run_until_complete(slow())
    (text,) = messages(log, logging.WARNING)
    assert text.startswith("Executing <Task ")
    assert "slow()" in text


@row("P4B-005")
async def test_slow_protocol_method(loop, log):
    class Slow(Recorder):
        def data_received(self, data):
            time.sleep(0.02)
            super().data_received(data)

    async with connected(loop, Slow) as (transport, protocol, peer):
        await spin(2)
        loop.set_debug(True)
        loop.slow_callback_duration = 0.01
        peer.send(b"x")
        await protocol.received(1)
        await spin()
        loop.slow_callback_duration = 10.0
        loop.set_debug(False)
    # On a busy machine something else may have been slow as well.
    texts = messages(log, logging.WARNING)
    (text,) = [text for text in texts if "Transport" in text]
    assert text.startswith("Executing <Handle ")
    assert " took 0." in text


@row("P4B-005")
def test_slow_reader(debug, log):
    left, right = socket.socketpair()
    debug.slow_callback_duration = 0.01

    def slow_reader():
        time.sleep(0.02)
        left.recv(10)

    with left, right:
        right.send(b"x")
        debug.add_reader(left, slow_reader)
        turn(debug)
        debug.remove_reader(left)
    (text,) = messages(log, logging.WARNING)
    assert "slow_reader" in text


@row("P4B-005")
def test_slow_callback_is_not_reported_without_debug(loop, log):
    loop.slow_callback_duration = 0.0
    loop.call_soon(int)
    turn(loop)
    assert messages(log, logging.WARNING) == []


@row("P4B-005", "P2A-049")
def test_slow_callback_duration(debug, log):
    assert debug.slow_callback_duration == 0.1
    debug.slow_callback_duration = 10.0
    debug.call_soon(time.sleep, 0.02)
    turn(debug)
    assert messages(log, logging.WARNING) == []
    # Inclusive: nothing is quicker than no time at all.
    debug.slow_callback_duration = 0.0
    debug.call_soon(int)
    turn(debug)
    assert len(messages(log, logging.WARNING)) >= 1


@row("P4B-006")
def test_slow_callback_that_cancels_itself_keeps_its_name(debug, log):
    debug.slow_callback_duration = 0.01
    handles = []

    def cancels_itself():
        handles[0].cancel()
        time.sleep(0.02)

    handles.append(debug.call_soon(cancels_itself))
    turn(debug)
    (text,) = messages(log, logging.WARNING)
    assert "cancels_itself" in text


@row("P4B-007", "P4B-008")
def test_failing_callback_has_its_origin(debug, errors):
    def fail():
        raise ValueError

    def origin():
        debug.call_soon(fail)
        debug.call_later(0, fail)
        debug.call_soon_threadsafe(fail)

    origin()
    turn(debug)
    assert len(errors) == 3
    for context in errors:
        last = context["source_traceback"][-1]
        assert (last.filename, last.name) == (__file__, "origin")
    errors.clear()


@row("P4B-008")
def test_without_debug_there_is_no_origin(loop, errors):
    loop.call_soon(lambda: 1 / 0)
    turn(loop)
    assert "source_traceback" not in errors.pop()


@row("P4B-008", "P4B-009")
def test_default_handler_in_debug_mode(debug, log):
    debug.set_exception_handler(None)

    def fail():
        raise ValueError

    def origin():
        debug.call_soon(fail)

    origin()
    turn(debug)
    (text,) = messages(log, logging.ERROR)
    assert "Object created at (most recent call last):" in text
    assert "in origin" in text


@row("P4B-008")
def test_handle_traceback_shows_where_the_callback_came_from(debug, log):
    """What is reported from inside a callback shows that callback's origin."""
    debug.set_exception_handler(None)

    def inside():
        debug.call_exception_handler({"message": "from inside"})

    def origin():
        debug.call_soon(inside)

    origin()
    turn(debug)
    (text,) = messages(log, logging.ERROR)
    assert text.startswith(
        "from inside\nhandle_traceback: Handle created at (most recent call"
    )
    assert "in origin" in text


def test_tasks_and_futures_have_their_origin(debug):
    future = debug.create_future()
    # CPython leaves its own create_future() as the last frame.
    ours = [f for f in future._source_traceback[-2:] if f.filename == __file__]
    assert ours[-1].name == "test_tasks_and_futures_have_their_origin"
    task = debug.create_task(asyncio.sleep(0))
    last = task._source_traceback[-1]
    assert last.name == "test_tasks_and_futures_have_their_origin"
    debug.run_until_complete(task)


@row("P4B-017", "P1A-224")
def test_coroutine_origin_tracking(loop):
    seen = []

    async def inside():
        seen.append(sys.get_coroutine_origin_tracking_depth())
        loop.set_debug(True)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        seen.append(sys.get_coroutine_origin_tracking_depth())
        loop.set_debug(False)
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        seen.append(sys.get_coroutine_origin_tracking_depth())

    before = sys.get_coroutine_origin_tracking_depth()
    loop.run_until_complete(inside())
    assert seen[0] == before
    assert seen[1] > 0
    assert seen[2] == before
    assert sys.get_coroutine_origin_tracking_depth() == before


@row("P4B-017")
def test_coroutine_origin_tracking_is_restored_after_the_run(debug):
    before = sys.get_coroutine_origin_tracking_depth()

    async def inside():
        return sys.get_coroutine_origin_tracking_depth()

    assert debug.run_until_complete(inside()) > 0
    assert sys.get_coroutine_origin_tracking_depth() == before


def test_unawaited_coroutine_tells_where_it_was_made(debug):
    async def inside():
        coroutine_function()
        gc.collect()

    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        debug.run_until_complete(inside())
    (text,) = [str(w.message) for w in caught]
    assert "was never awaited" in text
    assert "Coroutine created at" in text


@row("P1A-155", "P1A-162", "P1A-165", "P1A-172", "P4B-018")
@pytest.mark.parametrize(
    "call",
    [
        lambda loop, sock: loop.sock_recv(sock, 1),
        lambda loop, sock: loop.sock_recv_into(sock, bytearray(1)),
        lambda loop, sock: loop.sock_recvfrom(sock, 1),
        lambda loop, sock: loop.sock_recvfrom_into(sock, bytearray(1)),
        lambda loop, sock: loop.sock_sendall(sock, b"x"),
        lambda loop, sock: loop.sock_sendto(sock, b"x", ("127.0.0.1", 1)),
        lambda loop, sock: loop.sock_connect(sock, ("127.0.0.1", 1)),
        lambda loop, sock: loop.sock_accept(sock),
    ],
    ids=[
        "recv",
        "recv_into",
        "recvfrom",
        "recvfrom_into",
        "sendall",
        "sendto",
        "connect",
        "accept",
    ],
)
def test_blocking_sockets_are_refused_in_debug_mode(debug, call):
    with socket.socket() as sock:
        with pytest.raises(
            ValueError, match="^the socket must be non-blocking$"
        ):
            debug.run_until_complete(call(debug, sock))


@row("P1A-141")
async def test_connect_accepted_socket_in_debug_mode(loop):
    loop.set_debug(True)
    async with connected(loop, Recorder) as (transport, protocol, peer):
        peer.send(b"hello")
        assert await protocol.received(5) == b"hello"
        transport.write(b"world")
        assert await peer_recv(peer) == b"world"
    loop.set_debug(False)


@row("P4B-019")
async def test_debug_log_of_a_connection(loop, log):
    loop.set_debug(True)
    async with connected(loop, Recorder) as (transport, protocol, peer):
        texts = messages(log, logging.DEBUG)
        assert any(" connected to None:None: " in text for text in texts)
        transport.pause_reading()
        transport.resume_reading()
        texts = messages(log, logging.DEBUG)
        assert any(text.endswith("pauses reading") for text in texts)
        assert any(text.endswith("resumes reading") for text in texts)
        peer.shutdown(socket.SHUT_WR)
        await protocol.lost
        texts = messages(log, logging.DEBUG)
        assert any(text.endswith("received EOF") for text in texts)
    loop.set_debug(False)


@row("P4B-019")
async def test_debug_log_of_a_server(loop, log):
    loop.set_debug(True)
    server = await loop.create_server(Recorder, "127.0.0.1", 0)
    server.close()
    await server.wait_closed()
    texts = messages(log, logging.INFO)
    assert any(text.endswith(" is serving") for text in texts)
    loop.set_debug(False)


@row("P4B-019")
def test_debug_log_of_close(debug, log):
    debug.close()
    texts = messages(log, logging.DEBUG)
    assert any(text.startswith("Close <") for text in texts)


@row("P4E-027")
async def test_connection_errors_are_logged_only_in_debug_mode(loop, log):
    from support.net import reset

    loop.set_debug(True)
    async with connected(loop, Recorder) as (transport, protocol, peer):
        reset(peer)
        exc = await protocol.lost
        assert isinstance(exc, ConnectionResetError)
    texts = messages(log, logging.DEBUG)
    assert any("Fatal read error on socket transport" in t for t in texts)
    loop.set_debug(False)


@row("P4D-016")
@pytest.mark.parametrize("debugging", [False, True])
async def test_failing_factory_of_a_server(loop, errors, debugging):
    called = []

    def factory():
        called.append(1)
        raise ValueError("no protocol")

    loop.set_debug(debugging)
    with warnings.catch_warnings():
        # CPython leaves the accepted socket to the garbage collector.
        warnings.simplefilter("ignore", ResourceWarning)
        server = await loop.create_server(factory, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        with socket.create_connection(address, 10):
            await until(lambda: called)
            await spin(2)
        loop.set_debug(False)
        server.close()
        await server.wait_closed()
        if debugging:
            context = errors.pop()
            assert context["message"] == (
                "Error on transport creation for incoming connection"
            )
            assert type(context["exception"]) is ValueError
            del context
        gc.collect()
    assert errors == []


@pytest.mark.becket_only("CPython leaves the socket to the collector")
async def test_failing_factory_closes_the_connection_at_once(loop):
    def factory():
        raise ValueError("no protocol")

    async with served(loop, factory) as (server, address):
        with socket.create_connection(address, 10) as peer:
            peer.setblocking(False)
            assert await loop.sock_recv(peer, 1) == b""


def test_debug_mode_does_not_keep_handles_alive(debug):
    import weakref

    handle = debug.call_soon(int)
    alive = weakref.ref(handle)
    turn(debug)
    del handle
    gc.collect()
    assert alive() is None


@row("P4B-007")
def test_an_origin_is_not_longer_than_ten_frames(debug, errors):
    def fail():
        raise ValueError

    def deep(depth):
        if depth:
            deep(depth - 1)
        else:
            debug.call_soon(fail)

    deep(50)
    turn(debug)
    frames = errors.pop()["source_traceback"]
    assert 8 <= len(frames) <= 10
    assert {frame.name for frame in frames} == {"deep"}


@row("P4B-019")
def test_debug_log_of_a_new_loop(backend, log):
    make_loop(backend).close()
    texts = messages(log, logging.DEBUG)
    assert any(text.startswith("Using selector: ") for text in texts)


@row("P2F-012")
@pytest.mark.becket_only("which Python it runs on is pretended")
@pytest.mark.parametrize("name, shown, call", CHECKED)
def test_checks_do_not_need_asyncios_function(
    debug, monkeypatch, name, shown, call
):
    """It is deprecated from 3.14 on, and gone in 3.16."""
    from becket import versions

    monkeypatch.setattr(versions, "DEPRECATES_ISCOROUTINEFUNCTION", True)
    monkeypatch.delattr(asyncio, "iscoroutinefunction")
    monkeypatch.delattr(asyncio.coroutines, "iscoroutinefunction")
    with pytest.raises(TypeError, match="^coroutines cannot be used with "):
        call(debug, coroutine_function)
    made = call(debug, int)
    if asyncio.isfuture(made):
        debug.run_until_complete(made)
    else:
        made.cancel()
