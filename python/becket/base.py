# SPDX-License-Identifier: MIT
"""The class that the parts of the loop build on."""

import asyncio

from becket import _core


class LoopBase(_core.Loop, asyncio.AbstractEventLoop):
    """The loop in C under asyncio's interface.

    Each part (executor, signals, connecting, ...) is a subclass that adds its
    methods; ``becket.SelectorEventLoop`` puts the parts together. What C
    implements comes before the abstract methods.
    """
