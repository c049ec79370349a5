# SPDX-License-Identifier: MIT
"""The suites, and an environment and a folder for each of them."""

import fnmatch
import hashlib
import json
import shutil
import tarfile
import tomllib
import urllib.request
from dataclasses import dataclass, field
from pathlib import Path

import environments
from environments import TOP

HERE = Path(__file__).resolve().parent
PREFERRED = "3.13"
PYTEST = ("pytest>=8", "pytest-timeout>=2.3")


class Environment(environments.Environment):
    """One suite's: its requirements may contradict another's."""

    suite = ""

    @property
    def root(self) -> Path:
        return TOP / ".venv" / "frameworks" / self.suite


@dataclass
class Suite:
    """An entry of suites.toml."""

    name: str
    version: str
    keep: list[str]
    paths: list[str] = field(default_factory=lambda: ["tests"])
    options: list[str] = field(default_factory=list)
    requires: list[str] = field(default_factory=list)
    programs: list[str] = field(default_factory=list)
    leave_out: list[dict[str, str]] = field(default_factory=list)
    explained: list[dict[str, str]] = field(default_factory=list)
    fails: str = ""
    is_quick: bool = False
    source: str = ""
    source_sum: str = ""

    def reason(self, test: str) -> str | None:
        """Why this test may differ, if it may."""
        for entry in self.explained:
            if fnmatch.fnmatchcase(test, entry["tests"]):
                return entry["reason"]
        return None


def read_suites() -> list[Suite]:
    with open(HERE / "suites.toml", "rb") as file:
        entries = tomllib.load(file)
    return [Suite(name=name, **entry) for name, entry in entries.items()]


def make_environment(suite: Suite) -> Environment:
    """Install the suite, what it needs and becket."""
    found = environments.look_around().environments
    chosen = next((e for e in found if e.version == PREFERRED), found[-1])
    environment = Environment(*chosen)
    environment.suite = suite.name
    pip = (environment.python, "-m", "pip", "install", "--quiet")
    wanted = [f"{suite.name}=={suite.version}", *PYTEST, *suite.requires]
    stamp = environment.root / "becket-stamp"
    content = json.dumps([str(environment.base), wanted])
    if not environments.is_current(stamp, content):
        environments.say(f"{suite.name}: making its environment")
        base, root = environment.base, environment.root
        environments.run(base, "-m", "venv", "--clear", root)
        environments.run(*pip, "--upgrade", "pip>=25.1")
        environments.run(*pip, "--group=build", *wanted)
        stamp.write_text(content)
    install_becket(environment)
    return environment


def install_becket(environment: Environment) -> None:
    """The same wheel for every suite, built once."""
    stamp = environment.root / "becket-installed"
    content = environments.fingerprint("src", "include", "python")
    if environments.is_current(stamp, content):
        return
    wheels = environments.BUILD / "frameworks" / "wheel"
    built = wheels / "becket-stamp"
    if not environments.is_current(built, content):
        environments.say("building becket's wheel")
        shutil.rmtree(wheels, ignore_errors=True)
        wheel = (environment.python, "-m", "pip", "wheel", "--quiet")
        options = (
            "--no-deps",
            "--no-build-isolation",
            f"--wheel-dir={wheels}",
        )
        environments.run(*wheel, *options, ".", env=environment.variables())
        built.write_text(content)
    (wheel_file,) = wheels.glob("*.whl")
    pip = (environment.python, "-m", "pip", "install", "--quiet")
    environments.run(*pip, "--no-deps", "--force-reinstall", wheel_file)
    stamp.write_text(content)


def download(suite: Suite, environment: Environment, folder: Path) -> None:
    """The source distribution, or what stands in for it."""
    if suite.source:
        with urllib.request.urlopen(suite.source, timeout=60) as answer:
            content = answer.read()
        if hashlib.sha256(content).hexdigest() != suite.source_sum:
            raise environments.CommandError(f"another sum: {suite.source}")
        (folder / suite.source.rpartition("/")[2]).write_bytes(content)
        return
    command = (environment.python, "-m", "pip", "download", "--quiet")
    options = (
        "--no-deps",
        f"--no-binary={suite.name}",
        f"--dest={folder}",
    )
    environments.run(*command, *options, f"{suite.name}=={suite.version}")


def unpack(suite: Suite, environment: Environment) -> Path:
    """The suite's tests, without its package; the folder to run them in."""
    folder = environments.BUILD / "frameworks" / suite.name
    source = folder / f"{suite.name}-{suite.version}"
    if not source.is_dir():
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        download(suite, environment, folder)
        (archive,) = folder.glob("*.tar.gz")
        with tarfile.open(archive) as tar:
            tar.extractall(folder, filter="data")
        (unpacked,) = (p for p in folder.iterdir() if p.is_dir())
        unpacked.rename(source)
    run = folder / "run"
    shutil.rmtree(run, ignore_errors=True)
    run.mkdir()
    for name in suite.keep:
        part = source / name
        copy = shutil.copytree if part.is_dir() else shutil.copy2
        copy(part, run / part.name)
    if not is_configured(run):  # pytest would take becket's
        (run / "pytest.ini").touch()
    return run


def is_configured(run: Path) -> bool:
    """Whether pytest finds its configuration there."""
    sections = {
        "pytest.ini": "",
        "pyproject.toml": "[tool.pytest",
        "setup.cfg": "[tool:pytest]",
    }
    return any(
        (run / name).is_file() and section in (run / name).read_text()
        for name, section in sections.items()
    )
