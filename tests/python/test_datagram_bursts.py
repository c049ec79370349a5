# SPDX-License-Identifier: MIT
"""Many datagrams at once: their order among everything else.

CPython receives one datagram per turn of the loop. Whatever a loop does to be
faster than that, a program must not be able to tell.
"""

import asyncio
import contextlib
import contextvars
import os
import select

import pytest

from support import net
from support.datagrams import (
    Echo,
    Endpoint,
    arrived,
    bound,
    connected,
    finish,
    peer_receives,
    udp,
)
from support.loops import turn
from support.net import spin
from support.writes import write_and_look, write_much, write_past_the_limit

row = pytest.mark.row

# So many that a loop which receives several at once does, and no more than a
# socket's buffer is sure to hold.
MANY = 100


async def warm_up(protocol, peer, address, turns=8):
    """Have a loop that learns how many to receive learn it."""
    for _ in range(turns):
        before = len(protocol.data)
        for i in range(64):
            peer.sendto(b"%d" % i, address)
        await protocol.received(before + 64)
    await spin(2)
    for kept in (protocol.data, protocol.calls, protocol.senders):
        kept.clear()


def send_numbers(peer, address, count):
    for i in range(count):
        peer.sendto(b"%d" % i, address)
    return [b"%d" % i for i in range(count)]


@row("P4G-004")
async def test_order(loop):
    async with bound(loop, Echo) as (_, protocol, peer, address):
        await warm_up(protocol, peer, address)
        arrived(peer)
        sent = send_numbers(peer, address, MANY)
        assert await protocol.received(MANY) == sent
        assert await peer_receives(peer, MANY) == sent


