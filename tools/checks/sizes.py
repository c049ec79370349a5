# SPDX-License-Identifier: MIT
"""Sizes: the point at which a function or a file has to be cut."""

import ast
import re
from collections.abc import Iterator
from typing import NamedTuple

from .tree import Finding, Source, Tree

FUNCTION_LINES_MAX = 70
PARAMETERS_MAX = 8
NESTING_MAX = 4
FILE_LINES_MAX = 800
PUBLIC_HEADER_LINES_MAX = 500
CONDITIONALS_MAX = 2
COLUMNS_MAX = 80

# A definition as clang-format leaves it: a name at the start of a line, its
# parameters, and braces that stand alone in the first column.
DEFINITION = re.compile(
    r"^(?P<name>[A-Za-z_]\w*)\((?P<parameters>[^{};]*)\)[^{};]*\n"
    r"(?P<body>\{\n.*?^\})",
    re.DOTALL | re.MULTILINE,
)


class Function(NamedTuple):
    """One C function definition."""

    name: str
    line: int
    lines: int  # from the line of the name to the closing brace
    parameters: int
    nesting: int  # blocks within blocks; 0: none in the body


def count_parameters(text: str) -> int:
    text = text.strip()
    if text in ("", "void"):
        return 0
    depth = 0
    count = 1
    for character in text:
        depth += (character == "(") - (character == ")")
        count += character == "," and depth == 0
    return count


def deepest_block(body: str) -> int:
    """How deep blocks nest in a body; an initializer's braces do not count.

    clang-format writes a space before a block's brace, and none between a
    compound literal's type and its own.
    """
    is_block: list[bool] = []
    deepest = 0
    for match in re.finditer(r"([^\s{}]*)(\s*)([{}])", body):
        word, space, brace = match.groups()
        if brace == "}":
            is_block.pop()
            continue
        opens = not word.endswith(("=", ",", "(")) and (space or not word)
        is_block.append(bool(opens) and all(is_block))
        deepest = max(deepest, sum(is_block))
    return deepest - 1  # the body itself


def functions(source: Source) -> Iterator[Function]:
    for match in DEFINITION.finditer(source.bare):
        yield Function(
            name=match["name"],
            line=source.bare.count("\n", 0, match.start()) + 1,
            lines=match[0].count("\n") + 1,
            parameters=count_parameters(match["parameters"]),
            nesting=deepest_block(match["body"]),
        )


def check_c_functions(tree: Tree) -> Iterator[Finding]:
    for source in tree.c_sources:
        for f in functions(source):
            for what, is_, limit in (
                ("lines long", f.lines, FUNCTION_LINES_MAX),
                ("parameters", f.parameters, PARAMETERS_MAX),
                ("blocks deep", f.nesting, NESTING_MAX),
            ):
                if is_ > limit:
                    message = f"{f.name}: {is_} {what}, at most {limit}"
                    yield Finding(source.path, f.line, message)


def check_python_functions(tree: Tree) -> Iterator[Finding]:
    for source in tree.python_sources:
        for node in ast.walk(ast.parse(source.text, source.path)):
            if not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                continue
            lines = (node.end_lineno or node.lineno) - node.lineno + 1
            if lines > FUNCTION_LINES_MAX:
                yield Finding(
                    source.path,
                    node.lineno,
                    f"{node.name}: {lines} lines long,"
                    f" at most {FUNCTION_LINES_MAX}",
                )


def check_files(tree: Tree) -> Iterator[Finding]:
    for source in tree.c_sources + tree.python_sources:
        is_public = source.is_under("include")
        limit = PUBLIC_HEADER_LINES_MAX if is_public else FILE_LINES_MAX
        lines = len(source.text.splitlines())
        if lines > limit:
            message = f"{lines} lines long, at most {limit}"
            yield Finding(source.path, 0, message)


def check_columns(tree: Tree) -> Iterator[Finding]:
    """clang-format leaves long comments and strings as they are."""
    for source in tree.c_sources:
        for number, line in enumerate(source.text.splitlines(), 1):
            if len(line) > COLUMNS_MAX:
                message = f"{len(line)} columns, at most {COLUMNS_MAX}"
                yield Finding(source.path, number, message)


def check_conditionals(tree: Tree) -> Iterator[Finding]:
    """A difference between platforms is a different file, not an #if.

    sys.c is the file that such differences go to.
    """
    for source in tree.c_sources:
        if not source.is_under("src", "python") or source.name.endswith(".h"):
            continue
        if source.path == "src/base/sys.c":
            continue
        count = 0
        for block in re.finditer(
            r"^#\s*if.*?^#\s*endif", source.code, re.DOTALL | re.MULTILINE
        ):
            lines = block[0].splitlines()
            count += not all(
                re.match(r"#|\s*$", line) for line in lines
            )  # a block of nothing but includes and macros is free
        if count > CONDITIONALS_MAX:
            yield Finding(
                source.path, 0, f"{count} #if, at most {CONDITIONALS_MAX}"
            )
