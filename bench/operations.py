# SPDX-License-Identifier: MIT
"""What a loop does besides moving bytes, one function for each operation.

Each takes a loop, prepares what is not to be measured, and returns a function
that does the operation at least the given number of times and returns how
many times it was.
"""

import asyncio
import os
import random
import socket
import threading
from collections.abc import Callable, Coroutine
from typing import Any

Run = Callable[[int], int]
Prepare = Callable[[asyncio.AbstractEventLoop], Run]

BATCH = 1000  # callbacks per turn where many are scheduled at once
PENDING_TIMERS = 200_000
TASKS = 100  # in one gather
PROGRAM = "/bin/true"  # of a child process
PATIENCE = 60  # seconds for a thread to end


def nothing(*args: object) -> None:
    pass


def run_forever(loop: asyncio.AbstractEventLoop, first: Any) -> None:
    """Until something stops the loop."""
    loop.call_soon(first)
    loop.run_forever()


def run_batches(
    loop: asyncio.AbstractEventLoop, count: int, fill: Callable[[], None]
) -> int:
    """Call fill once per turn until it has done count operations."""
    batches = -(-count // BATCH)
    left = batches

    def step() -> None:
        nonlocal left
        if left == 0:
            loop.stop()
            return
        left -= 1
        fill()
        loop.call_soon(step)

    run_forever(loop, step)
    return batches * BATCH


def run_task(
    loop: asyncio.AbstractEventLoop,
    work: Callable[[int], Coroutine[Any, Any, int]],
) -> Run:
    return lambda count: loop.run_until_complete(work(count))


def call_soon(loop: asyncio.AbstractEventLoop) -> Run:
    def run(count: int) -> int:
        left = count

        def step() -> None:
            nonlocal left
            left -= 1
            if left > 0:
                loop.call_soon(step)
            else:
                loop.stop()

        run_forever(loop, step)
        return count

    return run


def call_soon_batch(loop: asyncio.AbstractEventLoop) -> Run:
    def fill() -> None:
        for _ in range(BATCH):
            loop.call_soon(nothing)

    return lambda count: run_batches(loop, count, fill)


def call_soon_args(loop: asyncio.AbstractEventLoop) -> Run:
    def fill() -> None:
        for _ in range(BATCH):
            loop.call_soon(nothing, 1, 2, 3)

    return lambda count: run_batches(loop, count, fill)


def call_later_cancel(loop: asyncio.AbstractEventLoop) -> Run:
    """A server with many clients, each with a timeout that seldom fires."""
    generator = random.Random(1)
    pending = [
        loop.call_later(generator.uniform(1000, 2000), nothing)
        for _ in range(PENDING_TIMERS)
    ]
    delays = [generator.uniform(1000, 2000) for _ in range(BATCH)]

    def fill() -> None:
        for delay in delays:
            loop.call_later(delay, nothing).cancel()

    def run(count: int) -> int:
        assert len(pending) == PENDING_TIMERS  # they live as long as this
        return run_batches(loop, count, fill)

    return run


def call_later_fire(loop: asyncio.AbstractEventLoop) -> Run:
    """Timers that come due, a batch at a time; not zero, for which some loops
    use call_soon."""

    def run(count: int) -> int:
        batches = -(-count // BATCH)
        left = batches

        def start_batch() -> None:
            nonlocal left
            if left == 0:
                loop.stop()
                return
            left -= 1
            for _ in range(BATCH - 1):
                loop.call_later(0.001, nothing)
            loop.call_later(0.001, start_batch)

        run_forever(loop, start_batch)
        return batches * BATCH

    return run


def timeout_rearmed(loop: asyncio.AbstractEventLoop) -> Run:
    """A connection's timeout that starts anew with each message."""
    handle = loop.call_later(60, nothing)

    def fill() -> None:
        nonlocal handle
        for _ in range(BATCH):
            handle.cancel()
            handle = loop.call_later(60, nothing)

    return lambda count: run_batches(loop, count, fill)


def sleep_0(loop: asyncio.AbstractEventLoop) -> Run:
    async def work(count: int) -> int:
        for _ in range(count):
            await asyncio.sleep(0)
        return count

    return run_task(loop, work)


def gather_100(loop: asyncio.AbstractEventLoop) -> Run:
    async def child() -> None:
        pass

    async def work(count: int) -> int:
        rounds = -(-count // TASKS)
        for _ in range(rounds):
            await asyncio.gather(*[child() for _ in range(TASKS)])
        return rounds * TASKS

    return run_task(loop, work)


def future(loop: asyncio.AbstractEventLoop) -> Run:
    async def work(count: int) -> int:
        for _ in range(count):
            waiter = loop.create_future()
            loop.call_soon(waiter.set_result, None)
            await waiter
        return count

    return run_task(loop, work)


def queue(loop: asyncio.AbstractEventLoop) -> Run:
    async def answer(
        there: "asyncio.Queue[int]", back: "asyncio.Queue[int]", count: int
    ) -> None:
        for _ in range(count):
            await back.put(await there.get())

    async def work(count: int) -> int:
        there: asyncio.Queue[int] = asyncio.Queue()
        back: asyncio.Queue[int] = asyncio.Queue()
        task = loop.create_task(answer(there, back, count))
        for number in range(count):
            await there.put(number)
            await back.get()
        await task
        return count

    return run_task(loop, work)


def call_soon_threadsafe(loop: asyncio.AbstractEventLoop) -> Run:
    def run(count: int) -> int:
        def send() -> None:
            for _ in range(count - 1):
                loop.call_soon_threadsafe(nothing)
            loop.call_soon_threadsafe(loop.stop)

        thread = threading.Thread(target=send, daemon=True)
        run_forever(loop, thread.start)
        thread.join(PATIENCE)
        return count

    return run


def executor(loop: asyncio.AbstractEventLoop) -> Run:
    async def work(count: int) -> int:
        for _ in range(count):
            await loop.run_in_executor(None, nothing)
        return count

    return run_task(loop, work)


def getaddrinfo(loop: asyncio.AbstractEventLoop) -> Run:
    async def work(count: int) -> int:
        for _ in range(count):
            await loop.getaddrinfo("127.0.0.1", 80, type=socket.SOCK_STREAM)
        return count

    return run_task(loop, work)


class Peer(asyncio.Protocol):
    """Tells when it has connected and when it has been disconnected."""

    def __init__(self, loop: asyncio.AbstractEventLoop) -> None:
        self.lost: asyncio.Future[None] = loop.create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.set_result(None)


def connect_accept(loop: asyncio.AbstractEventLoop) -> Run:
    """Both ends are on the loop; an operation ends when both are gone.

    The address changes each time: each one has its own ephemeral ports, of
    which a closed connection keeps one for a minute.
    """
    accepted: list[Peer] = []

    def accept() -> Peer:
        accepted.append(Peer(loop))
        return accepted[-1]

    server = loop.run_until_complete(loop.create_server(accept, "0.0.0.0", 0))
    port: int = server.sockets[0].getsockname()[1]
    turns = 0

    async def connect_once(address: str) -> None:
        transport, client = await loop.create_connection(
            lambda: Peer(loop), address, port
        )
        transport.close()
        await client.lost
        while not accepted:
            await asyncio.sleep(0)
        await accepted.pop().lost

    async def work(count: int) -> int:
        nonlocal turns
        for _ in range(count):
            turns += 1
            await connect_once(f"127.0.{turns // 250 % 250}.{turns % 250 + 1}")
        return count

    return run_task(loop, work)


class PipeReader(asyncio.Protocol):
    """Calls a function with the number of bytes that came."""

    def __init__(self, on_bytes: Callable[[int], None]) -> None:
        self.on_bytes = on_bytes

    def data_received(self, data: bytes) -> None:
        self.on_bytes(len(data))


class PipeWriter(asyncio.BaseProtocol):
    """Knows when it is to pause, and calls a function when it may go on."""

    def __init__(self, on_resume: Callable[[], None]) -> None:
        self.on_resume = on_resume
        self.is_paused = False

    def pause_writing(self) -> None:
        self.is_paused = True

    def resume_writing(self) -> None:
        self.is_paused = False
        self.on_resume()


def connect_pipe(
    loop: asyncio.AbstractEventLoop,
    on_bytes: Callable[[int], None],
    on_resume: Callable[[], None] = nothing,
) -> tuple[asyncio.WriteTransport, PipeWriter]:
    """Both ends of a new pipe are on the loop."""
    read_fd, write_fd = os.pipe()

    async def connect() -> tuple[asyncio.WriteTransport, PipeWriter]:
        await loop.connect_read_pipe(
            lambda: PipeReader(on_bytes), open(read_fd, "rb", buffering=0)
        )
        return await loop.connect_write_pipe(
            lambda: PipeWriter(on_resume), open(write_fd, "wb", buffering=0)
        )

    return loop.run_until_complete(connect())


def pipe_1k(loop: asyncio.AbstractEventLoop) -> Run:
    """There through one pipe, back through another. A message of less than
    PIPE_BUF bytes comes whole.
    """
    message = bytes(1024)
    left = 0

    def answer(count: int) -> None:
        back.write(message)

    def go_on(count: int) -> None:
        nonlocal left
        left -= 1
        if left > 0:
            there.write(message)
        else:
            loop.stop()

    there, _ = connect_pipe(loop, answer)
    back, _ = connect_pipe(loop, go_on)

    def run(count: int) -> int:
        nonlocal left
        left = count
        run_forever(loop, lambda: there.write(message))
        return count

    return run


def pipe_64k(loop: asyncio.AbstractEventLoop) -> Run:
    """As much as the pipe takes: an operation is 64 KB that have arrived."""
    message = bytes(65536)
    unsent = missing = 0

    def send() -> None:
        nonlocal unsent
        while unsent > 0 and not writer.is_paused:
            unsent -= 1
            transport.write(message)

    def receive(count: int) -> None:
        nonlocal missing
        missing -= count
        if missing == 0:
            loop.stop()

    transport, writer = connect_pipe(loop, receive, send)

    def run(count: int) -> int:
        nonlocal unsent, missing
        unsent, missing = count, count * len(message)
        run_forever(loop, send)
        return count

    return run


def subprocess(loop: asyncio.AbstractEventLoop) -> Run:
    async def work(count: int) -> int:
        for _ in range(count):
            process = await asyncio.create_subprocess_exec(PROGRAM)
            assert await process.wait() == 0
        return count

    return run_task(loop, work)


OPERATIONS: dict[str, Prepare] = {
    operation.__name__: operation
    for operation in (
        call_soon,
        call_soon_batch,
        call_soon_args,
        call_later_cancel,
        call_later_fire,
        timeout_rearmed,
        sleep_0,
        gather_100,
        future,
        queue,
        call_soon_threadsafe,
        executor,
        getaddrinfo,
        connect_accept,
        pipe_1k,
        pipe_64k,
        subprocess,
    )
}
