# SPDX-License-Identifier: MIT
"""Subprocesses, as transports and as asyncio's Process objects.

Time does not pass in a program, but a child has a mind of its own. So the
harness waits, in every turn and after whatever a child could notice, until
each sleeps or has ended: what it does is then there before anybody looks.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import time
from unittest import mock

from record import show
from secure import SecureThings
from things import Data

# Each is one process: nothing but what the shell does itself.
COMMANDS = {
    "cat": "exec cat",
    "lines": "echo one; echo two >&2; exit 7",
    "answer": 'while read -r line; do echo "got $line"; done; exit 5',
    "head": "exec head -c 3",
    "wait": "exec sleep 1000",
    "deaf": "exec 0<&-; echo closed; exec sleep 1000",
    "mute": "exec 1>&-; exec cat >&2",
    "gone": "exit 3",
    "killed": "kill -KILL $$",
    "stubborn": "trap '' TERM; echo ready; read -r line; exit 6",
    "trapped": "trap 'echo bye; exit 9' TERM; read -r line; exit 8",
}
ENDED = "ZX"
WAITING = "STt" + ENDED
LIMIT = 10


def state_of(pid):
    """One letter, as in /proc: X also when there is nothing left."""
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return "X"


def settle(pid):
    """Wait until a process waits for somebody, or has ended."""
    end = time.monotonic() + LIMIT
    while time.monotonic() < end:
        if state_of(pid) in WAITING:
            os.sched_yield()
            if state_of(pid) in WAITING:
                return
        time.sleep(0.0002)


@contextlib.contextmanager
def settled_starts():
    """Every process has come to rest before the loop learns of it."""

    class Popen(subprocess.Popen):
        def __init__(self, *args, **kwargs):
            super().__init__(*args, **kwargs)
            settle(self.pid)

    with mock.patch.object(subprocess, "Popen", Popen):
        yield


class Child:
    """A process of the loop; its pipes are the program's."""

    def __init__(self, world, lane, command, is_shell, pipes):
        self._world = world
        self._command = COMMANDS[command]
        self._is_shell = is_shell
        self._pipes = {
            name: subprocess.PIPE if name in pipes else subprocess.DEVNULL
            for name in ("stdin", "stdout", "stderr")
        }
        self.lane = lane
        self.transport = None
        self.data = Data()

    async def create(self):
        loop = self._world.loop
        if self._is_shell:
            making = loop.subprocess_shell(
                self._make_protocol, self._command, **self._pipes
            )
        else:
            making = loop.subprocess_exec(
                self._make_protocol, "sh", "-c", self._command, **self._pipes
            )
        self.transport, _ = await making
        self.settle()
        self._world.note(self.lane, "is started")

    def _make_protocol(self):
        return ChildRecorder(self._world, self.lane, self)

    # --- the child itself ---

    @property
    def popen(self):
        if self.transport is None:
            return None
        return self.transport.get_extra_info("subprocess")

    def settle(self):
        if self.popen is not None:
            settle(self.popen.pid)

    def has_ended(self):
        return self.popen is None or state_of(self.popen.pid) in ENDED

    def is_unheard(self):
        """Whether it has ended and the loop does not know.

        CPython's Popen object reaps it then: docs/differences.md.
        """
        return self.has_ended() and self.transport.get_returncode() is None

    def reap(self):
        """Leave nothing of it behind."""
        if self.popen is not None and self.popen.returncode is None:
            with contextlib.suppress(ProcessLookupError):
                self.popen.kill()
            self.popen.wait()

    # --- what programs say ---

    def signal(self, name):
        if not self.has_ended():
            self.transport.send_signal(getattr(signal, name))
            self.settle()

    def kill(self):
        if not self.has_ended():
            self.transport.kill()
            self.settle()

    def terminate(self):
        if not self.has_ended():
            self.transport.terminate()
            self.settle()

    def close(self):
        if not self.is_unheard():
            self.transport.close()
            self.settle()

    def _pipe(self, fd):
        return self.transport.get_pipe_transport(fd)

    def write(self, size):
        pipe = self._pipe(0)
        if pipe is not None and not pipe.is_closing():
            pipe.write(self.data(size))
            self.flush()

    def write_line(self):
        pipe = self._pipe(0)
        if pipe is not None and not pipe.is_closing():
            pipe.write(b"a line\n")
            self.flush()

    def close_pipe(self, fd):
        pipe = self._pipe(fd)
        # A second close(), see docs/differences.md.
        if pipe is not None and not pipe.is_closing():
            pipe.close()
            self.settle()

    def pause(self, fd, is_paused):
        pipe = self._pipe(fd)
        if pipe is not None and fd and not pipe.is_closing():
            (pipe.pause_reading if is_paused else pipe.resume_reading)()

    def flush(self):
        pipe = self._pipe(0)
        if pipe is not None and not pipe.is_closing():
            pipe.get_write_buffer_size()
        self.settle()

    # --- what the harness asks ---

    def state(self):
        if self.transport is None:
            return "never started"
        closing = "closing" if self.transport.is_closing() else "open"
        return f"{closing}, returned {self.transport.get_returncode()}"

    def abort(self):
        if self.transport is not None:
            self.close()


