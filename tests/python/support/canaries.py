# SPDX-License-Identifier: MIT
"""Canaries: descriptors of other threads that nobody may touch.

While a test does whatever it does, native threads open and close socket
pairs, pipes and files at full speed, so that a number which the code under
test has closed belongs to one of them at once. Each is looked at before it is
closed: content, inode, flags and position must be what they were.
"""

import ctypes
import os
import re

from support.native import load

SIGNATURES = {
    "churn_start": (ctypes.c_int, ctypes.c_int, ctypes.c_uint),
    "churn_stop": (None,),
    "churn_pause": (None,),
    "churn_resume": (None,),
    "churn_rounds": (ctypes.c_ulong,),
    "churn_faults": (ctypes.c_uint,),
    "churn_text": (ctypes.c_char_p,),
}


class CanaryError(AssertionError):
    """A canary was damaged; the text says how."""


class Canaries:
    """The threads, as a context manager; one at a time in a process."""

    def __init__(self, seed, threads=2):
        self._seed = seed
        self._threads = threads
        self._native = load("churn", SIGNATURES)

    def __enter__(self):
        result = self._native.churn_start(self._threads, self._seed)
        if result:
            raise OSError(result, os.strerror(result))
        return self

    def __exit__(self, *exc_info):
        self._native.churn_stop()
        if exc_info[0] is None:
            self.check()

    @property
    def rounds(self):
        """How many canaries have been opened."""
        return self._native.churn_rounds()

    def check(self):
        """CanaryError when one was found damaged so far."""
        if self._native.churn_faults():
            raise CanaryError(self._native.churn_text().decode())

    def pause(self):
        """Stop the threads, look at every canary, and close them all."""
        self._native.churn_pause()

    def resume(self):
        self._native.churn_resume()


class Table:
    """The open descriptors of this process, and what each of them is."""

    # The kernel has one inode for all of these, and an epoll set may be
    # replaced by a new one: they are counted, not told apart.
    _ANONYMOUS = "anon_inode:"

    def __init__(self):
        self.files = {}
        self.anonymous = []
        # The listing itself is open while it runs.
        for number, what in _links():
            if what.startswith(self._ANONYMOUS):
                self.anonymous.append(what)
            else:
                self.files[number] = what
        self.anonymous.sort()

    def difference(self, before):
        """What is open on top of before, or missing; '' when nothing is."""
        texts = [
            f"{sign}{number}:{files[number]}"
            for sign, files, others in (
                ("+", self.files, before.files),
                ("-", before.files, self.files),
            )
            for number in sorted(files)
            if others.get(number) != files[number]
        ]
        if self.anonymous != before.anonymous:
            texts.append(f"{before.anonymous} became {self.anonymous}")
        return " ".join(texts)


def _links():
    with os.scandir("/proc/self/fd") as entries:
        names = [entry.name for entry in entries]
    for name in names:
        try:
            # socket:[inode], pipe:[inode], or a path.
            what = os.readlink(f"/proc/self/fd/{name}")
        except OSError:
            continue
        yield int(name), what


def polled(loop):
    """The descriptors that the kernel or a selector polls for the loop.

    An epoll set shows them itself. None where only the loop knows.
    """
    selector = getattr(loop, "_selector", None)
    if selector is not None and hasattr(selector, "get_map"):
        found = selector.get_map()
        return None if found is None else sorted(found)
    if getattr(loop, "backend", "epoll") != "epoll":
        return None
    return sorted(
        int(number)
        for fd, what in _links()
        if what == "anon_inode:[eventpoll]"
        for number in _epoll_targets(fd)
    )


def _epoll_targets(fd):
    with open(f"/proc/self/fdinfo/{fd}") as file:
        return re.findall(r"^tfd:\s*(\d+)", file.read(), re.MULTILINE)
