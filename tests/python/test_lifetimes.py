# SPDX-License-Identifier: MIT
"""Signals at any moment, servers that fork first, and being process 1."""

import shutil
import subprocess
import sys
import textwrap

import pytest

from support.procs import LIMIT, check, environment, run_code

row = pytest.mark.row

PREPARE = """
    import asyncio, os, signal, socket, sys, threading, time

    from support.loops import loop_from_environment

    loop = loop_from_environment()
    asyncio.set_event_loop(loop)
"""

BOMBARDMENT = (
    PREPARE
    + """
    WORDS = bytes(range(256)) * 4096
    heard = alarms = 0

    def on_signal():
        global heard
        heard += 1

    def on_alarm(*_):
        global alarms
        alarms += 1

    async def echo(reader, writer):
        while data := await reader.read(1 << 16):
            writer.write(data)
            await writer.drain()
        writer.close()

    async def talk(address):
        reader, writer = await asyncio.open_connection(*address)
        for start in range(0, len(WORDS), 65521):
            writer.write(WORDS[start : start + 65521])
        writer.write_eof()
        assert await reader.read() == WORDS
        writer.close()
        await writer.wait_closed()

    async def talk_through_pipe():
        source, sink = os.pipe()
        reader = asyncio.StreamReader()
        with open(source, "rb", 0) as source, open(sink, "wb", 0) as sink:
            await loop.connect_read_pipe(
                lambda: asyncio.StreamReaderProtocol(reader), source
            )
            transport, _ = await loop.connect_write_pipe(
                asyncio.BaseProtocol, sink
            )
            transport.write(WORDS)
            transport.close()
            assert await reader.read() == WORDS

    async def sock_calls():
        left, right = socket.socketpair()
        with left, right:
            left.setblocking(False)
            right.setblocking(False)
            sending = asyncio.ensure_future(loop.sock_sendall(left, WORDS))
            got = bytearray()
            while len(got) < len(WORDS):
                got += await loop.sock_recv(right, 1 << 16)
            await sending
            assert got == WORDS

    def bombard():
        while not is_over.is_set():
            signal.pthread_kill(main_thread, signal.SIGUSR1)
            time.sleep(0.0002)

    async def main():
        server = await asyncio.start_server(echo, "127.0.0.1", 0)
        address = server.sockets[0].getsockname()
        for _ in range(3):
            await asyncio.gather(
                talk(address),
                talk(address),
                talk_through_pipe(),
                sock_calls(),
                asyncio.sleep(0.01),
                loop.run_in_executor(None, time.sleep, 0.01),
            )
        server.close()
        await server.wait_closed()

    is_over = threading.Event()
    main_thread = threading.get_ident()
    errors = []
    loop.set_exception_handler(lambda _, context: errors.append(context))
    loop.add_signal_handler(signal.SIGUSR1, on_signal)
    signal.signal(signal.SIGALRM, on_alarm)
    signal.setitimer(signal.ITIMER_REAL, 0.0005, 0.0005)
    thread = threading.Thread(target=bombard)
    thread.start()
    try:
        loop.run_until_complete(asyncio.wait_for(main(), 20))
    finally:
        is_over.set()
        thread.join()
        signal.setitimer(signal.ITIMER_REAL, 0)
    loop.run_until_complete(loop.shutdown_default_executor())
    loop.close()
    assert not errors, errors
    assert heard > 0 and alarms > 0
    print("signals:", heard, "alarms:", alarms)
"""
)


@pytest.mark.timeout(60)
def test_signals_at_any_moment(backend):
    """Of two kinds, thousands a second, while everything goes on."""
    done = check(run_code(backend, BOMBARDMENT))
    assert done.stdout.startswith("signals:")
    assert done.stderr == ""


PREFORK = (
    PREPARE
    + """
    WORKERS = 3

    def work(listening):
        own = loop_from_environment()
        asyncio.set_event_loop(own)

        async def answer(reader, writer):
            writer.write(b"%d" % os.getpid() + await reader.read())
            writer.close()

        async def serve():
            over = own.create_future()
            own.add_signal_handler(signal.SIGTERM, over.set_result, None)
            async with await asyncio.start_server(answer, sock=listening):
                os.write(ready[1], b".")
                await over

        own.run_until_complete(serve())
        own.close()

    async def ask(address):
        reader, writer = await asyncio.open_connection(*address)
        writer.write(b" hello")
        writer.write_eof()
        text = await reader.read()
        writer.close()
        return text

    async def ask_all(address):
        return await asyncio.gather(*(ask(address) for _ in range(30)))

    def start(listening):
        pid = os.fork()
        if pid == 0:
            code = 1
            try:
                signal.alarm(25)
                work(listening)
                code = 0
            finally:
                os._exit(code)
        return pid

    # In every state of the parent's loop: new, run, and running.
    ready = os.pipe()
    with socket.create_server(("127.0.0.1", 0)) as listening:
        pids = [start(listening)]
        loop.run_until_complete(asyncio.sleep(0))
        pids.append(start(listening))

        async def start_inside():
            pids.append(start(listening))

        import warnings
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")
            loop.run_until_complete(start_inside())
        seen = b""
        while len(seen) < WORKERS:
            seen += os.read(ready[0], WORKERS)
        answers = loop.run_until_complete(ask_all(listening.getsockname()))
        assert len(answers) == 30
        for text in answers:
            pid, _, rest = text.partition(b" ")
            assert int(pid) in pids and rest == b"hello", text
        for pid in pids:
            os.kill(pid, signal.SIGTERM)
            assert os.waitpid(pid, 0)[1] == 0
    loop.close()
    """
)


@row("P2F-018")
@pytest.mark.timeout(60)
def test_a_server_that_forks_first(backend):
    """Workers share a socket; each has a loop of its own, and ends well."""
    check(run_code(backend, PREFORK))


FIRST = (
    PREPARE
    + """
    async def orphans():
        # Their parents end first; then they are ours.
        for _ in range(3):
            process = await asyncio.create_subprocess_exec(
                "/bin/sh", "-c", "(sleep 0.01; exit 9) & exit 3"
            )
            assert await process.wait() == 3

    async def main():
        await orphans()
        process = await asyncio.create_subprocess_exec(
            sys.executable, "-c", "print('hello')",
            stdout=asyncio.subprocess.PIPE,
        )
        out, _ = await process.communicate()
        assert out == b"hello\\n" and process.returncode == 0
        over = loop.create_future()
        loop.add_signal_handler(signal.SIGTERM, over.set_result, None)
        # Process 1 gets only signals that it has a handler for.
        os.kill(os.getpid(), signal.SIGTERM)
        await over

    assert os.getpid() == 1
    loop.run_until_complete(asyncio.wait_for(main(), 20))
    loop.close()
    print("done")
"""
)


def may_unshare():
    if shutil.which("unshare") is None:
        return False
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc", "true"],
        capture_output=True,
        stdin=subprocess.DEVNULL,
    )
    return done.returncode == 0


@pytest.mark.oracle_skip(
    "its watcher of children needs the main loop",
    when=sys.version_info < (3, 12),
)
@pytest.mark.timeout(60)
def test_as_process_one(backend):
    """As in a container that has no init."""
    if not may_unshare():
        pytest.skip("needs the right to make a namespace of processes")
    done = subprocess.run(
        ["unshare", "--pid", "--fork", "--mount-proc"]
        + [sys.executable, "-c", textwrap.dedent(FIRST)],
        env=environment(backend),
        capture_output=True,
        text=True,
        timeout=LIMIT,
        stdin=subprocess.DEVNULL,
    )
    check(done)
    assert done.stdout == "done\n"
