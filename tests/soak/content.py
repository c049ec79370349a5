# SPDX-License-Identifier: MIT
"""What the conversations of a soak carry, so that every byte can be checked.

All bytes come from one random block that is repeated without end. A stream
starts where its key says: a byte of another stream, or at a wrong place of
its own, does not fit.
"""

import random

PERIOD = 1_048_583  # a prime: no buffer's size divides it
PIECE_MAX = 1 << 19


class MismatchError(Exception):
    """Bytes arrived that nobody sent on this connection, in this place."""


class Content:
    def __init__(self, seed):
        self.block = random.Random(seed).randbytes(PERIOD)
        self.block += self.block[:PIECE_MAX]
        self._view = memoryview(self.block)

    def piece(self, key, start, size):
        """size bytes of the stream of this key, from start on."""
        offset = (key + start) % PERIOD
        return self._view[offset : offset + size]


class Stream:
    """One direction of a conversation: what has been sent and received."""

    def __init__(self, content, key, size):
        self._content = content
        self.key = key
        self.size = size
        self.sent = 0
        self.received = 0

    @property
    def is_sent(self):
        return self.sent == self.size

    @property
    def is_received(self):
        return self.received == self.size

    def place_in_block(self):
        """Where the next byte to be sent lies in the block."""
        return (self.key + self.sent) % PERIOD

    def take(self, size_max):
        """The next bytes to be sent."""
        size = min(size_max, PIECE_MAX, self.size - self.sent)
        piece = self._content.piece(self.key, self.sent, size)
        self.sent += size
        return piece

    def check(self, data):
        """Account for received bytes; MismatchError if they are wrong."""
        start = self.received
        self.received += len(data)
        if self.received > self.sent:
            raise MismatchError(f"{self.received} of {self.sent} sent bytes")
        done = 0
        while done < len(data):
            size = min(len(data) - done, PIECE_MAX)
            wanted = self._content.piece(self.key, start + done, size)
            if data[done : done + size] != wanted:
                raise MismatchError(f"wrong bytes behind {start + done}")
            done += size
