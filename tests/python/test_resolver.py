# SPDX-License-Identifier: MIT
"""getaddrinfo and getnameinfo."""

import asyncio
import socket
import threading

import pytest

from support.leaks import native_threads, wait_for_threads
from support.loops import ORACLE
from support.procs import check, run_code

row = pytest.mark.row

QUESTIONS = [
    ("127.0.0.1", 80, {}),
    ("127.0.0.1", "http", {}),
    ("127.0.0.1", None, {"type": socket.SOCK_STREAM}),
    ("127.0.0.1", b"80", {"type": socket.SOCK_DGRAM}),
    ("::1", 443, {"proto": socket.IPPROTO_TCP}),
    ("localhost", 80, {"type": socket.SOCK_STREAM}),
    (b"localhost", 80, {"family": socket.AF_INET}),
    (None, 80, {"flags": socket.AI_PASSIVE, "type": socket.SOCK_STREAM}),
    (None, 80, {"type": socket.SOCK_STREAM}),
    ("", 80, {"type": socket.SOCK_STREAM}),
    ("localhost", "https", {"family": socket.AF_INET}),
    ("127.0.0.1", 80, {"flags": socket.AI_NUMERICHOST}),
    ("localhost", 80, {"flags": socket.AI_CANONNAME}),
    ("does-not-exist.invalid", 80, {}),
    ("127.0.0.1", "no-such-service", {}),
    ("::1", 80, {"family": socket.AF_INET}),
    (None, None, {}),
    ("127.0.0.1", 80, {"type": 99}),
    ("localhost", 80, {"flags": socket.AI_NUMERICHOST}),
    ("a" * 300 + ".example", 80, {}),
    ("a..b", 80, {}),
    (".a", 80, {"flags": socket.AI_NUMERICHOST}),
    (".", 80, {"flags": socket.AI_NUMERICHOST}),
    ("127.0.0.1.", 80, {"flags": socket.AI_NUMERICHOST}),
    ("a" * 63, 80, {"flags": socket.AI_NUMERICHOST}),
    ("a" * 64, 80, {"flags": socket.AI_NUMERICHOST}),
    ("a" * 63 + ".b.", 80, {"flags": socket.AI_NUMERICHOST}),
    ("m\u00fcnchen.invalid", 80, {"flags": socket.AI_NUMERICHOST}),
]


async def outcome(function, *args, **kwargs):
    """A call's result, or what it raised, in a form that compares."""
    try:
        result = function(*args, **kwargs)
        if asyncio.iscoroutine(result):
            result = await result
    except (OSError, UnicodeError) as exc:
        return type(exc), exc.args
    return result


@row("P1A-174")
@pytest.mark.parametrize("host, port, kwargs", QUESTIONS, ids=repr)
async def test_same_as_the_blocking_call(loop, host, port, kwargs):
    wanted = await outcome(socket.getaddrinfo, host, port, **kwargs)
    found = await outcome(loop.getaddrinfo, host, port, **kwargs)
    assert found == wanted
    if isinstance(wanted, list):
        for answer, reference in zip(found, wanted, strict=True):
            assert type(answer) is tuple
            kinds = [type(x) for x in reference]
            assert [type(x) for x in answer] == kinds


@row("P1A-174", "P2A-022")
def test_it_is_a_coroutine(loop):
    for coroutine in (
        loop.getaddrinfo("127.0.0.1", 80),
        loop.getnameinfo(("127.0.0.1", 80)),
    ):
        assert asyncio.iscoroutine(coroutine)
        coroutine.close()


@pytest.mark.parametrize(
    "args",
    [(1, 80), (object(), 80), ("localhost", 1.5), ("localhost", [80])],
    ids=["int host", "object host", "float port", "list port"],
)
async def test_wrong_types(loop, args):
    with pytest.raises((TypeError, OSError)) as reference:
        socket.getaddrinfo(*args)
    with pytest.raises((TypeError, OSError)) as caught:
        await loop.getaddrinfo(*args)
    assert type(caught.value) is type(reference.value)


def test_keyword_only_arguments(loop):
    with pytest.raises(TypeError):
        loop.run_until_complete(loop.getaddrinfo("127.0.0.1", 80, 2))
    with pytest.raises(TypeError):
        loop.run_until_complete(loop.getaddrinfo())


@row("P1A-175")
@pytest.mark.parametrize(
    "address, flags",
    [
        (("127.0.0.1", 80), 0),
        (
            ("127.0.0.1", 80),
            socket.NI_NUMERICHOST | socket.NI_NUMERICSERV,
        ),
        (("::1", 443), socket.NI_NUMERICHOST),
        (("::1", 443, 0, 0), socket.NI_NUMERICHOST | socket.NI_NUMERICSERV),
        (("127.0.0.1", 53), socket.NI_DGRAM),
    ],
    ids=repr,
)
async def test_getnameinfo(loop, address, flags):
    wanted = await outcome(socket.getnameinfo, address, flags)
    assert await outcome(loop.getnameinfo, address, flags) == wanted
    by_name = outcome(loop.getnameinfo, sockaddr=address, flags=flags)
    assert await by_name == wanted


@row("P1A-175")
async def test_getnameinfo_default_flags(loop):
    wanted = socket.getnameinfo(("127.0.0.1", 80), 0)
    assert await loop.getnameinfo(("127.0.0.1", 80)) == wanted


@row("P1A-175")
@pytest.mark.parametrize(
    "address",
    [("not a number", 80), ("127.0.0.1", 80, 0, 0, 0), "127.0.0.1", None, ()],
    ids=repr,
)
async def test_getnameinfo_errors(loop, address):
    with pytest.raises(Exception) as reference:
        socket.getnameinfo(address, 0)
    with pytest.raises(Exception) as caught:
        await loop.getnameinfo(address)
    assert type(caught.value) is type(reference.value)


