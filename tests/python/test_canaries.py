# SPDX-License-Identifier: MIT
"""No descriptor of a stranger is ever touched, whatever goes wrong.

The trials are those of isolated/canaries.py, some of them here; many more by
hand, see CONTRIBUTING.md.
"""

import asyncio
import contextlib
import os
import select
import socket

import pytest

from support.canaries import Canaries, CanaryError, Table
from support.procs import TESTS, check, run_file
from support.scenarios import NAMES, Scenario, tls
from support.stage import Stage, Talker
from support.trials import Plan, Trial

row = pytest.mark.row

SCRIPT = TESTS / "isolated" / "canaries.py"
# So many trials, or as many as are played in so many seconds.
TRIALS = {"epoll": 300, "poll": 100, "external": 100}
SECONDS = 15


@row("P1A-087")
@pytest.mark.becket_only("CPython's loop damages canaries")
@pytest.mark.parametrize("module", NAMES)
@pytest.mark.timeout(120)
def test_canaries_survive(backend, module):
    """Cancelled, robbed of its sockets, and made to fail, at random."""
    done = run_file(
        backend,
        SCRIPT,
        *("--only", module),
        *("--trials", str(TRIALS[backend])),
        *("--seconds", str(SECONDS)),
        limit=100,
    )
    check(done)
    # The seed, and the counts.
    print(done.stdout)
    assert "none was damaged, nothing was left" in done.stdout


@pytest.mark.becket_only("the harness that plays these trials")
@pytest.mark.one_poller
def test_no_goodbye_outlives_its_trial():
    """Of a handshake that was complete when its waiter was cancelled: nobody
    has the transport, and its socket's number is the next trial's.
    """

    def prepare(world):
        ours, peer = tls.tls_pair(world, is_server=True)

        class Cancelling(Talker):
            def connection_made(self, transport):
                super().connection_made(transport)
                task.cancel()
                peer.is_at_end = True  # it does not answer

        async def play():
            nonlocal task
            task = asyncio.current_task()
            with tls.driven(peer, world):
                await world.loop.connect_accepted_socket(
                    lambda: world.talker(kind=Cancelling),
                    ours,
                    ssl=tls.context(True),
                )

        task = None
        return play

    stage = Stage("epoll")
    try:
        trial = Trial(stage, Scenario("cancelled", prepare, ""), Plan())
        trial.run()
        (transport,) = trial.world.transports
        assert transport.get_protocol() is None
    finally:
        stage.close()


# --- that damage would be seen ---


def low_numbers():
    """Those that the threads are about to use; none of the test's own."""
    used = set(Table().files)
    return [number for number in range(3, 60) if number not in used]


def replace(number):
    os.fstat(number)  # OSError: let the canaries have it
    os.dup2(0, number, inheritable=False)


def damaged_by(damage):
    """Whether the canaries tell of what is done to them."""
    numbers = low_numbers()
    with pytest.raises(CanaryError) as caught, Canaries(1) as canaries:
        while True:
            for number in numbers:
                with contextlib.suppress(OSError):
                    # OSError: at this moment nobody has it.
                    damage(number)
            canaries.check()
    for number in numbers:
        # What took a canary's place is nobody's.
        with contextlib.suppress(OSError):
            os.close(number)
    return str(caught.value)


@pytest.mark.becket_only("about the harness alone")
@pytest.mark.parametrize(
    "damage",
    [
        lambda number: os.write(number, b"stray"),
        lambda number: os.read(number, 1),
        lambda number: os.set_blocking(number, True),
        lambda number: os.lseek(number, 0, os.SEEK_SET),
        replace,
    ],
    ids=["write", "read", "flags", "position", "replace"],
)
def test_damage_is_noticed(damage):
    assert "canary" in damaged_by(damage)


@pytest.mark.becket_only("about the harness alone")
def test_a_stray_close_is_noticed():
    """Of a number that somebody else has by then, most of the time."""
    text = damaged_by(os.close)
    assert "Bad file descriptor" in text or "another file" in text


@pytest.mark.becket_only("about the harness alone")
def test_leftovers_are_noticed():
    before = Table()
    with socket.socket() as sock, select.epoll() as epoll:
        epoll.register(sock, select.EPOLLIN)
        text = Table().difference(before)
        assert f"+{sock.fileno()}:socket" in text
        assert "anon_inode:[eventpoll]" in text
    assert Table().difference(before) == ""
