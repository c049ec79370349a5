# SPDX-License-Identifier: MIT
"""The bench, with counts so small that the figures say nothing: that it gets
them, from the kernel and from real servers, and what it makes of them.
"""

import json
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
sys.path.insert(0, str(TOP / "bench"))

import marks  # noqa: E402
import rows  # noqa: E402
from loops import LOOPS, REFERENCE  # noqa: E402
from measure import Figures  # noqa: E402
from operations import OPERATIONS  # noqa: E402
from results import Results, rate  # noqa: E402
from serve import SERVERS  # noqa: E402

PATIENCE = 50  # seconds for a run of the bench; pytest's own limit is later


def results_of(row, *rounds):
    """Results of one row; a round is {loop: (cost, rate)}."""
    chosen = rows.choose([row])
    results = Results(chosen, [REFERENCE, *LOOPS])
    for figures in rounds:
        results.rounds.append(
            {(row, loop): Figures(*pair) for loop, pair in figures.items()}
        )
    return results


def bench(programs, *arguments):
    """Run the bench on this Python with own programs; its output."""
    command = [sys.executable, TOP / "bench" / "run.py"]
    command += ["--python", sys.executable, "--programs", programs]
    return subprocess.run(
        [*command, *arguments],
        cwd=TOP,
        env={"PYTHONPATH": str(TOP / "tools"), "PATH": "/usr/bin:/bin"},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        timeout=PATIENCE,
    )


@pytest.fixture(scope="module")
def programs(tmp_path_factory):
    return tmp_path_factory.mktemp("programs")


def test_every_row_has_its_program():
    for row in rows.ALL:
        has_server = row.program in SERVERS
        has_operation = row.program in OPERATIONS
        assert (has_server, has_operation) == (
            row.group != rows.OPERATIONS,
            row.group == rows.OPERATIONS,
        ), row.name


def test_every_mark_is_about_a_row():
    names = {row.name for row in rows.ALL}
    assert {mark.row for mark in marks.MARKS} <= names


@pytest.mark.parametrize(
    "row",
    ["tcp_1k", "tcp_64k", "bproto_64k", "stream_64k", "sock_1k"],
)
def test_network_row(programs, row):
    run = bench(
        programs,
        *("--rows", row, "--loops", "asyncio", "--rounds", "1"),
        *("--count", "200", "--json", "-"),
    )
    assert run.returncode == 0, run.stderr
    content = json.loads(run.stdout)
    assert content["errors"] == []
    for loop in ("C", "asyncio"):
        (figures,) = content["figures"][row][loop]
        assert figures["cost"] > 0
        assert figures["rate"] > 0


def test_http_row_with_own_load(programs):
    run = bench(
        programs,
        *("--rows", "aiohttp", "--loops", "asyncio", "--rounds", "1"),
        *("--count", "50", "--json", "-", "--http-load", "own"),
    )
    assert run.returncode == 0, run.stderr
    content = json.loads(run.stdout)
    assert content["errors"] == []
    assert content["figures"]["aiohttp"]["asyncio"][0]["rate"] > 0


def test_operations_and_memory_as_tables(programs):
    run = bench(
        programs,
        *(
            "--rows",
            "call_soon,call_soon_threadsafe,connect_accept,idle_stream",
        ),
        *("--loops", "asyncio", "--rounds", "1", "--count", "20"),
    )
    assert run.returncode == 0, run.stderr
    assert "failed:" not in run.stdout
    lines = {
        line[:20].strip(): line.split() for line in run.stdout.splitlines()
    }
    for start in ("call_soon, self-resc", "connect + accept", "streams, TCP"):
        assert float(lines[start][-2]) > 0


def test_a_loop_that_is_not_there_is_missing(programs, tmp_path):
    empty = tmp_path / "empty"
    subprocess.run(
        [sys.executable, "-m", "venv", "--without-pip", empty], check=True
    )
    run = bench(
        programs,
        *("--rows", "call_soon", "--loops", "asyncio,uvloop", "--rounds", "1"),
        *("--count", "20", "--json", "-"),
        *("--python", empty / "bin" / "python"),
    )
    assert run.returncode == 0, run.stderr
    content = json.loads(run.stdout)
    assert content["missing"]["uvloop"].startswith("ModuleNotFoundError")
    assert list(content["figures"]["call_soon"]) == ["asyncio"]
    verdicts = {mark["verdict"] for mark in content["marks"]}
    assert verdicts == {marks.UNKNOWN}