async def test_many_at_once(loop):
    found = await asyncio.gather(
        *(loop.getaddrinfo("localhost", port) for port in range(1, 101))
    )
    assert [answer[0][4][1] for answer in found] == list(range(1, 101))


async def test_the_loop_goes_on_meanwhile(loop, monkeypatch):
    go = threading.Event()

    def slow(*args, **kwargs):
        go.wait(10)
        return [("slow", args[0])]

    monkeypatch.setattr(socket, "getaddrinfo", slow)
    task = asyncio.create_task(loop.getaddrinfo("slow.example", 80))
    await asyncio.sleep(0.01)
    assert not task.done()
    go.set()
    assert await task == [("slow", "slow.example")]


async def test_a_replaced_function_is_called(loop, monkeypatch):
    """As tests and resolver packages do it."""
    calls = []

    def mine(host, port, family=0, type=0, proto=0, flags=0):
        calls.append((host, port, family, type, proto, flags))
        return [(socket.AF_INET, socket.SOCK_STREAM, 6, "", ("1.2.3.4", 5))]

    monkeypatch.setattr(socket, "getaddrinfo", mine)
    found = await loop.getaddrinfo("x", 5, family=2, type=1, proto=6, flags=4)
    assert found == mine("x", 5)
    assert calls[0] == ("x", 5, 2, 1, 6, 4)
    monkeypatch.setattr(socket, "getnameinfo", lambda *args: args)
    assert await loop.getnameinfo(("1.2.3.4", 5), 3) == (("1.2.3.4", 5), 3)


async def test_cancel(loop, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: go.wait(10))
    task = asyncio.create_task(loop.getaddrinfo("x", 1))
    await asyncio.sleep(0.005)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    go.set()


async def test_cancel_of_the_real_resolver(loop):
    tasks = [
        asyncio.create_task(loop.getaddrinfo("localhost", n))
        for n in range(1, 20)
    ]
    await asyncio.sleep(0)
    for task in tasks[::2]:
        task.cancel()
    results = await asyncio.gather(*tasks, return_exceptions=True)
    for number, result in enumerate(results):
        if number % 2:
            assert result[0][4][1] == number + 1
        else:
            assert isinstance(result, asyncio.CancelledError)


@row("P1A-174")
def test_after_shutdown_default_executor(loop):
    loop.run_until_complete(loop.shutdown_default_executor())
    for make in (
        lambda: loop.getaddrinfo("localhost", 80),
        lambda: loop.getnameinfo(("127.0.0.1", 80)),
    ):
        with pytest.raises(
            RuntimeError, match="^Executor shutdown has been called$"
        ):
            loop.run_until_complete(make())


def test_close_with_a_lookup_under_way(loop, monkeypatch):
    go = threading.Event()
    monkeypatch.setattr(socket, "getaddrinfo", lambda *a, **k: go.wait(10))

    async def start():
        task = asyncio.create_task(loop.getaddrinfo("x", 1))
        await asyncio.sleep(0.005)
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    loop.run_until_complete(start())
    loop.close()
    go.set()


@pytest.mark.becket_only("CPython resolves in its default executor")
async def test_the_default_executor_stays_out_of_it(loop):
    await loop.getaddrinfo("localhost", 80)
    assert loop._default_executor is None


@pytest.mark.becket_only("CPython's executor threads block the exit too")
def test_exit_with_a_lookup_under_way(backend):
    """close() does not join a thread that is stuck in the resolver."""
    assert backend != ORACLE
    code = """
        import asyncio
        from support.loops import loop_from_environment

        async def main(loop):
            task = asyncio.create_task(loop.getaddrinfo("localhost", 1))
            await asyncio.sleep(0)
            task.cancel()

        loop = loop_from_environment()
        loop.run_until_complete(main(loop))
        loop.close()
        print("closed")
    """
    done = check(run_code(backend, code))
    assert done.stdout == "closed\n"


def test_audit_event(backend):
    code = """
        import sys
        from support.loops import loop_from_environment

        events = []
        sys.addaudithook(
            lambda name, args: events.append((name, args))
            if name.startswith("socket.get") else None
        )
        loop = loop_from_environment()
        loop.run_until_complete(loop.getaddrinfo("localhost", 80, type=1))
        loop.run_until_complete(loop.getnameinfo(("127.0.0.1", 80), 3))
        names = [(name, args[:2]) for name, args in events]
        assert names[0] == ("socket.getaddrinfo", ("localhost", 80)), events
        assert names[-1][0] == "socket.getnameinfo", events
        assert names[-1][1][0] == ("127.0.0.1", 80), events
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
    """
    check(run_code(backend, code))


async def test_debug_log_of_lookups(loop, caplog):
    import logging

    caplog.set_level(logging.DEBUG, logger="asyncio")
    loop.set_debug(True)
    await loop.getaddrinfo("localhost", 80)
    loop.set_debug(False)
    texts = [record.getMessage() for record in caplog.records]
    assert any(text.startswith("Get address info ") for text in texts)
    assert any("localhost:80" in text for text in texts)


def test_threads_end_with_the_loop(new_loop):
    before = native_threads()
    loop = new_loop()

    async def many():
        await asyncio.gather(
            *(loop.getaddrinfo("localhost", port) for port in range(1, 20))
        )

    loop.run_until_complete(many())
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert wait_for_threads(before) <= before


def test_repeated_use_keeps_the_number_of_threads_bounded(loop):

    async def many():
        await asyncio.gather(
            *(loop.getaddrinfo("localhost", 80) for _ in range(200))
        )

    loop.run_until_complete(many())
    loop.run_until_complete(many())
    assert native_threads() <= 64
