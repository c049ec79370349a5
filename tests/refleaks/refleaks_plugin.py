# SPDX-License-Identifier: MIT
"""pytest -p refleaks_plugin: each test again and again, references counted."""

import logging

import counting
import pytest
from _pytest.runner import runtestprotocol

SECONDS_MAX = 600
# pytest keeps some of what these make (the second from CPython 3.15 on).
KEPT = {"tmp_path", "caplog"}


class Sibling:
    """Stands for another test of the same class or module: what is shared
    stays set up, and what is the test's own does not."""

    def __init__(self, item):
        self.chain = item.listchain()[:-1]

    def listchain(self):
        return self.chain


def run_once(item):
    """A test with its fixtures; what it said is thrown away."""
    item._initrequest()
    reports = runtestprotocol(item, nextitem=Sibling(item), log=False)
    return {report.outcome for report in reports}


class Leaks:
    @pytest.hookimpl(trylast=True)
    def pytest_collection_modifyitems(self, items):
        for item in items:
            # For all its rounds, under a slow interpreter.
            item.add_marker(pytest.mark.timeout(SECONDS_MAX), append=False)

    def __init__(self):
        self.found = []
        self.measured = 0

    @pytest.hookimpl(tryfirst=True)
    def pytest_runtest_protocol(self, item, nextitem):
        logging.disable(logging.CRITICAL)  # pytest keeps what is logged
        can_measure = KEPT.isdisjoint(item.fixturenames)
        if can_measure and run_once(item) == {"passed"}:
            self.measured += 1
            deltas = counting.measure(lambda: run_once(item))
            if deltas is not None:
                self.found.append((item.nodeid, deltas))
        logging.disable(logging.NOTSET)
        # The last one is told to pytest, and ends what is to end.
        item._initrequest()
        item.ihook.pytest_runtest_logstart(
            nodeid=item.nodeid, location=item.location
        )
        runtestprotocol(item, nextitem=nextitem)
        item.ihook.pytest_runtest_logfinish(
            nodeid=item.nodeid, location=item.location
        )
        return True

    def pytest_terminal_summary(self, terminalreporter):
        terminalreporter.section("references")
        for name, deltas in self.found:
            terminalreporter.line(f"LEAK {name}: {deltas}")
        terminalreporter.line(
            f"{self.measured - len(self.found)} passed,"
            f" {len(self.found)} failed"
        )

    def pytest_sessionfinish(self, session):
        if self.found and session.exitstatus == 0:
            session.exitstatus = 1


def pytest_configure(config):
    if not counting.is_debug_build():
        raise pytest.UsageError("references are counted by a debug build only")
    config.pluginmanager.register(Leaks(), "leaks")
