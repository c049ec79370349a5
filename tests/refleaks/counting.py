# SPDX-License-Identifier: MIT
"""Whether what is done again and again leaves references behind.

As CPython's own "-R 3:3": three times to warm up, three times to measure; a
leak grows each time.
"""

import gc
import linecache
import re
import sys

WARM_UPS = 3
ROUNDS = 3
# Before a suspicion is reported: caches that fill up are full by then.
ROUNDS_AGAIN = 6


def is_debug_build():
    return hasattr(sys, "gettotalrefcount")


def clear_internal_caches():
    if hasattr(sys, "_clear_internal_caches"):  # FIXME(py 3.12): always.
        sys._clear_internal_caches()
    else:
        sys._clear_type_cache()


def clean_up():
    """Drop what caches hold, as far as they can be emptied."""
    linecache.clearcache()
    re.purge()
    for module in list(sys.modules.values()):
        # What was warned of once.
        known = getattr(module, "__warningregistry__", None)
        if isinstance(known, dict):
            known.clear()
    clear_internal_caches()
    for _ in range(3):
        gc.collect()


def count():
    clean_up()
    return sys.gettotalrefcount()


def growth(function, warm_ups, rounds):
    for _ in range(warm_ups):
        function()
    deltas = [0] * rounds  # of its size from the start: it counts as well
    before = count()
    for number in range(rounds):
        function()
        after = count()
        deltas[number] = after - before
        before = after
    return deltas


def is_leak(deltas):
    # An int that is kept for the next time is noise that goes both ways.
    return all(delta >= 1 for delta in deltas)


def measure(function):
    """The growth of each round if function() leaks, else None."""
    deltas = growth(function, WARM_UPS, ROUNDS)
    if not is_leak(deltas):
        return None
    deltas = growth(function, 0, ROUNDS_AGAIN)
    return deltas if is_leak(deltas) else None
