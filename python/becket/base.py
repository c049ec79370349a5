# SPDX-License-Identifier: MIT
"""The class that the parts of the loop build on."""

import asyncio
from typing import Any, Self

from becket import _core

# What the parts of the loop remember, and what it is before they do; they say
# what it means. Slots, so that a loop has no __dict__ until a user sets some
# attribute of it: until then the interpreter finds methods without a look into
# the dict, in a tenth of the time.
_STATE: dict[str, Any] = {
    "_asyncgens": None,
    "_asyncgens_shutdown_called": False,
    "_csock": None,
    "_default_executor": None,
    "_exception_handler": None,
    "_is_main_run": False,
    "_replaced_fd": None,
    "_saved_origin_depth": None,
    "_selector": None,
    "_signal_handlers": None,
    "_spare": None,
    "_ssock": None,
}


class LoopBase(_core.Loop, asyncio.AbstractEventLoop):
    """The loop in C under asyncio's interface.

    Each part (executor, signals, connecting, ...) is a subclass that adds its
    methods; ``becket.SelectorEventLoop`` puts the parts together. What C
    implements comes before the abstract methods.
    """

    __slots__ = tuple(_STATE)

    def __new__(cls, *args: Any, **kwargs: Any) -> Self:
        self = super().__new__(cls)
        for name, value in _STATE.items():
            setattr(self, name, value)
        return self
