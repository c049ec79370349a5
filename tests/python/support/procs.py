# SPDX-License-Identifier: MIT
"""Running Python in a subprocess, bounded in time."""

import os
import pathlib
import subprocess
import sys
import textwrap

from support.loops import VARIABLE

TESTS = pathlib.Path(__file__).resolve().parent.parent
ROOT = TESTS.parent.parent
LIMIT = 30.0


def environment(backend, **extra):
    env = dict(os.environ)
    for name in ("PYTHONASYNCIODEBUG", "PYTHONDEVMODE", "BECKET_BACKEND"):
        env.pop(name, None)
    env[VARIABLE] = backend
    # What this process was given comes along: it may be where becket is.
    given = env.get("PYTHONPATH")
    env["PYTHONPATH"] = f"{TESTS}:{given}" if given else str(TESTS)
    env["PYTHONUNBUFFERED"] = "1"
    env["PYTHONFAULTHANDLER"] = "1"
    env.update(extra)
    return env


def run_code(backend, code, *args, options=(), limit=LIMIT, **extra):
    """Run Python code; returns the completed process with text output."""
    command = [sys.executable, *options, "-c", textwrap.dedent(code), *args]
    return subprocess.run(
        command,
        env=environment(backend, **extra),
        capture_output=True,
        text=True,
        timeout=limit,
        stdin=subprocess.DEVNULL,
    )


def run_file(backend, path, *args, options=(), limit=LIMIT, **extra):
    """Run a Python file; returns the completed process with text output."""
    return subprocess.run(
        [sys.executable, *options, str(path), *args],
        env=environment(backend, **extra),
        capture_output=True,
        text=True,
        timeout=limit,
        stdin=subprocess.DEVNULL,
    )


def start_code(backend, code, *args, options=(), **extra):
    """Start Python code; returns the running process, pipes in text mode."""
    command = [sys.executable, *options, "-c", textwrap.dedent(code), *args]
    return subprocess.Popen(
        command,
        env=environment(backend, **extra),
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
    )


def check(process, returncode=0):
    """Fail with everything the process said unless it ended as expected."""
    assert process.returncode == returncode, (
        f"exit code {process.returncode}, expected {returncode}\n"
        f"--- stdout\n{process.stdout}\n--- stderr\n{process.stderr}"
    )
    return process


def finish(process, limit=LIMIT):
    """Wait for a started process; kills it when it takes too long."""
    try:
        out, err = process.communicate(timeout=limit)
    except subprocess.TimeoutExpired:
        process.kill()
        out, err = process.communicate()
        raise AssertionError(
            f"did not end in {limit} s\n--- stdout\n{out}\n--- stderr\n{err}"
        ) from None
    return subprocess.CompletedProcess(
        process.args, process.returncode, out, err
    )
