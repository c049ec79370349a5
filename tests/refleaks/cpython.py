# SPDX-License-Identifier: MIT
"""CPython's own tests of asyncio on becket, references counted.

    .venv/3.11-dbg/bin/python tests/refleaks/cpython.py test_streams -v

Each test runs again and again in this process, as CPython's "-R 3:3" does
with whole files. Not run: those that tests/conformance/expected.toml lists,
and those that fail or skip.
"""

import argparse
import faulthandler
import os
import sys
import unittest
from pathlib import Path

CONFORMANCE = Path(__file__).resolve().parents[1] / "conformance"
sys.path.insert(0, str(CONFORMANCE))

# ruff: noqa: E402
import counting

import catalog
import expected
import plug

FILES = (
    "test_events",
    "test_streams",
    "test_ssl",
    "test_sslproto",
    "test_sock_lowlevel",
    "test_subprocess",
    "test_sendfile",
    "test_server",
    "test_buffered_proto",
)
OTHER_POLLERS = {variant.name for variant in catalog.VARIANTS[1:]}
SECONDS_MAX = 300  # for all the rounds of one test


def parse(argv):
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("files", nargs="*", default=FILES)
    parser.add_argument("-k", dest="keyword", default="")
    parser.add_argument(
        "--all-pollers", action="store_true", help="not the first one alone"
    )
    parser.add_argument("-v", "--verbose", action="store_true")
    parser.add_argument(
        "--oracle", action="store_true", help="on CPython's own loop"
    )
    return parser.parse_args(argv)


def run_once(cls, method):
    """Whether the test passes; what it found is thrown away."""
    result = unittest.TestResult()
    unittest.TestSuite([cls(method)]).run(result)
    return result.wasSuccessful() and not result.skipped


def planned(options, subject, known):
    """(id, class, method) of each test that is to be measured."""
    for name in options.files:
        try:
            classes = catalog.load(catalog.BY_NAME[name], subject)
        except unittest.SkipTest as reason:
            print(f"{name}: skipped by CPython: {reason}")
            continue
        for cls in classes:
            if cls.__name__ in OTHER_POLLERS and not options.all_pollers:
                continue
            for method in catalog.tests_of(cls):
                test_id = f"{name}.{cls.__name__}.{method}"
                if options.keyword not in test_id:
                    continue
                if known is None or known.find(test_id) is None:
                    yield test_id, cls, method


def main():
    options = parse(sys.argv[1:])
    if not counting.is_debug_build():
        sys.exit("references are counted by a debug build of CPython only")
    faulthandler.enable()
    subject = plug.Subject("oracle" if options.oracle else "becket")
    plug.install(subject)
    known = None
    if not options.oracle:
        known = expected.read(CONFORMANCE / "expected.toml")
    measured, leaks = 0, []
    for test_id, cls, method in planned(options, subject, known):
        faulthandler.dump_traceback_later(SECONDS_MAX, exit=True)
        if not run_once(cls, method):
            continue
        measured += 1
        deltas = counting.measure(lambda c=cls, m=method: run_once(c, m))
        if options.verbose or deltas is not None:
            word = "ok" if deltas is None else "LEAK"
            print(f"{word} {test_id} {deltas or ''}", flush=True)
        if deltas is not None:
            leaks.append(test_id)
    faulthandler.cancel_dump_traceback_later()
    print(f"{measured - len(leaks)} passed, {len(leaks)} failed", flush=True)
    # The tests leave threads and loops to the end of their process.
    sys.stdout.flush()
    os._exit(1 if leaks or not measured else 0)


if __name__ == "__main__":
    main()
