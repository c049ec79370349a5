# SPDX-License-Identifier: MIT
"""Each system call of each scenario fails in turn, with each of its errnos.

Nothing may crash or be left over, the error has to arrive where asyncio's
users look for it, and the loop goes on. Two ways to make calls fail:

    --through libc  every call of the loop's thread, whoever makes it
    --through core  becket's own wrappers, and its memory and threads; for a
                    becket that was built with fault injection

    python tests/python/isolated/faults.py --through libc --poller epoll
"""

import argparse
import collections
import os
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from support.faults import Core, Libc
from support.loops import BACKENDS, VARIABLE
from support.net import tcp_pair
from support.scenarios import chosen
from support.stage import Stage
from support.sweeps import Sweep
from support.trials import Campaign
from support.verdicts import is_right


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--through", choices=("libc", "core"), default="libc")
    parser.add_argument(
        "--poller", choices=BACKENDS, default=os.environ.get(VARIABLE)
    )
    parser.add_argument(
        "--only", help="scenarios of this module, or of this name"
    )
    parser.add_argument(
        "--each", type=int, help="of each kind of call only so many"
    )
    return parser.parse_args(argv)


async def echo(loop):
    """The loop goes on: bytes go both ways."""
    ours, theirs = tcp_pair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        await loop.sock_sendall(ours, b"ping")
        assert await loop.sock_recv(theirs, 10) == b"ping"
        await loop.sock_sendall(theirs, b"pong")
        assert await loop.sock_recv(ours, 10) == b"pong"


def sweep_one(sweep, stage, scenario, each):
    """All faults of one scenario; where they arrived."""
    arrived = collections.Counter()
    for fault in sweep.all_faults(scenario, each):
        where, outcome = sweep.inject(scenario, fault)
        if where is None:
            continue
        arrived[where] += 1
        if not is_right(scenario, fault, where):
            raise AssertionError(
                f"{scenario.name}: {fault}: {where}, {outcome}"
            )
        stage.run(echo(stage.loop))
    return arrived


def run(options, poller):
    faults = Libc() if options.through == "libc" else Core()
    scenarios = chosen(options.only)
    stage = Stage(poller, faults)
    campaign = Campaign(stage)
    campaign.warm_up(scenarios)
    sweep = Sweep(campaign, faults)
    arrived = collections.Counter()
    for scenario in scenarios:
        arrived += sweep_one(sweep, stage, scenario, options.each)
    stage.close()
    text = ", ".join(f"{n} {where}" for where, n in sorted(arrived.items()))
    print(
        f"{poller}, {options.through}: {len(scenarios)} scenarios,"
        f" {sweep.injected} failures ({text}): each was told where it should"
        " be, nothing was left",
        flush=True,
    )


def main():
    options = parse(sys.argv[1:])
    if options.through == "libc":
        Libc.preload()
    for poller in [options.poller] if options.poller else BACKENDS:
        run(options, poller)


if __name__ == "__main__":
    main()
