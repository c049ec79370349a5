# SPDX-License-Identifier: MIT
"""add_signal_handler and remove_signal_handler."""

import asyncio
import ctypes
import errno
import functools
import os
import re
import signal
import socket
import time

import pytest

from support.leaks import join_all, spawn
from support.loops import turn, turns
from support.procs import check, run_code

row = pytest.mark.row


@pytest.fixture(autouse=True)
def clean_signals():
    """Every test leaves handlers and wake-up fd as it found them."""
    numbers = (signal.SIGUSR1, signal.SIGUSR2, signal.SIGINT, signal.SIGCHLD)
    before = [signal.getsignal(number) for number in numbers]
    yield
    wakeup = signal.set_wakeup_fd(-1)
    for number, handler in zip(numbers, before):
        found = signal.getsignal(number)
        signal.signal(number, handler)
        assert found is handler or found == handler
    assert wakeup == -1


SA_RESTART = 0x10000000


def flags_of(number):
    """The sa_flags with which Linux delivers a signal."""

    class Action(ctypes.Structure):
        _fields_ = (
            ("handler", ctypes.c_void_p),
            ("mask", ctypes.c_ubyte * 128),
            ("flags", ctypes.c_int),
            ("restorer", ctypes.c_void_p),
        )

    action = Action()
    library = ctypes.CDLL(None, use_errno=True)
    assert library.sigaction(int(number), None, ctypes.byref(action)) == 0
    return action.flags


def send(number=signal.SIGUSR1):
    os.kill(os.getpid(), number)


@row("P1A-188", "P1A-189", "P4C-015")
def test_handler_runs_in_the_loop(loop):
    seen = []

    def handler(*args):
        seen.append((args, asyncio.get_running_loop() is loop))
        loop.stop()

    assert loop.add_signal_handler(signal.SIGUSR1, handler, 1, "two") is None
    loop.call_soon(send)
    loop.run_forever()
    assert seen == [((1, "two"), True)]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True


@row("P4C-015")
def test_handler_waits_for_its_turn(loop):
    """The number is read like any I/O; the handler is then scheduled."""
    order = []
    loop.add_signal_handler(signal.SIGUSR1, order.append, "handler")
    send()
    loop.call_soon(order.append, "ready")
    turn(loop)
    assert order == ["ready"]
    loop.call_soon(order.append, "later")
    turn(loop)
    assert order == ["ready", "handler", "later"]
    loop.remove_signal_handler(signal.SIGUSR1)


@row("P1A-189")
def test_signal_wakes_a_sleeping_loop(loop):
    loop.add_signal_handler(signal.SIGUSR1, loop.stop)
    loop.call_later(20, loop.stop)
    pid = os.getpid()

    def later():
        time.sleep(0.05)
        os.kill(pid, signal.SIGUSR1)

    thread = spawn(later)
    started = time.monotonic()
    loop.run_forever()
    assert time.monotonic() - started < 10
    join_all([thread])
    loop.remove_signal_handler(signal.SIGUSR1)


@row("P1A-189")
def test_signals_arrive_while_the_loop_is_busy(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)

    async def busy():
        send()
        for _ in range(10):
            await asyncio.sleep(0)

    loop.run_until_complete(busy())
    assert seen == [1]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_signal_sent_between_runs(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
    send()
    assert seen == []
    turns(loop, 2)
    assert seen == [1]
    loop.remove_signal_handler(signal.SIGUSR1)


@row("P1A-192")
def test_partial(loop):
    seen = []
    loop.add_signal_handler(
        signal.SIGUSR1, functools.partial(seen.append, "partial")
    )
    send()
    turns(loop, 2)
    assert seen == ["partial"]
    loop.remove_signal_handler(signal.SIGUSR1)


def test_two_signals(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "one")
    loop.add_signal_handler(signal.SIGUSR2, seen.append, "two")

    async def both():
        send(signal.SIGUSR1)
        send(signal.SIGUSR2)
        while len(seen) < 2:
            await asyncio.sleep(0)

    loop.run_until_complete(both())
    assert sorted(seen) == ["one", "two"]
    loop.remove_signal_handler(signal.SIGUSR1)
    loop.remove_signal_handler(signal.SIGUSR2)


def test_adding_again_replaces(loop):
    seen = []
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "first")
    loop.add_signal_handler(signal.SIGUSR1, seen.append, "second")
    send()
    turns(loop, 2)
    assert seen == ["second"]
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGUSR1) is False


@row("P1A-190", "P4C-018")
@pytest.mark.parametrize("number", [0, -1, signal.NSIG + 1, 1000])
def test_invalid_numbers(loop, number):
    text = f"^invalid signal number {number}$"
    with pytest.raises(ValueError, match=text):
        loop.add_signal_handler(number, print)
    with pytest.raises(ValueError, match=text):
        loop.remove_signal_handler(number)


