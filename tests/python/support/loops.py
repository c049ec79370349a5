# SPDX-License-Identifier: MIT
"""How the tests make loops: one name per poller, and CPython's own loop.

The name travels to subprocesses in an environment variable, so that a script
run by a test uses the same kind of loop as the test itself.
"""

import asyncio
import os
import selectors
import sys

BACKENDS = ("epoll", "poll", "external")
ORACLE = "oracle"
VARIABLE = "BECKET_TEST_LOOP"

PY312 = sys.version_info >= (3, 12)
PY313 = sys.version_info >= (3, 13)
PY314 = sys.version_info >= (3, 14)


def make_loop(backend):
    """Return a new loop of the named kind."""
    if backend == ORACLE:
        return asyncio.SelectorEventLoop()
    import becket

    if backend == "epoll":
        return becket.SelectorEventLoop()
    if backend == "poll":
        return make_poll_loop(becket)
    if backend == "external":
        return becket.SelectorEventLoop(selectors.SelectSelector())
    raise ValueError(f"unknown kind of loop: {backend!r}")


def make_poll_loop(becket):
    """Ask for the poll backend the way a user does: by the variable."""
    before = os.environ.get("BECKET_BACKEND")
    os.environ["BECKET_BACKEND"] = "poll"
    try:
        return becket.new_event_loop()
    finally:
        if before is None:
            del os.environ["BECKET_BACKEND"]
        else:
            os.environ["BECKET_BACKEND"] = before


def loop_from_environment():
    """The loop that the test which started this process asked for."""
    return make_loop(os.environ[VARIABLE])


def loop_class(backend):
    """The class of the loops that make_loop() returns."""
    if backend == ORACLE:
        return asyncio.SelectorEventLoop
    import becket

    return becket.SelectorEventLoop


def turn(loop):
    """Run exactly one turn of a loop that is not running."""
    loop.call_soon(loop.stop)
    loop.run_forever()


def turns(loop, count):
    for _ in range(count):
        turn(loop)
