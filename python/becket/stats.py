# SPDX-License-Identifier: MIT
"""What a loop has been doing: loop.stats()."""

from typing import NamedTuple

from becket.base import LoopBase

_SECOND_NS = 1_000_000_000
_BUCKET_SECONDS = 1e-6


class LoopStats(NamedTuple):
    """Counters since the loop was made; times in seconds.

    turns: waits for I/O and timers, each with the callbacks after it.
    callbacks: that ran, of call_soon(), of timers, and for I/O.
    busy_time: in runs, outside waits.
    idle_time: in waits.
    events: of I/O.
    wakeups: waits that another thread ended.
    bytes_read, bytes_written: by transports.
    connections: streams made.
    connections_open: streams there are now.
    timers: that wait now.
    timers_fired: that ran.
    lag_samples: turns whose lag was measured: how long their work took,
        and so how late what came meanwhile was at worst. Measured are turns
        that have slept, the three after each of these, in which the tasks run
        that it has woken, and every 64th.
    lag_max: the longest of them.
    lag_histogram: entry i counts lags below 2**i microseconds, from half of
        that on; the last one all that are longer.
    """

    turns: int
    callbacks: int
    busy_time: float
    idle_time: float
    events: int
    wakeups: int
    bytes_read: int
    bytes_written: int
    connections: int
    connections_open: int
    timers: int
    timers_fired: int
    lag_samples: int
    lag_max: float
    lag_histogram: tuple[int, ...]

    def lag_quantile(self, fraction: float) -> float:
        """Return a lag that this fraction of the turns did not exceed.

        As exact as the histogram: within a factor of two, and lag_max at
        most. 0.0 while there are no samples.
        """
        if not 0.0 <= fraction <= 1.0:
            raise ValueError(f"fraction must be from 0 to 1, not {fraction!r}")
        wanted = fraction * self.lag_samples
        seen = 0
        for power, count in enumerate(self.lag_histogram):
            seen += count
            if count and seen >= wanted:
                return min(float(2**power) * _BUCKET_SECONDS, self.lag_max)
        return self.lag_max


class StatsMixin(LoopBase):
    """stats()."""

    def stats(self) -> LoopStats:
        """Return the counters as they are now. Thread: the loop's."""
        raw = self._stats()
        return LoopStats(
            turns=raw[0],
            callbacks=raw[1],
            busy_time=raw[2] / _SECOND_NS,
            idle_time=raw[3] / _SECOND_NS,
            events=raw[4],
            wakeups=raw[5],
            bytes_read=raw[6],
            bytes_written=raw[7],
            connections=raw[8],
            connections_open=raw[9],
            timers=raw[10],
            timers_fired=raw[11],
            lag_samples=raw[12],
            lag_max=raw[13] / _SECOND_NS,
            lag_histogram=raw[14],
        )
