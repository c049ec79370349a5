#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Write docs/conformance.md from what the runs have found.

    table.py build/results/conformance-*.json

Each file is what "run.py --json" wrote on one Python. "make conformance" makes
them all and runs this.
"""

import collections
import json
import re
import sys
from pathlib import Path

TABLE = Path(__file__).parents[2] / "docs" / "conformance.md"

HEAD = """\
# CPython's own tests of asyncio, on becket

Each Python's own `test.test_asyncio`, unchanged, with becket's loop in the
place of CPython's. A cell says how many tests passed, how many CPython itself
skips on this machine, and how many deviate or are not run, each of which
`tests/conformance/expected.toml` lists with its reason. Nothing else fails.

Written by `make conformance`.
"""

LEGEND = "passed / skipped by CPython / deviating"


def version_key(run):
    """3.9 before 3.10; a build without the lock after the one with it."""
    text = run["python"]
    return [int(part) for part in re.findall(r"\d+", text)], text


def read_runs(paths):
    """The results of the runs, in the order of their versions."""
    runs = []
    for path in paths:
        with open(path, encoding="utf-8") as file:
            run = json.load(file)
        if run["loop"] != "becket":
            raise SystemExit(f"{path}: a run on {run['loop']}, not on becket")
        if run["failures"] or run["stale"]:
            raise SystemExit(f"{path}: this run has failed")
        runs.append(run)
    return sorted(runs, key=version_key)


def cell(tally):
    """One file on one Python; nothing if that Python lacks it."""
    if tally is None or not (tally["tests"] or tally["skipped"]):
        return ""
    parts = (tally["passed"], tally["skipped"], tally["deviations"])
    return " / ".join(map(str, parts))


def row(*cells):
    return f"| {' | '.join(cells)} |\n"


def render_counts(runs):
    """Test file by version."""
    files = sorted({name for run in runs for name in run["files"]})
    text = f"\n## By file\n\nEach cell: {LEGEND}.\n\n"
    text += row("file", *(run["python"] for run in runs))
    text += row("---", *("---:" for _ in runs))
    for name in files:
        cells = [cell(run["files"].get(name)) for run in runs]
        if any(cells):
            text += row(f"`{name}`", *cells)
    text += row("total", *(cell(run["total"]) for run in runs))
    return text


def count_reasons(run):
    return collections.Counter(
        test["expected"]
        for test in run["tests"]
        if test["verdict"] == "deviation"
    )


def render_reasons(runs):
    """Why tests deviate or are not run, by version."""
    counts = [count_reasons(run) for run in runs]
    total = sum(counts, collections.Counter())
    text = "\n## Why\n\nSo many tests for each reason.\n\n"
    text += row("reason", *(run["python"] for run in runs))
    text += row("---", *("---:" for _ in runs))
    for reason, _ in sorted(total.items(), key=lambda one: (-one[1], one[0])):
        cells = [str(count[reason] or "") for count in counts]
        text += row(reason.replace("|", "\\|"), *cells)
    return text


def main():
    runs = read_runs(sys.argv[1:])
    if not runs:
        raise SystemExit("no results were given")
    TABLE.write_text(HEAD + render_counts(runs) + render_reasons(runs))
    print(f"{TABLE}: {len(runs)} Pythons")


if __name__ == "__main__":
    main()
