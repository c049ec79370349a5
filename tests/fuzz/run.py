#!/usr/bin/env python3
# SPDX-License-Identifier: MIT
"""Fuzz the C library, with clang and its sanitizers, as long as you like.

    .venv/3.13/bin/python tests/fuzz/run.py --seconds 600 fuzz_loop

New inputs are kept in build/fuzz/; --merge adds those that reach something
new to tests/fuzz/corpus/, which every run of the C tests replays. An input
that fails is named at the end, and belongs there as well.
"""

import argparse
import os
import shutil
import subprocess
import sys
from pathlib import Path

HERE = Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parents[1] / "tools"))

# ruff: noqa: E402
import environments

OPTIONS = ("-Dfuzz=true", *environments.SANITIZE, "-Dwerror=false")
LEN_MAX = 512  # bytes of an input: programs of a few hundred operations


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    targets = sorted(path.stem for path in HERE.glob("fuzz_*.c"))
    parser.add_argument("targets", nargs="*", default=targets)
    parser.add_argument("--seconds", type=int, default=60, help="for each")
    parser.add_argument(
        "--merge", action="store_true", help="add to the corpus in the tree"
    )
    return parser.parse_args(argv)


def build():
    environment = environments.look_around().environments[0]
    with environments.build_lock():
        return environments.build_core(environment, "c-fuzz", *OPTIONS)


def fuzz(program, name, options):
    """Whether nothing was found."""
    found = environments.BUILD / "fuzz" / name
    found.mkdir(parents=True, exist_ok=True)
    corpus = HERE / "corpus" / name
    arguments = [f"-max_len={LEN_MAX}", "-verbosity=0", "-print_final_stats=1"]
    arguments += [f"-artifact_prefix={environments.BUILD}/fuzz/{name}-"]
    code = subprocess.run(
        [program, *arguments, f"-max_total_time={options.seconds}"]
        + [str(found), str(corpus)],
        stdin=subprocess.DEVNULL,
    ).returncode
    if options.merge and code == 0:
        subprocess.run([program, "-merge=1", str(corpus), str(found)])
    return code == 0


def main():
    options = parse(sys.argv[1:])
    if shutil.which("clang") is None:
        print(
            "Without clang nothing is fuzzed.\n0 passed, 0 failed, 1 skipped"
        )
        return
    os.environ.update(CC="clang", CXX="clang++")
    programs = build() / "tests" / "fuzz"
    failed = 0
    for name in options.targets:
        print(f"{name}, {options.seconds} s", flush=True)
        failed += not fuzz(str(programs / f"{name}_fuzzer"), name, options)
    print(f"{len(options.targets) - failed} passed, {failed} failed")
    sys.exit(1 if failed else 0)


if __name__ == "__main__":
    main()
