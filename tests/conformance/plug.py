# SPDX-License-Identifier: MIT
"""Puts another loop where CPython's tests look for theirs.

The tests reach a loop in three ways: they name a class
(asyncio.SelectorEventLoop, asyncio.EventLoop), they ask asyncio for a new
loop (which asks the default policy, as long as there are policies), or they
ask IsolatedAsyncioTestCase and asyncio.run, which ask asyncio. All of these
names are replaced in the process before a test module is imported; the test
classes then run unmodified.

Some tests catch what a loop logs by replacing asyncio.base_events.logger. The
logger itself is therefore led to whatever stands at that name.
"""

import asyncio
import importlib
from asyncio import base_events, events, unix_events
from asyncio.log import logger

import follow

LOG_METHODS = ("critical", "error", "exception", "warning", "info", "debug")


class Subject:
    """The loop under test, and how often a test has made one.

    The count proves that a test really ran on the subject: a plug that
    stopped working would otherwise show as a flawless run of CPython's loop.
    """

    def __init__(self, module_name):
        module = importlib.import_module(module_name)
        self.name = module_name
        self.version = getattr(module, "__version__", "")
        self.loop_class = module.SelectorEventLoop
        self.new_event_loop = module.new_event_loop
        self.policy_class = getattr(module, "EventLoopPolicy", None)
        self.loops_made = 0
        self._count_loops()

    def _count_loops(self):
        # Not __init__: new_event_loop() may construct without it.
        original = self.loop_class.__new__

        def counting_new(cls, *args, **kwargs):
            self.loops_made += 1
            if original is object.__new__:
                return original(cls)
            return original(cls, *args, **kwargs)

        self.loop_class.__new__ = counting_new


def install(subject):
    """Make every way to a new loop lead to the subject."""
    asyncio.SelectorEventLoop = subject.loop_class
    if hasattr(asyncio, "EventLoop"):
        asyncio.EventLoop = subject.loop_class
    if not _install_policy(subject):
        asyncio.new_event_loop = subject.new_event_loop
        events.new_event_loop = subject.new_event_loop
    for name in LOG_METHODS:
        setattr(logger, name, _follow_replaced_logger(name))
    if subject.name == "becket":
        follow.install()


def _install_policy(subject):
    """Replace the default policy's class, which asyncio instantiates anew
    after each set_event_loop_policy(None). False if there are no policies."""
    if subject.policy_class is None:
        return False
    if hasattr(unix_events, "_DefaultEventLoopPolicy"):
        unix_events._DefaultEventLoopPolicy = subject.policy_class
        return True
    if hasattr(unix_events, "DefaultEventLoopPolicy"):
        unix_events.DefaultEventLoopPolicy = subject.policy_class
        asyncio.DefaultEventLoopPolicy = subject.policy_class
        return True
    return False


def _follow_replaced_logger(name):
    original = getattr(logger, name)

    def method(*args, **kwargs):
        current = base_events.logger
        target = original if current is logger else getattr(current, name)
        return target(*args, **kwargs)

    return method
