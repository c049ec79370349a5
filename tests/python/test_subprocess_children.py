# SPDX-License-Identifier: MIT
"""How the end of a subprocess is learnt, and that all of them are reaped."""

import asyncio
import contextlib
import errno
import gc
import os
import signal
import subprocess
import sys
import threading
import time

import pytest

from support.children import (
    CAT,
    SLEEP,
    children,
    children_left,
    is_gone,
    python,
    wait_for_state,
)
from support.leaks import join_all, leaked_fds, open_fds
from support.loops import make_loop
from support.procs import check, finish, run_code, start_code

row = pytest.mark.row

LIMIT = 10
# CPython's own loop waits by threads.
HAS_THREADS = sys.version_info < (3, 12)
PIPE = asyncio.subprocess.PIPE
DEVNULL = asyncio.subprocess.DEVNULL


@pytest.fixture(autouse=True)
def no_child_left():
    before = children()
    yield
    left = children_left(before)
    assert not left, f"left behind: {left}"


def no_pidfd(error):
    """An os.pidfd_open() that fails."""

    def pidfd_open(pid, flags=0):
        raise OSError(error, os.strerror(error))

    return pidfd_open


WAYS = ["pidfd", "missing", "ENOSYS", "EPERM", "EMFILE", "EINVAL"]


@pytest.fixture(params=WAYS)
def way(request, monkeypatch):
    """How a child is watched: a pidfd, or why there is none."""
    name = request.param
    if request.config.getoption("--oracle") and name != "pidfd":
        pytest.skip("CPython decides once")
    if name == "missing":
        monkeypatch.delattr(os, "pidfd_open")
    elif name != "pidfd":
        error = getattr(errno, name)
        monkeypatch.setattr(os, "pidfd_open", no_pidfd(error))
    return name


def waiting_threads():
    return [
        thread
        for thread in threading.enumerate()
        if thread.name.startswith("asyncio-waitpid-")
    ]


async def within(awaitable):
    return await asyncio.wait_for(awaitable, LIMIT)


async def check_terminate():
    process = await asyncio.create_subprocess_exec(*SLEEP)
    process.send_signal(0)
    process.terminate()
    assert await within(process.wait()) == -signal.SIGTERM


async def check_close():
    process = await asyncio.create_subprocess_exec(*SLEEP, stdout=PIPE)
    process._transport.close()
    assert await within(process.wait()) == -signal.SIGKILL
    assert is_gone(process.pid)


# --- with pidfds, and without ---


async def test_exits(loop, way):
    process = await asyncio.create_subprocess_exec(
        *CAT, stdin=PIPE, stdout=PIPE
    )
    if not HAS_THREADS or not isinstance(loop, asyncio.SelectorEventLoop):
        assert len(waiting_threads()) == (way != "pidfd")
    assert await process.communicate(b"data") == (b"data", None)
    assert process.returncode == 0
    join_all(waiting_threads())


async def test_many_at_once(loop, way):
    async def one(number):
        process = await asyncio.create_subprocess_exec(
            *("sh", "-c", f"echo {number}; exit {number}"), stdout=PIPE
        )
        out, _ = await process.communicate()
        return int(out), process.returncode

    found = await within(asyncio.gather(*map(one, range(20))))
    assert found == [(number, number) for number in range(20)]
    join_all(waiting_threads())


async def test_is_killed(loop, way):
    await check_terminate()
    await check_close()
    join_all(waiting_threads())


@pytest.mark.becket_only("CPython's thread reaps at once")
async def test_is_not_reaped_while_the_loop_may_signal_it(loop, way):
    """Until the loop knows, the number cannot be anybody else's."""
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", "read line; exit 6", stdin=PIPE
    )
    process.stdin.write(b"\n")
    wait_for_state(process.pid, "Z")
    join_all(waiting_threads())
    wait_for_state(process.pid, "Z")
    process.kill()
    assert await within(process.wait()) == 6
    assert is_gone(process.pid)


@row("P2F-015", "P2I-003")
@pytest.mark.becket_only("CPython's loop calls it")
@pytest.mark.before(3, 14)
@pytest.mark.filterwarnings("ignore::DeprecationWarning")
async def test_child_watcher_is_not_asked(loop, monkeypatch):
    def never():
        raise AssertionError("asked for the child watcher")

    monkeypatch.setattr(asyncio, "get_child_watcher", never)
    monkeypatch.setattr(asyncio.events, "get_child_watcher", never)
    policy = asyncio.get_event_loop_policy()
    monkeypatch.setattr(
        type(policy), "get_child_watcher", lambda self: never()
    )
    process = await asyncio.create_subprocess_exec("true")
    assert await within(process.wait()) == 0


