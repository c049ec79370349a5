# SPDX-License-Identifier: MIT
"""Plays a program on several loops, and judges whether they did the same."""

import asyncio
import difflib
import functools
import gc
import os
import re
import selectors
import signal
from typing import NamedTuple
from unittest import mock

from service_mutants import HARMLESS, MUTANTS
from world import FORGOTTEN, Hung, World

from support.loops import ORACLE, make_loop

# CPython's loop over its other selectors: where these do things in another
# order, it is nobody's promise.
OTHER_ORACLES = {
    "oracle-poll": selectors.PollSelector,
    "oracle-select": selectors.SelectSelector,
}
# So many times that several descriptors were ready at once are turned round.
TIMES = 12
# The other engine of TLS, for programs that speak it.
FALLBACK = "sslobject"
LIMIT = 20
# More than this arrives in chunks, as the kernel and the loop please.
MUCH = 65536
# The lane of what an object receives, where that comes in chunks.
DATA = " data"
GONE = re.compile(r"connection_lost (?:BrokenPipe|ConnectionReset)Error")
REPETITIONS = 3
MADE = re.compile(r"^ *[\w, ]+ = w\.(?!loop\b)\w+\(", re.MULTILINE)
PAIR = re.compile(r" = w\.(?:tls_)?pair\(")
FAILING_TLS = re.compile(r'"untrusted"|"stranger"|\.garble\(')
LOOSE = re.compile(r"w\.kill\(|server\(|\.sendfile\(|w\.child\(|w\.process\(")
# More than one record of TLS: how many arrive at once is open.
MUCH_TLS = re.compile(r"w\.tls.*\b[1-9]\d{4}", re.DOTALL)
NAMESPACE = {"asyncio": asyncio, "signal": signal}


class Turning:
    """Makes loops that tell once of what is ready in the other order.

    That is the time of this number, of those when it was more than one.
    """

    def __init__(self, number):
        self.left = number

    def make(self):
        selector = selectors.EpollSelector()
        selector.select = functools.partial(self._select, selector.select)
        return asyncio.SelectorEventLoop(selector)

    def _select(self, select, timeout=None):
        ready = select(timeout)
        if len(ready) > 1:
            self.left -= 1
            if self.left == 0:
                ready.reverse()
        return ready


def on_alarm(number, frame):
    raise Hung(f"still running after {LIMIT} s")


def with_fallback():
    """becket's own loop, which speaks TLS by the SSLObject."""
    with mock.patch.dict(os.environ, BECKET_TLS_ENGINE=FALLBACK):
        return make_loop("epoll")


def new_loop(name):
    if name == FALLBACK:
        return with_fallback()
    selector = OTHER_ORACLES.get(name)
    if selector is not None:
        return asyncio.SelectorEventLoop(selector())
    return make_loop(name)


@functools.lru_cache(maxsize=8)
def compiled(source):
    return compile(source, "<program>", "exec")


def load(source):
    """The function that a program's text defines."""
    namespace = dict(NAMESPACE)
    exec(compiled(source), namespace)
    return namespace["program"]


def play(source, make):
    """The trace of a program on the loop that this makes."""
    world = World(make)
    before = signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, LIMIT)
    gc.disable()
    gc.freeze()  # what the harness itself has need not be walked
    try:
        return world.play(load(source))
    finally:
        gc.enable()
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)


def is_loose(source):
    """Whether a turn more or less, or the order of two objects, is open.

    It is where two descriptors may be ready at once, and for signals: CPython
    wakes up by the same socket for them and for call_soon_threadsafe().
    """
    if MUCH_TLS.search(source):
        return True
    made = len(MADE.findall(source)) + len(PAIR.findall(source))
    several = LOOSE.search(source) is not None
    return several or made > 1


def is_open(event):
    """Whether what comes after it is nobody's promise.

    Where a recursion ends depends on the stack's depth; and what is left to
    the collector is closed when that pleases.
    """
    return "RecursionError" in event.what or FORGOTTEN in event.what


