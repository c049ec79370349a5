# SPDX-License-Identifier: MIT
"""run_forever, run_until_complete, stop, close, and what they refuse."""

import asyncio
import concurrent.futures
import gc
import selectors
import signal
import socket
import threading
import time
import weakref

import pytest

from support.leaks import join_all, spawn
from support.loops import PY313, loop_class, turn

row = pytest.mark.row


@row("P1A-006", "P1B-006")
def test_is_an_abstract_event_loop(loop):
    assert isinstance(loop, asyncio.AbstractEventLoop)


@row("P1A-005")
@pytest.mark.becket_only("CPython's loop is a BaseEventLoop")
def test_is_not_a_base_event_loop(loop):
    assert not isinstance(loop, asyncio.BaseEventLoop)
    asyncio.set_event_loop(loop)
    asyncio.set_event_loop(None)


@row("P1A-008")
def test_run_forever_returns_on_stop(loop):
    loop.call_soon(loop.stop)
    assert loop.run_forever() is None


@row("P1A-008")
def test_run_forever_goes_on_until_stop(loop):
    """Also with nothing left to do."""
    ran = []

    def again(count):
        ran.append(count)
        if count:
            loop.call_soon(again, count - 1)

    loop.call_soon(again, 20)
    guard = loop.call_later(10, loop.stop)
    thread = threading.Timer(0.05, loop.call_soon_threadsafe, [loop.stop])
    thread.start()
    started = time.monotonic()
    loop.run_forever()
    assert 0.03 < time.monotonic() - started < 5
    guard.cancel()
    join_all([thread])
    assert ran == list(range(20, -1, -1))


@row("P1A-009", "P4A-003", "P4A-015", "P1A-018")
def test_stop_before_run_makes_one_pass(loop):
    left, right = socket.socketpair()
    ran = []
    with left, right:
        right.send(b"x")
        loop.stop()
        loop.add_reader(left, lambda: ran.append("reader"))
        loop.call_soon(ran.append, "ready")
        loop.call_later(3600, ran.append, "timer")
        started = time.monotonic()
        loop.run_forever()
        assert time.monotonic() - started < 5
        loop.remove_reader(left)
    assert ran == ["ready", "reader"]


@row("P1A-010", "P1A-013", "P1A-019", "P4A-014")
def test_stop_finishes_the_batch(loop):
    ran = []
    loop.call_soon(loop.stop)
    loop.call_soon(ran.append, "b")
    loop.run_forever()
    assert ran == ["b"]


@row("P1A-011", "P1A-012")
def test_what_a_callback_schedules_after_stop_runs_next_time(loop):
    ran = []

    def stop_and_schedule():
        loop.stop()
        loop.call_soon(ran.append, "c")

    loop.call_soon(stop_and_schedule)
    loop.run_forever()
    assert ran == []
    turn(loop)
    assert ran == ["c"]


@row("P4A-015")
def test_stop_flag_is_cleared_when_the_run_ends(loop):
    loop.stop()
    loop.stop()
    loop.run_forever()
    ran = []
    loop.call_soon(lambda: loop.call_soon(ran.append, 1))
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert ran == [1]


@row("P1A-018")
def test_stop_returns_none(loop):
    assert loop.stop() is None
    loop.run_forever()


@row("P1A-018")
def test_stop_on_a_closed_loop_is_accepted(loop):
    loop.close()
    assert loop.stop() is None


@row("P1A-014", "P1A-016")
def test_run_until_complete_returns_the_result(loop):
    future = loop.create_future()
    loop.call_later(0.01, future.set_result, 42)
    assert loop.run_until_complete(future) == 42
    assert future.done()


@row("P1A-016")
def test_run_until_complete_raises_the_exception_itself(loop):
    error = ZeroDivisionError("exactly this")

    async def fail():
        raise error

    with pytest.raises(ZeroDivisionError) as caught:
        loop.run_until_complete(fail())
    assert caught.value is error


@row("P1A-015", "P1A-035")
def test_run_until_complete_takes_coroutines_and_awaitables(loop):
    async def task_loop():
        assert asyncio.get_running_loop() is loop
        return asyncio.current_task().get_loop()

    class Awaitable:
        def __await__(self):
            yield from asyncio.sleep(0).__await__()
            return "awaited"

    assert loop.run_until_complete(task_loop()) is loop
    assert loop.run_until_complete(Awaitable()) == "awaited"


