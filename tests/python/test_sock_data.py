# SPDX-License-Identifier: MIT
"""sock_recv, sock_recv_into, sock_sendall, and the datagram ones."""

import array
import asyncio
import ctypes
import gc
import inspect
import select
import socket
from unittest import mock

import pytest

from support.leaks import join_all, spawn
from support.net import connected, recv_exactly, reset, spin, tcp_pair

row = pytest.mark.row


@pytest.fixture
def pair():
    """A non-blocking TCP socket and its blocking peer."""
    ours, peer = tcp_pair()
    ours.setblocking(False)
    with ours, peer:
        yield ours, peer


@pytest.fixture
def udp():
    one = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    two = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    with one, two:
        for sock in (one, two):
            sock.bind(("127.0.0.1", 0))
            sock.setblocking(False)
        yield one, two


@row("P1A-156", "P1A-163", "P1A-173", "P2A-023", "P1A-166")
def test_they_are_coroutines(loop):
    with socket.socket() as sock:
        sock.setblocking(False)
        made = [
            loop.sock_recv(sock, 1),
            loop.sock_recv_into(sock, bytearray(1)),
            loop.sock_sendall(sock, b""),
            loop.sock_connect(sock, ("127.0.0.1", 1)),
            loop.sock_accept(sock),
            loop.sock_recvfrom(sock, 1),
            loop.sock_recvfrom_into(sock, bytearray(1)),
            loop.sock_sendto(sock, b"", ("127.0.0.1", 1)),
        ]
        for coroutine in made:
            assert asyncio.iscoroutine(coroutine)
            assert inspect.isawaitable(coroutine)
            coroutine.close()


@row("P1A-153", "P1A-154")
async def test_recv(loop, pair):
    ours, peer = pair
    peer.send(b"hello")
    data = await loop.sock_recv(ours, 3)
    assert type(data) is bytes
    assert data == b"hel"
    assert await loop.sock_recv(ours, 100) == b"lo"
    peer.shutdown(socket.SHUT_WR)
    assert await loop.sock_recv(ours, 100) == b""


@row("P1A-153", "P4D-007")
async def test_recv_waits(loop, pair):
    ours, peer = pair
    task = asyncio.create_task(loop.sock_recv(ours, 100))
    await spin(3)
    assert not task.done()
    peer.send(b"late")
    assert await task == b"late"


@row("P4D-007")
async def test_a_ready_socket_takes_no_turn(loop, pair):
    ours, peer = pair
    peer.send(b"x")
    ran = []
    loop.call_soon(ran.append, 1)
    assert await loop.sock_recv(ours, 1) == b"x"
    await loop.sock_sendall(ours, b"y")
    buffer = bytearray(1)
    peer.send(b"z")
    assert await loop.sock_recv_into(ours, buffer) == 1
    assert ran == []
    await spin()
    assert ran == [1]


@row("P4D-007")
def test_nothing_happens_before_the_first_step(loop, pair):
    ours, peer = pair
    peer.send(b"x")
    coroutine = loop.sock_recv(ours, 1)
    coroutine.close()
    coroutine = loop.sock_sendall(ours, b"not sent")
    coroutine.close()
    assert loop.run_until_complete(loop.sock_recv(ours, 10)) == b"x"
    peer.setblocking(False)
    with pytest.raises(BlockingIOError):
        peer.recv(1)


@row("P2A-016")
async def test_recv_into(loop, pair):
    ours, peer = pair
    peer.send(b"hello")
    buffer = bytearray(b"." * 8)
    assert await loop.sock_recv_into(ours, memoryview(buffer)[2:6]) == 4
    assert buffer == b"..hell.."
    assert await loop.sock_recv_into(ours, buffer) == 1
    task = asyncio.create_task(loop.sock_recv_into(ours, buffer))
    await spin(2)
    peer.send(b"waited")
    assert await task == 6
    assert buffer[:6] == b"waited"
    numbers = array.array("I", [0])
    peer.send(b"\x01\x00\x00\x00")
    assert await loop.sock_recv_into(ours, numbers) == 4
    peer.shutdown(socket.SHUT_WR)
    assert await loop.sock_recv_into(ours, buffer) == 0


