# SPDX-License-Identifier: MIT
"""What the measured processes have in common."""

import asyncio
import ctypes
import signal
from typing import Any

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>


def die_with_parent() -> None:
    """A bench that was killed leaves no servers behind."""
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError("prctl(PR_SET_PDEATHSIG) failed")


def fail_loudly(loop: asyncio.AbstractEventLoop) -> None:
    """An exception in a callback ends the measurement: it is not one."""

    def handle(*arguments: Any) -> None:
        # asyncio calls it with the loop and the context, rloop with the
        # context alone.
        loop.default_exception_handler(arguments[-1])
        loop.stop()

    loop.set_exception_handler(handle)
