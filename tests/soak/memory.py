# SPDX-License-Identifier: MIT
"""Whether a process grows while it does the same again and again."""

import contextlib
import ctypes
import statistics
import sys

from support.growth import resident_kib

# The first rounds fill caches and arenas: every poller and TLS engine once.
WARM_UP = 6
# glibc and CPython keep pages as one allocation in them happens to live on;
# a run that lasts has no more of it than a short one.
LIMIT_KIB = 4096
ROUNDS_MIN = 4


class Memory:
    def __init__(self):
        self.resident = []
        self.blocks = []

    def look(self):
        """Between two rounds, with nothing open."""
        with contextlib.suppress(OSError, AttributeError):
            ctypes.CDLL(None).malloc_trim(0)
        self.resident.append(resident_kib())
        self.blocks.append(sys.getallocatedblocks())

    def growth(self, values):
        """From the first half of the rounds after the warm-up to the last."""
        values = values[min(WARM_UP, len(values) // 2) :]
        if len(values) < ROUNDS_MIN:
            return 0
        half = len(values) // 2
        return round(
            statistics.median(values[half:]) - statistics.median(values[:half])
        )

    def is_growing(self):
        return self.growth(self.resident) > LIMIT_KIB

    def summary(self):
        return {
            "rounds": max(len(self.resident) - WARM_UP, 0),
            "growth_kib": self.growth(self.resident),
            "growth_blocks": self.growth(self.blocks),
            "limit_kib": LIMIT_KIB,
            "resident_kib": self.resident,
        }
