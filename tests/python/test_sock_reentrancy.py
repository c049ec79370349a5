# SPDX-License-Identifier: MIT
"""What runs in the middle of a sock_* call: other code of the same program."""

import socket
import sys

import pytest

from support.net import tcp_pair

needs_python_buffers = pytest.mark.skipif(
    sys.version_info < (3, 12), reason="__buffer__ needs Python 3.12"
)


class HookedSocket(socket.socket):
    """Runs a hook once, inside its recv()."""

    hook = None

    def recv(self, *arguments):
        hook, self.hook = self.hook, None
        if hook is not None:
            hook()
        return super().recv(*arguments)


class HookedBuffer:
    """Runs a hook whenever its buffer is asked for."""

    def __init__(self, data, hook):
        self.data = data
        self.hook = hook

    def __len__(self):
        return len(self.data)

    def __buffer__(self, flags):
        self.hook()
        return memoryview(self.data)


@pytest.mark.parametrize(
    "meddle",
    [
        lambda operation: operation.close(),
        lambda operation: operation.send(None),
        lambda operation: operation.throw(RuntimeError("thrown in")),
    ],
    ids=["close", "send", "throw"],
)
async def test_a_running_call_cannot_be_ended(loop, meddle):
    plain, peer = tcp_pair()
    ours = HookedSocket(fileno=plain.detach())
    ours.setblocking(False)
    with ours, peer:
        operation = loop.sock_recv(ours, 10)
        refused = []

        def hook():
            with pytest.raises(ValueError, match="already executing") as info:
                meddle(operation)
            refused.append(info.value)

        ours.hook = hook
        peer.sendall(b"data")
        assert await operation == b"data"
        assert len(refused) == 1


async def test_replaced_reader_cannot_end_the_call(loop):
    ours, peer = tcp_pair()
    ours.setblocking(False)
    seen = []

    class Argument:
        def __del__(self):
            try:
                operation.close()
            except ValueError as exc:
                seen.append(str(exc))

    with ours, peer:
        loop.add_reader(ours, print, Argument())
        operation = loop.sock_recv(ours, 10)
        operation.send(None)
        assert seen == ["coroutine already executing"]
        operation.close()


def reuse_number(sock):
    """Close the socket; somebody else gets its number."""
    number = sock.fileno()
    sock.close()
    strangers = socket.socketpair()
    assert number in [stranger.fileno() for stranger in strangers]
    for stranger in strangers:
        stranger.setblocking(False)
    return strangers


@needs_python_buffers
async def test_sendall_never_sends_to_a_stranger(loop):
    ours, peer = tcp_pair()
    ours.setblocking(False)
    strangers = []

    def hook():
        if not strangers:
            strangers.extend(reuse_number(ours))

    with peer:
        with pytest.raises(OSError, match="Bad file descriptor"):
            await loop.sock_sendall(ours, HookedBuffer(b"secret", hook))
        for stranger in strangers:
            with pytest.raises(BlockingIOError):
                stranger.recv(100)
        for stranger in strangers:
            stranger.close()


@needs_python_buffers
async def test_recv_into_never_takes_from_a_stranger(loop):
    ours, peer = tcp_pair()
    ours.setblocking(False)
    strangers = []

    def hook():
        if not strangers:
            strangers.extend(reuse_number(ours))
            for stranger in strangers:
                stranger.send(b"not for you")

    with peer:
        target = HookedBuffer(bytearray(20), hook)
        with pytest.raises(OSError, match="Bad file descriptor"):
            await loop.sock_recv_into(ours, target)
        for stranger in strangers:
            with stranger:
                assert stranger.recv(100) == b"not for you"
        assert not any(target.data)
