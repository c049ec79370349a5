# SPDX-License-Identifier: MIT
"""What call_soon() and its family return."""

import asyncio
import contextvars
import functools
import gc
import re
import weakref

import pytest

from support.loops import turn, turns

row = pytest.mark.row


def callback(*args, **kwargs):
    pass


class Callable:
    def __call__(self):
        pass

    def method(self):
        pass

    def __repr__(self):
        return "<a callable>"


CALLBACKS = {
    "function": callback,
    "method": Callable().method,
    "partial": functools.partial(callback, 1, key=2),
    "lambda": lambda: None,
    "builtin": print,
    "object": Callable(),
    "nested partial": functools.partial(functools.partial(callback, 1), 2),
}


@pytest.fixture(params=["call_soon", "call_later", "call_at", "threadsafe"])
def schedule(request, loop):
    """One of the four ways to get a handle, as schedule(callback, *args)."""
    return {
        "call_soon": loop.call_soon,
        "call_later": functools.partial(loop.call_later, 0),
        "call_at": functools.partial(loop.call_at, 0),
        "threadsafe": loop.call_soon_threadsafe,
    }[request.param]


@row("P1A-036", "P1A-045", "P1A-052", "P1A-233")
def test_is_an_asyncio_handle(loop, schedule):
    handle = schedule(callback)
    assert isinstance(handle, asyncio.Handle)
    turns(loop, 2)


@row("P1A-045", "P1A-052")
def test_timers_are_timer_handles(loop):
    handles = [loop.call_later(1, callback), loop.call_at(1, callback)]
    assert all(isinstance(h, asyncio.TimerHandle) for h in handles)
    assert not isinstance(loop.call_soon(callback), asyncio.TimerHandle)
    handles[0].cancel()
    turn(loop)


@row("P1A-036", "P1A-045", "P1A-234", "P2C-001")
def test_cancel(loop, schedule):
    ran = []
    handle = schedule(ran.append, 1)
    assert handle.cancelled() is False
    assert handle.cancel() is None
    assert handle.cancelled() is True
    assert handle.cancel() is None
    turns(loop, 2)
    assert ran == []


@row("P1A-234")
def test_cancel_after_the_run(loop, schedule):
    ran = []
    handle = schedule(ran.append, 1)
    turns(loop, 2)
    assert ran == [1]
    assert handle.cancelled() is False
    handle.cancel()
    assert handle.cancelled() is True


@row("P1A-234")
def test_cancel_inside_its_own_callback(loop, schedule):
    handles, seen = [], []

    def inside():
        handles[0].cancel()
        seen.append(handles[0].cancelled())

    handles.append(schedule(inside))
    turns(loop, 2)
    assert seen == [True]


@row("P4A-008")
def test_cancel_releases_callback_and_arguments(loop, schedule):
    class Marker:
        def __call__(self, other):
            pass

    target, argument = Marker(), Marker()
    alive = weakref.ref(target), weakref.ref(argument)
    handle = schedule(target, argument)
    del target, argument
    gc.collect()
    assert all(reference() is not None for reference in alive)
    handle.cancel()
    gc.collect()
    assert [reference() for reference in alive] == [None, None]
    turns(loop, 2)


@row("P2C-005")
def test_weak_references(loop, schedule):
    handle = schedule(callback)
    reference = weakref.ref(handle)
    assert reference() is handle
    turns(loop, 2)
    assert reference() is handle
    del handle
    gc.collect()
    assert reference() is None


def test_the_loop_keeps_the_handle_alive(loop, schedule):
    ran = []
    schedule(ran.append, 1)
    gc.collect()
    turns(loop, 2)
    assert ran == [1]


@row("P2C-002")
def test_when(loop):
    before = loop.time()
    later = loop.call_later(10, callback)
    after = loop.time()
    assert before + 10 <= later.when() <= after + 10
    at = loop.call_at(before + 20, callback)
    assert at.when() == before + 20
    later.cancel()
    at.cancel()
    assert at.when() == before + 20
    past = loop.call_at(1.5, callback)
    turn(loop)
    assert past.when() == 1.5


def test_when_of_an_integer(loop):
    handle = loop.call_at(3, callback)
    assert handle.when() == 3
    turn(loop)


@row("P2C-003")
@pytest.mark.since(3, 12)
def test_get_context(loop):
    context = contextvars.copy_context()
    handles = [
        loop.call_soon(callback, context=context),
        loop.call_later(0, callback, context=context),
        loop.call_at(0, callback, context=context),
        loop.call_soon_threadsafe(callback, context=context),
    ]
    assert all(handle.get_context() is context for handle in handles)
    own = loop.call_soon(callback).get_context()
    assert isinstance(own, contextvars.Context)
    assert own is not context
    turns(loop, 2)


