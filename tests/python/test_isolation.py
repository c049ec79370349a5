# SPDX-License-Identifier: MIT
"""Two modules, subinterpreters, and threads with a loop each."""

import pytest

from support.procs import check, run_code

row = pytest.mark.row

TWICE = """
    import asyncio, gc, sys, warnings

    def load():
        for name in list(sys.modules):
            if name.split(".")[0] == "becket":
                del sys.modules[name]
        import becket
        return becket

    async def use():
        async def serve(reader, writer):
            writer.write(await reader.readexactly(3))
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address)
            writer.write(b"abc")
            assert await reader.read() == b"abc"
            writer.close()
            await writer.wait_closed()

    one, two = load(), load()
    assert one is not two
    assert one.SelectorEventLoop is not two.SelectorEventLoop
    loops = [one.new_event_loop(), two.new_event_loop()]
    handles = [loop.call_soon(int) for loop in loops]
    assert type(handles[0]) is not type(handles[1])
    for loop in loops:
        loop.run_until_complete(use())
        loop.close()
    del loops, loop, one, handles
    gc.collect()
    loop = two.new_event_loop()
    loop.run_until_complete(use())
    loop.close()
"""


@pytest.mark.one_poller
@pytest.mark.becket_only("about becket's own modules")
def test_two_modules(backend):
    check(run_code(backend, TWICE))


SUBINTERPRETERS = """
    import sys
    try:
        import _interpreters as interpreters
    except ImportError:
        import _xxsubinterpreters as interpreters

    code = '''if True:
        import asyncio
        try:
            from support.loops import loop_from_environment
            loop = loop_from_environment()
        except ImportError as exc:
            # A module may refuse subinterpreters, if it says so.
            assert "interpreter" in str(exc), exc
        else:
            loop.run_until_complete(asyncio.sleep(0.001))
            loop.close()
    '''
    import asyncio
    from support.loops import loop_from_environment

    for _ in range(3):
        number = interpreters.create()
        result = interpreters.run_string(number, code)
        assert result is None, result
        interpreters.destroy(number)
        loop = loop_from_environment()
        loop.run_until_complete(asyncio.sleep(0.001))
        loop.close()
    print("done")
"""


@pytest.mark.one_poller
@pytest.mark.oracle_skip("_asyncio itself refuses some of them")
def test_subinterpreters(backend):
    done = check(run_code(backend, SUBINTERPRETERS))
    assert done.stdout == "done\n"


THREADS = """
    import asyncio, threading
    from support.loops import loop_from_environment

    failures = []

    async def work():
        async def serve(reader, writer):
            while data := await reader.read(100):
                writer.write(data)
            writer.close()

        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            address = server.sockets[0].getsockname()
            reader, writer = await asyncio.open_connection(*address)
            for number in range(100):
                writer.write(b"%03d" % number)
                assert await reader.readexactly(3) == b"%03d" % number
            writer.close()
            await writer.wait_closed()

    def run():
        try:
            loop = loop_from_environment()
            loop.run_until_complete(work())
            loop.close()
        except BaseException as exc:
            failures.append(exc)

    threads = [threading.Thread(target=run) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(20)
        assert not thread.is_alive()
    assert not failures, failures
"""


def test_threads_with_a_loop_each(backend):
    check(run_code(backend, THREADS))


def test_a_loop_used_by_several_threads_in_turn(backend):
    code = """
        import asyncio, threading
        from support.loops import loop_from_environment

        loop = loop_from_environment()
        seen = []

        def run():
            seen.append(loop.run_until_complete(asyncio.sleep(0.001, 1)))

        for _ in range(5):
            thread = threading.Thread(target=run)
            thread.start()
            thread.join(10)
        run()
        loop.close()
        assert seen == [1] * 6, seen
    """
    check(run_code(backend, code))


def test_objects_that_die_in_another_thread(backend):
    """Handles and transports dropped by a thread that is not the loop's."""
    code = """
        import asyncio, gc, queue, threading, warnings
        from support.loops import loop_from_environment

        warnings.simplefilter("ignore")
        dead = queue.SimpleQueue()

        def undertaker():
            while (thing := dead.get()) is not None:
                del thing
                gc.collect()

        async def main():
            server = await loop.create_server(
                asyncio.Protocol, "127.0.0.1", 0
            )
            address = server.sockets[0].getsockname()
            for _ in range(100):
                dead.put(loop.call_soon(int))
                dead.put(loop.call_later(0, int))
                timer = loop.call_later(1000, int)
                timer.cancel()
                dead.put(timer)
                del timer
                transport, _ = await loop.create_connection(
                    asyncio.Protocol, *address
                )
                transport.pause_reading()
                transport.close()
                dead.put(transport)
                del transport
                await asyncio.sleep(0)
            server.close()
            await asyncio.sleep(0.01)

        loop = loop_from_environment()
        thread = threading.Thread(target=undertaker)
        thread.start()
        loop.run_until_complete(main())
        dead.put(None)
        thread.join(20)
        loop.close()
    """
    check(run_code(backend, code))
