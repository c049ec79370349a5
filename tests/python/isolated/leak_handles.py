# SPDX-License-Identifier: MIT
"""Handles: run, cancelled, timers, from threads, with everything."""

import contextvars
import threading

from support.growth import check_growth
from support.loops import loop_from_environment, turns

loop = loop_from_environment()
loop.set_exception_handler(lambda *_: None)
context = contextvars.copy_context()


def fail():
    raise ValueError


def feed():
    for number in range(500):
        loop.call_soon_threadsafe(id, number)
        loop.call_soon_threadsafe(id, number).cancel()


def scenario():
    for number in range(2000):
        loop.call_soon(id, number)
        loop.call_soon(id, number, context=context)
        loop.call_soon(print, *range(9)).cancel()
        loop.call_later(0, id, number)
        loop.call_later(1000, id, number).cancel()
        loop.call_at(loop.time() - number, id, number)
        repr(loop.call_soon(fail))
        turns(loop, 1)
    thread = threading.Thread(target=feed)
    thread.start()
    thread.join()
    turns(loop, 3)
    loop.set_debug(True)
    for number in range(200):
        loop.call_soon(id, number)
        loop.call_later(0, fail)
    turns(loop, 3)
    loop.set_debug(False)


check_growth(scenario)
loop.close()
