# SPDX-License-Identifier: MIT
"""Each leak scenario in a process of its own."""

import os

import pytest

from support.procs import TESTS, check, run_file

SCRIPTS = sorted(path.name for path in (TESTS / "isolated").glob("leak_*.py"))


@pytest.mark.parametrize("name", SCRIPTS)
@pytest.mark.timeout(60)
def test_no_growth(backend, name):
    if os.environ.get("BECKET_SANITIZED") and name != "leak_types.py":
        pytest.skip("a sanitizer's allocator keeps what was freed")
    if backend == "poll" and name not in ("leak_watchers.py",):
        pytest.skip("what is counted does not depend on this poller")
    check(run_file(backend, TESTS / "isolated" / name, limit=50))