async def test_recv_into_a_buffer_that_cannot_be_written(loop, pair):
    ours, peer = pair
    peer.send(b"x")
    for wrong in (b"bytes", "text", 1, None, memoryview(b"x")):
        with pytest.raises((TypeError, BufferError)):
            await loop.sock_recv_into(ours, wrong)


@row("P1A-157", "P1A-159", "P1A-160")
async def test_sendall(loop, pair):
    ours, peer = pair
    assert await loop.sock_sendall(ours, b"hello") is None
    assert recv_exactly(peer, 5) == b"hello"
    for data in (bytearray(b"ab"), memoryview(b"cdef")[1:3]):
        assert await loop.sock_sendall(ours, data) is None
    assert recv_exactly(peer, 4) == b"abde"


@row("P1A-157", "P1A-159")
async def test_sendall_of_much_to_a_slow_reader(loop, pair):
    ours, peer = pair
    data = bytes(range(256)) * 4 * 10240
    got = []
    thread = spawn(lambda: got.append(recv_exactly(peer, len(data))))
    assert await loop.sock_sendall(ours, data) is None
    join_all([thread])
    assert got == [data]


async def test_sendall_of_wide_items(loop, pair):
    """What counts is bytes, not items of the buffer."""
    ours, peer = pair
    numbers = array.array("Q", range(1 << 17))
    got = []
    size = len(numbers) * numbers.itemsize
    thread = spawn(lambda: got.append(recv_exactly(peer, size)))
    await loop.sock_sendall(ours, memoryview(numbers).cast("B"))
    join_all([thread])
    assert got == [numbers.tobytes()]


@row("P4D-010")
async def test_sendall_of_nothing(loop, pair):
    assert await loop.sock_sendall(pair[0], b"") is None
    with socket.socket() as sock:
        sock.setblocking(False)
        # It is attempted, which an unconnected socket refuses.
        with pytest.raises(OSError):
            await loop.sock_sendall(sock, b"")


@row("P4D-009")
async def test_sendall_cancelled_and_started_again(loop, pair):
    ours, peer = pair
    data = b"a" * (8 << 20)
    task = asyncio.create_task(loop.sock_sendall(ours, data))
    await spin(3)
    assert not task.done()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    got = bytearray()
    peer.setblocking(False)
    while True:
        try:
            got += peer.recv(1 << 20)
        except BlockingIOError:
            break
    assert 0 < len(got) < len(data)
    await loop.sock_sendall(ours, b"next")
    peer.settimeout(10)
    rest = bytearray()
    while not rest.endswith(b"next"):
        rest += peer.recv(1 << 20)
    assert rest.strip(b"a") == b"next"


@pytest.mark.parametrize("is_stream", [True, False])
async def test_is_not_sent_before_what_transports_wrote(
    loop, pair, udp, is_stream
):
    """In one callback; epoll tells what came first."""
    sock, peer = pair if is_stream else udp
    async with connected(loop, asyncio.Protocol) as (writer, _, writer_peer):
        with select.epoll() as arrivals:
            for arrival in peer, writer_peer:
                arrivals.register(arrival, select.EPOLLIN | select.EPOLLET)
            writer.write(b"first")
            if is_stream:
                await loop.sock_sendall(sock, b"second")
            else:
                await loop.sock_sendto(sock, b"second", peer.getsockname())
            await spin(1)
            found = [number for number, _ in arrivals.poll(0)]
        assert found == [writer_peer.fileno(), peer.fileno()]


