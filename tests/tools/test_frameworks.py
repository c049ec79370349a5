# SPDX-License-Identifier: MIT
"""What is made of a framework's test that ends differently on two loops."""

import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
sys.path.insert(0, str(TOP / "tests" / "frameworks"))

import judge  # noqa: E402
from play import Place, SuiteError  # noqa: E402
from prepare import Suite, read_suites  # noqa: E402

FILE = "tests/test_it.py"
TEST = f"{FILE}::test_it"


class Played(Place):
    """A suite of one test that ends as it is told."""

    def __init__(self, explained=(), **endings):
        suite = Suite("it", "1", [], explained=list(explained))
        super().__init__(suite, None, Path("nowhere"))
        self.endings = {loop: list(words) for loop, words in endings.items()}
        self.played = []

    def run(self, loop, tests=None):
        self.played.append((loop, tests))
        ending = {"P": "passed", "F": "failed"}.get(self.endings[loop].pop(0))
        return {"outcomes": {TEST: ending} if ending else {}}


def settle(**options):
    """The whole, three times alone, and perhaps with the file."""
    place = Played(**options)
    result = judge.Result("it", "1")
    runs = {loop: place.run(loop) for loop in judge.LOOPS}
    judge.settle(place, result, runs)
    return result, place


def test_what_is_alike_is_not_tried_again():
    result, place = settle(asyncio="F", becket="F")
    assert not result.differences and not result.unsteady
    assert place.played == [("asyncio", None), ("becket", None)]


def test_what_always_differs_is_a_difference():
    result, place = settle(asyncio="PPPP", becket="FFFF")
    assert not result.unsteady
    assert result.differences == {
        TEST: "passed 4 of 4 on asyncio, passed 0 of 4 on becket"
    }
    assert (
        place.played[2:]
        == [
            ("asyncio", [TEST]),
            ("becket", [TEST]),
        ]
        * 3
    )


@pytest.mark.parametrize(
    ("asyncio", "becket"),
    [
        ("PPPPP", "FPPPP"),  # alike alone, and with its file
        ("FPPPP", "PPPPP"),
        ("PPPPF", "FPPPP"),  # different with its file, the other way round
        ("FPPP", "PFFF"),  # each loop has had both
    ],
)
def test_what_was_alike_once_is_unsteady(asyncio, becket):
    result, place = settle(asyncio=asyncio, becket=becket)
    assert list(result.unsteady) == [TEST] and not result.differences
    assert all(not left for left in place.endings.values())


def test_what_differs_only_with_its_file_is_a_difference():
    result, place = settle(asyncio="PPPPP", becket="FPPPF")
    assert list(result.differences) == [TEST] and not result.unsteady
    assert place.played[-2:] == [("asyncio", [FILE]), ("becket", [FILE])]


def test_what_cannot_be_tried_again_is_no_agreement():
    with pytest.raises(SuiteError, match=TEST):
        settle(asyncio="P-", becket="F-")


def test_what_one_loop_alone_has_is_a_difference():
    result, _ = settle(asyncio="P", becket="-")
    assert result.differences == {
        TEST: "passed 1 of 1 on asyncio, absent on becket"
    }


def test_what_is_explained_is_not_tried_again():
    reasons = [{"tests": f"{FILE}::*", "reason": "meant"}]
    result, _ = settle(explained=reasons, asyncio="P", becket="F")
    assert result.explained == {TEST: "meant"} and not result.differences


def test_what_differed_can_be_tried_again_after_a_fix(monkeypatch):
    result, _ = settle(asyncio="PPPP", becket="FFFF")
    for loop, ending in (("asyncio", "passed"), ("becket", "failed")):
        result.counts[loop] = {"passed": 0, "failed": 0, ending: 1}
    for becket, left in (("PF", 1), ("PP", 0)):
        place = Played(asyncio="PP", becket=becket)
        monkeypatch.setattr(judge, "set_up", lambda suite, it=place: it)
        judge.judge_again(place.suite, result)
        assert len(result.differences) == left
    assert result.counts["becket"] == {"passed": 1, "failed": 0}
    assert result.counts["asyncio"] == {"passed": 1, "failed": 0}


def test_what_differed_can_be_explained():
    result, place = settle(asyncio="PPPP", becket="FFFF")
    place.suite.explained.append({"tests": TEST, "reason": "meant"})
    judge.judge_again(place.suite, result)
    assert result.explained == {TEST: "meant"} and not result.differences


def test_every_suite_says_why_it_leaves_out_and_what_it_explains():
    suites = read_suites()
    assert len({suite.name for suite in suites}) == len(suites) > 0
    for suite in suites:
        assert all(set(e) == {"option", "reason"} for e in suite.leave_out)
        assert all(set(e) == {"tests", "reason"} for e in suite.explained)
