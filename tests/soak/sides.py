# SPDX-License-Identifier: MIT
"""Both ends of a soak's conversations, as protocols."""

import asyncio
import ssl

from content import MismatchError
from plans import HEADER
from world import GONE, SoakError, leave

BURST = 8  # writes of one callback
# TLS adds to what waits below it: records, and its own queue's limit.
TLS_SLACK = 1 << 18


class Side:
    """What a protocol of either kind does with the bytes.

    The client's knows its plan; the server's learns of it by the header.
    """

    def __init__(self, world, side, kind, style, plan=None):
        self.world = world
        self.side = side
        self.kind = kind
        self.style = style
        self.plan = plan
        self.transport = None
        self.head = bytearray()
        self.is_paused = self.is_eof = self.has_written_eof = False
        self.has_left = False
        self.loop = asyncio.get_running_loop()
        self.over = self.loop.create_future()

    def connection_made(self, transport):
        self.expect(self.transport is None, "connection_made() again")
        self.transport = transport
        if self.side == "client":
            transport.write(self.plan.header)
            self.begin()
        else:
            self.world.sides.add(self)

    def begin(self):
        self.transport.set_write_buffer_limits(high=self.plan.high_water)
        self.pump()

    def connection_lost(self, exc):
        self.expect(not self.over.done(), "connection_lost() again")
        self.world.sides.discard(self)
        if exc is not None and not (
            self.plan is None or self.plan.is_rude or self.world.is_starved
        ):
            self.fail(f"lost by {exc!r}")
        if exc is not None and not isinstance(exc, (*GONE, ssl.SSLError)):
            self.fail(f"lost by {exc!r}")
        if self.side == "server" and self.plan is not None:
            self.plan.served.set_result(None)
        if not self.over.done():
            self.over.set_result(exc)

    def fail(self, what):
        plan = self.plan.describe() if self.plan else "before its header"
        self.world.fail(f"{self.side} of {plan}: {what}")

    def expect(self, condition, what):
        if not condition:
            self.fail(what)

    # --- sending ---

    def pause_writing(self):
        self.expect(not self.is_paused, "pause_writing() again")
        self.is_paused = True

    def resume_writing(self):
        self.expect(self.is_paused, "resume_writing() without a pause")
        self.is_paused = False
        self.world.counts["pauses of a writer"] += 1
        self.pump()

    def pump(self):
        """Write a few pieces, and go on later unless the peer is behind."""
        stream = self.plan.sending(self.side)
        rng = self.world.rng
        for _ in range(BURST):
            if stream.is_sent or self.is_paused or self.is_finished():
                break
            size = rng.randint(1, self.plan.piece_max)
            if rng.random() < 0.2:
                pieces = [stream.take(size) for _ in range(3)]
                self.transport.writelines(pieces)
            elif rng.random() < 0.5:
                self.transport.write(bytes(stream.take(size)))
            else:
                self.transport.write(stream.take(size))
            self.check_buffer(3 * size)
        else:
            self.loop.call_soon(self.pump)
        self.check_end()

    def check_buffer(self, size):
        """A writer that heeds pause_writing() has a bounded queue."""
        if self.world.rng.random() < 0.1 and not self.is_finished():
            limit = self.plan.high_water + size
            if self.kind == "tls":
                limit += TLS_SLACK
            waiting = self.transport.get_write_buffer_size()
            self.expect(waiting <= limit, f"{waiting} bytes wait, of {limit}")

    # --- receiving ---

    def received(self, data):
        self.expect(not self.over.done(), "data behind connection_lost()")
        self.expect(not self.is_eof, "data behind eof_received()")
        is_new = self.plan is None
        try:
            if is_new:
                data = self.take_header(data)
                if self.plan is None:
                    return
            self.plan.receiving(self.side).check(data)
        except (MismatchError, SoakError) as error:
            self.fail(str(error))
            self.transport.abort()
            return
        self.world.note_checked(len(data))
        self.rest()
        if is_new:
            self.begin()
        self.check_end()

    def take_header(self, data):
        self.head += data
        if len(self.head) < HEADER.size:
            return b""
        header, rest = self.head[: HEADER.size], self.head[HEADER.size :]
        self.plan = self.world.find_plan(header, self.kind, self.style)
        return rest

    def rest(self):
        """The slow side stops reading for a moment, now and then."""
        if self.plan.slow == self.side and self.world.rng.random() < 0.2:
            self.transport.pause_reading()
            delay = self.world.rng.uniform(0, 0.01)
            self.loop.call_later(delay, self.transport.resume_reading)
            self.world.counts["pauses of a reader"] += 1

    def eof_received(self):
        self.expect(not self.is_eof, "eof_received() again")
        self.is_eof = True
        if self.plan is None or self.plan.is_rude:
            return False
        stream = self.plan.receiving(self.side)
        self.expect(stream.is_received, "an end of file too early")
        if self.plan.ending == "half-close" and self.side == "server":
            self.loop.call_soon(self.check_end)
            return True
        return False

    # --- the end ---

    def is_finished(self):
        return self.over.done() or self.has_left or self.transport.is_closing()

    def check_end(self):
        """Do what the plan says when it is time to."""
        if self.is_finished():
            return
        plan = self.plan
        if plan.is_time_to_act(self.side):
            self.has_left = True
            leave(plan, self.transport)
            return
        if plan.is_rude or not plan.sending(self.side).is_sent:
            return
        if plan.ending == "half-close":
            if self.side == "server":
                if self.is_eof:
                    self.transport.close()
            elif not self.has_written_eof:
                self.has_written_eof = True
                self.transport.write_eof()
        elif plan.receiving(self.side).is_received:
            if plan.ending == f"{self.side} close":
                self.has_left = True
                self.transport.close()


class PlainSide(Side, asyncio.Protocol):
    def data_received(self, data):
        self.expect(bool(data), "data_received() with nothing")
        self.received(data)


class BufferedSide(Side, asyncio.BufferedProtocol):
    def get_buffer(self, sizehint):
        # A view: CPython's TLS copies pieces of a bytearray.
        self.buffer = memoryview(bytearray(self.world.rng.randint(1, 1 << 16)))
        return self.buffer

    def buffer_updated(self, count):
        self.expect(count > 0, "buffer_updated() with nothing")
        self.received(self.buffer[:count])


CLASSES = {"protocol": PlainSide, "buffered": BufferedSide}
