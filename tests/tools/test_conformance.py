# SPDX-License-Identifier: MIT
"""docs/conformance.md is what the runs have found."""

import json
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parents[1] / "conformance" / "table.py"
NOTHING = {"tests": 0, "passed": 0, "skipped": 0, "deviations": 0}


def tally(passed, skipped, deviations):
    tests = passed + skipped + deviations
    return {
        "tests": tests,
        "passed": passed,
        "skipped": skipped,
        "deviations": deviations,
    }


def write_run(folder, python, files, **changes):
    run = {
        "python": python,
        "loop": "becket",
        "files": files,
        "total": tally(9, 1, 2),
        "failures": [],
        "stale": [],
        "tests": [
            {"verdict": "deviation", "expected": "a mock | too much"},
            {"verdict": "passed", "expected": ""},
        ],
        **changes,
    }
    path = folder / f"{python}.json"
    path.write_text(json.dumps(run))
    return path


def make_table(folder, *paths):
    """Run a copy of the script, which writes beside where it stands."""
    copy = folder / "tests" / "conformance" / "table.py"
    copy.parent.mkdir(parents=True)
    copy.write_text(SCRIPT.read_text())
    (folder / "docs").mkdir()
    subprocess.run(
        [sys.executable, copy, *paths],
        check=True,
        capture_output=True,
        text=True,
        timeout=30,
    )
    return (folder / "docs" / "conformance.md").read_text()


def test_versions_are_columns_in_order(tmp_path):
    text = make_table(
        tmp_path,
        write_run(tmp_path, "3.14.7t", {"test_new": tally(5, 0, 0)}),
        write_run(tmp_path, "3.9.1", {"test_old": tally(3, 1, 2)}),
        write_run(tmp_path, "3.14.7", {"test_new": NOTHING}),
    )
    assert "| file | 3.9.1 | 3.14.7 | 3.14.7t |" in text
    assert "| `test_old` | 3 / 1 / 2 |  |  |" in text
    assert "| `test_new` |  |  | 5 / 0 / 0 |" in text
    assert "| total | 9 / 1 / 2 |" in text
    assert "| a mock \\| too much | 1 | 1 | 1 |" in text


@pytest.mark.parametrize(
    "changes",
    [{"loop": "oracle"}, {"failures": [{}]}, {"stale": ["test_x"]}],
    ids=lambda changes: next(iter(changes)),
)
def test_only_good_runs_on_becket_count(tmp_path, changes):
    path = write_run(tmp_path, "3.13.0", {}, **changes)
    with pytest.raises(subprocess.CalledProcessError):
        make_table(tmp_path, path)
