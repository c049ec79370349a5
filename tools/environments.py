# SPDX-License-Identifier: MIT
"""Virtual environments and builds, one of each for every supported Python.

    .venv/3.11/         build tools, test dependencies, becket itself
    build/py3.11/       Meson's build of the extension, kept between runs
    build/asan-py3.11/  the same with ASan and UBSan, in no environment
    build/fault-py3.11/ the same, with system calls that a test makes fail
    build/c-*/          the C library and its tests

Every step leaves a stamp of what it was made from, and is skipped while that
is unchanged.
"""

import argparse
import contextlib
import fcntl
import hashlib
import json
import os
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

TOP = Path(__file__).resolve().parent.parent
BUILD = TOP / "build"
# The group of dependencies that does not make an environment, and all that was
# built with it, anew when it changes.
ADDED = "differential"
SANITIZE = ("-Db_sanitize=address,undefined", "-Db_lundef=false")
# GCC warns that its ThreadSanitizer ignores fences; those that are there part
# atomic operations, which it does follow.
SANITIZE_THREADS = (
    "-Db_sanitize=thread",
    "-Db_lundef=false",
    "-Dc_args=-Wno-tsan",
)


class CommandError(Exception):
    """A step of the set-up or of a build failed; its output was shown."""


class Environment(NamedTuple):
    """One supported Python and the virtual environment made from it."""

    version: str  # "3.11"
    base: Path  # the interpreter of the machine

    @property
    def root(self) -> Path:
        return TOP / ".venv" / self.version

    @property
    def python(self) -> Path:
        return self.root / "bin" / "python"

    def variables(self, **extra: str) -> dict[str, str]:
        """The process environment in which this one's tools are found."""
        path = f"{self.root / 'bin'}{os.pathsep}{os.environ['PATH']}"
        return {**os.environ, "PATH": path, **extra}


class Machine(NamedTuple):
    """What tools/pythons found."""

    environments: list[Environment]  # one per usable Python, oldest first
    missing: list[str]  # supported versions that are not here, or not usable