async def test_recv_sees_what_a_transport_wrote_before(loop):
    async with connected(loop, asyncio.Protocol) as (writer, _, peer):
        peer.setblocking(False)
        writer.write(b"just now")
        receiving = loop.sock_recv(peer, 100)
        with pytest.raises(StopIteration) as ended:
            receiving.send(None)
        assert ended.value.value == b"just now"


@row("P1A-158", "P1A-161")
async def test_errors(loop):
    with socket.socket() as sock:
        sock.setblocking(False)
        with pytest.raises(OSError):
            await loop.sock_sendall(sock, b"x")
        with pytest.raises(OSError):
            await loop.sock_recv(sock, 1)
    for coroutine in (loop.sock_recv(sock, 1), loop.sock_sendall(sock, b"x")):
        with pytest.raises(OSError) as caught:
            await coroutine
        assert caught.value.errno == 9


@row("P1A-161")
async def test_reset_by_the_peer(loop, pair):
    ours, peer = pair
    waiting = asyncio.create_task(loop.sock_recv(ours, 1))
    await spin(2)
    reset(peer)
    with pytest.raises(ConnectionResetError):
        await waiting
    with pytest.raises(ConnectionError):
        await loop.sock_sendall(ours, b"x")


@row("P4D-008")
async def test_recv_cancelled_then_again(loop, pair):
    ours, peer = pair
    first = asyncio.create_task(loop.sock_recv(ours, 100))
    await spin(2)
    first.cancel()
    second = asyncio.create_task(loop.sock_recv(ours, 100))
    with pytest.raises(asyncio.CancelledError):
        await first
    await spin(2)
    peer.send(b"for the second")
    assert await second == b"for the second"
    assert loop.remove_reader(ours) is False


async def test_cancel_leaves_nothing_registered(loop, pair):
    ours, peer = pair
    buffer = bytearray(10)
    for make in (
        lambda: loop.sock_recv(ours, 1),
        lambda: loop.sock_recv_into(ours, buffer),
        lambda: loop.sock_sendall(ours, b"x" * (32 << 20)),
    ):
        task = asyncio.create_task(make())
        await spin(2)
        assert not task.done()
        task.cancel()
        with pytest.raises(asyncio.CancelledError):
            await task
        await spin(2)
        assert loop.remove_reader(ours) is False
        assert loop.remove_writer(ours) is False
    buffer.extend(b"no longer held")


async def test_timeout_around_a_recv(loop, pair):
    ours, peer = pair
    with pytest.raises(TimeoutError):
        async with asyncio.timeout(0.01):
            await loop.sock_recv(ours, 1)
    peer.send(b"x")
    assert await loop.sock_recv(ours, 1) == b"x"


async def test_recv_and_send_at_the_same_time(loop, pair):
    ours, peer = pair
    data = bytes(4 << 20)
    sending = asyncio.create_task(loop.sock_sendall(ours, data))
    receiving = asyncio.create_task(loop.sock_recv(ours, 10))
    await spin(2)
    peer.send(b"answer")
    assert await receiving == b"answer"
    thread = spawn(recv_exactly, peer, len(data))
    await sending
    join_all([thread])


async def test_recv_replaces_a_reader_of_the_user(loop, pair):
    """add_reader and sock_recv share the registration, as in CPython."""
    ours, peer = pair
    calls = []
    task = asyncio.create_task(loop.sock_recv(ours, 10))
    await spin(2)
    peer.send(b"data")
    assert await task == b"data"
    loop.add_reader(ours, calls.append, 1)
    peer.send(b"more")
    while not calls:
        await asyncio.sleep(0)
    assert loop.remove_reader(ours)


@row("P4D-003")
async def test_fd_of_a_transport_is_refused(loop, pair):
    ours, peer = pair
    transport, _ = await loop.create_connection(asyncio.Protocol, sock=ours)
    await spin(2)
    fd = ours.fileno()
    for wait in (
        loop.sock_recv(ours, 1),
        loop.sock_recv_into(ours, bytearray(1)),
        loop.sock_recvfrom(ours, 1),
        loop.sock_recvfrom_into(ours, bytearray(1)),
        loop.sock_sendall(ours, bytes(16 << 20)),
    ):
        with pytest.raises(
            RuntimeError, match=f"File descriptor {fd} is used by transport"
        ):
            await wait
    transport.abort()
    await spin(2)


