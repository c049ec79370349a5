# SPDX-License-Identifier: MIT
"""Programs for subprocesses to run, and what is left of them."""

import contextlib
import os
import signal
import sys
import time
from pathlib import Path

CAT = ("cat",)
SLEEP = ("sleep", "1000")


def python(code, *args):
    return (sys.executable, "-c", code, *args)


def children():
    """The numbers of this process's children, zombies among them."""
    found = set()
    for task in Path("/proc/self/task").iterdir():
        try:
            found.update(map(int, (task / "children").read_text().split()))
        except OSError:
            pass  # a thread that is gone
    return found


def end_all(pids):
    """Kill and reap these children, whoever else would have."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError, ChildProcessError):
            os.kill(pid, signal.SIGKILL)
            os.waitpid(pid, os.WNOHANG)


def children_left(before, wait=5.0):
    """What are children now and were not before; waits for their end."""
    deadline = time.monotonic() + wait
    while True:
        left = children() - before
        if not left or time.monotonic() > deadline:
            return left
        time.sleep(0.01)


def state(pid):
    """The letter of the process's state, or None if it is no more."""
    try:
        text = Path(f"/proc/{pid}/stat").read_text()
    except (FileNotFoundError, ProcessLookupError):
        return None
    return text.rpartition(")")[2].split()[0]


def wait_for_state(pid, states, wait=10.0):
    """Wait, without the loop, until the process is in one of the states."""
    deadline = time.monotonic() + wait
    while (now := state(pid)) is None or now not in states:
        assert now is not None, f"{pid} is no more"
        assert time.monotonic() < deadline, f"{pid} is in state {now}"
        time.sleep(0.001)


def wait_for_end(pid, wait=10.0):
    """Wait, without the loop, until the process is a zombie or no more."""
    deadline = time.monotonic() + wait
    while state(pid) not in ("Z", None):
        assert time.monotonic() < deadline, f"{pid} has not ended"
        time.sleep(0.001)


def is_gone(pid):
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return True
    return False
