# SPDX-License-Identifier: MIT
"""Several addresses: order, racing, and the errors of all of them."""

import asyncio
import socket
import time

import pytest

from support.loops import PY314
from support.net import (
    listener,
    refusing_port,
    silent_address,
    spin,
)
from support.protocols import Recorder

row = pytest.mark.row
TCP = (socket.SOCK_STREAM, socket.IPPROTO_TCP, "")


def info(address, family=socket.AF_INET):
    return (family, *TCP, address)


def info6(number):
    return info(("::1", number, 0, 0), socket.AF_INET6)


def info4(number):
    return info(("127.0.0.1", number))


@pytest.fixture
def resolve_to(loop):
    """Make every lookup of the loop give the same answer."""

    def resolve_to(*infos):
        async def resolve(host, port, **kwargs):
            return list(infos)

        loop.getaddrinfo = resolve

    yield resolve_to
    del loop.getaddrinfo


@pytest.fixture
def server():
    with listener() as sock:
        yield sock


async def connect(loop, **kwargs):
    return await loop.create_connection(Recorder, "name.example", 80, **kwargs)


async def finish(transport):
    transport.abort()
    await spin(2)


@row("P2A-024")
async def test_sequential_tries_the_next_after_a_failure(
    loop, server, resolve_to
):
    with refusing_port() as port:
        resolve_to(info4(port), info(server.getsockname()))
        transport, _ = await connect(loop)
    assert transport.get_extra_info("peername") == server.getsockname()
    await finish(transport)


@row("P2A-024")
async def test_sequential_waits_for_a_silent_address(loop, server, resolve_to):
    with silent_address() as silent:
        resolve_to(info(silent), info(server.getsockname()))
        task = asyncio.create_task(connect(loop))
        await asyncio.sleep(0.1)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task


@row("P2A-024")
async def test_race_passes_a_silent_address(loop, server, resolve_to):
    with silent_address() as silent:
        resolve_to(info(silent), info(server.getsockname()))
        started = time.monotonic()
        transport, protocol = await connect(loop, happy_eyeballs_delay=0.05)
        took = time.monotonic() - started
        assert 0.045 <= took < 5
        assert transport.get_extra_info("peername") == server.getsockname()
        assert protocol.calls == ["connection_made"]
        await finish(transport)
        await spin(3)


@row("P2A-024")
async def test_race_goes_on_at_once_after_a_failure(loop, server, resolve_to):
    with refusing_port() as port:
        resolve_to(info4(port), info(server.getsockname()))
        started = time.monotonic()
        transport, _ = await connect(loop, happy_eyeballs_delay=5)
        assert time.monotonic() - started < 4
        await finish(transport)


@row("P2A-024")
async def test_race_won_by_the_first(loop, server, resolve_to):
    with listener() as other:
        resolve_to(info(server.getsockname()), info(other.getsockname()))
        transport, _ = await connect(loop, happy_eyeballs_delay=0.2)
        assert transport.get_extra_info("peername") == server.getsockname()
        other.settimeout(0.01)
        with pytest.raises(TimeoutError):
            other.accept()
        await finish(transport)


@row("P2A-024")
async def test_race_lost_by_all(loop, resolve_to):
    with refusing_port() as one, refusing_port() as two:
        resolve_to(info4(one), info4(two))
        with pytest.raises(OSError, match="^Multiple exceptions: "):
            await connect(loop, happy_eyeballs_delay=0.01)


@row("P2A-024")
async def test_race_cancelled(loop, resolve_to):
    with silent_address() as one, silent_address("127.0.0.4") as two:
        resolve_to(info(one), info(two))
        task = asyncio.create_task(connect(loop, happy_eyeballs_delay=0.01))
        await asyncio.sleep(0.05)
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await spin(3)


@row("P2A-024")
async def test_race_with_zero_delay(loop, server, resolve_to):
    with silent_address() as silent:
        resolve_to(info(silent), info(server.getsockname()))
        transport, _ = await connect(loop, happy_eyeballs_delay=0)
        assert transport.get_extra_info("peername") == server.getsockname()
        await finish(transport)


