# SPDX-License-Identifier: MIT
"""The stage on which one program runs: its loop, its names, its trace.

A program is a function of a World. It names objects and defines callbacks,
hooks and steps; World.play() then makes the objects and runs one step after
the other, each until the loop has nothing more to do.

The clock is virtual: it stands still until a step moves it. No program waits
for real time, so none depends on it.
"""

import asyncio
import contextlib
import contextvars
import functools
import gc
import logging
import os
import sys
import threading
import warnings

from processes import AllThings, settled_starts
from record import Event, clean, show, show_context
from things import Jobs, PromptJobs

# A step ends after so many turns in which nothing was noted...
QUIET = 6
# ... and at the latest after so many.
BUSY = 80
# A body runs so many times, or two callbacks would call each other for ever.
REPEATS = 4
START = 1000.0
# Of a connection that came while its server was closing.
FORGOTTEN = "CPython leaves a connection to the collector"


class Error(Exception):
    """What programs raise."""


class Hung(BaseException):
    """A program did not end in time."""


def is_late(event):
    """Whether a destructor said it."""
    if event.lane in ("warning", "unraisable"):
        return True
    return "never retrieved" in event.what or "destroyed" in event.what


def watch_by_pidfd(loop):
    """CPython 3.11 has a thread for each child; how fast that is, is open."""
    if sys.version_info < (3, 12):
        watcher = asyncio.PidfdChildWatcher()
        watcher.attach_loop(loop)
        asyncio.set_child_watcher(watcher)


class Nothing:
    """A name that no statement has given a meaning yet."""

    def __getattr__(self, name):
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args, **kwargs):
        return self

    def __await__(self):
        return iter(())


NOTHING = Nothing()
NAMES = ("f0", "f1", "h0", "h1", "t0", "t1", "p0", "p1")


