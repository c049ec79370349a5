# SPDX-License-Identifier: MIT
"""The tests that tests/rows.toml names as showing a row: they have to run."""

import fnmatch
import tomllib
from pathlib import Path

CATALOGUE = Path(__file__).parents[1] / "rows.toml"


def read_patterns(path=CATALOGUE):
    """Pairs of a row and a pattern of test ids."""
    with open(path, "rb") as stream:
        rows = tomllib.load(stream)["rows"]
    return [
        (row, pattern)
        for row, entry in rows.items()
        for pattern in entry.get("cpython", ())
    ]


def find_unproved(patterns, deviations, is_newest):
    """What to say about the patterns that show nothing on this Python.

    deviations is Run.deviations. An older Python may lack a test; the newest
    one that the lists are verified for has them all.
    """
    for row, pattern in patterns:
        found = fnmatch.filter(deviations, pattern)
        if not found and is_newest:
            yield f"{row} names {pattern}, which matches no test"
        if found and all(deviations[test_id] for test_id in found):
            yield f"{row} names {pattern}, which does not run or fails"
