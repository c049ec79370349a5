# SPDX-License-Identifier: MIT
"""The transport of a subprocess, and what it tells its protocol."""

import asyncio
import gc
import os
import re
import signal
import subprocess
import sys
import warnings
from asyncio.subprocess import DEVNULL, PIPE, STDOUT

import pytest

from support.children import (
    CAT,
    SLEEP,
    children,
    children_left,
    is_gone,
    python,
    wait_for_end,
    wait_for_state,
)
from support.net import connected

row = pytest.mark.row

LIMIT = 10


@pytest.fixture(autouse=True)
def no_child_left():
    before = children()
    yield
    left = children_left(before)
    assert not left, f"left behind: {left}"


class Log(asyncio.SubprocessProtocol):
    """What a transport calls, in its order."""

    def __init__(self):
        loop = asyncio.get_running_loop()
        self.calls = []
        self.data = {1: b"", 2: b""}
        self.exited = loop.create_future()
        self.lost = loop.create_future()
        self.paused = []

    def connection_made(self, transport):
        self.transport = transport
        self.calls.append("made")

    def pipe_data_received(self, fd, data):
        self.data[fd] += data
        if self.calls[-1] != f"data {fd}":
            self.calls.append(f"data {fd}")

    def pipe_connection_lost(self, fd, exc):
        self.calls.append(f"pipe {fd} lost" + (f" {exc!r}" if exc else ""))

    def process_exited(self):
        self.calls.append("exited")
        self.returncode = self.transport.get_returncode()
        self.exited.set_result(None)

    def connection_lost(self, exc):
        self.calls.append("lost")
        self.lost.set_result(exc)

    def pause_writing(self):
        self.paused.append(True)

    def resume_writing(self):
        self.paused.append(False)


async def within(awaitable):
    return await asyncio.wait_for(awaitable, LIMIT)


# --- the order of its events ---


@pytest.mark.parametrize("way", ["terminate", "kill"])
async def test_signals_go_behind_what_transports_wrote(loop, monkeypatch, way):
    found = []

    def looking(send):
        def look_and_send(*args):
            found.append(peer.recv(100))
            return send(*args)

        return look_and_send

    transport, protocol = await loop.subprocess_exec(Log, *SLEEP)
    async with connected(loop, asyncio.Protocol) as (stream, _, peer):
        peer.setblocking(False)
        for module, name in (os, "kill"), (signal, "pidfd_send_signal"):
            send = looking(getattr(module, name))
            monkeypatch.setattr(module, name, send)
        stream.write(b"just now")
        getattr(transport, way)()
        assert found == [b"just now"]
    await protocol.exited
    transport.close()


@row("P4G-018")
async def test_order(loop):
    """What was written comes before the end of the pipe, and the loss last."""
    transport, protocol = await loop.subprocess_exec(
        Log, *python("print(1, end='', flush=True); input()"), stderr=None
    )
    assert protocol.calls == ["made"]
    while protocol.data[1] != b"1":
        await asyncio.sleep(0.001)
    transport.get_pipe_transport(0).write(b"\n")
    assert await within(protocol.lost) is None
    calls = protocol.calls
    assert calls[:2] == ["made", "data 1"]
    assert sorted(calls[2:-1]) == ["exited", "pipe 0 lost", "pipe 1 lost"]
    assert calls[-1] == "lost"
    assert protocol.returncode == 0
    transport.close()


@row("P4G-018")
async def test_all_at_once(loop):
    """Ended before anybody looks: the beginning still comes first."""
    starting = loop.create_task(
        loop.subprocess_exec(
            Log, "sh", "-c", "echo out; echo err >&2; exit 7", stdin=PIPE
        )
    )
    await asyncio.sleep(0)
    for pid in children():
        wait_for_end(pid)
    transport, protocol = await within(starting)
    await within(protocol.lost)
    calls = protocol.calls
    assert calls[0] == "made"
    assert calls[-1] == "lost"
    assert protocol.data == {1: b"out\n", 2: b"err\n"}
    for fd in (1, 2):
        assert calls.index(f"data {fd}") < calls.index(f"pipe {fd} lost")
    assert sorted(calls[1:-1]) == sorted(
        ["data 1", "data 2", "exited"] + [f"pipe {fd} lost" for fd in range(3)]
    )
    assert transport.get_returncode() == protocol.returncode == 7
    transport.close()


