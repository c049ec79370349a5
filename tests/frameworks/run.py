#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run the test suites of asyncio packages on becket and on CPython's loop.

    run.py                 every suite of suites.toml
    run.py aiohttp anyio   these
    run.py --quick         those that take seconds
    run.py --again aiohttp what differed in its last run, after a fix
    run.py --report FILE   write the table too, with the last result of each
    run.py --table FILE    only write it

Each suite gets an environment of its own, .venv/frameworks/NAME, with becket
as this tree has it. It runs once on each loop; what differs is tried again,
since upstream has tests of its own that fail now and then (judge.py). The
run fails on a difference that suites.toml does not explain.
"""

import argparse
import json
import signal
import sys
from pathlib import Path

import environments
from judge import Result, judge, judge_again
from prepare import Suite, read_suites
from table import write_table

RESULTS = environments.BUILD / "frameworks" / "results"


def store(result: Result) -> None:
    RESULTS.mkdir(parents=True, exist_ok=True)
    path = RESULTS / f"{result.suite}.json"
    path.write_text(json.dumps(result.as_dict(), indent=1))


def last_result(suite: Suite) -> Result:
    """Of the version that suites.toml names, or that there is none."""
    path = RESULTS / f"{suite.name}.json"
    if path.is_file():
        result = Result(**json.loads(path.read_text()))
        if result.version == suite.version:
            return result
    return Result(suite.name, suite.version, why_not="its turn has not come")


def is_chosen(suite: Suite, arguments: argparse.Namespace) -> bool:
    if arguments.suites:
        return suite.name in arguments.suites
    return suite.is_quick or not arguments.quick


def say_result(result: Result) -> None:
    for loop, counts in result.counts.items():
        print(f"{result.suite} {result.version} on {loop}: {counts}")
    for test, what in result.differences.items():
        print(f"  DIFFERS {test}: {what}")
    for test, reason in result.explained.items():
        print(f"  explained {test}: {reason}")
    for test, what in result.unsteady.items():
        print(f"  unsteady {test}: {what}")
    if result.why_not:
        print(f"{result.suite}: {result.why_not}")
    sys.stdout.flush()


def run_suite(suite: Suite) -> Result:
    result = judge(suite)
    store(result)
    say_result(result)
    return result


def run_again(suite: Suite) -> Result:
    result = last_result(suite)
    judge_again(suite, result)
    store(result)
    say_result(result)
    return result


def close(results: list[Result]) -> int:
    """The totals, in the words of every script of these tests."""
    ran = [r for r in results if not r.why_not]
    passed = sum(r.counts["becket"]["passed"] for r in ran)
    skipped = sum(r.is_missing for r in results)
    failed = sum(len(r.differences) + bool(r.why_not) for r in results)
    failed -= skipped
    print(f"{passed} passed, {failed} failed, {skipped} skipped")
    return 1 if failed else 0


def main() -> int:
    suites = {suite.name: suite for suite in read_suites()}
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "suites", nargs="*", metavar="SUITE", help="default: all of them"
    )
    parser.add_argument("--quick", action="store_true")
    parser.add_argument("--again", action="store_true")
    parser.add_argument("--report", type=Path, metavar="FILE")
    parser.add_argument("--table", type=Path, metavar="FILE")
    arguments = parser.parse_args()
    if unknown := set(arguments.suites) - suites.keys():
        parser.error(f"no such suite: {', '.join(sorted(unknown))}")
    # A shell's background jobs ignore it, and so would the tests that send it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    code = 0
    if not arguments.table:
        chosen = [s for s in suites.values() if is_chosen(s, arguments)]
        run = run_again if arguments.again else run_suite
        code = close([run(suite) for suite in chosen])
    if path := arguments.report or arguments.table:
        write_table(path, [(s, last_result(s)) for s in suites.values()])
    return code


if __name__ == "__main__":
    sys.exit(main())
