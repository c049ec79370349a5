# SPDX-License-Identifier: MIT
"""What happens to loops when the process forks.

The child has a copy of every loop, with the parent's epoll set and sockets
under it. The core notices that by itself and lets the copy only close.
"""

import asyncio
import os

from becket import _core, signals


def _before_fork() -> None:
    # What a callback has written so far leaves now, and once.
    loop = asyncio._get_running_loop()
    if isinstance(loop, _core.Loop):
        loop._flush()


def register() -> None:
    """Have every later fork of this process handled. Once per import."""
    if hasattr(os, "register_at_fork"):
        os.register_at_fork(
            before=_before_fork, after_in_child=signals.reset_after_fork
        )