@row("P2I-001")
async def test_no_signal_handler_is_taken(loop, way):
    seen = []
    before = signal.signal(
        signal.SIGCHLD, lambda number, _: seen.append(number)
    )
    try:
        process = await asyncio.create_subprocess_exec("true")
        assert await within(process.wait()) == 0
        handler = signal.getsignal(signal.SIGCHLD)
    finally:
        signal.signal(signal.SIGCHLD, before)
    assert handler.__name__ == "<lambda>"
    assert seen == [signal.SIGCHLD]
    join_all(waiting_threads())


async def test_handler_of_the_users(loop, way):
    """add_signal_handler(SIGCHLD) goes with it."""
    seen = asyncio.Event()
    loop.add_signal_handler(signal.SIGCHLD, seen.set)
    try:
        process = await asyncio.create_subprocess_exec("sh", "-c", "exit 4")
        assert await within(process.wait()) == 4
        await within(seen.wait())
    finally:
        loop.remove_signal_handler(signal.SIGCHLD)
    join_all(waiting_threads())


# --- what somebody else has reaped ---


@row("P4G-022")
async def test_reaped_by_a_stranger(loop, caplog, way):
    process = await asyncio.create_subprocess_exec(*SLEEP)
    process.kill()
    if way == "pidfd":
        _, status = os.waitpid(process.pid, 0)
        assert os.waitstatus_to_exitcode(status) == -signal.SIGKILL
        assert await within(process.wait()) == 255
        (record,) = caplog.records
        assert record.levelname == "WARNING"
        assert f"child process pid {process.pid}" in record.getMessage()
    else:
        # Here the thread may be first, or the stranger.
        with contextlib.suppress(ChildProcessError):
            os.waitpid(process.pid, 0)
        assert await within(process.wait()) in (255, -signal.SIGKILL)
    join_all(waiting_threads())


@pytest.mark.becket_only("CPython reports 255")
async def test_reaped_by_its_popen_object(loop, caplog, way):
    process = await asyncio.create_subprocess_exec(*SLEEP)
    popen = process._transport.get_extra_info("subprocess")
    process.kill()
    assert popen.wait() == -signal.SIGKILL
    assert await within(process.wait()) == -signal.SIGKILL
    assert not caplog.records
    join_all(waiting_threads())


async def test_popen_object_knows_as_well(loop, way):
    process = await asyncio.create_subprocess_exec("sh", "-c", "exit 4")
    popen = process._transport.get_extra_info("subprocess")
    assert await within(process.wait()) == 4
    assert popen.returncode == popen.poll() == popen.wait() == 4
    join_all(waiting_threads())


async def test_signal_is_ignored(loop, way, caplog):
    """With SIGCHLD ignored the kernel reaps by itself."""
    before = signal.signal(signal.SIGCHLD, signal.SIG_IGN)
    try:
        process = await asyncio.create_subprocess_exec("cat", stdin=PIPE)
        process.stdin.close()
        assert await within(process.wait()) == 255
        process = await asyncio.create_subprocess_exec(*SLEEP)
        process._transport.close()
        assert await within(process.wait()) == 255
    finally:
        signal.signal(signal.SIGCHLD, before)
    join_all(waiting_threads())


@pytest.mark.becket_only("CPython fails with ProcessLookupError")
async def test_reaped_before_it_can_be_watched(loop, monkeypatch):
    original = getattr(os, "pidfd_open", None)
    if original is None:
        pytest.skip("no pidfds")

    def late(pid, flags=0):
        os.kill(pid, signal.SIGKILL)
        os.waitpid(pid, 0)
        return original(pid, flags)

    monkeypatch.setattr(os, "pidfd_open", late)
    process = await asyncio.create_subprocess_exec(*SLEEP, stdout=PIPE)
    assert await within(process.wait()) == 255
    join_all(waiting_threads())


# --- what cannot be had ---


@pytest.mark.becket_only("CPython loses the process")
async def test_no_pidfd_and_no_thread(loop, monkeypatch):
    """It fails, and nothing is left."""

    def start(self):
        raise RuntimeError("can't start new thread")

    monkeypatch.setattr(os, "pidfd_open", no_pidfd(errno.EMFILE))
    monkeypatch.setattr(threading.Thread, "start", start)
    before = children()
    with pytest.raises(RuntimeError, match="can't start new thread"):
        await asyncio.create_subprocess_exec(*SLEEP, stdin=PIPE, stdout=PIPE)
    assert children() == before