@row("P4D-014")
async def test_duck_typed_sockets(loop, pair):
    ours, peer = pair
    mocked = mock.Mock(wraps=ours)
    mocked.fileno.side_effect = ours.fileno
    mocked.gettimeout.side_effect = ours.gettimeout
    peer.send(b"x")
    assert await loop.sock_recv(mocked, 1) == b"x"
    task = asyncio.create_task(loop.sock_recv(mocked, 10))
    await spin(2)
    peer.send(b"later")
    assert await task == b"later"
    await loop.sock_sendall(mocked, b"sent")
    assert recv_exactly(peer, 4) == b"sent"
    assert mocked.recv.call_count >= 2
    assert mocked.send.call_count >= 1


async def test_subclass_that_overrides_recv(loop):
    """Sockets of a subclass with I/O methods of its own are used by them."""

    class Loud(socket.socket):
        def recv(self, count):
            return super().recv(count).upper()

    one, two = socket.socketpair()
    loud = Loud(fileno=one.detach())
    with loud, two:
        loud.setblocking(False)
        two.send(b"quiet")
        assert await loop.sock_recv(loud, 10) == b"QUIET"


@row("P4D-013")
async def test_ssl_sockets_are_refused(loop):
    import ssl

    context = ssl.create_default_context()
    with socket.socket() as sock:
        wrapped = context.wrap_socket(
            sock, server_hostname="x", do_handshake_on_connect=False
        )
        with wrapped:
            wrapped.setblocking(False)
            for coroutine in (
                loop.sock_recv(wrapped, 1),
                loop.sock_recv_into(wrapped, bytearray(1)),
                loop.sock_sendall(wrapped, b"x"),
                loop.sock_accept(wrapped),
                loop.sock_connect(wrapped, ("127.0.0.1", 1)),
                loop.sock_recvfrom(wrapped, 1),
                loop.sock_recvfrom_into(wrapped, bytearray(1)),
                loop.sock_sendto(wrapped, b"x", ("127.0.0.1", 1)),
            ):
                with pytest.raises(
                    TypeError, match="^Socket cannot be of type SSLSocket$"
                ):
                    await coroutine


@row("P2A-032", "P2A-034", "P2H-009")
async def test_sendto_and_recvfrom(loop, udp):
    one, two = udp
    sent = await loop.sock_sendto(one, b"datagram", two.getsockname())
    assert sent == 8
    data, address = await loop.sock_recvfrom(two, 100)
    assert (data, address) == (b"datagram", one.getsockname())


@row("P2A-032")
async def test_recvfrom_waits_and_truncates(loop, udp):
    one, two = udp
    task = asyncio.create_task(loop.sock_recvfrom(two, 4))
    await spin(2)
    one.sendto(b"datagram", two.getsockname())
    assert await task == (b"data", one.getsockname())


@row("P2A-033", "P2H-009")
async def test_recvfrom_into(loop, udp):
    one, two = udp
    buffer = bytearray(b"." * 10)
    one.sendto(b"abc", two.getsockname())
    count, address = await loop.sock_recvfrom_into(two, buffer)
    assert (count, address) == (3, one.getsockname())
    assert buffer == b"abc......."
    one.sendto(b"defg", two.getsockname())
    count, address = await loop.sock_recvfrom_into(two, buffer, 2)
    assert count == 2
    assert buffer == b"dec......."
    task = asyncio.create_task(loop.sock_recvfrom_into(two, buffer))
    await spin(2)
    one.sendto(b"late", two.getsockname())
    assert await task == (4, one.getsockname())


