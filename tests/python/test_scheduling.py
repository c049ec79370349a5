# SPDX-License-Identifier: MIT
"""call_soon, call_later, call_at: order, exactness, arguments."""

import asyncio
import functools
import math
import random
import time

import pytest

from support.loops import turn, turns

row = pytest.mark.row


@row("P1A-032")
def test_call_soon_is_not_synchronous(loop):
    ran = []
    loop.call_soon(ran.append, 1)
    assert ran == []
    turn(loop)
    assert ran == [1]


@row("P1A-033", "P1A-034")
def test_call_soon_keeps_order_and_calls_once(loop):
    ran = []
    for number in range(1000):
        loop.call_soon(ran.append, number)
    turns(loop, 3)
    assert ran == list(range(1000))


@row("P1A-034")
def test_the_same_callback_twice_is_called_twice(loop):
    ran = []
    callback = functools.partial(ran.append, 1)
    loop.call_soon(callback)
    loop.call_soon(callback)
    turn(loop)
    assert ran == [1, 1]


@row("P1A-035", "P1A-048")
@pytest.mark.parametrize("count", [0, 1, 2, 3, 4, 5, 9, 40])
def test_arguments_arrive_as_they_are(loop, count):
    given = tuple(object() for _ in range(count))
    got = []

    def take(*args):
        got.append(args)

    loop.call_soon(take, *given)
    loop.call_later(0, take, *given)
    loop.call_at(loop.time(), take, *given)
    loop.call_soon_threadsafe(take, *given)
    turns(loop, 4)
    assert len(got) == 4
    for args in got:
        assert all(a is b for a, b in zip(args, given, strict=True))


@row("P1A-029")
def test_no_keywords_for_the_callback(loop):
    for call in (
        loop.call_soon,
        loop.call_soon_threadsafe,
        functools.partial(loop.call_later, 0),
        functools.partial(loop.call_at, 0),
    ):
        with pytest.raises(TypeError):
            call(print, flush=True)
    turn(loop)


@row("P1A-030", "P1A-037", "P1A-049", "P1A-053")
@pytest.mark.parametrize(
    "call",
    [
        lambda loop, f: loop.call_soon(f),
        lambda loop, f: loop.call_soon_threadsafe(f),
        lambda loop, f: loop.call_later(0, f),
        lambda loop, f: loop.call_at(loop.time(), f),
    ],
    ids=["call_soon", "call_soon_threadsafe", "call_later", "call_at"],
)
def test_partial_carries_keywords(loop, capsys, call):
    call(loop, functools.partial(print, "Hello", flush=True))
    turns(loop, 2)
    assert capsys.readouterr().out == "Hello\n"


@pytest.mark.parametrize(
    "call",
    [
        lambda loop: loop.call_soon(),
        lambda loop: loop.call_soon_threadsafe(),
        lambda loop: loop.call_later(1),
        lambda loop: loop.call_at(1),
        lambda loop: loop.call_later(),
        lambda loop: loop.call_at(),
    ],
)
def test_missing_arguments(loop, call):
    with pytest.raises(TypeError):
        call(loop)


def test_callback_by_keyword(loop):
    ran = []
    loop.call_soon(callback=lambda: ran.append("soon"))
    loop.call_later(delay=0, callback=lambda: ran.append("later"))
    loop.call_at(when=0, callback=lambda: ran.append("at"))
    loop.call_soon_threadsafe(callback=lambda: ran.append("threadsafe"))
    turns(loop, 2)
    assert sorted(ran) == ["at", "later", "soon", "threadsafe"]


@row("P4A-002")
def test_what_a_callback_schedules_waits_for_the_next_turn(loop):
    ran = []

    def first():
        ran.append("first")
        loop.call_soon(ran.append, "nested")

    loop.call_soon(first)
    loop.call_soon(ran.append, "second")
    turn(loop)
    assert ran == ["first", "second"]
    turn(loop)
    assert ran == ["first", "second", "nested"]


@row("P1A-043", "P4A-005")
@pytest.mark.parametrize("delay", [0.001, 0.0015, 0.01, 0.05])
def test_call_later_is_never_early(loop, delay):
    fired = []
    asked = loop.time()
    loop.call_later(delay, lambda: fired.append(loop.time()))
    loop.call_later(delay + 0.01, loop.stop)
    loop.run_forever()
    (at,) = fired
    resolution = time.get_clock_info("monotonic").resolution
    assert at - asked >= delay - resolution
    assert at - asked < delay + 1


@row("P4A-005")
@pytest.mark.becket_only("CPython's loop does not count its turns")
async def test_short_sleeps_take_few_turns(loop):
    """A wait that ends early would be one more turn, and a short one."""
    before = loop.stats().turns
    for delay in (1e-2, 1e-4, 1e-6, 1e-8, 1e-10):
        await asyncio.sleep(delay)
    assert loop.stats().turns - before <= 20


