# SPDX-License-Identifier: MIT
"""The soak notices what it is there for."""

import argparse
import errno
import sys
from pathlib import Path

import pytest

SOAK = Path(__file__).resolve().parents[1] / "soak"
TESTS = SOAK.parent / "python"


@pytest.fixture(autouse=True)
def soak_path(monkeypatch):
    monkeypatch.syspath_prepend(str(TESTS))
    monkeypatch.syspath_prepend(str(SOAK))
    known = set(sys.modules)
    yield
    for name in set(sys.modules) - known:
        del sys.modules[name]


def streams(count):
    from content import Content, Stream

    content = Content(1)
    return [Stream(content, 1000 * n, 100_000) for n in range(count)]


def test_the_right_bytes_pass():
    (stream,) = streams(1)
    data = b"".join(stream.take(size) for size in (1, 70_000, 40_000))
    assert stream.is_sent and len(data) == stream.size
    for start in range(0, len(data), 999):
        stream.check(data[start : start + 999])
    assert stream.is_received


@pytest.mark.parametrize("damage", ["other", "lost", "twice", "flipped"])
def test_wrong_bytes_are_noticed(damage):
    from content import MismatchError

    stream, other = streams(2)
    data = bytes(stream.take(5000))
    wrong = {
        "other": bytes(other.take(5000)),
        "lost": data[1:],
        "twice": data[:100] + data,
        "flipped": data[:70] + bytes([data[70] ^ 1]) + data[71:],
    }
    with pytest.raises(MismatchError):
        stream.check(wrong[damage])


def test_bytes_that_nobody_sent_are_noticed():
    from content import MismatchError

    stream, twin = streams(1) + streams(1)
    with pytest.raises(MismatchError):
        stream.check(twin.take(10))


def new_world():
    from world import World

    return World(argparse.Namespace(seed=1, kind=None))


@pytest.mark.parametrize("is_starved", [False, True])
@pytest.mark.parametrize("number", [errno.EMFILE, errno.EBADF])
def test_calls_of_the_exception_handler(is_starved, number):
    world = new_world()
    world.is_starved = is_starved
    message = "socket.accept() out of system resource"
    context = {"message": message, "exception": OSError(number, "")}
    world.on_exception(None, context)
    is_expected = is_starved and number == errno.EMFILE
    assert bool(world.failures) != is_expected


def test_growth_is_noticed():
    from memory import LIMIT_KIB, WARM_UP, Memory

    memory = Memory()
    memory.resident = [30_000] * WARM_UP + [31_000, 30_900, 31_100, 31_000]
    assert not memory.is_growing()
    memory.resident += [31_000 + LIMIT_KIB + 1] * 6
    assert memory.is_growing()
