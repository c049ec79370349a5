# SPDX-License-Identifier: MIT
"""Runs worker processes and turns what they say, or how they die, into one
result per test."""

import json
import os
import re
import select
import signal
import subprocess
import sys
import tempfile
import threading
import time
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

WORKER = Path(__file__).with_name("worker.py")

# A worker that lost a test is started again for the tests after it. A loop
# that hangs or crashes everywhere must still come to an end.
HANGS_MAX = 3
CRASHES_MAX = 20

# The worker ends itself when a test takes too long. This much later the
# parent kills it.
KILL_AFTER_LIMIT = 20

# Importing every test module takes two seconds; a loop that hangs at import
# must not hang the runner.
PLAN_SECONDS_MAX = 120

# How long a look at a silent worker lasts: short enough that its end is
# noticed at once, long enough to cost nothing.
POLL_SECONDS = 0.05

OUTPUT_SHOWN_BYTES_MAX = 6000


@dataclass
class Result:
    id: str
    outcome: str  # passed, skipped, failed
    seconds: float = 0.0
    loops: int = 0
    reason: str = ""  # CPython's reason for skipping
    problems: list = field(default_factory=list)
    output: str = ""
    is_test: bool = True  # False for a failure between tests


@dataclass
class Options:
    subject: str
    limit: int
    verbose: bool = False
    stop: threading.Event = field(default_factory=threading.Event)


@dataclass
class Job:
    """Tests that share a process: a file, or a class of it."""

    file: str
    label: str
    ids: list


class Worker:
    """One child process, in a session and a folder of its own."""

    def __init__(self, spec, folder, options):
        spec_path = Path(folder, "spec.json")
        spec_path.write_text(json.dumps(spec), encoding="utf-8")
        self._output = Path(folder, "output.txt")
        self._verbose = options.verbose
        self._stop = options.stop
        cwd = Path(folder, "cwd")
        cwd.mkdir(exist_ok=True)
        self._fd, write_fd = os.pipe()
        try:
            self._process = self._start(spec_path, write_fd, cwd)
        finally:
            os.close(write_fd)
        self._buffer = b""

    def _start(self, spec_path, write_fd, cwd):
        command = [sys.executable, "-X", "faulthandler", "-u", "-bb"]
        command += ["-W", "default", WORKER, spec_path, str(write_fd)]
        with open(self._output, "wb") as output:
            return subprocess.Popen(
                command,
                cwd=cwd,
                env=worker_environment(),
                stdin=subprocess.DEVNULL,
                stdout=None if self._verbose else output,
                stderr=None if self._verbose else output,
                pass_fds=(write_fd,),
                start_new_session=True,
            )

    def output_size(self):
        return self._output.stat().st_size

    def output_since(self, start):
        with open(self._output, "rb") as stream:
            stream.seek(start)
            data = stream.read()
        return data[-OUTPUT_SHOWN_BYTES_MAX:].decode(errors="replace")

    def events(self, silence_max):
        """Yield the worker's events until it ends. After silence_max seconds
        without any, or when the run is given up, it is killed."""
        deadline = time.monotonic() + silence_max
        while True:
            # Only the worker's own end counts: a child that a test forgot
            # can hold the pipe open.
            ended = self._process.poll() is not None
            lines = self._read_lines()
            for line in lines:
                deadline = time.monotonic() + silence_max
                yield json.loads(line)
            if ended and not lines:
                return
            if self._stop.is_set() or time.monotonic() > deadline:
                self._kill_group()

    def _read_lines(self):
        """Complete lines, after a short wait for the first."""
        readable, _, _ = select.select([self._fd], [], [], POLL_SECONDS)
        if not readable:
            return []
        data = os.read(self._fd, 65536)
        if not data:
            time.sleep(POLL_SECONDS)
        *lines, self._buffer = (self._buffer + data).split(b"\n")
        return lines

    @property
    def status(self):
        """The exit status, once events() is exhausted."""
        return self._process.returncode

    def _kill_group(self):
        try:
            os.killpg(self._process.pid, signal.SIGKILL)
        except ProcessLookupError:
            pass

    def close(self):
        self._kill_group()
        self._process.wait()
        os.close(self._fd)


def worker_environment():
    """The user's environment without what changes asyncio or the loop."""
    env = dict(os.environ)
    for name in list(env):
        if name.startswith("PYTHONASYNCIO") or name == "BECKET_BACKEND":
            del env[name]
    env.pop("PYTHONWARNINGS", None)
    return env