async def tried(loop, **kwargs):
    """The order in which the addresses are tried."""
    order = []
    original = loop.sock_connect

    async def sock_connect(sock, address):
        order.append(address[:2])
        raise OSError(111, "refused by the test")

    loop.sock_connect = sock_connect
    try:
        with pytest.raises(OSError):
            await connect(loop, **kwargs)
    finally:
        loop.sock_connect = original
    return order


V6 = [("::1", number) for number in (1, 2, 3)]
V4 = [("127.0.0.1", number) for number in (4, 5)]
INFOS = (info6(1), info6(2), info6(3), info4(4), info4(5))


@row("P2A-025", "P4A-033", "P2H-010")
@pytest.mark.parametrize(
    "kwargs, wanted",
    [
        ({}, V6 + V4),
        ({"interleave": None}, V6 + V4),
        ({"interleave": 0}, V6 + V4),
        ({"interleave": 1}, [V6[0], V4[0], V6[1], V4[1], V6[2]]),
        ({"interleave": 2}, [V6[0], V6[1], V4[0], V6[2], V4[1]]),
        (
            {"happy_eyeballs_delay": 0.001},
            [V6[0], V4[0], V6[1], V4[1], V6[2]],
        ),
        ({"happy_eyeballs_delay": 0.001, "interleave": 0}, V6 + V4),
    ],
)
async def test_order_of_the_families(loop, resolve_to, kwargs, wanted):
    resolve_to(*INFOS)
    assert await tried(loop, **kwargs) == wanted


@row("P4C-011")
async def test_one_error_is_raised_as_it_is(loop, resolve_to):
    with refusing_port() as port:
        resolve_to(info4(port))
        with pytest.raises(ConnectionRefusedError) as caught:
            await connect(loop)
    assert caught.value.errno == 111
    assert caught.value.strerror == (
        f"Connect call failed ('127.0.0.1', {port})"
    )


@row("P4C-011")
async def test_equal_errors_become_one(loop, resolve_to):
    with refusing_port() as port:
        resolve_to(info4(port), info4(port))
        with pytest.raises(ConnectionRefusedError) as caught:
            await connect(loop)
    assert str(caught.value) == (
        f"[Errno 111] Connect call failed ('127.0.0.1', {port})"
    )


@row("P4C-011")
async def test_different_errors_are_combined(loop, resolve_to):
    with refusing_port() as one, refusing_port() as two:
        resolve_to(info4(one), info4(two))
        with pytest.raises(OSError) as caught:
            await connect(loop)
    assert type(caught.value) is OSError
    assert str(caught.value) == (
        "Multiple exceptions:"
        f" [Errno 111] Connect call failed ('127.0.0.1', {one}),"
        f" [Errno 111] Connect call failed ('127.0.0.1', {two})"
    )


@row("P2A-037", "P2H-010")
@pytest.mark.since(3, 12)
@pytest.mark.parametrize("delay", [None, 0.001])
async def test_all_errors(loop, resolve_to, delay):
    with refusing_port() as one, refusing_port() as two:
        resolve_to(info4(one), info4(two))
        with pytest.raises(ExceptionGroup) as caught:
            await connect(loop, all_errors=True, happy_eyeballs_delay=delay)
    assert caught.value.message == "create_connection failed"
    kinds = [type(exc) for exc in caught.value.exceptions]
    assert kinds == [ConnectionRefusedError, ConnectionRefusedError]


@row("P2A-037")
@pytest.mark.since(3, 12)
async def test_all_errors_without_an_error(loop, server, resolve_to):
    resolve_to(info(server.getsockname()))
    transport, _ = await connect(loop, all_errors=True)
    await finish(transport)


async def test_errors_form_no_reference_cycle(loop, resolve_to):
    import gc
    import weakref

    class Refusal(OSError):
        pass

    async def sock_connect(sock, address):
        raise Refusal(111, "refused")

    loop.sock_connect = sock_connect
    resolve_to(info4(1))
    gc.disable()
    try:
        try:
            await connect(loop)
        except Refusal as exc:
            alive = weakref.ref(exc)
        await spin(2)
        assert alive() is None
    finally:
        gc.enable()
        del loop.sock_connect