@row("P1A-015")
@pytest.mark.parametrize("wrong", [None, 1, "text", object(), lambda: None])
def test_run_until_complete_refuses_other_things(loop, wrong):
    with pytest.raises(TypeError, match="asyncio.Future, a coroutine or an "):
        loop.run_until_complete(wrong)


@row("P1A-014")
def test_run_until_complete_stopped_early(loop):
    future = loop.create_future()
    loop.call_soon(loop.stop)
    with pytest.raises(
        RuntimeError, match=r"^Event loop stopped before Future completed\.$"
    ):
        loop.run_until_complete(future)
    # The callback that would have stopped the loop has been removed.
    future.set_result(None)
    ran = []
    loop.call_later(0.01, ran.append, 1)
    loop.call_later(0.02, loop.stop)
    loop.run_forever()
    assert ran == [1]


@row("P4A-016")
def test_run_until_complete_on_a_done_future_makes_a_pass(loop):
    future = loop.create_future()
    future.set_result("done")
    ran = []
    loop.call_soon(ran.append, 1)
    assert loop.run_until_complete(future) == "done"
    assert ran == [1]


def test_run_until_complete_of_a_future_of_another_loop(new_loop):
    ours, other = new_loop(), new_loop()
    future = other.create_future()
    with pytest.raises(ValueError, match="belongs to a different loop"):
        ours.run_until_complete(future)


@row("P4A-018", "P4A-019")
def test_run_until_complete_logs_nothing_for_its_own_failing_task(
    loop, errors
):
    async def fail():
        raise ValueError("seen by the caller")

    with pytest.raises(ValueError):
        loop.run_until_complete(fail())
    gc.collect()
    assert errors == []


@row("P4A-017", "P4A-018")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_run_until_complete_of_a_task_that_exits(loop, errors, kind):
    async def leave():
        raise kind()

    with pytest.raises(kind):
        loop.run_until_complete(leave())
    assert not loop.is_running()
    # The future holds such an exception, and does not stop the loop for it.
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"


@row("P1A-017", "P4A-022", "P4A-026")
def test_is_running_and_the_running_loop(loop):
    seen = []

    def look():
        seen.append((loop.is_running(), asyncio.get_running_loop() is loop))
        loop.stop()

    assert not loop.is_running()
    loop.call_soon(look)
    loop.run_forever()
    assert seen == [(True, True)]
    assert not loop.is_running()
    assert asyncio._get_running_loop() is None


@row("P4A-022", "P4A-023")
def test_running_loop_is_reset_after_an_exception(loop):
    def leave():
        raise SystemExit(3)

    loop.call_soon(leave)
    with pytest.raises(SystemExit):
        loop.run_forever()
    assert asyncio._get_running_loop() is None
    assert not loop.is_running()


@row("P4A-019")
def test_run_until_complete_leaves_a_pending_task_quietly(loop, errors):
    """A run that was stopped has said so; the task's end says nothing."""

    async def wait():
        loop.call_soon(loop.stop)
        await loop.create_future()

    with pytest.raises(RuntimeError, match="^Event loop stopped before"):
        loop.run_until_complete(wait())
    gc.collect()
    assert errors == []


@row("P4A-020")
def test_running_twice_is_refused(loop):
    async def nested():
        coroutine = asyncio.sleep(0)
        try:
            with pytest.raises(RuntimeError) as caught:
                loop.run_until_complete(coroutine)
        finally:
            coroutine.close()
        return str(caught.value)

    async def forever():
        with pytest.raises(RuntimeError) as caught:
            loop.run_forever()
        return str(caught.value)

    wanted = "This event loop is already running"
    assert loop.run_until_complete(nested()) == wanted
    assert loop.run_until_complete(forever()) == wanted


@row("P4A-020")
def test_running_another_loop_inside_is_refused(new_loop):
    outer, inner = new_loop(), new_loop()
    wanted = "Cannot run the event loop while another loop is running"

    async def nested():
        with pytest.raises(RuntimeError, match=wanted):
            inner.run_forever()

    outer.run_until_complete(nested())
    # The inner loop is as good as new.
    assert inner.run_until_complete(asyncio.sleep(0, 5)) == 5
    inner.close()

    async def closed():
        with pytest.raises(RuntimeError, match=CLOSED):
            inner.run_forever()

    outer.run_until_complete(closed())


@row("P4A-021")
@pytest.mark.oracle_skip(
    "3.13.0 resets the outer loop's state in the refused run", when=PY313
)
def test_a_refused_nested_run_leaves_the_outer_loop_alone(loop):
    async def nested():
        with pytest.raises(RuntimeError):
            loop.run_forever()
        assert loop.is_running()
        assert asyncio.get_running_loop() is loop
        await asyncio.sleep(0)
        assert loop.is_running()

    loop.run_until_complete(nested())