@row("P4G-018")
@pytest.mark.parametrize("ends", ["pipe", "process"])
async def test_lost_after_both(loop, ends):
    """The process and its pipe end one after the other."""
    if ends == "pipe":
        code = "import os, signal; os.close(1); signal.pause()"
    else:
        # Its own child has the pipe, and reads until the test has seen enough.
        code = (
            "import os, subprocess;"
            "subprocess.Popen(['cat'], stdin=0); os._exit(0)"
        )
    stdin = PIPE if ends == "process" else DEVNULL
    transport, protocol = await loop.subprocess_exec(
        Log, *python(code), stdin=stdin, stderr=None
    )
    if ends == "pipe":
        while "pipe 1 lost" not in protocol.calls:
            await asyncio.sleep(0.001)
        assert protocol.calls == ["made", "pipe 1 lost"]
        transport.kill()
        await within(protocol.lost)
        expected = ["made", "pipe 1 lost", "exited", "lost"]
    else:
        await within(protocol.exited)
        assert protocol.calls == ["made", "exited"]
        assert transport.get_returncode() == 0
        transport.get_pipe_transport(0).write(b"still open")
        transport.get_pipe_transport(0).close()
        await within(protocol.lost)
        assert protocol.data[1] == b"still open"
        expected = [
            *("made", "exited", "pipe 0 lost"),
            *("data 1", "pipe 1 lost", "lost"),
        ]
    assert protocol.calls == expected
    transport.close()


async def test_each_event_in_a_turn_of_its_own(loop):
    """So that one that fails keeps no other."""
    failures = []
    loop.set_exception_handler(lambda _, context: failures.append(context))

    class Raising(Log):
        def connection_made(self, transport):
            super().connection_made(transport)
            raise ZeroDivisionError

        def pipe_data_received(self, fd, data):
            super().pipe_data_received(fd, data)
            raise ZeroDivisionError

        def pipe_connection_lost(self, fd, exc):
            super().pipe_connection_lost(fd, exc)
            raise ZeroDivisionError

        def process_exited(self):
            super().process_exited()
            raise ZeroDivisionError

        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise ZeroDivisionError

    transport, protocol = await loop.subprocess_exec(
        Raising, "echo", "hello", stdin=None, stderr=None
    )
    await within(protocol.lost)
    await asyncio.sleep(0)
    assert sorted(protocol.calls) == sorted(
        ["made", "data 1", "pipe 1 lost", "exited", "lost"]
    )
    assert len(failures) == len(protocol.calls)
    assert await transport._wait() == 0
    transport.close()


async def test_set_protocol(loop):
    transport, first = await loop.subprocess_exec(Log, *CAT, stderr=None)
    second = Log()
    second.connection_made(transport)
    transport.set_protocol(second)
    assert transport.get_protocol() is second
    transport.get_pipe_transport(0).write(b"x")
    transport.get_pipe_transport(0).close()
    await within(second.lost)
    assert first.calls == ["made"]
    assert second.calls[0] == "made"
    assert second.calls[-1] == "lost"
    assert second.data[1] == b"x"
    transport.close()


# --- its pipes ---


