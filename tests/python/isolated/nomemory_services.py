# SPDX-License-Identifier: MIT
"""Each allocation fails in turn, as in nomemory.py: pipes, signals, processes.

Run as: nomemory_services.py SCENARIO. These are Python code, in which the
interpreter allocates as well: whatever fails, what the loop was given is
closed, and a process that has begun is reaped.

Popen loses up to six descriptors when an allocation of its own fails. That is
CPython's, so each is made beforehand, and nothing else of Popen fails. From
3.12 on the interpreter crashes by itself, in MAKE_FUNCTION and in dicts.
"""

import asyncio
import contextlib
import functools
import gc
import os
import signal
import socket
import subprocess
import sys
import time

import nomemory
from nomemory import Connection, Pair, Protocol, attempt, sweep, sweep_turn

from support.children import children, end_all
from support.loops import turns
from support.net import LIMIT
from support.stage import PipeEnd

# Of a turn in which a coroutine begins; of a whole conversation.
STORY_MAX = 250
PIECE = 20_000
FILE_BYTES = 30_000


# The types of what the exception handler was told, and sys.unraisablehook:
# by a close() for the collector that has no memory.
told = []


def note(loop, context):
    told.append(type(context.get("exception")))


def note_unraisable(unraisable):
    told.append(unraisable.exc_type)


def sweep_task(loop, make, prepare=None, tidy=None):
    """Fail each allocation of a task's way to its end in turn."""
    loop.set_exception_handler(note)
    sys.unraisablehook = note_unraisable
    for number in range(STORY_MAX):
        told.clear()
        if prepare is not None:
            prepare()
        task = loop.create_task(make())
        attempt(number, functools.partial(run_to_the_end, loop, task))
        # Up to 3.11 the interpreter allocates in order to forget it.
        asyncio._set_running_loop(None)
        run_to_the_end(loop, task)
        result = None
        if task.done() and not task.cancelled() and not task.exception():
            result = task.result()
        del task
        if told:
            end_lost_tasks(loop)
        if tidy is not None:
            tidy(result)
        del result


def end_lost_tasks(loop):
    """As the collector ends those that nobody steps any more."""
    turns(loop, 3)
    for task in asyncio.all_tasks(loop):
        with contextlib.suppress(RuntimeError):
            task.get_coro().close()
        task.cancel()
    turns(loop, 3)
    gc.collect()


def run_to_the_end(loop, task):
    """Turns until it has ended, or somebody was told.

    When CPython's Task cannot allocate for its own step, or a Future for its
    callbacks, that is all that ever comes of it.
    """
    deadline = time.monotonic() + LIMIT
    while not task.done() and not told:
        turns(loop, 1)
        if time.monotonic() > deadline:
            raise AssertionError(f"it does not end: {task!r}")


# --- pipes ---


class Pipe(Pair):
    """Over a pipe, of which the loop has one end."""

    def __init__(self, loop, is_reading):
        super().__init__(loop)
        self.is_reading = is_reading

    def open(self):
        reading, writing = os.pipe()
        self.ours = PipeEnd(reading if self.is_reading else writing)
        self.peer = PipeEnd(writing if self.is_reading else reading)
        os.set_blocking(self.peer.fileno(), False)

    def connect(self):
        connect = self.loop.connect_write_pipe
        if self.is_reading:
            connect = self.loop.connect_read_pipe
        return connect(Protocol, self.ours)

    def make(self):
        self.open()
        self.transport, self.protocol = self.loop.run_until_complete(
            self.connect()
        )
        turns(self.loop, 2)

    def give(self):
        os.write(self.peer.fileno(), b"x" * 3000)

    def end_made(self, made):
        """After connect(), whatever came of it."""
        if made is not None:
            self.transport, _ = made
        del made
        self.end()

    def end(self, _=None):
        self.peer.close()
        if self.transport is not None:
            self.transport.close()
            if not self.is_reading and self.ours.fileno() >= 0:
                self.transport.abort()
        self.let_go()


def read_pipes(loop):
    pipe = Pipe(loop, is_reading=True)
    sweep_task(loop, pipe.connect, pipe.open, pipe.end_made)
    for name, *args in (
        ("pause_reading",),
        ("is_reading",),
        ("is_closing",),
        ("get_extra_info", "pipe"),
        ("set_protocol", Protocol()),
        ("close",),
    ):
        sweep(pipe.call(name, *args), pipe.make, pipe.end)

    def paused():
        pipe.make()
        pipe.transport.pause_reading()

    sweep(pipe.call("resume_reading"), paused, pipe.end)

    def with_data():
        pipe.make()
        pipe.give()

    sweep_turn(loop, with_data, pipe.end)

    def at_eof():
        pipe.make()
        pipe.peer.close()

    sweep_turn(loop, at_eof, pipe.end)
    pipe.sweep_closing()


