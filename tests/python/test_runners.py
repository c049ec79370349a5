# SPDX-License-Identifier: MIT
"""The loop under asyncio.run, asyncio.Runner and unittest."""

import asyncio
import contextvars
import io
import unittest
import warnings

import pytest

from support.leaks import join_all, spawn
from support.loops import PY312, PY313, PY314, loop_class, make_loop
from support.procs import check, run_code

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


@row("P2F-003")
@pytest.mark.since(3, 12)
@pytest.mark.parametrize("wrong", [None, 5, "main()"])
def test_run_of_something_else(factory, wrong):
    if PY314:
        kind, text = TypeError, "^An asyncio.Future, a coroutine or an await"
    else:
        kind, text = ValueError, "^a coroutine was expected, got "
    with pytest.raises(kind, match=text):
        asyncio.run(wrong, loop_factory=factory)
    assert all(loop.is_closed() for loop in factory.made)


@row("P2F-004")
@pytest.mark.before(3, 16)
def test_a_runner_with_a_factory_does_not_set_the_loop(factory):
    def work():
        async def main():
            return asyncio.get_event_loop()

        with asyncio.Runner(loop_factory=factory) as runner:
            assert runner.run(main()) is factory.made[0]
            with pytest.raises(RuntimeError, match="no current event loop"):
                asyncio.get_event_loop_policy().get_event_loop()
        done.append(True)

    done = []
    join_all([spawn(work)])
    assert done == [True]


@row("P2F-006")
def test_order_and_arguments_of_the_end(backend):
    calls = []

    class Noting(loop_class(backend)):
        async def shutdown_asyncgens(self):
            calls.append("generators")
            await super().shutdown_asyncgens()

        async def shutdown_default_executor(self, *args):
            calls.append(("executor", *args))
            await super().shutdown_default_executor(*args)

        def close(self):
            calls.append("close")
            super().close()

    async def background():
        try:
            await asyncio.sleep(100)
        finally:
            calls.append("tasks")

    async def main():
        asyncio.create_task(background())
        await asyncio.sleep(0)

    with asyncio.Runner(loop_factory=Noting) as runner:
        runner.run(main())
    executor = ("executor", 300) if PY312 else ("executor",)
    assert calls == ["tasks", "generators", executor, "close"]


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


@row("P1B-003", "P1B-026")
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


@row("P2F-020")
@pytest.mark.one_poller
@pytest.mark.parametrize("debug", [None, True, False])
def test_runner_debug_with_the_variable(backend, debug):
    code = f"""
        import asyncio
        from support.loops import loop_from_environment

        async def main():
            return asyncio.get_running_loop().get_debug()

        with asyncio.Runner(
            debug={debug}, loop_factory=loop_from_environment
        ) as runner:
            print(runner.run(main()))
    """
    done = check(run_code(backend, code, PYTHONASYNCIODEBUG="1"))
    assert done.stdout.strip() == str(debug is not False)


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
