# SPDX-License-Identifier: MIT
"""Debug mode.

asyncio: "Enabling debug mode" of the event loop, and "Developing with
asyncio".
"""

import os
import sys

from becket.base import LoopBase

# Frames that a coroutine remembers of where it was made, as asyncio's.
_ORIGIN_DEPTH = 10


def default_debug() -> bool:
    """Whether new loops are in debug mode: -X dev, PYTHONASYNCIODEBUG."""
    return sys.flags.dev_mode or (
        not sys.flags.ignore_environment
        and bool(os.environ.get("PYTHONASYNCIODEBUG"))
    )


class DebugMixin(LoopBase):
    """Switching debug mode, and what it makes coroutines remember."""

    # The depth to restore, while the loop tracks where coroutines are made.
    _saved_origin_depth: int | None

    def set_debug(self, enabled: bool) -> None:
        """Switch debug mode. Thread: any; a running loop follows soon."""
        self._set_debug(enabled)
        if self.is_running():
            self.call_soon_threadsafe(self._track_origins, enabled)

    def _track_origins(self, enabled: bool) -> None:
        """Have the thread's new coroutines remember their origin, or not."""
        if bool(enabled) == (self._saved_origin_depth is not None):
            return
        if enabled:
            self._saved_origin_depth = (
                sys.get_coroutine_origin_tracking_depth()
            )
            sys.set_coroutine_origin_tracking_depth(_ORIGIN_DEPTH)
        elif self._saved_origin_depth is not None:
            sys.set_coroutine_origin_tracking_depth(self._saved_origin_depth)
            self._saved_origin_depth = None
