# SPDX-License-Identifier: MIT
"""run_in_executor, the default executor and its shutdown."""

import asyncio
import concurrent.futures
import functools
import threading
import warnings

import pytest

from support.loops import PY313, turn
from support.net import LIMIT, connected
from support.procs import check, run_code

row = pytest.mark.row


def identity(*args, **kwargs):
    return args, kwargs


@row("P1A-004", "P1A-196", "P1A-197", "P1A-199", "P4C-005")
async def test_default_executor(loop):
    me = threading.get_ident()

    def work(value):
        return value, threading.get_ident(), threading.current_thread().name

    value, ident, name = await loop.run_in_executor(None, work, 5)
    assert value == 5
    assert ident != me
    assert name.startswith("asyncio_")
    executor = loop._default_executor
    assert isinstance(executor, concurrent.futures.ThreadPoolExecutor)
    await loop.run_in_executor(None, identity)
    assert loop._default_executor is executor


@row("P1A-201")
def test_run_in_executor_returns_a_future(loop):
    future = loop.run_in_executor(None, identity, 1)
    assert asyncio.isfuture(future)
    assert not asyncio.iscoroutine(future)
    assert future.get_loop() is loop
    assert loop.run_until_complete(future) == ((1,), {})


@row("P1A-198")
async def test_given_executor(loop):
    with concurrent.futures.ThreadPoolExecutor(
        1, thread_name_prefix="mine"
    ) as executor:
        name = await loop.run_in_executor(
            executor, lambda: threading.current_thread().name
        )
    assert name.startswith("mine")
    assert loop._default_executor is None


@row("P1A-198")
@pytest.mark.one_poller
def test_process_pool(backend):
    code = """
        import asyncio, concurrent.futures, multiprocessing, os
        from support.loops import loop_from_environment

        async def main(loop):
            context = multiprocessing.get_context("spawn")
            with concurrent.futures.ProcessPoolExecutor(
                1, mp_context=context
            ) as pool:
                pid = await loop.run_in_executor(pool, os.getpid)
                assert pid != os.getpid()

        if __name__ == "__main__":
            loop = loop_from_environment()
            loop.run_until_complete(main(loop))
            loop.close()
    """
    check(run_code(backend, code))


@row("P1A-200")
async def test_partial_for_keywords(loop):
    call = functools.partial(identity, 1, key=2)
    found = await loop.run_in_executor(None, call, 3)
    assert found == ((1, 3), {"key": 2})


@row("P1A-197")
async def test_exceptions_arrive(loop):
    def fail():
        raise ZeroDivisionError("in the executor")

    with pytest.raises(ZeroDivisionError, match="in the executor"):
        await loop.run_in_executor(None, fail)


async def test_finds_what_transports_wrote_before(loop):
    """Even while the callback that wrote goes on."""
    async with connected(loop, asyncio.Protocol) as (transport, _, peer):
        has_looked = threading.Event()

        def look():
            try:
                return peer.recv(100)
            finally:
                has_looked.set()

        peer.setblocking(False)
        transport.write(b"just now")
        future = loop.run_in_executor(None, look)
        assert has_looked.wait(LIMIT)
        assert await future == b"just now"


@row("P1A-202")
async def test_default_number_of_workers(loop):
    await loop.run_in_executor(None, identity)
    reference = concurrent.futures.ThreadPoolExecutor()
    assert loop._default_executor._max_workers == reference._max_workers
    reference.shutdown()


@row("P1A-203", "P2A-036")
async def test_set_default_executor(loop):
    submitted = []

    class Mine(concurrent.futures.ThreadPoolExecutor):
        def submit(self, *args, **kwargs):
            submitted.append(args)
            return super().submit(*args, **kwargs)

    executor = Mine(1)
    assert loop.set_default_executor(executor) is None
    assert loop._default_executor is executor
    await loop.run_in_executor(None, identity, 7)
    assert submitted == [(identity, 7)]


@row("P1A-203", "P2A-036")
@pytest.mark.parametrize("wrong", [None, 1, object()])
def test_set_default_executor_of_a_wrong_type(loop, wrong):
    with pytest.raises(
        TypeError, match="^executor must be ThreadPoolExecutor instance$"
    ):
        loop.set_default_executor(wrong)