@row("P4G-004", "P4A-001")
async def test_callbacks_come_between(loop):
    class Calling(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.loop.call_soon(self.calls.append, "callback")

    async with bound(loop, Calling) as (_, protocol, peer, address):
        await warm_up(protocol, peer, address)
        sent = send_numbers(peer, address, 20)
        await protocol.received(20)
        await spin(2)
        expected = []
        for data in sent:
            expected += [data, "callback"]
        assert protocol.calls == expected


@row("P4G-004")
async def test_some_callbacks_come_between(loop):
    class Calling(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if int(data) % 3 == 0:
                self.loop.call_soon(self.calls.append, "callback")

    async with bound(loop, Calling) as (_, protocol, peer, address):
        await warm_up(protocol, peer, address)
        sent = send_numbers(peer, address, 20)
        await protocol.received(20)
        await spin(2)
        expected = []
        for data in sent:
            expected.append(data)
            if int(data) % 3 == 0:
                expected.append("callback")
        assert protocol.calls == expected


@row("P4G-004")
async def test_waiting_tasks_come_between(loop):
    """A task that each datagram wakes has it before the next arrives."""

    class Waking(Endpoint):
        def __init__(self):
            super().__init__()
            self.queue = asyncio.Queue()

        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.queue.put_nowait(data)

    async with bound(loop, Waking) as (_, protocol, peer, address):
        await warm_up(protocol, peer, address)
        while not protocol.queue.empty():
            protocol.queue.get_nowait()
        lengths = []

        async def consume():
            for _ in range(20):
                await protocol.queue.get()
                lengths.append(protocol.queue.qsize())

        task = loop.create_task(consume())
        await spin()
        send_numbers(peer, address, 20)
        await asyncio.wait_for(task, 10)
        assert max(lengths) <= 1


@row("P4G-004", "P4A-001")
async def test_timers_come_between(loop):
    class Calling(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"0":
                self.loop.call_later(0, self.calls.append, "timer")

    async with bound(loop, Calling) as (_, protocol, peer, address):
        await warm_up(protocol, peer, address)
        protocol.calls.clear()
        send_numbers(peer, address, 10)
        await protocol.received(10)
        await spin(2)
        # A turn has its I/O before its timers.
        assert protocol.calls[:4] == [b"0", b"1", "timer", b"2"]


@row("P4G-004")
def test_stop_comes_between(loop, run_main):
    class Stopping(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"3":
                self.loop.stop()

    async def begin():
        transport, protocol = await loop.create_datagram_endpoint(
            Stopping, local_addr=("127.0.0.1", 0)
        )
        return transport, protocol, transport.get_extra_info("sockname")

    transport, protocol, address = run_main(begin())
    with udp() as peer:
        for _ in range(6):
            send_numbers(peer, address, 3)
            run_main(protocol.received(len(protocol.data) + 3))
        protocol.data.clear()
        send_numbers(peer, address, 8)
        loop.run_forever()
        assert protocol.data == [b"0", b"1", b"2", b"3"]
        run_main(protocol.received(8))
        assert protocol.data == [b"%d" % i for i in range(8)]
        run_main(finish(transport))


@row("P4G-004")
def test_one_turn_one_datagram(loop, run_main):
    """As long as something else is ready all the time."""

    async def begin():
        transport, protocol = await loop.create_datagram_endpoint(
            Endpoint, local_addr=("127.0.0.1", 0)
        )
        return transport, protocol, transport.get_extra_info("sockname")

    transport, protocol, address = run_main(begin())
    with udp() as peer:
        send_numbers(peer, address, 5)
        for count in range(1, 6):
            turn(loop)
            assert len(protocol.data) == count
        run_main(finish(transport))


@row("P4G-004")
async def test_close_inside(loop):
    class Closing(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"80":
                self.transport.close()

    async with bound(loop, Closing) as (_, protocol, peer, address):
        await warm_up(protocol, peer, address)
        send_numbers(peer, address, MANY)
        await asyncio.wait_for(protocol.lost, 10)
        assert protocol.data == [b"%d" % i for i in range(81)]
        assert protocol.calls[-1] == "connection_lost"


@row("P4G-004")
async def test_abort_inside(loop):
    class Aborting(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"80":
                self.transport.abort()

    async with bound(loop, Aborting) as (_, protocol, peer, address):
        await warm_up(protocol, peer, address)
        send_numbers(peer, address, MANY)
        await asyncio.wait_for(protocol.lost, 10)
        assert protocol.data == [b"%d" % i for i in range(81)]


@row("P4G-004")
async def test_pause_inside(loop):
    class Pausing(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if is_warm and int(data) % 40 == 30:
                self.transport.pause_reading()

    is_warm = False
    async with bound(loop, Pausing) as (transport, protocol, peer, address):
        await warm_up(protocol, peer, address)
        is_warm = True
        sent = send_numbers(peer, address, MANY)
        for count in (31, 71):
            await protocol.received(count)
            await spin(5)
            assert protocol.data == sent[:count]
            assert not transport.is_reading()
            transport.resume_reading()
        assert await protocol.received(MANY) == sent


@row("P4G-004")
async def test_set_protocol_inside(loop):
    class Changing(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if is_warm and data == b"10":
                self.transport.set_protocol(other)

    is_warm = False
    async with bound(loop, Changing) as (_, protocol, peer, address):
        other = Endpoint()
        await warm_up(protocol, peer, address)
        is_warm = True
        sent = send_numbers(peer, address, 30)
        await other.received(19)
        assert protocol.data == sent[:11]
        assert other.data == sent[11:]


async def test_failures_inside(loop, errors):
    class Failing(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if int(data) % 10 == 0:
                raise LookupError(data)

    async with bound(loop, Failing) as (_, protocol, peer, address):
        await warm_up(protocol, peer, address)
        errors.clear()
        sent = send_numbers(peer, address, 50)
        assert await protocol.received(50) == sent
        await spin(2)
        assert [c["exception"].args[0] for c in errors] == sent[::10]
        errors.clear()


def test_exit_inside(loop, run_main):
    """KeyboardInterrupt leaves the loop, and loses no datagram."""

    class Leaving(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"5":
                raise KeyboardInterrupt

    async def begin():
        transport, protocol = await loop.create_datagram_endpoint(
            Leaving, local_addr=("127.0.0.1", 0)
        )
        return transport, protocol, transport.get_extra_info("sockname")

    transport, protocol, address = run_main(begin())
    with udp() as peer:
        for _ in range(6):
            send_numbers(peer, address, 5)
            run_main(protocol.received(len(protocol.data) + 5))
        protocol.data.clear()
        sent = send_numbers(peer, address, 10)
        with pytest.raises(KeyboardInterrupt):
            loop.run_forever()
        assert protocol.data == sent[:6]
        run_main(protocol.received(10))
        assert protocol.data == sent
        run_main(finish(transport))


async def test_two_busy_endpoints(loop):
    """Neither starves the other."""
    async with (
        bound(loop) as (_, one, peer, first),
        bound(loop) as (_, two, _, second),
    ):
        await warm_up(one, peer, first)
        await warm_up(two, peer, second)
        for i in range(MANY // 2):
            peer.sendto(b"%d" % i, first)
            peer.sendto(b"%d" % i, second)
        seen = []
        while len(one.data) < MANY // 2 or len(two.data) < MANY // 2:
            seen.append((len(one.data), len(two.data)))
            await spin()
        assert one.data == two.data == [b"%d" % i for i in range(MANY // 2)]
        assert all(abs(left - right) <= 2 for left, right in seen)


async def test_context(loop):
    """Every datagram is received in the context of the endpoint's start."""
    variable = contextvars.ContextVar("variable", default="none")

    class Looking(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.calls.append(variable.get())
            variable.set(data)

    variable.set("start")
    async with bound(loop, Looking) as (transport, protocol, peer, address):
        variable.set("later")
        peer.sendto(b"0", address)
        await protocol.received(1)
        # asyncio runs each in the same context, so changes last.
        peer.sendto(b"1", address)
        await protocol.received(2)
        assert protocol.calls[1:] == [b"0", "start", b"1", b"0"]
        transport.pause_reading()
        variable.set("resumed")
        transport.resume_reading()
        variable.set("last")
        peer.sendto(b"2", address)
        await protocol.received(3)
        assert protocol.calls[-1] == "resumed"


# --- what is held back ---


class HoldingEcho(Echo):
    """Looks at what its peer has after each reply, without waiting."""

    def __init__(self):
        super().__init__()
        self.peer = None
        self.seen = []

    def datagram_received(self, data, addr):
        super().datagram_received(data, addr)
        if self.peer is not None:
            self.seen += arrived(self.peer)
            self.look(data)

    def look(self, data):
        pass


async def held_back(loop, look=None, count=40):
    """How many replies of a burst came before it had ended."""
    async with bound(loop, HoldingEcho) as (_, protocol, peer, address):
        await warm_up(protocol, peer, address)
        arrived(peer)
        protocol.peer = peer
        if look is not None:
            protocol.look = look
        sent = send_numbers(peer, address, count)
        await protocol.received(count)
        await spin()
        early = len(protocol.seen)
        assert protocol.seen + arrived(peer) == sent
        return early


@pytest.mark.becket_only("CPython sends inside each sendto()")
async def test_replies_leave_together(loop):
    # A machine that is busy elsewhere may break a burst off.
    for _ in range(100):
        if await held_back(loop) < 40:
            return
    pytest.fail("each reply came before the burst had ended, 100 times")


async def test_write_through(loop):
    loop.write_through = True
    assert await held_back(loop, count=40) >= 39


def write_little(stream):
    stream.write(b"a little")


def end(stream):
    stream.write_eof()


async def until_held_back(loop, attempt):
    """Repeat an attempt, which tells whether a send was held back.

    Without one it has shown nothing of becket, and a machine that is busy
    elsewhere may break a burst off.
    """
    for _ in range(10):
        if await attempt() or isinstance(loop, asyncio.SelectorEventLoop):
            return
    pytest.fail("nothing was held back")


def is_without_data(sock):
    return select.select([sock], [], [], 0) == ([], [], [])


@contextlib.contextmanager
def watching(*socks):
    """Gives a function: on which of them data arrived, the first one first."""
    by_number = {sock.fileno(): sock for sock in socks}
    with select.epoll() as arrivals:
        for number in by_number:
            arrivals.register(number, select.EPOLLIN | select.EPOLLET)
        yield lambda: [by_number[number] for number, _ in arrivals.poll(0)]


async def receives_burst(protocol, peer, address, burst, missed=0):
    """Have it receive some datagrams and then these, but for the last ones."""
    await warm_up(protocol, peer, address)
    count = len(send_numbers(peer, address, 7))
    for data in burst:
        peer.sendto(data, address)
    await protocol.received(count + len(burst) - missed)
    await spin(1)


@pytest.mark.parametrize("burst", [[b"both", b"last"], [b"reply", b"write"]])
@pytest.mark.parametrize(
    "write",
    [write_little, write_much, write_past_the_limit, write_and_look, end],
)
async def test_replies_leave_before_what_streams_write(loop, write, burst):
    """In the same callback or in a later one; epoll tells what came first."""

    class Writing(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data in {b"both", b"reply"}:
                self.transport.sendto(b"first", addr)
                self.is_held_back = is_without_data(self.peer)
            if data in {b"both", b"write"}:
                write(self.stream)
                self.transport.sendto(b"third", addr)

    async def attempt():
        async with (
            net.connected(loop, asyncio.Protocol) as (stream, _, stream_peer),
            bound(loop, Writing) as (_, protocol, peer, address),
        ):
            protocol.stream, protocol.peer = stream, peer
            with watching(stream_peer, peer) as order:
                await receives_burst(protocol, peer, address, burst)
                assert order() == [peer, stream_peer]
            assert arrived(peer) == [b"first", b"third"]
            return protocol.is_held_back

    await until_held_back(loop, attempt)


@pytest.mark.parametrize("is_connected", [False, True])
async def test_transports_send_in_the_order_of_calls(loop, is_connected):
    class Alternating(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"now":
                self.transport.sendto(b"first", addr)
                self.is_held_back = is_without_data(self.peer)
                self.other.sendto(b"second", None if is_connected else addr)
                self.transport.sendto(b"third", addr)

    async def attempt():
        async with bound(loop, Alternating) as (_, protocol, peer, address):
            other, _ = await loop.create_datagram_endpoint(
                asyncio.DatagramProtocol,
                local_addr=("127.0.0.1", 0),
                remote_addr=peer.getsockname() if is_connected else None,
            )
            protocol.other, protocol.peer = other, peer
            with contextlib.closing(other):
                burst = [b"now", b"last"]
                await receives_burst(protocol, peer, address, burst)
                assert arrived(peer) == [b"first", b"second", b"third"]
            return protocol.is_held_back

    await until_held_back(loop, attempt)


LOOKS = {
    "get_write_buffer_size": lambda t: t.get_write_buffer_size(),
    "set_write_buffer_limits": lambda t: t.set_write_buffer_limits(),
    "set_protocol": lambda t: t.set_protocol(t.get_protocol()),
    "repr": repr,
    "socket": lambda t: t.get_extra_info("socket").fileno(),
    "_sock": lambda t: t._sock,
}


@pytest.mark.parametrize("name", LOOKS)
async def test_whatever_could_tell_sends_first(loop, name):
    async with bound(loop, HoldingEcho) as (transport, protocol, peer, addr):
        await warm_up(protocol, peer, addr)
        arrived(peer)
        found = []

        def look(data):
            LOOKS[name](transport)
            protocol.seen += arrived(peer)
            found.append(len(protocol.seen))

        protocol.peer = peer
        protocol.look = look
        sent = send_numbers(peer, addr, 20)
        await protocol.received(20)
        await spin()
        assert found == list(range(1, 21))
        assert protocol.seen == sent


@pytest.mark.parametrize("end", ["close", "abort"])
async def test_the_end_sends_first(loop, end):
    class Ending(Echo):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"10":
                getattr(self.transport, end)()

    async with bound(loop, Ending) as (_, protocol, peer, address):
        send_numbers(peer, address, 9)
        await protocol.received(9)
        arrived(peer)
        send_numbers(peer, address, 20)
        await asyncio.wait_for(protocol.lost, 10)
        assert arrived(peer) == [b"%d" % i for i in range(11)]


async def test_other_processes_find_it_sent(loop):
    """Starting one sends first."""
    ran = []

    class Running(Echo):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if data == b"10":
                os.system("true")  # noqa: S605, S607
                ran.append(arrived(peer))

    async with bound(loop, Running) as (_, protocol, peer, address):
        for _ in range(6):
            send_numbers(peer, address, 9)
            await protocol.received(len(protocol.data) + 9)
        arrived(peer)
        protocol.data.clear()
        send_numbers(peer, address, 20)
        await protocol.received(20)
        assert ran == [[b"%d" % i for i in range(11)]]


async def test_failures_of_a_burst(loop):
    """Each is told, the others arrive, and the transport stays open."""

    class Failing(Echo):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            if int(data) % 4 == 0:
                self.transport.sendto(data, (addr[0], 0))

    async with bound(loop, Failing) as (transport, protocol, peer, address):
        await warm_up(protocol, peer, address)
        arrived(peer)
        protocol.errors.clear()
        sent = send_numbers(peer, address, 40)
        await protocol.received(40)
        await spin(2)
        assert len(protocol.errors) == 10
        assert {type(error) for error in protocol.errors} == {OSError}
        assert arrived(peer) == sent
        assert not transport.is_closing()


async def test_error_received_that_sends(loop):
    class Failing(Echo):
        def datagram_received(self, data, addr):
            self.peer = addr
            super().datagram_received(data, addr)
            self.transport.sendto(data, (addr[0], 0))

        def error_received(self, exc):
            super().error_received(exc)
            self.transport.sendto(b"sorry", self.peer)

    async with bound(loop, Failing) as (_, protocol, peer, address):
        sent = send_numbers(peer, address, 30)
        await protocol.received(30)
        await spin(2)
        found = arrived(peer)
        assert [data for data in found if data != b"sorry"] == sent
        assert len(found) == 60


IN_ERROR_RECEIVED = {
    "write": lambda self: self.stream.write(b"little"),
    "write much": lambda self: self.stream.write(bytearray(20_000)),
    "write and look": lambda self: write_and_look(self.stream),
    "sendto": lambda self: self.transport.sendto(b"-", self.sender),
    "look": lambda self: self.look(self.transport.get_write_buffer_size()),
    "limit": lambda self: self.transport.set_write_buffer_limits(1),
    "close": lambda self: self.transport.close(),
    "abort": lambda self: self.transport.abort(),
}


@pytest.mark.parametrize("name", IN_ERROR_RECEIVED)
async def test_error_received_is_not_called_in_itself(loop, name):
    class Failing(Endpoint):
        depth = depth_max = 0

        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.sender = addr
            if data == b"now":
                for _ in range(2000):
                    self.transport.sendto(b"-", (addr[0], 0))
                self.is_held_back = not self.errors

        def error_received(self, exc):
            super().error_received(exc)
            self.depth += 1
            self.depth_max = max(self.depth, self.depth_max)
            IN_ERROR_RECEIVED[name](self)
            self.depth -= 1

        def look(self, size):
            assert size == 0

    async def attempt():
        async with (
            net.connected(loop, asyncio.Protocol) as (stream, _, _),
            bound(loop, Failing) as (_, protocol, peer, address),
        ):
            protocol.stream = stream
            missed = name in {"close", "abort"}
            burst = [b"now", b""]
            await receives_burst(protocol, peer, address, burst, missed)
            await protocol.failed(2000)
            assert protocol.depth_max == 1
            assert "pause_writing" not in protocol.calls
            return protocol.is_held_back

    await until_held_back(loop, attempt)


@pytest.mark.parametrize("write", [write_little, write_much, end])
@pytest.mark.parametrize("sends", [False, True])
async def test_what_error_received_sends_goes_before_the_rest(
    loop, write, sends
):
    class Failing(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            self.sender = addr
            if data == b"now":
                self.transport.sendto(b"-", (addr[0], 0))
                self.transport.sendto(b"second", addr)
                self.is_held_back = is_without_data(self.peer)

        def error_received(self, exc):
            super().error_received(exc)
            write(self.stream)
            if sends:
                self.transport.sendto(b"first", self.sender)

    async def attempt():
        async with (
            net.connected(loop, asyncio.Protocol) as (stream, _, stream_peer),
            bound(loop, Failing) as (_, protocol, peer, address),
        ):
            protocol.stream, protocol.peer = stream, peer
            with watching(stream_peer, peer) as order:
                await receives_burst(protocol, peer, address, [b"now", b""])
                assert order() == [stream_peer, peer]
            expected = [b"first", b"second"] if sends else [b"second"]
            assert arrived(peer) == expected
            return protocol.is_held_back

    await until_held_back(loop, attempt)


async def test_error_received_that_raises(loop, errors):
    class Failing(Echo):
        def datagram_received(self, data, addr):
            Endpoint.datagram_received(self, data, addr)
            self.transport.sendto(data, (addr[0], 0))
            self.transport.sendto(data, addr)

        def error_received(self, exc):
            super().error_received(exc)
            raise LookupError

    async with bound(loop, Failing) as (transport, protocol, peer, address):
        send_numbers(peer, address, 30)
        await protocol.received(30)
        await protocol.failed(30)
        await spin(2)
        # Sent at once, the exception leaves sendto() and then the callback,
        # which does not come to its second sendto().
        assert len(errors) == 30
        assert not transport.is_closing()
        assert {type(c["exception"]) for c in errors} == {LookupError}
        errors.clear()


async def test_a_proxy(loop):
    """What comes in on one goes out on another, in order."""

    class Forwarding(Endpoint):
        def datagram_received(self, data, addr):
            super().datagram_received(data, addr)
            out.sendto(data, target.getsockname())

    with udp() as target:
        out, _ = await loop.create_datagram_endpoint(
            Endpoint, local_addr=("127.0.0.1", 0)
        )
        async with bound(loop, Forwarding) as (_, protocol, peer, address):
            await warm_up(protocol, peer, address, turns=2)
            arrived(target)
            sent = send_numbers(peer, address, 100)
            await protocol.received(100)
            await spin()
            assert arrived(target) == sent
            # One that goes meanwhile has sent what it was given.
            protocol.datagram_received = lambda data, addr: out.close()
        await finish(out)


async def test_connected_endpoints_send_at_once(loop):
    seen = []

    class Looking(Echo):
        def datagram_received(self, data, addr):
            Endpoint.datagram_received(self, data, addr)
            self.transport.sendto(data)
            seen.extend(arrived(peer))

    async with connected(loop, Looking) as (_, protocol, peer):
        for i in range(50):
            peer.send(b"%d" % i)
        await protocol.received(50)
        assert seen == [b"%d" % i for i in range(50)]
