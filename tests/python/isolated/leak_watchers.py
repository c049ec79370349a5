# SPDX-License-Identifier: MIT
"""Watchers and signal handlers: added, replaced, removed, failing."""

import os
import signal
import socket

from support.growth import check_growth
from support.loops import loop_from_environment, turns

loop = loop_from_environment()
loop.set_exception_handler(lambda *_: None)


def fail():
    raise ValueError


def scenario():
    pairs = [socket.socketpair() for _ in range(20)]
    for _ in range(10):
        for left, right in pairs:
            right.send(b"x")
            loop.add_reader(left, id, left)
            loop.add_reader(left, fail)
            loop.add_writer(left, id, left)
        turns(loop, 2)
        for left, _ in pairs:
            left.recv(10)
            loop.remove_reader(left)
            loop.remove_writer(left)
    for left, right in pairs:
        loop.add_reader(left, id, left)
        loop.remove_reader(left)
        left.close()
        right.close()
    for _ in range(20):
        loop.add_signal_handler(signal.SIGUSR1, id, scenario)
        os.kill(os.getpid(), signal.SIGUSR1)
        turns(loop, 2)
        loop.remove_signal_handler(signal.SIGUSR1)


check_growth(scenario)
loop.close()
