# SPDX-License-Identifier: MIT
"""Every system call made to fail in turn, with every errno that makes sense.

isolated/faults.py does it, in a process of its own: of each kind of call the
first ones here, more of them with --full, all by hand.
"""

import errno

import pytest

from support.faults import Core
from support.procs import TESTS, check, run_file
from support.scenarios import NAMES

row = pytest.mark.row

SCRIPT = TESTS / "isolated" / "faults.py"
# A process that starts closes one descriptor after the other.
CALLS = "2"
CALLS_IN_FULL = "32"


@pytest.fixture
def sweep(backend, request):
    """Run the script; it says where the failures arrived."""
    each = CALLS_IN_FULL if request.config.getoption("--full") else CALLS

    def sweep(*arguments):
        extent = ("--each", each)
        done = run_file(backend, SCRIPT, *arguments, *extent, limit=280)
        check(done)
        print(done.stdout)
        assert "nothing was left" in done.stdout

    return sweep


@pytest.mark.becket_only("CPython's loop leaves things behind")
@pytest.mark.parametrize("module", NAMES)
@pytest.mark.timeout(300)
def test_calls_of_the_loops_thread(sweep, module):
    """Through the C library: the interpreter's own calls too."""
    sweep("--only", module, "--through", "libc")


@pytest.mark.becket_only("becket's own wrappers fail")
@pytest.mark.parametrize("module", NAMES)
@pytest.mark.timeout(300)
def test_calls_of_the_core(sweep, core, module):
    """Through its own wrappers: memory, threads and lookups too."""
    if module == "tls":
        pytest.skip("not there yet: verdicts about the memory of TLS")
    sweep("--only", module, "--through", "core")


@pytest.fixture
def core():
    if not Core.is_built():
        pytest.skip("needs a build with fault injection, see CONTRIBUTING.md")
    return Core()


@pytest.mark.becket_only("becket's own wrappers fail")
@pytest.mark.parametrize("error", ["EAGAIN", "EPERM"])
async def test_no_thread_for_a_lookup(loop, core, error):
    """What CPython's executor raises then, not a BlockingIOError."""
    core.arm("thread_create", 1, getattr(errno, error), is_sticky=True)
    try:
        for lookup in (
            loop.getaddrinfo("localhost", 80),
            loop.getnameinfo(("127.0.0.1", 80)),
        ):
            with pytest.raises(RuntimeError, match="can't start new thread"):
                await lookup
    finally:
        assert core.disarm()
    assert await loop.getaddrinfo("localhost", 80)


@pytest.mark.parametrize("through", ["libc", "core"])
@pytest.mark.becket_only("CPython's loop leaves things behind")
def test_calls_of_a_loops_life(backend, through, request):
    """From making it to closing it."""
    if through == "core":
        request.getfixturevalue("core")
    script = TESTS / "isolated" / "fault_life.py"
    done = check(run_file(backend, script, "--through", through))
    assert "nothing was left" in done.stdout