@pytest.mark.becket_only("CPython loses the process")
async def test_pidfd_that_cannot_be_watched(loop, monkeypatch):
    original = loop.add_reader

    def add_reader(fd, *arguments):
        if "pidfd" in os.readlink(f"/proc/self/fd/{fd}"):
            raise OSError(errno.ENOSPC, "no watches left")
        return original(fd, *arguments)

    loop.add_reader = add_reader
    process = await asyncio.create_subprocess_exec("true", stdout=PIPE)
    assert await within(process.wait()) == 0
    join_all(waiting_threads())


@pytest.mark.becket_only("CPython loses the process")
@pytest.mark.parametrize("method", ["create_task", "connect_read_pipe"])
async def test_loop_that_refuses(loop, monkeypatch, method):
    """A task factory, or a method of the user's, that fails."""

    def refuse(*arguments, **options):
        raise ZeroDivisionError

    original = getattr(loop, method)
    setattr(loop, method, refuse)
    try:
        with pytest.raises(ZeroDivisionError):
            await loop.subprocess_exec(asyncio.SubprocessProtocol, *SLEEP)
    finally:
        setattr(loop, method, original)
    deadline = time.monotonic() + LIMIT
    while children() and time.monotonic() < deadline:
        await asyncio.sleep(0.001)


@pytest.mark.becket_only("CPython leaves them open")
async def test_start_fails_and_a_pipe_does_not_close(loop, monkeypatch):
    """The others are closed all the same."""
    started = []

    class Pipe:
        def __init__(self, file):
            self.file = file

        def close(self):
            self.file.close()
            raise OSError(errno.EIO, os.strerror(errno.EIO))

    class Popen(subprocess.Popen):
        def __init__(self, *arguments, **options):
            super().__init__(*arguments, **options)
            self.stdin = Pipe(self.stdin)
            started.append(self)

    def refuse(*arguments, **options):
        raise ZeroDivisionError

    with monkeypatch.context() as patch:
        patch.setattr(subprocess, "Popen", Popen)
        original = loop.create_task
        loop.create_task = refuse
        try:
            with pytest.raises(ZeroDivisionError):
                await loop.subprocess_exec(asyncio.SubprocessProtocol, *SLEEP)
        finally:
            loop.create_task = original
    (process,) = started
    assert process.stdin.file.closed
    assert process.stdout.closed and process.stderr.closed
    deadline = time.monotonic() + LIMIT
    while children() and time.monotonic() < deadline:
        await asyncio.sleep(0.001)


@pytest.mark.becket_only("CPython sends them by number alone")
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM"])
async def test_sandbox_without_pidfd_send_signal(loop, monkeypatch, error):
    def refuse(*_):
        number = getattr(errno, error)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(signal, "pidfd_send_signal", refuse)
    await check_terminate()


@pytest.mark.becket_only("CPython waits by number alone")
async def test_kernel_without_waiting_by_pidfd(loop, monkeypatch):
    original = os.waitid

    def waitid(kind, number, options):
        if kind == os.P_PIDFD:
            raise OSError(errno.EINVAL, "Invalid argument")
        return original(kind, number, options)

    monkeypatch.setattr(os, "waitid", waitid)
    process = await asyncio.create_subprocess_exec("sh", "-c", "exit 4")
    assert await within(process.wait()) == 4
    await check_close()


@pytest.mark.becket_only("CPython calls waitpid() alone")
@pytest.mark.parametrize("error", ["ENOSYS", "EPERM", "ENOMEM"])
async def test_sandbox_without_waitid(loop, monkeypatch, way, error):
    """waitpid() is there: the end is told, and nothing is left of it."""

    def refuse(*_):
        number = getattr(errno, error)
        raise OSError(number, os.strerror(number))

    monkeypatch.setattr(os, "waitid", refuse)
    process = await asyncio.create_subprocess_exec("sh", "-c", "exit 4")
    assert await within(process.wait()) == 4
    assert is_gone(process.pid)
    await check_terminate()
    await check_close()
    join_all(waiting_threads())


