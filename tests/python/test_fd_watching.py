# SPDX-License-Identifier: MIT
"""add_reader, add_writer and their removal."""

import asyncio
import functools
import os
import pty
import socket
import tempfile
import time

import pytest

from support.loops import turn, turns
from support.net import closed_port, connected, spin
from support.protocols import Recorder

row = pytest.mark.row


@pytest.fixture
def pair():
    left, right = socket.socketpair()
    left.setblocking(False)
    right.setblocking(False)
    with left, right:
        yield left, right


SIDES = ["reader", "writer"]


def add(loop, side):
    return getattr(loop, f"add_{side}")


def remove(loop, side):
    return getattr(loop, f"remove_{side}")


@row("P1A-146")
def test_reader_is_level_triggered(loop, pair):
    left, right = pair
    calls = []
    right.send(b"x")
    assert loop.add_reader(left, calls.append, "called") is None
    turns(loop, 3)
    assert calls == ["called"] * 3
    left.recv(10)
    turns(loop, 3)
    assert calls == ["called"] * 3
    assert loop.remove_reader(left) is True


@row("P1A-149")
def test_writer_is_called_while_writable(loop, pair):
    left, right = pair
    calls = []
    assert loop.add_writer(left, calls.append, "called") is None
    turns(loop, 3)
    assert calls == ["called"] * 3
    assert loop.remove_writer(left) is True
    turns(loop, 2)
    assert calls == ["called"] * 3


@row("P1A-149")
def test_writer_is_not_called_while_the_buffer_is_full(loop, pair):
    left, right = pair
    try:
        while True:
            left.send(b"x" * 65536)
    except BlockingIOError:
        pass
    calls = []
    loop.add_writer(left, calls.append, 1)
    turns(loop, 3)
    assert calls == []
    while not calls:
        right.recv(1 << 20)
        turn(loop)
    loop.remove_writer(left)


@row("P1A-149")
def test_reader_and_writer_of_one_fd(loop, pair):
    left, right = pair
    calls = []
    right.send(b"x")
    loop.add_reader(left, calls.append, "r")
    loop.add_writer(left, calls.append, "w")
    turn(loop)
    assert calls == ["r", "w"]
    assert loop.remove_reader(left) is True
    calls.clear()
    turn(loop)
    assert calls == ["w"]
    assert loop.remove_writer(left) is True
    calls.clear()
    turn(loop)
    assert calls == []


@row("P1A-148", "P1A-151")
@pytest.mark.parametrize("side", SIDES)
def test_remove_tells_whether_there_was_one(loop, pair, side):
    left, right = pair
    assert remove(loop, side)(left) is False
    add(loop, side)(left, print)
    assert remove(loop, side)(left) is True
    assert remove(loop, side)(left) is False


@row("P1A-148")
def test_removing_one_side_keeps_the_other(loop, pair):
    left, right = pair
    calls = []
    loop.add_writer(left, calls.append, "w")
    assert loop.remove_reader(left) is False
    turn(loop)
    assert calls == ["w"]
    loop.remove_writer(left)


@row("P1A-146", "P4D-001")
def test_adding_again_replaces(loop, pair):
    left, right = pair
    calls = []
    right.send(b"x")
    loop.add_reader(left, calls.append, "first")
    loop.add_reader(left, calls.append, "second")
    turn(loop)
    assert calls == ["second"]
    loop.remove_reader(left)


@row("P4D-001", "P4D-005")
def test_replacing_cancels_the_queued_call(loop, pair):
    left, right = pair
    other_left, other_right = socket.socketpair()
    calls = []
    with other_left, other_right:
        right.send(b"x")
        other_right.send(b"x")

        def replace(own, other, name):
            calls.append(name)
            loop.remove_reader(own)
            loop.add_reader(other, calls.append, "replaced")

        loop.add_reader(left, replace, left, other_left, "left")
        loop.add_reader(other_left, replace, other_left, left, "right")
        turn(loop)
        assert len(calls) == 1
        turn(loop)
        assert calls[1:] == ["replaced"]
        loop.remove_reader(left)
        loop.remove_reader(other_left)


