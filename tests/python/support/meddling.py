# SPDX-License-Identifier: MIT
"""Bytes whose own code runs a hook of the test's."""

import asyncio

import pytest

from support.loops import PY312, turn

needs_python_buffers = pytest.mark.skipif(
    not PY312, reason="__buffer__ needs Python 3.12"
)


class Meddling(bytearray):
    """Runs a hook once, as soon as it is looked at."""

    hook = None

    def look(self):
        hook, self.hook = self.hook, None
        if hook is not None:
            hook()


class MeddlingBuffer(Meddling):
    def __buffer__(self, flags):
        self.look()
        return super().__buffer__(flags)


class MeddlingLength(Meddling):
    def __len__(self):
        self.look()
        return super().__len__()


def meddling(kind, hook, size=10):
    data = kind(b"d" * size)
    data.hook = hook
    return data


def sees_the_end(loop, transport, protocol, fails):
    """A hook: outside of a run it runs the loop until the transport is gone,
    and a turn more; then it raises, or does not."""

    def see_the_end():
        transport.abort()
        loop.run_until_complete(asyncio.wait_for(protocol.lost, 10))
        turn(loop)
        if fails:
            raise ValueError("the data is gone")

    return see_the_end
