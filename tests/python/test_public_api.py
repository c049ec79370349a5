# SPDX-License-Identifier: MIT
"""becket's own names: backends, run, install, the policy, statistics."""

import asyncio
import re
import selectors
import sys
import time

import pytest

from support.loops import make_loop
from support.net import connected, peer_reads, spin, tcp_pair
from support.procs import check, run_code
from support.protocols import Echo

row = pytest.mark.row

pytestmark = pytest.mark.becket_only("these are becket's own names")


@pytest.fixture
def becket():
    return pytest.importorskip("becket")


def test_version(becket):
    assert re.fullmatch(r"\d+\.\d+\.\d+.*", becket.__version__)


@row("P1B-005", "P1B-010", "P2H-001")
def test_public_names(becket):
    wanted = {"SelectorEventLoop", "new_event_loop", "run", "LoopStats"}
    wanted |= {"Loop"}
    if sys.version_info < (3, 16):
        wanted |= {"EventLoopPolicy", "install"}
    assert wanted <= set(becket.__all__)
    for name in becket.__all__:
        assert getattr(becket, name) is not None
    assert set(becket.__all__) <= set(dir(becket))
    with pytest.raises(AttributeError, match="nonsense"):
        getattr(becket, "nonsense")  # noqa: B009
    assert not hasattr(becket, "ProactorEventLoop")


@row("P2H-001")
def test_loop_is_what_every_loop_is(becket, loop):
    """The name for isinstance() and annotations, as uvloop has it."""
    assert isinstance(loop, becket.Loop)
    made = becket.Loop()
    assert isinstance(made, becket.SelectorEventLoop)
    made.close()


def test_backend_of_the_loop(loop, backend):
    assert loop.backend == backend


def test_backend_cannot_be_changed(loop):
    with pytest.raises(AttributeError):
        loop.backend = "poll"


@pytest.mark.parametrize(
    "value, wanted",
    [
        (None, "epoll"),
        ("", "epoll"),
        ("auto", "epoll"),
        ("epoll", "epoll"),
        ("poll", "poll"),
    ],
)
def test_backend_variable(becket, monkeypatch, value, wanted):
    if value is None:
        monkeypatch.delenv("BECKET_BACKEND", raising=False)
    else:
        monkeypatch.setenv("BECKET_BACKEND", value)
    loop = becket.new_event_loop()
    assert loop.backend == wanted
    loop.close()


@pytest.mark.parametrize("value", ["kqueue", "EPOLL", " epoll", "0"])
def test_unknown_backend(becket, monkeypatch, value):
    monkeypatch.setenv("BECKET_BACKEND", value)
    with pytest.raises(ValueError) as caught:
        becket.new_event_loop()
    text = str(caught.value)
    assert "BECKET_BACKEND" in text and repr(value) in text
    for choice in ("auto", "epoll", "poll"):
        assert choice in text


def test_io_uring_is_an_error_that_says_why(becket, monkeypatch):
    monkeypatch.setenv("BECKET_BACKEND", "io_uring")
    with pytest.raises((ValueError, RuntimeError), match="io_uring"):
        becket.new_event_loop()


def test_the_class_does_not_read_the_variable(becket, monkeypatch):
    monkeypatch.setenv("BECKET_BACKEND", "nonsense")
    loop = becket.SelectorEventLoop()
    assert loop.backend == "epoll"
    loop.close()


@row("P1B-021")
@pytest.mark.parametrize(
    "kind", [selectors.SelectSelector, selectors.PollSelector]
)
def test_given_selector(becket, kind):
    selector = kind()
    loop = becket.SelectorEventLoop(selector)
    assert loop.backend == "external"
    assert loop._selector is selector
    assert loop.run_until_complete(asyncio.sleep(0.001, 5)) == 5
    loop.close()
    # The loop closes what it was given.
    assert selector.get_map() is None


@row("P1B-007")
def test_fresh_epoll_selector_gives_way_to_beckets_own(becket):
    selector = selectors.EpollSelector()
    loop = becket.SelectorEventLoop(selector)
    assert loop.backend == "epoll"
    assert loop._selector is selector
    loop.close()
    assert selector.get_map() is None


def test_epoll_selector_with_registrations_is_used_as_given(becket):
    left, right = tcp_pair()
    selector = selectors.EpollSelector()
    selector.register(left, selectors.EVENT_READ)
    loop = becket.SelectorEventLoop(selector)
    assert loop.backend == "external"
    selector.unregister(left)
    loop.close()
    left.close()
    right.close()


def test_subclassed_selector_is_used_as_given(becket):
    calls = []

    class Noting(selectors.EpollSelector):
        def select(self, timeout=None):
            calls.append(timeout)
            return super().select(timeout)

    loop = becket.SelectorEventLoop(Noting())
    assert loop.backend == "external"
    loop.run_until_complete(asyncio.sleep(0.01))
    loop.close()
    assert any(t is not None and 0 < t <= 0.0101 for t in calls), calls


def test_selector_by_keyword(becket):
    loop = becket.SelectorEventLoop(selector=selectors.SelectSelector())
    assert loop.backend == "external"
    loop.close()
    becket.SelectorEventLoop(None).close()


@row("P2H-002")
def test_run(becket):
    async def main():
        return asyncio.get_running_loop()

    loop = becket.run(main())
    assert isinstance(loop, becket.SelectorEventLoop)
    assert loop.is_closed()