@row("P1A-089")
async def test_local_address_is_matched_by_family(loop, server, resolve_to):
    async def resolve(host, port, **kwargs):
        if host == "local.example":
            return [
                info(("::1", 0, 0, 0), socket.AF_INET6),
                info(("127.0.0.5", 0)),
            ]
        return [info(server.getsockname())]

    resolve_to()
    loop.getaddrinfo = resolve
    transport, _ = await connect(loop, local_addr=("local.example", 0))
    assert transport.get_extra_info("sockname")[0] == "127.0.0.5"
    await finish(transport)


@row("P1A-089", "P4C-011")
async def test_a_local_address_that_failed_is_told_as_well(loop, resolve_to):
    """Though another one could be bound, and then connecting failed."""

    async def resolve(host, port, **kwargs):
        if host == "local.example":
            return [info(("192.0.2.1", 0)), info(("127.0.0.5", 0))]
        return [info4(port)]

    with refusing_port() as port:
        resolve_to()
        loop.getaddrinfo = resolve
        with pytest.raises(OSError) as caught:
            await loop.create_connection(
                Recorder,
                "name.example",
                port,
                local_addr=("local.example", 0),
            )
    text = str(caught.value)
    assert text.startswith("Multiple exceptions: ")
    assert "error while attempting to bind on address ('192.0.2.1'" in text
    assert f"Connect call failed ('127.0.0.1', {port})" in text


@row("P1A-089")
async def test_no_local_address_of_the_family(loop, server, resolve_to):
    async def resolve(host, port, **kwargs):
        if host == "local.example":
            return [info(("::1", 0, 0, 0), socket.AF_INET6)]
        return [info(server.getsockname())]

    resolve_to()
    loop.getaddrinfo = resolve
    with pytest.raises(OSError, match="no matching local address with family"):
        await connect(loop, local_addr=("local.example", 0))


async def test_unsupported_family_is_passed_over(loop, server, resolve_to):
    resolve_to(
        info(("x", 1), family=socket.AF_APPLETALK),
        info(server.getsockname()),
    )
    transport, _ = await connect(loop)
    assert transport.get_extra_info("peername") == server.getsockname()
    await finish(transport)


@row("P2A-024")
async def test_losers_of_the_race_are_closed(loop, resolve_to):
    """Both listen; whichever loses, its peer sees an end, not a leak."""
    with listener(backlog=64) as one, listener(backlog=64) as two:
        resolve_to(info(one.getsockname()), info(two.getsockname()))
        for _ in range(20):
            transport, _ = await connect(loop, happy_eyeballs_delay=0)
            await finish(transport)
            await spin(2)
        for sock in (one, two):
            sock.settimeout(0.01)
            while True:
                try:
                    peer, _ = sock.accept()
                except TimeoutError:
                    break
                with peer:
                    peer.settimeout(10)
                    try:
                        assert peer.recv(1) == b""
                    except ConnectionResetError:
                        pass


@row("P2A-038")
@pytest.mark.oracle_skip("3.13 looks into an empty list", when=not PY314)
async def test_attempts_that_leave_no_error(loop, resolve_to):
    async def sock_connect(sock, address):
        raise asyncio.CancelledError

    resolve_to(info4(1), info4(2))
    loop.sock_connect = sock_connect
    try:
        with pytest.raises(TimeoutError, match="^create_connection failed$"):
            await connect(loop, happy_eyeballs_delay=0.001)
    finally:
        del loop.sock_connect


@pytest.mark.becket_only("CPython loses what is no OSError")
async def test_an_attempt_that_fails_oddly(loop, resolve_to):
    resolve_to(info("no address"), info("no address"))
    with pytest.raises(TypeError):
        await connect(loop, happy_eyeballs_delay=0.001)


@pytest.mark.oracle_skip("3.13.0 tells how closing went", when=not PY314)
async def test_a_failing_close_hides_nothing(loop, resolve_to, monkeypatch):
    class Failing(socket.socket):
        def close(self):
            super().close()
            raise OSError("from close()")

    async def sock_connect(sock, address):
        raise ZeroDivisionError

    monkeypatch.setattr(socket, "socket", Failing)
    resolve_to(info4(1))
    loop.sock_connect = sock_connect
    try:
        with pytest.raises(ZeroDivisionError):
            await connect(loop)
    finally:
        del loop.sock_connect
