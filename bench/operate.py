# SPDX-License-Identifier: MIT
"""One operation on one loop: operate.py LOOP OPERATION SECONDS COUNT

Repeats the operation for about as many seconds, or COUNT times if that is not
0. Prints one line of JSON: how many, the seconds, and the processor time of
the process in them.
"""

import asyncio
import gc
import json
import sys
import time

import child
from loops import LOOPS
from operations import OPERATIONS, Run

FIRST_COUNT = 50  # enough for a first guess at the speed of the slowest
GROWTH_MAX = 20  # of the count from one try to the next


def measure(run: Run, count: int) -> dict[str, float]:
    gc.collect()
    start, cpu_start = time.perf_counter(), time.process_time()
    operations = run(count)
    return {
        "operations": operations,
        "seconds": time.perf_counter() - start,
        "cpu": time.process_time() - cpu_start,
    }


def measure_for(run: Run, seconds: float) -> dict[str, float]:
    """The first try that takes long enough; the shorter ones warm up."""
    count = FIRST_COUNT
    while True:
        result = measure(run, count)
        if result["seconds"] >= 0.7 * seconds:
            return result
        growth = seconds / max(result["seconds"], 1e-9)
        count = int(count * min(growth * 1.1, GROWTH_MAX)) + 1


def main() -> None:
    child.die_with_parent()
    child.settle_malloc()
    name, operation, seconds, count = sys.argv[1:]
    loop = LOOPS[name].make()
    asyncio.set_event_loop(loop)
    child.fail_loudly(loop)
    run = OPERATIONS[operation](loop)
    if int(count) > 0:
        result = measure(run, int(count))
    else:
        result = measure_for(run, float(seconds))
    print(json.dumps(result))


if __name__ == "__main__":
    main()