def test_a_failed_measurement_is_told(programs, tmp_path):
    broken = tmp_path / "load"
    broken.write_text("#!/bin/sh\necho out of order >&2\nexit 3\n")
    broken.chmod(0o755)
    run = bench(
        tmp_path,
        *("--rows", "tcp_1k", "--loops", "asyncio", "--rounds", "1"),
        *("--count", "20"),
    )
    assert "failed: tcp_1k on asyncio: failed with 3 / out of order" in (
        run.stdout
    )


@pytest.mark.parametrize(
    "arguments", [("--rows", "tcp_2k"), ("--loops", "loop")]
)
def test_unknown_names(programs, arguments):
    run = bench(programs, *arguments)
    assert run.returncode == 1
    assert arguments[1] in run.stderr


def test_rows_by_group_keep_their_order():
    chosen = rows.choose(["memory", "tcp_1k"])
    assert [row.name for row in chosen] == [
        "tcp_1k",
        "idle_protocol",
        "idle_stream",
        "idle_tls",
    ]


def test_ratio_is_the_median_of_the_rounds_own():
    # The machine was twice as slow in the second round, for both.
    results = results_of(
        "tcp_1k",
        {"becket": (2.0,), "uvloop": (1.0,)},
        {"becket": (4.0,), "uvloop": (2.0,)},
        {"becket": (9.0,), "uvloop": (1.0,)},
        {"becket": (5.0,)},
    )
    assert results.ratio("tcp_1k", "becket", "uvloop") == 2.0
    assert results.ratio("tcp_1k", "becket", "rloop") is None
    assert results.median("tcp_1k", "becket") == 4.5


@pytest.mark.parametrize(
    ("cost", "verdict"),
    [(1.09, marks.MET), (1.12, marks.TIED), (1.14, marks.MISSED)],
)
def test_mark_with_a_bound(cost, verdict):
    results = results_of("tcp_1k", {"becket": (cost,), "C": (1.0,)})
    mark = marks.Mark("tcp_1k", (REFERENCE,), 1.10)
    assert marks.judge(results, mark).verdict == verdict


@pytest.mark.parametrize(
    ("cost", "verdict"),
    [(0.96, marks.MET), (0.98, marks.TIED), (1.02, marks.TIED)],
)
def test_mark_to_be_ahead(cost, verdict):
    results = results_of("call_soon", {"becket": (cost,), "uvloop": (1.0,)})
    mark = marks.Mark("call_soon", ("uvloop",), is_ahead=True)
    assert marks.judge(results, mark).verdict == verdict


@pytest.mark.parametrize(
    ("requests", "verdict"),
    [(1400, marks.MET), (1370, marks.TIED), (1350, marks.MISSED)],
)
def test_mark_of_a_rate(requests, verdict):
    results = results_of(
        "uvicorn", {"becket": (1, requests), "uvloop": (1, 1000)}
    )
    assert results.ratio("uvicorn", "becket", "uvloop", rate) == (
        requests / 1000
    )
    mark = marks.Mark("uvicorn", ("uvloop",), 1.40, is_rate=True)
    assert marks.judge(results, mark).verdict == verdict


def test_the_worst_peer_decides():
    results = results_of(
        "tcp_1k",
        {"becket": (2.0,), "asyncio": (4.0,), "rloop": (1.0,)},
    )
    verdict = marks.judge(results, marks.Mark("tcp_1k", marks.PEERS))
    assert (verdict.verdict, verdict.ratio) == (marks.MISSED, 2.0)
    assert verdict.other == "rloop"


def test_a_mark_without_figures_is_not_met():
    results = results_of("tcp_1k", {"asyncio": (1.0,)})
    verdict = marks.judge(results, marks.Mark("tcp_1k", marks.PEERS))
    assert verdict.verdict == marks.UNKNOWN
