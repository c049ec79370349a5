# SPDX-License-Identifier: MIT
"""A CPython that can do without its interpreter lock: becket cannot."""

import sysconfig

import pytest

from support.procs import check, run_code

pytestmark = [
    pytest.mark.skipif(
        not sysconfig.get_config_var("Py_GIL_DISABLED"),
        reason="needs a free-threaded CPython",
    ),
    pytest.mark.becket_only("CPython's loop can do without"),
    pytest.mark.one_poller,
]

CODE = """
    import asyncio, sys

    import becket

    assert sys._is_gil_enabled()
    assert becket.run(asyncio.sleep(0, 5)) == 5
"""


def test_importing_turns_the_lock_on(backend):
    done = check(run_code(backend, CODE, PYTHON_GIL=""))
    assert "RuntimeWarning: The global interpreter lock" in done.stderr
    assert "becket._core" in done.stderr


def test_nothing_is_said_where_it_is_on(backend):
    assert check(run_code(backend, CODE, PYTHON_GIL="1")).stderr == ""


def test_refused_where_it_is_kept_off(backend):
    """Even at the user's own risk: it would crash."""
    done = check(run_code(backend, CODE, PYTHON_GIL="0"), 1)
    assert "ImportError: becket needs the interpreter lock" in done.stderr