@row("P1A-043")
def test_timers_fire_by_due_time(loop):
    ran = []
    delays = [0.03, 0.01, 0.02, 0.0, 0.015]
    for delay in delays:
        loop.call_later(delay, ran.append, delay)
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert ran == sorted(delays)


@row("P1A-043", "P1A-046", "P4A-005")
def test_random_timers_fire_once_in_order_and_not_early(loop):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    fired, wanted = [], []

    def fire(number, when):
        fired.append((number, when, loop.time()))

    base = loop.time() + 0.005
    handles = []
    for number in range(500):
        when = base + rng.random() * 0.05
        handles.append((number, when, loop.call_at(when, fire, number, when)))
    for number, when, handle in handles:
        if rng.random() < 0.4:
            handle.cancel()
        else:
            wanted.append((when, number))
    loop.call_at(base + 0.06, loop.stop)
    loop.run_forever()
    assert [number for number, _, _ in fired] == [n for _, n in sorted(wanted)]
    assert all(at >= when for _, when, at in fired)


@row("P1A-047", "P4A-006")
@pytest.mark.becket_only("CPython's heap has no order among equal timers")
def test_equal_timers_fire_in_the_order_of_scheduling(loop):
    ran = []
    when = loop.time() + 0.005
    for number in range(100):
        loop.call_at(when, ran.append, number)
    loop.call_at(when + 0.01, loop.stop)
    loop.run_forever()
    assert ran == list(range(100))


@row("P1A-047")
def test_timers_closer_than_a_nanosecond_fire_in_order(loop):
    base = loop.time() + 0.005
    whens = [base + number * 1e-11 for number in range(400)]
    random.Random(1).shuffle(whens)
    ran = []
    for when in whens:
        loop.call_at(when, ran.append, when)
    loop.call_at(base + 0.01, loop.stop)
    loop.run_forever()
    assert ran == sorted(whens)


@row("P1A-047")
def test_equal_timers_all_fire(loop):
    ran = []
    when = loop.time() + 0.005
    for number in range(100):
        loop.call_at(when, ran.append, number)
    loop.call_at(when + 0.01, loop.stop)
    loop.run_forever()
    assert sorted(ran) == list(range(100))


@row("P1A-044")
@pytest.mark.parametrize("delay", [0, 0.0, False, -1, -0.5, -math.inf])
def test_due_at_once(loop, delay):
    ran = []
    loop.call_later(delay, ran.append, 1)
    started = time.monotonic()
    turns(loop, 2)
    assert ran == [1]
    assert time.monotonic() - started < 5


@row("P1A-044")
def test_delay_as_bool_and_int(loop):
    handle = loop.call_later(True, print)
    assert abs(handle.when() - loop.time() - 1) < 0.5
    handle.cancel()
    handle = loop.call_later(7, print)
    assert isinstance(handle.when(), float)
    handle.cancel()


@row("P4A-010")
def test_call_later_zero_is_a_timer(loop):
    ran = []
    loop.call_later(0, ran.append, "timer")
    loop.call_soon(ran.append, "ready")
    turn(loop)
    assert ran == ["ready", "timer"]


@row("P1A-042", "P4A-004", "P4A-013")
@pytest.mark.parametrize(
    "delay", [2 * 86400, math.inf, 10**12, 2**70, 1e300, 2.0**63 / 1e9]
)
def test_far_away_timers_do_not_fire_nor_spin(loop, delay):
    ran = []
    handle = loop.call_later(delay, ran.append, 1)
    loop.call_later(0.05, loop.stop)
    began = time.process_time()
    loop.run_forever()
    assert ran == []
    assert time.process_time() - began < 0.04
    assert handle.when() >= delay
    handle.cancel()


@row("P2B-023")
@pytest.mark.since(3, 13)
async def test_sleep_refuses_what_is_not_a_number(loop):
    with pytest.raises(ValueError, match=r"^Invalid delay: NaN \(not a num"):
        await asyncio.sleep(math.nan)


@row("P2B-023")
def test_not_a_number_is_accepted_by_call_later(loop):
    handle = loop.call_later(math.nan, print)
    handle.cancel()
    turn(loop)


@row("P1A-044", "P1A-050")
@pytest.mark.parametrize(
    "call, text",
    [
        (lambda loop: loop.call_later(None, print), "delay must not be None"),
        (lambda loop: loop.call_at(None, print), "when cannot be None"),
    ],
)
def test_none_as_time(loop, call, text):
    with pytest.raises(TypeError, match=f"^{text}$"):
        call(loop)


