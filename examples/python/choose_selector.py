# SPDX-License-Identifier: MIT
"""Choose how the loop waits for events.

A selector object of the standard library is used as it is given; without one,
becket waits with its own epoll.
"""

import asyncio
import selectors

import becket


async def main():
    loop = asyncio.get_running_loop()
    print(f"{loop.backend}: running on {type(loop).__name__}")


selector = selectors.SelectSelector()
loop = becket.SelectorEventLoop(selector)
asyncio.set_event_loop(loop)
try:
    loop.run_until_complete(main())
finally:
    asyncio.set_event_loop(None)
    loop.close()

# The same through a runner: any callable that returns a loop will do.
with asyncio.Runner(
    loop_factory=lambda: becket.SelectorEventLoop(selectors.PollSelector())
) as runner:
    runner.run(main())

# Without a selector: becket's own way of waiting.
becket.run(main())