def write_pipes(loop):
    pipe = Pipe(loop, is_reading=False)
    sweep_task(loop, pipe.connect, pipe.open, pipe.end_made)
    for name, *args in (
        ("write", b"x" * 100),
        ("write", bytearray(b"x" * 100)),
        ("write", memoryview(b"x" * 100)),
        ("write", b"x" * (1 << 20)),
        ("write_eof",),
        ("get_write_buffer_size",),
        ("set_write_buffer_limits", 1000),
        ("can_write_eof",),
        ("is_closing",),
        ("get_extra_info", "pipe"),
        ("close",),
        ("abort",),
    ):
        sweep(pipe.call(name, *args), pipe.make, pipe.end)

    def full():
        pipe.make()
        pipe.transport.write(bytes(1 << 20))

    sweep(pipe.call("write", b"x" * 100), full, pipe.end)
    sweep(pipe.call("close"), full, pipe.end)
    sweep(pipe.call("abort"), full, pipe.end)

    def drained():
        full()
        with contextlib.suppress(BlockingIOError):
            while os.read(pipe.peer.fileno(), 1 << 20):
                pass

    sweep_turn(loop, drained, pipe.end)

    def left_by_its_reader():
        full()
        pipe.peer.close()

    sweep_turn(loop, left_by_its_reader, pipe.end)


# --- signals ---


def default_again(loop, _=None):
    """And nothing more than that is to be put back."""
    loop.remove_signal_handler(signal.SIGUSR1)
    handler = signal.getsignal(signal.SIGUSR1)
    assert handler in (signal.SIG_DFL, None) or callable(handler)
    signal.signal(signal.SIGUSR1, signal.SIG_DFL)
    assert signal.set_wakeup_fd(-1) == -1


def signals(loop):
    tidy = functools.partial(default_again, loop)
    add = functools.partial(loop.add_signal_handler, signal.SIGUSR1, int)
    remove = functools.partial(loop.remove_signal_handler, signal.SIGUSR1)
    sweep(add, tidy=tidy)
    sweep(add, add, tidy)
    sweep(remove, add, tidy)

    def sent():
        add()
        signal.raise_signal(signal.SIGUSR1)

    sweep_turn(loop, sent, tidy)


# --- processes ---


class Process:
    """A process that Popen has started before the loop asks for it."""

    def __init__(self, loop, *command):
        self.loop = loop
        self.command = command
        self.real = subprocess.Popen
        self.made = []

    def start(self):
        pipe = subprocess.PIPE
        options = {"stdin": pipe, "stdout": pipe, "stderr": pipe, "bufsize": 0}
        self.made.append(self.real(self.command, **options))
        subprocess.Popen = self.take

    def take(self, *_, **__):
        return self.made.pop()

    def end(self, made=None):
        """Whatever came of it: it is reaped, and its pipes are closed."""
        subprocess.Popen = self.real
        if made is not None:
            made[0].close()
        made = None
        while self.made:  # the failure came before the loop had it
            process = self.made.pop()
            process.kill()
            process.communicate()
        process = None
        gc.collect()
        deadline = time.monotonic() + LIMIT
        while left := children():
            if told:
                end_all(left)
            assert time.monotonic() < deadline, f"processes left: {left}"
            subprocess._cleanup()
            turns(self.loop, 1)
        gc.collect()
        turns(self.loop, 3)


# Without any Python code.
SubprocessProtocol = functools.partial(
    Protocol,
    pipe_data_received=max,
    pipe_connection_lost=max,
    process_exited=int,
)


def starting_processes(loop):
    process = Process(loop, "cat")
    for make in (
        lambda: loop.subprocess_exec(SubprocessProtocol, "cat"),
        lambda: loop.subprocess_shell(SubprocessProtocol, "cat"),
    ):
        sweep_task(loop, make, process.start, process.end)


def talking_to_processes(loop):
    process = Process(loop, "cat")

    async def talk():
        made = await asyncio.create_subprocess_exec(
            "cat",
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
        )
        try:
            await asyncio.wait_for(made.communicate(b"x" * PIECE), LIMIT / 2)
        finally:
            made._transport.close()

    sweep_task(loop, talk, process.start, process.end)


# --- files ---


def files(loop):
    """By the kernel: a thread that reads a file is concurrent.futures's."""
    connection = Connection(loop)
    path = f"/proc/self/fd/{os.memfd_create('content')}"
    with open(path, "wb") as file:
        file.write(bytes(FILE_BYTES))

    def prepare():
        connection.make()
        connection.file = open(path, "rb")  # noqa: SIM115

    def send():
        transport, file = connection.transport, connection.file
        return loop.sendfile(transport, file, fallback=False)

    def tidy(_=None):
        connection.file.close()
        connection.end()

    sweep_task(loop, send, prepare, tidy)

    def sock_prepare():
        connection.ours, connection.peer = socket.socketpair()
        connection.ours.setblocking(False)
        connection.peer.setblocking(False)
        connection.file = open(path, "rb")  # noqa: SIM115

    def sock_tidy(_=None):
        for resource in connection.file, connection.ours, connection.peer:
            resource.close()
        turns(loop, 2)

    sweep_task(
        loop,
        lambda: loop.sock_sendfile(
            connection.ours, connection.file, count=PIECE
        ),
        sock_prepare,
        sock_tidy,
    )
    os.close(int(path.rpartition("/")[2]))


SCENARIOS = {
    function.__name__: function
    for function in (
        read_pipes,
        write_pipes,
        signals,
        starting_processes,
        talking_to_processes,
        files,
    )
}


if __name__ == "__main__":
    nomemory.main(SCENARIOS)
