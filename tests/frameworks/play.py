# SPDX-License-Identifier: MIT
"""One run of a suite's tests, or of some of them, on one loop."""

import contextlib
import json
import os
import signal
import socket
import subprocess
from dataclasses import dataclass
from pathlib import Path

import services
from environments import TOP
from prepare import HERE, Environment, Suite

TEST_TIMEOUT = 60
HOSTS = Path("/etc/hosts")
SHOW_HOSTS = f'mount --bind "$0" {HOSTS} && exec "$@"'
SUITE_TIMEOUT = 3600


class SuiteError(Exception):
    """A suite could not be set up or did not come to its end."""


@dataclass
class Place:
    """Where a suite runs."""

    suite: Suite
    environment: Environment
    folder: Path

    def run(self, loop: str, tests: list[str] | None = None) -> dict:
        """Run the suite, or these of its tests, and return what on_loop.py
        has written: each test's outcome, and how many loops there were."""
        results = self.folder.parent / f"{loop}.json"
        results.unlink(missing_ok=True)
        log = self.folder.parent / f"{loop}{'-again' if tests else ''}.log"
        variables = self.environment.variables(
            PYTHONPATH=str(HERE),
            BECKET_LOOP=loop,
            BECKET_RESULTS=str(results),
            **services.variables(),
        )
        with open(log, "w") as output:
            process = subprocess.Popen(
                [
                    *self._with_ipv6(),
                    *services.as_user(self.suite.programs),
                    *self._command(tests),
                ],
                cwd=self.folder,
                env=variables,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=subprocess.STDOUT,
                start_new_session=True,
            )
        _wait(process, loop)
        if not results.is_file():
            raise SuiteError(
                f"on {loop} it ended early: see {log.relative_to(TOP)}"
            )
        return json.loads(results.read_text())

    def _command(self, tests: list[str] | None) -> list[str | Path]:
        command = [self.environment.python, "-m", "pytest", "-q"]
        command += ["-p", "on_loop", "-p", "no:cacheprovider"]
        command += [f"--timeout={TEST_TIMEOUT}", *self.suite.options]
        command += [entry["option"] for entry in self.suite.leave_out]
        return [*command, *(tests or self.suite.paths)]

    def _with_ipv6(self) -> list[str | Path]:
        """What shows a command, as root, a localhost of both families, which
        is what the tests expect and few containers have."""
        found = socket.getaddrinfo("localhost", 0, type=socket.SOCK_STREAM)
        if len(found) > 1 or os.geteuid() != 0:
            return []
        hosts = self.folder.parent / "hosts"
        hosts.write_text(HOSTS.read_text() + "::1 localhost\n")
        return ["unshare", "--mount", "sh", "-c", SHOW_HOSTS, hosts]


def _wait(process: subprocess.Popen, loop: str) -> None:
    """Until the suite ends, and whatever it has started with it."""
    try:
        process.wait(SUITE_TIMEOUT)
    except subprocess.TimeoutExpired:
        raise SuiteError(f"on {loop} it took too long") from None
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
