# SPDX-License-Identifier: MIT
"""The examples do what they say, on every poller."""

import datetime
import re
import signal
import subprocess
import sys

import pytest

from support.loops import ORACLE
from support.procs import ROOT, check, environment, finish, run_file

EXAMPLES = ROOT / "examples" / "python"
STAND_IN = ROOT / "tests" / "python" / "support" / "stand_in"


def settings(backend):
    """Environment in which the example's becket uses the test's poller."""
    extra = {}
    if backend == "poll":
        extra["BECKET_BACKEND"] = "poll"
    env = environment(backend, **extra)
    if backend == ORACLE:
        env["PYTHONPATH"] += f":{STAND_IN}"
    return env


def example(backend, name):
    env = settings(backend)
    done = run_file(backend, EXAMPLES / name, **env)
    check(done)
    assert done.stderr == ""
    return done.stdout.splitlines()


@pytest.fixture
def own_poller(backend):
    """The examples choose their loop themselves: epoll, or the variable."""
    if backend == "external":
        pytest.skip("the examples give a selector only where they say so")
    return backend


@pytest.mark.row("P1A-235", "P1A-032")
def test_hello_world(own_poller):
    assert example(own_poller, "hello_world.py") == ["Hello World"]


@pytest.mark.row("P1A-237")
@pytest.mark.one_poller
def test_display_date(backend):
    lines = example(backend, "display_date.py")
    dates = [datetime.datetime.fromisoformat(line) for line in lines]
    assert len(dates) == 5
    gaps = [(b - a).total_seconds() for a, b in zip(dates, dates[1:])]
    assert all(0.9 < gap < 1.9 for gap in gaps), gaps


@pytest.mark.row("P1A-152", "P1A-239")
def test_watch_socket_reader(own_poller):
    lines = example(own_poller, "watch_socket_reader.py")
    assert lines == ["Received: abc"]


@pytest.mark.row("P1A-240")
def test_watch_socket_protocol(own_poller):
    lines = example(own_poller, "watch_socket_protocol.py")
    assert lines == ["Received: abc"]


@pytest.mark.row("P1A-241", "P1A-242")
@pytest.mark.parametrize("name", ["SIGINT", "SIGTERM"])
def test_signal_handlers(own_poller, name):
    process = subprocess.Popen(
        [sys.executable, EXAMPLES / "signal_handlers.py"],
        env=settings(own_poller),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )
    first = process.stdout.readline()
    second = process.stdout.readline()
    process.send_signal(getattr(signal, name))
    done = check(finish(process))
    assert first == "Event loop running forever, press Ctrl+C to interrupt.\n"
    assert re.fullmatch(
        rf"pid {process.pid}: send SIGINT or SIGTERM to exit\.\n", second
    )
    assert done.stdout == f"got signal {name}: exit\n"
    assert done.stderr == ""


@pytest.mark.row("P1B-021")
@pytest.mark.one_poller
def test_choose_selector(backend):
    assert example(backend, "choose_selector.py") == [
        "external: running on SelectorEventLoop",
        "external: running on SelectorEventLoop",
        "epoll: running on SelectorEventLoop",
    ]
