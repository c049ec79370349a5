# SPDX-License-Identifier: MIT
"""Every allocation of every call made to fail, in a process of its own."""

import ast
import sys

import pytest

from support.procs import TESTS, check, run_file

pytest.importorskip("_testcapi", reason="this Python has no _testcapi")

SCRIPT = TESTS / "isolated" / "nomemory.py"
SERVICES_SCRIPT = TESTS / "isolated" / "nomemory_services.py"
TLS_SCRIPT = TESTS / "isolated" / "nomemory_tls.py"


def scenarios(script):
    """The scenarios' names, without importing the script."""
    for node in ast.parse(script.read_text()).body:
        if isinstance(node, ast.Assign) and node.targets[0].id == "SCENARIOS":
            generators = node.value.generators
            return [name.id for name in generators[0].iter.elts]
    raise AssertionError("the script has no scenarios")


@pytest.mark.becket_only("CPython's loop hangs after some failures")
@pytest.mark.parametrize("name", scenarios(SCRIPT))
def test_failing_allocations(backend, name):
    if backend == "external":
        pytest.skip("the selector is Python code with failures of its own")
    done = check(run_file(backend, SCRIPT, name))
    assert done.stdout == "done\n"


@pytest.mark.becket_only("CPython's loop hangs after some failures")
@pytest.mark.one_poller
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", scenarios(SERVICES_SCRIPT))
def test_failing_allocations_of_services(backend, name):
    if sys.version_info >= (3, 12) and name != "signals":
        pytest.skip("this interpreter crashes by itself in Python code")
    done = check(run_file(backend, SERVICES_SCRIPT, name, limit=170))
    assert done.stdout == "done\n"


@pytest.mark.becket_only("CPython's loop hangs after some failures")
@pytest.mark.one_poller
@pytest.mark.timeout(180)
@pytest.mark.parametrize("name", scenarios(TLS_SCRIPT))
def test_failing_allocations_of_tls(backend, engine, name):
    done = check(run_file(backend, TLS_SCRIPT, name, limit=170))
    assert done.stdout == "done\n"
