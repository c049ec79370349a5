# SPDX-License-Identifier: MIT
"""The servers that suites talk to, started for as long as a suite runs."""

import contextlib
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

START_TIMEOUT = 30

_variables: dict[str, str] = {}


class Missing(Exception):
    """A program of the system that a suite needs is not here."""


def require(programs: list[str]) -> None:
    for program in programs:
        if _FIND[program]() is None:
            raise Missing(f"needs {program}: apt-get install {program}")


def variables() -> dict[str, str]:
    """What the tests' environment says of the servers that run."""
    return dict(_variables)


def as_user(programs: list[str]) -> list[str]:
    """What runs a command, as root, without root's rights: suites expect what
    is forbidden to be refused, and PostgreSQL is not started by root at all.
    """
    if os.geteuid() != 0:
        return []
    user = pwd.getpwnam("postgres" if "postgresql" in programs else "nobody")
    ids = (f"--map-user={user.pw_uid}", f"--map-group={user.pw_gid}")
    return ["unshare", "--user", *ids]


@contextlib.contextmanager
def running(programs: list[str]) -> Iterator[None]:
    with contextlib.ExitStack() as stack:
        for program in programs:
            stack.enter_context(_START[program]())
        yield


def _find_postgres() -> Path | None:
    """The folder of the newest PostgreSQL's programs."""
    folders = Path("/usr/lib/postgresql").glob("*/bin")
    return max(folders, key=lambda p: float(p.parent.name), default=None)


@contextlib.contextmanager
def _postgres() -> Iterator[None]:
    """The suite starts its own cluster, with the programs it is shown."""
    folder = _find_postgres()
    _variables["PGINSTALLATION"] = str(folder)
    try:
        yield
    finally:
        _variables.clear()


@contextlib.contextmanager
def _redis() -> Iterator[None]:
    """On the port that its suite has built in."""
    _require_free(6379)
    with tempfile.TemporaryDirectory() as folder:
        server = subprocess.Popen(
            ["redis-server", "--port", "6379", "--save", "", "--dir", folder]
            + ["--enable-debug-command", "yes"],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
        )
        try:
            _wait_for_port(6379, server)
            yield
        finally:
            server.terminate()
            server.wait(START_TIMEOUT)


def _require_free(port: int) -> None:
    """The suite empties the databases of whoever listens there."""
    with contextlib.suppress(OSError):
        socket.create_connection(("127.0.0.1", port), 1).close()
        raise Missing(f"port {port} is in use")


def _wait_for_port(port: int, server: subprocess.Popen) -> None:
    deadline = time.monotonic() + START_TIMEOUT
    while server.poll() is None and time.monotonic() < deadline:
        with contextlib.suppress(OSError):
            socket.create_connection(("127.0.0.1", port), 1).close()
            return
        time.sleep(0.05)
    raise Missing(f"no server came up on port {port}")


_FIND = {
    "postgresql": _find_postgres,
    "redis-server": lambda: shutil.which("redis-server"),
}
_START = {"postgresql": _postgres, "redis-server": _redis}
