# SPDX-License-Identifier: MIT
"""The files that are checked, and C source without its comments."""

import functools
import re
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

# A comment, or a string or character literal; whichever starts first.
TOKEN = re.compile(
    r"""/\*.*?\*/ | //[^\n]* | "(?:\\.|[^"\\\n])*" | '(?:\\.|[^'\\\n])*'""",
    re.DOTALL | re.VERBOSE,
)
C_SUFFIXES = (".c", ".h", ".cpp")


class Finding(NamedTuple):
    """One place that breaks a rule."""

    path: str
    line: int  # 0: the file as a whole
    message: str

    def __str__(self) -> str:
        place = f"{self.path}:{self.line}" if self.line else self.path
        return f"{place}: {self.message}"


def blank(text: str) -> str:
    """The same number of characters and lines, with nothing in them."""
    return re.sub(r"[^\n]", " ", text)


def without_comments(text: str) -> str:
    return TOKEN.sub(
        lambda m: blank(m[0]) if m[0].startswith("/") else m[0], text
    )


def without_literals(text: str) -> str:
    """Without comments, and with nothing between quotation marks."""
    return TOKEN.sub(
        lambda m: (
            blank(m[0])
            if m[0].startswith("/")
            else m[0][0] + blank(m[0][1:-1]) + m[0][-1]
        ),
        text,
    )


class Source:
    """One file; path is relative to the top, with slashes."""

    def __init__(self, path: str, text: str) -> None:
        self.path = path
        self.text = text

    @property
    def name(self) -> str:
        return self.path.rpartition("/")[2]

    @property
    def is_c(self) -> bool:
        return self.path.endswith(C_SUFFIXES)

    @property
    def is_python(self) -> bool:
        return self.path.endswith((".py", ".pyi"))

    @functools.cached_property
    def code(self) -> str:
        """C without comments; string literals are kept."""
        return without_comments(self.text)

    @functools.cached_property
    def bare(self) -> str:
        """C without comments and without what strings hold."""
        return without_literals(self.text)

    def is_under(self, *folders: str) -> bool:
        return self.path.startswith(tuple(f"{f}/" for f in folders))

    def find(self, pattern: re.Pattern[str], text: str) -> Iterator[int]:
        """The line numbers of the matches in text, a form of this file."""
        for match in pattern.finditer(text):
            yield text.count("\n", 0, match.start()) + 1


class Tree:
    """The project: every text file that git knows or would take."""

    def __init__(self, top: Path, paths: list[str] | None = None) -> None:
        self.top = top
        self._paths = paths

    @functools.cached_property
    def sources(self) -> list[Source]:
        paths = self._listed() if self._paths is None else self._paths
        sources = []
        for path in sorted(paths):
            if not (self.top / path).is_file():
                continue  # deleted, and the deletion not committed yet
            try:
                text = (self.top / path).read_text()
            except UnicodeDecodeError:
                continue  # not text
            sources.append(Source(path, text))
        return sources

    def _listed(self) -> list[str]:
        command = ["git", "ls-files", "-z", "--cached", "--others"]
        listing = subprocess.run(
            [*command, "--exclude-standard"],
            cwd=self.top,
            check=True,
            stdout=subprocess.PIPE,
            text=True,
        ).stdout
        return [path for path in listing.split("\0") if path]

    @property
    def c_sources(self) -> list[Source]:
        return [source for source in self.sources if source.is_c]

    @property
    def python_sources(self) -> list[Source]:
        return [source for source in self.sources if source.is_python]

    @property
    def public_headers(self) -> list[Source]:
        return [s for s in self.c_sources if s.is_under("include")]
