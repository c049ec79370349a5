# SPDX-License-Identifier: MIT
"""What a program did, as text that two runs can be compared by.

An event belongs to a lane, which is the object or the function that it
happened to. Where two things may happen in either order, they happen in
different lanes.
"""

import asyncio
import re
import zlib
from typing import NamedTuple

ADDRESS = re.compile(r"(?:0|\.)x[0-9a-fA-F]+")
# A handle that was cancelled in its own callback has forgotten what it was.
FORGOTTEN = re.compile(r"in callback (?:None|transport\.\w+)\(\)")
# Tracebacks and handles name the place where the same program was compiled.
PLACE = re.compile(r"(?:/[^\s:'\"]*|<program>|\b_ssl\.c):\d+")
NUMBER = re.compile(
    r"\bfd=\d+|\bpid[= ]\d+|\bfile descriptor \d+|\bname=\d+"
    r"|[lr]addr=(?:\([^)]*\)|[^\s>]+)"
)
LOOP = re.compile(r"\b\w*EventLoop\.")
# What reprlib has cut in the middle, such as a transport's own text.
SHORTENED = re.compile(r"<\w+\.\.\.[^()]*>+")
# What a transport whose loop is closed is said to wait for.
WAITING = re.compile(r"(<\w+Transport)[^<>]*>")
TRANSPORT = re.compile(r"\b\w*(?:Transport|_PipeMixin)\.")
TASK = re.compile(r"\bTask-\d+")
# becket's own types, next to the names of CPython's that they stand for.
TYPES = {
    "StreamTransport": "_SelectorSocketTransport",
    "DatagramTransport": "_SelectorDatagramTransport",
    # Visible in types only: docs/differences.md.
    "_ThreadSafeHandle": "Handle",
}
OF_TLS = re.compile(
    r"asyncio\.sslproto\._SSLProtocolTransport|becket\._core\.SSLTransport"
)
TYPE = re.compile(rf"\b({'|'.join(TYPES)})\b")
SHORT = 16


class Event(NamedTuple):
    """One line of a trace."""

    step: int
    turn: int
    lane: str
    what: str
    data: bytes | None = None  # what arrived, where chunks may be joined

    def __str__(self):
        data = "" if self.data is None else f" {show(self.data)}"
        return f"{self.step:2}.{self.turn:02} {self.lane}: {self.what}{data}"


def clean(text):
    """Without what differs from run to run: addresses, places, numbers."""
    text = TASK.sub("Task", ADDRESS.sub("0x", text))
    text = SHORTENED.sub("<...>", text)
    text = NUMBER.sub("fd", PLACE.sub("place", text))
    text = WAITING.sub(r"\1>", text)
    text = OF_TLS.sub("TLS", text)
    text = LOOP.sub("loop.", TRANSPORT.sub("transport.", text))
    text = FORGOTTEN.sub("in callback of a transport", text)
    return TYPE.sub(lambda match: TYPES[match[0]], text)


def show(value):
    """A value of a program, without what differs from run to run."""
    if isinstance(value, (bytes, bytearray, memoryview)):
        return show_bytes(bytes(value))
    if isinstance(value, BaseException):
        return show_exception(value)
    if isinstance(value, asyncio.Future):
        return show_future(value)
    if isinstance(value, (set, frozenset)):
        return "{" + ", ".join(sorted(map(show, value))) + "}"
    if isinstance(value, (tuple, list)):
        return "(" + ", ".join(map(show, value)) + ")"
    if isinstance(value, dict):
        inner = (f"{k}={show(v)}" for k, v in sorted(value.items()))
        return "{" + ", ".join(inner) + "}"
    if value is None or isinstance(value, (bool, int, float)):
        return repr(value)
    if isinstance(value, str):
        return repr(clean(value))
    name = type(value).__name__
    return f"<{TYPES.get(name, name)}>"


def show_bytes(data):
    if len(data) <= SHORT:
        return repr(data)
    return f"{len(data)} bytes {zlib.crc32(data):08x}"


def show_exception(exc):
    name = type(exc).__name__
    if isinstance(exc, RecursionError):
        return name  # where it is noticed is nobody's promise
    if isinstance(exc, BaseExceptionGroup):
        return f"{name}({exc.message!r}: {show(exc.exceptions)})"
    return f"{name}{show(exc.args)}"


def show_future(future):
    kind = "task" if isinstance(future, asyncio.Task) else "future"
    if not future.done():
        return f"<{kind} pending>"
    if future.cancelled():
        return f"<{kind} cancelled>"
    # Asking takes away the warning that nobody did, so do not.
    exc = future._exception
    if exc is not None:
        return f"<{kind} failed {show(exc)}>"
    return f"<{kind} {show(future._result)}>"


def show_context(context):
    """What an exception handler was told; objects by their kind alone."""
    parts = [clean(context.get("message", ""))]
    if "exception" in context:
        parts.append(show(context["exception"]))
    others = sorted(set(context) - {"message", "exception"})
    return f"{' '.join(parts)} with {', '.join(others)}"
