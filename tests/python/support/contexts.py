# SPDX-License-Identifier: MIT
"""Which context the calls of a stream's protocol run in."""

import sys
from typing import TypeVar

T = TypeVar("T")


def of_call(then: T, ever: T) -> T:
    """What a version expects: up to 3.14 each call runs in a context of its
    cause (then), since 3.15 in the one that the transport was made with."""
    return ever if sys.version_info >= (3, 15) else then