@row("P1A-146", "P4D-002")
def test_number_and_object_mean_the_same_fd(loop, pair):
    left, right = pair
    calls = []
    right.send(b"x")
    loop.add_reader(left.fileno(), calls.append, 1)
    assert loop.remove_reader(left) is True

    class HasFileno:
        def fileno(self):
            return left.fileno()

    loop.add_reader(HasFileno(), calls.append, 2)
    turn(loop)
    assert calls == [2]
    assert loop.remove_reader(left.fileno()) is True


@row("P4D-002")
@pytest.mark.parametrize("side", SIDES)
def test_bad_file_objects(loop, side):
    class BadFileno:
        def fileno(self):
            return "x"

    for wrong in (object(), "x", None, 1.5, BadFileno()):
        with pytest.raises(ValueError, match="^Invalid file object: "):
            add(loop, side)(wrong, print)
        with pytest.raises(ValueError, match="^Invalid file object: "):
            remove(loop, side)(wrong)


@row("P4D-002")
@pytest.mark.parametrize("side", SIDES)
def test_negative_fds(loop, side):
    with pytest.raises(ValueError, match="^Invalid file descriptor: -1$"):
        add(loop, side)(-1, print)
    with pytest.raises(ValueError, match="^Invalid file descriptor: -1$"):
        remove(loop, side)(-1)


@row("P4D-002")
@pytest.mark.parametrize("side", SIDES)
def test_closed_socket(loop, side):
    left, right = socket.socketpair()
    left.close()
    right.close()
    with pytest.raises(ValueError, match="^Invalid file descriptor: -1$"):
        add(loop, side)(left, print)


@row("P4D-002")
@pytest.mark.parametrize("side", SIDES)
def test_unopened_number(loop, backend, side):
    number = os.dup(0)
    os.close(number)
    if backend in ("poll", "external"):
        pytest.skip("poll() and select() find out only when they wait")
    with pytest.raises(OSError) as caught:
        add(loop, side)(number, print)
    assert caught.value.errno == 9
    assert remove(loop, side)(number) is False


@row("P4D-002")
def test_regular_file_on_epoll(loop, backend):
    with tempfile.TemporaryFile() as file:
        if backend in ("poll", "external"):
            calls = []
            loop.add_reader(file, calls.append, 1)
            turn(loop)
            assert calls == [1]
            assert loop.remove_reader(file) is True
        else:
            with pytest.raises(PermissionError):
                loop.add_reader(file, print)
            assert loop.remove_reader(file) is False


def test_too_large_a_number(loop):
    for wrong in (2**40, 2**70):
        with pytest.raises((OSError, OverflowError, ValueError)):
            loop.add_reader(wrong, print)
    turn(loop)


@row("P4B-004")
@pytest.mark.parametrize("debugging", [False, True])
def test_the_callback_is_not_checked(loop, pair, errors, debugging):
    """As in CPython: what cannot be called shows when it is called."""
    left, right = pair
    right.send(b"x")
    loop.set_debug(debugging)
    loop.add_reader(left, 1)
    turn(loop)
    loop.set_debug(False)
    loop.remove_reader(left)
    (context,) = errors
    errors.clear()
    assert type(context["exception"]) is TypeError


def test_missing_arguments(loop, pair):
    for call in (loop.add_reader, loop.add_writer):
        with pytest.raises(TypeError):
            call(pair[0])
        with pytest.raises(TypeError):
            call()
        with pytest.raises(TypeError):
            call(pair[0], print, keyword=1)
    with pytest.raises(TypeError):
        loop.remove_reader()


@row("P1A-147", "P1A-150")
@pytest.mark.parametrize("side", SIDES)
def test_partial(loop, pair, capsys, side):
    pair[1].send(b"x")
    say = functools.partial(print, "hello", end="!")
    add(loop, side)(pair[0], say)
    turn(loop)
    remove(loop, side)(pair[0])
    assert capsys.readouterr().out == "hello!"


