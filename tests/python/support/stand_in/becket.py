# SPDX-License-Identifier: MIT
"""CPython's loop under becket's names, for the tests run with --oracle.

Put on a subprocess's path, it lets the examples and programs that import
becket run on the reference, so that what is expected of them is proven there.
"""

import asyncio
import selectors

from support.runners import run_with

__version__ = "0"


class SelectorEventLoop(asyncio.SelectorEventLoop):
    def __init__(self, selector=None):
        super().__init__(selector)
        given = selector is not None
        given = given and type(selector) is not selectors.EpollSelector
        self.backend = "external" if given else "epoll"


def new_event_loop():
    return SelectorEventLoop()


def run(main, *, debug=None, loop_factory=new_event_loop):
    return run_with(loop_factory, main, debug=debug)