@pytest.mark.becket_only("CPython calls waitpid() alone")
@pytest.mark.parametrize("reaper", ["thread", "popen"])
async def test_number_is_not_waited_for_again(loop, monkeypatch, reaper):
    """Once it was reaped it may be that of another child, without pidfds."""
    monkeypatch.delattr(os, "pidfd_open")
    waitid, waitpid = os.waitid, os.waitpid
    reaping = []

    def note_waitid(kind, number, options):
        if reaper == "thread":
            raise OSError(errno.EPERM, os.strerror(errno.EPERM))
        if not options & os.WNOWAIT:
            reaping.append(number)
        return waitid(kind, number, options)

    def note_waitpid(number, options):
        reaping.append(number)
        return waitpid(number, options)

    monkeypatch.setattr(os, "waitid", note_waitid)
    monkeypatch.setattr(os, "waitpid", note_waitpid)
    process = await asyncio.create_subprocess_exec(
        "sh", "-c", "read line; exit 4", stdin=PIPE
    )
    popen = process._transport.get_extra_info("subprocess")
    process.stdin.write(b"\n")
    if reaper == "popen":
        assert popen.wait() == 4
    assert await within(process.wait()) == 4
    assert reaping == [process.pid]
    join_all(waiting_threads())


# --- many, and in threads ---


async def one_after_the_other(count):
    for _ in range(count):
        process = await asyncio.create_subprocess_exec(
            "true", stdin=DEVNULL, stdout=PIPE
        )
        await process.communicate()
        assert process.returncode == 0


@pytest.mark.timeout(180)
def test_thousands(new_loop):
    """On several tracks; the time grows with the number, and no faster."""
    loop = new_loop()

    async def tracks(count):
        await asyncio.gather(*(one_after_the_other(count) for _ in range(4)))

    def timed(count):
        began = time.process_time()
        loop.run_until_complete(tracks(count))
        return time.process_time() - began

    timed(5)
    gc.collect()
    fds = open_fds()
    short = min(timed(25), timed(25))
    long = timed(250)
    # Nothing that grows with those that have been: 10 times as many, and twice
    # that for a busy machine.
    assert long < 20 * short
    gc.collect()
    assert not leaked_fds(fds)


@row("P2I-001")
def test_loops_in_threads(backend, way):
    """Each has its own children; the main thread runs no loop at all."""
    found = {}

    async def several(name):
        async def one(number):
            process = await asyncio.create_subprocess_exec(
                *CAT, stdin=PIPE, stdout=PIPE
            )
            out, _ = await process.communicate(b"%d" % number)
            return int(out), process.returncode

        found[name] = await asyncio.gather(*map(one, range(5)))

    def run(name):
        loop = make_loop(backend)
        try:
            loop.run_until_complete(several(name))
        finally:
            loop.close()

    threads = [threading.Thread(target=run, args=(n,)) for n in range(4)]
    for thread in threads:
        thread.start()
    join_all(threads)
    assert found == {n: [(k, 0) for k in range(5)] for n in range(4)}
    join_all(waiting_threads())


@row("P2I-001")
def test_ends_while_other_loops_run(backend):
    """Each end goes to its own loop, whoever sleeps."""
    order = []
    ready = threading.Barrier(2)

    async def sleeper(name):
        process = await asyncio.create_subprocess_exec(*SLEEP)
        ready.wait(LIMIT)
        if name == "killer":
            process.terminate()
        elif name == "victim":
            await asyncio.sleep(0.01)
            process.kill()
        order.append((name, await within(process.wait())))

    def run(name):
        loop = make_loop(backend)
        try:
            loop.run_until_complete(sleeper(name))
        finally:
            loop.close()

    threads = [
        threading.Thread(target=run, args=(name,))
        for name in ("killer", "victim")
    ]
    for thread in threads:
        thread.start()
    join_all(threads)
    assert sorted(order) == [
        ("killer", -signal.SIGTERM),
        ("victim", -signal.SIGKILL),
    ]


# --- the end of a loop, and of the program ---


CLOSE = """
    import asyncio, os, sys
    from support.loops import loop_from_environment

    if {no_pidfd}:
        del os.pidfd_open
    loop = loop_from_environment()
    transport, _ = loop.run_until_complete(
        loop.subprocess_exec(asyncio.SubprocessProtocol, *{command})
    )
    print(transport.get_pid(), flush=True)
    {ending}
"""

ENDINGS = {
    "nothing": "",
    "closed loop": "loop.close()",
    "closed both": "transport.close(); loop.close()",
    "closed loop first": "loop.close(); transport.close()",
    "exit in a callback": "loop.call_soon(sys.exit); loop.run_forever()",
    "collected": "loop.close(); del transport, loop; import gc; gc.collect()",
}


