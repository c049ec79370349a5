# SPDX-License-Identifier: MIT
"""The child process: plans (lists the tests) or runs a list of tests.

Called by run.py as `worker.py SPEC FD`: SPEC is a JSON file with the order,
FD the pipe on which it answers, one JSON object per line. It never decides
whether a result is good.
"""

import faulthandler
import json
import os
import signal
import sys
import threading
import time
import traceback
import unittest

import catalog
import plug

STDERR_FD = 2
# After the last test the interpreter only shuts down; that takes
# milliseconds, or it hangs.
EXIT_LIMIT = 30


class Channel:
    """The pipe to the parent."""

    def __init__(self, fd):
        os.set_inheritable(fd, False)
        self._fd = fd
        self._pid = os.getpid()

    def send(self, event, **fields):
        if os.getpid() != self._pid:
            # A forked child came back out of its test. It must not run the
            # rest of the suite a second time.
            os._exit(70)
        line = json.dumps({"event": event, **fields}) + "\n"
        data = line.encode()
        while data:
            data = data[os.write(self._fd, data) :]


class Reporter(unittest.TestResult):
    """Sends one event per test, and bounds each test's time."""

    def __init__(self, channel, subject, limit, support):
        super().__init__()
        self._channel = channel
        self._subject = subject
        self._limit = limit
        self._support = support
        self._running = False
        self._started = 0.0
        self._reset()

    def startTest(self, test):
        super().startTest(test)
        self._running = True
        self._loops_before = self._subject.loops_made
        self._channel.send("start", id=short_id(test.id()))
        self._watch()
        self._started = time.monotonic()

    def stopTest(self, test):
        """Also called for a test that was skipped without being started, as
        some Pythons do when its class is skipped."""
        super().stopTest(test)
        seconds = time.monotonic() - self._started if self._running else 0
        self._running = False
        self._check_environment()
        outcome = "passed"
        if self._problems:
            outcome = "failed"
        elif self._skip_reason is not None:
            outcome = "skipped"
        self._channel.send(
            "end",
            id=short_id(test.id()),
            outcome=outcome,
            seconds=round(seconds, 4),
            loops=self._subject.loops_made - self._loops_before,
            reason=self._skip_reason or "",
            problems=self._problems,
        )
        self._reset()
        self._watch()

    def _reset(self):
        self._problems = []
        self._skip_reason = None
        self._loops_before = self._subject.loops_made

    def _watch(self):
        # exit=True works even when a thread of C code never gives the
        # interpreter's lock back.
        faulthandler.dump_traceback_later(
            self._limit, exit=True, file=STDERR_FD
        )

    def _check_environment(self):
        """What CPython's own runner also counts as a failure: threads or
        child processes that the test left behind."""
        if self._support.environment_altered:
            self._support.environment_altered = False
            self._problems.append(
                "left threads or child processes behind (see the output)"
            )

    def note(self, text):
        """A problem without an exception in the test itself."""
        if self._running:
            self._problems.append(text)
        else:
            self._channel.send("fixture", id="between tests", problem=text)

    def _add_problem(self, test, err):
        text = "".join(traceback.format_exception(*err))
        if self._running:
            self._problems.append(text)
        else:
            self._channel.send("fixture", id=short_id(test.id()), problem=text)

    def addError(self, test, err):
        self._add_problem(test, err)

    def addFailure(self, test, err):
        self._add_problem(test, err)

    def addSubTest(self, test, subtest, err):
        if err is not None:
            self._add_problem(subtest, err)

    def addSkip(self, test, reason):
        if isinstance(test, unittest.TestCase):
            self._skip_reason = reason
        else:
            self._channel.send(
                "class_skipped", id=short_id(test.id()), reason=reason
            )

    def addExpectedFailure(self, test, err):
        """As CPython means it: nothing is wrong."""

    def addUnexpectedSuccess(self, test):
        self._problems.append("passes although marked as expected failure")


def short_id(test_id):
    return test_id.removeprefix("test.test_asyncio.")


def plan(spec, channel, subject):
    for name in spec["files"]:
        try:
            classes = catalog.load(catalog.BY_NAME[name], subject)
        except unittest.SkipTest as exc:
            channel.send("file", name=name, state="skipped", why=str(exc))
        except Exception as exc:
            # A newer Python may have renamed what the catalog relies on.
            # That is a failure of this file, and no reason to run nothing.
            state, why = "broken", traceback.format_exc()
            if is_absent(exc, catalog.BY_NAME[name]):
                state, why = "absent", ""
            channel.send("file", name=name, state=state, why=why)
        else:
            tests = {cls.__name__: catalog.tests_of(cls) for cls in classes}
            channel.send("file", name=name, state="ok", why="", tests=tests)


def is_absent(exc, file):
    """Whether the import failed since this Python has no such file."""
    missing = isinstance(exc, ModuleNotFoundError)
    return missing and exc.name == file.module_name


def run(spec, channel, subject):
    from test import support

    file = catalog.BY_NAME[spec["file"]]
    suite = build_suite(catalog.load(file, subject), spec["ids"], file.name)
    result = Reporter(channel, subject, spec["limit"], support)
    sys.unraisablehook = lambda info: result.note(
        f"unraisable exception in {info.object!r}: {info.err_msg or ''}\n"
        + "".join(traceback.format_exception(info.exc_value))
    )
    threading.excepthook = lambda info: result.note(
        f"exception in {info.thread!r}\n"
        + "".join(traceback.format_exception(info.exc_value))
    )
    suite.run(result)
    channel.send("done")


def build_suite(classes, ids, file_name):
    wanted = set(ids)
    suite = unittest.TestSuite()
    for cls in classes:
        for method in catalog.tests_of(cls):
            if f"{file_name}.{cls.__name__}.{method}" in wanted:
                suite.addTest(cls(method))
    return suite


def main():
    spec_path, fd = sys.argv[1], int(sys.argv[2])
    with open(spec_path, encoding="utf-8") as stream:
        spec = json.load(stream)
    channel = Channel(fd)
    faulthandler.enable(file=STDERR_FD)
    # A background job of a shell ignores SIGINT; the tests of Ctrl-C need it.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    subject = plug.Subject(spec["subject"])
    plug.install(subject)
    if spec["mode"] == "plan":
        channel.send("subject", version=subject.version)
        plan(spec, channel, subject)
        channel.send("done")
    else:
        run(spec, channel, subject)
    faulthandler.dump_traceback_later(EXIT_LIMIT, exit=True, file=STDERR_FD)


if __name__ == "__main__":
    main()
