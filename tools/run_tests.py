# SPDX-License-Identifier: MIT
"""Run the tests: the C library's, then those of every Python found.

Prints one line for each part as it ends and all of them at the end, and closes
with the totals. The time of the processors tells what a part costs where other
programs run beside it.
"""

import argparse
import os
import re
import resource
import subprocess
import sys
import time
import xml.etree.ElementTree as ElementTree
from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import environments
from environments import (
    BUILD,
    SANITIZE,
    SANITIZE_THREADS,
    TOP,
    Environment,
)

RESULTS = BUILD / "results"
TESTS = "tests/python"
SOFTWARE = "tests/python/software"
WITHOUT_SOFTWARE = (TESTS, f"--ignore={SOFTWARE}")
SID_VERSIONS = ("3.14", "3.15")
# Those of the C tests that have threads, or use what has.
WITH_THREADS = (
    "example worker_thread",
    "test_connect",
    "test_handle",
    "test_loop",
    "test_resolver",
    "test_signal",
    "test_stats",
    "unit_inbox",
    "unit_mpsc",
    "unit_pool",
)
# Most tests wait for sockets, clocks and other programs.
WORKERS = min(2 * len(os.sched_getaffinity(0)), 16)
SOAK_SECONDS = 20
SOAK_SECONDS_FULL = 120
FUZZ_SECONDS = 30  # for each target
CLOSING_LINE = re.compile(r"(\d+) passed, (\d+) failed(?:, (\d+) skipped)?")


@dataclass
class Result:
    """What one part of the run came to."""

    passed: int = 0
    failed: int = 0
    skipped: int = 0
    exit_code: int = 0

    def settle(self) -> "Result":
        """A part that failed shows at least one failure: a crash has none."""
        if self.exit_code != 0 and self.failed == 0:
            self.failed = 1
        if self.exit_code == 0 and self.passed == 0:
            self.failed = 1  # nothing ran: that is no success
        return self


@dataclass
class Part:
    """One line of the summary, and how to get it."""

    name: str
    run: Callable[[], Result]


@dataclass
class Row:
    """A part that has run: how it ended, and how long it took."""

    part: Part
    result: Result
    seconds: float
    processors: float

    def __str__(self) -> str:
        result = self.result
        return (
            f"{self.part.name:28}{result.passed:6} passed"
            f"{result.failed:4} failed{result.skipped:5} skipped"
            f"{self.seconds:7.0f} s{self.processors:7.0f} s of processors"
        )


def count_junit(path: Path, exit_code: int) -> Result:
    """Read a JUnit report, which both Meson and pytest write."""
    result = Result(exit_code=exit_code)
    if path.is_file():
        for case in ElementTree.parse(path).iter("testcase"):
            if (
                case.find("failure") is not None
                or case.find("error") is not None
            ):
                result.failed += 1
            elif case.find("skipped") is not None:
                result.skipped += 1
            else:
                result.passed += 1
    return result.settle()


def count_closing_line(output: str, exit_code: int) -> Result:
    """Read the last line of the form 'N passed, N failed, N skipped'."""
    result = Result(exit_code=exit_code)
    found = CLOSING_LINE.findall(output)
    if found:
        numbers = [int(number or 0) for number in found[-1]]
        result.passed, result.failed, result.skipped = numbers
    return result.settle()


