# SPDX-License-Identifier: MIT
"""Display the current date every second for five seconds, with call_later().

The callback schedules itself again, and stops the loop at the end.
"""

import datetime

import becket


def display_date(end_time, loop):
    print(datetime.datetime.now())
    if (loop.time() + 1.0) < end_time:
        loop.call_later(1, display_date, end_time, loop)
    else:
        loop.stop()


loop = becket.new_event_loop()

# Schedule the first call to display_date().
end_time = loop.time() + 5.0
loop.call_soon(display_date, end_time, loop)

# Blocks until loop.stop() is called.
try:
    loop.run_forever()
finally:
    loop.close()
