# SPDX-License-Identifier: MIT
"""The tests' own C code (support/native/*.c), compiled when it is needed.

Two things cannot be done from Python: threads that open and close descriptors
without ever waiting for the interpreter's lock (churn.c), and standing
between everybody and the C library's system calls (interpose.c).
"""

import ctypes
import fcntl
import hashlib
import os
import pathlib
import subprocess

SOURCES = pathlib.Path(__file__).resolve().parent / "native"
BUILT = SOURCES.parents[3] / "build" / "native"
COMMAND = ("cc", "-std=gnu11", "-D_GNU_SOURCE", "-O2", "-fPIC", "-shared")
COMMAND += ("-Wall", "-Wextra", "-Wshadow", "-pthread")


def library(name):
    """The path of the shared library made from <name>.c."""
    source = SOURCES / f"{name}.c"
    digest = hashlib.sha256(source.read_bytes()).hexdigest()[:16]
    path = BUILT / f"{name}-{digest}.so"
    if not path.exists():
        BUILT.mkdir(parents=True, exist_ok=True)
        with open(BUILT / ".lock", "w") as lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            if not path.exists():
                compile_to(source, path)
    return path


def compile_to(source, path):
    # Nothing of a preloaded sanitizer's goes into the compiler.
    env = {
        name: value
        for name, value in os.environ.items()
        if name != "LD_PRELOAD"
    }
    made = path.with_suffix(".tmp")
    command = [*COMMAND, str(source), "-o", str(made), "-ldl"]
    subprocess.run(command, check=True, env=env)
    made.rename(path)


def preloaded(name):
    """The value of LD_PRELOAD that puts the library behind a sanitizer."""
    given = os.environ.get("LD_PRELOAD")
    path = str(library(name))
    return f"{given}:{path}" if given else path


def load(name, signatures):
    """Load it; signatures gives (result, *arguments) for each function."""
    return bind(ctypes.CDLL(str(library(name))), signatures)


def bind(handle, signatures):
    for function, (result, *arguments) in signatures.items():
        found = getattr(handle, function)
        found.restype = result
        found.argtypes = arguments
    return handle
