# SPDX-License-Identifier: MIT
"""What the loop in C leaves to Python: debug mode, and texts.

C calls these functions by name; none of them runs per callback outside debug
mode. A handle is read through its private attributes, as asyncio's are.
"""

import asyncio
import inspect
import logging
import socket
import traceback
from asyncio import format_helpers
from collections.abc import Callable
from types import FrameType
from typing import Any

from becket import versions
from becket.transport_socket import FlushingSocket

_logger = logging.getLogger("asyncio")

# asyncio's own texts, so that they are those of the running Python. Newer ones
# show the arguments in debug mode only.
_format_source: Any = getattr(format_helpers, "_format_callback_source")  # noqa: B009
_TELLS_DEBUG = "debug" in inspect.signature(_format_source).parameters


def format_callback(handle: Any) -> str:
    """Return the handle's callback as 'cb() at file:line'."""
    options = {"debug": handle._loop.get_debug()} if _TELLS_DEBUG else {}
    text: str = _format_source(handle._callback, handle._args, **options)
    return text


def format_handle(handle: Any) -> str:
    """Return repr(handle), for timers as well."""
    words = [handle.__class__.__name__]
    if handle._cancelled:
        words.append("cancelled")
    if isinstance(handle, asyncio.TimerHandle):
        words.append(f"when={handle.when()}")
    if handle._callback is not None:
        words.append(format_callback(handle))
    if handle._source_traceback:
        frame = handle._source_traceback[-1]
        words.append(f"created at {frame.filename}:{frame.lineno}")
    return f"<{' '.join(words)}>"


def extract_stack(frame: FrameType | None) -> traceback.StackSummary:
    """Return the few frames that debug mode remembers, innermost last."""
    if frame is None:
        return traceback.StackSummary()
    return format_helpers.extract_stack(frame)


def report_slow(handle: Any, duration: float) -> None:
    """Debug mode: log a callback that took too long, in seconds."""
    owner = getattr(handle._callback, "__self__", None)
    text = repr(owner) if isinstance(owner, asyncio.Task) else str(handle)
    _logger.warning("Executing %s took %.3f seconds", text, duration)


def check_callback(callback: object, method: str) -> None:
    """TypeError for what method() cannot call, and for coroutines."""
    if asyncio.iscoroutine(callback) or is_coroutine_function(callback):
        raise TypeError(f"coroutines cannot be used with {method}()")
    if not callable(callback):
        raise TypeError(
            f"a callable object was expected by {method}(), got {callback!r}"
        )


def is_coroutine_function(function: object) -> bool:
    """asyncio.iscoroutinefunction(), as long as that does not warn."""
    if versions.DEPRECATES_ISCOROUTINEFUNCTION:
        return inspect.iscoroutinefunction(function)
    return asyncio.iscoroutinefunction(function)


def fill_extra_info(
    extra: dict[str, Any], owner: Any, sock: socket.socket
) -> None:
    """Put in what get_extra_info() of a transport over sock tells."""
    extra["socket"] = FlushingSocket(owner, sock)
    extra["sockname"] = _ask(sock.getsockname)
    if "peername" not in extra:
        extra["peername"] = _ask(sock.getpeername)


def _ask(question: Callable[[], Any]) -> Any:
    try:
        return question()
    except OSError:
        return None


def make_transport_socket(owner: Any, sock: socket.socket) -> FlushingSocket:
    """Return what get_extra_info("socket") of the transport returns."""
    return FlushingSocket(owner, sock)


def make_ssl_object() -> Any:
    """An ssl.SSLObject like that of any client."""
    import ssl

    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    return context.wrap_bio(ssl.MemoryBIO(), ssl.MemoryBIO())