def stream(
    command: list[str | Path], variables: dict[str, str]
) -> tuple[int, str]:
    """Run a command, show its output as it comes, and return it too."""
    process = subprocess.Popen(
        command,
        cwd=TOP,
        env=variables,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    assert process.stdout is not None
    lines = []
    for line in process.stdout:
        print(line, end="", flush=True)
        lines.append(line)
    return process.wait(), "".join(lines)


def run_core(
    environment: Environment,
    name: str,
    *options: str,
    only: tuple[str, ...] = (),
) -> Result:
    """The C tests, or only some of them, in a build of their own."""
    with environments.build_lock():
        build = environments.build_core(environment, name, *options)
    meson = environment.root / "bin" / "meson"
    command: list[str | Path] = [meson, "test", "-C", build, *only]
    command += ["--no-rebuild", "--print-errorlogs"]
    exit_code, _ = stream(command, environment.variables())
    return count_junit(build / "meson-logs" / "testlog.junit.xml", exit_code)


def run_pytest(
    environment: Environment,
    name: str,
    variables: dict[str, str],
    *arguments: str,
) -> Result:
    report = RESULTS / f"{name}.xml"
    report.unlink(missing_ok=True)
    command: list[str | Path] = [environment.python, "-m", "pytest", "-q"]
    command += ["-n", str(WORKERS), f"--junitxml={report}"]
    command += arguments or WITHOUT_SOFTWARE
    exit_code, _ = stream(command, variables)
    return count_junit(report, exit_code)


def run_tools(environment: Environment) -> Result:
    """The tests of the checks themselves."""
    return run_pytest(
        environment, "tools", environment.variables(), "tests/tools"
    )


def extent(is_full: bool) -> tuple[str, ...]:
    """For the tests that play thousands of trials: all that there are."""
    return ("--full",) if is_full else ()


def run_python(environment: Environment, is_full: bool) -> Result:
    with environments.build_lock():
        environments.install_extension(environment)
    return run_pytest(
        environment,
        f"py{environment.version}",
        environment.variables(),
        *WITHOUT_SOFTWARE,
        *extent(is_full),
    )


def run_software(environment: Environment) -> Result:
    """Real servers and clients; a file's tests share the server they start."""
    with environments.build_lock():
        environments.install_extension(environment)
    return run_pytest(
        environment,
        f"software-py{environment.version}",
        environment.variables(),
        SOFTWARE,
        "--dist=loadfile",
    )


def run_faulty(environment: Environment, is_full: bool) -> Result:
    """Every system call of the library fails, in a build that lets it."""
    with environments.build_lock():
        site = environments.install_faulty(environment)
    return run_pytest(
        environment,
        f"fault-py{environment.version}",
        environment.variables(PYTHONPATH=str(site)),
        "tests/python/test_faults.py",
        *("-k", "core"),
        *extent(is_full),
    )


def sanitized_variables(environment: Environment) -> dict[str, str]:
    """For an extension built with ASan and UBSan, which is made here.

    The interpreter itself is not, so that the runtime has to come first, and
    its own allocations at exit are no leaks of ours.
    """
    with environments.build_lock():
        site = environments.install_sanitized(environment)
    library = subprocess.run(
        ["cc", "-print-file-name=libasan.so"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout.strip()
    return environment.variables(
        LD_PRELOAD=library,
        ASAN_OPTIONS="detect_leaks=0:allocator_may_return_null=1",
        UBSAN_OPTIONS="halt_on_error=1:print_stacktrace=1",
        PYTHONMALLOC="malloc",
        PYTHONPATH=str(site),
        BECKET_SANITIZED="1",
    )


def run_sanitized(environment: Environment) -> Result:
    """The Python tests under ASan and UBSan."""
    variables = sanitized_variables(environment)
    return run_pytest(environment, f"asan-py{environment.version}", variables)


def run_conformance(environment: Environment) -> Result:
    """CPython's own tests of asyncio, on our loop."""
    script = TOP / "tests" / "conformance" / "run.py"
    exit_code, output = stream(
        [environment.python, script], environment.variables()
    )
    return count_closing_line(output, exit_code)


def run_conformance_sanitized(environment: Environment) -> Result:
    """The same under ASan and UBSan, which take their time."""
    variables = sanitized_variables(environment)
    script = TOP / "tests" / "conformance" / "run.py"
    command: list[str | Path] = [environment.python, script]
    exit_code, output = stream([*command, "--timeout", "300"], variables)
    return count_closing_line(output, exit_code)


def run_script(environment: Environment, *command: str) -> Result:
    """A script of tests/ that closes with its counts."""
    exit_code, output = stream(
        [environment.python, TOP / "tests" / command[0], *command[1:]],
        environment.variables(PYTHONPATH=str(TOP / "tools")),
    )
    result = count_closing_line(output, exit_code)
    if exit_code == 0 and result.skipped:
        result.failed = 0  # what it takes is not here
    return result


def run_soak(environment: Environment, is_full: bool) -> Result:
    """Mixed load on becket: seconds of it, or minutes."""
    seconds = SOAK_SECONDS_FULL if is_full else SOAK_SECONDS
    script = TOP / "tests" / "soak" / "soak.py"
    command: list[str | Path] = [environment.python, script]
    command += ["--seconds", str(seconds)]
    command += ["--report", RESULTS / f"soak-{environment.version}.json"]
    exit_code, output = stream(command, environment.variables())
    return count_closing_line(output, exit_code)


def run_on_sid(versions: list[str]) -> Result:
    """Each of these Pythons, on a Debian sid of our own."""
    command = "python=$(tools/setup) && $python tools/run_tests.py --pythons"
    exit_code, output = stream(
        [TOP / "tools" / "sid", "bash", "-c", command],
        {**os.environ, "PYTHONS": " ".join(versions)},
    )
    return count_closing_line(output, exit_code)


def take_for_sid(machine: environments.Machine) -> list[str]:
    """Of what is missing here, what tools/sid has: these are tested there.

    That takes root, and nobody who restricted the Pythons.
    """
    if os.geteuid() != 0 or os.environ.get("PYTHONS"):
        return []
    taken = [name for name in machine.missing if name in SID_VERSIONS]
    for version in taken:
        machine.missing.remove(version)
    return taken


def plan_core(machine: environments.Machine, is_full: bool) -> list[Part]:
    first = machine.environments[0]
    parts = [
        Part("Tools", partial(run_tools, first)),
        Part("C tests", partial(run_core, first, "c-debug")),
        Part(
            "C tests, ASan and UBSan",
            partial(run_core, first, "c-asan", *SANITIZE),
        ),
    ]
    if is_full:
        threads = partial(
            run_core, first, "c-tsan", *SANITIZE_THREADS, only=WITH_THREADS
        )
        parts.append(Part("C tests with threads, TSan", threads))
        fuzzers = partial(
            run_script,
            first,
            *("fuzz/run.py", "--seconds", str(FUZZ_SECONDS)),
        )
        parts.append(Part("Fuzzers", fuzzers))
    return parts


def newest_with_software(machine: environments.Machine) -> Environment:
    """Of the Pythons with every client: some have no wheels of them yet."""
    for environment in reversed(machine.environments):
        if any(environment.root.glob("lib/python*/site-packages/aioquic")):
            return environment
    return machine.environments[-1]


def plan_pythons(machine: environments.Machine, is_full: bool) -> list[Part]:
    parts = []
    for environment in machine.environments:
        name = f"Python {environment.version}"
        is_long = is_full and environment is machine.environments[-1]
        tests = partial(run_python, environment, is_long)
        suite = partial(run_conformance, environment)
        parts.append(Part(f"{name} tests", tests))
        parts.append(Part(f"{name} conformance", suite))
    return parts


def plan_newest(machine: environments.Machine, is_full: bool) -> list[Part]:
    """What takes long is for the newest alone: all takes an hour at most."""
    environment = machine.environments[-1]
    name = f"Python {environment.version}"
    faulty = partial(run_faulty, environment, is_full)
    soak = partial(run_soak, environment, is_full)
    parts = [
        Part(f"{name}, failing calls", faulty),
        Part(f"{name}, soak", soak),
    ]
    if is_full:
        sanitized = partial(run_sanitized, environment)
        suite = partial(run_conformance_sanitized, environment)
        leaks = partial(run_script, environment, "refleaks/run.py")
        parts.append(Part(f"{name}, ASan and UBSan", sanitized))
        parts.append(Part(f"{name} conformance, ASan", suite))
        parts.append(Part("References", leaks))
    newest = newest_with_software(machine)
    software = partial(run_software, newest)
    parts.append(Part(f"Python {newest.version}, real software", software))
    return parts


def plan(machine: environments.Machine, is_full: bool) -> list[Part]:
    parts = plan_core(machine, is_full) + plan_pythons(machine, is_full)
    parts += plan_newest(machine, is_full)
    if is_full:
        quick = partial(
            run_script,
            machine.environments[0],
            *("frameworks/run.py", "--quick"),
        )
        parts.append(Part("Frameworks' own tests, quick", quick))
    versions = take_for_sid(machine) if is_full else []
    if versions:
        name = f"Python {' and '.join(versions)} on sid"
        parts.append(Part(name, partial(run_on_sid, versions)))
    return parts


def summarize(rows: list[Row], missing: list[str]) -> Result:
    total = Result()
    print()
    for row in rows:
        print(row)
        total.passed += row.result.passed
        total.failed += row.result.failed
        total.skipped += row.result.skipped
    seconds = sum(row.seconds for row in rows)
    processors = sum(row.processors for row in rows)
    print(f"{seconds:.0f} s, {processors:.0f} s of processors")
    if missing:
        print(f"Not on this machine, not tested: Python {', '.join(missing)}")
    print(
        f"{total.passed} passed, {total.failed} failed,"
        f" {total.skipped} skipped"
    )
    return total


def used_processors() -> float:
    """Seconds that the programs started from here have had, which ended."""
    usage = resource.getrusage(resource.RUSAGE_CHILDREN)
    return usage.ru_utime + usage.ru_stime


def run_part(part: Part) -> Row:
    print(f"\n== {part.name}", flush=True)
    start, used = time.monotonic(), used_processors()
    try:
        result = part.run()
    except environments.CommandError as error:
        print(error)
        result = Result(exit_code=1).settle()
    seconds, processors = time.monotonic() - start, used_processors() - used
    row = Row(part, result, seconds, processors)
    print(row, flush=True)
    return row


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument(
        "--all", action="store_true", help="what takes long as well"
    )
    parser.add_argument(
        "--pythons",
        action="store_true",
        help="only what is run on each Python",
    )
    arguments = parser.parse_args()
    machine = environments.look_around()
    RESULTS.mkdir(parents=True, exist_ok=True)
    if arguments.pythons:
        parts = plan_pythons(machine, arguments.all)
    else:
        parts = plan(machine, arguments.all)
    rows = [run_part(part) for part in parts]
    return 1 if summarize(rows, machine.missing).failed else 0


if __name__ == "__main__":
    sys.exit(main())
