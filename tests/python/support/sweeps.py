# SPDX-License-Identifier: MIT
"""Each system call of a scenario made to fail in turn, with each errno."""

import errno
import os
from typing import NamedTuple

from support import faults as fault_names
from support.trials import Plan
from support.verdicts import is_lie

UNDISTURBED = Plan()
SHORTAGES = ("EMFILE", "ENFILE", "ENOBUFS", "ENOMEM")
PATIENCE_IN_VAIN = 0.02


class Fault(NamedTuple):
    call: str
    nth: int
    error: str  # its name

    def __str__(self):
        return f"{self.call}() number {self.nth} gives {self.error}"


def faults_of(counts, each=None):
    """All faults of so many calls; of each kind the first `each` only."""
    return [
        Fault(call, nth, error)
        for call, count in counts.items()
        for nth in range(1, min(count, each or count) + 1)
        for error in fault_names.errnos(call)
    ]


def is_about(exc, number):
    """Whether an exception, or one that it comes from, has this errno."""
    if exc is None:
        return False
    if isinstance(exc, BaseExceptionGroup):
        return any(is_about(inner, number) for inner in exc.exceptions)
    if isinstance(exc, MemoryError):
        return number == errno.ENOMEM
    if isinstance(exc, RuntimeError) and "new thread" in str(exc):
        return number in (errno.EAGAIN, errno.EPERM)
    if isinstance(exc, OSError):
        if exc.errno == number:
            return type(exc) is type(OSError(number, ""))
        if exc.errno is None and os.strerror(number) in str(exc):
            return True  # "Multiple exceptions: ..."
    return is_about(exc.__cause__, number) or is_about(exc.__context__, number)


def arrival(outcome, number):
    """Where the failure arrived: 'raised', 'lost', 'reported', ...

    'unnoticed': nowhere, and the scenario went on to its end; 'other': the
    scenario ended with something that does not tell of the failure.
    """
    if is_about(outcome.error, number):
        return "raised"
    if any(is_about(exc, number) for exc in outcome.losses):
        return "lost"
    reported = [report.get("exception") for report in outcome.reports]
    if any(is_about(exc, number) for exc in reported):
        return "reported"
    if any(is_about(exc, number) for exc in outcome.unraisable):
        return "unraisable"
    return "unnoticed" if outcome.error is None else "other"


def is_shortage(fault):
    """Accepting then rests for a second, which nobody waits for here."""
    return fault.call == "accept" and fault.error in SHORTAGES


def patience_for(fault):
    """Who is told that a process is no more may wait for it for ever."""
    is_in_vain = is_shortage(fault) or is_lie(fault)
    return PATIENCE_IN_VAIN if is_in_vain else None


class Sweep:
    """All faults of one scenario after the other."""

    def __init__(self, campaign, faults):
        self._campaign = campaign
        self._faults = faults
        self.injected = 0

    def counts(self, scenario):
        """How often each call is made when nothing fails."""
        self._campaign.play(
            scenario,
            Plan(),
            on_start=lambda: self._faults.arm(None, 0, 0),
            on_end=self._faults.disarm,
        )
        return self._faults.counts()

    def all_faults(self, scenario, each=None):
        """Every fault; of each call the first `each` only, if given."""
        return faults_of(self.counts(scenario), each)

    def disturb(self, scenario, plan, fault=None):
        """One trial, with both kinds of trouble."""
        if fault is None:
            return self._campaign.play(scenario, plan)
        return self.inject(scenario, fault, plan)[1]

    def inject(self, scenario, fault, plan=UNDISTURBED, patience=None):
        """Play it with this fault, for so many seconds at most; where it
        arrived, None: no such call."""
        number = fault_names.number(fault.error)
        fired = []
        outcome = self._campaign.play(
            scenario,
            plan,
            on_start=lambda: self._faults.arm(fault.call, fault.nth, number),
            on_end=lambda: fired.append(self._faults.disarm()),
            note=str(fault),
            patience=patience or patience_for(fault),
            is_lied_to=is_lie(fault),
        )
        if not fired or not fired[0]:
            return None, outcome
        self.injected += 1
        return arrival(outcome, number), outcome
