# SPDX-License-Identifier: MIT
"""Which files of test.test_asyncio run, and how each takes another loop.

Not here: test_selector_events, test_proactor_events, test_windows_*,
test_transports and test_protocols. They test CPython's own classes with mock
sockets; no other loop can take part.
"""

import importlib
import os
import selectors
import unittest
from collections.abc import Callable
from dataclasses import dataclass
from unittest import mock

import adapters


@dataclass(frozen=True)
class Variant:
    """One way to make the loop, for the tests with create_event_loop()."""

    name: str
    make: Callable
    backend: str  # what loop.backend must say, so that no variant is in vain


def _own_poller(subject):
    with mock.patch.dict(os.environ, BECKET_BACKEND="poll"):
        return subject.new_event_loop()


VARIANTS = (
    Variant("Default", lambda s: s.loop_class(), "epoll"),
    Variant(
        "EpollSelector",
        lambda s: s.loop_class(selectors.EpollSelector()),
        "epoll",
    ),
    Variant(
        "PollSelector",
        lambda s: s.loop_class(selectors.PollSelector()),
        "external",
    ),
    Variant(
        "SelectSelector",
        lambda s: s.loop_class(selectors.SelectSelector()),
        "external",
    ),
    Variant("BackendPoll", _own_poller, "poll"),
)


@dataclass(frozen=True)
class TestFile:
    name: str
    # The mixins that make a loop with create_event_loop(): the file's classes
    # derived from the first give way to one class per variant.
    mixins: tuple = ()
    split: bool = False  # one process per class instead of one per file
    adapt: Callable | None = None  # one of adapters.py

    @property
    def module_name(self):
        return f"test.test_asyncio.{self.name}"


# The long ones first: with two processes the short ones fill the gaps.
FILES = (
    TestFile("test_tasks", split=True, adapt=adapters.test_loop),
    TestFile("test_subprocess", split=True),
    TestFile("test_ssl"),
    TestFile(
        "test_events",
        mixins=("EventLoopTestsMixin", "SubprocessTestsMixin"),
        split=True,
    ),
    TestFile("test_taskgroups"),
    TestFile("test_sslproto"),
    TestFile("test_sock_lowlevel", mixins=("BaseSockTestsMixin",), split=True),
    TestFile("test_sendfile", mixins=("SendfileTestsBase",), split=True),
    TestFile("test_base_events", adapt=adapters.base_events),
    TestFile("test_waitfor"),
    TestFile("test_streams"),
    TestFile("test_eager_task_factory"),
    TestFile("test_locks"),
    TestFile("test_futures", adapt=adapters.test_loop),
    TestFile("test_unix_events"),
    TestFile("test_server"),
    TestFile("test_server_context"),
    TestFile("test_buffered_proto"),
    TestFile("test_context"),
    TestFile("test_runners", adapt=adapters.runners),
    TestFile("test_queues"),
    TestFile("test_timeouts"),
    TestFile("test_threads"),
    TestFile("test_staggered"),
    TestFile("test_pep492", adapt=adapters.pep492),
    TestFile("test_futures2"),
)

BY_NAME = {file.name: file for file in FILES}


def load(file, subject):
    """Import the file and return its test classes, ready for the subject.

    Raises unittest.SkipTest where CPython skips the whole file, and
    ModuleNotFoundError where this Python has no such file.
    """
    module = importlib.import_module(file.module_name)
    if file.adapt is not None:
        file.adapt(module, subject)
    classes = [
        value
        for value in vars(module).values()
        if isinstance(value, type)
        and issubclass(value, unittest.TestCase)
        and value.__module__ == module.__name__
    ]
    if file.mixins:
        mixin = getattr(module, file.mixins[0])
        classes = [cls for cls in classes if not issubclass(cls, mixin)]
        variants = [_class_of(v, file, module, subject) for v in VARIANTS]
        classes = variants + classes
    return classes


def _class_of(variant, file, module, subject):
    bases = tuple(getattr(module, name) for name in file.mixins)
    bases += (module.test_utils.TestCase,)

    def create_event_loop(self):
        loop = variant.make(subject)
        backend = getattr(loop, "backend", variant.backend)
        self.assertEqual(backend, variant.backend)
        return loop

    body = {
        "__module__": module.__name__,
        "create_event_loop": create_event_loop,
    }
    return type(variant.name, bases, body)


def tests_of(cls):
    """The names of a class's test methods, sorted as unittest sorts them."""
    return unittest.defaultTestLoader.getTestCaseNames(cls)
