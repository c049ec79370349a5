# SPDX-License-Identifier: MIT
"""Playing scenarios while things go wrong.

A Plan says what goes wrong and when: at the nth time that the scenario waits,
or in the nth turn of the loop. A trial plays one scenario to one plan, ends
what the user would end, and then checks that nothing is left: no descriptor
is open that was not, nothing is registered with the poller, no task runs, and
nobody has received what was meant for somebody else.
"""

import asyncio
import gc
import random
import subprocess
import time
from typing import NamedTuple

from support.canaries import Table, polled
from support.children import children, end_all
from support.stage import World

# Seconds until a scenario that does not end is cancelled: enough for all that
# do, little for those whose socket the user has taken away, which wait for
# ever as in CPython.
PATIENCE = 5.0
PATIENCE_AFTER_THEFT = 0.003
SETTLING_TURNS = 4

# What scenarios may raise: their sockets were closed, their peers went away,
# or they were cancelled.
EXPECTED = (OSError, EOFError, ValueError, MemoryError)
EXPECTED += (asyncio.CancelledError,)
# The same, of no type of its own.
EXPECTED_TEXTS = ("can't start new thread",)
# asyncio's sendfile() over TLS, when its transport is closed.
EXPECTED_TEXTS += ("Transport is closing",)
EXPECTED_TEXTS += ("Invalid state: reading should be paused",)


class Plan(NamedTuple):
    """What goes wrong: an action, and when."""

    action: str = "nothing"
    trigger: str = "await"  # "await": before it waits; "late": in the next
    # turn; "turn": at the beginning of a turn; "timer": at the end of one
    nth: int = 0  # 0: never

    def __str__(self):
        return f"{self.action} at {self.trigger} {self.nth}"


def nothing(trial):
    pass


def cancel(trial):
    trial.task.cancel()


def cancel_all(trial):
    for task in asyncio.all_tasks(trial.world.loop):
        if task is not trial.main:
            task.cancel()


def of_world(name):
    def action(trial):
        getattr(trial.world, name)()

    action.__name__ = name
    return action


def close_and_cancel(trial):
    trial.world.close_given()
    trial.task.cancel()


ACTIONS = {
    "nothing": nothing,
    "cancel": cancel,
    "cancel_all": cancel_all,
    "close_given": of_world("close_given"),
    "detach_given": of_world("detach_given"),
    "keep_given": of_world("keep_given"),
    "shut_given": of_world("shut_given"),
    "close_files": of_world("close_files"),
    "close_peers": of_world("close_peers"),
    "reset_peers": of_world("reset_peers"),
    "abort_transports": of_world("abort_transports"),
    "close_transports": of_world("close_transports"),
    "close_servers": of_world("close_servers"),
    "close_and_cancel": close_and_cancel,
}

TRIGGERS = ("await", "late", "turn", "timer")


class Waits:
    """Awaits a coroutine, and tells each time that it waits."""

    def __init__(self, coroutine, on_wait):
        self._coroutine = coroutine
        self._on_wait = on_wait
        self.count = 0

    def __await__(self):
        step, argument = self._coroutine.send, None
        while True:
            try:
                awaited = step(argument)
            except StopIteration as exc:
                return exc.value
            self.count += 1
            self._on_wait(self.count)
            try:
                argument = yield awaited
                step = self._coroutine.send
            except BaseException as exc:
                step, argument = self._coroutine.throw, exc
            # A traceback that leads here must not keep a result alive.
            awaited = None


class Outcome(NamedTuple):
    """What came of a trial."""

    error: BaseException | None  # what the scenario raised
    waits: int
    turns: int
    given: str  # "open closed": the given sockets, before the user closes them
    losses: list  # what connection_lost() and readers were told
    reports: list  # what the exception handler was told
    unraisable: list  # what nobody could be told


async def settle():
    for _ in range(SETTLING_TURNS):
        await asyncio.sleep(0)


