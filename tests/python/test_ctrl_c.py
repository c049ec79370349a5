# SPDX-License-Identifier: MIT
"""Ctrl-C: with asyncio.Runner, with run(), and on a bare loop."""

import signal

import pytest

from support.procs import finish, start_code

row = pytest.mark.row

RUNNER = """
    import asyncio, sys
    from support.loops import loop_from_environment

    async def main():
        print("ready")
        try:
            await asyncio.sleep(60)
        except asyncio.CancelledError:
            print("cancelled")
            {on_cancel}
            raise

    try:
        with asyncio.Runner(loop_factory=loop_from_environment) as runner:
            runner.run(main())
    except KeyboardInterrupt:
        print("interrupted")
"""


def interrupted(backend, code, times=1):
    """Send SIGINT each time the process says that it is ready."""
    process = start_code(backend, code)
    lines = []
    for _ in range(times):
        while (line := process.stdout.readline()) not in ("ready\n", ""):
            lines.append(line)
        process.send_signal(signal.SIGINT)
    done = finish(process)
    return done, "".join(lines) + done.stdout


@row("P2F-005")
def test_first_ctrl_c_cancels_the_main_task(backend):
    done, out = interrupted(backend, RUNNER.format(on_cancel="pass"))
    assert out == "cancelled\ninterrupted\n"
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@row("P2F-005")
def test_second_ctrl_c_interrupts_at_once(backend):
    code = RUNNER.format(
        on_cancel='print("ready"); __import__("time").sleep(60)'
    )
    done, out = interrupted(backend, code, times=2)
    assert out == "cancelled\ninterrupted\n"
    assert done.returncode == 0, done.stderr


@row("P2F-005")
def test_ctrl_c_while_the_loop_is_busy(backend):
    code = """
        import asyncio
        from support.loops import loop_from_environment

        async def main():
            print("ready")
            while True:
                await asyncio.sleep(0)

        try:
            with asyncio.Runner(loop_factory=loop_from_environment) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            print("interrupted")
    """
    done, out = interrupted(backend, code)
    assert out == "interrupted\n"
    assert done.returncode == 0, done.stderr


@row("P2F-005")
def test_cancelled_main_that_returns_a_value(backend):
    code = """
        import asyncio
        from support.loops import loop_from_environment

        async def main():
            print("ready")
            try:
                await asyncio.sleep(60)
            except asyncio.CancelledError:
                return "value"

        with asyncio.Runner(loop_factory=loop_from_environment) as runner:
            print(runner.run(main()))
    """
    done, out = interrupted(backend, code)
    assert out == "value\n"
    assert done.returncode == 0, done.stderr


@row("P4A-023", "P4C-020")
def test_ctrl_c_on_a_bare_loop(backend):
    code = """
        from support.loops import loop_from_environment

        loop = loop_from_environment()
        loop.call_soon(print, "ready")
        try:
            loop.run_forever()
        except KeyboardInterrupt:
            print("interrupted")
            print(loop.is_running())
        loop.close()
    """
    done, out = interrupted(backend, code)
    assert out == "interrupted\nFalse\n"
    assert done.returncode == 0, done.stderr


def test_ctrl_c_without_a_handler_ends_the_process(backend):
    code = """
        import asyncio
        from support.loops import loop_from_environment

        async def main():
            print("ready")
            await asyncio.sleep(60)

        with asyncio.Runner(loop_factory=loop_from_environment) as runner:
            runner.run(main())
    """
    done, out = interrupted(backend, code)
    assert out == ""
    assert done.returncode == -signal.SIGINT
    assert done.stderr.rstrip().endswith("KeyboardInterrupt")


def test_ctrl_c_with_connections_open(backend):
    code = """
        import asyncio, socket
        from support.loops import loop_from_environment

        class Protocol(asyncio.Protocol):
            def connection_lost(self, exc):
                print("lost", exc)

        async def main():
            loop = asyncio.get_running_loop()
            server = await loop.create_server(Protocol, "127.0.0.1", 0)
            address = server.sockets[0].getsockname()
            async with server:
                transport, _ = await loop.create_connection(
                    Protocol, *address
                )
                print("ready")
                try:
                    await asyncio.sleep(60)
                finally:
                    transport.close()
                    await asyncio.sleep(0.01)

        try:
            with asyncio.Runner(loop_factory=loop_from_environment) as runner:
                runner.run(main())
        except KeyboardInterrupt:
            print("interrupted")
    """
    done, out = interrupted(backend, code)
    assert out.splitlines() == ["lost None", "lost None", "interrupted"]
    assert done.returncode == 0, done.stderr
    assert done.stderr == ""


@pytest.mark.parametrize("name", ["SIGTERM", "SIGHUP"])
def test_default_action_of_other_signals(backend, name):
    """The loop leaves signals alone that nobody gave it."""
    code = """
        from support.loops import loop_from_environment

        loop = loop_from_environment()
        loop.call_soon(print, "ready")
        loop.run_forever()
    """
    process = start_code(backend, code)
    assert process.stdout.readline() == "ready\n"
    process.send_signal(getattr(signal, name))
    done = finish(process)
    assert done.returncode == -getattr(signal, name)
