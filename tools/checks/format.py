# SPDX-License-Identifier: MIT
"""What other programs judge: clang-format, ruff, mypy."""

import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

from .tree import Finding, Tree

BIN = Path(sys.executable).parent
PACKAGE = "python/becket"
VIOLATION = re.compile(r"^(\S+?):(\d+):\d+: warning:", re.MULTILINE)


def complaints(
    tree: Tree, label: str, *command: str | Path
) -> Iterator[Finding]:
    """One finding that holds all the output, if the command fails."""
    result = subprocess.run(
        command,
        cwd=tree.top,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode != 0:
        yield Finding(label, 0, "\n" + result.stdout.rstrip())


def check_clang_format(tree: Tree) -> Iterator[Finding]:
    paths = [source.path for source in tree.c_sources]
    if not paths:
        return
    result = subprocess.run(
        [BIN / "clang-format", "--dry-run", *paths],
        cwd=tree.top,
        stderr=subprocess.PIPE,
        text=True,
    )
    places: dict[str, list[int]] = {}
    for path, line in dict.fromkeys(VIOLATION.findall(result.stderr)):
        places.setdefault(path, []).append(int(line))
    for path, lines in places.items():
        message = f"clang-format drift, {len(lines)} lines: make format"
        yield Finding(path, lines[0], message)
    if result.returncode != 0:
        yield Finding("clang-format", 0, result.stderr.rstrip())


def check_ruff_lint(tree: Tree) -> Iterator[Finding]:
    paths = [source.path for source in tree.python_sources]
    options = ("--quiet", "--output-format=concise")
    yield from complaints(
        tree, "ruff", BIN / "ruff", "check", *options, *paths
    )


def check_ruff_format(tree: Tree) -> Iterator[Finding]:
    paths = [source.path for source in tree.python_sources]
    yield from complaints(
        tree, "make format", BIN / "ruff", "format", "--check", "-q", *paths
    )


def check_types(tree: Tree) -> Iterator[Finding]:
    """mypy --strict (pyproject.toml) over the package and the tools."""
    for folder in (PACKAGE, "tools"):
        if any(source.is_under(folder) for source in tree.python_sources):
            yield from complaints(
                tree, "mypy", BIN / "mypy", "--no-error-summary", folder
            )


def check_stubs(tree: Tree) -> Iterator[Finding]:
    """The installed becket._core against what _core.pyi says of it."""
    if any(s.path == f"{PACKAGE}/_core.pyi" for s in tree.sources):
        yield from complaints(
            tree,
            "stubtest",
            sys.executable,
            "-m",
            "mypy.stubtest",
            "becket._core",
        )
