# SPDX-License-Identifier: MIT
"""Arguments that fight back; the trials are those of isolated/hostile.py."""

import pytest

from support.procs import TESTS, check, run_file

SCRIPT = TESTS / "isolated" / "hostile.py"
SECONDS = 8
SECONDS_FULL = 40


@pytest.mark.becket_only("CPython's own code crashes on some of it")
@pytest.mark.timeout(SECONDS_FULL + 120)
def test_random_calls(backend, request):
    is_full = request.config.getoption("--full")
    seconds = SECONDS_FULL if is_full else SECONDS
    done = run_file(
        backend,
        SCRIPT,
        *("--trials", "1000000"),
        *("--seconds", str(seconds)),
        limit=seconds + 100,
    )
    check(done)
    # The seed, and the counts.
    print(done.stdout)
    assert "no crash, nothing is left" in done.stdout
