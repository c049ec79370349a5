# SPDX-License-Identifier: MIT
"""CPython's own loop under another name: what the runner is checked with.

It offers the same names as the becket package and is plugged in by the same
code, so a test that fails here is a fault of the runner or of the machine.
"""

import asyncio
import os
import selectors


class SelectorEventLoop(asyncio.SelectorEventLoop):
    """CPython's loop, except that mocks cannot take its private parts out.

    Tests written for a BaseEventLoop over a mock selector replace these two
    methods, which means nothing to a loop that does not have them.
    """

    def __setattr__(self, name, value):
        if name not in ("_process_events", "_write_to_self"):
            super().__setattr__(name, value)


def new_event_loop():
    if os.environ.get("BECKET_BACKEND") == "poll":
        return SelectorEventLoop(selectors.PollSelector())
    return SelectorEventLoop()


def _policy_base():
    """The default policy's class under the name that this Python gives it."""
    from asyncio import unix_events

    base = getattr(unix_events, "_DefaultEventLoopPolicy", None)
    return base or getattr(unix_events, "DefaultEventLoopPolicy", None)


if _policy_base() is not None:

    class EventLoopPolicy(_policy_base()):
        def new_event_loop(self):
            return new_event_loop()
