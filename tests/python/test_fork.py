# SPDX-License-Identifier: MIT
"""fork: the child can make a new loop, the parent's goes on."""

import pytest

from support.ends import play_ends
from support.loops import PY312
from support.procs import check, run_code

row = pytest.mark.row

PREPARE = """
    import asyncio, os, signal, socket, sys, warnings
    from support.loops import loop_from_environment

    # Threads and a fork are what is under test here.
    warnings.simplefilter("ignore", DeprecationWarning)

    def in_child(function):
        pid = os.fork()
        if pid == 0:
            try:
                signal.alarm(15)
                function()
            except BaseException:
                import traceback
                traceback.print_exc()
                os._exit(1)
            os._exit(0)
        status = os.waitpid(pid, 0)[1]
        assert status == 0, status
"""


def forked(backend, code):
    import textwrap

    whole = textwrap.dedent(PREPARE) + textwrap.dedent(code)
    done = check(run_code(backend, whole))
    assert done.stderr == ""
    return done.stdout


@row("P2F-018", "P4C-021", "P2F-002")
def test_child_sees_no_running_loop(backend):
    forked(
        backend,
        """
        def child():
            assert asyncio._get_running_loop() is None
            try:
                asyncio.get_running_loop()
            except RuntimeError:
                return
            raise AssertionError("a running loop in the child")

        async def main():
            in_child(child)
            assert asyncio.get_running_loop() is loop

        loop = loop_from_environment()
        loop.run_until_complete(main())
        loop.close()
        """,
    )


@row("P2F-018")
def test_child_makes_a_loop_of_its_own(backend):
    forked(
        backend,
        """
        async def echo():
            async def serve(reader, writer):
                writer.write(await reader.readexactly(5))
                writer.close()

            server = await asyncio.start_server(serve, "127.0.0.1", 0)
            async with server:
                address = server.sockets[0].getsockname()
                reader, writer = await asyncio.open_connection(*address)
                writer.write(b"hello")
                assert await reader.read() == b"hello"
                writer.close()
                await writer.wait_closed()

        def child():
            loop = loop_from_environment()
            loop.run_until_complete(echo())
            loop.close()

        async def main():
            in_child(child)
            await echo()
            in_child(child)

        loop = loop_from_environment()
        loop.run_until_complete(main())
        in_child(child)
        loop.run_until_complete(echo())
        loop.close()
        in_child(child)
        """,
    )


@row("P2F-018")
@pytest.mark.oracle_skip("the child's close unregisters the parent's wake-up")
def test_closing_the_copy_leaves_the_parents_loop_alone(backend):
    forked(
        backend,
        """
        import threading, time

        def child():
            loop.close()

        left, right = socket.socketpair()
        left.setblocking(False)
        loop = loop_from_environment()
        got = []

        def reader():
            got.append(left.recv(10))
            loop.stop()

        loop.add_reader(left, reader)
        loop.call_soon(loop.stop)
        loop.run_forever()
        in_child(child)
        right.send(b"x")
        loop.run_forever()
        assert got == [b"x"], got
        # Waking up from another thread still works.
        threading.Timer(
            0.01, loop.call_soon_threadsafe, [loop.stop]
        ).start()
        guard = loop.call_later(10, sys.exit, "never woken")
        loop.run_forever()
        guard.cancel()
        loop.remove_reader(left)
        loop.close()
        left.close()
        right.close()
        """,
    )


@row("P2F-018")
def test_the_childs_copy_sends_nothing(backend):
    """Queued data, closing and collecting in the child reach no peer."""
    forked(
        backend,
        """
        import gc

        class Protocol(asyncio.Protocol):
            def connection_made(self, transport):
                self.transport = transport

        async def main():
            ours, peer = socket.socketpair()
            ours.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 4096)
            transport, protocol = await loop.create_connection(
                Protocol, sock=ours
            )
            transport.write(b"a" * 300000)
            assert transport.get_write_buffer_size() > 0

            def child():
                # Only ends: neither flushes nor shuts the stream down.
                gc.collect()

            in_child(child)
            peer.settimeout(10)
            transport.close()
            got = await asyncio.to_thread(read_all, peer)
            assert got == b"a" * 300000, len(got)
            peer.close()

        def read_all(peer):
            parts = bytearray()
            while data := peer.recv(1 << 16):
                parts += data
            return bytes(parts)

        loop = loop_from_environment()
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        """,
    )


