# SPDX-License-Identifier: MIT
"""Where a socket's number cannot be read from its struct it is asked for."""

import pytest

from support.procs import check, run_code

CODE = """
import asyncio
import socket

real = socket.socket
mode = "lies"

class Odd(real):
    def fileno(self):
        if mode == "lies":
            return 12345
        if mode == "raises":
            raise LookupError("no number")
        return super().fileno()

# becket looks at one when it is imported, and finds another number.
socket.socket = Odd
from support.loops import loop_from_environment

loop = loop_from_environment()
mode = "tells"
"""

pytestmark = pytest.mark.becket_only("CPython reads no struct")


def run(backend, code):
    done = check(run_code(backend, CODE + code))
    assert done.stdout == "done\n"


def test_bytes_come_and_go(backend):
    run(
        backend,
        """
async def main():
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        two.setblocking(False)
        for size in (10, 1 << 20):
            await loop.sock_sendall(one, b"data")
            assert await loop.sock_recv(two, size) == b"data"
        buffer = bytearray(10)
        await loop.sock_sendall(one, b"data")
        assert await loop.sock_recv_into(two, buffer) == 4
        task = asyncio.create_task(loop.sock_recv(two, 10))
        await asyncio.sleep(0)
        one.send(b"late")
        assert await task == b"late"

loop.run_until_complete(main())
print("done")
""",
    )


def test_fileno_that_raises_ends_the_call(backend):
    """With its own exception, and nothing is read or sent."""
    run(
        backend,
        """
async def main():
    global mode
    one, two = socket.socketpair()
    with one, two:
        one.setblocking(False)
        two.setblocking(False)
        one.send(b"data")
        for call in (
            loop.sock_recv(two, 10),
            loop.sock_recv(two, 1 << 20),
            loop.sock_recv_into(two, bytearray(10)),
            loop.sock_sendall(two, b"x"),
        ):
            mode = "raises"
            try:
                await call
            except LookupError as exc:
                assert str(exc) == "no number", exc
            else:
                raise AssertionError("it did not raise")
            finally:
                mode = "tells"
        assert two.recv(10) == b"data"

loop.run_until_complete(main())
print("done")
""",
    )
