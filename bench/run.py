# SPDX-License-Identifier: MIT
"""Measure becket's loop next to others: see README.md.

    make bench
    make bench ARGS="--rows tcp_1k,sock_1k --loops becket,uvloop --rounds 3"

Within a round every row is measured on every loop, one right after the other,
so that what else the machine does falls on all of them.
"""

import argparse
import json
import os
import platform
import sys
import time
from pathlib import Path
from typing import Any

import marks
import measure
import prepare
import rows
import tables
from environments import CommandError
from loops import FALLBACK, LOOPS, OURS, REFERENCE
from measure import Bench, MeasureError
from results import Results

PROGRESS_COLUMNS = 72


def words(text: str) -> list[str]:
    return [word for word in text.split(",") if word]


def parse_arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("--rows", type=words, default=[], help="rows or groups, by comma")
    add("--loops", type=words, default=[], help=f"of {', '.join(LOOPS)}")
    add("--rounds", type=int, default=5, help="at most (default 5)")
    add("--minutes", type=float, default=10, help="no round ends later")
    add("--seconds", type=float, default=0.4, help="of each measurement")
    add("--count", type=int, default=0, help="operations, not seconds")
    add("--json", metavar="FILE", help="all figures; - for stdout")
    add("--list", action="store_true", help="the rows and their groups")
    add("--http-load", choices=("auto", "wrk", "own"), default="auto")
    add("--python", type=Path, help="measure with what is installed there")
    add("--programs", type=Path, help="folder for the C programs")
    return parser.parse_args()


def choose_loops(names: list[str]) -> list[str]:
    """C goes first, and is always there: it costs little."""
    for name in names:
        if name not in LOOPS and name != REFERENCE:
            raise ValueError(f"no loop {name}: there are {', '.join(LOOPS)}")
    return [REFERENCE, *(n for n in LOOPS if not names or n in names)]


def prepare_bench(
    options: argparse.Namespace, chosen: list[rows.Row], loops: list[str]
) -> Bench:
    python = options.python
    if python is None:
        python = prepare.prepare_environment(
            OURS in loops or FALLBACK in loops
        )
    wrk = None if options.http_load == "own" else prepare.find_wrk()
    if options.http_load == "wrk" and wrk is None:
        raise ValueError("there is no wrk on this machine")
    folder = [options.programs] if options.programs else []
    programs = prepare.compile_programs(*folder)
    if any(row.transport == rows.TLS for row in chosen):
        prepare.make_certificate(programs)
    return Bench(
        python=python,
        programs=programs,
        wrk=wrk,
        seconds=options.seconds,
        warm_up=0.2 if options.count == 0 else 0,
        operations=options.count,
        idle_connections=2000 if options.count == 0 else options.count,
    )


def probe_loops(
    bench: Bench, loops: list[str]
) -> tuple[dict[str, str], dict[str, str]]:
    """The versions of the packages, and why which loop is missing."""
    versions: dict[str, str] = {}
    missing: dict[str, str] = {}
    for loop in loops:
        packages = LOOPS[loop].packages if loop in LOOPS else ()
        for package in packages:
            try:
                versions[package] = measure.probe(bench.python, package)
            except MeasureError as error:
                missing[loop] = str(error)
    return versions, missing


def show_progress(text: str) -> None:
    """One line that changes, and nothing in a log."""
    if sys.stderr.isatty():
        measure.say(f"\r{text:{PROGRESS_COLUMNS}}\r", end="")


def runs_on(row: rows.Row, loop: str) -> bool:
    if loop == REFERENCE:
        return row.group in tables.AGAINST_C
    return row.group in LOOPS[loop].groups


def run_row(results: Results, bench: Bench, row: rows.Row, turn: int) -> None:
    """One row in one round; who goes first changes from round to round."""
    loops = [name for name in results.loops if runs_on(row, name)]
    turn %= max(len(loops), 1)
    for loop in loops[turn:] + loops[:turn]:
        key = row.name, loop
        if key in results.errors:
            continue  # what has failed once may take long to fail again
        show_progress(f"round {len(results.rounds)}: {row.name} on {loop}")
        try:
            results.rounds[-1][key] = measure.measure(bench, row, loop)
        except MeasureError as error:
            results.errors[key] = str(error)


def run_rounds(
    results: Results, bench: Bench, options: argparse.Namespace
) -> None:
    end = time.monotonic() + 60 * options.minutes
    longest = 0.0
    while len(results.rounds) < options.rounds:
        start = time.monotonic()
        if start + longest > end:
            break
        results.rounds.append({})
        if not sys.stderr.isatty():
            measure.say(f"round {len(results.rounds)}")
        for row in results.rows:
            run_row(results, bench, row, len(results.rounds) - 1)
        longest = max(longest, time.monotonic() - start)
    show_progress("")


def describe(bench: Bench, options: argparse.Namespace) -> dict[str, Any]:
    return {
        "python": measure.python_version(bench.python),
        "kernel": platform.release(),
        "machine": platform.machine(),
        "cores": os.cpu_count(),
        "server_core": measure.SERVER_CORE,
        "load_core": measure.LOAD_CORE,
        "http_load": "wrk" if bench.wrk else "own",
        "seconds": options.seconds,
        "count": options.count,
    }


def write_json(path: str, content: dict[str, Any]) -> None:
    text = json.dumps(content, indent=1) + "\n"
    if path == "-":
        sys.stdout.write(text)
    else:
        Path(path).write_text(text)


def print_report(
    results: Results,
    about: dict[str, Any],
    versions: dict[str, str],
    missing: dict[str, str],
) -> None:
    packages = ", ".join(f"{name} {v}" for name, v in versions.items())
    print(f"CPython {about['python']}, Linux {about['kernel']}; {packages}")
    print(f"medians of {len(results.rounds)} rounds")
    if about["server_core"] == about["load_core"]:
        print("one core only: server and load share it, ratios say little")
    for line in tables.all_tables(results):
        print(line)
    for line in tables.mark_lines(marks.judge_all(results)):
        print(line)
    for line in tables.error_lines(results, missing):
        print(line)


def list_rows() -> None:
    for row in rows.ALL:
        print(f"{row.name:22}{row.group:12}{row.title}")


def main() -> int:
    options = parse_arguments()
    if options.list:
        list_rows()
        return 0
    try:
        chosen = rows.choose(options.rows)
        loops = choose_loops(options.loops)
        bench = prepare_bench(options, chosen, loops)
    except (ValueError, CommandError) as error:
        sys.exit(f"bench: {error}")
    versions, missing = probe_loops(bench, loops)
    results = Results(chosen, [n for n in loops if n not in missing])
    run_rounds(results, bench, options)
    about = describe(bench, options)
    if options.json != "-":
        print_report(results, about, versions, missing)
    if options.json:
        content = {
            "about": about,
            "versions": versions,
            "missing": missing,
            **results.to_json(),
            "marks": [
                {
                    "mark": verdict.mark.text,
                    "verdict": verdict.verdict,
                    "ratio": verdict.ratio,
                    "to": verdict.other,
                }
                for verdict in marks.judge_all(results)
            ],
        }
        write_json(options.json, content)
    return 1 if any(loop == OURS for _, loop in results.errors) else 0


if __name__ == "__main__":
    sys.exit(main())
