# SPDX-License-Identifier: MIT
"""Handle SIGINT and SIGTERM with add_signal_handler()."""

import asyncio
import functools
import os
import signal

import becket


def ask_exit(signame, loop):
    print(f"got signal {signame}: exit")
    loop.stop()


loop = becket.new_event_loop()

for signame in ("SIGINT", "SIGTERM"):
    loop.add_signal_handler(
        getattr(signal, signame), functools.partial(ask_exit, signame, loop)
    )

# Other work goes on until the signal comes.
forever = loop.create_task(asyncio.sleep(3600))

print("Event loop running forever, press Ctrl+C to interrupt.")
print(f"pid {os.getpid()}: send SIGINT or SIGTERM to exit.", flush=True)

try:
    loop.run_forever()
finally:
    forever.cancel()
    loop.run_until_complete(asyncio.gather(forever, return_exceptions=True))
    loop.close()