@contextmanager
def worker_for(spec, options):
    with tempfile.TemporaryDirectory(prefix="conformance-") as folder:
        worker = Worker(spec, folder, options)
        try:
            yield worker
        finally:
            worker.close()


class PlanError(Exception):
    """The worker could not list the tests."""


def make_plan(options, files):
    """Ask a worker for the subject's version and each file's tests."""
    spec = {"mode": "plan", "subject": options.subject, "files": list(files)}
    version, plan, done = "", {}, False
    with worker_for(spec, options) as worker:
        for event in worker.events(PLAN_SECONDS_MAX):
            if event["event"] == "subject":
                version = event["version"]
            elif event["event"] == "file":
                plan[event["name"]] = event
            elif event["event"] == "done":
                done = True
        if not done:
            raise PlanError(worker.output_since(0))
    return version, plan


class JobRun:
    """Runs one job to its end, with a new worker after each lost test."""

    def __init__(self, job, options, on_result):
        self._job = job
        self._options = options
        self._on_result = on_result
        self._remaining = list(job.ids)
        self._hangs = 0
        self._crashes = 0
        self._forget_worker()

    def _forget_worker(self):
        self._current = None  # the id of the test that is running
        self._last = "its start"  # or the id of the last one that was started
        self._last_event = time.monotonic()
        self._output_start = 0
        self._done = False

    def run(self):
        while self._remaining:
            before = len(self._remaining)
            self._run_worker()
            if self._options.stop.is_set():
                return
            if len(self._remaining) == before:
                self._give_up("the worker died before its first test")
            elif self._hangs >= HANGS_MAX:
                self._give_up(f"not run: {self._hangs} tests before it hung")
            elif self._crashes >= CRASHES_MAX:
                self._give_up(f"not run: {self._crashes} crashes before it")

    def _run_worker(self):
        spec = {
            "mode": "run",
            "subject": self._options.subject,
            "file": self._job.file,
            "ids": self._remaining,
            "limit": self._options.limit,
        }
        with worker_for(spec, self._options) as worker:
            self._worker = worker
            self._forget_worker()
            silence_max = self._options.limit + KILL_AFTER_LIMIT
            for event in worker.events(silence_max):
                self._last_event = time.monotonic()
                getattr(self, "_on_" + event["event"])(event)
            self._on_exit(worker.status)

    def _on_start(self, event):
        self._current = self._last = event["id"]
        self._output_start = self._worker.output_size()

    def _on_end(self, event):
        self._current = None
        del event["event"]
        result = Result(**event)
        if result.outcome == "failed":
            result.output = self._worker.output_since(self._output_start)
        self._report(result)

    def _on_fixture(self, event):
        """A problem outside any test: an extra failure of its own name."""
        result_id = f"{self._job.label} [{event['id']}]"
        result = Result(result_id, "failed", problems=[event["problem"]])
        result.is_test = False
        self._on_result(result)

    def _on_class_skipped(self, event):
        match = re.search(r"\((?:test\.test_asyncio\.)?(.+)\)", event["id"])
        prefix = match[1] + "."
        for test_id in list(self._remaining):
            if test_id.startswith(prefix):
                reason = event["reason"]
                self._report(Result(test_id, "skipped", reason=reason))

    def _on_done(self, event):
        self._done = True

    def _on_exit(self, status):
        """Judge the worker's end. One that ended well has run everything,
        except the tests of a class whose setUpClass failed."""
        if not self._done or status != 0:
            self._report_death(status)
        if self._done:
            self._give_up("the worker did not run it")

    def _report_death(self, status):
        seconds = time.monotonic() - self._last_event
        if seconds >= 0.95 * self._options.limit and not self._done:
            self._hangs += 1
            problem = f"hung: no end within {self._options.limit} seconds"
        else:
            self._crashes += 1
            problem = f"the worker died: {describe(status)}"
        if self._current is not None:
            result = Result(self._current, "failed", seconds)
        else:
            result_id = f"{self._job.label} [after {self._last}]"
            result = Result(result_id, "failed", is_test=False)
        result.problems = [problem]
        result.output = self._worker.output_since(self._output_start)
        if self._current is not None:
            self._report(result)
        else:
            self._on_result(result)

    def _give_up(self, problem):
        for test_id in list(self._remaining):
            self._report(Result(test_id, "failed", problems=[problem]))

    def _report(self, result):
        self._remaining.remove(result.id)
        self._on_result(result)


def describe(status):
    if status < 0:
        return f"killed by {signal.Signals(-status).name}"
    return f"exit status {status}"
