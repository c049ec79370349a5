# SPDX-License-Identifier: MIT
"""docs/frameworks.md, from each suite's last result."""

from collections.abc import Iterator
from pathlib import Path

from judge import ALONE, Result
from prepare import Suite

HEAD = """\
# Frameworks' own tests

Written by `make frameworks`, from each suite's last run: a package's own test
suite, from its source distribution (of websockets, whose has no tests, from
Debian's), on CPython's loop and on becket. Numbers are of tests that passed,
failed and were skipped. What fails on both loops alike is not becket's, and
counted all the same.

A test that ends differently on the two loops is tried again, alone, {times}
times on each, and then with the rest of its file. If it comes out alike at
least once it is *unsteady*; if it never does, or always differs in its file,
it is *different*, until a fix makes it end alike alone and with its file
(`run.py --again`). What differs and should is *explained* in
`tests/frameworks/suites.toml`. Tests may be *left out* of a run, on both
loops, for the reasons below.

"""
COLUMNS = (
    "package",
    "Python",
    "on asyncio",
    "on becket",
    "loops of becket's",
    "different",
    "explained",
    "unsteady",
    "day",
)
_KINDS = ("passed", "failed", "skipped")


def write_table(path: Path, rows: list[tuple[Suite, Result]]) -> None:
    results = [result for _, result in rows]
    text = HEAD.format(times=ALONE) + _totals(results)
    text += f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
    for result in results:
        text += _row(result)
    text += _notes("Different", ((r, r.differences) for r in results))
    text += _notes("Explained", ((r, r.explained) for r in results))
    text += _notes("Unsteady", ((r, r.unsteady) for r in results))
    text += _failing([suite for suite, _ in rows])
    text += _left_out([suite for suite, _ in rows])
    path.write_text(text)


def _totals(results: list[Result]) -> str:
    done = [result for result in results if not result.why_not]
    tests = sum(r.counts["becket"]["passed"] for r in done)
    different = sum(len(result.differences) for result in done)
    return (
        f"{len(done)} of {len(results)} suites have been run: {tests} tests"
        f" pass on becket, {different} are different.\n\n"
    )


def _row(result: Result) -> str:
    name = f"{result.suite} {result.version}"
    if result.why_not:
        rest = " | " * (len(COLUMNS) - 3)
        return f"| {name} | | not run: {result.why_not}{rest} |\n"
    stock, ours = (
        ", ".join(str(result.counts[loop][kind]) for kind in _KINDS)
        for loop in ("asyncio", "becket")
    )
    made = result.counts["becket"]["becket's loops"]
    sizes = (result.differences, result.explained, result.unsteady)
    cells = [name, result.python, stock, ours, made, *map(len, sizes)]
    return f"| {' | '.join(map(str, cells))} | {result.day} |\n"


def _notes(
    title: str, entries: Iterator[tuple[Result, dict[str, str]]]
) -> str:
    """A list of tests, those of one reason together."""
    lines = []
    for result, tests in entries:
        by_reason: dict[str, list[str]] = {}
        for test, reason in tests.items():
            by_reason.setdefault(reason, []).append(f"`{test}`")
        for reason, names in by_reason.items():
            lines.append(f"- {result.suite}: {reason}: {', '.join(names)}\n")
    return f"\n## {title}\n\n{''.join(lines)}" if lines else ""


def _failing(suites: list[Suite]) -> str:
    lines = [
        f"- {suite.name}: {suite.fails}\n" for suite in suites if suite.fails
    ]
    return f"\n## Failing on both loops\n\n{''.join(lines)}"


def _left_out(suites: list[Suite]) -> str:
    lines = [
        f"- {suite.name}: `{entry['option']}`: {entry['reason']}\n"
        for suite in suites
        for entry in suite.leave_out
    ]
    return f"\n## Left out\n\n{''.join(lines)}" if lines else ""
