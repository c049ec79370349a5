# SPDX-License-Identifier: MIT
"""Loops: made, used and closed, or left to the collector."""

import asyncio
import gc
import socket
import warnings

from support.growth import check_growth
from support.loops import loop_from_environment

warnings.simplefilter("ignore")


def closed():
    loop = loop_from_environment()
    loop.run_until_complete(asyncio.sleep(0))
    loop.call_soon(print)
    loop.call_later(10, print)
    loop.close()


def dropped():
    loop = loop_from_environment()
    loop.call_soon(print)
    loop.call_later(10, print)
    loop.me = loop
    left, right = socket.socketpair()
    loop.add_reader(left, print)
    loop.add_writer(right, print)
    left.close()
    right.close()


def scenario():
    for _ in range(30):
        closed()
        dropped()
        gc.collect()


check_growth(scenario)
