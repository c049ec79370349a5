# SPDX-License-Identifier: MIT
"""A reader of the loop's does what asyncio's own Python code does.

Each scenario is played on a plain asyncio.StreamReader and on one that the
loop serves; all that a program can see has to be the same.
"""

import asyncio
import random

import pytest

from support.streams import play_twice, tls_reader

EXCEPTIONS = (
    (ValueError, "from outside"),
    (ConnectionResetError, 104, "reset"),
    (asyncio.IncompleteReadError, b"partial", 10),
    (asyncio.LimitOverrunError, "over", 3),
)
READS = (
    ("read", 1),
    ("read", 5),
    ("read", 1000),
    ("read", 0),
    ("read", -1),
    ("read",),
    ("readexactly", 1),
    ("readexactly", 4),
    ("readexactly", 30),
    ("readexactly", 0),
    ("readexactly", -1),
    ("readline",),
    ("readuntil",),
    ("readuntil", b"\r\n"),
    ("readuntil", b"\n"),
    ("readuntil", b""),
    ("__anext__",),
)
CHUNKS = (
    b"a",
    b"line\n",
    b"\n",
    b"\r",
    b"\r\n",
    b"one\ntwo\nthree",
    b"0123456789" * 3,
    b"x" * 100,
)
PAUSING_LIMIT = 16


def random_steps(rng, count):
    for _ in range(count):
        what = rng.random()
        if what < 0.25:
            yield ("start", *rng.choice(READS))
        elif what < 0.30:
            yield ("start_task", *rng.choice(READS))
        elif what < 0.55:
            yield "feed", rng.choice(CHUNKS)
        elif what < 0.85:
            yield ("turn",)
        elif what < 0.90:
            yield "cancel", rng.randrange(8)
        elif what < 0.92:
            yield "show", rng.randrange(8)
        elif what < 0.94:
            yield ("look",)
        elif what < 0.96:
            yield "feed_by_hand", rng.choice(CHUNKS)
        elif what < 0.97:
            yield ("fail", *rng.choice(EXCEPTIONS))


async def check_random(seed, limit, looks):
    rng = random.Random(seed)
    steps = list(random_steps(rng, 60))
    if rng.random() < 0.5:
        steps += [("eof",), ("turn",), ("turn",), ("start", "read", 7)]
        steps += [("turn",), ("turn",), ("start", "readline"), ("turn",)]
    plain, served = await play_twice(steps, limit, looks)
    assert served == plain, f"seed {seed}"


@pytest.mark.usefixtures("engine")
async def test_random_scenarios_over_tls(loop):
    """Without pauses: TLS resumes reading one turn later."""
    for seed in range(25):
        rng = random.Random(seed)
        steps = list(random_steps(rng, 60))
        looks = rng.random() < 0.5
        plain, served = await play_twice(steps, looks=looks, served=tls_reader)
        assert served == plain, f"seed {seed}"


@pytest.mark.parametrize("looks", [False, True])
@pytest.mark.parametrize("limit", [PAUSING_LIMIT, 1 << 16])
@pytest.mark.parametrize("part", range(2))
async def test_random_scenarios(loop, part, limit, looks):
    for seed in range(part * 25, part * 25 + 25):
        await check_random(seed, limit, looks)
