# SPDX-License-Identifier: MIT
"""Counting what a test leaves behind."""

import gc
import os
import threading
import time


def open_fds():
    """The open file descriptors of this process, with what they are."""
    found = {}
    for name in os.listdir("/proc/self/fd"):
        try:
            found[int(name)] = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            # The descriptor that lists the folder itself is gone by now.
            pass
    return found


def leaked_fds(before, wait=2.0):
    """What is open now and was not before; waits a little for threads."""
    deadline = time.monotonic() + wait
    while True:
        now = open_fds()
        leaked = {
            fd: what for fd, what in now.items() if before.get(fd) != what
        }
        if not leaked or time.monotonic() > deadline:
            return leaked
        gc.collect()
        time.sleep(0.01)


def native_threads():
    """How many threads the kernel sees in this process."""
    return len(os.listdir("/proc/self/task"))


def wait_for_threads(count, wait=5.0):
    """Wait until at most count threads are left; returns how many are."""
    deadline = time.monotonic() + wait
    while native_threads() > count and time.monotonic() < deadline:
        time.sleep(0.01)
    return native_threads()


def join_all(threads, wait=10.0):
    for thread in threads:
        thread.join(wait)
        assert not thread.is_alive(), f"{thread!r} did not end"


def spawn(function, *args):
    thread = threading.Thread(target=function, args=args, daemon=True)
    thread.start()
    return thread
