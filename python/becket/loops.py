# SPDX-License-Identifier: MIT
"""becket's event loops, put together from their parts."""

import os
import selectors
import weakref

from becket.connect import ConnectMixin
from becket.debug import default_debug
from becket.exceptions import ExceptionsMixin, logger
from becket.running import RunningMixin
from becket.sendfile import SendfileMixin
from becket.serve import ServeMixin
from becket.stats import StatsMixin
from becket.unsupported import UnsupportedMixin

_BACKENDS = ("auto", "epoll", "poll", "io_uring")
_VARIABLE = "BECKET_BACKEND"


class SelectorEventLoop(
    ConnectMixin,
    ServeMixin,
    SendfileMixin,
    RunningMixin,
    ExceptionsMixin,
    StatsMixin,
    UnsupportedMixin,
):
    """asyncio.SelectorEventLoop, written in C.

    Without a selector, or with a fresh selectors.EpollSelector, it waits with
    becket's own epoll. Any other selector is used as it is given, and closed
    with the loop.
    """

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        self._set_up(None, selector)

    def _set_up(
        self, backend: str | None, selector: selectors.BaseSelector | None
    ) -> None:
        """Construct: backend is one of _BACKENDS, or None for the best."""
        super().__init__(backend, selector)
        self._asyncgens = weakref.WeakSet()
        self._signal_handlers = {}
        self._set_debug(default_debug())
        logger.debug("Using selector: %s", self.backend)


def new_event_loop() -> SelectorEventLoop:
    """Return a new loop of the kind that BECKET_BACKEND asks for.

    "auto" (or nothing) takes the best that works here; "epoll" and "poll"
    take that one. ValueError for another word; RuntimeError for "io_uring",
    which becket does not have yet; OSError when it cannot be had.
    """
    backend = os.environ.get(_VARIABLE) or "auto"
    if backend not in _BACKENDS:
        raise ValueError(
            f"{_VARIABLE} is {backend!r}; it can be one of:"
            f" {', '.join(_BACKENDS)}"
        )
    if backend == "io_uring":
        raise RuntimeError(
            f"{_VARIABLE} is 'io_uring', and becket has no engine for"
            " io_uring yet"
        )
    loop = SelectorEventLoop.__new__(SelectorEventLoop)
    loop._set_up(backend, None)
    return loop
