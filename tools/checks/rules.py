# SPDX-License-Identifier: MIT
"""Rules on words: what may stand in which file.

Comments are stripped first and words are matched whole.
"""

import re
from collections.abc import Callable, Iterator
from typing import NamedTuple

from .tree import Finding, Source, Tree


class Rule(NamedTuple):
    """A pattern that the C files of some folders must not hold."""

    pattern: str
    folders: tuple[str, ...]
    message: str
    allowed: tuple[str, ...] = ()  # the files in which it may stand
    form: Callable[[Source], str] = lambda source: source.bare


CORE = ("include", "src")
PRODUCT = ("include", "src", "python")
EVERYWHERE = ("include", "src", "python", "tests", "examples", "bench")

# The one place of system calls; sys_call.h is what the two others share.
SYS = (
    "src/base/sys.c",
    "src/base/sys_call.h",
    "src/base/sys_message.c",
    "src/base/sys_process.c",
)

# What they wrap. A name that is also one of the project's own words is
# matched only as a call of a plain function: not x->close(, not bki_close(.
SYSTEM_CALLS = (
    "accept4?|bind|clock_gettime|close|connect|dup[23]?|epoll_create1?"
    "|epoll_ctl|epoll_p?wait2?|eventfd|f?cntl|fork|fstat|getpeername|getpid"
    "|getrandom|getsockname|getsockopt|ioctl|listen|madvise|mmap|munmap"
    "|p?poll|pipe2?|p?read|p?readv|recv|recvfrom|recvm?msg|send|sendfile"
    "|sendm?msg|sendto|setsockopt|shutdown|socket|socketpair|splice|syscall"
    "|p?write|p?writev|getaddrinfo|getnameinfo|sched_yield|nanosleep"
    "|chdir|close_range|execvp?e?|kill|pthread_sigmask|raise|setpgid|setsid"
    "|sigaction|vfork|wait4|waitid|waitpid"
)

RULES = (
    Rule(
        r"\bPython\.h\b",
        CORE,
        "the core never includes Python.h",
        form=lambda source: source.code,
    ),
    Rule(
        # <errno.h> is where the codes come from: not the variable.
        r"\berrno\b(?!\.h)",
        PRODUCT,
        "only src/base/sys.c looks at errno",
        allowed=SYS,
    ),
    Rule(
        rf"(?<![\w.>])({SYSTEM_CALLS})\(",
        ("src",),
        "only src/base/sys.c makes system calls",
        allowed=SYS,
    ),
    Rule(
        r"\bPY_VERSION_HEX\b",
        PRODUCT,
        "only python/ext/compat.h tests the Python version",
        allowed=("python/ext/compat.h",),
    ),
    Rule(
        r"\b(Py_BEGIN_ALLOW_THREADS|PyEval_SaveThread)\b",
        PRODUCT,
        "only python/ext/loop_run.c releases the GIL",
        allowed=("python/ext/loop_run.c",),
    ),
    Rule(
        r"->_",
        ("python",),
        "a member that starts with _ is private to the library",
    ),
    Rule(
        r"\bstatic\s+(const\s+)?PyTypeObject\s*(const\s+)?\w+\s*[=;,\[]",
        EVERYWHERE,
        "no static types: PyType_FromModuleAndSpec makes them",
    ),
    Rule(
        r"\bstatic\s+(const\s+)?Py(Type)?Object\s*\*\s*(const\s+)?\w+\s*[=;,\[]",
        EVERYWHERE,
        "no static Python objects: they belong into the module's state",
    ),
    Rule(
        r"\b(abort|_?exit|v?[fd]?printf)\(",
        ("src",),
        "the library never prints, exits or aborts",
        allowed=("src/base/sys_process.c",),  # a child that is no program
    ),
)

# Spelled with a class of one letter, or this file would break its own rule.
BARE_MARK = re.compile(r"\bTO[D]O\b|\bFIX[M]E\b(?!\([^)]+\))")
DATED_MARK = re.compile(r"\bFIX[M]E\([^)]+\)")
INCLUDE = re.compile(r'^\s*#\s*include\s+(["<])([^">]+)[">]', re.MULTILINE)


def check_words(tree: Tree) -> Iterator[Finding]:
    for source in tree.c_sources:
        for rule in RULES:
            if (
                source.is_under(*rule.folders)
                and source.path not in rule.allowed
            ):
                pattern = re.compile(rule.pattern)
                for line in source.find(pattern, rule.form(source)):
                    yield Finding(source.path, line, rule.message)


def check_binding_includes(tree: Tree) -> Iterator[Finding]:
    """The binding sees the library as a C user does."""
    for source in tree.c_sources:
        if not source.is_under("python"):
            continue
        for match in INCLUDE.finditer(source.code):
            quote, name = match.groups()
            is_public = name.startswith("becket/")
            is_own = quote == '"' and "/" not in name
            if quote == '"' and not is_public and not is_own:
                line = source.code.count("\n", 0, match.start(2)) + 1
                yield Finding(
                    source.path,
                    line,
                    f"the binding includes only becket/*.h, not {name}",
                )


def check_marks(tree: Tree) -> Iterator[Finding]:
    """What is left to do is an issue, or says until when it stays."""
    for source in tree.sources:
        for line in source.find(BARE_MARK, source.text):
            yield Finding(
                source.path,
                line,
                "a mark without a reason: say in parentheses what it waits"
                " for, as in (kernel 6.1) or (py 3.11)",
            )


def list_fixmes(tree: Tree) -> list[str]:
    """The compatibility code that waits for its day: shown, not fatal."""
    return [
        f"{source.path}:{line}: {source.text.splitlines()[line - 1].strip()}"
        for source in tree.sources
        for line in source.find(DATED_MARK, source.text)
    ]


def check_licence(tree: Tree) -> Iterator[Finding]:
    for source in tree.c_sources + tree.python_sources:
        head = "\n".join(source.text.splitlines()[:5])
        if source.text.strip() and "SPDX-License-Identifier: MIT" not in head:
            yield Finding(
                source.path, 1, "no SPDX-License-Identifier: MIT at the top"
            )
