# SPDX-License-Identifier: MIT
"""Random asyncio programs, on CPython's own loop and on becket: the same?

    python tests/differential/run.py --programs 10000

Every program is played on CPython's loop and on becket's over each poller,
and, where it speaks TLS, with becket's other engine. What they did is
compared, event by event. The seed is printed first, and repeats the run:
--seed. A program on which they differ is made small and printed; put into a
file, it is played again with --replay FILE.
"""

import argparse
import json
import os
import pathlib
import random
import subprocess
import sys
import tempfile
import time

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))
sys.path.insert(1, str(pathlib.Path(__file__).resolve().parents[1] / "python"))

import compare
import generate
import search
from service_mutants import KINDS

import report
from support.loops import BACKENDS, ORACLE

FAILURES = 5
LOOPS = (*BACKENDS, compare.FALLBACK)
STARTED = time.monotonic()


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--programs", type=int, default=2000)
    parser.add_argument("--seed", type=int, default=random.randrange(1 << 32))
    parser.add_argument(
        "--poller",
        action="append",
        choices=(*LOOPS, *compare.MUTANTS, *compare.HARMLESS),
        help="only this one, or a broken loop (may be given more than once)",
    )
    parser.add_argument(
        "--kind",
        action="append",
        choices=generate.KINDS,
        help="only programs of this kind (may be given more than once)",
    )
    parser.add_argument(
        "--jobs", type=int, default=os.cpu_count(), help="processes"
    )
    parser.add_argument(
        "--report", type=pathlib.Path, help="write the counts into this file"
    )
    parser.add_argument("--seconds", type=float, help="stop after so long")
    parser.add_argument("--replay", help="a file with a printed program")
    parser.add_argument(
        "--mutants",
        action="store_true",
        help="how many programs it takes to notice each broken loop",
    )
    parser.add_argument("--worker", help=argparse.SUPPRESS)
    return parser.parse_args(argv)


# --- one process ---


class Worker:
    """Plays its share of the programs; tells the parent in its last line."""

    def __init__(self, options):
        self.options = options
        self.names = options.poller or list(LOOPS)
        self.current = pathlib.Path(options.worker)
        self.failures = []

    def run(self):
        judge = compare.Judge(self.names)
        kinds = self.options.kind or generate.KINDS
        hunt = search.Search(judge, kinds, self.current.write_text)
        left = self.options.programs
        seed = self.options.seed
        while left > 0 and not self._is_over():
            difference = hunt.chunk(min(left, search.CHUNK), seed)
            if difference is not None:
                self.failures.append(self._smaller(difference))
            left -= search.CHUNK
            seed += 1
        self._report(hunt)

    def _is_over(self):
        limit = self.options.seconds
        is_late = limit is not None and time.monotonic() - STARTED > limit
        return is_late or len(self.failures) >= FAILURES

    def _smaller(self, difference):
        judge = compare.Judge([difference.name])

        def is_failing(source):
            try:
                verdict = judge.judge(source)[difference.name]
            except Exception:
                return False  # no program any more
            return verdict.how == "differs"

        source = search.without_lines(difference.source, is_failing)
        text = judge.judge(source)[difference.name].text
        return {"source": source, "text": text or difference.text}

    def _report(self, hunt):
        verdicts = {}
        for (name, how), count in sorted(hunt.verdicts.items()):
            verdicts.setdefault(name, {})[how] = count
        result = {
            "programs": hunt.programs,
            "kinds": hunt.of_kind,
            "verdicts": verdicts,
            "failures": self.failures,
        }
        print(json.dumps(result), flush=True)


# --- all of them ---


def start(options, number, folder):
    current = pathlib.Path(folder) / f"program-{number}.py"
    share = -(-options.programs // options.jobs)
    command = [sys.executable, __file__, "--worker", str(current)]
    command += ["--programs", str(share)]
    command += ["--seed", str(options.seed + number * 1_000_000)]
    if options.seconds is not None:
        command += ["--seconds", str(options.seconds)]
    for name in options.poller or ():
        command += ["--poller", name]
    for kind in options.kind or ():
        command += ["--kind", kind]
    process = subprocess.Popen(
        command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, text=True
    )
    return process, current


def collect(process, current):
    """What a worker found; a crash is told with the program that it played."""
    output, _ = process.communicate()
    if process.returncode == 0:
        return json.loads(output.splitlines()[-1])
    source = current.read_text() if current.is_file() else ""
    text = f"the process ended with {process.returncode}"
    return {"failures": [{"source": source, "text": text}]}


def add(total, part):
    """Add up the numbers, however deep they are."""
    for key, value in part.items():
        if isinstance(value, dict):
            add(total.setdefault(key, {}), value)
        elif isinstance(value, list):
            total.setdefault(key, []).extend(value)
        else:
            total[key] = total.get(key, 0) + value
    return total


def hunt(options):
    total = {"programs": 0, "kinds": {}, "verdicts": {}, "failures": []}
    with tempfile.TemporaryDirectory() as folder:
        workers = [start(options, n, folder) for n in range(options.jobs)]
        for process, current in workers:
            add(total, collect(process, current))
    total["seconds"] = time.monotonic() - STARTED
    return total


def say(total):
    for failure in total["failures"]:
        print(f"\n{failure['source']}\n{failure['text']}")
    kinds = ", ".join(f"{n} {kind}" for kind, n in total["kinds"].items())
    print(f"{total['programs']} programs ({kinds})")
    for name, counts in total["verdicts"].items():
        words = ", ".join(f"{n} {how}" for how, n in counts.items())
        print(f"{name}: {words}")
    print(
        f"{len(total['failures'])} differences, in {total['seconds']:.0f} s",
        flush=True,
    )


def replay(path, names):
    """Play a printed program again; show what CPython's loop does."""
    source = pathlib.Path(path).read_text()
    for event in compare.play(source, lambda: compare.new_loop(ORACLE)):
        print(event)
    verdicts = compare.Judge(names).judge(source)
    for name, verdict in verdicts.items():
        print(f"{name}: {verdict.how}\n{verdict.text}")
    return any(each.how == "differs" for each in verdicts.values())


def try_mutants(options):
    noticed = search.notice(KINDS, options.programs, options.seed)
    for name in compare.MUTANTS:
        print(f"{name}: {noticed.get(name, 'not noticed')}")
    print(
        f"{len(noticed)} of {len(compare.MUTANTS)} broken loops were noticed"
        f" within {options.programs} programs"
    )
    return 0 if len(noticed) == len(compare.MUTANTS) else 1


def main():
    options = parse(sys.argv[1:])
    if options.worker:
        Worker(options).run()
        return 0
    if options.replay:
        return int(replay(options.replay, options.poller or LOOPS))
    print("seed", options.seed, flush=True)
    if options.mutants:
        return try_mutants(options)
    total = hunt(options)
    say(total)
    if options.report is not None:
        report.write(options.report, total, options.seed)
    return 1 if total["failures"] else 0


if __name__ == "__main__":
    sys.exit(main())
