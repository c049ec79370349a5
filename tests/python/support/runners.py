# SPDX-License-Identifier: MIT
"""asyncio.run() with a loop factory, on every supported Python."""

import asyncio


def run_with(loop_factory, main, *, debug=None):
    with asyncio.Runner(debug=debug, loop_factory=loop_factory) as runner:
        return runner.run(main)