class Trial:
    """One scenario, played once."""

    def __init__(self, stage, scenario, plan, patience=None, is_lied_to=False):
        self.stage = stage
        self.scenario = scenario
        self.plan = plan
        self.patience = patience or PATIENCE
        self.is_lied_to = is_lied_to
        self.world = World(stage)
        self.task = None
        self.main = None
        self.has_acted = False
        self._waits = None
        self._turns = 0
        self._handles = []

    def run(self, on_start=None, on_end=None):
        """Play it; on_start and on_end frame what may be made to fail."""
        self.stage.reports.clear()
        self.stage.unraisable.clear()
        play = self.scenario.prepare(self.world)
        try:
            return self.stage.run(self._play(play, on_start, on_end))
        finally:
            self.world.close()
            # Only now the loop learns that the user has closed the socket of
            # a connection that still says goodbye: a selector keeps its
            # number until then, as it does for CPython.
            self.stage.run(settle())

    async def _play(self, play, on_start, on_end):
        loop = self.stage.loop
        self.main = asyncio.current_task()
        self._waits = Waits(play(), self._on_wait)
        if on_start is not None:
            on_start()
        self.task = loop.create_task(self._wait())
        self._handles.append(loop.call_soon(self._on_turn))
        self._end_after(self.patience)
        await asyncio.wait([self.task])
        await settle()
        if on_end is not None:
            on_end()
        given = self.world.open_given()
        for handle in self._handles:
            handle.cancel()
        # Those of failed scenarios: their user would end them now.
        await self._end_tasks()
        self.world.end_goodbyes()
        await settle()
        self.world.check()
        error = None
        if not self.task.cancelled():
            error = self.task.exception()
        return Outcome(
            error=error,
            waits=self._waits.count,
            turns=self._turns,
            given=given,
            losses=self.world.told
            + [p.error for p in self.world.protocols if p.is_lost],
            reports=list(self.stage.reports),
            unraisable=list(self.stage.unraisable),
        )

    async def _wait(self):
        return await self._waits

    async def _end_tasks(self):
        others = asyncio.all_tasks(self.stage.loop) - {self.main}
        for task in others:
            task.cancel()
        if others:
            _, alive = await asyncio.wait(others, timeout=PATIENCE)
            assert not alive, f"tasks that do not end: {alive}"
        await settle()
        await self._end_processes()

    async def _end_processes(self):
        """Those that were killed are reaped by the loop, soon."""
        deadline = time.monotonic() + PATIENCE
        while left := children():
            assert time.monotonic() < deadline, f"processes left: {left}"
            # Those that failed as Popen started them are Popen's to reap.
            subprocess._cleanup()
            if self.is_lied_to:
                end_all(left)
            await asyncio.sleep(0.001)
        await settle()

    def _end_after(self, seconds):
        """Cancel it then, and again and again as long as it lives on."""
        if not self.task.done():
            self._handles.append(
                self.stage.loop.call_later(seconds, self._end, seconds)
            )

    def _end(self, seconds):
        self.task.cancel()
        self._end_after(seconds)

    def _on_wait(self, count):
        if count != self.plan.nth:
            return
        if self.plan.trigger == "await":
            self._act()
        elif self.plan.trigger == "late":
            self._handles.append(self.stage.loop.call_soon(self._act))

    def _on_turn(self):
        self._turns += 1
        if self._turns == self.plan.nth:
            if self.plan.trigger == "turn":
                self._act()
            elif self.plan.trigger == "timer":
                # Due at once, so it runs after this turn's I/O.
                self._handles.append(self.stage.loop.call_later(0, self._act))
        if not self.task.done():
            self._handles[0] = self.stage.loop.call_soon(self._on_turn)

    def _act(self):
        if self.task.done() or self.has_acted:
            return
        self.has_acted = True
        ACTIONS[self.plan.action](self)
        self._end_after(PATIENCE_AFTER_THEFT)


class Checker:
    """Compares what is open and polled with what it was before the trials."""

    def __init__(self, stage, canaries=None, wait=2.0):
        self._stage = stage
        self._canaries = canaries
        self._wait = wait
        self._table, self._polled = self._look()

    def _look(self):
        if self._canaries is None:
            return Table(), polled(self._stage.loop)
        self._canaries.pause()
        try:
            return Table(), polled(self._stage.loop)
        finally:
            self._canaries.resume()

    def check(self):
        """AssertionError when something is left, or a canary was damaged."""
        deadline = time.monotonic() + self._wait
        while text := self._difference():
            # A thread of the resolver may still be at work.
            if time.monotonic() > deadline:
                raise AssertionError(text)
            gc.collect()
            time.sleep(0.001)
        if self._canaries is not None:
            self._canaries.check()

    def _difference(self):
        table, registered = self._look()
        text = table.difference(self._table)
        if registered != self._polled:
            text += f" polled: {self._polled} became {registered}"
        return text.strip()


class Campaign:
    """Many trials on one stage, each followed by a check."""

    def __init__(self, stage, canaries=None):
        self.stage = stage
        self._canaries = canaries
        self._checker = None
        self.trials = 0

    def warm_up(self, scenarios, is_checked=True):
        """Play each once, so that what is made once for all is there."""
        for scenario in scenarios:
            Trial(self.stage, scenario, Plan()).run()
        gc.collect()
        if is_checked:
            self._checker = Checker(self.stage, self._canaries)

    def play(
        self,
        scenario,
        plan,
        note="",
        patience=None,
        is_lied_to=False,
        **frame,
    ):
        """One trial; AssertionError, telling which, when it fails."""
        trial = Trial(self.stage, scenario, plan, patience, is_lied_to)
        self.trials += 1
        try:
            outcome = trial.run(**frame)
            check_error(outcome)
            if self._checker is not None:
                self._checker.check()
        except Exception as exc:
            exc.add_note(
                f"trial {self.trials}: {scenario.name}, {plan}, {note}"
                f" {self.stage.backend}"
            )
            raise
        return outcome


def check_error(outcome):
    """Nobody raised, or was told, what no plan explains."""
    found = [outcome.error]
    found += outcome.losses
    found += [report.get("exception") for report in outcome.reports]
    found += outcome.unraisable
    for exc in found:
        if exc is not None and not is_expected(exc):
            raise exc


def is_expected(exc):
    """Also what comes of one: add_signal_handler() raises RuntimeError."""
    return (
        isinstance(exc, EXPECTED)
        or str(exc) in EXPECTED_TEXTS
        or isinstance(exc.__cause__, OSError)
    )


def length(campaign, scenario):
    """How often a scenario waits, and in how many turns it ends."""
    outcomes = [campaign.play(scenario, Plan()) for _ in range(3)]
    return (
        max(outcome.waits for outcome in outcomes),
        max(outcome.turns for outcome in outcomes),
    )


def every_plan(campaign, scenario, limit=24):
    """All plans for a scenario: each action at each point, up to a limit."""
    waits, turns = length(campaign, scenario)
    for action in ACTIONS:
        for trigger in TRIGGERS:
            points = waits if trigger in ("await", "late") else turns
            for nth in range(1, min(points, limit) + 1):
                yield Plan(action, trigger, nth)


def random_plan(rng, points=30):
    """Any action at any point, the first ones more often."""
    return Plan(
        rng.choice(tuple(ACTIONS)),
        rng.choice(TRIGGERS),
        1 + int(points * rng.random() ** 2),
    )


def new_seed():
    return random.randrange(1 << 32)
