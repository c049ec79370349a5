# SPDX-License-Identifier: MIT
"""The C library, built from a copy of the tree and installed somewhere."""

import fcntl
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
# What is generated, and what this run itself may be changing.
LEFT_OUT = shutil.ignore_patterns(".*", "build", "dist", "__pycache__")
LIMIT_S = 300


class Tree:
    """A copy of the project, and an environment in which to build it."""

    def __init__(self, root: Path) -> None:
        self.root = root
        self.source = root / "becket"
        self.build = root / "build"
        self.home = root / "home"
        self.prefix = self.home / ".local"
        tools = Path(sys.executable).parent  # Meson and Ninja
        self.environment = {
            **os.environ,
            "HOME": str(self.home),
            "PATH": f"{tools}{os.pathsep}{os.environ['PATH']}",
            # No library of this machine: neither Python nor check is needed.
            "PKG_CONFIG_LIBDIR": str(self.prefix / "lib" / "pkgconfig"),
            "LD_LIBRARY_PATH": str(self.prefix / "lib"),
        }

    def run(self, *command: str | Path, cwd: Path | None = None) -> str:
        """Run a command that must succeed; return what it printed."""
        result = subprocess.run(
            command,
            cwd=cwd or self.root,
            env=self.environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            timeout=LIMIT_S,
        )
        assert result.returncode == 0, f"{command}\n{result.stdout}"
        return result.stdout

    def flags(self, *options: str) -> list[str]:
        """What pkg-config says."""
        return self.run("pkg-config", *options, "becket").split()


def install(tree: Tree) -> None:
    shutil.copytree(TOP, tree.source, ignore=LEFT_OUT)
    tree.home.mkdir()
    tree.run(
        "meson",
        "setup",
        tree.build,
        tree.source,
        "-Dpython=disabled",
        f"--prefix={tree.prefix}",
        "--libdir=lib",
    )
    tree.run("meson", "compile", "-C", tree.build)
    tree.run("meson", "install", "-C", tree.build, "--no-rebuild")


@pytest.fixture(scope="session")
def installed(tmp_path_factory):
    """The installed library: made once, also by several pytest workers."""
    base = tmp_path_factory.getbasetemp()
    if "PYTEST_XDIST_WORKER" in os.environ:
        base = base.parent
    tree = Tree(base / "installed")
    with open(base / "installed.lock", "w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        done = tree.root / "done"
        if not done.exists():
            shutil.rmtree(tree.root, ignore_errors=True)
            tree.root.mkdir()
            install(tree)
            done.touch()
    return tree
