# SPDX-License-Identifier: MIT
"""The behaviour table: which test shows which statement.

tests/rows.toml lists the statements. Tests name those they show with
@pytest.mark.row(...), on a function, a class, a parameter or, as pytestmark,
a whole file. Run as a program (make rows), this writes tests/ROWS.md.
"""

import ast
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from .tree import Finding, Source, Tree

CATALOGUE = "tests/rows.toml"
TABLE = "tests/ROWS.md"
KEYS = {"topic": str, "reason": str, "cpython": list, "open": str}

HEAD = """\
# What a loop has to do, and the tests that show it

Each row is a statement about asyncio's event loop: of the documentation
(P1, P2), or of what programs see of CPython's implementation (P4). The tests
named beside it fail if becket does otherwise; they also run on CPython's own
loop (`pytest --oracle`). In parentheses: the Pythons on which a test runs, if
not on each. A row without a test says why.

Written by `make rows` from `tests/rows.toml` and the tests' markers.
"""


class Marker(NamedTuple):
    """One row named by one test."""

    row: str
    path: str
    line: int
    test: str  # Class.method, Class or function; empty: the whole file
    pythons: str = ""  # "3.14+" or "<3.12", if it does not run on each


class Row(NamedTuple):
    """One line of the catalogue."""

    name: str
    line: int
    topic: str
    reason: str
    cpython: tuple[str, ...]
    open: str


class Catalogue(NamedTuple):
    sections: dict[str, str]
    rows: dict[str, Row]


# Reading the tests.


def is_row_mark(node: ast.expr, aliases: set[str]) -> bool:
    """Whether an expression is pytest.mark.row, or a file's name for it."""
    if isinstance(node, ast.Name):
        return node.id in aliases
    return ast.unparse(node) == "pytest.mark.row"


def find_aliases(module: ast.Module) -> set[str]:
    return {
        target.id
        for node in module.body
        if isinstance(node, ast.Assign) and is_row_mark(node.value, set())
        for target in node.targets
        if isinstance(target, ast.Name)
    }


def calls_in(nodes: list[ast.AST], aliases: set[str]) -> list[ast.Call]:
    return [
        node
        for top in nodes
        for node in ast.walk(top)
        if isinstance(node, ast.Call) and is_row_mark(node.func, aliases)
    ]


def pytestmarks(body: list[ast.stmt]) -> list[ast.AST]:
    return [
        node.value
        for node in body
        if isinstance(node, ast.Assign)
        and any(ast.unparse(target) == "pytestmark" for target in node.targets)
    ]


def pythons_of(nodes: list[ast.AST]) -> str:
    """What the markers since() and before() say, in a few characters."""
    words = {"pytest.mark.since": "{}+", "pytest.mark.before": "<{}"}
    return " ".join(
        words[ast.unparse(node.func)].format(
            ".".join(ast.unparse(argument) for argument in node.args)
        )
        for top in nodes
        for node in ast.walk(top)
        if isinstance(node, ast.Call) and ast.unparse(node.func) in words
    )


def marked_places(
    body: list[ast.stmt], prefix: str = ""
) -> Iterator[tuple[str, list[ast.AST]]]:
    """Each test of a body, and where its markers stand."""
    yield prefix.rstrip("."), pytestmarks(body)
    for node in body:
        if isinstance(node, ast.ClassDef) and node.name.startswith("Test"):
            name = f"{prefix}{node.name}"
            yield name, list(node.decorator_list)
            yield from marked_places(node.body, f"{name}.")
        elif isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            if node.name.startswith("test"):
                yield f"{prefix}{node.name}", list(node.decorator_list)


def read_markers(source: Source) -> tuple[list[Marker], list[Finding]]:
    """The markers of one file, and those that say nothing."""
    module = ast.parse(source.text, source.path)
    aliases = find_aliases(module)
    markers: list[Marker] = []
    findings: list[Finding] = []
    lost = {id(call): call for call in calls_in([module], aliases)}
    everywhere = pytestmarks(module.body)
    for test, nodes in marked_places(module.body):
        pythons = pythons_of(nodes) or pythons_of(everywhere)
        for call in calls_in(nodes, aliases):
            lost.pop(id(call), None)
            for argument in call.args:
                if isinstance(argument, ast.Constant):
                    place = (source.path, call.lineno, test, pythons)
                    markers.append(Marker(str(argument.value), *place))
                else:
                    text = "a row is named by a literal string"
                    findings.append(Finding(source.path, call.lineno, text))
    findings += [
        Finding(source.path, call.lineno, "a row marker on no test")
        for call in lost.values()
    ]
    return markers, findings


def test_sources(tree: Tree) -> list[Source]:
    return [
        source
        for source in tree.python_sources
        if source.is_under("tests") and source.name.startswith("test_")
    ]


def collect(tree: Tree) -> tuple[list[Marker], list[Finding]]:
    markers: list[Marker] = []
    findings: list[Finding] = []
    for source in test_sources(tree):
        if "row" in source.text:
            more, wrong = read_markers(source)
            markers += more
            findings += wrong
    return markers, findings


