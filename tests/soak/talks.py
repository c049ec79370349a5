# SPDX-License-Identifier: MIT
"""A soak's conversations as asyncio's streams, loop.sock_*, and threads."""

import asyncio
import contextlib
import select
import socket
import ssl

from plans import HEADER
from world import GONE, leave, make_reset

READ_MAX = 1 << 16
STEP_SECONDS_MAX = 30


class LeaveError(Exception):
    """The plan says to leave now, in the middle."""


def leave_in_time(plan, side):
    if plan.is_time_to_act(side):
        raise LeaveError


def take_piece(world, plan, side):
    """The next bytes to send; LeaveError when it is time to go."""
    leave_in_time(plan, side)
    return plan.sending(side).take(world.rng.randint(1, plan.piece_max))


def check_piece(world, plan, side, data):
    plan.receiving(side).check(data)
    world.note_checked(len(data))
    leave_in_time(plan, side)


async def rest(world, plan, side):
    if plan.slow == side and world.rng.random() < 0.2:
        world.counts["pauses of a reader"] += 1
        await asyncio.sleep(world.rng.uniform(0, 0.01))


async def both(*coroutines):
    """Run together; when one fails the others end before it is raised."""
    tasks = [asyncio.ensure_future(each) for each in coroutines]
    try:
        await asyncio.gather(*tasks)
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


# --- streams ---


async def send_by_stream(world, plan, side, writer):
    stream = plan.sending(side)
    while not stream.is_sent:
        if world.rng.random() < 0.02 and plan.kind != "unix":
            await send_file(world, plan, side, writer)
        else:
            writer.write(take_piece(world, plan, side))
        await writer.drain()
    leave_in_time(plan, side)
    if plan.ending == "half-close" and side == "client":
        writer.write_eof()


async def send_file(world, plan, side, writer):
    """The same bytes, out of a file that has the whole block."""
    leave_in_time(plan, side)
    if writer.transport.is_closing():
        raise ConnectionResetError("sendfile() takes an open connection")
    if plan.kind == "tls" and not writer.transport.is_reading():
        return  # the reader resumes it in the middle: as asyncio's, it fails
    loop = asyncio.get_running_loop()
    try:
        file = open(world.path, "rb")
    except OSError:
        return  # no descriptor is free
    # One of its own: where it stands belongs to this sendfile().
    with file:
        stream = plan.sending(side)
        place = stream.place_in_block()
        size = len(stream.take(world.rng.randint(1, plan.piece_max)))
        sent = await loop.sendfile(writer.transport, file, place, size)
    if sent != size:
        world.fail(f"sendfile() sent {sent} of {size}: {plan.describe()}")
    world.counts["files sent"] += 1
    # Reading resumes in the next turn. A second sendfile() before that hears
    # the end of a TLS connection as asyncio's does: it complains.
    await asyncio.sleep(0)


async def receive_by_stream(world, plan, side, reader):
    stream = plan.receiving(side)
    is_exact = world.rng.random() < 0.3
    while not stream.is_received:
        size = world.rng.randint(1, READ_MAX)
        if is_exact:
            size = min(size, stream.size - stream.received)
            data = await reader.readexactly(size)
        else:
            data = await reader.read(size)
        if not data:
            raise asyncio.IncompleteReadError(b"", None)
        check_piece(world, plan, side, data)
        await rest(world, plan, side)
    if side == "server" and plan.ending == "half-close":
        rest_of_it = await reader.read()
        if rest_of_it:
            world.fail(f"bytes behind the last: {plan.describe()}")


async def wait_for_peer(world, plan, side, reader):
    """Whoever does not close waits until the other has."""
    is_closer = {
        "client close": "client",
        "server close": "server",
        "half-close": "server",
    }.get(plan.ending)
    if is_closer != side and await reader.read(1):
        world.fail(f"bytes behind the last: {plan.describe()}")


async def talk_by_streams(world, plan, side, reader, writer):
    writer.transport.set_write_buffer_limits(high=plan.high_water)
    try:
        await both(
            send_by_stream(world, plan, side, writer),
            receive_by_stream(world, plan, side, reader),
        )
        await wait_for_peer(world, plan, side, reader)
    except LeaveError:
        leave(plan, writer.transport)
    except (*GONE, ssl.SSLError) as error:
        if not plan.is_rude:
            world.fail(f"{side} of {plan.describe()}: {error!r}")
        writer.transport.abort()
    finally:
        writer.close()
        with contextlib.suppress(*GONE, ssl.SSLError):
            await writer.wait_closed()


