# SPDX-License-Identifier: MIT
"""Whether something grows when it is done again and again."""

import gc
import os
import sys


def resident_kib():
    with open("/proc/self/statm") as file:
        pages = int(file.read().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE") // 1024


def allocated_blocks():
    gc.collect()
    # The cache of type attributes keeps names that it was asked for.
    sys._clear_type_cache()
    return sys.getallocatedblocks()


def check_growth(scenario, rounds=5, warm_up=2, blocks=10, kib=8):
    """Run a scenario repeatedly; fail if each round leaves something.

    A leak shows as growth in every single round; caches and arenas fill up
    in the first ones, and noise goes both ways.
    """
    for _ in range(warm_up):
        scenario()
    block_growth, kib_growth, fd_growth = [], [], []
    for _ in range(rounds):
        gc.collect()
        before = allocated_blocks(), resident_kib(), count_fds()
        scenario()
        after = allocated_blocks(), resident_kib(), count_fds()
        block_growth.append(after[0] - before[0])
        kib_growth.append(after[1] - before[1])
        fd_growth.append(after[2] - before[2])
    print("blocks", block_growth, "KiB", kib_growth, "fds", fd_growth)
    assert min(block_growth) < blocks, f"blocks grow: {block_growth}"
    assert min(kib_growth) < kib, f"memory grows: {kib_growth}"
    assert max(fd_growth) <= 0, f"descriptors grow: {fd_growth}"


def count_fds():
    return len(os.listdir("/proc/self/fd"))
