# SPDX-License-Identifier: MIT
"""What the compiler has to say: public headers and exported symbols."""

import fnmatch
import re
import subprocess
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

from .tree import Finding, Source, Tree, without_comments

MAP = "src/becket.map"
DECLARATION = re.compile(r"\bBK_API\b[^;{]*?\b(\w+)\s*\(")
LANGUAGES = (
    ("cc", "-std=c11", "c"),
    ("c++", "-std=c++17", "c++"),
)


def compile_alone(
    tree: Tree, header: Source, compiler: str, standard: str, language: str
) -> Finding | None:
    command = [compiler, standard, "-x", language, "-fsyntax-only"]
    command += ["-Wall", "-Wextra", "-Wpedantic", "-Werror", "-Iinclude"]
    # Through standard input: a header as main file is warned of.
    include = header.path.removeprefix("include/")
    result = subprocess.run(
        [*command, "-"],
        cwd=tree.top,
        input=f'#include "{include}"\n',
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode == 0:
        return None
    message = f"does not compile alone with {standard}\n{result.stdout}"
    return Finding(header.path, 0, message.rstrip())


def check_headers_alone(tree: Tree) -> Iterator[Finding]:
    with ThreadPoolExecutor() as pool:
        jobs = [
            pool.submit(compile_alone, tree, header, *language)
            for header in tree.public_headers
            for language in LANGUAGES
        ]
    for job in jobs:
        finding = job.result()
        if finding is not None:
            yield finding


def exported(library: Path) -> set[str]:
    """The symbols that a shared object defines for others."""
    listing = subprocess.run(
        ["nm", "--dynamic", "--defined-only", "--format=posix", library],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    rows = [line.split() for line in listing.splitlines()]
    # Type A is the version node itself.
    return {row[0].partition("@")[0] for row in rows if row[1] != "A"}


def declared(tree: Tree) -> dict[str, str]:
    """Each function that a public header marks BK_API, and that header."""
    return {
        name: header.path
        for header in tree.public_headers
        for name in DECLARATION.findall(header.code)
        if not name.startswith("__")
    }


def map_patterns(tree: Tree) -> list[str]:
    text = without_comments((tree.top / MAP).read_text())
    match = re.search(r"global:(.*?)(local:|\})", text, re.DOTALL)
    return re.findall(r"[\w*?]+(?=;)", match[1]) if match else []


def check_library_symbols(tree: Tree, library: Path) -> Iterator[Finding]:
    symbols = exported(library)
    names = declared(tree)
    patterns = map_patterns(tree)
    for name in sorted(symbols - set(names)):
        message = f"{name} is exported, but no public header declares it"
        yield Finding(library.name, 0, message)
    for name in sorted(set(names) - symbols):
        message = f"{name} is declared BK_API, but not exported"
        yield Finding(names[name], 0, message)
    for name in sorted(symbols):
        if not any(fnmatch.fnmatchcase(name, p) for p in patterns):
            yield Finding(MAP, 0, f"{name} is exported, but not named here")


def check_extension_symbols(extension: Path) -> Iterator[Finding]:
    for name in sorted(exported(extension) - {"PyInit__core"}):
        message = f"{name} is exported: only PyInit__core may be"
        yield Finding(extension.name, 0, message)
