# SPDX-License-Identifier: MIT
"""Random programs do the same on CPython's own loop and on becket.

The programs are those of tests/differential, some of them here; many more by
hand, see CONTRIBUTING.md.
"""

import random

import pytest

from support.procs import ROOT, check, run_file

SCRIPT = ROOT / "tests" / "differential" / "run.py"
LIMIT = 300
# Of each part, or as many as are played in so many seconds. Each is played on
# CPython's loop and on three pollers.
PROGRAMS = 700
SECONDS = 40
PROGRAMS_IN_FULL = 10000
SECONDS_IN_FULL = 120
# On a loop whose turns take milliseconds each.
PROGRAMS_SLOW = 60
# Programs within which a broken loop has to be noticed.
ENOUGH = 2000

pytestmark = [
    pytest.mark.timeout(LIMIT + 10),
    pytest.mark.becket_only("plays on CPython's loop as well, by itself"),
]


def run(*arguments, **extra):
    done = run_file("epoll", SCRIPT, *arguments, limit=LIMIT, **extra)
    # The seed, the differences, the counts.
    print(done.stdout)
    return check(done)


@pytest.mark.parametrize("part", [1, 2])
def test_random_programs_do_the_same(part, request):
    """The same ones each time, or with --full always others."""
    is_full = request.config.getoption("--full")
    seed = random.randrange(1 << 32) if is_full else part
    done = run(
        *("--programs", str(PROGRAMS_IN_FULL if is_full else PROGRAMS)),
        *("--seconds", str(SECONDS_IN_FULL if is_full else SECONDS)),
        *("--seed", str(seed)),
        *("--jobs", "1"),
    )
    assert "\n0 differences" in done.stdout


def test_random_programs_do_not_depend_on_speed():
    """Those over TCP, on CPython's loop and on one that takes its time."""
    done = run(
        *("--poller", "slow_turns", "--kind", "tls_server"),
        *("--programs", str(PROGRAMS_SLOW), "--seed", "8", "--jobs", "1"),
    )
    assert "\n0 differences" in done.stdout


@pytest.mark.since(3, 13)
def test_broken_loops_are_noticed():
    """That the programs can tell: each broken loop differs on some."""
    done = run("--mutants", "--seed", "1", "--programs", str(ENOUGH))
    assert "not noticed" not in done.stdout


PROGRAM = """
def program(w):  # transport
    loop = w.loop
    a = w.transport("a", "unix", "connection", 0)

    @w.step
    def step():
        a.write(5)
        a.write(5)
        a.write(5)

    @w.step
    def step():
        a.peer.recv()
"""


def test_a_printed_program_is_played_again(tmp_path):
    """In full, and with the difference that a broken loop makes."""
    path = tmp_path / "program.py"
    path.write_text(PROGRAM)
    done = run("--replay", str(path))
    assert "a.peer: received, open" in done.stdout
    assert "epoll: same" in done.stdout
    replay = run_file(
        "epoll", SCRIPT, "--replay", str(path), "--poller", "write_lost"
    )
    check(replay, returncode=1)
    assert "write_lost: differs" in replay.stdout


# What the one reads in one piece, the other may read in two, a turn later.
BOTH_WAYS = """
def program(w):  # pair
    loop = w.loop
    a, b = w.pair("ab", "unix", "connection", 0)

    @w.on("b.data_received", 2)
    def hook():
        b.write(2000000)

    @w.step
    def step():
        a.write(2000000)
        loop.call_soon(b.write, 70000)
"""


# Both are ready, and the reader of the one takes away the other's writer.
READY_AT_ONCE = """
def program(w):  # mixed
    loop = w.loop
    s = w.watched("s", "unix")
    ss = w.watched("ss", "unix")
    @w.writer
    def o1(x, *args):
        loop.add_writer(s.sock, o1, s, 0)
        loop.add_reader(ss.sock, r0, ss, 0)
    def r0(x, *args):
        loop.remove_writer(s.sock)
    def r1(x, *args):
        loop.add_reader(s.sock, r0, s, 0)
    @w.task
    async def t0(say):
        ss.peer.send(ss.peer.data(1))
        loop.call_soon(s.peer.send, s.peer.data(20))
        say(s.lane, await loop.sock_recv(s.sock, 1))
    @w.step
    async def step(say):
        w.t0 = loop.create_task(t0())
        loop.add_writer(s.sock, o1, s, 0)
"""


# CPython sends the first byte by itself, so that the chunks begin elsewhere;
# and something is noted between two of them.
IN_BETWEEN = """
def program(w):  # pair
    a, b = w.pair("ab", "unix", "connection", 0)

    @w.on("b.data_received", 1)
    def hook():
        w.tried(a.transport.set_write_buffer_limits, high=0, low=0)

    @w.step
    def step():
        a.write(1)
        a.write(2000000)
        a.write(1)
"""


# Closed with much to send, so that at the end it is lost already.
LOST_EARLY = """
def program(w):  # stream
    loop = w.loop
    s = w.stream("s", "unix", limit=64)
    def c0(*args):
        s.write(300000)
    @w.step
    def step():
        w.h0 = loop.call_soon(c0, 0)
    @w.step
    def step():
        s.writer.close()
        s.peer.recv()
"""


# The last piece of a handshake is not acknowledged at once.
AFTER_HANDSHAKE = """
def program(w):  # tls_server
    v = w.tls_server("v", "tcp")

    @w.step
    def step():
        v.connect()

    @w.step
    def step():
        v.peer.send(v.peer.data(5))
        v.peer.write_eof()
"""


# The server closes after the last step, and while it accepts a connection.
FORGOTTEN_LATE = """
def program(w):  # stream_server
    loop = w.loop
    v = w.stream_server("v", "unix", "talk")

    @w.task
    async def t0(say):
        loop.call_soon(v.server.close)

    @w.on("v0.client_connected", 1)
    def hook():
        v.connect()
        w.t0 = loop.create_task(t0())

    @w.step
    def step():
        loop.call_soon(v.connect)
"""


def test_a_connection_left_to_the_collector_is_no_difference(tmp_path):
    path = tmp_path / "program.py"
    path.write_text(FORGOTTEN_LATE)
    done = run("--replay", str(path), "--poller", "epoll")
    assert "epoll: left out" in done.stdout


@pytest.mark.parametrize(
    "program, loop, verdict",
    [
        (BOTH_WAYS, "epoll", "order"),
        (BOTH_WAYS, "other_chunks", "order"),
        (BOTH_WAYS, "write_lost", "differs"),
        (BOTH_WAYS, "never_resumed", "differs"),
        (READY_AT_ONCE, "epoll", "selector"),
        (READY_AT_ONCE, "received_bytes_lost", "differs"),
        (IN_BETWEEN, "epoll", "order"),
        (IN_BETWEEN, "other_chunks", "order"),
        (IN_BETWEEN, "write_lost", "differs"),
        (IN_BETWEEN, "becket_write_lost", "differs"),
        (LOST_EARLY, "epoll", "same"),
        (AFTER_HANDSHAKE, "epoll", "same"),
        (AFTER_HANDSHAKE, "slow_turns", "same"),
    ],
)
def test_order_chunks_and_speed_are_no_difference_and_bytes_are(
    tmp_path, program, loop, verdict
):
    path = tmp_path / "program.py"
    path.write_text(program)
    done = run_file("epoll", SCRIPT, "--replay", str(path), "--poller", loop)
    check(done, returncode=int(verdict == "differs"))
    assert f"{loop}: {verdict}" in done.stdout
