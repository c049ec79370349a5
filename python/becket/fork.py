# SPDX-License-Identifier: MIT
"""What happens to loops when the process forks or starts another one.

The child of a fork has a copy of every loop, with the parent's epoll set and
sockets under it. The core notices that by itself and lets the copy only close.
"""

import asyncio
import functools
import os

from becket import _core, signals


def flush_running_loop() -> None:
    """Send what the running callback has written so far.

    Called when another process may be about to look for it, or to hold a copy
    of it. Thread: any.
    """
    loop = asyncio._get_running_loop()
    if isinstance(loop, _core.Loop):
        loop._flush()


@functools.cache
def register() -> None:
    """Have that done in this process from now on. Once is enough."""
    os.register_at_fork(
        before=flush_running_loop, after_in_child=signals.reset_after_fork
    )
    _core._add_audit_hook()