@row("P4G-021")
async def test_pipe_transports(loop):
    transport, protocol = await loop.subprocess_exec(
        Log, *CAT, stdout=DEVNULL, stderr=PIPE
    )
    assert isinstance(transport.get_pipe_transport(0), asyncio.WriteTransport)
    assert transport.get_pipe_transport(1) is None
    assert isinstance(transport.get_pipe_transport(2), asyncio.ReadTransport)
    for fd in (3, -1, "stdin", None):
        assert transport.get_pipe_transport(fd) is None
    process = transport.get_extra_info("subprocess")
    assert type(process) is subprocess.Popen
    assert process.pid == transport.get_pid()
    assert transport.get_pipe_transport(0).get_extra_info("pipe") is (
        process.stdin
    )
    assert transport.get_extra_info("pipe") is None
    assert transport.get_extra_info("no such", 5) == 5
    transport.close()
    await within(protocol.lost)
    # They can still be asked for.
    assert transport.get_pipe_transport(0).is_closing()
    assert process.returncode == -signal.SIGKILL


@row("P4G-026")
async def test_flow_control_of_the_input(loop):
    transport, protocol = await loop.subprocess_exec(Log, *CAT, stderr=None)
    stdin = transport.get_pipe_transport(0)
    stdout = transport.get_pipe_transport(1)
    stdout.pause_reading()
    content = os.urandom(1 << 20)
    stdin.write(content)
    assert protocol.paused == [True]
    await asyncio.sleep(0.01)
    assert protocol.paused == [True]
    stdout.resume_reading()
    stdin.write_eof()
    await within(protocol.lost)
    assert protocol.paused == [True, False]
    assert protocol.data[1] == content
    transport.close()


async def test_process_closes_its_input(loop):
    transport, protocol = await loop.subprocess_exec(
        Log,
        *python("import os, signal; os.close(0); signal.pause()"),
        stdout=None,
        stderr=None,
    )
    stdin = transport.get_pipe_transport(0)
    # A write that comes first is told of the broken pipe.
    while not any(call.startswith("pipe 0 lost") for call in protocol.calls):
        stdin.write(b"x")
        await asyncio.sleep(0.001)
    stdin.write(b"lost")
    assert transport.get_returncode() is None
    transport.kill()
    await within(protocol.lost)
    transport.close()


async def test_closed_input_of_a_process(loop):
    """Process.stdin reports it from drain(), as asyncio's streams do."""
    process = await asyncio.create_subprocess_exec("true", stdin=PIPE)
    assert await within(process.wait()) == 0
    with pytest.raises((BrokenPipeError, ConnectionResetError)):
        while True:
            process.stdin.write(bytes(1 << 16))
            await within(process.stdin.drain())


@row("P4G-025")
async def test_much_data_both_ways(loop):
    process = await asyncio.create_subprocess_exec(
        *python(
            "import shutil, sys;"
            "sys.stderr.write('e' * 300000); sys.stderr.flush();"
            "shutil.copyfileobj(sys.stdin.buffer, sys.stdout.buffer)"
        ),
        stdin=PIPE,
        stdout=PIPE,
        stderr=PIPE,
    )
    content = os.urandom(3 << 20)
    out, err = await within(process.communicate(content))
    assert out == content
    assert err == b"e" * 300000


# --- its end ---


@row("P4G-022")
@pytest.mark.parametrize(
    "number", [signal.SIGTERM, signal.SIGKILL, signal.SIGUSR1, 40]
)
async def test_returncode_of_a_signal(loop, number):
    process = await asyncio.create_subprocess_exec(*SLEEP)
    process.send_signal(number)
    assert await within(process.wait()) == -number
    assert process.returncode == -number


@row("P4G-022")
@pytest.mark.parametrize("code", [0, 1, 255])
async def test_returncode_of_an_exit(loop, code):
    process = await asyncio.create_subprocess_shell(f"exit {code}")
    assert await within(process.wait()) == code


@row("P4G-022")
async def test_core_dump_is_a_signal(loop):
    """CLD_DUMPED is one of the ways to end by a signal."""
    code = "import os, resource; resource.setrlimit(4, (-1, -1)); os.abort()"
    process = await asyncio.create_subprocess_exec(
        *python(code), cwd="/proc", stderr=DEVNULL
    )
    assert await within(process.wait()) == -signal.SIGABRT