def test_child_exits_normally_with_the_parents_loop(backend):
    """sys.exit() in the child runs finalizers over the copied objects."""
    out = forked(
        backend,
        """
        async def main():
            server = await loop.create_server(
                asyncio.Protocol, "127.0.0.1", 0
            )
            transport, _ = await loop.create_connection(
                asyncio.Protocol, *server.sockets[0].getsockname()
            )
            return server, transport

        loop = loop_from_environment()
        server, transport = loop.run_until_complete(main())
        pid = os.fork()
        if pid == 0:
            warnings.simplefilter("ignore")
            sys.exit(0)
        assert os.waitpid(pid, 0)[1] == 0
        address = server.sockets[0].getsockname()
        # The parent still serves.
        more = loop.run_until_complete(
            loop.create_connection(asyncio.Protocol, *address)
        )
        more[0].close()
        transport.close()
        server.close()
        loop.run_until_complete(asyncio.sleep(0.01))
        loop.close()
        print("done")
        """,
    )
    assert out == "done\n"


def test_multiprocessing_fork(backend):
    out = forked(
        backend,
        """
        import multiprocessing

        def work(queue):
            async def main():
                await asyncio.sleep(0.001)
                return "from the child"

            loop = loop_from_environment()
            queue.put(loop.run_until_complete(main()))
            loop.close()

        async def main():
            context = multiprocessing.get_context("fork")
            queue = context.Queue()
            process = context.Process(target=work, args=(queue,))
            process.start()
            print(queue.get(timeout=15))
            process.join(15)
            assert process.exitcode == 0
            queue.close()
            queue.join_thread()

        loop = loop_from_environment()
        loop.run_until_complete(main())
        loop.close()
        """,
    )
    assert out == "from the child\n"


def test_fork_in_a_thread(backend):
    forked(
        backend,
        """
        import threading

        def child():
            loop = loop_from_environment()
            assert loop.run_until_complete(asyncio.sleep(0, 7)) == 7
            loop.close()

        failures = []

        def work():
            try:
                in_child(child)
            except BaseException as exc:
                failures.append(exc)

        async def main():
            await asyncio.to_thread(work)

        loop = loop_from_environment()
        loop.run_until_complete(main())
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        assert not failures, failures
        """,
    )


@pytest.mark.oracle_skip(
    "3.11.7 leaves the parent's wake-up fd in the child", when=not PY312
)
def test_signal_handlers_in_the_child(backend):
    """A signal for the child does not reach the parent's loop."""
    forked(
        backend,
        """
        seen = []

        def child():
            signal.signal(signal.SIGUSR1, lambda *_: None)
            os.kill(os.getpid(), signal.SIGUSR1)

        async def main():
            loop.add_signal_handler(signal.SIGUSR1, seen.append, 1)
            in_child(child)
            await asyncio.sleep(0.02)
            assert seen == [], seen
            os.kill(os.getpid(), signal.SIGUSR1)
            await asyncio.sleep(0.02)
            assert seen == [1], seen

        loop = loop_from_environment()
        loop.run_until_complete(main())
        loop.close()
        """,
    )


def test_resolver_threads_and_fork(backend):
    """Lookups before the fork leave nothing that the child trips over."""
    forked(
        backend,
        """
        async def lookup(loop):
            assert await loop.getaddrinfo("localhost", 80)

        def child():
            mine = loop_from_environment()
            mine.run_until_complete(lookup(mine))
            mine.run_until_complete(mine.shutdown_default_executor())
            mine.close()

        loop = loop_from_environment()
        loop.run_until_complete(lookup(loop))
        in_child(child)
        loop.run_until_complete(lookup(loop))
        loop.run_until_complete(loop.shutdown_default_executor())
        loop.close()
        """,
    )


@row("P2F-018")
@pytest.mark.timeout(300)
def test_every_state(backend, request):
    """The table of isolated/ends.py, all of it with --full."""
    play_ends(backend, "fork", request.config.getoption("--full"))
