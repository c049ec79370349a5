#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Run CPython's own asyncio tests on becket's loop.

    run.py                              everything, on the running Python
    run.py test_events -k call_soon -v  one file, some tests, in the open
    run.py test_events.Default.test_close
    run.py --oracle                     the same on CPython's own loop, which
                                        must pass: it checks this runner

The tests are those of the Python that runs this script. expected.toml lists
where becket differs, each with the reason. The run fails on any other
failure, crash or hang, and on an entry of the list that no longer holds.
"""

import argparse
import fnmatch
import importlib.util
import os
import platform
import sys
import sysconfig
import threading
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from pathlib import Path

import catalog
import expected
import jobs
import proofs
import report as reports

HERE = Path(__file__).parent


def parse_arguments():
    parser = argparse.ArgumentParser(
        description=__doc__,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    parser.add_argument(
        "targets",
        nargs="*",
        help="file, file.Class or file.Class.test; * matches anything",
    )
    parser.add_argument(
        "-k",
        dest="keywords",
        action="append",
        default=[],
        help="only tests whose id contains this (or matches it, with a *)",
    )
    parser.add_argument(
        "-v",
        "--verbose",
        action="store_true",
        help="one process at a time, its output shown, a line per test",
    )
    parser.add_argument("-j", "--processes", type=int, default=2)
    parser.add_argument(
        "--timeout", type=int, default=60, help="seconds for one test"
    )
    parser.add_argument("--json", metavar="FILE", help="write the results")
    parser.add_argument(
        "--list", action="store_true", help="list the tests and what is due"
    )
    parser.add_argument(
        "--try-skipped",
        action="store_true",
        help="run what the list says not to run, and name what passes",
    )
    parser.add_argument(
        "--oracle", action="store_true", help="CPython's own loop, no list"
    )
    return parser.parse_args()


class Selection:
    """Which tests the command line asks for."""

    def __init__(self, targets, keywords):
        self.targets = targets
        self.keywords = keywords
        self.is_complete = not targets and not keywords

    def wants(self, test_id):
        return self._is_target(test_id) and self._has_keyword(test_id)

    def _is_target(self, test_id):
        return not self.targets or any(
            fnmatch.fnmatchcase(test_id, pattern)
            for target in self.targets
            for pattern in (target, target + ".*")
        )

    def _has_keyword(self, test_id):
        return not self.keywords or any(
            fnmatch.fnmatchcase(test_id, word if "*" in word else f"*{word}*")
            for word in self.keywords
        )


class Run:
    """One run: the plan, the workers, the report."""

    def __init__(self, arguments):
        self.arguments = arguments
        self.selection = Selection(arguments.targets, arguments.keywords)
        self.options = jobs.Options(
            subject="oracle" if arguments.oracle else "becket",
            limit=arguments.timeout,
            verbose=arguments.verbose,
        )
        self.deviations = {}  # test id -> Deviation or None, for all tests
        self.lock = threading.Lock()

    def plan(self):
        """List all tests, and look each up among the expected."""
        arguments = self.arguments
        version, self.files = jobs.make_plan(self.options, catalog.BY_NAME)
        self.report = reports.Report(self.options.subject, version)
        known = expected.Expected([], verified=True)
        if not arguments.oracle:
            known = expected.read(HERE / "expected.toml")
        for test_id in self._planned_ids():
            self.deviations[test_id] = known.find(test_id)
        if self.selection.is_complete:
            self._check_patterns(known)
            self._check_rows(known)

    def _planned_ids(self):
        for name, file in self.files.items():
            for cls, methods in file.get("tests", {}).items():
                for method in methods:
                    yield f"{name}.{cls}.{method}"

    def _check_patterns(self, known):
        for pattern in known.unmatched():
            text = f"{pattern} matches no test of this Python"
            if known.verified:
                self.report.stale.append(text)
            else:
                self.report.notes.append(text)

    def _check_rows(self, known):
        self.report.stale += proofs.find_unproved(
            proofs.read_patterns(), self.deviations, known.is_newest
        )

    def make_jobs(self):
        """Split what is to run; count what is not."""
        result = []
        for name, file in self.files.items():
            if file["state"] != "ok":
                self._note_file(name, file)
                continue
            groups = {}
            for test_id in self._ids_of(name):
                if self._is_left_out(test_id):
                    self._leave_out(name, test_id)
                    continue
                cls = test_id.rpartition(".")[0]
                split = catalog.BY_NAME[name].split
                groups.setdefault(cls if split else name, []).append(test_id)
            result += [jobs.Job(name, g, ids) for g, ids in groups.items()]
        return result

    def _ids_of(self, name):
        prefix = name + "."
        for test_id in self.deviations:
            if test_id.startswith(prefix) and self.selection.wants(test_id):
                yield test_id

    def _is_left_out(self, test_id):
        deviation = self.deviations[test_id]
        if deviation is None or self.arguments.try_skipped:
            return False
        return deviation.kind == "skip"

    def _leave_out(self, name, test_id):
        result = jobs.Result(test_id, "not run")
        self.report.add(name, result, self.deviations[test_id])

    def _note_file(self, name, file):
        if (
            not self.selection.is_complete
            and name not in self.arguments.targets
        ):
            return
        if file["state"] == "broken":
            self.report.fail_file(name, f"could not load it:\n{file['why']}")
            return
        tally = self.report.tallies.setdefault(name, reports.Tally())
        if file["state"] == "absent":
            tally.note = "not in this Python"
        else:
            tally.note = f"skipped by CPython: {file['why']}"
            tally.skipped += 1

    def work(self, todo):
        """Run the jobs, at most so many at a time."""
        open_jobs = {}
        for job in todo:
            open_jobs[job.file] = open_jobs.get(job.file, 0) + 1
        self._print_done(set(self.report.tallies) - set(open_jobs))
        processes = 1 if self.arguments.verbose else self.arguments.processes
        pool = ThreadPoolExecutor(max_workers=processes)
        try:
            futures = {pool.submit(self._run_job, job): job for job in todo}
            for future in as_completed(futures):
                future.result()
                file = futures[future].file
                open_jobs[file] -= 1
                if open_jobs[file] == 0:
                    self._finish_file(file)
        finally:
            # On Ctrl-C this ends the workers; otherwise there are none left.
            self.options.stop.set()
            pool.shutdown(cancel_futures=True)

    def _run_job(self, job):
        def on_result(result):
            with self.lock:
                deviation = self.deviations.get(result.id)
                verdict = self.report.add(job.file, result, deviation)
            if self.arguments.verbose:
                print(f"{verdict:9} {result.id} ({result.seconds:.2f} s)")

        jobs.JobRun(job, self.options, on_result).run()

    def _finish_file(self, file):
        tally = self.report.tallies[file]
        if tally.passed and not tally.on_loop and self.selection.is_complete:
            self.report.fail_file(file, "no test has made a loop: see plug.py")
        self._print_done([file])

    def _print_done(self, files):
        for file in sorted(files):
            line = reports.progress_line(file, self.report.tallies[file])
            print(line, flush=True)

    def print_list(self):
        for test_id, deviation in self.deviations.items():
            if self.selection.wants(test_id):
                kind = deviation.kind if deviation else "run"
                reason = f"  ({deviation.reason})" if deviation else ""
                print(f"{kind:9} {test_id}{reason}")


def explain_missing_tests():
    version = "{}.{}".format(*sys.version_info)
    print(
        f"Python {platform.python_version()} ({sys.executable}) has no "
        "test.test_asyncio, so nothing could be run.\n"
        f"On Debian and Ubuntu the package libpython{version}-testsuite gives "
        "it, on Fedora python3-test; a Python built from source has it.\n"
        f"\n0 passed, 0 failed, {len(catalog.FILES)} skipped (all files)"
    )


def has_tests():
    try:
        return importlib.util.find_spec("test.test_asyncio") is not None
    except ModuleNotFoundError:
        return False


def keep_interpreter_lock():
    """becket needs it: a build that can do without is asked not to."""
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        os.environ.setdefault("PYTHON_GIL", "1")


def main():
    arguments = parse_arguments()
    if not arguments.oracle:
        keep_interpreter_lock()
    if not has_tests():
        explain_missing_tests()
        return 0
    started = time.monotonic()
    run = Run(arguments)
    try:
        run.plan()
    except (jobs.PlanError, expected.ExpectedError) as exc:
        print(f"The tests could not be listed:\n{exc}", file=sys.stderr)
        return 2
    if arguments.list:
        run.print_list()
        return 0
    subject = " ".join(filter(None, (run.options.subject, run.report.version)))
    print(f"Python {platform.python_version()}, {subject}, pid {os.getpid()}")
    todo = run.make_jobs()
    if not todo and not run.report.tallies:
        print("No test matches.", file=sys.stderr)
        return 2
    try:
        run.work(todo)
    except KeyboardInterrupt:
        print("interrupted", file=sys.stderr)
        return 130
    print(f"\nran for {time.monotonic() - started:.0f} s")
    reports.print_report(run.report)
    if arguments.json:
        reports.write_json(run.report, arguments.json)
    return 0 if run.report.is_good() else 1


if __name__ == "__main__":
    sys.exit(main())
