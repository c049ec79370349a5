# SPDX-License-Identifier: MIT
"""Where a test file makes its loop by itself: lets it make the subject's.

Each adapter is called with the imported test module and the subject, and
changes how the module's tests get their loop, not what they assert.
"""

import asyncio
import functools
import sys
from unittest import mock

# More turns than any chain of callbacks in those tests is long.
TURNS_OF_GATHER_TESTS = 20


def test_loop(module, subject):
    """Give a real loop to the tests that ask for CPython's TestLoop, unless
    they bring a generator that plays the clock: only TestLoop has that."""
    test_case = module.test_utils.TestCase
    original = test_case.new_test_loop

    def new_test_loop(self, gen=None):
        if gen is not None:
            return original(self, gen)
        loop = subject.new_event_loop()
        if not hasattr(loop, "_run_once"):
            # One test runs a turn with it, and then asserts (in vain, here)
            # that nothing is left in the queue.
            loop._run_once = functools.partial(
                module.test_utils.run_once, loop
            )
            loop._ready = ()
        self.set_event_loop(loop)
        return loop

    def run_loop(self, loop):
        for _ in range(TURNS_OF_GATHER_TESTS):
            module.test_utils.run_briefly(loop)

    test_case.new_test_loop = new_test_loop
    if hasattr(module, "GatherTestsBase"):
        # The original runs turns for as long as BaseEventLoop._ready is full.
        module.GatherTestsBase._run_loop = run_loop
    if hasattr(module, "CoroutineGatherTests"):
        _patch_the_subject(module.CoroutineGatherTests, subject)


def _patch_the_subject(test_case, subject):
    """Lets the test that replaces a method of BaseEventLoop replace it in the
    loop's own class."""
    original = test_case.test_issue46672

    def test_issue46672(self):
        with mock.patch.object(
            asyncio.base_events, "BaseEventLoop", subject.loop_class
        ):
            original(self)

    test_case.test_issue46672 = test_issue46672


def runners(module, subject):
    """Replace the BaseEventLoop over a mock selector with a real loop. The
    mark that tearDown checks is set the way the original sets it."""

    def new_loop(self):
        loop = subject.new_event_loop()
        loop.shutdown_ag_run = False

        async def shutdown_asyncgens():
            loop.shutdown_ag_run = True

        loop.shutdown_asyncgens = shutdown_asyncgens
        return loop

    module.BaseTest.new_loop = new_loop
    if subject.name == "becket":
        # Where the tests say what the default of debug mode is.
        loops = sys.modules["becket.loops"]
        loops.default_debug = lambda: asyncio.coroutines._is_debug_mode()


def pep492(module, subject):
    """Replace the BaseEventLoop over a mock selector with a real loop."""

    def setUp(self):
        super(module.BaseTest, self).setUp()
        self.loop = subject.new_event_loop()
        self.set_event_loop(self.loop)

    module.BaseTest.setUp = setUp


# The tests of BaseEventLoopTests that only use documented behaviour. The
# others look at _ready, _scheduled, _run_once or the mock selector.
BASE_EVENT_LOOP_BLACK_BOX = frozenset(
    {
        "test_asyncgen_finalization_by_gc",
        "test_asyncgen_finalization_by_gc_in_other_thread",
        "test_call_later_negative_delays",
        "test_call_soon_non_callable",
        "test_check_thread",
        "test_close",
        "test_create_named_task_with_custom_factory",
        "test_create_named_task_with_default_factory",
        "test_create_task",
        "test_create_task_error_closes_coro",
        "test_default_exc_handler_broken",
        "test_default_exc_handler_callback",
        "test_default_exc_handler_coro",
        "test_run_forever_keyboard_interrupt",
        "test_run_once",
        "test_run_until_complete_baseexception",
        "test_run_until_complete_loop",
        "test_run_until_complete_loop_orphan_future_close_loop",
        "test_run_until_complete_type_error",
        "test_set_debug",
        "test_set_default_executor",
        "test_set_default_executor_error",
        "test_set_exc_handler_broken",
        "test_set_exc_handler_custom",
        "test_set_exc_handler_invalid",
        "test_set_task_factory",
        "test_set_task_factory_invalid",
        "test_shutdown_default_executor_timeout",
        "test_subprocess_exec_invalid_args",
        "test_subprocess_shell_invalid_args",
        "test_time_and_call_at",
    }
)


def base_events(module, subject):
    """Add a class with the black-box tests of BaseEventLoopTests, which all
    run on a BaseEventLoop over a mock selector, on a real loop."""
    original = module.BaseEventLoopTests
    override = _Override(
        module.base_events,
        BaseEventLoop=_loop_with_run_once(subject, module),
    )

    def setUp(self):
        super(original, self).setUp()
        patch = mock.patch.object(module, "base_events", override)
        patch.start()
        self.addCleanup(patch.stop)
        self.loop = module.base_events.BaseEventLoop()
        self.set_event_loop(self.loop)

    body = {"__module__": module.__name__, "setUp": setUp}
    for name in dir(original):
        if name.startswith("test") and name not in BASE_EVENT_LOOP_BLACK_BOX:
            body[name] = None
    module.BlackBoxTests = type("BlackBoxTests", (original,), body)


def _loop_with_run_once(subject, module):
    """The subject's class; with CPython's _run_once made of documented calls
    if it has none, since some tests run a single turn that way."""
    body = {}
    if not hasattr(subject.loop_class, "_run_once"):
        body["_run_once"] = lambda self: module.test_utils.run_once(self)
    return type("RealLoop", (subject.loop_class,), body)


class _Override:
    """A module with some of its names replaced."""

    def __init__(self, module, **names):
        self.__dict__.update(names)
        self.__module = module

    def __getattr__(self, name):
        return getattr(self.__module, name)
