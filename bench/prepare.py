# SPDX-License-Identifier: MIT
"""What the bench needs: an environment of its own with becket and the peers,
the C programs, wrk.
"""

import json
import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import environments
from child import CERTIFICATE
from environments import BUILD, TOP, Environment

HERE = Path(__file__).resolve().parent
PREFERRED = "3.13"  # the marks are for this one
FRAMEWORKS = ("uvicorn>=0.36", "httptools>=0.6", "aiohttp>=3.9")
PEERS = (
    "uvloop",
    "rloop",
    "aiofastnet",
    "zuvloop; python_version >= '3.14'",  # runs on no older one
)
CFLAGS = ("-std=gnu11", "-O2", "-D_GNU_SOURCE", "-Wall", "-Wextra")
LIBRARIES = ("-lssl", "-lcrypto")


class BenchEnvironment(Environment):
    """Apart from the one of the tests: what is measured is a release."""

    @property
    def root(self) -> Path:
        return TOP / ".venv" / f"bench-{self.version}"


def pick_environment() -> BenchEnvironment:
    found = environments.look_around().environments
    for environment in found:
        if environment.version == PREFERRED:
            return BenchEnvironment(*environment)
    return BenchEnvironment(*found[-1])


def install_packages(environment: Environment) -> None:
    """A peer that cannot be had here stays away; all the rest is needed."""
    pip = (environment.python, "-m", "pip", "install", "--quiet")
    environments.run(*pip, "--upgrade", "pip>=25.1")  # the first with --group
    environments.run(*pip, "--group=build", *FRAMEWORKS)
    for peer in PEERS:
        try:
            environments.run(*pip, peer)
        except environments.CommandError as error:
            environments.say(f"{peer} is left out: {error}")


def make_environment(environment: Environment) -> None:
    content = json.dumps(
        [str(environment.root), str(environment.base), FRAMEWORKS, PEERS]
    )
    stamp = environment.root / "becket-stamp"
    if environments.is_current(stamp, content):
        return
    name = environment.root.relative_to(TOP)
    environments.say(f"Python {environment.version}: making {name}")
    environments.run(
        environment.base, "-m", "venv", "--clear", environment.root
    )
    install_packages(environment)
    stamp.write_text(content)


def install_becket(environment: Environment) -> None:
    stamp = environment.root / "becket-installed"
    content = environments.fingerprint("src", "include", "python")
    if environments.is_current(stamp, content):
        return
    environments.say(f"Python {environment.version}: building becket")
    stamp.unlink(missing_ok=True)
    build = BUILD / f"bench-py{environment.version}"
    environments.pip_install(environment, build)
    stamp.write_text(content)


def prepare_environment(has_becket: bool) -> Path:
    """The Python of the environment; with becket as this tree has it."""
    environment = pick_environment()
    with environments.build_lock():
        make_environment(environment)
        if has_becket:
            install_becket(environment)
    return environment.python


def make_certificate(folder: Path) -> None:
    """For the servers, signed by itself: nobody looks at it."""
    certificate, key = (folder / name for name in CERTIFICATE)
    if certificate.is_file() and key.is_file():
        return
    command = ["openssl", "req", "-x509", "-nodes", "-days", "3650"]
    command += ["-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"]
    command += ["-subj", "/CN=localhost", "-keyout", key, "-out", certificate]
    environments.run(*command)


def list_programs() -> Iterator[tuple[str, list[Path]]]:
    """The C programs, each with its sources."""
    yield "load", sorted((HERE / "load").glob("*.c"))
    common = HERE / "reference" / "common.c"
    for source in sorted((HERE / "reference").glob("*.c")):
        if source != common:
            yield source.stem, [source, common]


def compile_programs(folder: Path = BUILD / "bench") -> Path:
    """The load generator and the references; returns their folder."""
    folder.mkdir(parents=True, exist_ok=True)
    for name, files in list_programs():
        newest = max(p.stat().st_mtime for p in files[0].parent.iterdir())
        program = folder / name
        if program.is_file() and program.stat().st_mtime > newest:
            continue
        environments.run("cc", *CFLAGS, "-o", program, *files, *LIBRARIES)
    return folder


def find_wrk() -> str | None:
    """Install it where that is ours to do. Our own generator does as well."""
    found = shutil.which("wrk")
    if found or os.geteuid() != 0 or not shutil.which("apt-get"):
        return found
    environments.say("Installing wrk")
    subprocess.run(
        ["apt-get", "install", "-y", "-qq", "--no-install-recommends", "wrk"],
        stdin=subprocess.DEVNULL,
        stdout=subprocess.DEVNULL,
        env={**os.environ, "DEBIAN_FRONTEND": "noninteractive"},
    )
    return shutil.which("wrk")
