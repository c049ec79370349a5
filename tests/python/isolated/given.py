# SPDX-License-Identifier: MIT
"""What becomes of a socket that the loop was given: as CPython has it.

Each scenario that gives a socket away is played on becket's loop and on
CPython's, cancelled or disturbed at the same await, or with the same system
call failing in the same way, and sock.fileno() has to tell the same
afterwards: closed, or open.

    python tests/python/isolated/given.py --faults
"""

import argparse
import collections
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from support.faults import Libc
from support.loops import BACKENDS, ORACLE, VARIABLE
from support.scenarios import chosen
from support.stage import Stage, World
from support.sweeps import Sweep
from support.trials import Campaign, Plan

POINTS = 4
PATIENCE = 0.3  # CPython's loop often waits for ever

DISTURBING = ("close_peers", "reset_peers", "close_servers", "shut_given")
ENDING = ("abort_transports", "close_transports")
CANCELLING = ("nothing", "cancel", "cancel_all")

# A failing setblocking() of a connection that was accepted: becket makes none.
ANOTHER_CALL = ("ioctl",)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument(
        "--poller",
        choices=BACKENDS,
        default=os.environ.get(VARIABLE, BACKENDS[0]),
    )
    parser.add_argument("--only", help="scenarios of this module or name")
    parser.add_argument(
        "--disturb", action="store_true", help="peers, servers, transports too"
    )
    parser.add_argument(
        "--faults", action="store_true", help="failing system calls too"
    )
    return parser.parse_args(argv)


def gives_sockets(stage, scenario):
    """Some are left out: when a socket of TLS closes depends on when its peer
    has said goodbye; and what is misused is refused earlier, or later."""
    if scenario.module in ("tls", "misuse"):
        return False
    world = World(stage)
    try:
        scenario.prepare(world)
        return bool(world.given)
    finally:
        world.close()


class Player:
    """Plays everything on one kind of loop, and notes how sockets ended."""

    def __init__(self, backend):
        self._libc = Libc()
        self.stage = Stage(backend, self._libc)
        self._campaign = Campaign(self.stage)
        self._sweep = Sweep(self._campaign, self._libc)
        self.ends = collections.defaultdict(set)

    def play_plans(self, scenario, actions):
        for action in actions:
            for trigger in ("await", "late"):
                for nth in range(1, POINTS + 1):
                    plan = Plan(action, trigger, nth)
                    self._note(
                        (scenario.name, str(plan)),
                        lambda plan=plan: self._campaign.play(
                            scenario, plan, patience=PATIENCE
                        ),
                    )

    def play_faults(self, scenario):
        for fault in self._sweep.all_faults(scenario, each=3):
            # Which of them it is differs; the kind does not.
            self._note(
                (scenario.name, fault.call, fault.error),
                lambda fault=fault: self._sweep.inject(
                    scenario, fault, patience=PATIENCE
                )[1],
            )

    def _note(self, key, play):
        try:
            outcome = play()
        except Exception as exc:
            self._libc.disarm()
            self.ends[key].add(f"failed with {type(exc).__name__}")
        else:
            self.ends[key].add(outcome.given)


def is_comparable(key, ends):
    return key[1] not in ANOTHER_CALL and not any(
        end.startswith("failed") for end in ends
    )


def compare(ours, theirs):
    """How many were compared; AssertionError when one differs."""
    compared = 0
    for key in sorted(set(ours) & set(theirs)):
        if not is_comparable(key, theirs[key]):
            # CPython's own loop stumbles there.
            continue
        compared += 1
        if not ours[key] <= theirs[key]:
            raise AssertionError(
                f"{key}: {ours[key]}, on CPython's loop {theirs[key]}"
            )
    return compared


def main():
    options = parse(sys.argv[1:])
    Libc.preload()
    actions = CANCELLING
    if options.disturb:
        actions += DISTURBING + ENDING
    players = [Player(options.poller), Player(ORACLE)]
    for scenario in chosen(options.only):
        if not gives_sockets(players[0].stage, scenario):
            continue
        for player in players:
            player.play_plans(scenario, actions)
            if options.faults:
                player.play_faults(scenario)
    compared = compare(players[0].ends, players[1].ends)
    assert compared > 0 or options.only
    print(f"{options.poller}: {compared} ends of given sockets as CPython's")
    players[0].stage.close()


if __name__ == "__main__":
    main()
