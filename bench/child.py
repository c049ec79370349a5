# SPDX-License-Identifier: MIT
"""What the measured processes have in common."""

import asyncio
import ctypes
import signal
from typing import Any

PR_SET_PDEATHSIG = 1  # <linux/prctl.h>
LARGE_BYTES = 1 << 20  # more than any loop receives at once

# What a server shows, and its key: in the folder where it is started.
CERTIFICATE = ("certificate.pem", "key.pem")


def die_with_parent() -> None:
    """A bench that was killed leaves no servers behind."""
    if ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL) != 0:
        raise OSError("prctl(PR_SET_PDEATHSIG) failed")


def settle_malloc() -> None:
    """Let glibc serve large blocks without a system call for each.

    It begins to do so when it first frees one that is larger, as any program
    of some size does at some time. Before that, asyncio pays for mmap, mremap
    and munmap with every receive, which is four times its own work.
    """
    bytearray(LARGE_BYTES)  # freed at once


def fail_loudly(loop: asyncio.AbstractEventLoop) -> None:
    """An exception in a callback ends the measurement: it is not one.

    That a client goes away is no failure: wrk's first one does so without a
    handshake, of which aiofastnet tells, with the class for the exception.
    """

    def handle(*arguments: Any) -> None:
        # asyncio calls it with the loop and the context, rloop with the
        # context alone.
        context = arguments[-1]
        reason = context.get("exception")
        kind = reason if isinstance(reason, type) else type(reason)
        if issubclass(kind, ConnectionError):
            return
        loop.default_exception_handler(context)
        loop.stop()

    loop.set_exception_handler(handle)