@row("P1A-190", "P4C-018")
@pytest.mark.parametrize("number", ["SIGINT", None, 2.0, object()])
def test_numbers_of_a_wrong_type(loop, number):
    with pytest.raises(TypeError, match="^sig must be an int, not "):
        loop.add_signal_handler(number, print)
    with pytest.raises(TypeError, match="^sig must be an int, not "):
        loop.remove_signal_handler(number)


@row("P1A-190", "P4C-019")
@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
def test_signals_that_cannot_be_caught(loop, number):
    with pytest.raises(
        RuntimeError, match=f"^sig {int(number)} cannot be caught$"
    ):
        loop.add_signal_handler(number, print)
    assert loop.remove_signal_handler(number) is False


@row("P4B-003")
def test_coroutines_are_refused_always(loop):
    async def coroutine_function():
        pass

    text = "^coroutines cannot be used with add_signal_handler"
    with pytest.raises(TypeError, match=text):
        loop.add_signal_handler(signal.SIGUSR1, coroutine_function)
    coroutine = coroutine_function()
    with pytest.raises(TypeError, match=text):
        loop.add_signal_handler(signal.SIGUSR1, coroutine)
    coroutine.close()


@row("P1A-191", "P4C-013")
def test_foreign_thread(loop):
    caught = []

    def work():
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
        except RuntimeError as exc:
            caught.append(str(exc))

    join_all([spawn(work)])
    assert len(caught) == 1
    assert "set_wakeup_fd only works in main thread" in caught[0]


@row("P1A-193", "P1A-194", "P4C-017")
def test_removing_restores_the_default(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    assert signal.getsignal(signal.SIGINT) is not signal.default_int_handler
    assert loop.remove_signal_handler(signal.SIGUSR1) is True
    assert loop.remove_signal_handler(signal.SIGINT) is True
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@row("P4A-028")
def test_close_removes_the_handlers(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    loop.add_signal_handler(signal.SIGINT, print)
    loop.close()
    assert signal.getsignal(signal.SIGUSR1) is signal.SIG_DFL
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.becket_only("CPython keeps the others")
def test_close_removes_the_others_when_one_fails(new_loop, monkeypatch):
    loop = new_loop()
    original = signal.signal

    def fail_for_one(number, handler):
        if number == signal.SIGUSR1 and handler == signal.SIG_DFL:
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        return original(number, handler)

    loop.add_signal_handler(signal.SIGUSR1, int)
    loop.add_signal_handler(signal.SIGUSR2, int)
    monkeypatch.setattr(signal, "signal", fail_for_one)
    with pytest.raises(PermissionError):
        loop.close()
    monkeypatch.undo()
    assert loop.is_closed()
    assert signal.getsignal(signal.SIGUSR2) == signal.SIG_DFL
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)


@pytest.mark.becket_only("CPython reads nothing when it adds")
def test_adding_that_cannot_listen_leaves_nothing(loop, monkeypatch):
    """Neither a handler, nor a wake-up fd for none."""
    turn(loop)

    def fail():
        raise OSError(errno.ENOMEM, os.strerror(errno.ENOMEM))

    monkeypatch.setattr(loop, "_read_signals", fail)
    with pytest.raises(OSError, match="allocate"):
        loop.add_signal_handler(signal.SIGUSR1, int)
    monkeypatch.undo()
    assert signal.set_wakeup_fd(-1) == -1
    assert not loop.remove_signal_handler(signal.SIGUSR1)


@row("P4C-014")
def test_wakeup_fd(loop):
    loop.add_signal_handler(signal.SIGUSR1, print)
    fd = signal.set_wakeup_fd(-1)
    assert fd != -1
    signal.set_wakeup_fd(fd)
    loop.add_signal_handler(signal.SIGUSR2, print)
    loop.remove_signal_handler(signal.SIGUSR1)
    assert signal.set_wakeup_fd(fd) == fd
    loop.remove_signal_handler(signal.SIGUSR2)
    assert signal.set_wakeup_fd(-1) == -1


@row("P4C-014")
@pytest.mark.becket_only("CPython forgets the wake-up fd that was there")
def test_a_wakeup_fd_that_was_there_is_restored(loop):
    left, right = socket.socketpair()
    with left, right:
        left.setblocking(False)
        before = signal.set_wakeup_fd(left.fileno())
        try:
            loop.add_signal_handler(signal.SIGUSR1, print)
            loop.remove_signal_handler(signal.SIGUSR1)
            assert signal.set_wakeup_fd(-1) == left.fileno()
        finally:
            signal.set_wakeup_fd(before)


def test_failing_handler(loop, errors):
    loop.add_signal_handler(signal.SIGUSR1, lambda: 1 / 0)
    send()
    turns(loop, 2)
    (context,) = errors
    errors.clear()
    assert type(context["exception"]) is ZeroDivisionError
    # It stays.
    assert loop.remove_signal_handler(signal.SIGUSR1) is True


def test_handler_that_removes_itself(loop):
    seen = []

    def handler():
        seen.append(loop.remove_signal_handler(signal.SIGUSR1))

    loop.add_signal_handler(signal.SIGUSR1, handler)
    send()
    turns(loop, 2)
    assert seen == [True]


@row("P4C-013")
def test_system_calls_are_restarted(loop):
    """The signal interrupts no blocking call of other code (SA_RESTART)."""
    assert not flags_of(signal.SIGUSR1) & SA_RESTART
    loop.add_signal_handler(signal.SIGUSR1, print)
    assert flags_of(signal.SIGUSR1) & SA_RESTART
    loop.remove_signal_handler(signal.SIGUSR1)


@row("P4C-020")
def test_plain_python_handlers_run_while_the_loop_sleeps(loop):
    seen = []
    before = signal.signal(signal.SIGALRM, lambda *_: seen.append(1))
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        loop.call_later(0.2, loop.stop)
        loop.run_forever()
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert seen == [1]


@row("P4C-020")
def test_exception_of_a_plain_handler_leaves_the_loop(loop):
    class Alarm(Exception):
        pass

    def handler(*_):
        raise Alarm

    before = signal.signal(signal.SIGALRM, handler)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.02)
        loop.call_later(10, loop.stop)
        started = time.monotonic()
        with pytest.raises(Alarm):
            loop.run_forever()
        assert time.monotonic() - started < 5
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"