@row("P1A-020", "P1A-024")
def test_close_is_idempotent(loop):
    assert not loop.is_closed()
    assert loop.close() is None
    assert loop.is_closed()
    assert loop.close() is None


@row("P1A-021", "P4A-027")
def test_close_while_running_is_refused(loop):
    async def close():
        with pytest.raises(
            RuntimeError, match=r"^Cannot close a running event loop$"
        ):
            loop.close()

    loop.run_until_complete(close())
    assert not loop.is_closed()


@row("P1A-021")
def test_close_from_another_thread_while_running_is_refused(loop):
    caught = []

    def close():
        try:
            loop.close()
        except RuntimeError as exc:
            caught.append(str(exc))
        loop.call_soon_threadsafe(loop.stop)

    loop.call_soon(spawn, close)
    loop.run_forever()
    assert caught == ["Cannot close a running event loop"]


@row("P1A-022")
def test_close_drops_pending_callbacks(loop):
    class Marker:
        pass

    markers = [Marker() for _ in range(3)]
    alive = [weakref.ref(marker) for marker in markers]
    ran = []
    loop.call_soon(ran.append, markers[0])
    loop.call_later(0, ran.append, markers[1])
    loop.call_soon_threadsafe(ran.append, markers[2])
    loop.close()
    markers.clear()
    gc.collect()
    assert ran == []
    assert [reference() for reference in alive] == [None] * 3


CLOSED = "Event loop is closed"


@row("P4A-028")
def test_order_of_close(backend):
    """First the executor, then the selector, the signal handlers last."""
    order = []

    class Executor(concurrent.futures.ThreadPoolExecutor):
        def shutdown(self, wait=True, **kwargs):
            order.append(("executor", wait))
            super().shutdown(wait, **kwargs)

    class Selector(selectors.SelectSelector):
        def close(self):
            handler = signal.getsignal(signal.SIGUSR1)
            order.append(("selector", handler is signal.SIG_DFL))
            super().close()

    loop = loop_class(backend)(Selector())
    loop.set_default_executor(Executor(1))
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.close()
    assert order == [("executor", False), ("selector", False)]
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL


@row("P1A-025", "P4D-004", "P4A-031", "P1A-197")
@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.run_forever(),
        lambda loop: loop.call_soon(print),
        lambda loop: loop.call_later(1, print),
        lambda loop: loop.call_at(1, print),
        lambda loop: loop.call_soon_threadsafe(print),
        lambda loop: loop.run_in_executor(None, print),
        lambda loop: loop.add_reader(0, print),
        lambda loop: loop.add_writer(0, print),
        lambda loop: loop.add_signal_handler(10, print),
    ],
    ids=[
        "run_forever",
        "call_soon",
        "call_later",
        "call_at",
        "call_soon_threadsafe",
        "run_in_executor",
        "add_reader",
        "add_writer",
        "add_signal_handler",
    ],
)
def test_a_closed_loop_refuses(loop, call):
    loop.close()
    with pytest.raises(RuntimeError, match=f"^{CLOSED}$"):
        call(loop)


@row("P1A-025")
def test_a_closed_loop_refuses_coroutines(loop):
    loop.close()
    for call in (loop.run_until_complete, loop.create_task):
        coroutine = asyncio.sleep(0)
        with pytest.raises(RuntimeError, match=f"^{CLOSED}$"):
            call(coroutine)
        coroutine.close()


@row("P1A-025", "P4D-004")
def test_what_a_closed_loop_still_answers(loop):
    loop.close()
    assert isinstance(loop.time(), float)
    assert isinstance(loop.create_future(), asyncio.Future)
    assert loop.get_debug() in (True, False)
    loop.set_debug(False)
    assert loop.is_running() is False
    assert loop.remove_reader(0) is False
    assert loop.remove_writer(0) is False
    assert loop.remove_signal_handler(10) is False
    assert loop.get_task_factory() is None
    assert "closed=True" in repr(loop)


@row("P1A-023", "P4A-028")
def test_close_does_not_wait_for_the_executor(loop):
    go, done = threading.Event(), threading.Event()

    def job():
        go.wait(10)
        done.set()

    loop.run_in_executor(None, job)
    loop.close()
    assert not done.is_set()
    go.set()
    assert done.wait(10)


