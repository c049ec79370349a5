#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run the test suites of asyncio packages on becket and on CPython's loop.

    run.py                 every suite of suites.toml
    run.py aiohttp anyio   these
    run.py --report FILE   write the table, in Markdown, too

Each suite gets an environment of its own, .venv/frameworks/NAME, with becket
as this tree has it. It runs once on each loop; what differs is tried again,
since upstream has tests of its own that fail now and then. The run fails on a
difference that suites.toml does not explain.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass, field
from pathlib import Path

import environments
import services
from prepare import (
    HERE,
    Environment,
    Suite,
    make_environment,
    read_suites,
    unpack,
)
from table import write_table

LOOPS = ("asyncio", "becket")
RETRIES = 3
ABSENT = "absent"  # the outcome of a test that was not collected
TEST_TIMEOUT = 60
SUITE_TIMEOUT = 1500


class SuiteError(Exception):
    """A suite could not be set up or did not come to its end."""


@dataclass
class Result:
    """What a suite did on each loop."""

    suite: str
    version: str
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    explained: dict[str, str] = field(default_factory=dict)
    differences: dict[str, str] = field(default_factory=dict)
    unsteady: list[str] = field(default_factory=list)
    why_not: str = ""


def run_tests(
    suite: Suite,
    environment: Environment,
    folder: Path,
    loop: str,
    tests: list[str] | None = None,
) -> dict:
    """Run the suite, or some of its tests, on one loop."""
    results = folder.parent / f"{loop}.json"
    results.unlink(missing_ok=True)
    command = [environment.python, "-m", "pytest", "-q", "-p", "on_loop"]
    command += ["-p", "no:cacheprovider", f"--timeout={TEST_TIMEOUT}"]
    command += tests if tests is not None else suite.arguments
    if tests is None:
        for test in suite.leave_out:
            command += ["--deselect", test]
    else:
        # The options of the whole, without its paths.
        command += [a for a in suite.arguments if a not in suite.keep]
    variables = environment.variables(
        PYTHONPATH=str(HERE),
        BECKET_LOOP=loop,
        BECKET_RESULTS=str(results),
        **services.variables(),
    )
    with open(folder.parent / f"{loop}.log", "w") as log:
        try:
            subprocess.run(
                command,
                cwd=folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                timeout=SUITE_TIMEOUT,
            )
        except subprocess.TimeoutExpired:
            raise SuiteError(f"on {loop} it took too long") from None
    if not results.is_file():
        raise SuiteError(f"on {loop} it ended early: see {log.name}")
    return json.loads(results.read_text())


def differing(runs: dict[str, dict]) -> list[str]:
    stock, ours = (runs[loop]["outcomes"] for loop in LOOPS)
    return sorted(
        test
        for test in stock.keys() | ours.keys()
        if stock.get(test) != ours.get(test)
    )


def settle(suite, environment, folder, result, runs) -> None:
    """Try again, on both loops, what differed: what now agrees at times is
    unsteady, and what always differs is a difference."""
    left = []
    for test in differing(runs):
        reason = suite.reason(test)
        if reason is None:
            left.append(test)
        else:
            result.explained[test] = reason
    seen: dict[str, dict[str, set]] = {
        test: {
            loop: {runs[loop]["outcomes"].get(test, ABSENT)} for loop in LOOPS
        }
        for test in left
    }
    for _ in range(RETRIES if 0 < len(left) <= 60 else 0):
        for loop in LOOPS:
            there = [t for t in left if seen[t][loop] != {ABSENT}]
            again = run_tests(suite, environment, folder, loop, there)
            for test in there:
                seen[test][loop].add(again["outcomes"].get(test, ABSENT))
    for test, outcomes in seen.items():
        if outcomes["asyncio"] & outcomes["becket"] - {ABSENT}:
            result.unsteady.append(test)
        else:
            stock, ours = ("/".join(sorted(outcomes[loop])) for loop in LOOPS)
            result.differences[test] = f"{stock} on asyncio, {ours} on becket"


def count_outcomes(run: dict) -> dict[str, int]:
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for outcome in run["outcomes"].values():
        counts[outcome] += 1
    counts["loops"] = run["loops"].get("becket", 0)
    counts["stock loops"] = run["loops"].get("asyncio", 0)
    return counts


def judge(suite: Suite) -> Result:
    result = Result(suite.name, suite.version)
    try:
        services.require(suite.programs)
        environment = make_environment(suite)
        folder = unpack(suite, environment)
        with services.running(suite.programs):
            runs = {}
            for loop in LOOPS:
                environments.say(f"{suite.name}: on {loop}")
                runs[loop] = run_tests(suite, environment, folder, loop)
                result.counts[loop] = count_outcomes(runs[loop])
            settle(suite, environment, folder, result, runs)
        if not runs["becket"]["loops"].get("becket"):
            raise SuiteError("no loop of becket's was made")
    except (SuiteError, environments.CommandError, services.Missing) as error:
        result.why_not = str(error)
    return result


def say_result(result: Result) -> None:
    for loop, counts in result.counts.items():
        print(f"{result.suite} {result.version} on {loop}: {counts}")
    for test, what in result.differences.items():
        print(f"  DIFFERS {test}: {what}")
    for test in result.unsteady:
        print(f"  unsteady {test}")
    if result.why_not:
        print(f"{result.suite}: {result.why_not}")
    sys.stdout.flush()


def main() -> None:
    suites = read_suites()
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help="default: all of them"
    )
    parser.add_argument("--report", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    known = {suite.name: suite for suite in suites}
    if unknown := set(arguments.suites) - known.keys():
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    results = []
    for name in arguments.suites or known:
        results.append(judge(known[name]))
        say_result(results[-1])
    if arguments.report:
        write_table(arguments.report, results)
    sys.exit(any(r.differences or r.why_not for r in results))


if __name__ == "__main__":
    main()