@row("P4C-020")
def test_a_sleeping_timer_survives_interruptions(loop):
    """EINTR ends the wait early, not the timer."""
    before = signal.signal(signal.SIGALRM, lambda *_: None)
    try:
        signal.setitimer(signal.ITIMER_REAL, 0.005, 0.005)
        started = loop.time()
        loop.run_until_complete(asyncio.sleep(0.1))
        assert loop.time() - started >= 0.1
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def test_users_sigchld_handler_is_allowed(loop):
    import subprocess
    import sys

    seen = []
    loop.add_signal_handler(signal.SIGCHLD, seen.append, 1)
    child = subprocess.Popen([sys.executable, "-c", "pass"])

    async def wait():
        while not seen:
            await asyncio.sleep(0.005)

    loop.run_until_complete(asyncio.wait_for(wait(), 10))
    assert child.wait(10) == 0
    assert loop.remove_signal_handler(signal.SIGCHLD) is True


def test_two_loops_one_after_the_other(new_loop):
    for _ in range(2):
        loop = new_loop()
        seen = []
        loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
        send()
        turns(loop, 2)
        assert seen == [1]
        loop.close()


@row("P4A-029")
@pytest.mark.one_poller
def test_loop_with_handlers_at_exit(backend):
    code = """
        import signal
        from support.loops import loop_from_environment

        loop = loop_from_environment()
        loop.add_signal_handler(signal.SIGUSR1, print)
        print("ready")
    """
    done = check(run_code(backend, code))
    assert done.stdout == "ready\n"
    options = ("-W", "always::ResourceWarning")
    done = check(run_code(backend, code, options=options))
    assert re.search(
        r"ResourceWarning: Closing the loop <\w+ running=False closed=True"
        r" debug=False> on interpreter shutdown stage, skipping signal"
        r" handlers removal",
        done.stderr,
    ), done.stderr


def test_a_busy_loop_hears_signals_in_the_turn_after(loop):
    """Also a loop that has polled for nothing until its first handler."""
    seen = []
    for handler in "first", "second":
        for _ in range(50):  # nothing but ready work
            loop.call_soon(seen.clear)
            turn(loop)
        loop.add_signal_handler(signal.SIGUSR1, seen.append, handler)
        send()
        for _ in range(2):  # one finds it, the next one runs the handler
            assert seen == []
            loop.call_soon(len, "work")
            turn(loop)
        assert seen == [handler]
        assert loop.remove_signal_handler(signal.SIGUSR1)


def test_signals_before_the_first_handler_are_not_its_own(loop):
    """The loop may have noticed them, only to wake up."""
    seen = []

    async def main():
        signal.signal(signal.SIGUSR1, lambda *args: seen.append("plain"))
        send()
        await asyncio.sleep(0)
        send()
        loop.add_signal_handler(signal.SIGUSR1, seen.append, "added")
        for _ in range(5):
            await asyncio.sleep(0)
        assert seen == ["plain", "plain"]
        send()
        for _ in range(5):
            await asyncio.sleep(0)
        assert seen == ["plain", "plain", "added"]
        loop.remove_signal_handler(signal.SIGUSR1)

    loop.run_until_complete(main())
