# SPDX-License-Identifier: MIT
"""The behaviour table: markers are found, and what is wrong is told."""

from pathlib import Path

import pytest

from checks import rows
from checks.tree import Source, Tree

CONFORMANCE = Path(__file__).parents[1] / "conformance"

CATALOGUE = """\
[sections]
P1A = "Loops"

[rows]
P1A-001 = { topic = "One" }
P1A-002 = { topic = "Two", reason = "Windows only" }
"""
TEST = """\
import pytest

@pytest.mark.row("P1A-001")
def test_one(): ...
"""


@pytest.fixture
def check(tmp_path):
    """Check a tree of these files; its table is made of the others."""

    def make(catalogue=CATALOGUE, test=TEST, table=None):
        files = {rows.CATALOGUE: catalogue, "tests/python/test_a.py": test}
        if table is None:
            markers, _ = rows.read_markers(
                Source("tests/python/test_a.py", test)
            )
            table = rows.render(rows.read_catalogue(catalogue), markers)
        files[rows.TABLE] = table
        for path, text in files.items():
            (tmp_path / path).parent.mkdir(parents=True, exist_ok=True)
            (tmp_path / path).write_text(text)
        found = rows.check_rows(Tree(tmp_path, list(files)))
        return [str(finding) for finding in found]

    return make


def test_nothing_is_wrong(check):
    assert check() == []


def test_stale_table(check):
    found = check(table="# Old\n")
    assert found == ['tests/ROWS.md: is stale: run "make rows"']


def test_unknown_row(check):
    test = TEST.replace("row(", 'row("P9Z-999", ')
    assert check(test=test) == [
        "tests/python/test_a.py:3: P9Z-999 is no row of tests/rows.toml"
    ]


def test_neither_test_nor_reason(check):
    catalogue = CATALOGUE.replace(', reason = "Windows only"', "")
    assert check(catalogue) == [
        "tests/rows.toml:6: P1A-002 has no test, and no reason why not"
    ]


@pytest.mark.parametrize("proof", ["row", "cpython"])
def test_both_test_and_reason(check, proof):
    test = TEST
    catalogue = CATALOGUE
    if proof == "row":
        test = test.replace('"P1A-001"', '"P1A-001", "P1A-002"')
    else:
        catalogue = catalogue.replace(
            "reason =", 'cpython = ["test_events.*"], reason ='
        )
    assert check(catalogue, test) == [
        "tests/rows.toml:6: P1A-002 has a test: it needs no reason"
    ]


def test_something_open_without_a_test(check):
    catalogue = CATALOGUE.replace('only"', 'only", open = "TLS"')
    assert check(catalogue) == [
        "tests/rows.toml:6: P1A-002 has no test that could leave something"
        " open"
    ]


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (("[rows]", "[row]"), "'rows'"),
        (("P1A-001", "P1A-003"), "the rows are not sorted"),
        (("P1A-002", "P2A-002"), "P2A-002 is in no section"),
        (("reason", "excuse"), "P1A-002: excuse = 'Windows only' is not"),
        (('"Windows only"', "1"), "P1A-002: reason = 1 is not understood"),
        (('"Two"', '""'), "P1A-002: topic = '' is not understood"),
        (('topic = "Two", ', ""), "'topic'"),
    ],
)
def test_unreadable_catalogue(check, change, message):
    (finding,) = check(CATALOGUE.replace(*change), table="")
    assert finding.startswith("tests/rows.toml: cannot be read: ")
    assert message in finding


def markers_of(text):
    markers, findings = rows.read_markers(Source("tests/test_a.py", text))
    return [(m.row, m.test, m.line) for m in markers], list(map(str, findings))


def test_where_markers_stand():
    text = """\
import pytest
row = pytest.mark.row
pytestmark = [pytest.mark.row("A"), pytest.mark.one_poller]

@row("B", "C")
class TestX:
    pytestmark = row("D")

    @pytest.mark.one_poller
    @pytest.mark.row("E")
    async def test_y(self): ...

@pytest.mark.parametrize("x", [pytest.param(1, marks=row("F"))])
def test_z(): ...
"""
    markers, findings = markers_of(text)
    assert findings == []
    assert markers == [
        ("A", "", 3),
        ("B", "TestX", 5),
        ("C", "TestX", 5),
        ("D", "TestX", 7),
        ("E", "TestX.test_y", 10),
        ("F", "test_z", 13),
    ]


def test_pythons_of_a_test():
    text = """\
import pytest
pytestmark = pytest.mark.before(3, 16)

@pytest.mark.row("A")
def test_x(): ...

@pytest.mark.since(3, 12)
@pytest.mark.row("B")
@pytest.mark.before(3, 14)
def test_y(): ...
"""
    markers, _ = rows.read_markers(Source("tests/test_a.py", text))
    assert [marker.pythons for marker in markers] == ["<3.16", "3.12+ <3.14"]


def test_markers_that_say_nothing():
    text = """\
import pytest
name = "A"

@pytest.mark.row(name)
def test_x(): ...

@pytest.mark.row("B")
def helper(): ...
"""
    assert markers_of(text) == (
        [],
        [
            "tests/test_a.py:4: a row is named by a literal string",
            "tests/test_a.py:7: a row marker on no test",
        ],
    )


def test_the_table_names_tests_by_file():
    catalogue = rows.read_catalogue(
        CATALOGUE.replace('"One"', '"sock_* | one", open = "TLS"').replace(
            "reason =", 'cpython = ["test_events.Default.test_x"], open ='
        )
    )
    markers = [
        rows.Marker("P1A-001", "tests/python/test_b.py", 9, "test_x", "3.14+"),
        rows.Marker("P1A-001", "tests/python/test_a.py", 9, "test_z"),
        rows.Marker("P1A-001", "tests/python/test_a.py", 8, "test_y"),
        rows.Marker("P1A-001", "tests/python/test_a.py", 7, "test_z"),
        rows.Marker("P1A-001", "tests/examples/test_c.py", 1, ""),
    ]
    table = rows.render(catalogue, markers)
    assert (
        "| P1A-001 | sock_\\* \\| one | examples/test_c.py;"
        " python/test_a.py: test_y, test_z; python/test_b.py: test_x (3.14+);"
        " open: TLS |\n" in table
    )
    assert (
        "| P1A-002 | Two | CPython's test_events.Default.test_x;"
        " open: Windows only |\n" in table
    )


def test_tests_of_cpython_have_to_run(tmp_path, monkeypatch):
    monkeypatch.syspath_prepend(CONFORMANCE)
    from proofs import find_unproved, read_patterns

    path = tmp_path / "rows.toml"
    path.write_text(
        CATALOGUE.replace("reason =", 'cpython = ["f.*.test_x"], reason =')
    )
    patterns = read_patterns(path)
    assert patterns == [("P1A-002", "f.*.test_x")]
    skipped, runs = {"f.A.test_x": "skipped"}, {"f.B.test_x": None}
    assert not list(find_unproved(patterns, {**skipped, **runs}, True))
    (text,) = find_unproved(patterns, skipped, False)
    assert text == "P1A-002 names f.*.test_x, which does not run or fails"
    (text,) = find_unproved(patterns, {}, True)
    assert text == "P1A-002 names f.*.test_x, which matches no test"
    assert not list(find_unproved(patterns, {}, False))