@row("P2A-033")
async def test_recvfrom_into_too_many_bytes(loop, udp):
    one, two = udp
    one.sendto(b"x", two.getsockname())
    with pytest.raises(ValueError):
        await loop.sock_recvfrom_into(two, bytearray(4), 5)
    await loop.sock_recvfrom(two, 1)


@row("P2A-034")
async def test_sendto_bad_address(loop, udp):
    one, _ = udp
    with pytest.raises(TypeError):
        await loop.sock_sendto(one, b"x", "not an address")
    with pytest.raises((TypeError, OSError)):
        await loop.sock_sendto(one, b"x", None)


@pytest.mark.parametrize("wrong", [None, "text", 1, ["x"]])
async def test_sending_what_is_not_bytes(loop, pair, wrong):
    with pytest.raises(TypeError):
        await loop.sock_sendall(pair[0], wrong)


async def test_recv_negative_or_wrong_count(loop, pair):
    ours, peer = pair
    peer.send(b"x")
    with pytest.raises(ValueError):
        await loop.sock_recv(ours, -1)
    with pytest.raises(TypeError):
        await loop.sock_recv(ours, "1")
    with pytest.raises(TypeError):
        await loop.sock_recv(ours)
    assert await loop.sock_recv(ours, 0) == b""
    assert await loop.sock_recv(ours, 1) == b"x"


@pytest.mark.parametrize("wrong", [1, None, "sock", object()])
async def test_what_is_not_a_socket(loop, wrong):
    with pytest.raises((AttributeError, TypeError)):
        await loop.sock_recv(wrong, 1)
    with pytest.raises((AttributeError, TypeError)):
        await loop.sock_sendall(wrong, b"x")


@row("P2A-018")
async def test_sock_sendfile_by_the_fallback(loop, pair, tmp_path):
    ours, peer = pair
    content = bytes(range(256)) * 4096
    path = tmp_path / "file"
    path.write_bytes(content)
    got = []
    thread = spawn(lambda: got.append(recv_exactly(peer, len(content))))
    with path.open("rb") as file:
        sent = await loop.sock_sendfile(ours, file)
        assert sent == len(content)
        assert file.tell() == len(content)
    join_all([thread])
    assert got == [content]


@row("P2A-018", "P2H-008")
async def test_sock_sendfile_part_and_errors(loop, pair, udp, tmp_path):
    ours, peer = pair
    path = tmp_path / "file"
    path.write_bytes(b"0123456789")
    with path.open("rb") as file:
        assert await loop.sock_sendfile(ours, file, 3, 4) == 4
        assert recv_exactly(peer, 4) == b"3456"
        for wrong in (0, -1):
            with pytest.raises(ValueError):
                await loop.sock_sendfile(ours, file, 0, wrong)
        with pytest.raises(TypeError):
            await loop.sock_sendfile(ours, file, 0, "1")
        with pytest.raises(ValueError):
            await loop.sock_sendfile(ours, file, -1)
        with pytest.raises(TypeError):
            await loop.sock_sendfile(ours, file, "0")
        with pytest.raises(ValueError, match="^only SOCK_STREAM type sockets"):
            await loop.sock_sendfile(udp[0], file)
        assert file.tell() == 7
    with path.open("r") as text:
        with pytest.raises(ValueError, match="binary mode"):
            await loop.sock_sendfile(ours, text)
    (tmp_path / "empty").write_bytes(b"")
    with (tmp_path / "empty").open("rb") as empty:
        assert await loop.sock_sendfile(ours, empty) == 0


async def test_numbers_are_reused(loop):
    """Closed and opened again, a number belongs to the new socket."""
    for number in range(50):
        one, two = socket.socketpair()
        with one, two:
            one.setblocking(False)
            task = asyncio.create_task(loop.sock_recv(one, 100))
            await asyncio.sleep(0)
            two.send(b"%d" % number)
            assert await task == b"%d" % number


