# SPDX-License-Identifier: MIT
"""One measurement: a process on one core, and for a server its load on the
other.
"""

import json
import os
import re
import select
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import IO, Any, NamedTuple

from child import CERTIFICATE
from loops import REFERENCE
from rows import HTTP, MB, MEMORY, OPERATIONS, TLS, Row

HERE = Path(__file__).resolve().parent
START_SECONDS = 30  # for a server to print its port
ANSWER_SECONDS = 20  # for a measurement, besides its own time
END_SECONDS = 1  # for a server that has failed to end
ERROR_LINES = 3  # shown of what a failed process said last
SETTLED_CONNECTIONS = 100  # after these, what is made once has been made
PAGE_BYTES = os.sysconf("SC_PAGE_SIZE")


Command = list[str | Path]

# What does the same in C, where it is not the echo over TCP.
REFERENCES: dict[str, tuple[str, ...]] = {
    "unix": ("echo", "--unix"),
    "udp": ("udp_echo",),
    "tls_protocol": ("tls_echo", *CERTIFICATE),
    "tls_stream": ("tls_echo", *CERTIFICATE),
    "sendfile": ("file_server", str(MB)),
}


class MeasureError(Exception):
    """There is no figure, and why."""


class Figures(NamedTuple):
    """What was measured of one row on one loop in one round."""

    cost: float  # seconds per operation, KiB per connection: less is better
    rate: float | None = None  # operations per second of the clock
    busy: float | None = None  # the server's share of its core


class Bench(NamedTuple):
    """What is the same for all measurements of a run."""

    python: Path  # has the loops installed
    programs: Path  # the folder of the C programs
    wrk: str | None  # the path of wrk; None: our own generator speaks HTTP
    seconds: float
    warm_up: float
    operations: int  # so many instead of seconds; 0: see seconds
    idle_connections: int


def pick_cores() -> tuple[int, int]:
    """The server's core and the load's; the same if there is only one."""
    cores = sorted(os.sched_getaffinity(0))
    return cores[-1], cores[0]


SERVER_CORE, LOAD_CORE = pick_cores()


@contextmanager
def process(
    command: Command, cores: set[int], folder: Path | None = None
) -> Iterator[tuple["subprocess.Popen[str]", IO[str]]]:
    """A process pinned to cores, in a folder, and what it writes to stderr.

    Killed at the end of the context, if it is still there.
    """
    with tempfile.TemporaryFile("w+") as errors:
        child = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            cwd=folder,
            preexec_fn=lambda: os.sched_setaffinity(0, cores),
        )
        try:
            yield child, errors
        finally:
            child.kill()
            child.communicate()


def explain(what: str, errors: IO[str]) -> MeasureError:
    errors.seek(0)
    said = errors.read().strip().splitlines()[-ERROR_LINES:]
    return MeasureError(" / ".join([what, *map(str.strip, said)]))


def read_line(
    child: "subprocess.Popen[str]", errors: IO[str], seconds: float
) -> str:
    """The only line that a process has written since the last one."""
    assert child.stdout is not None
    if not select.select([child.stdout], [], [], seconds)[0]:
        raise explain(f"said nothing for {seconds:.0f} s", errors)
    line = child.stdout.readline()
    if not line:
        raise explain(f"ended with {child.wait()}", errors)
    return line


def run(command: Command, cores: set[int], seconds: float) -> str:
    """The output of a process that ends by itself."""
    with process(command, cores) as (child, errors):
        try:
            output, _ = child.communicate(timeout=seconds + ANSWER_SECONDS)
        except subprocess.TimeoutExpired:
            raise explain("hung", errors) from None
        if child.returncode != 0:
            raise explain(f"failed with {child.returncode}", errors)
    return output


def run_json(command: Command, cores: set[int], s: float) -> Any:
    return json.loads(run(command, cores, s))


def check_running(
    child: "subprocess.Popen[str]", errors: IO[str], patience: float
) -> None:
    with suppress(subprocess.TimeoutExpired):
        child.wait(patience)
        raise explain(f"ended with {child.returncode}", errors)


@contextmanager
def server(bench: Bench, row: Row, loop: str) -> Iterator[tuple[str, int]]:
    """A server on its core; its address and process id."""
    if loop == REFERENCE:
        program, *arguments = REFERENCES.get(row.program, ("echo",))
        command: Command = [bench.programs / program, *arguments]
    else:
        script = HERE / "serve.py"
        command = [bench.python, script, loop, row.program, str(row.size)]
    # It finds the certificate in its folder.
    with process(command, {SERVER_CORE}, bench.programs) as (child, errors):
        address = read_line(child, errors, START_SECONDS).strip()
        try:
            yield address, child.pid
        except MeasureError:
            # The server may have ended first: then it knows why.
            check_running(child, errors, END_SECONDS)
            raise
        check_running(child, errors, 0)


