# SPDX-License-Identifier: MIT
"""Loops that are broken on purpose: the programs have to notice each.

Most are CPython's own loop with a piece of it replaced while a program runs,
since every piece of it can be reached; some are becket's, from outside.
"""

import asyncio
import contextlib
import itertools
import time
from asyncio import base_events, events, selector_events, streams
from unittest import mock

from support.loops import loop_class

LOOP = base_events.BaseEventLoop
SELECTOR_LOOP = selector_events.BaseSelectorEventLoop
TRANSPORT = selector_events._SelectorSocketTransport
SELECTOR_TRANSPORT = selector_events._SelectorTransport

MUTANTS = {}
# Loops that do what they may, if not as CPython does: not to be noticed.
HARMLESS = {}
# The kinds of programs that are to notice each.
KINDS = {}
PLAIN = (
    "scheduling",
    "tasks",
    "transport",
    "pair",
    "watched",
    "stream",
)


def mutant(target, name, kinds=PLAIN, make=asyncio.SelectorEventLoop):
    """The function stands for target.name; it is given the original one, and
    a counter of its calls."""

    def decorate(function):
        original = getattr(target, name)

        @contextlib.contextmanager
        def applied():
            count = itertools.count(1)

            def replacement(*args, **kwargs):
                return function(original, count, *args, **kwargs)

            with mock.patch.object(target, name, replacement):
                yield make

        MUTANTS[function.__name__] = applied
        KINDS[function.__name__] = kinds
        return function

    return decorate


# --- scheduling ---


@mutant(LOOP, "_call_soon")
def order_swapped(original, count, self, *args):
    handle = original(self, *args)
    if next(count) % 5 == 0:
        self._ready.rotate(1)
    return handle


@mutant(LOOP, "_call_soon")
def context_dropped(original, count, self, callback, args, context):
    return original(self, callback, args, None)


@mutant(LOOP, "call_soon_threadsafe")
def threadsafe_jumps_the_queue(original, count, self, *args, **kwargs):
    handle = original(self, *args, **kwargs)
    self._ready.rotate(1)
    return handle


@mutant(LOOP, "call_at")
def timers_late(original, count, self, when, *args, **kwargs):
    return original(self, when + 1, *args, **kwargs)


@mutant(events.TimerHandle, "cancel")
def cancel_ignored(original, count, self):
    self._loop._timer_handle_cancelled(self)


@mutant(LOOP, "stop")
def stop_late(original, count, self):
    self.call_soon(original, self)


@mutant(LOOP, "call_exception_handler")
def exception_swallowed(original, count, self, context):
    if next(count) % 2 == 1:
        original(self, context)


@mutant(LOOP, "_check_closed")
def closed_loop_usable(original, count, self):
    pass


@mutant(LOOP, "run_in_executor")
def job_runs_at_once(original, count, self, executor, function, *args):
    future = self.create_future()
    future.set_result(function(*args))
    return future


# --- watching, and sockets ---


@mutant(SELECTOR_LOOP, "remove_reader")
def reader_left(original, count, self, fd):
    if next(count) % 2 == 1:
        return original(self, fd)
    return True


@mutant(SELECTOR_LOOP, "_add_writer")
def writer_replaces_context(original, count, self, fd, callback, *args):
    with contextlib.suppress(KeyError):
        self._selector.unregister(fd)
    return original(self, fd, callback, *args)


@mutant(SELECTOR_LOOP, "_sock_recv")
def received_bytes_lost(original, count, self, fut, sock, n):
    with contextlib.suppress(OSError):
        sock.recv(1)
    original(self, fut, sock, n)


# --- transports ---


@mutant(TRANSPORT, "write")
def write_lost(original, count, self, data):
    if next(count) % 3:
        original(self, data)


@mutant(TRANSPORT, "_call_connection_lost")
def lost_twice(original, count, self, exc):
    self._protocol.connection_lost(exc)
    original(self, exc)


@mutant(SELECTOR_TRANSPORT, "_force_close")
def abort_closes(original, count, self, exc):
    if exc is None:
        self.close()
    else:
        original(self, exc)


@mutant(TRANSPORT, "_read_ready__on_eof")
def half_close_refused(original, count, self):
    with contextlib.suppress(BaseException):
        self._protocol.eof_received()
    self.close()


@mutant(SELECTOR_TRANSPORT, "_maybe_resume_protocol")
def never_resumed(original, count, self):
    pass