@row("P4D-006")
@pytest.mark.parametrize("side", SIDES)
def test_hang_up_wakes_both_sides(loop, pair, side):
    left, right = pair
    if side == "writer":
        try:
            while True:
                left.send(b"x" * 65536)
        except BlockingIOError:
            pass
    right.close()
    calls = []
    add(loop, side)(left, calls.append, 1)
    turn(loop)
    remove(loop, side)(left)
    assert calls == [1]


@row("P4D-006")
def test_refused_connection_wakes_the_writer(loop):
    with socket.socket() as sock:
        sock.setblocking(False)
        sock.connect_ex(("127.0.0.1", closed_port()))
        loop.add_writer(sock, loop.stop)
        loop.run_forever()
        loop.remove_writer(sock)
        assert sock.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 111


def test_failing_reader_stays_registered(loop, pair, errors):
    left, right = pair
    right.send(b"x")
    loop.add_reader(left, lambda: 1 / 0)
    turns(loop, 2)
    assert loop.remove_reader(left) is True
    assert [type(c["exception"]) for c in errors] == [ZeroDivisionError] * 2
    assert all(isinstance(c["handle"], asyncio.Handle) for c in errors)
    errors.clear()


def test_reader_that_removes_itself(loop, pair):
    left, right = pair
    calls = []

    def reader():
        calls.append(loop.remove_reader(left))
        loop.add_writer(left, writer)

    def writer():
        calls.append(loop.remove_writer(left))

    right.send(b"x")
    loop.add_reader(left, reader)
    turns(loop, 4)
    assert calls == [True, True]


def test_pipes(loop):
    reader, writer = os.pipe()
    calls = []
    try:
        loop.add_reader(reader, lambda: calls.append(os.read(reader, 10)))
        os.write(writer, b"pipe")
        turns(loop, 2)
        assert calls == [b"pipe"]
        loop.add_writer(writer, calls.append, "writable")
        turn(loop)
        assert calls[1:] == ["writable"]
        loop.remove_reader(reader)
        loop.remove_writer(writer)
    finally:
        os.close(reader)
        os.close(writer)


def test_terminals(loop):
    leader, follower = pty.openpty()
    calls = []
    try:
        loop.add_reader(leader, lambda: calls.append(os.read(leader, 10)))
        os.write(follower, b"tty")
        # A terminal's bytes come through a queue of the kernel.
        deadline = time.monotonic() + 10
        while b"".join(calls) != b"tty" and time.monotonic() < deadline:
            turn(loop)
        assert b"".join(calls) == b"tty"
        assert loop.remove_reader(leader)
    finally:
        os.close(leader)
        os.close(follower)


def test_eventfd(loop):
    fd = os.eventfd(0)
    try:
        loop.add_reader(fd, loop.stop)
        loop.call_soon(os.eventfd_write, fd, 1)
        loop.run_forever()
        assert loop.remove_reader(fd)
    finally:
        os.close(fd)


def test_a_dup_is_another_fd(loop, pair):
    left, right = pair
    calls = []
    dup = left.dup()
    try:
        right.send(b"x")
        loop.add_reader(left, calls.append, "left")
        loop.add_reader(dup, calls.append, "dup")
        turn(loop)
        assert sorted(calls) == ["dup", "left"]
        assert loop.remove_reader(left)
        assert loop.remove_reader(dup)
    finally:
        dup.close()


def test_many_fds(loop):
    pairs = [socket.socketpair() for _ in range(100)]
    calls = []
    try:
        for number, (left, _) in enumerate(pairs):
            loop.add_reader(left, calls.append, number)
        for _, right in pairs[::2]:
            right.send(b"x")
        turn(loop)
        assert sorted(calls) == list(range(0, 100, 2))
        for left, _ in pairs:
            assert loop.remove_reader(left)
    finally:
        for left, right in pairs:
            left.close()
            right.close()