@row("P2A-039", "P4C-006")
def test_after_shutdown_default_executor(loop):
    loop.run_until_complete(loop.run_in_executor(None, identity))
    loop.run_until_complete(loop.shutdown_default_executor())
    with pytest.raises(
        RuntimeError, match="^Executor shutdown has been called$"
    ):
        loop.run_in_executor(None, identity)


@row("P4C-006")
def test_other_executors_still_work_after_the_shutdown(loop):
    loop.run_until_complete(loop.shutdown_default_executor())
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        future = loop.run_in_executor(executor, identity, 1)
        assert loop.run_until_complete(future) == ((1,), {})


@row("P4C-007")
def test_shutdown_without_an_executor(loop):
    loop.run_until_complete(loop.shutdown_default_executor())
    assert loop._default_executor is None
    with pytest.raises(RuntimeError, match="^Executor shutdown has been"):
        loop.run_in_executor(None, identity)


@row("P2A-039")
def test_shutdown_waits_for_the_work(loop):
    done = []
    go = threading.Event()

    def work():
        go.wait(10)
        done.append(1)

    loop.run_in_executor(None, work)
    loop.call_later(0.02, go.set)
    loop.run_until_complete(loop.shutdown_default_executor())
    assert done == [1]


@row("P2A-040")
@pytest.mark.since(3, 12)
@pytest.mark.oracle_skip(
    "3.12.1 waits for the work all the same", when=not PY313
)
def test_shutdown_with_a_timeout(loop):
    go = threading.Event()
    loop.run_in_executor(None, go.wait, 10)
    with pytest.warns(
        RuntimeWarning,
        match="The executor did not finishing joining its threads within"
        " 0.01 seconds.",
    ):
        loop.run_until_complete(loop.shutdown_default_executor(0.01))
    go.set()


@row("P2A-040")
@pytest.mark.since(3, 12)
def test_shutdown_in_time(loop):
    loop.run_in_executor(None, identity)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        loop.run_until_complete(loop.shutdown_default_executor(timeout=10))


@row("P4C-008")
async def test_cancelling_cancels_what_has_not_started(loop):
    go = threading.Event()
    ran = []
    with concurrent.futures.ThreadPoolExecutor(1) as executor:
        first = loop.run_in_executor(executor, go.wait, 10)
        second = loop.run_in_executor(executor, ran.append, 1)
        second.cancel()
        # The cancellation reaches the executor's own future a turn later.
        await asyncio.sleep(0)
        await asyncio.sleep(0)
        go.set()
        assert await first
    await asyncio.sleep(0)
    assert second.cancelled()
    assert ran == []


@row("P4A-032")
def test_work_that_ends_after_close(loop):
    go, done = threading.Event(), threading.Event()

    def work():
        go.wait(10)
        done.set()

    executor = concurrent.futures.ThreadPoolExecutor(1)
    loop.run_in_executor(executor, work)
    turn(loop)
    loop.close()
    go.set()
    assert done.wait(10)
    executor.shutdown()


async def test_many_at_once(loop):
    futures = [loop.run_in_executor(None, identity, n) for n in range(200)]
    assert await asyncio.gather(*futures) == [((n,), {}) for n in range(200)]


@pytest.mark.parametrize("wrong", [1, "executor", object()])
def test_executor_of_a_wrong_type(loop, wrong):
    with pytest.raises(AttributeError):
        loop.run_in_executor(wrong, identity)


def test_missing_function(loop):
    with pytest.raises(TypeError):
        loop.run_in_executor(None)
    with pytest.raises(TypeError):
        loop.run_in_executor()


@row("P1A-023")
def test_close_shuts_the_executor_down(loop):
    loop.run_until_complete(loop.run_in_executor(None, identity))
    executor = loop._default_executor
    loop.close()
    assert loop._default_executor is None
    with pytest.raises(RuntimeError):
        executor.submit(identity)


@pytest.mark.becket_only("CPython sends inside each write()")
async def test_other_threads_send_nothing(loop):
    """What transports hold is the loop's thread's to send."""
    async with connected(loop, asyncio.Protocol) as (stream, _, peer):
        peer.setblocking(False)
        stream.write(b"later")
        thread = threading.Thread(
            target=loop.run_in_executor, args=(None, identity)
        )
        thread.start()
        thread.join(LIMIT)
        with pytest.raises(BlockingIOError):
            peer.recv(100)
