# SPDX-License-Identifier: MIT
"""What a subclass or an instance puts in place of the loop's own methods."""

import asyncio
import gc
import inspect
import os
import selectors
import signal

import pytest

import becket
from support.loops import ORACLE, loop_class


@pytest.fixture
def make(backend):
    """A function that makes a loop of a subclass with these attributes."""
    loops = []

    def make(**attributes):
        loops.append(type("Mine", (loop_class(backend),), attributes)())
        return loops[-1]

    yield make
    for loop in loops:
        loop.close()


def noop():
    pass


def test_time_that_fails_ends_the_run(loop):
    """Also where nothing but a far timer is there to wait for."""
    loop.call_at(loop.time() + 3600, noop)

    def time():
        raise ZeroDivisionError("no time")

    loop.time = time
    with pytest.raises(ZeroDivisionError, match="no time"):
        loop.call_later(1, noop)
    with pytest.raises(ZeroDivisionError, match="no time"):
        loop.run_forever()
    del loop.time
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_time_of_a_class_that_changes_later(make):
    loop = make()
    loop.call_later(3600, loop.stop)
    type(loop).time = lambda self: 1e9
    loop.run_forever()
    assert loop.call_later(1, noop).when() == 1e9 + 1
    del type(loop).time
    assert loop.call_later(1, noop).when() < 1e9


def test_call_later_goes_through_call_at(make):
    seen = []

    def call_at(self, when, callback, *args, context=None):
        seen.append((when, callback, args, context))
        return super(type(self), self).call_at(when, callback, *args)

    loop = make(time=lambda self: 10.0, call_at=call_at)
    handle = loop.call_later(5, noop, 1, 2)
    assert seen == [(15.0, noop, (1, 2), None)]
    assert handle.when() == 15.0


def test_call_at_of_the_instance(loop):
    seen = []
    loop.call_at = lambda when, *args, context=None: seen.append(args)
    with pytest.raises(AttributeError):  # asyncio looks into the handle
        loop.call_later(1, noop).cancel()
    assert seen == [(noop,)]
    del loop.call_at


@pytest.mark.row("P4A-009", "P2A-048")
def test_cancelled_timers_are_told(make):
    told = []

    def _timer_handle_cancelled(self, handle):
        told.append((handle, handle.cancelled()))

    loop = make(_timer_handle_cancelled=_timer_handle_cancelled)
    timer = loop.call_later(1, noop)
    timer.cancel()
    timer.cancel()
    loop.call_soon(noop).cancel()
    assert told == [(timer, False)]


def test_exception_handler_that_raises_leaves_the_loop(loop):
    def call_exception_handler(context):
        raise AssertionError(context["message"])

    loop.call_exception_handler = call_exception_handler
    ran = []
    loop.call_soon(lambda: 1 / 0)
    loop.call_soon(ran.append, "after")
    loop.call_soon(loop.stop)
    with pytest.raises(AssertionError, match="Exception in callback") as info:
        loop.run_forever()
    assert isinstance(info.value.__context__, ZeroDivisionError)
    assert ran == []
    loop.run_forever()
    assert ran == ["after"]
    del loop.call_exception_handler


def test_reader_replaced_in_a_turn_waits_for_the_next_poll(loop):
    """What made the fd ready was the first one's to consume."""
    ours, theirs = os.pipe()
    try:
        os.write(theirs, b"x")
        ran = []

        def replace():
            os.read(ours, 1)
            loop.add_reader(ours, ran.append, "second")
            loop.call_soon(loop.stop)

        loop.add_reader(ours, ran.append, "first")
        loop.call_soon(replace)
        loop.run_forever()
        assert ran == []
        os.write(theirs, b"y")
        loop.call_soon(loop.stop)
        loop.run_forever()
        assert ran == ["second"]
        assert loop.remove_reader(ours)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.parametrize("number", [2**40, 10**30])
def test_removing_a_number_that_no_fd_has(loop, number):
    assert loop.remove_reader(number) is False
    assert loop.remove_writer(number) is False
    with pytest.raises(OverflowError):
        loop.add_reader(number, noop)


class Failing(selectors.SelectSelector):
    """Fails where it is told to."""

    where = None

    def fail_in(self, name):
        if self.where == name:
            raise LookupError(name)

    def select(self, timeout=None):
        self.fail_in("select")
        return super().select(timeout)

    def register(self, fileobj, events, data=None):
        self.fail_in("register")
        return super().register(fileobj, events, data)


def becket_loop(selector):
    import becket

    return becket.SelectorEventLoop(selector)


@pytest.fixture
def selector_loop(backend):
    if backend not in ("external", ORACLE):
        pytest.skip("the selector is the user's with these only")
    selector = Failing()
    if backend == ORACLE:
        loop = asyncio.SelectorEventLoop(selector)
    else:
        loop = becket_loop(selector)
    yield selector, loop
    selector.where = None
    loop.close()
    assert loop._selector is None


def test_what_a_selector_raises_comes_out(selector_loop):
    selector, loop = selector_loop
    selector.where = "select"
    with pytest.raises(LookupError, match="select"):
        loop.run_forever()
    selector.where = "register"
    with pytest.raises(LookupError, match="register"):
        loop.add_reader(0, noop)
    selector.where = None
    loop.call_soon(loop.stop)
    loop.run_forever()


def test_data_of_a_selector_key(selector_loop):
    selector, loop = selector_loop
    ours, theirs = os.pipe()
    try:
        loop.add_reader(ours, noop)
        reader, writer = selector.get_key(ours).data
        assert reader._callback is noop
        assert writer is None
        loop.add_reader(ours, print)
        assert reader.cancelled()
        assert selector.get_key(ours).data[0]._callback is print
        assert loop.remove_reader(ours)
    finally:
        os.close(ours)
        os.close(theirs)


@pytest.mark.becket_only("the methods of CPython's loop are Python's")
def test_the_class_itself_defines_what_c_implements():
    """So that the interpreter calls it without a detour."""
    cls = becket.SelectorEventLoop
    for name in "call_soon", "call_later", "create_task", "create_future":
        assert getattr(cls, name).__objclass__ is cls
    # What a part in Python has put in the place of C's stays.
    assert inspect.isfunction(cls.run_forever)
    assert inspect.isfunction(cls.close)


@pytest.mark.becket_only("CPython's loop keeps everything in its dict")
@pytest.mark.since(3, 13)  # before, asking for an override makes a dict
@pytest.mark.before(3, 14)  # later ones keep attributes without a dict
def test_a_loop_has_no_dict_until_it_gets_an_attribute():
    """So that the interpreter finds methods without looking into it."""

    async def work(loop):
        loop.call_later(3600, noop).cancel()
        await loop.run_in_executor(None, noop)
        await loop.shutdown_default_executor()
        await loop.shutdown_asyncgens()

    loop = becket.SelectorEventLoop()
    loop.set_exception_handler(None)
    loop.add_signal_handler(signal.SIGUSR1, noop)
    loop.set_debug(True)
    try:
        loop.run_until_complete(work(loop))
        before = count_dicts(loop)
        vars(loop)["mine"] = 1
        assert count_dicts(loop) == before + 1
        assert loop.mine == 1
    finally:
        loop.close()


def count_dicts(loop):
    """Those that the loop holds itself; asking for __dict__ would make it."""
    return sum(type(one) is dict for one in gc.get_referents(loop))
