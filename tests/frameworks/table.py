# SPDX-License-Identifier: MIT
"""docs/frameworks.md, from a run."""

import platform
from pathlib import Path

HEAD = """\
# Frameworks' own tests

Written by `make frameworks`. Each package's own test suite, from its source
distribution, on CPython's loop and on becket, with CPython {python}. A test
counts as different when it never ends alike on both; tests that end one way
or the other on one and the same loop are unsteady.

"""
COLUMNS = (
    "package",
    "passed, failed, skipped on asyncio",
    "on becket",
    "becket's loops",
    "different",
    "explained",
    "unsteady",
)


def write_table(path: Path, results: list) -> None:
    text = HEAD.format(python=platform.python_version())
    text += f"| {' | '.join(COLUMNS)} |\n|{'---|' * len(COLUMNS)}\n"
    for result in results:
        text += _row(result)
    text += _notes("Different", {r.suite: r.differences for r in results})
    text += _notes("Explained", {r.suite: r.explained for r in results})
    unsteady = {r.suite: dict.fromkeys(r.unsteady, "") for r in results}
    text += _notes("Unsteady", unsteady)
    path.write_text(text)


def _row(result) -> str:
    name = f"{result.suite} {result.version}"
    if result.why_not:
        return f"| {name} | not run: {result.why_not} | | | | | |\n"
    stock, ours = (
        ", ".join(str(result.counts[loop][k]) for k in _KINDS)
        for loop in ("asyncio", "becket")
    )
    made = result.counts["becket"]["loops"]
    sizes = (result.differences, result.explained, result.unsteady)
    rest = " | ".join(str(len(part)) for part in sizes)
    return f"| {name} | {stock} | {ours} | {made} | {rest} |\n"


_KINDS = ("passed", "failed", "skipped")


def _notes(title: str, by_suite: dict[str, dict[str, str]]) -> str:
    lines = [
        f"- {suite}: `{test}`{': ' + why if why else ''}\n"
        for suite, tests in by_suite.items()
        for test, why in tests.items()
    ]
    return f"\n## {title}\n\n{''.join(lines)}" if lines else ""
