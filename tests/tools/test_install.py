# SPDX-License-Identifier: MIT
"""The C library as a C programmer gets it: installed, without any Python."""

import re
import subprocess
from pathlib import Path

import pytest

TOP = Path(__file__).parents[2]
EXAMPLES = sorted(
    path
    for path in (TOP / "examples" / "c").glob("*.c")
    if re.search(r"^main\(", path.read_text(), re.MULTILINE)
)
BESIDE = {"choose_poller": ["own_poller.c"]}
ALSO_LINKED = {"tls_echo": ["-lssl", "-lcrypto"]}
STRICT = ["-Wall", "-Wextra", "-Werror"]
# A whole build may be under way.
pytestmark = pytest.mark.timeout(300)


def can_build(path):
    """tls_echo needs OpenSSL, also in the library."""
    command = ["cc", "-E", "-include", "openssl/ssl.h", "-x", "c", "/dev/null"]
    return (
        path.stem != "tls_echo"
        or subprocess.run(command, capture_output=True).returncode == 0
    )


def test_builds_and_tests_without_python_headers(installed):
    """Nothing of Python is read, and the examples are tested."""
    headers = installed.run("ninja", "-C", installed.build, "-t", "deps")
    assert "becket/loop.h" in headers
    assert "Python.h" not in headers
    results = installed.run(
        "meson", "test", "-C", installed.build, "--no-rebuild"
    )
    ran = re.findall(r"example (\w+) +(?:OK|SKIP)", results)
    assert sorted(ran) == [path.stem for path in EXAMPLES if can_build(path)]
    assert "Fail:              0" in results


def test_every_header_is_installed(installed):
    folder = installed.prefix / "include" / "becket"
    theirs = {path.name: path.read_text() for path in folder.iterdir()}
    ours = (TOP / "include" / "becket").glob("*.h")
    assert theirs == {path.name: path.read_text() for path in ours}


def test_every_header_is_in_the_umbrella():
    text = (TOP / "include" / "becket" / "becket.h").read_text()
    named = re.findall(r'#include "becket/(\w+\.h)"', text)
    there = {path.name for path in (TOP / "include" / "becket").iterdir()}
    assert set(named) == there - {"becket.h"}


def test_pkg_config(installed):
    version = re.search(
        r"^    version: '(.*)',$",
        (TOP / "meson.build").read_text(),
        re.MULTILINE,
    )[1]
    assert installed.flags("--modversion") == [version]
    assert installed.flags("--cflags") == [f"-I{installed.prefix}/include"]
    assert installed.flags("--libs") == [
        f"-L{installed.prefix}/lib",
        "-lbecket",
    ]
    assert "-pthread" in installed.flags("--static", "--libs")


def test_installs_nothing_else(installed):
    names = {
        path.name
        for path in installed.prefix.rglob("*")
        if path.suffix != ".h" and not path.is_dir()
    }
    # Link, soname and file: the version is checked above.
    assert {re.sub(r"\.\d.*", "", name) for name in names} == {
        "becket.pc",
        "libbecket.a",
        "libbecket.so",
    }


@pytest.mark.parametrize("path", EXAMPLES, ids=lambda path: path.stem)
def test_example(installed, tmp_path, path):
    """Short, and compiled by one line against what is installed."""
    if not can_build(path):
        pytest.skip("OpenSSL is not installed")
    sources = [path, *(path.parent / n for n in BESIDE.get(path.stem, []))]
    for source in sources:
        assert len(source.read_text().splitlines()) < 100, source
    flags = installed.flags("--cflags", "--libs")
    flags += ALSO_LINKED.get(path.stem, [])
    program = tmp_path / path.stem
    installed.run("cc", *STRICT, "-o", program, *sources, *flags)
    if path.stem == "hello_world":
        assert installed.run(program) == "Hello World\n"


@pytest.mark.parametrize("name", ["hello_world", "echo_server", "tls_echo"])
def test_static_library(installed, tmp_path, name):
    """What libbecket.a needs is in becket.pc: also OpenSSL, where it is."""
    program = tmp_path / name
    source = TOP / "examples" / "c" / f"{name}.c"
    if not can_build(source):
        pytest.skip("OpenSSL is not installed")
    flags = installed.flags("--static", "--cflags", "--libs")
    flags[flags.index("-lbecket")] = "-l:libbecket.a"
    installed.run("cc", *STRICT, "-o", program, source, *flags)
    listing = subprocess.run(
        ["ldd", program], stdout=subprocess.PIPE, text=True, check=True
    ).stdout
    assert "libbecket" not in listing
    if name == "hello_world":
        assert installed.run(program) == "Hello World\n"
