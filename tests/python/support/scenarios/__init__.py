# SPDX-License-Identifier: MIT
"""Everything that asks the loop for a connection, as short stories.

A scenario is a function of a World: it prepares what the story needs, which
cannot fail, and returns the coroutine function that plays it. What it is
cancelled in, made to fail in, or robbed of its sockets in is the business of
trials.py. To extend the safety tests to a new method, add a scenario: in one
of the modules here, or in a new one that is imported below.
"""

from support.scenarios import (
    connect,
    datagrams,
    files,
    misuse,
    pipes,
    processes,
    serve,
    signals,
    sockets,
    streams,
    tls,
    transports,
    unix,
    watch,
)
from support.scenarios.registry import SCENARIOS, Scenario, chosen

MODULES = (
    connect,
    datagrams,
    files,
    misuse,
    pipes,
    processes,
    serve,
    signals,
    sockets,
    streams,
    tls,
    transports,
    unix,
    watch,
)
# The names that a test is parametrized with.
NAMES = tuple(module.__name__.rpartition(".")[2] for module in MODULES)

__all__ = [
    "MODULES",
    "NAMES",
    "SCENARIOS",
    "Scenario",
    "chosen",
    "connect",
    "datagrams",
    "files",
    "misuse",
    "pipes",
    "processes",
    "serve",
    "signals",
    "sockets",
    "streams",
    "tls",
    "transports",
    "unix",
    "watch",
]
