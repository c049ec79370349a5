# SPDX-License-Identifier: MIT
"""The loop under asyncio.run, asyncio.Runner and unittest."""

import asyncio
import contextvars
import io
import unittest
import warnings

import pytest

from support.leaks import join_all, spawn
from support.loops import PY312, PY313, loop_class, make_loop

row = pytest.mark.row


@pytest.fixture
def factory(backend):
    """A loop factory that remembers what it made."""

    def factory():
        factory.made.append(make_loop(backend))
        return factory.made[-1]

    factory.made = []
    return factory


@row("P2F-004", "P2F-006")
def test_runner(factory):
    order = []

    async def main():
        order.append(asyncio.get_running_loop())
        return "result"

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(main()) == "result"
        assert runner.run(main()) == "result"
        assert runner.get_loop() is factory.made[0]
    (loop,) = factory.made
    assert order == [loop, loop]
    assert loop.is_closed()


@row("P2F-003")
@pytest.mark.since(3, 12)
def test_run_with_a_loop_factory(factory):
    async def main():
        return asyncio.get_running_loop()

    assert asyncio.run(main(), loop_factory=factory) is factory.made[0]
    assert factory.made[0].is_closed()


@row("P2F-006")
def test_runner_ends_everything(factory):
    log = []

    async def background():
        try:
            await asyncio.sleep(100)
        finally:
            log.append("cancelled")

    async def numbers():
        try:
            yield 1
        finally:
            log.append("generator closed")

    async def main():
        asyncio.create_task(background())
        generator = numbers()
        kept.append(generator)
        await anext(generator)
        await asyncio.get_running_loop().run_in_executor(None, int)

    kept = []
    with asyncio.Runner(loop_factory=factory) as runner:
        runner.run(main())
    assert log == ["cancelled", "generator closed"]
    assert factory.made[0]._default_executor is None


@row("P2F-004")
def test_runner_context(factory):
    variable = contextvars.ContextVar("variable", default=0)

    async def main():
        variable.set(variable.get() + 1)
        return variable.get()

    with asyncio.Runner(loop_factory=factory) as runner:
        assert [runner.run(main()) for _ in range(3)] == [1, 2, 3]
        context = contextvars.copy_context()
        assert runner.run(main(), context=context) == 1
    assert variable.get() == 0


@row("P2F-020")
@pytest.mark.parametrize("debug", [None, True, False])
def test_runner_debug(factory, debug):
    async def main():
        return asyncio.get_running_loop().get_debug()

    with asyncio.Runner(debug=debug, loop_factory=factory) as runner:
        assert runner.run(main()) is bool(debug)


def test_exception_of_main(factory):
    async def main():
        raise ValueError("of main")

    with asyncio.Runner(loop_factory=factory) as runner:
        with pytest.raises(ValueError, match="of main"):
            runner.run(main())


@row("P2F-001", "P2F-002", "P2B-011", "P2G-005")
def test_running_loop_functions(factory):
    with pytest.raises(RuntimeError, match="no running event loop"):
        asyncio.get_running_loop()

    async def main():
        loop = asyncio.get_running_loop()
        assert asyncio.get_event_loop() is loop
        assert asyncio._get_running_loop() is loop
        return loop

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(main()) is factory.made[0]
    assert asyncio._get_running_loop() is None


@row("P1B-001", "P1B-002", "P1B-003", "P1B-026")
def test_set_event_loop(loop):
    asyncio.set_event_loop(loop)
    try:
        assert asyncio.get_event_loop() is loop
    finally:
        asyncio.set_event_loop(None)


@row("P2F-007")
@pytest.mark.since(3, 13)
def test_the_platforms_own_loop_is_left_alone(backend):
    async def main():
        return type(asyncio.get_running_loop())

    assert asyncio.EventLoop is asyncio.SelectorEventLoop
    with asyncio.Runner(loop_factory=asyncio.EventLoop) as runner:
        assert runner.run(main()) is asyncio.SelectorEventLoop


@row("P1B-025", "P2F-008")
@pytest.mark.before(3, 14)
def test_threads_without_a_loop(loop):
    caught = []

    def work():
        try:
            asyncio.get_event_loop()
        except RuntimeError as exc:
            caught.append(str(exc))
        asyncio.set_event_loop(loop)
        caught.append(asyncio.get_event_loop() is loop)
        asyncio.set_event_loop(None)

    join_all([spawn(work)])
    assert caught[0].startswith("There is no current event loop in thread")
    assert caught[1] is True


@row("P2F-022")
@pytest.mark.since(3, 13)
def test_isolated_asyncio_test_case(backend):
    kinds = []

    class Case(unittest.IsolatedAsyncioTestCase):
        loop_factory = staticmethod(lambda: make_loop(backend))

        async def asyncSetUp(self):
            self.value = await asyncio.sleep(0, 5)

        async def test_it(self):
            kinds.append(type(asyncio.get_running_loop()))
            self.assertEqual(self.value, 5)

    suite = unittest.defaultTestLoader.loadTestsFromTestCase(Case)
    result = unittest.TextTestRunner(io.StringIO()).run(suite)
    assert result.wasSuccessful(), result.failures + result.errors
    assert kinds == [type(make_and_close(backend))]
    assert PY313


def make_and_close(backend):
    loop = make_loop(backend)
    loop.close()
    return loop


@pytest.mark.since(3, 12)
def test_eager_tasks_under_a_runner(factory):
    assert PY312

    async def child():
        return 1

    async def main():
        asyncio.get_running_loop().set_task_factory(asyncio.eager_task_factory)
        task = asyncio.create_task(child())
        assert task.done()
        return await task

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(main()) == 1


def test_the_class_is_a_factory(backend):
    async def main():
        return type(asyncio.get_running_loop())

    kind = loop_class(backend)
    with asyncio.Runner(loop_factory=kind) as runner:
        assert runner.run(main()) is kind


def test_nested_run_is_refused(factory):
    async def main():
        coroutine = asyncio.sleep(0)
        with pytest.raises(
            RuntimeError,
            match=r"^asyncio\.run\(\) cannot be called from a running event",
        ):
            asyncio.run(coroutine)
        coroutine.close()
        return True

    with asyncio.Runner(loop_factory=factory) as runner:
        assert runner.run(main())


def test_no_warnings(factory):
    async def main():
        await asyncio.sleep(0)

    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with asyncio.Runner(loop_factory=factory) as runner:
            runner.run(main())