# Reading the catalogue.


def parse_row(name: str, line: int, entry: dict[str, object]) -> Row:
    for key, value in entry.items():
        if key not in KEYS or not isinstance(value, KEYS[key]) or not value:
            raise ValueError(f"{name}: {key} = {value!r} is not understood")
    cpython = entry.get("cpython", [])
    assert isinstance(cpython, list)
    return Row(
        name,
        line,
        str(entry["topic"]),
        str(entry.get("reason", "")),
        tuple(map(str, cpython)),
        str(entry.get("open", "")),
    )


def read_catalogue(text: str) -> Catalogue:
    """Raises ValueError if the file is not what its head says."""
    data = tomllib.loads(text)
    lines = {
        line.partition(" ")[0]: number
        for number, line in enumerate(text.splitlines(), 1)
    }
    rows = {
        name: parse_row(name, lines[name], entry)
        for name, entry in data["rows"].items()
    }
    if list(rows) != sorted(rows):
        raise ValueError("the rows are not sorted")
    for name in rows:
        if name.partition("-")[0] not in data["sections"]:
            raise ValueError(f"{name} is in no section")
    return Catalogue(data["sections"], rows)


# The table.


def describe_tests(row: Row, markers: list[Marker]) -> str:
    """The tests of a row by file, or the reason why there are none."""
    files: dict[str, list[str]] = {}
    for marker in sorted(markers):
        if marker.row == row.name:
            tests = files.setdefault(marker.path.removeprefix("tests/"), [])
            pythons = f" ({marker.pythons})" if marker.pythons else ""
            if marker.test and marker.test + pythons not in tests:
                tests.append(marker.test + pythons)
    parts = [
        f"{path}: {', '.join(sorted(tests))}" if tests else path
        for path, tests in sorted(files.items())
    ]
    if row.cpython:
        parts.append(f"CPython's {', '.join(row.cpython)}")
    if row.open:
        parts.append(f"open: {row.open}")
    return "; ".join(parts) or row.reason


def cell(text: str) -> str:
    """Text that says in Markdown what it says here."""
    for character in "*<|":
        text = text.replace(character, f"\\{character}")
    return text


def render(catalogue: Catalogue, markers: list[Marker]) -> str:
    parts = [HEAD]
    for section, title in catalogue.sections.items():
        parts.append(f"\n## {section}: {title}\n\n")
        parts.append("| row | behaviour | tests, or why there are none |\n")
        parts.append("|---|---|---|\n")
        parts += [
            f"| {row.name} | {cell(row.topic)}"
            f" | {cell(describe_tests(row, markers))} |\n"
            for row in catalogue.rows.values()
            if row.name.partition("-")[0] == section
        ]
    return "".join(parts)


# The check.


def check_rows(tree: Tree) -> Iterator[Finding]:
    files = {source.path: source.text for source in tree.sources}
    try:
        catalogue = read_catalogue(files.get(CATALOGUE, ""))
    except (ValueError, KeyError) as error:
        yield Finding(CATALOGUE, 0, f"cannot be read: {error}")
        return
    markers, findings = collect(tree)
    yield from findings
    for marker in markers:
        if marker.row not in catalogue.rows:
            text = f"{marker.row} is no row of {CATALOGUE}"
            yield Finding(marker.path, marker.line, text)
    yield from check_reasons(catalogue, {marker.row for marker in markers})
    if files.get(TABLE) != render(catalogue, markers):
        yield Finding(TABLE, 0, 'is stale: run "make rows"')


def check_reasons(catalogue: Catalogue, marked: set[str]) -> Iterator[Finding]:
    """Each row has tests or a reason why not, and never both."""
    for row in catalogue.rows.values():
        is_tested = row.name in marked or bool(row.cpython)
        if is_tested and row.reason:
            text = f"{row.name} has a test: it needs no reason"
            yield Finding(CATALOGUE, row.line, text)
        if not is_tested and not row.reason:
            text = f"{row.name} has no test, and no reason why not"
            yield Finding(CATALOGUE, row.line, text)
        if row.open and not is_tested:
            text = f"{row.name} has no test that could leave something open"
            yield Finding(CATALOGUE, row.line, text)


def main() -> int:
    tree = Tree(Path(__file__).resolve().parents[2])
    catalogue = read_catalogue((tree.top / CATALOGUE).read_text())
    markers, _ = collect(tree)
    (tree.top / TABLE).write_text(render(catalogue, markers))
    tested = {marker.row for marker in markers}
    tested |= {row.name for row in catalogue.rows.values() if row.cpython}
    rows = catalogue.rows.keys()
    print(
        f"{TABLE}: {len(rows)} rows, {len(tested & rows)} with a test,"
        f" {len(rows - tested)} without"
    )
    for finding in check_rows(Tree(tree.top)):
        print(f"    {finding}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
