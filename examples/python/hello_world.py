# SPDX-License-Identifier: MIT
"""Hello World with call_soon(): a callback prints and stops the loop."""

import becket


def hello_world(loop):
    print("Hello World")
    loop.stop()


loop = becket.new_event_loop()

# Schedule a call to hello_world().
loop.call_soon(hello_world, loop)

# Blocks until loop.stop() is called.
try:
    loop.run_forever()
finally:
    loop.close()
