# SPDX-License-Identifier: MIT
"""What a suite does on CPython's loop and on becket's, held together.

A test that ended differently is tried again before it counts: alone, several
times on each loop, and where that never differs, once more with the rest of
its file. So what fails now and then on either loop is told from what differs.
"""

from dataclasses import asdict, dataclass, field
from datetime import date

import environments
import services
from play import Place, SuiteError
from prepare import Suite, make_environment, unpack

LOOPS = ("asyncio", "becket")
ALONE = 3  # times that a differing test runs alone on each loop
DIFFERING_MAX = 40  # more are no accident: they are not tried again
ABSENT = "absent"  # the outcome of a test that was not collected
UNCOLLECTED = " (collection)"  # how on_loop.py marks files without tests

Outcomes = dict[str, list[str]]  # of one test, on each loop


@dataclass
class Result:
    """What a suite did on each loop."""

    suite: str
    version: str
    python: str = ""
    day: str = ""
    counts: dict[str, dict[str, int]] = field(default_factory=dict)
    explained: dict[str, str] = field(default_factory=dict)
    differences: dict[str, str] = field(default_factory=dict)
    unsteady: dict[str, str] = field(default_factory=dict)
    # Of the differences, how they ended on each loop, in the whole.
    endings: dict[str, dict[str, str]] = field(default_factory=dict)
    why_not: str = ""
    is_missing: bool = False  # what it takes is not on this machine

    as_dict = asdict


def differing(runs: dict[str, dict]) -> list[str]:
    stock, ours = (runs[loop]["outcomes"] for loop in LOOPS)
    return sorted(
        test
        for test in stock.keys() | ours.keys()
        if stock.get(test) != ours.get(test)
    )


def settle(place: Place, result: Result, runs: dict[str, dict]) -> None:
    """Sort what differed into explained, unsteady and different."""
    left = []
    for test in differing(runs):
        reason = place.suite.reason(test)
        if reason is None:
            left.append(test)
        else:
            result.explained[test] = reason
    again = len(left) <= DIFFERING_MAX
    for test in left:
        seen = {
            loop: [runs[loop]["outcomes"].get(test, ABSENT)] for loop in LOOPS
        }
        is_steady = again and is_unsteady(place, test, seen)
        kind = result.unsteady if is_steady else result.differences
        kind[test] = describe(seen)
        if not is_steady:
            result.endings[test] = {loop: seen[loop][0] for loop in LOOPS}


def is_unsteady(place: Place, test: str, seen: Outcomes) -> bool:
    """Whether a test that differed does not always; adds to what was seen."""
    if any(outcomes == [ABSENT] for outcomes in seen.values()):
        return False
    for _ in range(ALONE):
        for loop in LOOPS:
            seen[loop].append(play_again(place, loop, test, test))
    stock, ours = (set(seen[loop][1:]) for loop in LOOPS)
    if not stock & ours:
        return set(seen["asyncio"]) & set(seen["becket"]) != set()
    file = test.partition("::")[0]
    for loop in LOOPS:
        seen[loop].append(play_again(place, loop, file, test))
    first, last = ([seen[loop][i] for loop in LOOPS] for i in (0, -1))
    return first != last


def play_again(place: Place, loop: str, tests: str, test: str) -> str:
    environments.say(f"  on {loop} again: {tests}")
    outcomes = place.run(loop, [tests])["outcomes"]
    if test not in outcomes:
        raise SuiteError(f"{test} could not be run again")
    return outcomes[test]


def describe(seen: Outcomes) -> str:
    """As "passed 4 of 5 on asyncio, 5 of 5 on becket"."""
    parts = []
    for loop in LOOPS:
        outcomes = seen[loop]
        if set(outcomes) <= {"passed", "failed"}:
            passed = outcomes.count("passed")
            parts.append(f"passed {passed} of {len(outcomes)} on {loop}")
        else:
            parts.append(f"{'/'.join(sorted(set(outcomes)))} on {loop}")
    return ", ".join(parts)


def count_outcomes(run: dict) -> dict[str, int]:
    counts = {"passed": 0, "failed": 0, "skipped": 0}
    for outcome in run["outcomes"].values():
        counts[outcome] += 1
    counts["becket's loops"] = run["loops"].get("becket", 0)
    counts["asyncio's loops"] = run["loops"].get("asyncio", 0)
    counts["seconds"] = round(run["seconds"])
    return counts


def require_collected(loop: str, run: dict) -> None:
    """pytest runs no test when a file cannot be imported."""
    failed = [test for test in run["outcomes"] if test.endswith(UNCOLLECTED)]
    if failed:
        raise SuiteError(f"on {loop} it cannot import {failed[0]}")


def set_up(suite: Suite) -> Place:
    with environments.build_lock():
        environment = make_environment(suite)
        return Place(suite, environment, unpack(suite, environment))


def judge_again(suite: Suite, result: Result) -> None:
    """Try what differed, alone and with its file, after a fix: what is alike
    now counts as if it had been so in the whole. What has been explained
    meanwhile is not tried."""
    for test in list(result.differences):
        if reason := suite.reason(test):
            del result.differences[test]
            result.explained[test] = reason
    if not result.differences:
        return
    place = set_up(suite)
    with services.running(suite.programs):
        for test in list(result.differences):
            file = test.partition("::")[0]
            seen = {
                loop: [play_again(place, loop, t, test) for t in (test, file)]
                for loop in LOOPS
            }
            if len({ending for loop in LOOPS for ending in seen[loop]}) == 1:
                count_again(result, test, seen)


def count_again(result: Result, test: str, seen: Outcomes) -> None:
    del result.differences[test]
    for loop, before in result.endings.pop(test).items():
        result.counts[loop][before] -= 1
        result.counts[loop][seen[loop][0]] += 1


def judge(suite: Suite) -> Result:
    result = Result(suite.name, suite.version, day=str(date.today()))
    try:
        services.require(suite.programs)
    except services.Missing as missing:
        result.why_not, result.is_missing = str(missing), True
        return result
    try:
        place = set_up(suite)
        with services.running(suite.programs):
            runs = {}
            for loop in LOOPS:
                environments.say(f"{suite.name}: on {loop}")
                runs[loop] = place.run(loop)
                result.counts[loop] = count_outcomes(runs[loop])
                result.python = runs[loop]["python"]
                require_collected(loop, runs[loop])
            if not runs["becket"]["loops"].get("becket"):
                raise SuiteError("no loop of becket's was made")
            settle(place, result, runs)
    except (SuiteError, environments.CommandError, services.Missing) as error:
        result.why_not = str(error)
    return result