@pytest.mark.becket_only("CPython 3.13.0 leaves it running")
@pytest.mark.parametrize("no_pidfd", [False, True])
@pytest.mark.parametrize("ending", ENDINGS)
def test_program_ends_while_it_runs(backend, ending, no_pidfd):
    """Nothing hangs or crashes; a transport that was closed has killed it."""
    code = CLOSE.format(
        command=SLEEP, ending=ENDINGS[ending], no_pidfd=no_pidfd
    )
    done = run_code(backend, code, options=("-X", "dev"))
    pid = int(done.stdout)
    try:
        check(done)
        assert "Traceback" not in done.stderr, done.stderr
        if "transport.close()" in ENDINGS[ending]:
            deadline = time.monotonic() + LIMIT
            while not is_gone(pid) and time.monotonic() < deadline:
                time.sleep(0.01)
            assert is_gone(pid)
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)


@pytest.mark.becket_only("CPython keeps the pidfd open")
def test_closed_loop_drops_the_pidfd(new_loop):
    fds = open_fds()
    loop = new_loop()
    transport, _ = loop.run_until_complete(
        loop.subprocess_exec(
            *(asyncio.SubprocessProtocol, *SLEEP),
            stdin=None,
            stdout=None,
            stderr=None,
        )
    )
    popen = transport.get_extra_info("subprocess")
    loop.close()
    transport.close()
    assert popen.wait() == -signal.SIGKILL
    del transport
    gc.collect()
    assert not leaked_fds(fds)


@pytest.mark.becket_only("CPython's thread reaps at once")
def test_ends_after_its_loop(new_loop, monkeypatch, caplog):
    """The thread reaps what the loop cannot any more."""
    monkeypatch.setattr(os, "pidfd_open", no_pidfd(errno.ENOSYS))
    loop = new_loop()
    transport, _ = loop.run_until_complete(
        loop.subprocess_exec(
            *(asyncio.SubprocessProtocol, *SLEEP),
            stdin=None,
            stdout=None,
            stderr=None,
        )
    )
    loop.close()
    transport.close()
    join_all(waiting_threads())
    assert is_gone(transport.get_pid())
    assert "that handles pid" in caplog.text
    popen = transport.get_extra_info("subprocess")
    assert popen.returncode == -signal.SIGKILL


FORK = """
    import asyncio, gc, os, signal, sys
    from support.loops import loop_from_environment

    async def main():
        process = await asyncio.create_subprocess_exec(
            "cat", stdin=-1, stdout=-1
        )
        pid = os.fork()
        if pid == 0:
            # The copy of a loop only closes: nothing of the parent's is
            # killed, reaped or closed by its end.
            asyncio._set_running_loop(None)
            del process
            gc.collect()
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        assert process.returncode is None
        out, _ = await process.communicate(b"alive")
        assert out == b"alive"
        assert process.returncode == 0

        pid = os.fork()
        if pid == 0:
            asyncio._set_running_loop(None)
            loop = loop_from_environment()

            async def again():
                process = await asyncio.create_subprocess_exec(
                    "cat", stdin=-1, stdout=-1
                )
                out, _ = await process.communicate(b"child's")
                assert (out, process.returncode) == (b"child's", 0)

            try:
                loop.run_until_complete(again())
                loop.close()
            except BaseException:
                os._exit(1)
            os._exit(0)
        assert os.waitpid(pid, 0)[1] == 0

    loop = loop_from_environment()
    loop.run_until_complete(main())
    loop.close()
    print("done")
"""


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_fork(backend):
    done = check(run_code(backend, FORK, options=("-W", "ignore")))
    assert done.stdout == "done\n"


CTRL_C = """
    import asyncio, os, sys
    from support.loops import loop_from_environment
    from support.runners import run_with

    async def main():
        process = await asyncio.create_subprocess_exec(
            "sleep", "1000", start_new_session=True
        )
        print(process.pid, flush=True)
        try:
            await process.wait()
        except asyncio.CancelledError:
            process.kill()
            print(await process.wait(), flush=True)
            raise

    run_with(loop_from_environment, main())
"""


def test_ctrl_c(backend):
    running = start_code(backend, CTRL_C)
    pid = int(running.stdout.readline())
    os.kill(running.pid, signal.SIGINT)
    done = finish(running)
    assert done.stdout == f"{-signal.SIGKILL}\n"
    assert "KeyboardInterrupt" in done.stderr
    assert is_gone(pid)


async def test_python_program(loop):
    """One that answers, line by line."""
    process = await asyncio.create_subprocess_exec(
        *python(
            "import sys\n"
            "for line in sys.stdin: print(line.strip()[::-1], flush=True)"
        ),
        stdin=PIPE,
        stdout=PIPE,
    )
    for text in (b"abc", b"12345"):
        process.stdin.write(text + b"\n")
        await process.stdin.drain()
        assert await within(process.stdout.readline()) == text[::-1] + b"\n"
    process.stdin.close()
    await within(process.stdin.wait_closed())
    assert await within(process.wait()) == 0
