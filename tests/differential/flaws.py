# SPDX-License-Identifier: MIT
"""What the running CPython does wrong, which becket does not repeat.

Each is found by trying, and stands in docs/differences.md. Programs leave out
what a Python with the flaw would do, and nothing else.
"""

import asyncio
import contextlib
import socket


def has(flaw):
    """Whether a coroutine function returns true on CPython's own loop."""
    with contextlib.closing(asyncio.SelectorEventLoop()) as loop:
        return loop.run_until_complete(flaw())


async def nested_run_forgets():
    """ "A refused nested run leaves the outer run alone." """
    loop = asyncio.get_running_loop()
    with contextlib.suppress(RuntimeError):
        loop.run_forever()
    return asyncio._get_running_loop() is None


async def writelines_fails_late():
    """ "writelines() on a closing connection does nothing." """
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await loop.create_connection(
            asyncio.Protocol, sock=ours
        )
        transport.close()
        try:
            transport.writelines([b"x"])
        except TypeError:
            return True
        finally:
            await asyncio.sleep(0)
    return False


async def writelines_never_pauses():
    """ "writelines() pauses the protocol as write() does." """
    loop = asyncio.get_running_loop()
    paused = []

    class Protocol(asyncio.Protocol):
        def pause_writing(self):
            paused.append(True)

    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await loop.create_connection(Protocol, sock=ours)
        transport.writelines([bytes(1 << 20)] * 4)
        transport.abort()
        await asyncio.sleep(0)
    return not paused


async def abort_fails_late():
    """ "abort() after connection_lost() does nothing." """
    loop = asyncio.get_running_loop()
    ours, theirs = socket.socketpair()
    with theirs:
        transport, _ = await loop.create_connection(
            asyncio.Protocol, sock=ours
        )
        transport.write(bytes(1 << 20))
        transport.close()
        theirs.setblocking(False)
        while transport.get_extra_info("socket").fileno() != -1:
            with contextlib.suppress(BlockingIOError):
                theirs.recv(1 << 20)
            await asyncio.sleep(0)
        try:
            transport.abort()
        except AttributeError:
            return True
    return False


NESTED_RUN_FORGETS = has(nested_run_forgets)
WRITELINES_FAILS_LATE = has(writelines_fails_late)
WRITELINES_NEVER_PAUSES = has(writelines_never_pauses)
ABORT_FAILS_LATE = has(abort_fails_late)
