# SPDX-License-Identifier: MIT
"""Judges results against the expected deviations, and prints them."""

import json
import platform
import sysconfig
import textwrap
from dataclasses import asdict, dataclass, field

from jobs import Result

COLUMNS = ("tests", "passed", "on loop", "skipped", "deviate", "failed", "s")


@dataclass
class Tally:
    """What became of one file's tests."""

    tests: int = 0
    passed: int = 0
    on_loop: int = 0  # passed, and the test made a loop of the subject
    skipped: int = 0  # by CPython itself
    deviations: int = 0
    failed: int = 0
    seconds: float = 0.0
    note: str = ""

    def add(self, other):
        self.tests += other.tests
        self.passed += other.passed
        self.on_loop += other.on_loop
        self.skipped += other.skipped
        self.deviations += other.deviations
        self.failed += other.failed
        self.seconds += other.seconds


@dataclass
class Report:
    """Everything that the run has found out."""

    subject: str
    version: str
    tallies: dict = field(default_factory=dict)
    results: list = field(default_factory=list)
    failures: list = field(default_factory=list)
    stale: list = field(default_factory=list)
    notes: list = field(default_factory=list)
    tried: list = field(default_factory=list)  # listed as skip, yet pass

    def add(self, file, result, deviation):
        """Count one result; return the word for it."""
        tally = self.tallies.setdefault(file, Tally())
        tally.tests += result.is_test
        tally.seconds += result.seconds
        self.results.append((result, deviation))
        verdict = judge(result, deviation)
        if verdict == "passed":
            tally.passed += 1
            tally.on_loop += bool(result.loops)
        elif verdict == "skipped":
            tally.skipped += 1
        elif verdict == "failed":
            tally.failed += 1
            self.failures.append(result)
        elif verdict == "stale":
            tally.failed += 1
            self.stale.append(
                f"{result.id} passes, but is listed: {deviation.reason}"
            )
        else:
            tally.deviations += 1
            if result.outcome == "passed" and result.loops:
                self.tried.append(result.id)
        return verdict

    def fail_file(self, file, problem):
        """A failure that belongs to the file as a whole."""
        self.tallies.setdefault(file, Tally()).failed += 1
        self.failures.append(Result(file, "failed", problems=[problem]))

    def is_good(self):
        return not self.failures and not self.stale


def judge(result, deviation):
    if deviation is None or result.outcome == "skipped":
        return result.outcome
    if deviation.kind == "deviates" and result.outcome == "passed":
        return "stale"
    return "deviation"


def print_failure(result):
    print(f"\n--- {result.id}")
    for problem in result.problems:
        print(textwrap.indent(problem.rstrip(), "    "))
    if result.output.strip():
        print("    output:")
        print(textwrap.indent(result.output.rstrip(), "    | "))


def progress_line(file, tally):
    state = "FAILED" if tally.failed else "ok"
    parts = [f"{tally.passed} passed"]
    for name in ("skipped", "deviations", "failed"):
        if getattr(tally, name):
            parts.append(f"{getattr(tally, name)} {name}")
    text = tally.note or ", ".join(parts)
    return f"{file:24} {state:6} {text} ({tally.seconds:.1f} s)"


def print_report(report):
    failures = sorted(report.failures, key=lambda result: result.id)
    for result in failures:
        print_failure(result)
    print_table(report.tallies)
    print_list("Stale entries of expected.toml and rows.toml", report.stale)
    print_list("Failed", [result.id for result in failures])
    print_list("Passed although listed as not run", report.tried)
    print_list("Notes", report.notes)
    print(closing_lines(report))


def print_list(title, lines):
    if lines:
        print(f"\n{title}:")
        for line in lines:
            print(f"  {line}")


def print_table(tallies):
    print(f"\n{'file':24}" + "".join(f"{name:>9}" for name in COLUMNS))
    for file in sorted(tallies):
        print(table_row(file, tallies[file]))
    print(table_row("total", total_of(tallies)))


def table_row(name, tally):
    if tally.note and not tally.tests:
        return f"{name:24}  {tally.note}"
    cells = (
        tally.tests,
        tally.passed,
        tally.on_loop,
        tally.skipped,
        tally.deviations,
        tally.failed,
    )
    row = f"{name:24}" + "".join(f"{cell:9}" for cell in cells)
    return row + f"{tally.seconds:9.1f}"


def total_of(tallies):
    total = Tally()
    for tally in tallies.values():
        total.add(tally)
    return total


def closing_lines(report):
    total = total_of(report.tallies)
    skipped = total.skipped + total.deviations
    lines = [
        f"\n{total.skipped} skipped by CPython itself, "
        f"{total.deviations} expected deviations"
    ]
    if report.stale:
        lines.append(f"{len(report.stale)} stale entries (see above)")
    lines.append(
        f"{total.passed} passed, {total.failed} failed, {skipped} skipped"
    )
    return "\n".join(lines)


def suffix_of_build():
    """A t for a Python that can do without the interpreter lock."""
    return "t" if sysconfig.get_config_var("Py_GIL_DISABLED") else ""


def write_json(report, path):
    tests = [
        {
            **asdict(result),
            "verdict": judge(result, deviation),
            "expected": deviation.reason if deviation else "",
        }
        for result, deviation in report.results
    ]
    data = {
        "python": platform.python_version() + suffix_of_build(),
        "loop": report.subject,
        "version": report.version,
        "files": {f: asdict(t) for f, t in report.tallies.items()},
        "total": asdict(total_of(report.tallies)),
        "stale": report.stale,
        "failures": [asdict(result) for result in report.failures],
        "tests": tests,
    }
    with open(path, "w", encoding="utf-8") as stream:
        json.dump(data, stream, indent=1)
        stream.write("\n")