class ChildRecorder(asyncio.SubprocessProtocol):
    """Notes every call; each pipe has a lane of its own, and so has the end.

    In which order these come is nobody's promise.
    """

    def __init__(self, world, lane, owner):
        self._world = world
        self._lane = lane
        self._owner = owner

    def _called(self, method, lane, what="", data=None):
        self._world.note(lane, f"{method}{what}", data)
        return self._world.hook(self._lane, method)

    def connection_made(self, transport):
        self._owner.transport = transport
        self._owner.settle()
        return self._called("connection_made", self._lane)

    def pipe_data_received(self, fd, data):
        lane = f"{self._lane}.{fd}"
        return self._called("pipe_data_received", lane, data=data)

    def pipe_connection_lost(self, fd, exc):
        what = "" if exc is None else f" {type(exc).__name__}"
        lane = f"{self._lane}.{fd}"
        return self._called("pipe_connection_lost", lane, what)

    def pause_writing(self):
        return self._called("pause_writing", f"{self._lane}.0")

    def resume_writing(self):
        return self._called("resume_writing", f"{self._lane}.0")

    def process_exited(self):
        code = self._owner.transport.get_returncode()
        return self._called("process_exited", f"{self._lane}.exit", f" {code}")

    def connection_lost(self, exc):
        return self._called("connection_lost", self._lane, f" {show(exc)}")


class Process(Child):
    """A process by asyncio.create_subprocess_exec() and _shell()."""

    process = None

    async def create(self):
        if self._is_shell:
            making = asyncio.create_subprocess_shell(
                self._command, limit=64, **self._pipes
            )
        else:
            making = asyncio.create_subprocess_exec(
                "sh", "-c", self._command, limit=64, **self._pipes
            )
        self.process = await making
        self.transport = self.process._transport
        self.settle()
        self._world.note(self.lane, "is started")

    def stream(self, name):
        """One of its pipes' streams, or a name that stands for nothing."""
        return getattr(self.process, name) or self._world.nothing

    async def communicate(self, size):
        data = self.data(size) if self.process.stdin is not None else None
        return await self.process.communicate(data)


class AllThings(SecureThings):
    """Makes these, next to those of SecureThings."""

    def __init__(self):
        super().__init__()
        self.children = []

    def child(self, lane, command, is_shell=False, pipes=("stdin", "stdout")):
        return self._add_child(Child(self, lane, command, is_shell, pipes))

    def process(self, lane, command, is_shell=False, pipes=("stdout",)):
        return self._add_child(Process(self, lane, command, is_shell, pipes))

    def _add_child(self, child):
        self.children.append(child)
        return self._add(child)

    def drop(self):
        super().drop()
        self.children.clear()

    def settle_children(self):
        for child in self.children:
            child.settle()

    def reap_children(self):
        for child in self.children:
            child.reap()