async def test_stopped_and_continued(loop):
    process = await asyncio.create_subprocess_exec(*SLEEP)
    process.send_signal(signal.SIGSTOP)
    wait_for_state(process.pid, "T")
    await asyncio.sleep(0.01)
    assert process.returncode is None
    process.send_signal(signal.SIGCONT)
    process.terminate()
    assert await within(process.wait()) == -signal.SIGTERM


async def test_bad_signals(loop):
    process = await asyncio.create_subprocess_exec(*SLEEP)
    with pytest.raises(TypeError):
        process.send_signal("SIGTERM")
    with pytest.raises(OSError, match="Invalid argument"):
        process.send_signal(1000)
    process.send_signal(0)
    process.kill()
    await within(process.wait())


@row("P4G-020")
@pytest.mark.oracle_skip(
    "Popen.send_signal() reaps it, and 255 is reported",
    when=sys.version_info < (3, 13),
)
@pytest.mark.parametrize("method", ["kill", "terminate", "send_signal"])
async def test_signals_to_an_ended_process(loop, method):
    arguments = [signal.SIGTERM] if method == "send_signal" else []
    transport, protocol = await loop.subprocess_exec(
        Log, "sh", "-c", "read line", stdout=None, stderr=None
    )
    transport.get_pipe_transport(0).write(b"\n")
    wait_for_state(transport.get_pid(), "Z")
    # Not yet noticed: nothing happens.
    assert getattr(transport, method)(*arguments) is None
    await within(protocol.lost)
    await asyncio.sleep(0)
    assert transport.get_returncode() == 0
    with pytest.raises(ProcessLookupError):
        getattr(transport, method)(*arguments)
    transport.close()


@row("P4G-020")
async def test_signals_between_exit_and_loss(loop):
    """Its own child holds the pipe: it has ended, and is not lost."""
    transport, protocol = await loop.subprocess_exec(
        Log,
        *python(
            "import os, subprocess; subprocess.Popen(['cat']); os._exit(0)"
        ),
        stderr=None,
    )
    await within(protocol.exited)
    transport.terminate()
    transport.kill()
    assert not protocol.lost.done()
    transport.get_pipe_transport(0).close()
    await within(protocol.lost)
    assert transport.get_returncode() == 0
    transport.close()


@row("P4G-024")
@pytest.mark.parametrize("pipes", [None, PIPE])
async def test_private_wait(loop, pipes):
    transport, protocol = await loop.subprocess_exec(
        Log, *SLEEP, stdin=pipes, stdout=pipes, stderr=pipes
    )
    waits = [loop.create_task(transport._wait()) for _ in range(5)]
    await asyncio.sleep(0)
    assert not any(wait.done() for wait in waits)
    waits[0].cancel()
    transport.kill()
    done = await within(asyncio.gather(*waits, return_exceptions=True))
    assert isinstance(done[0], asyncio.CancelledError)
    assert done[1:] == [-signal.SIGKILL] * 4
    assert await transport._wait() == -signal.SIGKILL
    await within(protocol.lost)
    assert await transport._wait() == -signal.SIGKILL
    transport.close()


async def test_waits_end_in_the_order_in_which_they_began(loop):
    transport, protocol = await loop.subprocess_exec(
        Log, *SLEEP, stdin=None, stdout=None, stderr=None
    )
    ended = []

    async def wait(number):
        await transport._wait()
        ended.append(number)

    waits = [loop.create_task(wait(number)) for number in range(30)]
    await asyncio.sleep(0)
    waits[7].cancel()
    transport.kill()
    await within(asyncio.wait(waits))
    assert ended == [number for number in range(30) if number != 7]
    await within(protocol.lost)
    transport.close()


WAKES_EARLY = sys.version_info >= (3, 14, 7) or (
    (3, 13, 15) <= sys.version_info < (3, 14)
)