def load_command(bench: Bench, row: Row, address: str) -> Command:
    return [
        bench.programs / "load",
        f"--{row.transport}={address}",
        f"--size={row.size}",
        f"--connections={row.connections}",
        f"--warm-up={bench.warm_up}",
        *(["--file"] if row.is_file else []),
    ]


def run_load(bench: Bench, row: Row, address: str, pid: int) -> Figures:
    command = load_command(bench, row, address) + [f"--server={pid}"]
    if row.group == HTTP:
        command.append("--http")
    if bench.operations:
        command.append(f"--operations={bench.operations}")
    else:
        command.append(f"--seconds={bench.seconds}")
    result = run_json(command, {LOAD_CORE}, bench.seconds)
    return to_figures(result, result["cpu"])


def to_figures(result: dict[str, float], spent: float) -> Figures:
    return Figures(
        cost=spent / result["operations"],
        rate=result["operations"] / result["seconds"],
        busy=result["cpu"] / result["seconds"],
    )


def cpu_clock(pid: int) -> int:
    """The clock of a process's CPU time, as clock_getcpuclockid(3) has it."""
    return ~pid << 3 | 2


def run_wrk(bench: Bench, row: Row, address: str, pid: int) -> Figures:
    """wrk does not look at the replies: our own generator goes first."""
    assert bench.wrk is not None
    run_load(bench._replace(operations=row.connections), row, address, pid)
    seconds = max(1, round(bench.seconds))  # it takes whole ones
    command: Command = [bench.wrk, "-t1", f"-c{row.connections}"]
    scheme = "https" if row.transport == TLS else "http"
    command += [f"-d{seconds}s", f"{scheme}://127.0.0.1:{address}/"]
    start = time.clock_gettime(cpu_clock(pid))
    output = run(command, {LOAD_CORE}, seconds)
    cpu = time.clock_gettime(cpu_clock(pid)) - start
    found = re.search(r"(\d+) requests in ([\d.]+)s", output)
    if found is None or re.search(r"Socket errors|Non-2xx", output):
        raise MeasureError(f"wrk: {' / '.join(output.split())}")
    result = {"operations": int(found[1]), "seconds": float(found[2])}
    return to_figures({**result, "cpu": cpu}, cpu)


def resident_kib(pid: int) -> int:
    """smaps_rollup counts pages; the cheaper files lag behind."""
    with open(f"/proc/{pid}/smaps_rollup") as file:
        for line in file:
            if line.startswith("Rss:"):
                return int(line.split()[1])
    raise MeasureError("no Rss in smaps_rollup")


def measure_memory(bench: Bench, row: Row, loop: str) -> Figures:
    with server(bench, row, loop) as (address, pid):
        command = [*load_command(bench, row, address), "--idle"]
        with process(command, {LOAD_CORE}) as (child, errors):

            def resident_after(connections: int) -> int:
                assert child.stdin is not None
                child.stdin.write(f"{connections}\n")
                child.stdin.flush()
                read_line(child, errors, ANSWER_SECONDS)
                return resident_kib(pid)

            before = resident_after(SETTLED_CONNECTIONS)
            after = resident_after(bench.idle_connections)
    return Figures(cost=(after - before) / bench.idle_connections)


def measure_operation(bench: Bench, row: Row, loop: str) -> Figures:
    cores = {SERVER_CORE, LOAD_CORE} if row.has_threads else {SERVER_CORE}
    command: Command = [bench.python, HERE / "operate.py", loop]
    # It tries growing counts: all of them together take the time.
    command += [row.program, str(bench.seconds / 2), str(bench.operations)]
    result = run_json(command, cores, bench.seconds)
    # Where it takes turns with another thread, it is the clock that counts.
    spent = result["seconds"] if row.has_threads else result["cpu"]
    return to_figures(result, spent)


def measure(bench: Bench, row: Row, loop: str) -> Figures:
    """Raises MeasureError."""
    if row.group == OPERATIONS:
        return measure_operation(bench, row, loop)
    if row.group == MEMORY:
        return measure_memory(bench, row, loop)
    with server(bench, row, loop) as (address, pid):
        if row.group == HTTP and bench.wrk is not None:
            return run_wrk(bench, row, address, pid)
        return run_load(bench, row, address, pid)


def probe(python: Path, package: str) -> str:
    """The version of an installed package; raises MeasureError."""
    code = (
        "import importlib.metadata, sys\n"
        "__import__(sys.argv[1])\n"
        "print(importlib.metadata.version(sys.argv[1]))"
    )
    result = subprocess.run(
        [python, "-c", code, package],
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
    )
    if result.returncode != 0:
        raise MeasureError(result.stderr.strip().splitlines()[-1])
    return result.stdout.strip()


def python_version(python: Path) -> str:
    code = "import platform; print(platform.python_version())"
    return subprocess.run(
        [python, "-c", code], check=True, stdout=subprocess.PIPE, text=True
    ).stdout.strip()


def say(text: str, end: str = "\n") -> None:
    """Progress goes to stderr: the output is the answer alone."""
    print(text, end=end, file=sys.stderr, flush=True)