async def serve_by_streams(world, kind, reader, writer):
    """The handler of a server of asyncio.start_server()."""
    token = object()
    world.sides.add(token)
    plan = None
    try:
        header = await reader.readexactly(HEADER.size)
        plan = world.find_plan(header, kind, "streams")
        await talk_by_streams(world, plan, "server", reader, writer)
    except (*GONE, ssl.SSLError) as error:
        if plan is not None and not plan.is_rude:
            world.fail(f"server of {plan.describe()}: {error!r}")
    except Exception as error:
        world.fail(f"server of {plan and plan.describe()}: {error!r}")
    finally:
        writer.close()
        world.sides.discard(token)
        if plan is not None and not plan.served.done():
            plan.served.set_result(None)


# --- loop.sock_*() ---


async def send_by_sock(world, plan, sock):
    loop = asyncio.get_running_loop()
    while not plan.up.is_sent:
        await loop.sock_sendall(sock, take_piece(world, plan, "client"))
    leave_in_time(plan, "client")
    if plan.ending == "half-close":
        sock.shutdown(socket.SHUT_WR)


async def receive_by_sock(world, plan, sock):
    loop = asyncio.get_running_loop()
    buffer = bytearray(world.rng.randint(1, READ_MAX))
    while not plan.down.is_received:
        if world.rng.random() < 0.5:
            data = await loop.sock_recv(sock, len(buffer))
        else:
            count = await loop.sock_recv_into(sock, buffer)
            data = memoryview(buffer)[:count]
        if not data:
            raise asyncio.IncompleteReadError(b"", None)
        check_piece(world, plan, "client", data)
        await rest(world, plan, "client")
    if plan.ending != "client close" and await loop.sock_recv(sock, 1):
        world.fail(f"bytes behind the last: {plan.describe()}")


async def talk_by_sock(world, plan, address, sock):
    loop = asyncio.get_running_loop()
    with sock:
        await loop.sock_connect(sock, address)
        await loop.sock_sendall(sock, plan.header)
        try:
            await both(
                send_by_sock(world, plan, sock),
                receive_by_sock(world, plan, sock),
            )
        except LeaveError:
            if plan.ending != "close early":
                make_reset(sock)
        except GONE as error:
            if not plan.is_rude:
                world.fail(f"client of {plan.describe()}: {error!r}")


# --- a blocking socket in a thread ---


class RawClient:
    """A peer that owes nothing to the loop under test.

    Its plan's numbers come from a generator of its own: it runs beside the
    loop.
    """

    def __init__(self, world, plan, address, rng):
        self.world = world
        self.plan = plan
        self.address = address
        self.rng = rng
        self.checked = 0
        self.pending = memoryview(plan.header)

    def run(self):
        family = socket.AF_INET
        if self.plan.kind == "unix":
            family = socket.AF_UNIX
        with socket.socket(family) as sock:
            sock.settimeout(STEP_SECONDS_MAX)
            sock.connect(self.address)
            sock.setblocking(False)
            try:
                while self.step(sock):
                    pass
            except LeaveError:
                if self.plan.ending != "close early":
                    make_reset(sock)
            except GONE as error:
                if not self.plan.is_rude:
                    raise AssertionError(self.plan.describe()) from error
        return self.checked

    def step(self, sock):
        """Send and receive what goes; False at the end."""
        plan = self.plan
        wants_more = self.pending or not plan.up.is_sent
        poller = select.poll()
        poller.register(
            sock, select.POLLIN | (select.POLLOUT if wants_more else 0)
        )
        events = poller.poll(STEP_SECONDS_MAX * 1000)
        if not events:
            raise AssertionError(f"nothing happens: {plan.describe()}")
        if events[0][1] & select.POLLOUT:
            self.send(sock)
        if events[0][1] & (select.POLLIN | select.POLLHUP | select.POLLERR):
            return self.receive(sock)
        if plan.ending == "client close":
            return not (plan.up.is_sent and plan.down.is_received)
        return True

    def send(self, sock):
        plan = self.plan
        if not self.pending:
            size = self.rng.randint(1, plan.piece_max)
            self.pending = plan.up.take(size)
        sent = sock.send(self.pending)
        self.pending = self.pending[sent:]
        leave_in_time(plan, "client")
        if plan.up.is_sent and not self.pending:
            if plan.ending == "half-close":
                sock.shutdown(socket.SHUT_WR)

    def receive(self, sock):
        plan = self.plan
        data = sock.recv(self.rng.randint(1, READ_MAX))
        if not data:
            if not plan.down.is_received or not plan.up.is_sent:
                raise asyncio.IncompleteReadError(b"", None)
            return False
        plan.down.check(data)
        self.checked += len(data)
        leave_in_time(plan, "client")
        if plan.ending != "client close":
            return True
        is_over = plan.up.is_sent and plan.down.is_received
        return bool(self.pending) or not is_over