async def test_wait_while_a_grandchild_has_the_pipe(loop):
    process = await asyncio.create_subprocess_exec(
        *python(
            "import os, subprocess, sys; sys.stdin.readline();"
            "child = subprocess.Popen(['sleep', '1000']);"
            "os.write(1, b'%d\\n' % child.pid); os._exit(3)"
        ),
        stdin=PIPE,
        stdout=PIPE,
    )
    waiting = loop.create_task(process.wait())
    await asyncio.sleep(0)
    process.stdin.write(b"\n")
    grandchild = int(await within(process.stdout.readline()))
    try:
        while process.returncode is None:
            await asyncio.sleep(0.001)
        await asyncio.sleep(0.01)
        # Asked now, it answers on every Python.
        assert await process.wait() == 3
        assert waiting.done() == WAKES_EARLY
    finally:
        os.kill(grandchild, signal.SIGKILL)
    assert await within(waiting) == 3
    assert await within(process.stdout.read()) == b""


async def test_close_while_a_grandchild_has_the_pipe(loop):
    """No end of the pipe is waited for: ours is closed."""
    transport, protocol = await loop.subprocess_exec(
        Log,
        *python(
            "import os, subprocess;"
            "child = subprocess.Popen(['sleep', '1000']);"
            "os.write(1, b'%d' % child.pid); os._exit(3)"
        ),
        stderr=None,
    )
    await within(protocol.exited)
    while not protocol.data[1]:
        await asyncio.sleep(0.001)
    assert not protocol.lost.done()
    transport.close()
    await within(protocol.lost)
    assert protocol.returncode == 3
    os.kill(int(protocol.data[1]), signal.SIGKILL)


# --- closing it ---


@row("P4G-019")
async def test_close_kills(loop):
    transport, protocol = await loop.subprocess_exec(Log, *SLEEP)
    assert not transport.is_closing()
    transport.close()
    assert transport.is_closing()
    transport.close()
    assert transport.get_returncode() is None
    assert await within(protocol.lost) is None
    assert transport.get_returncode() == -signal.SIGKILL
    transport.close()
    assert is_gone(transport.get_pid())


@row("P4G-019")
async def test_close_after_the_end(loop):
    transport, protocol = await loop.subprocess_exec(
        Log, "true", stdin=None, stdout=None, stderr=None
    )
    await within(protocol.lost)
    assert not transport.is_closing()
    transport.close()
    assert transport.is_closing()
    assert protocol.calls == ["made", "exited", "lost"]


@pytest.mark.oracle_skip("reaps it in close(), and reports 255")
async def test_close_before_the_end_is_known(loop, caplog):
    """It is not killed, and its returncode not lost."""
    transport, protocol = await loop.subprocess_exec(
        Log, "sh", "-c", "read line; exit 9", stdout=None, stderr=None
    )
    transport.get_pipe_transport(0).write(b"\n")
    wait_for_state(transport.get_pid(), "Z")
    transport.close()
    await within(protocol.lost)
    assert protocol.returncode == 9
    assert not caplog.records


@pytest.mark.parametrize(
    "event",
    [
        "connection_made",
        "pipe_data_received",
        "pipe_connection_lost",
        "process_exited",
        "connection_lost",
    ],
)
async def test_close_in_an_event(loop, event):
    """Nothing comes twice, and nothing is left out."""

    def closing(self, *arguments):
        getattr(Log, event)(self, *arguments)
        self.transport.close()

    transport, protocol = await loop.subprocess_exec(
        type("Closing", (Log,), {event: closing}),
        *("sh", "-c", "echo hello; exec sleep 1000"),
        stderr=None,
    )
    if event == "pipe_connection_lost":
        transport.get_pipe_transport(1).close()
    elif event == "process_exited":
        transport.kill()
    elif event == "connection_lost":
        transport.kill()
        transport.get_pipe_transport(1).close()
    await within(protocol.lost)
    calls = [call for call in protocol.calls if call != "data 1"]
    assert sorted(calls[:-1]) == sorted(
        ["made", "exited", "pipe 0 lost", "pipe 1 lost"]
    )
    assert calls[-1] == "lost"
    assert transport.is_closing()


