# SPDX-License-Identifier: MIT
"""Each system call in the life of a loop fails in turn.

From making it to closing it: what fails is told, nothing is left open, and
memory that the library took is given back.

    python tests/python/isolated/fault_life.py --through libc --poller epoll
"""

import argparse
import gc
import os
import pathlib
import signal
import socket
import sys
import warnings

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from support import faults as fault_names
from support.canaries import Table
from support.faults import PASSING, Core, Libc
from support.loops import BACKENDS, VARIABLE
from support.stage import make_stage_loop
from support.sweeps import faults_of, is_about
from support.verdicts import UNNOTICED

LIMIT = 5

# On top of what may go unnoticed everywhere.
OPTIONAL = {
    "read": "the eventfd stays readable, and is read again",
}


# What cannot happen, as these are the calls of this life alone.
IMPOSSIBLE = {
    "write": "an eventfd that is far from full takes every number",
}


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--through", choices=("libc", "core"), default="libc")
    parser.add_argument(
        "--poller", choices=BACKENDS, default=os.environ.get(VARIABLE)
    )
    return parser.parse_args(argv)


def live(faults, poller, readable, told):
    """A whole life of a loop; told gets what its handler is told."""

    def stop_for(loop, context):
        told.append(context["exception"])
        loop.stop()

    loop = make_stage_loop(poller)
    try:
        loop.set_exception_handler(stop_for)
        loop.call_later(LIMIT, sys.exit, "the loop does not go on")
        loop.add_signal_handler(signal.SIGUSR1, loop.stop)
        loop.call_soon_threadsafe(loop.add_reader, readable, loop.stop)
        loop.run_forever()
        loop.remove_reader(readable)
        with faults.aside():
            # The interpreter's own write to the wake-up fd.
            os.kill(os.getpid(), signal.SIGUSR1)
        loop.run_forever()
        loop.run_until_complete(loop.getaddrinfo("localhost", 80))
        loop.remove_signal_handler(signal.SIGUSR1)
        # One that closing removes.
        loop.add_signal_handler(signal.SIGUSR2, int)
        loop.run_until_complete(loop.shutdown_default_executor())
    finally:
        loop.close()


def errors_of_a_life(faults, poller, readable):
    """What it raised, or what its exception handler was told."""
    told = []
    try:
        live(faults, poller, readable, told)
    except (OSError, MemoryError) as exc:
        told.append(exc)
    except RuntimeError as exc:
        # The handler stops the loop, which then has not reached its end.
        if not told or "stopped before" not in str(exc):
            told.append(exc)
    return told


def sweep(faults, poller):
    """Every call of a loop's life fails in turn; how many did."""
    left, right = socket.socketpair()
    right.send(b"x")
    live(faults, poller, left, [])
    before = Table()
    faults.arm(None, 0, 0)
    live(faults, poller, left, [])
    faults.disarm()
    injected = 0
    for fault in faults_of(faults.counts()):
        if fault.call in IMPOSSIBLE:
            continue
        number = fault_names.number(fault.error)
        faults.arm(fault.call, fault.nth, number)
        errors = errors_of_a_life(faults, poller, left)
        injected += faults.disarm()
        check_life(fault, number, errors)
        check_signals(fault)
        gc.collect()
        difference = Table().difference(before)
        assert not difference, f"a life with {fault}: {difference}"
    left.close()
    right.close()
    return injected


def check_signals(fault):
    """They are as they were before, unless that was made to fail."""
    assert signal.set_wakeup_fd(-1) == -1, f"{fault}: a wake-up fd is left"
    for number in (signal.SIGUSR1, signal.SIGUSR2):
        handler = signal.getsignal(number)
        assert handler == signal.SIG_DFL or fault.call == "sigaction", handler
        signal.signal(number, signal.SIG_DFL)


def check_life(fault, number, errors):
    """What failed is told, or may fail unnoticed."""
    may_fail = (
        fault.error in PASSING
        or fault.call in UNNOTICED
        or fault.call in OPTIONAL
    )
    if not errors:
        assert may_fail, f"nobody was told of {fault}"
    for error in errors:
        if not is_about(error, number):
            raise error


def main():
    options = parse(sys.argv[1:])
    if options.through == "libc":
        Libc.preload()
    # A loop that could not be closed is left to the collector.
    warnings.simplefilter("ignore", ResourceWarning)
    # Nor was what it was to run.
    warnings.simplefilter("ignore", RuntimeWarning)
    faults = Libc() if options.through == "libc" else Core()
    for poller in [options.poller] if options.poller else BACKENDS:
        injected = sweep(faults, poller)
        print(
            f"{poller}, {options.through}: {injected} failures in a loop's"
            " life: each was told, nothing was left",
            flush=True,
        )


if __name__ == "__main__":
    main()
