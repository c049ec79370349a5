# SPDX-License-Identifier: MIT
"""Running the table of isolated/ends.py from a test."""

from support.loops import ORACLE
from support.procs import TESTS, check, run_file

SCRIPT = TESTS / "isolated" / "ends.py"
# One cell of so many.
SHARES = {"epoll": 4, "poll": 16, "external": 16, ORACLE: 16}


def play_ends(backend, kind, is_full):
    """Play the events of a kind: all cells, or a part of them."""
    share = 1 if is_full else SHARES[backend]
    done = run_file(backend, SCRIPT, kind, "--share", str(share), limit=280)
    check(done)
    print(done.stdout)
    assert "nothing was left" in done.stdout
