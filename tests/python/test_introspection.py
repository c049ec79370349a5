# SPDX-License-Identifier: MIT
"""Asking who awaits whom: call graphs, python -m asyncio ps and pstree."""

import asyncio
import io
import subprocess
import sys

import pytest

from support.net import spin
from support.procs import LIMIT, environment, finish, start_code

row = pytest.mark.row
pytestmark = pytest.mark.since(3, 14)


def names_of(graph):
    return [entry.frame.f_code.co_name for entry in graph.call_stack]


@row("P2G-005", "P2G-006", "P2G-009")
async def test_call_graph_of_the_current_task(loop):
    async def inner():
        await asyncio.sleep(0)
        return asyncio.capture_call_graph()

    async def outer():
        return await inner()

    task = asyncio.create_task(outer())
    graph = await task
    assert isinstance(graph, asyncio.FutureCallGraph)
    assert graph.future is task
    assert names_of(graph) == ["inner", "outer"]
    (waiter,) = graph.awaited_by
    assert waiter.future is asyncio.current_task()


@row("P2G-006", "P2G-009")
async def test_call_graph_of_another_task(loop):
    async def inner():
        await asyncio.sleep(100)

    async def outer():
        await inner()

    task = asyncio.create_task(outer())
    await spin(2)
    graph = asyncio.capture_call_graph(task)
    assert graph.future is task
    assert names_of(graph)[-2:] == ["inner", "outer"]
    assert graph.awaited_by == ()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


@row("P2G-006")
def test_call_graph_outside_a_task(loop):
    with pytest.raises(RuntimeError, match="outside of a running event loop"):
        asyncio.capture_call_graph()
    seen = []
    loop.call_soon(lambda: seen.append(asyncio.capture_call_graph()))
    loop.call_soon(loop.stop)
    loop.run_forever()
    assert seen == [None]


@row("P2G-007", "P2G-008")
async def test_call_graph_as_text(loop):
    async def worker():
        text = asyncio.format_call_graph()
        stream = io.StringIO()
        asyncio.print_call_graph(file=stream)
        return text, stream.getvalue()

    task = asyncio.create_task(worker(), name="the worker")
    for text in await task:
        assert "the worker" in text
        assert "worker()" in text


@row("P2G-010")
async def test_futures_that_await_one_another(loop):
    source, waiter = loop.create_future(), loop.create_future()
    asyncio.future_add_to_awaited_by(source, waiter)
    (found,) = asyncio.capture_call_graph(source).awaited_by
    assert found.future is waiter
    asyncio.future_discard_from_awaited_by(source, waiter)
    assert asyncio.capture_call_graph(source).awaited_by == ()


SLEEPERS = """
    import asyncio
    from support.loops import loop_from_environment

    async def sleep_long():
        await asyncio.sleep(60)

    async def main():
        async with asyncio.TaskGroup() as group:
            for number in range(3):
                group.create_task(sleep_long(), name=f"sleeper {number}")
            await asyncio.sleep(0)
            print("ready", flush=True)

    loop = loop_from_environment()
    loop.run_until_complete(main())
"""


@row("P2G-001", "P2G-002", "P2G-003", "P2G-005")
@pytest.mark.parametrize("command", ["ps", "pstree"])
def test_tasks_of_another_process(backend, command):
    process = start_code(backend, SLEEPERS)
    try:
        assert process.stdout.readline() == "ready\n"
        done = subprocess.run(
            [sys.executable, "-m", "asyncio", command, str(process.pid)],
            env=environment(backend),
            capture_output=True,
            text=True,
            timeout=LIMIT,
            stdin=subprocess.DEVNULL,
        )
    finally:
        process.kill()
        finish(process)
    if done.returncode and "permission" in done.stderr.lower():
        pytest.skip("the system lets nobody look into another process")
    assert done.returncode == 0, done.stderr
    for number in range(3):
        assert f"sleeper {number}" in done.stdout
    assert "sleep_long" in done.stdout