async def test_socket_closed_under_a_waiting_call(loop):
    """It waits on; cancelling it works, and disturbs no successor."""
    one, two = socket.socketpair()
    one.setblocking(False)
    task = asyncio.create_task(loop.sock_recv(one, 100))
    await spin(2)
    fd = one.fileno()
    one.close()
    three, four = socket.socketpair()
    assert fd in (three.fileno(), four.fileno())
    mine, other = (three, four) if three.fileno() == fd else (four, three)
    mine.setblocking(False)
    other.send(b"for the successor")
    await spin(3)
    task.cancel()
    with pytest.raises((asyncio.CancelledError, OSError)):
        await task
    await spin(2)
    assert await loop.sock_recv(mine, 100) == b"for the successor"
    for sock in (two, three, four):
        sock.close()


async def test_coroutine_protocol(loop, pair):
    """send, throw and close do what a coroutine's do."""
    ours, peer = pair
    peer.send(b"x")
    coroutine = loop.sock_recv(ours, 1)
    with pytest.raises(StopIteration) as caught:
        coroutine.send(None)
    assert caught.value.value == b"x"
    with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
        coroutine.send(None)
    coroutine = loop.sock_recv(ours, 1)
    with pytest.raises(ZeroDivisionError):
        coroutine.throw(ZeroDivisionError)
    with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
        await coroutine
    coroutine = loop.sock_recv(ours, 1)
    coroutine.close()
    coroutine.close()
    with pytest.raises(RuntimeError, match="cannot reuse already awaited"):
        await coroutine
    coroutine = loop.sock_recv(ours, 1)
    with pytest.raises(TypeError, match="non-None value to a just-started"):
        coroutine.send(5)
    coroutine.close()
    assert loop.remove_reader(ours) is False


async def test_coroutine_closed_while_it_waits(loop, pair):
    ours, peer = pair
    coroutine = loop.sock_recv(ours, 1)
    waited_for = coroutine.send(None)
    assert asyncio.isfuture(waited_for)
    coroutine.close()
    waited_for.cancel()
    await spin(2)
    assert loop.remove_reader(ours) is False
    peer.send(b"x")
    assert await loop.sock_recv(ours, 1) == b"x"


async def test_tasks_that_wait_in_it_can_be_shown(loop, pair):
    ours, peer = pair
    task = asyncio.create_task(loop.sock_recv(ours, 1))
    await spin(2)
    assert "pending" in repr(task)
    assert isinstance(task.get_stack(), list)
    assert "sock_recv" in repr(task.get_coro())
    peer.send(b"x")
    await task
    assert "finished" in repr(task)


def test_never_awaited(loop, pair):
    ours, _ = pair
    with pytest.warns(RuntimeWarning, match="sock_recv.* was never awaited"):
        loop.sock_recv(ours, 1)
        gc.collect()


async def test_many_small_exchanges(loop, pair):
    ours, peer = pair
    peer.setblocking(False)
    for number in range(300):
        waiting = asyncio.ensure_future(loop.sock_recv(ours, 10))
        await loop.sock_sendall(peer, b"%d" % number)
        assert await waiting == b"%d" % number


TP_CLEAR = 51  # Py_tp_clear of typeslots.h, the same in every version


async def test_the_collector_cleared_what_is_kept(loop, pair):
    """As at the end of the interpreter, before the last coroutines go."""
    ours, peer = pair
    clear = ctypes.pythonapi.PyType_GetSlot
    clear.restype = ctypes.PYFUNCTYPE(ctypes.c_int, ctypes.py_object)
    clear.argtypes = [ctypes.py_object, ctypes.c_int]
    peer.send(b"one")
    assert await loop.sock_recv(ours, 3) == b"one"
    for result in gc.get_objects():
        if type(result) is StopIteration and result.args == (None,):
            clear(StopIteration, TP_CLEAR)(result)
    del result
    peer.send(b"two")
    assert await loop.sock_recv(ours, 3) == b"two"
