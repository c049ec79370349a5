# SPDX-License-Identifier: MIT
"""becket's event loops, put together from their parts."""

import os
import selectors
import weakref

from becket import fork
from becket.datagram import DatagramMixin
from becket.debug import default_debug
from becket.exceptions import ExceptionsMixin, logger
from becket.running import RunningMixin
from becket.sendfile import SendfileMixin
from becket.stats import StatsMixin
from becket.subprocesses import SubprocessesMixin
from becket.tls import TlsMixin
from becket.unix import UnixMixin

_BACKENDS = ("auto", "epoll", "poll", "io_uring")
_VARIABLE = "BECKET_BACKEND"


class SelectorEventLoop(
    UnixMixin,
    DatagramMixin,
    SubprocessesMixin,
    SendfileMixin,
    RunningMixin,
    ExceptionsMixin,
    StatsMixin,
    TlsMixin,
):
    """asyncio.SelectorEventLoop, written in C.

    Without a selector, or with a fresh selectors.EpollSelector, it waits with
    becket's own epoll. Any other selector is used as it is given, and closed
    with the loop.
    """

    # The selector that was passed in, until the loop is closed.
    _selector: selectors.BaseSelector | None
    # The same, where becket's own epoll stands in for it.
    _spare: selectors.BaseSelector | None

    def __init__(self, selector: selectors.BaseSelector | None = None) -> None:
        self._set_up(None, selector)

    def _set_up(
        self, backend: str | None, selector: selectors.BaseSelector | None
    ) -> None:
        """Construct: backend is one of _BACKENDS, or None for the best."""
        fork.register()
        if selector is not None and _is_own_kind(selector):
            self._spare = selector
        super().__init__(
            backend, None if self._spare is not None else selector
        )
        self._selector = selector
        self._asyncgens = weakref.WeakSet()
        self._signal_handlers = {}
        self._set_debug(default_debug())
        logger.debug("Using selector: %s", self.backend)

    def close(self) -> None:
        """Drop what is queued, and everything that the loop holds.

        Idempotent, and for good. The default executor is shut down without
        waiting for it. RuntimeError while the loop runs.
        """
        try:
            super().close()
        finally:
            if self.is_closed():
                self._drop_selector()

    def _drop_selector(self) -> None:
        self._selector = None
        spare, self._spare = self._spare, None
        # Any other selector is closed already.
        if spare is not None:
            spare.close()


SelectorEventLoop._adopt_methods()

# The name under which uvloop's users know the class: for isinstance() and
# annotations.
Loop = SelectorEventLoop


def _is_own_kind(selector: selectors.BaseSelector) -> bool:
    """Whether becket's own epoll can stand in for it: it waits for nothing."""
    epoll: type | None = getattr(selectors, "EpollSelector", None)
    return type(selector) is epoll and not selector.get_map()


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