@row("P4A-023")
@pytest.mark.parametrize("kind", [KeyboardInterrupt, SystemExit])
def test_exit_exceptions_leave_and_the_batch_goes_on_later(loop, kind):
    ran = []

    def leave():
        ran.append("leave")
        raise kind()

    loop.call_soon(ran.append, 1)
    loop.call_soon(leave)
    loop.call_soon(ran.append, 2)
    loop.call_soon(ran.append, 3)
    with pytest.raises(kind):
        loop.run_forever()
    assert ran == [1, "leave"]
    loop.call_soon(ran.append, 4)
    turn(loop)
    assert ran == [1, "leave", 2, 3, 4]


@row("P4A-025")
def test_task_raising_keyboard_interrupt(loop):
    async def interrupt():
        raise KeyboardInterrupt

    task = loop.create_task(interrupt())
    with pytest.raises(KeyboardInterrupt):
        loop.run_forever()
    assert task.done()
    with pytest.raises(KeyboardInterrupt):
        task.result()


@row("P4A-024", "P2A-052")
def test_other_base_exceptions_go_to_the_handler(loop, errors):
    class Odd(BaseException):
        pass

    def fail():
        raise Odd("odd")

    loop.call_soon(fail)
    turn(loop)
    (context,) = errors
    errors.clear()
    assert isinstance(context["exception"], Odd)


@row("P1A-007")
def test_a_loop_runs_in_any_thread(loop):
    results = []

    def work():
        results.append(loop.run_until_complete(asyncio.sleep(0.01, "done")))

    join_all([spawn(work)])
    assert results == ["done"]
    assert loop.run_until_complete(asyncio.sleep(0, "here")) == "here"


def test_many_loops_one_after_the_other(new_loop):
    for _ in range(20):
        loop = new_loop()
        assert loop.run_until_complete(asyncio.sleep(0, 1)) == 1
        loop.close()


def test_loops_in_threads_do_not_disturb_each_other(new_loop):
    counts = {}
    loops = [new_loop() for _ in range(4)]

    async def work(loop):
        total = 0
        for _ in range(200):
            await asyncio.sleep(0)
            total += 1
        await asyncio.sleep(0.01)
        counts[id(loop)] = total

    threads = [spawn(loop.run_until_complete, work(loop)) for loop in loops]
    join_all(threads)
    assert sorted(counts.values()) == [200] * 4


@row("P4B-013")
def test_repr(loop):
    name = type(loop).__name__
    assert repr(loop) == f"<{name} running=False closed=False debug=False>"
    loop.set_debug(True)

    async def inside():
        return repr(loop)

    found = loop.run_until_complete(inside())
    assert found == f"<{name} running=True closed=False debug=True>"
    loop.set_debug(False)
    loop.close()
    assert repr(loop) == f"<{name} running=False closed=True debug=False>"


def test_subclass_of_the_loop(backend, errors):
    from support.loops import loop_class

    class Mine(loop_class(backend)):
        def __init__(self):
            super().__init__()
            self.extra = "kept"

        def time(self):
            self.asked = True
            return super().time()

    loop = Mine()
    try:
        assert loop.run_until_complete(asyncio.sleep(0.001, "ok")) == "ok"
        assert loop.asked
        assert loop.extra == "kept"
        assert repr(loop).startswith("<Mine running=")
    finally:
        loop.close()


@row("P4A-033", "P1A-221")
def test_attributes_can_be_replaced_on_the_instance(loop):
    seen = []
    original = loop.call_exception_handler
    loop.call_exception_handler = seen.append
    loop.call_soon(lambda: 1 / 0)
    turn(loop)
    loop.call_exception_handler = original
    assert [type(c["exception"]) for c in seen] == [ZeroDivisionError]


@row("P4A-033")
def test_a_replaced_call_soon_is_used_by_futures(loop):
    seen = []
    original = loop.call_soon

    def call_soon(callback, *args, context=None):
        seen.append(callback)
        return original(callback, *args, context=context)

    loop.call_soon = call_soon
    future = loop.create_future()
    future.add_done_callback(lambda _: loop.stop())
    future.set_result(None)
    loop.run_forever()
    del loop.call_soon
    assert len(seen) == 1


def test_attributes_that_packages_read(loop):
    assert loop._default_executor is None
    assert loop._closed is False
    assert loop._thread_id is None
    assert loop._check_closed() is None

    async def inside():
        return loop._thread_id

    assert loop.run_until_complete(inside()) == threading.get_ident()
    loop.close()
    assert loop._closed is True
    with pytest.raises(RuntimeError, match=CLOSED):
        loop._check_closed()
