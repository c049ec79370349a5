# SPDX-License-Identifier: MIT
"""Canaries: scenarios cancelled, robbed and made to fail beside busy threads.

While native threads open and close descriptors at full speed, each trial
plays one scenario to one plan, chosen at random: it is cancelled at a random
await, or its sockets are closed or detached at a random turn, or its peers
vanish, and about half the time one of its system calls fails too. After every
trial every canary is looked at, and the descriptors and the poller's entries
must be what they were.

    python tests/python/isolated/canaries.py --trials 100000

The seed is printed first, and repeats the run: --seed. With --results FILE
the counts are added to that file, from which canary_document.py writes the
section of docs/reliability.md.
"""

import argparse
import collections
import json
import os
import pathlib
import platform
import random
import sys
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from support import faults as fault_names
from support.canaries import Canaries
from support.faults import Libc
from support.loops import BACKENDS, VARIABLE
from support.scenarios import chosen
from support.stage import Stage
from support.sweeps import Fault, Sweep
from support.trials import Campaign, every_plan, new_seed, random_plan

# A stage is played on for so long: a new loop now and then.
TRIALS_PER_STAGE = 2000
FAULTS_IN_TEN = 5


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--trials", type=int, default=1000)
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--seed", type=int, default=new_seed())
    parser.add_argument(
        "--poller", choices=BACKENDS, default=os.environ.get(VARIABLE)
    )
    parser.add_argument(
        "--only", help="scenarios of this module, or of this name"
    )
    parser.add_argument(
        "--results", type=pathlib.Path, help="add the counts to this file"
    )
    parser.add_argument(
        "--every-point",
        action="store_true",
        help="each action at each point in turn, and each failing call,"
        " instead of at random",
    )
    return parser.parse_args(argv)


def random_fault(rng, counts):
    """One of the calls that the scenario makes, or nothing."""
    if not counts or rng.randrange(10) >= FAULTS_IN_TEN:
        return None
    call = rng.choice(sorted(counts))
    error = rng.choice(fault_names.errnos(call))
    return Fault(call, rng.randint(1, counts[call]), error)


class Run:
    """The trials of one command, on one stage after the other."""

    def __init__(self, options, poller):
        self.options = options
        self.poller = poller
        self.rng = random.Random(options.seed)
        self.actions = collections.Counter()
        self.trials = self.faults = self.canaries = 0
        self.engine = None  # of TLS

    def play(self, canaries, count):
        """Play so many trials on a new stage."""
        scenarios = chosen(self.options.only)
        libc = Libc()
        stage = Stage(self.poller, libc)
        self.engine = stage.loop.tls_engine
        campaign = Campaign(stage, canaries)
        sweep = Sweep(campaign, libc)
        try:
            campaign.warm_up(scenarios)
            counts = {each.name: sweep.counts(each) for each in scenarios}
            if self.options.every_point:
                self._play_every_point(campaign, sweep, scenarios)
            else:
                self._play_at_random(sweep, scenarios, counts, count)
        finally:
            self.trials += campaign.trials
            self.faults += sweep.injected
            stage.close()

    def _play_at_random(self, sweep, scenarios, counts, count):
        for _ in range(count):
            scenario = self.rng.choice(scenarios)
            plan = random_plan(self.rng)
            fault = random_fault(self.rng, counts[scenario.name])
            sweep.disturb(scenario, plan, fault)
            self.actions[plan.action] += 1
            if self.is_over():
                return

    def _play_every_point(self, campaign, sweep, scenarios):
        for scenario in scenarios:
            for plan in every_plan(campaign, scenario):
                campaign.play(scenario, plan)
                self.actions[plan.action] += 1
            for fault in sweep.all_faults(scenario):
                sweep.inject(scenario, fault)

    def is_over(self):
        limit = self.options.seconds
        return limit is not None and time.monotonic() - STARTED > limit

    def run(self):
        with Canaries(self.options.seed) as canaries:
            left = self.options.trials
            while left > 0 and not self.is_over():
                self.play(canaries, min(left, TRIALS_PER_STAGE))
                left -= TRIALS_PER_STAGE
                if self.options.every_point:
                    break
            self.canaries = canaries.rounds
        if self.canaries == 0:
            raise AssertionError("the threads opened nothing")

    def report(self):
        acted = ", ".join(
            f"{n} {what}" for what, n in sorted(self.actions.items())
        )
        print(
            f"{self.poller}, {self.engine}: {self.trials} trials ({acted}),"
            f" {self.faults} failed system calls, {self.canaries} canaries:"
            " none was damaged, nothing was left",
            flush=True,
        )
        if self.options.results is not None:
            with self.options.results.open("a") as file:
                print(json.dumps(self.counts()), file=file)

    def counts(self):
        """What is told of a run in which everything was well."""
        return {
            "python": platform.python_version(),
            "poller": self.poller,
            "engine": self.engine,
            "seed": self.options.seed,
            "trials": self.trials,
            "actions": dict(self.actions),
            "faults": self.faults,
            "canaries": self.canaries,
        }


STARTED = time.monotonic()


def main():
    options = parse(sys.argv[1:])
    Libc.preload()
    print("seed", options.seed, flush=True)
    for poller in [options.poller] if options.poller else BACKENDS:
        run = Run(options, poller)
        try:
            run.run()
        except BaseException:
            note_failure(options, poller)
            raise
        run.report()


def note_failure(options, poller):
    """A run that has failed stays among the results."""
    if options.results is not None:
        failure = {"poller": poller, "seed": options.seed, "failed": True}
        with options.results.open("a") as file:
            print(json.dumps(failure), file=file)


if __name__ == "__main__":
    main()
