# SPDX-License-Identifier: MIT
"""What the parts of a soak share: the plans, the counts, the failures."""

import asyncio
import collections
import errno
import random
import socket
import struct

from content import Content
from plans import HEADER, KINDS, MAGIC, random_plan

# The kernel says so to whom its peer has left; TLS says it as ssl.SSLError.
GONE = (ConnectionError, TimeoutError, asyncio.IncompleteReadError)
OUT_OF_FDS = "socket.accept() out of system resource"


class SoakError(Exception):
    """Something that must never happen has happened."""


class World:
    def __init__(self, options):
        self.content = Content(options.seed)
        self.rng = random.Random(options.seed)
        self.kinds = (options.kind,) if options.kind else KINDS
        self.counts = collections.Counter()
        self.endings = collections.Counter()
        self.failures = []
        self.plans = {}  # by number: those whose header has not arrived
        self.sides = set()  # the servers' ends that are open
        self.is_starved = False
        self.started = 0

    def new_plan(self):
        self.started += 1
        kind = self.rng.choice(self.kinds)
        plan = random_plan(self.rng, self.content, self.started, kind)
        self.plans[plan.number] = plan
        return plan

    def find_plan(self, header, kind, server):
        """The plan that a client's first bytes name."""
        magic, number = HEADER.unpack(header)
        plan = self.plans.pop(number, None)
        if magic != MAGIC or plan is None:
            raise SoakError(f"no connection has the header {bytes(header)!r}")
        if (plan.kind, plan.server) != (kind, server):
            raise SoakError(f"at the wrong server: {plan.describe()}")
        return plan

    def fail(self, text):
        self.failures.append(text)

    def on_exception(self, loop, context):
        """The loops' exception handler: only a lack of descriptors may be."""
        error = context.get("exception")
        is_lack = isinstance(error, OSError) and error.errno == errno.EMFILE
        if self.is_starved and is_lack and context["message"] == OUT_OF_FDS:
            self.counts["accepts without a descriptor"] += 1
            return
        self.fail(f"the exception handler was called: {context!r}")

    def note_end(self, plan):
        """A conversation is over: what its two sides have to agree on."""
        name = plan.ending
        if plan.is_rude:
            name += f" by the {plan.actor}"
        self.endings[name] += 1
        self.counts["connections"] += 1
        self.counts[f"connections over {plan.kind}"] += 1
        for stream in (plan.up, plan.down):
            if not plan.is_rude and not stream.is_received:
                self.fail(f"bytes were lost: {plan.describe()}")

    def note_checked(self, size):
        self.counts["bytes checked"] += size


def make_reset(sock):
    """A close of this socket sends a reset, where there are resets."""
    if sock.family != socket.AF_UNIX:
        sock.setsockopt(
            socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0)
        )


def leave(plan, transport):
    """End a connection in the middle, the plan's way."""
    if plan.ending == "close early":
        transport.close()
        return
    if plan.ending == "reset":
        make_reset(transport.get_extra_info("socket"))
    transport.abort()