@pytest.mark.parametrize("wrong", ["1", object(), [1], b"1"])
def test_call_later_wrong_type(loop, wrong):
    with pytest.raises(TypeError):
        loop.call_later(wrong, print)
    turn(loop)


@row("P1A-050", "P4A-012")
@pytest.mark.becket_only("in CPython the bad value poisons the heap")
@pytest.mark.parametrize("wrong", ["1", object(), [1], b"1", 1j])
def test_call_at_wrong_type_is_refused_at_once(loop, wrong):
    ran = []
    loop.call_at(loop.time(), ran.append, 1)
    with pytest.raises(TypeError):
        loop.call_at(wrong, print)
    turns(loop, 2)
    assert ran == [1]


@row("P1A-050")
def test_call_at_in_the_past_fires_next_turn(loop):
    ran = []
    loop.call_at(loop.time() - 100, ran.append, "past")
    loop.call_at(0, ran.append, "epoch")
    loop.call_at(-5.0, ran.append, "negative")
    turn(loop)
    assert sorted(ran) == ["epoch", "negative", "past"]


@row("P1A-050", "P1A-051", "P1A-040")
def test_call_at_uses_the_loop_clock(loop):
    fired = []
    when = loop.time() + 0.02
    loop.call_at(when, lambda: fired.append(loop.time()))
    loop.call_at(when + 0.01, loop.stop)
    loop.run_forever()
    assert fired[0] >= when - 1e-9


@row("P1A-041", "P1A-054")
def test_time(loop):
    first = loop.time()
    assert type(first) is float
    assert abs(first - time.monotonic()) < 1
    values = [loop.time() for _ in range(1000)]
    assert values == sorted(values)
    assert values[0] >= first


def test_time_is_not_cached_within_a_turn(loop):
    seen = []

    def look():
        before = loop.time()
        end = time.monotonic() + 0.01
        while time.monotonic() < end:
            pass
        seen.append(loop.time() - before)

    loop.call_soon(look)
    turn(loop)
    assert seen[0] >= 0.009


def test_replaced_time_drives_the_timers(loop):
    """A test clock: what time() says is what decides."""
    now = [1000.0]
    loop.time = lambda: now[0]
    ran = []
    handle = loop.call_later(50, ran.append, "due")
    assert handle.when() == 1050.0
    turns(loop, 2)
    assert ran == []
    now[0] = 1051.0
    turn(loop)
    assert ran == ["due"]
    del loop.time


@row("P4A-007", "P1A-001")
def test_cancelled_timers_never_fire(loop):
    ran = []
    handles = [loop.call_later(0.001, ran.append, n) for n in range(300)]
    for handle in handles:
        handle.cancel()
    loop.call_later(0.01, loop.stop)
    loop.run_forever()
    assert ran == []


def test_cancelled_timer_does_not_wake_the_loop(loop):
    loop.call_later(0.001, print).cancel()
    started = loop.time()
    loop.call_later(0.05, loop.stop)
    loop.run_forever()
    assert loop.time() - started >= 0.049


def test_timer_cancelled_by_another_of_the_same_turn(loop):
    ran = []
    now = loop.time()
    later = loop.call_at(now + 0.001, ran.append, "second")
    loop.call_at(now, lambda: (ran.append("first"), later.cancel()))
    # Both are due before the loop looks.
    while loop.time() < now + 0.002:
        pass
    turns(loop, 2)
    assert ran == ["first"]


def test_ready_handle_cancelled_by_one_before_it(loop):
    ran = []
    handles = []
    loop.call_soon(lambda: handles[0].cancel())
    handles.append(loop.call_soon(ran.append, "cancelled"))
    loop.call_soon(ran.append, "kept")
    turn(loop)
    assert ran == ["kept"]


def test_timer_scheduling_itself_from_its_callback(loop):
    ran = []

    def again():
        ran.append(loop.time())
        if len(ran) == 5:
            loop.stop()
        else:
            loop.call_later(0.002, again)

    loop.call_soon(again)
    loop.run_forever()
    assert all(b - a >= 0.0019 for a, b in zip(ran, ran[1:]))


@row("P1A-055")
async def test_sleep(loop):
    started = loop.time()
    assert await asyncio.sleep(0.01, "value") == "value"
    assert loop.time() - started >= 0.01


@row("P2B-019")
async def test_timeouts(loop):
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await asyncio.sleep(10)
    with pytest.raises(TimeoutError):
        async with asyncio.timeout_at(loop.time() - 1):
            await asyncio.sleep(10)
    async with asyncio.timeout(10) as limit:
        limit.reschedule(loop.time() + 5)
        await asyncio.sleep(0)
    assert not limit.expired()


def test_idle_loop_uses_no_cpu(loop):
    loop.call_later(0.3, loop.stop)
    began = time.process_time()
    loop.run_forever()
    assert time.process_time() - began < 0.1
