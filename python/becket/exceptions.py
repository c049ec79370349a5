# SPDX-License-Identifier: MIT
"""The exception handler of a loop.

asyncio: "Error Handling API" of the event loop.
"""

import contextvars
import logging
import traceback
from collections.abc import Callable
from typing import Any, TypeAlias

from becket import versions
from becket.base import LoopBase

ExceptionHandler: TypeAlias = Callable[[Any, dict[str, Any]], object]

logger = logging.getLogger("asyncio")

_TRACEBACKS = {"source_traceback": "Object", "handle_traceback": "Handle"}


class ExceptionsMixin(LoopBase):
    """Where the exceptions go that nobody else can take."""

    _exception_handler: ExceptionHandler | None

    def get_exception_handler(self) -> ExceptionHandler | None:
        """Return the handler that was set, or None for the default one."""
        return self._exception_handler

    def set_exception_handler(self, handler: ExceptionHandler | None) -> None:
        """Set the handler; None restores the default one.

        It is called as ``handler(loop, context)``, see
        call_exception_handler(). TypeError if it cannot be called.
        """
        if handler is not None and not callable(handler):
            raise TypeError(
                f"A callable object or None is expected, got {handler!r}"
            )
        self._exception_handler = handler

    def default_exception_handler(self, context: dict[str, Any]) -> None:
        """Log the error in context, as ERROR on the logger "asyncio".

        Custom handlers may call it for what they do not handle themselves.
        """
        self._add_handle_traceback(context)
        lines = [context.get("message") or "Unhandled exception in event loop"]
        lines += [
            f"{key}: {_describe(key, context[key])}"
            for key in sorted(context)
            if key not in ("message", "exception")
        ]
        logger.error("\n".join(lines), exc_info=_exc_info(context))

    def call_exception_handler(self, context: dict[str, Any]) -> None:
        """Give an error to the handler.

        The keys of context: "message", and where they apply "exception",
        "future", "task", "handle", "protocol", "transport", "socket",
        "asyncgen". What the handler itself raises is logged, apart from
        KeyboardInterrupt and SystemExit. Thread: the loop's.
        """
        handler = self._exception_handler
        if handler is None:
            self._call_default(
                context, "Exception in default exception handler"
            )
            return
        try:
            self._call_custom(handler, context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException as exc:
            self._call_default(
                {
                    "message": "Unhandled error in exception handler",
                    "exception": exc,
                    "context": context,
                },
                "Exception in default exception handler while handling an"
                " unexpected error in custom exception handler",
            )

    def _call_custom(
        self, handler: ExceptionHandler, context: dict[str, Any]
    ) -> None:
        home = _context_of(context)
        if home is None:
            handler(self, context)
        else:
            home.run(handler, self, context)

    def _call_default(self, context: dict[str, Any], complaint: str) -> None:
        """Call the default handler, which a subclass may have replaced."""
        try:
            self.default_exception_handler(context)
        except (SystemExit, KeyboardInterrupt):
            raise
        except BaseException:
            logger.error(complaint, exc_info=True)

    def _add_handle_traceback(self, context: dict[str, Any]) -> None:
        """Debug mode: say where the callback that runs was scheduled."""
        origin = getattr(self._current_handle, "_source_traceback", None)
        if origin and "source_traceback" not in context:
            context["handle_traceback"] = origin


def _describe(key: str, value: Any) -> str:
    what = _TRACEBACKS.get(key)
    if what is None:
        return repr(value)
    stack = "".join(traceback.format_list(value)).rstrip()
    return f"{what} created at (most recent call last):\n{stack}"


def _context_of(context: dict[str, Any]) -> contextvars.Context | None:
    """Return the context of the task, future or handle that failed.

    A future has none, unless it is a task.
    """
    if not versions.HANDLER_RUNS_IN_CONTEXT:
        return None
    for key in ("task", "future", "handle"):
        source = context.get(key)
        if source is not None:
            get_context = getattr(source, "get_context", None)
            home = None if get_context is None else get_context()
            # A handle's may be whatever call_soon(context=) was given.
            return home if isinstance(home, contextvars.Context) else None
    return None


def _exc_info(context: dict[str, Any]) -> Any:
    """The exception in the form in which asyncio gives it to the logger."""
    exc = context.get("exception")
    if exc is None:
        return False
    return type(exc), exc, exc.__traceback__