class World(AllThings):
    """Everything that a program sees of the harness."""

    Error = Error
    nothing = NOTHING

    def __init__(self, make_loop):
        super().__init__()
        self.loop = None
        self._make_loop = make_loop
        self.trace = []
        self.turn = 0
        self.step_number = 0
        self.now = START
        self.ticks = 0
        self.quiet_turns = QUIET
        self.lane = "program"
        self.var = contextvars.ContextVar("var", default=0)
        self.contexts = [contextvars.Context() for _ in range(2)]
        for number, context in enumerate(self.contexts, 8):
            context.run(self.var.set, number)
        self.executor = Jobs(self)
        self.steps = []
        self.ends_abruptly = False
        self.resuming = False
        self._reps = {}
        self._hooks = {}
        self._each_turn = []
        self._settled = False
        self._failure = None  # of the harness itself
        for name in NAMES:
            setattr(self, name, NOTHING)

    # --- the trace ---

    def note(self, lane, what, data=None):
        """Add one event, with the context variable as it is here."""
        if ".peer" not in lane:  # no business of the loop's
            what = f"{what} @{self.var.get()}"
        data = None if data is None else bytes(data)
        event = Event(self.step_number, self.turn, lane, what, data)
        self.trace.append(event)

    def log(self, *values):
        """For programs: note values where they are."""
        self.note(self.lane, " ".join(map(show, values)))

    def tried(self, function, *args, **kwargs):
        """Call; note what comes of it, also when it raises."""
        name = function.__name__
        try:
            result = function(*args, **kwargs)
        except Exception as exc:
            self.note(self.lane, f"{name} raised {show(exc)}")
        else:
            self.note(self.lane, f"{name} = {show(result)}")

    def is_spent(self, name):
        """Whether the body of this name has run often enough."""
        self._reps[name] = self._reps.get(name, 0) + 1
        return self._reps[name] > REPEATS

    @contextlib.contextmanager
    def inside(self, lane):
        before, self.lane = self.lane, lane
        try:
            yield
        finally:
            self.lane = before

    # --- what programs define ---

    def callback(self, function):
        """A callback, which notes its arguments and runs a few times."""
        name = function.__name__

        @functools.wraps(function)
        def wrapper(*args):
            self.note(name, "called with " + show(args))
            if not self.is_spent(name):
                with self.inside(name):
                    return function(*args)

        return wrapper

    def reader(self, function):
        """A callback that takes first what there is to read."""
        inner = self.callback(function)

        @functools.wraps(function)
        def wrapper(x, *args):
            x.take()
            inner(x, *args)

        return wrapper

    def writer(self, function):
        """A callback that is removed, so that it is called once."""
        inner = self.callback(function)

        @functools.wraps(function)
        def wrapper(x, *args):
            self.loop.remove_writer(x.sock)
            inner(x, *args)

        return wrapper

    def task(self, function):
        """A coroutine function; what ends it is noted."""
        name = function.__name__

        @functools.wraps(function)
        async def wrapper(*args):
            self.note(name, "began")
            try:
                result = None
                if not self.is_spent(name):
                    result = await function(functools.partial(self.say, name))
            except BaseException as exc:
                self.note(name, f"raised {show(exc)}")
                raise
            self.note(name, f"returned {show(result)}")
            return result

        return wrapper

    def say(self, lane, *values):
        """What a coroutine notes: others run while it waits."""
        self.note(lane, " ".join(map(show, values)))

    def on(self, what, number):
        """What a protocol does in the number-th call of a method of its."""

        def decorate(function):
            self._hooks[what, number] = function
            return function

        return decorate

    def step(self, function):
        self.steps.append(function)
        return function

    def advance(self, seconds):
        """A step in which time passes."""
        self.steps.append(seconds)

    def tick(self, seconds):
        """A delay; no two are equal, as the order of equals is left open."""
        self.ticks += 1
        return seconds + self.ticks / 1024

    def hook(self, lane, method):
        """Run what the program does at this call of a protocol's method."""
        key = f"{lane}.{method}"
        number = self._reps[key] = self._reps.get(key, 0) + 1
        function = self._hooks.get((key, number))
        if function is None:
            return None
        before = self.resuming
        self.resuming = before or method == "resume_writing"
        try:
            with self.inside(lane):
                return function()
        finally:
            self.resuming = before

    def each_turn(self, function):
        """Call it in every turn, until it returns false."""
        self._each_turn.append(function)

    def in_thread(self, function, *args):
        """Call it in another thread, and wait for that."""
        thread = threading.Thread(target=self.tried, args=(function, *args))
        thread.start()
        thread.join()

    # --- running ---

    def play(self, program):
        """Run the whole program; self.trace is what it did."""
        with self._watching(), settled_starts():
            self._prepare()
            program(self)
            self._run_step(self._create_all)
            self._run_steps()
            self._finish()
        return self.trace

    def _prepare(self):
        self.loop = self._make_loop()
        watch_by_pidfd(self.loop)
        self.loop.time = lambda: self.now
        self.loop.set_default_executor(PromptJobs(self))
        self.loop.set_exception_handler(
            lambda loop, context: self.note("handler", show_context(context))
        )

    def _run_steps(self):
        for number, step in enumerate(self.steps, 1):
            self.step_number = number
            self._run_step(step)

    def _run_step(self, step):
        self.turn = 0
        if isinstance(step, int):
            self.now += step
            self.note("clock", f"{step} later")
        elif asyncio.iscoroutinefunction(step):
            self.loop.create_task(self._guarded(step))
        else:
            self.loop.call_soon(step)
        self.settle()

    async def _guarded(self, step):
        try:
            await step(functools.partial(self.say, "step"))
        except BaseException as exc:
            self.note("step", f"raised {show(exc)}")

    def settle(self):
        """Run the loop until it does nothing, whoever stops it."""
        self._settled = False
        self._count = (0, len(self.trace))
        self.loop.call_soon(self._pass)
        for _ in range(BUSY):
            try:
                self.loop.run_forever()
            except Hung:
                raise
            except BaseException as exc:
                self.note("run", f"raised {show(exc)}")
            if self._failure is not None:
                raise self._failure
            if self._settled:
                return
            self.note("run", "stopped")
        self.note("run", "stopped for ever")

    def _pass(self):
        """Count a turn; the last of a step stops the loop."""
        self.turn += 1
        try:
            self._each_turn = [each for each in self._each_turn if each()]
            self.settle_children()
        except BaseException as exc:
            self._failure = exc
            self.loop.stop()
            return
        quiet, length = self._count
        quiet = quiet + 1 if length == len(self.trace) else 0
        self._count = (quiet, len(self.trace))
        if quiet >= self.quiet_turns or self.turn >= BUSY:
            self._settled = True
            self.loop.stop()
        else:
            self.loop.call_soon(self._pass)

    # --- the end ---

    def _finish(self):
        self.step_number += 1
        self.turn = 0
        for lane, state in self.states():
            self.note(lane, f"ends as {state}")
        self._note_forgotten()
        # What a suspended coroutine does when it is collected is open.
        # CPython has tasks for what it accepts, becket has none.
        is_abrupt = self.ends_abruptly and not self.children + self.servers
        if not is_abrupt or asyncio.all_tasks(self.loop):
            self._close_all()
        self.loop.close()
        self.tried(self.loop.call_soon, len)
        self.tried(self.loop.run_forever)
        self.close_peers()
        self.reap_children()
        self.note("run", f"closed {self.loop.is_closed()}")

    def _note_forgotten(self):
        if self.have_forgotten():
            self.note("run", FORGOTTEN)

    def _close_all(self):
        """As asyncio.run() would, and the transports too."""
        self.loop.call_soon(self.stop_sending)
        self.settle()
        self._note_forgotten()  # what had been scheduled may close a server
        self.step_number += 1
        self.loop.call_soon(self.abort_all)
        self.settle()
        tasks = asyncio.all_tasks(self.loop)
        for task in sorted(tasks, key=lambda task: task.get_name()):
            try:
                task.cancel()
            except RecursionError:
                self.note("run", "tasks wait for each other in a circle")
        self.settle()
        for name in ("f0", "f1", "t0", "t1"):
            self.note(name, f"is {show(getattr(self, name))}")
        self.loop.run_until_complete(self.loop.shutdown_asyncgens())

    @contextlib.contextmanager
    def _watching(self):
        """Note warnings, log records and what nobody could be told."""
        handler = Told(self)
        logger = logging.getLogger("asyncio")
        hook = sys.unraisablehook
        sys.unraisablehook = self._on_unraisable
        logger.addHandler(handler)
        logger.propagate = False
        before = len(os.listdir("/proc/self/fd"))
        try:
            with warnings.catch_warnings(record=True) as caught:
                warnings.simplefilter("always")
                yield
                self.forget()
                gc.collect()
                self._note_warnings(caught)
        finally:
            logger.removeHandler(handler)
            sys.unraisablehook = hook
        self._put_late_last()
        left = len(os.listdir("/proc/self/fd")) - before
        self.note("run", f"{left} descriptors left")

    def _note_warnings(self, caught):
        for each in caught:
            text = clean(str(each.message))
            # Of a writer, or a socket, and its transport, the one that is
            # collected first says so.
            if text != "loop is closed" and "<socket.socket" not in text:
                self.note("warning", f"{each.category.__name__} {text}")

    def _put_late_last(self):
        """What is told when an object dies: when that is, nobody promises."""
        late = [event for event in self.trace if is_late(event)]
        self.trace = [event for event in self.trace if not is_late(event)]
        for event in sorted(late, key=lambda event: event[2:4]):
            what = event.what.rpartition(" @")[0]
            self.trace.append(event._replace(step=99, turn=0, what=what))

    def _on_unraisable(self, unraisable):
        where = getattr(unraisable.object, "__qualname__", "?")
        self.note("unraisable", f"{where} {show(unraisable.exc_value)}")

    def forget(self):
        """Drop every object of the program, for the collector to find."""
        self._hooks.clear()
        self._each_turn.clear()
        self.steps.clear()
        self.drop()
        for name in NAMES:
            setattr(self, name, NOTHING)
        self.executor = NOTHING
        self.contexts.clear()
        self.loop = None


class Told(logging.Handler):
    """What asyncio logs becomes part of the trace."""

    def __init__(self, world):
        super().__init__(logging.WARNING)
        self.world = world

    def emit(self, record):
        text = clean(record.getMessage().partition("\n")[0])
        self.world.note("log", f"{record.levelname} {text}")
