# SPDX-License-Identifier: MIT
"""The results as tables to read."""

from collections.abc import Callable, Iterator
from typing import NamedTuple

from loops import LOOPS, OURS, REFERENCE
from marks import PEERS, TIED, UNKNOWN, Verdict
from results import Field, Results, cost, rate
from rows import HTTP, MEMORY, NETWORK, OPERATIONS, TLS_ECHO, Row

NAME_COLUMNS = 36
COLUMNS = 11
NONE = "-"
AGAINST_C = (NETWORK, TLS_ECHO)  # the groups with a program in C
NAMED = (*AGAINST_C, HTTP)  # those whose rows go by their short name

Cell = Callable[[Results, Row, str], str]


def number(value: float | None, digits: int, scale: float = 1) -> str:
    return NONE if value is None else f"{value * scale:.{digits}f}"


def network_cell(results: Results, row: Row, loop: str) -> str:
    if loop == REFERENCE:
        return number(results.median(row.name, loop), 1, 1e6) + " us"
    return number(results.ratio(row.name, loop, REFERENCE), 2)


def cpu_cell(results: Results, row: Row, loop: str) -> str:
    return number(results.median(row.name, loop), 1, 1e6)


def http_cell(results: Results, row: Row, loop: str) -> str:
    return number(results.median(row.name, loop, rate), 1, 1e-3)


def operation_cell(results: Results, row: Row, loop: str) -> str:
    value = results.median(row.name, loop)
    return number(1 / value if value else None, 1, 1e-3)


def memory_cell(results: Results, row: Row, loop: str) -> str:
    return number(results.median(row.name, loop), 2)


class Table(NamedTuple):
    """The rows of one group, with one cell for each loop."""

    group: str
    title: str
    cell: Cell
    what: Field = cost  # by which becket and its peers are compared


TABLES = (
    Table(
        NETWORK,
        "Network: server CPU per message, as a multiple of C's",
        network_cell,
    ),
    Table(
        TLS_ECHO,
        "TLS: server CPU per message, as a multiple of C's",
        network_cell,
    ),
    Table(HTTP, "HTTP: thousand requests per second", http_cell, rate),
    Table(HTTP, "HTTP: server CPU per request, us", cpu_cell),
    Table(OPERATIONS, "Operations: thousand per second", operation_cell),
    Table(MEMORY, "Memory: KiB per idle connection", memory_cell),
)


def last_cell(results: Results, row: Row, what: Field) -> str:
    """How many times as good as the best peer becket is."""
    found = []
    for peer in PEERS:
        ratio = results.ratio(row.name, OURS, peer, what)
        if ratio:
            found.append((ratio if what is rate else 1 / ratio, peer))
    if not found:
        return NONE
    ratio, peer = min(found)
    return f"{number(ratio, 2)} {peer}"


def table_lines(results: Results, table: Table) -> Iterator[str]:
    rows = [row for row in results.rows if row.group == table.group]
    if not rows:
        return
    loops = [
        name
        for name, kind in LOOPS.items()
        if name in results.loops and table.group in kind.groups
    ]
    if table.group in AGAINST_C:
        loops.insert(0, REFERENCE)
    yield ""
    yield table.title
    header = "".join(f"{name:>{COLUMNS}}" for name in loops)
    yield f"{'':{NAME_COLUMNS}}{header}   becket to the best peer"
    for row in rows:
        name = row.name if table.group in NAMED else row.title
        cells = [table.cell(results, row, loop) for loop in loops]
        line = "".join(f"{text:>{COLUMNS}}" for text in cells)
        last = last_cell(results, row, table.what)
        yield f"{name:{NAME_COLUMNS}}{line}   {last}"


def all_tables(results: Results) -> Iterator[str]:
    for table in TABLES:
        yield from table_lines(results, table)


def verdict_line(verdict: Verdict) -> str:
    line = f"{verdict.verdict:13}{verdict.mark.text}"
    if verdict.verdict == UNKNOWN:
        return line
    against = f" of {verdict.other}'s" if verdict.other != REFERENCE else ""
    note = " (less than 3 % off)" if verdict.verdict == TIED else ""
    return f"{line}: {number(verdict.ratio, 2)}{against}{note}"


def mark_lines(verdicts: list[Verdict]) -> Iterator[str]:
    if verdicts:
        yield ""
        yield "Marks"
        yield from map(verdict_line, verdicts)


def error_lines(results: Results, missing: dict[str, str]) -> Iterator[str]:
    if results.errors or missing:
        yield ""
    for loop, reason in missing.items():
        yield f"missing: {loop}: {reason}"
    for (row, loop), error in results.errors.items():
        yield f"failed: {row} on {loop}: {error}"