async def test_connection_lost_fails(loop, errors):
    """The handler is told of asyncio's own callback."""

    class Failing(Log):
        def connection_lost(self, exc):
            super().connection_lost(exc)
            raise RuntimeError("why not")

    transport, protocol = await loop.subprocess_exec(Failing, "true")
    await within(protocol.lost)
    await asyncio.sleep(0)
    told = errors.pop()
    # Newer Pythons show no arguments.
    shown = "(None)" in repr(asyncio.Handle(print, (None,), loop))
    assert re.fullmatch(
        r"Exception in callback \w*SubprocessTransport\."
        rf"_call_connection_lost\({'None' if shown else ''}\)",
        told["message"],
    )
    assert str(told["exception"]) == "why not"
    transport.close()


@pytest.mark.oracle_skip(
    "the thread that has waited may still hold it",
    when=sys.version_info < (3, 12),
)
async def test_unclosed_is_warned_of(loop):
    transport, protocol = await loop.subprocess_exec(
        Log, "true", stdin=None, stdout=None, stderr=None
    )
    await within(protocol.lost)
    pattern = re.escape(f"unclosed transport {transport!r}")
    with pytest.warns(ResourceWarning, match=pattern):
        protocol.transport = None
        del transport
        gc.collect()
    transport, protocol = await loop.subprocess_exec(
        Log, "true", stdin=None, stdout=None, stderr=None
    )
    await within(protocol.lost)
    transport.close()
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        protocol.transport = None
        del transport
        gc.collect()


# --- what it says of itself ---


@row("P4B-016")
async def test_repr(loop):
    transport, protocol = await loop.subprocess_exec(Log, *CAT)
    pid = transport.get_pid()
    pipes = [transport.get_pipe_transport(fd) for fd in range(3)]
    shown = "stdin={!r} stdout={!r} stderr={!r}".format(*pipes)
    assert repr(transport) == (
        f"<_UnixSubprocessTransport pid={pid} running {shown}>"
    )
    transport.close()
    shown = "stdin={!r} stdout={!r} stderr={!r}".format(*pipes)
    assert repr(transport) == (
        f"<_UnixSubprocessTransport closed pid={pid} running {shown}>"
    )
    await within(protocol.lost)
    shown = "stdin={!r} stdout={!r} stderr={!r}".format(*pipes)
    assert repr(transport) == (
        f"<_UnixSubprocessTransport closed pid={pid} returncode=-9 {shown}>"
    )


@row("P4B-016")
async def test_repr_without_pipes(loop):
    transport, protocol = await loop.subprocess_exec(
        Log, *SLEEP, stdin=None, stdout=None, stderr=STDOUT
    )
    pid = transport.get_pid()
    assert repr(transport) == f"<_UnixSubprocessTransport pid={pid} running>"
    transport.kill()
    await within(protocol.lost)
    assert repr(transport) == (
        f"<_UnixSubprocessTransport pid={pid} returncode=-9>"
    )
    transport.close()


@row("P4B-016")
@pytest.mark.one_poller
async def test_repr_of_one_that_did_not_start(loop):
    """Seen in a traceback's frames."""
    with pytest.raises(FileNotFoundError) as caught:
        await loop.subprocess_exec(Log, "/no/such/program")
    tracebacks = []
    traceback = caught.value.__traceback__
    while traceback is not None:
        tracebacks.append(traceback.tb_frame.f_locals.get("self"))
        traceback = traceback.tb_next
    texts = {repr(owner) for owner in tracebacks}
    assert "<_UnixSubprocessTransport closed not started>" in texts