@mutant(SELECTOR_TRANSPORT, "_maybe_pause_protocol")
def never_paused(original, count, self):
    pass


@mutant(TRANSPORT, "pause_reading")
def pause_late(original, count, self):
    self._loop.call_soon(original, self)


@mutant(TRANSPORT, "write_eof")
def eof_overtakes(original, count, self):
    self._sock.shutdown(1)
    self._eof = True


@mutant(TRANSPORT, "set_protocol")
def protocol_kept(original, count, self, protocol):
    pass


@mutant(SELECTOR_TRANSPORT, "_fatal_error")
def error_forgotten(original, count, self, exc, message="x"):
    self._force_close(exc)


@mutant(SELECTOR_TRANSPORT, "is_closing")
def never_closing(original, count, self):
    return False


@mutant(SELECTOR_TRANSPORT, "__del__")
def silent_when_forgotten(original, count, self, _warn=None):
    if self._sock is not None:
        self._sock.close()


def harmless(target, name, value):
    """Something of CPython's loop that may be otherwise."""

    @contextlib.contextmanager
    def applied():
        with mock.patch.object(target, name, value):
            yield asyncio.SelectorEventLoop

    return applied


HARMLESS["other_chunks"] = harmless(TRANSPORT, "max_size", 128 * 1024)
RUN_ONCE = LOOP._run_once
# A few turns take longer than the kernel puts off an acknowledgement: 40 ms.
SLOW = 0.005


def slow_turn(self):
    time.sleep(SLOW)
    RUN_ONCE(self)


HARMLESS["slow_turns"] = harmless(LOOP, "_run_once", slow_turn)

# --- streams ---


@mutant(streams.StreamReader, "_maybe_resume_transport")
def reader_stays_paused(original, count, self):
    pass


@mutant(streams.StreamReader, "feed_eof")
def end_not_told(original, count, self):
    self._eof = True


# --- becket's own loop, with a fault in front of it ---


def becket_mutant(kinds):
    """The function is given becket's class and makes a broken subclass."""

    def decorate(function):
        @contextlib.contextmanager
        def applied():
            yield function(loop_class("epoll"))

        MUTANTS[function.__name__] = applied
        KINDS[function.__name__] = kinds
        return function

    return decorate


@becket_mutant(PLAIN)
def becket_order_swapped(base):
    class Broken(base):
        _count = itertools.count(1)

        def call_soon(self, callback, *args, context=None):
            if next(self._count) % 5 == 0:
                return super().call_soon(self.call_soon, callback, *args)
            return super().call_soon(callback, *args, context=context)

    return Broken


@becket_mutant(PLAIN)
def becket_context_dropped(base):
    class Broken(base):
        def call_soon(self, callback, *args, context=None):
            return super().call_soon(callback, *args)

    return Broken


@becket_mutant(PLAIN)
def becket_cancel_ignored(base):
    class Handle:
        def __init__(self, handle):
            self.cancelled = handle.cancelled
            self.when = handle.when

        def cancel(self):
            pass

    class Broken(base):
        def call_later(self, *args, context=None):
            return Handle(super().call_later(*args, context=context))

        def call_at(self, *args, context=None):
            return Handle(super().call_at(*args, context=context))

    return Broken


@becket_mutant(PLAIN)
def becket_exception_swallowed(base):
    class Broken(base):
        def call_exception_handler(self, context):
            pass

    return Broken


def with_connections(base, change):
    """A loop whose connections are changed when they are made."""

    class Broken(base):
        async def create_connection(self, factory, **kwargs):
            made = await super().create_connection(factory, **kwargs)
            return change(*made)

        async def connect_accepted_socket(self, factory, sock, **kwargs):
            made = await super().connect_accepted_socket(
                factory, sock, **kwargs
            )
            return change(*made)

    return Broken


@becket_mutant(PLAIN)
def becket_write_lost(base):
    class Transport:
        def __init__(self, transport):
            self._real = transport
            self._count = itertools.count(1)

        def __getattr__(self, name):
            return getattr(self._real, name)

        def write(self, data):
            if next(self._count) % 3:
                self._real.write(data)

    def change(transport, protocol):
        return Transport(transport), protocol

    return with_connections(base, change)


@becket_mutant(PLAIN)
def becket_lost_twice(base):
    def change(transport, protocol):
        lost = protocol.connection_lost

        def connection_lost(exc):
            lost(exc)
            lost(exc)

        protocol.connection_lost = connection_lost
        return transport, protocol

    return with_connections(base, change)
