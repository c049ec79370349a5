# SPDX-License-Identifier: MIT
"""An event loop policy whose loops are becket's.

asyncio: "Policies". Imported only where the running Python has policies.
"""

import asyncio
import warnings
from typing import TYPE_CHECKING

from becket import versions
from becket.loops import new_event_loop

if TYPE_CHECKING:
    from asyncio import DefaultEventLoopPolicy as _DefaultPolicy
else:
    with warnings.catch_warnings():
        # Reading the name warns from 3.14 on; install() says it better.
        warnings.simplefilter("ignore", DeprecationWarning)
        _DefaultPolicy = asyncio.DefaultEventLoopPolicy


class EventLoopPolicy(_DefaultPolicy):
    """asyncio's default policy, with becket's loops."""

    def new_event_loop(self) -> asyncio.AbstractEventLoop:
        """Return becket.new_event_loop()."""
        return new_event_loop()


def install() -> None:
    """Make becket's loops what asyncio.new_event_loop() returns.

    For the whole process. DeprecationWarning on Pythons that deprecate
    policies: there becket.run() and Runner(loop_factory=) are the way.
    """
    if versions.DEPRECATES_POLICIES:
        warnings.warn(
            "becket.install() sets an event loop policy, and Python 3.16 has"
            " none; use becket.run(), or asyncio.Runner with"
            " loop_factory=becket.new_event_loop",
            DeprecationWarning,
            stacklevel=2,
        )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        asyncio.set_event_loop_policy(EventLoopPolicy())