def test_fds_beyond_those_of_select(loop, backend):
    import resource

    if backend == "external":
        pytest.skip("select() knows only numbers below 1024")
    if resource.getrlimit(resource.RLIMIT_NOFILE)[0] < 3000:
        pytest.skip("too few descriptors are allowed here")
    pairs = [socket.socketpair() for _ in range(1100)]
    calls = []
    try:
        assert pairs[-1][0].fileno() > 1024
        for number, (left, right) in enumerate(pairs):
            loop.add_reader(left, calls.append, number)
            right.send(b"x")
        # A poller may report them in portions.
        for _ in range(20):
            turn(loop)
        assert set(calls) == set(range(1100))
        for left, _ in pairs:
            assert loop.remove_reader(left)
    finally:
        for left, right in pairs:
            left.close()
            right.close()


@row("P4D-003")
async def test_fd_of_a_transport_is_refused(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        fd = transport.get_extra_info("socket").fileno()
        text = f"^File descriptor {fd} is used by transport <"
        for call in (loop.add_reader, loop.add_writer):
            with pytest.raises(RuntimeError, match=text):
                call(fd, print)
        for call in (loop.remove_reader, loop.remove_writer):
            with pytest.raises(RuntimeError, match=text):
                call(fd)
        peer.send(b"still works")
        assert await protocol.received(11) == b"still works"


@row("P4D-003")
async def test_fd_of_a_closing_transport_is_allowed(loop):
    async with connected(loop, Recorder) as (transport, protocol, peer):
        fd = transport.get_extra_info("socket").fileno()
        transport.close()
        loop.add_reader(fd, print)
        assert loop.remove_reader(fd) is True


@row("P4D-002")
async def test_watching_during_a_run_from_callbacks(loop, pair):
    left, right = pair
    got = loop.create_future()

    def reader():
        loop.remove_reader(left)
        got.set_result(left.recv(100))

    loop.add_reader(left, reader)
    await spin(2)
    right.send(b"data")
    assert await got == b"data"


def test_watchers_left_at_close_are_forgotten(loop, pair):
    import gc
    import weakref

    class Marker:
        def __call__(self):
            pass

    marker = Marker()
    alive = weakref.ref(marker)
    loop.add_reader(pair[0], marker)
    loop.add_writer(pair[0], marker)
    loop.close()
    del marker
    gc.collect()
    assert alive() is None
    # The descriptors are the user's, and still open.
    assert pair[0].fileno() >= 0
    pair[1].send(b"x")
    assert pair[0].recv(1) == b"x"


@pytest.mark.becket_only("CPython believes its stale registration")
def test_closing_and_reusing_a_number(loop, backend):
    """A number that was closed behind the loop's back and used again."""
    if backend == "external":
        pytest.skip("what a selector does with it is the selector's affair")
    left, right = socket.socketpair()
    number = left.fileno()
    calls = []
    loop.add_reader(number, calls.append, "old")
    left.close()
    right.close()
    new_left, new_right = socket.socketpair()
    with new_left, new_right:
        # The lowest free number comes back: it is the one just closed.
        assert number in (new_left.fileno(), new_right.fileno())
        mine = new_left if new_left.fileno() == number else new_right
        other = new_right if mine is new_left else new_left
        loop.add_reader(number, lambda: calls.append(mine.recv(10)))
        other.send(b"new")
        turns(loop, 2)
        assert calls == [b"new"]
        loop.remove_reader(number)


@pytest.mark.becket_only("CPython goes on calling the stale reader")
def test_a_closed_number_with_a_living_dup(loop, backend):
    """epoll keeps reporting what lies behind a closed number with a dup."""
    if backend != "epoll":
        pytest.skip("only epoll keeps such an entry")
    left, right = socket.socketpair()
    calls = []
    dup = left.dup()
    with dup, right:
        loop.add_reader(left, calls.append, "stale")
        number = left.fileno()
        left.close()
        assert loop.remove_reader(number) is True
        right.send(b"x")
        turns(loop, 3)
        assert calls == []
        loop.add_reader(dup, lambda: calls.append(dup.recv(10)))
        turns(loop, 2)
        assert calls == [b"x"]
        loop.remove_reader(dup)
