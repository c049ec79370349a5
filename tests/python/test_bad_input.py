# SPDX-License-Identifier: MIT
"""Wrong input of every kind: asyncio's own exceptions, and no crash."""

import asyncio
import random
import socket
import struct

import pytest

from support.loops import loop_class, turns
from support.net import spin, tcp_pair, until
from support.protocols import Recorder

row = pytest.mark.row


class Hostile:
    """Fails in every conversion that it is asked for."""

    def fail(self, *args):
        raise ZeroDivisionError("hostile")

    __index__ = __int__ = __float__ = __bytes__ = __len__ = fail
    __iter__ = __getitem__ = __call__ = __bool__ = __str__ = fail
    fileno = gettimeout = fail
    __hash__ = fail
    __eq__ = fail


def values():
    return [
        None,
        0,
        -1,
        2**31,
        2**63,
        2**70,
        -(2**70),
        1.5,
        float("nan"),
        float("inf"),
        "text",
        "\ud800",
        "\0",
        b"bytes",
        bytearray(b"x"),
        memoryview(b"x"),
        (),
        (1, 2),
        [],
        {},
        object(),
        int,
        print,
        Hostile(),
        struct.Struct("i"),
        True,
        Ellipsis,
    ]


SYNCHRONOUS = [
    "call_soon",
    "call_soon_threadsafe",
    "call_later",
    "call_at",
    "create_task",
    "set_task_factory",
    "set_exception_handler",
    "set_default_executor",
    "run_in_executor",
    "add_reader",
    "add_writer",
    "remove_reader",
    "remove_writer",
    "add_signal_handler",
    "remove_signal_handler",
    "run_until_complete",
]

COROUTINES = [
    "sock_recv",
    "sock_recv_into",
    "sock_recvfrom",
    "sock_recvfrom_into",
    "sock_sendall",
    "sock_sendto",
    "sock_connect",
    "sock_accept",
    "create_connection",
    "create_server",
    "connect_accepted_socket",
]

EXPECTED = (
    TypeError,
    ValueError,
    OSError,
    RuntimeError,
    AttributeError,
    OverflowError,
    ZeroDivisionError,
    UnicodeError,
    NotImplementedError,
    BufferError,
    KeyError,
    IndexError,
    AssertionError,
)


def arguments(rng, count):
    pool = values()
    return [rng.choice(pool) for _ in range(count)]


def is_number(given):
    return bool(given) and isinstance(given[0], int)


@pytest.mark.oracle_skip("it keeps what it should refuse, and poisons itself")
@pytest.mark.parametrize("name", SYNCHRONOUS)
def test_random_arguments(new_loop, name, errors):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    loop = new_loop()
    for _ in range(150):
        given = arguments(rng, rng.randrange(4))
        if name.endswith(("_reader", "_writer")) and is_number(given):
            # A number might be somebody's descriptor.
            continue
        try:
            result = getattr(loop, name)(*given)
        except EXPECTED:
            continue
        if asyncio.isfuture(result):
            result.cancel()
        if hasattr(result, "cancel"):
            result.cancel()
    loop.set_task_factory(None)
    loop.set_exception_handler(lambda *_: None)
    turns(loop, 3)
    errors.clear()
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"
    loop.run_until_complete(loop.shutdown_default_executor())


@pytest.mark.oracle_skip("half-made sockets are left to the collector")
@pytest.mark.parametrize("name", COROUTINES)
def test_random_arguments_of_coroutines(new_loop, name, errors):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    loop = new_loop()

    async def attempt():
        ours, peer = tcp_pair()
        with ours, peer:
            ours.setblocking(False)
            given = arguments(rng, rng.randrange(1, 4))
            if name.startswith("sock_") and rng.random() < 0.7:
                given[0] = ours
            if name.startswith(("create", "connect")):
                given[0] = asyncio.Protocol
            if name == "connect_accepted_socket" and len(given) > 1:
                if rng.random() < 0.5:
                    given[1] = ours
            try:
                coroutine = getattr(loop, name)(*given[:3])
                found = await asyncio.wait_for(coroutine, 0.005)
            except EXPECTED:
                return
            await discard(found)

    async def discard(found):
        if isinstance(found, asyncio.AbstractServer):
            found.close()
            await found.wait_closed()
        elif isinstance(found, tuple):
            for part in found:
                if isinstance(part, (asyncio.BaseTransport, socket.socket)):
                    part.close()
        await spin(3)

    for _ in range(40):
        loop.run_until_complete(attempt())
    errors.clear()
    assert loop.run_until_complete(asyncio.sleep(0, "alive")) == "alive"
    loop.run_until_complete(loop.shutdown_default_executor())


