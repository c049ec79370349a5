# SPDX-License-Identifier: MIT
"""What is to happen on one connection of a soak, decided before it is made."""

import asyncio
import random
import struct
from dataclasses import dataclass, field

from content import PERIOD, Stream

KINDS = ("tcp", "tls", "unix")
SERVER_STYLES = ("protocol", "buffered", "streams")
CLIENT_STYLES = {
    "tcp": ("protocol", "buffered", "streams", "sock", "raw"),
    "unix": ("protocol", "buffered", "streams", "sock", "raw"),
    "tls": ("protocol", "buffered", "streams"),
}
# Those after which every byte must have arrived.
POLITE = ("client close", "server close", "half-close")
# In the middle: what was under way may be lost, but nothing may be wrong.
RUDE = ("abort", "reset", "close early", "cancel")
RUDE_IN_TEN = 4
PIECES_MAX = 2000  # a turn, or a thread's wait for the interpreter, for each
HEADER = struct.Struct(">8sQ")
MAGIC = b"\x80becket\x81"


@dataclass
class Plan:
    number: int
    kind: str
    client: str  # one of CLIENT_STYLES
    server: str  # one of SERVER_STYLES
    up: Stream  # to the server
    down: Stream
    piece_max: int
    high_water: int
    ending: str
    actor: str  # "client" or "server": who acts, if the ending is rude
    after: int  # bytes that the actor has sent and received by then
    slow: str  # the side that reads with pauses, or ""
    # Set to what the server's side has come to.
    served: asyncio.Future = field(repr=False)

    @property
    def is_rude(self):
        return self.ending in RUDE

    @property
    def header(self):
        return HEADER.pack(MAGIC, self.number)

    def sending(self, side):
        return self.up if side == "client" else self.down

    def receiving(self, side):
        return self.down if side == "client" else self.up

    def is_time_to_act(self, side):
        if not self.is_rude or side != self.actor:
            return False
        done = self.sending(side).sent + self.receiving(side).received
        return done >= self.after

    def describe(self):
        return (
            f"{self.number}: {self.kind}, {self.client} to {self.server},"
            f" {self.ending} ({self.actor} after {self.after}),"
            f" high water {self.high_water}, pieces {self.piece_max},"
            f" slow {self.slow or 'none'},"
            f" up {self.up.received}/{self.up.sent}/{self.up.size},"
            f" down {self.down.received}/{self.down.sent}/{self.down.size}"
        )


def random_size(rng):
    """Mostly small, sometimes more than any buffer holds; never nothing."""
    return int(2 ** rng.uniform(0, 20 if rng.random() < 0.05 else 17))


def random_plan(rng, content, number, kind):
    piece_max = int(2 ** rng.uniform(3, 17))
    up, down = (
        min(random_size(rng), piece_max * PIECES_MAX) for _ in range(2)
    )
    ending = rng.choice(POLITE)
    if rng.randrange(10) < RUDE_IN_TEN:
        ending = rng.choice(RUDE)
    if kind == "tls" and ending == "half-close":
        ending = "client close"  # TLS connections of asyncio have none
    return Plan(
        number=number,
        kind=kind,
        client=rng.choice(CLIENT_STYLES[kind]),
        server=rng.choice(SERVER_STYLES),
        up=Stream(content, rng.randrange(PERIOD), up),
        down=Stream(content, rng.randrange(PERIOD), down),
        piece_max=piece_max,
        # With 0 asyncio's TLS pauses a writer that has nothing waiting.
        high_water=rng.choice((kind == "tls", 1000, 1 << 14, 1 << 16)),
        ending=ending,
        actor=rng.choice(("client", "server")),
        after=rng.randrange(up + down),
        slow=rng.choice(("", "", "", "client", "server")),
        served=asyncio.get_running_loop().create_future(),
    )


def new_seed():
    return random.SystemRandom().randrange(1 << 32)
