# SPDX-License-Identifier: MIT
"""Programs that tests talk to: started on the loopback, stopped with the test.

What a program prints goes to a file, where its readiness is read as well.
"""

import contextlib
import os
import re
import shutil
import signal
import subprocess
import time

import pytest

from support.net import closed_port

LIMIT = 10.0
ATTEMPTS = 5
IN_USE = re.compile("address already in use", re.IGNORECASE)
SYSTEM_FOLDERS = ("/usr/local/sbin", "/usr/sbin", "/sbin")


def find(name, package, *folders):
    """The path of a program; the test is skipped where it is missing."""
    known = (os.environ.get("PATH", os.defpath), *SYSTEM_FOLDERS, *folders)
    path = shutil.which(name, path=os.pathsep.join(known))
    if path is None:
        pytest.skip(f"{name} is missing: install {package}")
    return path


class TakenPort(Exception):
    """Somebody else took the port between its choice and its use."""


class Program:
    """A running program whose output goes to a file."""

    def __init__(self, command, log, **kwargs):
        self.log = log
        with open(log, "wb") as file:
            self.process = subprocess.Popen(
                command,
                stdin=kwargs.pop("stdin", subprocess.DEVNULL),
                stdout=file,
                stderr=subprocess.STDOUT,
                **kwargs,
            )

    @property
    def output(self):
        return self.log.read_text(errors="replace")

    def wait_for(self, pattern, wait=LIMIT):
        """Wait until the output has the pattern; returns the match."""
        deadline = time.monotonic() + wait
        while True:
            has_ended = self.process.poll() is not None
            output = self.output
            if found := re.search(pattern, output):
                return found
            if has_ended and IN_USE.search(output):
                raise TakenPort(output)
            assert not has_ended, f"it ended before {pattern!r}:\n{output}"
            assert time.monotonic() < deadline, f"no {pattern!r}:\n{output}"
            time.sleep(0.005)

    def type(self, text):
        """Write to its standard input, which is a pipe (stdin=PIPE)."""
        self.process.stdin.write(text)
        self.process.stdin.flush()

    def wait(self, wait=LIMIT):
        return self.process.wait(wait)

    def stop(self, number=signal.SIGTERM):
        """Ask it to end; returns its exit code."""
        if self.process.poll() is None:
            self.process.send_signal(number)
        try:
            return self.process.wait(LIMIT)
        finally:
            self.process.kill()
            self.process.wait()
            if self.process.stdin is not None:
                with contextlib.suppress(BrokenPipeError):
                    self.process.stdin.close()


@contextlib.contextmanager
def running(command, log, ready, number=signal.SIGTERM, **kwargs):
    """A program that listens; gives (program, match of ready)."""
    program = Program(command, log, **kwargs)
    try:
        yield program, program.wait_for(ready)
    finally:
        program.stop(number)


@contextlib.contextmanager
def on_free_ports(count, start):
    """start(*ports) in a with, again with others when one was taken."""
    for attempt in range(ATTEMPTS):
        ports = [closed_port() for _ in range(count)]
        stack = contextlib.ExitStack()
        try:
            started = stack.enter_context(start(*ports))
        except TakenPort:
            if attempt == ATTEMPTS - 1:
                raise
            continue
        with stack:
            yield started, *ports
        return