@pytest.mark.one_poller
@pytest.mark.becket_only("CPython finds some of it out only when it closes")
def test_random_constructor_arguments(backend):
    import warnings

    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    kind = loop_class(backend)
    for _ in range(300):
        given = arguments(rng, rng.randrange(3))
        keywords = {}
        if rng.random() < 0.3:
            keywords[rng.choice(["selector", "x"])] = rng.choice(values())
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            try:
                loop = kind(*given, **keywords)
            except EXPECTED:
                continue
            loop.close()


class BrokenSelector:
    """Everything of a selector, and every call may fail."""

    def __init__(self, broken):
        import selectors

        self._real = selectors.SelectSelector()
        self._broken = broken
        self.armed = False

    def __getattr__(self, name):
        if self.armed and name == self._broken:
            raise ZeroDivisionError(name)
        return getattr(self._real, name)


@pytest.mark.one_poller
@pytest.mark.parametrize("broken", ["select", "register", "close"])
def test_failing_selector(backend, broken):
    """An error of the given selector arrives at the caller."""
    selector = BrokenSelector(broken)
    loop = loop_class(backend)(selector)
    left, right = socket.socketpair()
    selector.armed = True
    try:
        if broken == "select":
            loop.call_soon(loop.stop)
            with pytest.raises(ZeroDivisionError):
                loop.run_forever()
        elif broken == "register":
            with pytest.raises(ZeroDivisionError):
                loop.add_reader(left, print)
        else:
            with pytest.raises(ZeroDivisionError):
                loop.close()
    finally:
        selector.armed = False
        loop.close()
        selector._real.close()
        left.close()
        right.close()


async def test_transport_methods_with_random_arguments(loop):
    seed = random.randrange(1 << 32)
    print("seed", seed)
    rng = random.Random(seed)
    ours, peer = tcp_pair()
    transport, protocol = await loop.create_connection(Recorder, sock=ours)
    names = [
        "write",
        "get_extra_info",
        "pause_reading",
        "resume_reading",
        "is_closing",
        "is_reading",
        "get_write_buffer_size",
        "get_write_buffer_limits",
        "can_write_eof",
        "get_protocol",
        "write_eof",
        "close",
        "abort",
    ]
    for _ in range(300):
        name = rng.choice(names[:-3])
        given = arguments(rng, rng.randrange(1, 3))
        try:
            getattr(transport, name)(*given)
        except EXPECTED:
            pass
    for name in names[-3:]:
        with pytest.raises(TypeError):
            getattr(transport, name)(1)
    transport.abort()
    await protocol.lost
    await spin()
    peer.close()


def test_protocol_without_methods(loop, run_main, errors):
    """Calls that fail for want of a method are reported, nothing more."""

    class Nothing:
        def connection_made(self, transport):
            pass

    async def use():
        ours, peer = tcp_pair()
        transport, _ = await loop.create_connection(Nothing, sock=ours)
        peer.send(b"x")
        await until(lambda: ours.fileno() == -1)
        transport.abort()
        peer.close()

    run_main(use())
    assert len(errors) == 2
    assert {type(c["exception"]) for c in errors} == {AttributeError}
    errors.clear()


def test_protocol_factory_that_is_no_callable(loop, run_main):
    import warnings

    async def use():
        ours, peer = tcp_pair()
        with ours, peer:
            with pytest.raises(TypeError):
                await loop.create_connection(5, sock=ours)

    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ResourceWarning)
        run_main(use())