@row("P2C-004")
def test_timer_comparisons(loop):
    now = loop.time() + 100
    first = loop.call_at(now, callback)
    second = loop.call_at(now + 1, callback)
    same = loop.call_at(now, callback)
    other = loop.call_at(now, callback, 1)
    handles = [first, second, same, other]
    assert first < second and first <= second and first <= same
    assert second > first and second >= first and same >= first
    assert not first > second and not second < first
    assert first == same and first != second and first != other
    assert hash(first) == hash(same)
    assert sorted([second, first])[0] is first
    same.cancel()
    assert first != same
    for handle in handles:
        handle.cancel()


@row("P2C-004")
@pytest.mark.parametrize("other", [1, None, "x", 1e9])
def test_timer_compared_with_something_else(loop, other):
    handle = loop.call_later(100, callback)
    assert (handle == other) is False
    assert handle != other
    with pytest.raises(TypeError):
        assert handle < other
    with pytest.raises(TypeError):
        assert handle >= other
    handle.cancel()


def reference_repr(loop, callback, args=(), when=None):
    """The text of CPython's own handle class for the same call."""
    if when is None:
        return repr(asyncio.Handle(callback, args, loop))
    return repr(asyncio.TimerHandle(when, callback, args, loop))


def without_class(text):
    return re.sub(r"^<(_ThreadSafe)?", "<", text)


@row("P4B-012")
@pytest.mark.parametrize("name", CALLBACKS)
@pytest.mark.parametrize("args", [(), (1,), ("x", [2])], ids=repr)
def test_repr_is_asyncios(loop, name, args):
    target = CALLBACKS[name]
    soon = loop.call_soon(target, *args)
    timer = loop.call_later(100, target, *args)
    assert repr(soon) == reference_repr(loop, target, args)
    assert repr(timer) == reference_repr(loop, target, args, timer.when())
    soon.cancel()
    timer.cancel()


@row("P4B-012")
def test_repr_when_cancelled(loop):
    soon = loop.call_soon(callback)
    timer = loop.call_at(12345678901.5, callback)
    soon.cancel()
    timer.cancel()
    assert repr(soon) == "<Handle cancelled>"
    assert repr(timer) == "<TimerHandle cancelled when=12345678901.5>"
    turn(loop)


@row("P4B-012", "P1A-031", "P4B-007")
def test_repr_in_debug_mode_shows_arguments_and_origin(loop):
    loop.set_debug(True)
    partial = functools.partial(callback, 1, k=3)
    line = here() + 1
    handle = loop.call_soon(partial, "sec")
    text = repr(handle)
    assert "callback(1, k=3)('sec')" in text
    assert text.endswith(f" created at {__file__}:{line}>")
    lambda_handle = loop.call_soon(lambda: None)
    assert "<lambda>()" in repr(lambda_handle)
    loop.set_debug(False)
    turn(loop)


def here():
    import sys

    return sys._getframe(1).f_lineno


@row("P4B-006")
def test_repr_of_a_cancelled_handle_in_debug_mode_is_kept(loop):
    loop.set_debug(True)
    handle = loop.call_soon(callback, "argument")
    handle.cancel()
    assert repr(handle).startswith("<Handle cancelled")
    assert "created at" in repr(handle)
    loop.set_debug(False)
    turn(loop)


@row("P2A-048", "P4A-009")
def test_asyncios_own_handles_can_be_cancelled(loop):
    """Handles that other code makes for the loop tell it of their end."""
    handle = asyncio.TimerHandle(loop.time() + 1, callback, (), loop)
    handle._scheduled = True
    handle.cancel()
    assert handle.cancelled()
    turn(loop)


def test_handles_can_be_put_in_sets(loop):
    handles = {loop.call_soon(callback) for _ in range(3)}
    assert len(handles) == 3
    turn(loop)


def test_handle_outlives_the_loop(loop):
    handles = [loop.call_soon(callback), loop.call_later(1, callback)]
    loop.close()
    for handle in handles:
        repr(handle)
        handle.cancel()
        assert handle.cancelled()
        repr(handle)


def test_raising_repr_of_a_callback_does_not_break_the_report(loop, errors):
    class Nasty:
        def __call__(self):
            raise ValueError("called")

        def __repr__(self):
            return "<nasty>"

    loop.call_soon(Nasty())
    turn(loop)
    (context,) = errors
    errors.clear()
    assert context["message"].startswith("Exception in callback <nasty>()")


def test_many_handles_are_freed(loop):
    class Marker:
        pass

    markers = [Marker() for _ in range(100)]
    alive = [weakref.ref(marker) for marker in markers]
    for marker in markers:
        loop.call_soon(callback, marker)
        loop.call_later(0, callback, marker)
    markers.clear()
    del marker
    turns(loop, 2)
    gc.collect()
    assert [r() for r in alive if r() is not None] == []
