# SPDX-License-Identifier: MIT
"""Fixtures of the Python tests.

Every test that asks for ``loop``, ``new_loop`` or ``backend`` runs once per
poller of becket; with ``--oracle`` the same tests run once, on CPython's own
loop, which proves each expectation on the reference itself.
"""

import asyncio
import gc
import inspect
import os
import sys
import sysconfig

import pytest

from support.leaks import leaked_fds, open_fds
from support.loops import BACKENDS, ORACLE, make_loop
from support.tls import use_engine

TEST_LIMIT = 30
COROUTINE_LIMIT = 15

MARKERS = (
    "row(*ids): the rows of the behaviour table that a test covers",
    "becket_only(reason): not run with --oracle, because becket differs from"
    " CPython there on purpose or has the feature alone",
    "oracle_skip(reason, when=True): not run with --oracle where CPython"
    " itself is at fault",
    "one_poller: the poller cannot matter, run on epoll only",
    "since(major, minor): needs this Python at least",
    "before(major, minor): only for Pythons older than this",
)


def pytest_addoption(parser):
    group = parser.getgroup("becket")
    group.addoption(
        "--oracle",
        action="store_true",
        help="run the tests on CPython's own event loop",
    )
    group.addoption(
        "--full",
        action="store_true",
        help="also what takes minutes: every system call, every point",
    )
    group.addoption(
        "--poller",
        action="append",
        choices=BACKENDS,
        help="only this poller (may be given more than once)",
    )


def pytest_configure(config):
    if sysconfig.get_config_var("Py_GIL_DISABLED"):
        # Of the processes that tests start; importing becket turns the lock
        # on here, with a warning.
        os.environ.setdefault("PYTHON_GIL", "1")
    for marker in MARKERS:
        config.addinivalue_line("markers", marker)
    for line in (
        "error::ResourceWarning",
        "error::RuntimeWarning",
        "error::pytest.PytestUnraisableExceptionWarning",
        "error::pytest.PytestUnhandledThreadExceptionWarning",
    ):
        config.addinivalue_line("filterwarnings", line)
    if not config.getoption("--oracle"):
        try:
            import becket  # noqa: F401
        except ImportError as exc:
            raise pytest.UsageError(
                f"becket cannot be imported ({exc}); build and install it,"
                " or run with --oracle"
            ) from exc


def pytest_generate_tests(metafunc):
    if "backend" not in metafunc.fixturenames:
        return
    config = metafunc.config
    if config.getoption("--oracle"):
        backends = (ORACLE,)
    elif metafunc.definition.get_closest_marker("one_poller"):
        backends = BACKENDS[:1]
    else:
        backends = tuple(config.getoption("--poller") or BACKENDS)
    metafunc.parametrize("backend", backends, scope="function")


def pytest_collection_modifyitems(config, items):
    oracle = config.getoption("--oracle")
    for item in items:
        if item.get_closest_marker("timeout") is None:
            item.add_marker(pytest.mark.timeout(TEST_LIMIT))
        reason = skip_reason(item, oracle)
        if reason is not None:
            item.add_marker(pytest.mark.skip(reason=reason))


def skip_reason(item, oracle):
    since = item.get_closest_marker("since")
    if since is not None and sys.version_info < since.args:
        return "needs Python " + ".".join(map(str, since.args))
    before = item.get_closest_marker("before")
    if before is not None and sys.version_info >= before.args:
        return "only before Python " + ".".join(map(str, before.args))
    if not oracle:
        return None
    only = item.get_closest_marker("becket_only")
    if only is not None:
        return "becket only: " + only.args[0]
    fault = item.get_closest_marker("oracle_skip")
    if fault is not None and fault.kwargs.get("when", True):
        return "CPython: " + fault.args[0]
    return None


def pytest_collection_finish(session):
    # What is loaded by now stays: the collections after each test need not
    # walk it again.
    gc.collect()
    gc.freeze()


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem):
    """Run ``async def test_x(loop, ...)`` on its loop, bounded in time."""
    function = pyfuncitem.obj
    if not inspect.iscoroutinefunction(function):
        return None
    names = pyfuncitem._fixtureinfo.argnames
    arguments = {name: pyfuncitem.funcargs[name] for name in names}
    loop = pyfuncitem.funcargs["loop"]
    run(loop, function(**arguments))
    return True


def run(loop, coroutine, limit=COROUTINE_LIMIT):
    async def bounded():
        return await asyncio.wait_for(coroutine, limit)

    return loop.run_until_complete(bounded())


@pytest.fixture(autouse=True)
def no_leaked_fds():
    before = open_fds()
    yield
    leaked = leaked_fds(before)
    assert not leaked, f"left open: {leaked}"


@pytest.fixture
def errors(no_leaked_fds):
    """What the loops' exception handlers were told.

    A test that expects something takes it out; anything left is a failure.
    """
    found = []
    yield found
    gc.collect()
    assert not found, f"the exception handler was called: {found}"


@pytest.fixture
def new_loop(backend, errors):
    """A function that makes loops; all of them are closed after the test."""
    loops = []

    def make():
        loop = make_loop(backend)
        loop.set_exception_handler(lambda _, context: errors.append(context))
        loops.append(loop)
        return loop

    yield make
    for loop in loops:
        finish_loop(loop)


def finish_loop(loop):
    if loop.is_closed():
        return
    try:
        if loop._default_executor is not None:
            run(loop, loop.shutdown_default_executor())
        # What was closed in the last turn is torn down in the next ones.
        for _ in range(3):
            loop.call_soon(loop.stop)
            loop.run_forever()
        pending = [repr(task) for task in asyncio.all_tasks(loop)]
        assert not pending, f"tasks left behind: {pending}"
    finally:
        loop.close()


@pytest.fixture
def loop(new_loop):
    return new_loop()


@pytest.fixture(params=["openssl", "sslobject"])
def engine(request, monkeypatch):
    """A test of TLS, once with each engine; CPython has only one."""
    use_engine(request.config, monkeypatch, request.param)
    return request.param


@pytest.fixture
def run_main(loop):
    """Run a coroutine on the test's loop, bounded in time."""
    return lambda coroutine: run(loop, coroutine)