def look_around() -> Machine:
    """Find the supported Pythons of this machine."""
    listing = subprocess.run(
        [TOP / "tools" / "pythons"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    machine = Machine([], [])
    for line in listing.splitlines():
        version, python, state = line.split("\t")
        if state == "ready":
            machine.environments.append(Environment(version, Path(python)))
        else:
            machine.missing.append(version)
    return machine


@contextlib.contextmanager
def build_lock() -> Iterator[None]:
    """Two makes at once take turns instead of spoiling each other's builds."""
    BUILD.mkdir(exist_ok=True)
    with open(BUILD / ".lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        yield


def run(*command: str | Path, env: dict[str, str] | None = None) -> None:
    """Run a command that must succeed; show its output only if it does not."""
    result = subprocess.run(
        command,
        cwd=TOP,
        env=env,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    )
    if result.returncode != 0:
        say(result.stdout)
        words = " ".join(map(str, command))
        raise CommandError(f"failed with {result.returncode}: {words}")


def say(text: str) -> None:
    """Progress goes to stderr: the output is the answer alone."""
    print(text, file=sys.stderr, flush=True)


def is_current(stamp: Path, content: str) -> bool:
    return stamp.is_file() and stamp.read_text() == content


def warnings_are_errors() -> bool:
    """In CI alone: a newer compiler must not stop a user's build."""
    return bool(os.environ.get("CI"))


def find_debug_build() -> Environment | None:
    """A debug build of a supported Python, as Debian's python3.11-dbg; the
    newest that is found."""
    for minor in range(15, 10, -1):
        base = shutil.which(f"python3.{minor}-dbg")
        if base is not None:
            return Environment(f"3.{minor}-dbg", Path(base))
    return None


def prepare_debug_build(environment: Environment) -> None:
    """Its virtual environment, with what the tests of references need (of the
    rest, much is not built for it), and becket as part of the count: Meson
    takes the headers of the release build, where nothing is counted."""
    stamp = environment.root / "becket-stamp"
    content = json.dumps([str(environment.root), str(environment.base)])
    if not is_current(stamp, content):
        say(f"Python {environment.version}: making {environment.root}")
        run(environment.base, "-m", "venv", "--clear", environment.root)
        pip = (environment.python, "-m", "pip", "install", "--quiet")
        run(*pip, "--upgrade", "pip>=25.1")  # the first with --group
        run(*pip, "--group=build", "--group=test")
        stamp.write_text(content)
    install_extension(
        environment,
        "-Csetup-args=-Dc_args=-DPy_DEBUG",
        "-Csetup-args=-Dbuildtype=debug",
    )


def prepare(environment: Environment) -> None:
    """Make the virtual environment, if it is not there as it should be."""
    with open(TOP / "pyproject.toml", "rb") as file:
        groups = tomllib.load(file)["dependency-groups"]
    added = groups.pop(ADDED)
    demo = TOP / "demo" / "requirements.txt"
    described = subprocess.run(
        [environment.base, "-c", "import sys; print(sys.version)"],
        check=True,
        stdout=subprocess.PIPE,
        text=True,
    ).stdout
    content = json.dumps(
        [str(environment.root), str(environment.base), described]
        + [groups, demo.read_text()],
        indent=1,
    )
    stamp = environment.root / "becket-stamp"
    if not is_current(stamp, content):
        make_environment(environment, list(groups), demo)
        stamp.write_text(content)
    add_group(environment, added)


def make_environment(
    environment: Environment, groups: list[str], demo: Path
) -> None:
    say(f"Python {environment.version}: making .venv/{environment.version}")
    run(environment.base, "-m", "venv", "--clear", environment.root)
    pip = (environment.python, "-m", "pip", "install", "--quiet")
    run(*pip, "--upgrade", "pip>=25.1")  # the first with --group
    of_groups = [f"--group={name}" for name in groups]
    run(*pip, *of_groups, "-r", demo)


def add_group(environment: Environment, requirements: list[str]) -> None:
    """Install what builds do not need into an environment that is there."""
    stamp = environment.root / "becket-added"
    content = json.dumps(requirements)
    if is_current(stamp, content):
        return
    say(f"Python {environment.version}: installing {', '.join(requirements)}")
    run(environment.python, "-m", "pip", "install", "-q", f"--group={ADDED}")
    stamp.write_text(content)


def fingerprint(*folders: str) -> str:
    """Changes when a file below the folders, or a build file, changes."""
    digest = hashlib.sha256()
    files = [
        TOP / "pyproject.toml",
        TOP / "meson.build",
        TOP / "meson.options",
    ]
    for folder in folders:
        files += sorted(
            path
            for path in (TOP / folder).rglob("*")
            if path.is_file() and "__pycache__" not in path.parts
        )
    for path in files:
        status = path.stat()
        line = f"{path} {status.st_size} {status.st_mtime_ns}\n"
        digest.update(line.encode())
    return digest.hexdigest()


def install_extension(environment: Environment, *options: str) -> None:
    """Build becket and install it into the environment."""
    stamp = environment.root / "becket-installed"
    content = (
        f"{fingerprint('src', 'include', 'python')} {warnings_are_errors()}"
    )
    if is_current(stamp, content):
        return
    say(f"Python {environment.version}: building becket")
    stamp.unlink(missing_ok=True)
    pip_install(environment, BUILD / f"py{environment.version}", *options)
    stamp.write_text(content)


def install_sanitized(environment: Environment) -> Path:
    """Build becket with ASan and UBSan; return the folder that has it."""
    return install_aside(environment, "asan", *SANITIZE)


def install_faulty(environment: Environment) -> Path:
    """Build becket with fault injection; return the folder that has it."""
    return install_aside(environment, "fault", "-Dfault_injection=true")


def install_aside(
    environment: Environment, kind: str, *setup_options: str
) -> Path:
    """A debug build in a folder of its own, which belongs in PYTHONPATH."""
    build = BUILD / f"{kind}-py{environment.version}"
    site = build / "site"
    stamp = build / "becket-installed"
    content = (
        f"{fingerprint('src', 'include', 'python')} {warnings_are_errors()}"
    )
    if is_current(stamp, content):
        return site
    stamp.unlink(missing_ok=True)
    shutil.rmtree(site, ignore_errors=True)
    options = [f"-Csetup-args={option}" for option in setup_options]
    options += ["-Csetup-args=-Dbuildtype=debug", f"--target={site}"]
    pip_install(environment, build / "meson", *options)
    stamp.write_text(content)
    return site


def pip_install(environment: Environment, build: Path, *options: str) -> None:
    werror = "true" if warnings_are_errors() else "false"
    drop_stale_build(environment, build)
    run(
        environment.python,
        "-m",
        "pip",
        "install",
        "--quiet",
        "--no-build-isolation",
        "--no-deps",
        f"-Cbuild-dir={build}",
        f"-Csetup-args=-Dwerror={werror}",
        *options,
        ".",
        env=environment.variables(),
    )


def drop_stale_build(
    environment: Environment, build: Path, *options: str
) -> None:
    """A build folder names the tools and the options that made it: start anew
    with others, since Meson does not find an option that has come new."""
    stamp = build / "becket-stamp"
    tools = (environment.root / "becket-stamp").read_text()
    known = (TOP / "meson.options").read_text()
    content = "\n".join([str(build), *options, tools, known])
    if not is_current(stamp, content):
        shutil.rmtree(build, ignore_errors=True)
        build.mkdir(parents=True)
        stamp.write_text(content)


def build_core(
    environment: Environment, name: str, *options: str, target: str = ""
) -> Path:
    """Build the C library and its tests, or only this target of Meson's;
    return the build folder."""
    build = BUILD / name
    options = (
        "-Dpython=disabled",
        "-Dtests=enabled",
        "-Dfault_injection=true",
        "-Dbuildtype=debug",
        f"-Dwerror={'true' if warnings_are_errors() else 'false'}",
        *options,
    )
    drop_stale_build(environment, build, *options)
    meson = environment.root / "bin" / "meson"
    if not (build / "build.ninja").is_file():
        run(meson, "setup", build, *options, env=environment.variables())
    targets = [target] if target else []
    run(meson, "compile", "-C", build, *targets, env=environment.variables())
    return build


def main() -> None:
    parser = argparse.ArgumentParser(description="Prepare the environments.")
    parser.add_argument(
        "--first", action="store_true", help="only that of the oldest Python"
    )
    parser.add_argument(
        "--install", action="store_true", help="build and install becket too"
    )
    parser.add_argument(
        "--all", action="store_true", help="(what the script installs)"
    )
    arguments = parser.parse_args()
    chosen = look_around().environments
    if arguments.first:
        del chosen[1:]
    try:
        with build_lock():
            for environment in chosen:
                prepare(environment)
                if arguments.install:
                    install_extension(environment)
    except CommandError as error:
        sys.exit(str(error))
    print(chosen[0].python)


if __name__ == "__main__":
    main()
