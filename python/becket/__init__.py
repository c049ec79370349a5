# SPDX-License-Identifier: MIT
"""asyncio's event loop, written in C.

    import becket

    becket.run(main())

runs a program on becket; so does asyncio.Runner with
loop_factory=becket.new_event_loop.
"""

import sys
from typing import TYPE_CHECKING, Any

from becket import versions
from becket._core import StreamTransport, __version__
from becket.loops import Loop, SelectorEventLoop, new_event_loop
from becket.runner import run
from becket.server import Server
from becket.stats import LoopStats

if TYPE_CHECKING:
    from becket.policy import EventLoopPolicy, install

__all__ = [
    "EventLoopPolicy",
    "Loop",
    "LoopStats",
    "SelectorEventLoop",
    "Server",
    "StreamTransport",
    "__version__",
    "install",
    "new_event_loop",
    "run",
]

# Loading _core has turned the lock on, unless it is forced to stay off.
if not getattr(sys, "_is_gil_enabled", lambda: True)():
    raise ImportError(
        "becket needs the interpreter lock, which PYTHON_GIL=0 or -X gil=0"
        " keeps off"
    )

_OF_POLICIES = ("EventLoopPolicy", "install")

if not versions.HAS_POLICIES:
    __all__ = [name for name in __all__ if name not in _OF_POLICIES]


def __getattr__(name: str) -> Any:
    """Import what needs policies when it is asked for.

    A Python without policies has no such attribute, and no import error.
    """
    if name in _OF_POLICIES and versions.HAS_POLICIES:
        from becket import policy

        return getattr(policy, name)
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
