#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Look for lost references, under a debug build of CPython.

    .venv/3.13/bin/python tests/refleaks/run.py
    .venv/3.13/bin/python tests/refleaks/run.py --ours tests/python/test_x.py
    .venv/3.13/bin/python tests/refleaks/run.py --cpython test_ssl -v
    tools/sid .venv/3.14/bin/python tests/refleaks/run.py    # CPython 3.15

Takes the newest python3.X-dbg of the system (Debian's python3.11-dbg, and
libpython3.11-testsuite for CPython's own tests), and gives it an environment
and a build of its own.
"""

import argparse
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

HERE = Path(__file__).resolve().parent
TOP = HERE.parents[1]
sys.path.insert(0, str(TOP / "tools"))

# ruff: noqa: E402
import environments

# Those that play in this process, mostly without files of their own: pytest
# keeps the folders. TLS is for CPython's tests; ours take a debug build long.
OURS = (
    "datagram_endpoint",
    "fd_watching",
    "pipes",
    "server",
    "sock_connect",
    "sock_data",
    "stream_closing",
    "stream_reading",
    "stream_writing",
    "streams",
)
CLOSING_LINE = re.compile(r"^(\d+) passed, (\d+) failed$", re.MULTILINE)


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    which = parser.add_mutually_exclusive_group()
    which.add_argument(
        "--ours", action="store_true", help="tests/python alone"
    )
    which.add_argument(
        "--cpython", action="store_true", help="CPython's tests alone"
    )
    return parser.parse_known_args(argv)


def commands(options, rest, python):
    if not options.cpython:
        files = [f"tests/python/test_{name}.py" for name in OURS]
        pytest = [python, "-m", "pytest", "-q", "-p", "refleaks_plugin"]
        pytest += ["--poller", "epoll", "--timeout", "300"]
        yield pytest + (rest if options.ours and rest else files)
    if not options.ours:
        own = [python, str(HERE / "cpython.py")]
        yield own + (rest if options.cpython else [])


def run(command):
    """Show what it says; (passed, failed)."""
    done = subprocess.run(
        command,
        cwd=TOP,
        env={**os.environ, "PYTHONPATH": str(HERE)},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        errors="replace",
    )
    print(done.stdout, flush=True)
    found = CLOSING_LINE.findall(done.stdout)
    passed, failed = map(int, found[-1]) if found else (0, 0)
    if done.returncode != 0 and failed == 0:
        failed = 1
    return passed, failed


def main():
    options, rest = parse(sys.argv[1:])
    environment = environments.find_debug_build()
    if environment is None:
        print("No debug build of CPython here.\n0 passed, 0 failed, 1 skipped")
        return
    with environments.build_lock():
        environments.prepare_debug_build(environment)
    # Beside each other, since either plays one test after the other.
    with ThreadPoolExecutor() as pool:
        todo = commands(options, rest, str(environment.python))
        counts = list(pool.map(run, todo))
    passed, failed = map(sum, zip(*counts, strict=True))
    print(f"{passed} passed, {failed} failed")
    sys.exit(1 if failed or not passed else 0)


if __name__ == "__main__":
    main()
