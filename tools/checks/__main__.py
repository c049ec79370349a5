# SPDX-License-Identifier: MIT
"""Run every check; one line for each, then what it found."""

import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import environments

from . import binaries, format, rows, rules, sizes
from .tree import Finding, Tree

Check = tuple[str, Callable[[Tree], Iterator[Finding]]]

CHECKS: tuple[Check, ...] = (
    ("words in their places", rules.check_words),
    ("includes of the binding", rules.check_binding_includes),
    ("marks with a reason", rules.check_marks),
    ("licence lines", rules.check_licence),
    ("tests of the behaviour rows", rows.check_rows),
    ("C function sizes", sizes.check_c_functions),
    ("Python function sizes", sizes.check_python_functions),
    ("file sizes", sizes.check_files),
    ("columns", sizes.check_columns),
    ("conditional compilation", sizes.check_conditionals),
    ("clang-format", format.check_clang_format),
    ("ruff check", format.check_ruff_lint),
    ("ruff format", format.check_ruff_format),
    ("mypy", format.check_types),
    ("public headers alone", binaries.check_headers_alone),
)


def built_checks() -> tuple[Check, ...]:
    """Build both products; return the checks that look at them."""
    first = environments.look_around().environments[0]
    with environments.build_lock():
        build = environments.build_core(
            first, "c-debug", target="becket:shared_library"
        )
        environments.install_extension(first)
    library = build / "src" / "libbecket.so"
    package = next(first.root.glob("lib/python3*/site-packages")) / "becket"
    extension = next(package.glob("_core.*.so"))
    return (
        (
            "exports of the library",
            lambda tree: binaries.check_library_symbols(tree, library),
        ),
        (
            "exports of the extension",
            lambda tree: binaries.check_extension_symbols(extension),
        ),
        ("stubtest", format.check_stubs),
    )


def main() -> int:
    tree = Tree(Path(__file__).resolve().parents[2])
    passed = 0
    failed = 0  # checks that found something, and a build that broke
    try:
        checks = CHECKS + built_checks()
    except environments.CommandError as error:
        print(f"The build of both products {error}")
        checks = CHECKS
        failed = 1
    for name, check in checks:
        start = time.monotonic()
        findings = list(check(tree))
        seconds = time.monotonic() - start
        verdict = f"{len(findings)} found" if findings else "ok"
        print(f"{name:27} {verdict:9} {seconds:5.1f} s")
        for finding in findings:
            print(f"    {finding}")
        passed += not findings
        failed += bool(findings)
    for line in rules.list_fixmes(tree):
        print(f"waiting: {line}")
    print(f"{passed} passed, {failed} failed")
    return 1 if failed else 0


if __name__ == "__main__":
    sys.exit(main())
