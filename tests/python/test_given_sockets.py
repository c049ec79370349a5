# SPDX-License-Identifier: MIT
"""Whether a socket that the loop was given is closed afterwards.

isolated/given.py plays everything that takes a socket on both kinds of loop.
"""

import pytest

from support.procs import TESTS, check, run_file

row = pytest.mark.row

SCRIPT = TESTS / "isolated" / "given.py"


@row("P1A-087")
@pytest.mark.becket_only("compares with CPython's loop by itself")
@pytest.mark.timeout(300)
def test_given_sockets_end_as_cpythons(backend, request):
    """Cancelled at each await; with --full, disturbed in every way."""
    is_full = request.config.getoption("--full")
    extent = ("--disturb", "--faults") if is_full else ()
    # CPython's loop leaves sockets to the collector, which warns.
    options = ("-W", "ignore")
    done = run_file(backend, SCRIPT, *extent, options=options, limit=280)
    check(done)
    print(done.stdout)
    assert "ends of given sockets as CPython's" in done.stdout