def by_lane(trace):
    """What each object did, step by step, whatever came in between.

    What arrived in one step is joined: chunks are not promised.
    """
    lanes = {}
    for event in trace:
        events = lanes.setdefault((event.step, event.lane), [])
        last = events[-1] if events else None
        if (
            last is not None
            and event.data is not None
            and last.data is not None
            and last.what == event.what
        ):
            events[-1] = last._replace(data=last.data + event.data)
        else:
            events.append(event._replace(turn=0))
    return lanes


def by_direction(trace):
    """As by_lane(); and what depends on the chunks of much data is open.

    That is when an object is told of writing and what it does between two
    chunks, how much has come before it is lost without an end, and how the
    other side learns of that.
    """
    trace = list(trace)
    if max((len(event.data or b"") for event in trace), default=0) < MUCH:
        return by_lane(trace)
    lanes = by_lane(
        without_chunks(event)
        for event in trace
        if not event.what.startswith("get_buffer")
    )
    for (step, lane), events in lanes.items():
        kinds = {
            event.what.partition(" ")[0]
            for event in lanes.get((step, lane.removesuffix(DATA)), ())
        }
        if "connection_lost" in kinds and "eof_received" not in kinds:
            cut_much(events)
    return lanes


def without_chunks(event):
    if event.what.startswith(("pause_writing", "resume_writing")):
        return event._replace(lane=f"{event.lane} writing")
    if event.data is not None:
        return event._replace(lane=event.lane + DATA)
    return event._replace(what=GONE.sub("connection_lost early", event.what))


def cut_much(events):
    """Leave as much as is sure to have come."""
    for number, event in enumerate(events):
        if event.data is not None:
            events[number] = event._replace(data=event.data[:MUCH])


def by_end(trace):
    """As by_direction(); but not when the peer sees that TLS has failed.

    becket's alert, and what was to be sent before it, is there before CPython
    closes the connection.
    """
    return by_direction(
        event
        for event in trace
        if ".peer" not in event.lane
        or not (event.data == b"" or event.what.startswith("handshake"))
    )


def view_of(source):
    """What of two traces has to be equal."""
    if FAILING_TLS.search(source):
        return by_end
    return by_direction if is_loose(source) else list


def plays_in_other_orders(source):
    """Traces of CPython's loop where descriptors are ready in other orders."""
    for name in OTHER_ORACLES:
        yield play(source, functools.partial(new_loop, name))
    for number in range(1, TIMES + 1):
        turning = Turning(number)
        trace = play(source, turning.make)
        if turning.left > 0:
            return
        yield trace


class Verdict(NamedTuple):
    """What a comparison came to; text is empty unless the loops differ."""

    how: str  # same, order, selector, unstable, left out, or differs
    text: str = ""


class Judge:
    """Compares one program on CPython's loop and on others."""

    def __init__(self, names):
        self.names = names

    def _play(self, source, name):
        loops = MUTANTS | HARMLESS
        if name not in loops:
            return play(source, functools.partial(new_loop, name))
        with loops[name]() as make:
            return play(source, make)

    def judge(self, source):
        """A verdict for each name that has to do with the program."""
        names = [
            name
            for name in self.names
            if name != FALLBACK or "w.tls" in source
        ]
        expected = self._play(source, ORACLE)
        if any(is_open(event) for event in expected):
            return dict.fromkeys(names, Verdict("left out"))
        return {
            name: self._judge_one(source, name, expected) for name in names
        }

    def _judge_one(self, source, name, expected):
        found = self._play(source, name)
        if found == expected:
            return Verdict("same")
        view = view_of(source)
        if view(found) == view(expected):
            return Verdict("order")
        for other in plays_in_other_orders(source):
            if view(other) == view(found):
                return Verdict("selector")
        for _ in range(REPETITIONS):
            again = view(self._play(source, ORACLE))
            if again == view(self._play(source, name)):
                return Verdict("unstable")
        return Verdict("differs", describe(expected, found, name))


def describe(expected, found, name):
    lines = difflib.unified_diff(
        [str(event) for event in expected],
        [str(event) for event in found],
        "CPython's loop",
        name,
        lineterm="",
        n=5,
    )
    return "\n".join(lines)