@row("P2H-002")
def test_run_arguments(becket):
    made = []

    async def main():
        return asyncio.get_running_loop().get_debug()

    def factory():
        made.append(becket.SelectorEventLoop())
        return made[-1]

    assert becket.run(main(), debug=True, loop_factory=factory) is True
    assert len(made) == 1
    with pytest.raises(TypeError):
        coroutine = main()
        try:
            becket.run(coroutine, True)
        finally:
            coroutine.close()


@pytest.mark.parametrize("wrong", [None, 5, "x", lambda: None])
def test_run_of_something_else(becket, wrong):
    with pytest.raises((ValueError, TypeError)):
        becket.run(wrong)


def test_run_within_a_running_loop(becket):
    async def main():
        coroutine = asyncio.sleep(0)
        try:
            with pytest.raises(RuntimeError, match="running event loop"):
                becket.run(coroutine)
        finally:
            coroutine.close()

    becket.run(main())


def test_run_passes_exceptions_on(becket):
    async def main():
        raise ZeroDivisionError

    with pytest.raises(ZeroDivisionError):
        becket.run(main())


@row("P2I-004")
@pytest.mark.one_poller
def test_import_is_quiet(backend):
    """No warning, no thread, no descriptor, nothing installed."""
    code = """
        import asyncio, os, signal, threading
        before = set(os.listdir("/proc/self/fd"))
        import becket
        assert set(os.listdir("/proc/self/fd")) == before
        assert threading.active_count() == 1
        assert len(os.listdir("/proc/self/task")) == 1
        assert signal.set_wakeup_fd(-1) == -1
        loop = asyncio.new_event_loop()
        assert not isinstance(loop, becket.SelectorEventLoop)
        loop.close()
    """
    done = check(run_code(backend, code, options=("-W", "error")))
    assert done.stderr == done.stdout == ""


def test_write_through_is_a_bool(loop):
    assert loop.write_through is False
    loop.write_through = 1
    assert loop.write_through is True
    loop.write_through = False
    assert loop.write_through is False
    with pytest.raises((AttributeError, TypeError)):
        del loop.write_through


def test_typing_files_are_installed(becket):
    import importlib.resources

    files = importlib.resources.files("becket")
    assert files.joinpath("py.typed").is_file()
    assert files.joinpath("_core.pyi").is_file()


def test_stats_of_a_new_loop(loop, becket):
    stats = loop.stats()
    assert isinstance(stats, becket.LoopStats)
    assert isinstance(stats, tuple)
    assert stats.turns == stats.callbacks == stats.events == 0
    assert stats.busy_time == stats.idle_time == 0.0
    assert stats.bytes_read == stats.bytes_written == 0
    assert stats.connections == stats.timers == 0


def test_stats_count_callbacks_and_turns(loop):
    for _ in range(10):
        loop.call_soon(int)
    loop.call_soon(loop.stop)
    loop.run_forever()
    stats = loop.stats()
    assert stats.turns >= 1
    assert 11 <= stats.callbacks <= 13


def test_stats_count_timers(loop):
    handles = [loop.call_later(100, int) for _ in range(5)]
    assert loop.stats().timers == 5
    handles[0].cancel()
    assert loop.stats().timers == 4
    for handle in handles:
        handle.cancel()
    assert loop.stats().timers == 0


def test_stats_of_busy_and_idle_time(loop):
    async def work():
        await asyncio.sleep(0.1)
        end = time.perf_counter() + 0.05
        while time.perf_counter() < end:
            pass

    loop.run_until_complete(work())
    stats = loop.stats()
    assert 0.09 <= stats.idle_time <= 1.0
    assert 0.04 <= stats.busy_time <= 1.0


def test_stats_of_the_lag(loop):
    async def work():
        for _ in range(20):
            await asyncio.sleep(0.001)
        loop.call_later(0.005, time.sleep, 0.03)
        await asyncio.sleep(0.05)

    loop.run_until_complete(work())
    stats = loop.stats()
    assert stats.lag_samples >= 10
    assert sum(stats.lag_histogram) == stats.lag_samples
    assert stats.lag_max >= 0.025
    assert stats.lag_quantile(1.0) >= 0.025
    assert stats.lag_quantile(0.5) < 0.02
    with pytest.raises(ValueError):
        stats.lag_quantile(2)


async def test_stats_of_a_task_that_blocks(loop):
    for _ in range(10):
        await asyncio.sleep(0)
    await asyncio.sleep(0.001)
    before = loop.stats().lag_max
    time.sleep(before + 0.03)
    await asyncio.sleep(0.001)
    assert loop.stats().lag_max >= before + 0.03


async def test_stats_of_streams(loop):
    before = loop.stats()
    async with connected(loop, Echo) as (transport, protocol, peer):
        during = loop.stats()
        assert during.connections - before.connections == 1
        assert during.connections_open - before.connections_open == 1
        peer.sendall(bytes(5000))
        assert len(await peer_reads(peer, 5000)) == 5000
        after = loop.stats()
        assert after.bytes_read - before.bytes_read == 5000
        assert after.bytes_written - before.bytes_written == 5000
        assert after.events > before.events
    await spin(3)
    assert loop.stats().connections_open == before.connections_open


def test_stats_only_grow(backend):
    loop = make_loop(backend)
    last = loop.stats()
    for _ in range(5):
        loop.run_until_complete(asyncio.sleep(0.001))
        now = loop.stats()
        assert now.turns > last.turns
        assert now.callbacks > last.callbacks
        assert now.idle_time >= last.idle_time
        assert now.busy_time >= last.busy_time
        last = now
    loop.close()
    # A closed loop still tells what it did.
    assert loop.stats().turns >= last.turns
