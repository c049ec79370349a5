# SPDX-License-Identifier: MIT
"""A pytest plugin: the suite's loops come from becket, or from CPython.

    BECKET_LOOP=becket|asyncio BECKET_RESULTS=FILE pytest -p on_loop ...

It writes each test's outcome, and how many loops of either kind were made,
so that a suite that never got becket is not taken for one that passes.
"""

import asyncio
import asyncio.base_events
import importlib.util
import json
import os
import platform
import time
from collections import Counter
from pathlib import Path

CHOICE = os.environ["BECKET_LOOP"]
RESULTS = Path(os.environ["BECKET_RESULTS"])

# Where asyncio's functions that block a moment are becket's.
MAY_BLOCK = {
    "becket/sendfile.py": {"_sendfile_once"},
    "becket/subprocesses.py": {"_start"},
    "becket/unix.py": {"create_unix_server", "_remove_file"},
}

loops: Counter[str] = Counter()
outcomes: dict[str, str] = {}
begin = time.monotonic()


def count(cls, method, name):
    """Count the loops made: each calls this method of the class once."""
    make = getattr(cls, method)

    def make_and_count(self, *args, **kwargs):
        loops[name] += 1
        return make(self, *args, **kwargs)

    setattr(cls, method, make_and_count)


def use_becket():
    """What asyncio offers for making a loop makes one of becket's."""
    import becket

    count(becket.SelectorEventLoop, "_set_up", "becket")
    asyncio.SelectorEventLoop = becket.SelectorEventLoop
    asyncio.EventLoop = becket.SelectorEventLoop
    asyncio.DefaultEventLoopPolicy = becket.EventLoopPolicy
    becket.install()


def tell_blockbuster():
    """It finds calls that block a loop. Where asyncio itself starts processes
    and removes socket files it allows them, by the names of its files; here
    becket does the same."""
    from blockbuster import BlockBuster

    make = BlockBuster.__init__

    def make_and_tell(self, *args, **kwargs):
        make(self, *args, **kwargs)
        for function in self.functions.values():
            allowed = function.can_block_functions
            if any(file.startswith("asyncio/") for file, _ in allowed):
                allowed += MAY_BLOCK.items()

    BlockBuster.__init__ = make_and_tell


count(asyncio.base_events.BaseEventLoop, "__init__", "asyncio")
if CHOICE == "becket":
    use_becket()
    if importlib.util.find_spec("blockbuster"):
        tell_blockbuster()


def pytest_runtest_logreport(report):
    """The worst of a test's three phases is its outcome."""
    if report.when == "call" or report.outcome != "passed":
        known = outcomes.get(report.nodeid)
        if known in (None, "passed"):
            outcomes[report.nodeid] = report.outcome


def pytest_collectreport(report):
    if report.failed:
        outcomes[f"{report.nodeid} (collection)"] = "failed"


def pytest_sessionfinish(session):
    result = {
        "outcomes": outcomes,
        "loops": dict(loops),
        "python": platform.python_version(),
        "seconds": round(time.monotonic() - begin, 1),
    }
    RESULTS.write_text(json.dumps(result))
