# SPDX-License-Identifier: MIT
"""The demonstration: what it prints, that it ends, and how it fails."""

import os
import re
import signal
import subprocess
import sys

import pytest

from support.loops import ORACLE
from support.procs import ROOT, check, environment, finish

DEMO = ROOT / "demo" / "run.py"
STAND_IN = ROOT / "tests" / "python" / "support" / "stand_in"
SHORT = ("--rounds", "1", "--seconds", "0.3", "--connections", "4")

for name in ("uvicorn", "httptools", "fastapi", "aiohttp", "rich"):
    pytest.importorskip(name)


def start_demo(backend, *arguments, path=None):
    env = environment(backend)
    if backend == ORACLE:
        env["PYTHONPATH"] += f":{STAND_IN}"
    if path is not None:
        env["PYTHONPATH"] = f"{path}:{env['PYTHONPATH']}"
    return subprocess.Popen(
        [sys.executable, str(DEMO), *arguments],
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        # A session of its own shows afterwards what it left running.
        start_new_session=True,
    )


def session_members(leader):
    """The processes of a session, except its leader."""
    found = []
    for name in os.listdir("/proc"):
        if not name.isdigit() or int(name) == leader:
            continue
        try:
            if os.getsid(int(name)) == leader:
                found.append(int(name))
        except ProcessLookupError:
            pass
    return found


@pytest.mark.one_poller
@pytest.mark.timeout(60)
def test_demo_compares_both_loops(backend):
    process = start_demo(backend, *SHORT)
    done = check(finish(process, 50))
    assert session_members(process.pid) == []
    served = re.findall(r"served by (\S+)", done.stdout)
    assert [name.split(".")[0] for name in served] == ["becket", "asyncio"]
    for loop in ("becket", "asyncio"):
        row = re.search(
            rf"^ *{loop} +([\d,]+) +([\d.]+) +([\d.]+) +([\d.]+) +\d+ *$",
            done.stdout,
            re.M,
        )
        assert row, done.stdout
        rate, p50, p90, p99 = (float(x.replace(",", "")) for x in row.groups())
        assert rate > 10
        assert 0 < p50 <= p90 <= p99
    assert re.search(r"becket serves [\d.]+ times the requests", done.stdout)


@pytest.mark.one_poller
@pytest.mark.timeout(60)
def test_demo_fails_when_a_server_does_not_start(backend, tmp_path):
    # A becket without a loop factory: uvicorn refuses it and ends.
    (tmp_path / "becket.py").write_text("__version__ = '0'\n")
    process = start_demo(backend, *SHORT, path=tmp_path)
    done = finish(process, 50)
    assert done.returncode == 1, done
    first, *log = done.stderr.splitlines()
    assert re.fullmatch(
        r"demo failed: uvicorn on becket: exit code \d+", first
    )
    assert "new_event_loop" in "".join(log)
    assert "Traceback" not in done.stderr
    assert session_members(process.pid) == []


@pytest.mark.one_poller
@pytest.mark.timeout(60)
@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_demo_interrupted_leaves_nothing_running(backend, number):
    process = start_demo(backend, "--rounds", "100", "--seconds", "2")
    for line in process.stdout:
        if line.startswith("http"):
            break
    process.send_signal(number)
    done = finish(process, 30)
    assert done.returncode == 128 + number, done
    assert session_members(process.pid) == []
