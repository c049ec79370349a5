# SPDX-License-Identifier: MIT
"""The end of the interpreter, whatever state the loop is in."""

import textwrap

import pytest

from support.ends import play_ends
from support.procs import check, run_code

row = pytest.mark.row

PREPARE = """
import asyncio, atexit, gc, os, signal, socket, sys, threading, time
from support.loops import loop_from_environment

loop = loop_from_environment()

async def connect():
    server = await loop.create_server(asyncio.Protocol, "127.0.0.1", 0)
    transport, protocol = await loop.create_connection(
        asyncio.Protocol, *server.sockets[0].getsockname()
    )
    await asyncio.sleep(0.005)
    return server, transport

async def lookup():
    return await loop.getaddrinfo("localhost", 80)
"""

STATES = {
    "made": "",
    "closed": "loop.close()",
    "run": "loop.run_until_complete(asyncio.sleep(0))",
    "pending": """
        loop.call_soon(print)
        loop.call_later(100, print)
        loop.call_soon_threadsafe(print)
        loop.add_reader(0, print)
    """.replace("loop.add_reader(0, print)", ""),
    "connected": "kept = loop.run_until_complete(connect())",
    "connected and closed": """
        kept = loop.run_until_complete(connect())
        loop.close()
    """,
    "in a cycle": """
        kept = loop.run_until_complete(connect())
        loop.me = loop
        loop.kept = kept
        del loop, kept
    """,
    "resolved": "loop.run_until_complete(lookup())",
    "signal handler": "loop.add_signal_handler(signal.SIGUSR1, print)",
    "closed at exit": """
        kept = loop.run_until_complete(connect())
        atexit.register(loop.close)
    """,
    "run at exit": """
        def last():
            assert loop.run_until_complete(asyncio.sleep(0, 5)) == 5
            loop.close()

        atexit.register(last)
    """,
    "tasks pending": """
        async def forever():
            await loop.create_future()

        task = loop.create_task(forever())
        loop.run_until_complete(asyncio.sleep(0))
    """,
    "generator open": """
        async def numbers():
            yield 1
            yield 2

        generator = numbers()
        loop.run_until_complete(anext(generator))
    """,
    "watching": """
        left, right = socket.socketpair()
        loop.add_reader(left, print)
        loop.add_writer(right, print)
    """,
    "executor busy": """
        loop.run_in_executor(None, time.sleep, 0.1)
        loop.run_until_complete(asyncio.sleep(0))
    """,
    "exit in a callback": """
        loop.call_soon(sys.exit, 0)
        loop.run_forever()
    """,
    "exit in a task": """
        async def leave():
            sys.exit(0)

        loop.run_until_complete(leave())
    """,
    "running in a daemon thread": """
        threading.Thread(target=loop.run_forever, daemon=True).start()
        time.sleep(0.02)
    """,
    "busy in a daemon thread": """
        async def busy():
            while True:
                await asyncio.sleep(0)

        threading.Thread(
            target=loop.run_until_complete, args=(busy(),), daemon=True
        ).start()
        time.sleep(0.02)
    """,
    "connections in a daemon thread": """
        async def chatter():
            async def serve(reader, writer):
                while data := await reader.read(100):
                    writer.write(data)

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address)
            while True:
                writer.write(b"x")
                await reader.read(1)

        threading.Thread(
            target=loop.run_until_complete, args=(chatter(),), daemon=True
        ).start()
        time.sleep(0.05)
    """,
    "os._exit in a callback": """
        loop.call_soon(os._exit, 0)
        loop.run_forever()
    """,
    "module deleted": """
        loop.run_until_complete(connect())
        for name in list(sys.modules):
            if name.split(".")[0] in ("becket", "asyncio"):
                del sys.modules[name]
        gc.collect()
    """,
    "finalizer that uses it": """
        class Last:
            def __del__(self):
                try:
                    loop.call_soon(print)
                    loop.close()
                except (RuntimeError, AttributeError, NameError):
                    pass

        last = Last()
        loop.last = last
    """,
}


@row("P4A-029", "P4A-030")
@pytest.mark.parametrize("state", STATES)
def test_exit(backend, state):
    code = PREPARE + textwrap.dedent(STATES[state])
    options = ("-W", "ignore")
    done = check(run_code(backend, code, options=options))
    assert "Fatal Python error" not in done.stderr
    assert "Segmentation" not in done.stderr


@row("P4A-029", "P4A-030")
@pytest.mark.parametrize("state", ["made", "connected", "in a cycle"])
def test_exit_with_warnings_on(backend, state):
    """Nothing but resource warnings is said."""
    code = PREPARE + textwrap.dedent(STATES[state])
    options = ("-W", "always::ResourceWarning")
    done = check(run_code(backend, code, options=options))
    for line in done.stderr.splitlines():
        assert "ResourceWarning" in line or line.startswith(
            ("  ", "Object allocated", "Exception ignored")
        ), done.stderr


@pytest.mark.parametrize("state", ["made", "connected", "pending", "resolved"])
def test_exit_in_development_mode(backend, state):
    code = PREPARE + textwrap.dedent(STATES[state])
    done = check(run_code(backend, code, options=("-X", "dev")))
    assert "Fatal Python error" not in done.stderr


def test_exit_code_of_system_exit(backend):
    code = PREPARE + "loop.call_soon(sys.exit, 7)\nloop.run_forever()\n"
    check(run_code(backend, code, options=("-W", "ignore")), 7)


def test_uncaught_exception_of_a_task(backend):
    code = PREPARE + textwrap.dedent(
        """
        async def fail():
            raise ValueError("uncaught")

        try:
            loop.run_until_complete(fail())
        finally:
            loop.close()
        """
    )
    done = check(run_code(backend, code), 1)
    assert done.stderr.rstrip().endswith("ValueError: uncaught")


@row("P4A-029", "P4A-030")
@pytest.mark.timeout(300)
def test_every_state(backend, request):
    """The table of isolated/ends.py, all of it with --full."""
    play_ends(backend, "exit", request.config.getoption("--full"))


def test_class_in_another_module_outlives_the_loop(backend):
    """The loop dies when the module that made it has been cleared."""
    code = """
    import socket
    from support.loops import loop_from_environment

    class Socket(socket.socket):
        def fileno(self):
            return super().fileno()

    socket.socket = Socket
    loop = loop_from_environment()
    print("done")
    """
    done = check(run_code(backend, code))
    assert done.stdout == "done\n"
