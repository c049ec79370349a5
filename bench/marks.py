# SPDX-License-Identifier: MIT
"""What becket has to reach, held against what was measured."""

from typing import NamedTuple

from loops import FALLBACK, LOOPS, OURS, REFERENCE
from results import Results, cost, rate

TIE = 0.03  # a smaller difference is none: it does not repeat
PEERS = tuple(name for name in LOOPS if name not in (OURS, FALLBACK))
AIOFASTNET = ("aiofastnet", "aiofn+uv")

MET, TIED, MISSED, UNKNOWN = "met", "tie", "missed", "not measured"


class Mark(NamedTuple):
    """A bound for the ratio of becket's figure to that of others."""

    row: str
    others: tuple[str, ...]  # the worst ratio counts
    bound: float = 1.0
    is_rate: bool = False  # requests per second: the ratio is to be reached
    is_ahead: bool = False  # a tie does not do: ahead, not merely not behind
    ours: str = OURS

    @property
    def text(self) -> str:
        row = self.row if self.ours == OURS else f"{self.row} on {self.ours}"
        others = "any peer" if self.others == PEERS else self.others[0]
        if self.is_ahead:
            return f"{row}: ahead of {others}"
        if self.is_rate:
            return f"{row}: at least {self.bound:.2f} x {others}'s rate"
        if self.bound == 1:
            return f"{row}: not behind {others}"
        return f"{row}: at most {self.bound:.2f} x {others}"


class Verdict(NamedTuple):
    mark: Mark
    verdict: str
    ratio: float | None
    other: str | None  # to which the ratio is


MARKS = (
    Mark("tcp_1k", (REFERENCE,), 1.10),
    Mark("tcp_1k", PEERS),
    Mark("tcp_10k", PEERS),
    Mark("tcp_64k", PEERS),
    Mark("stream_1k", (REFERENCE,), 1.40),
    Mark("sock_1k", (REFERENCE,), 1.60),
    Mark("unix_1k", (REFERENCE,), 1.10),
    Mark("unix_1k", PEERS),
    Mark("unix_10k", PEERS),
    Mark("unix_64k", PEERS),
    Mark("udp_16", (REFERENCE,), 1.20),
    Mark("udp_64", (REFERENCE,), 1.20),
    Mark("tls_1k", AIOFASTNET),
    Mark("tls_16k", AIOFASTNET),
    Mark("tls_64k", AIOFASTNET),
    Mark("tls_1k", ("asyncio",), 0.77),  # 1.3 times as fast
    Mark("tls_stream_1k", (REFERENCE,), 1.20),
    Mark("tls_1k", ("asyncio",), is_ahead=True, ours=FALLBACK),
    Mark("tls_16k", ("asyncio",), is_ahead=True, ours=FALLBACK),
    Mark("tls_64k", ("asyncio",), is_ahead=True, ours=FALLBACK),
    Mark("tls_stream_1k", ("asyncio",), is_ahead=True, ours=FALLBACK),
    Mark("uvicorn", ("uvloop",), 1.40, is_rate=True),
    Mark("uvicorn_tls", PEERS, is_rate=True, is_ahead=True),
    Mark("call_soon", ("uvloop",), is_ahead=True),
    Mark("call_soon_batch", ("uvloop",), is_ahead=True),
    Mark("call_later_cancel", ("uvloop",), is_ahead=True),
    Mark("call_soon_threadsafe", ("uvloop",), is_ahead=True),
    Mark("subprocess", ("asyncio",)),
    Mark("idle_protocol", ("uvloop",)),
    Mark("idle_stream", ("uvloop",)),
    Mark("idle_tls", PEERS, 0.60),
)


def grade(mark: Mark, ratio: float) -> str:
    """The larger the excess, the worse, whatever the mark is about."""
    excess = mark.bound / ratio if mark.is_rate else ratio / mark.bound
    if excess <= (1 - TIE if mark.is_ahead else 1):
        return MET
    return TIED if excess < 1 + TIE else MISSED


def judge(results: Results, mark: Mark) -> Verdict:
    what = rate if mark.is_rate else cost
    found = []
    for other in mark.others:
        ratio = results.ratio(mark.row, mark.ours, other, what)
        if ratio is not None:
            found.append((ratio, other))
    if not found:
        return Verdict(mark, UNKNOWN, None, None)
    ratio, other = min(found) if mark.is_rate else max(found)
    return Verdict(mark, grade(mark, ratio), ratio, other)


def judge_all(results: Results) -> list[Verdict]:
    """The marks of the rows that were measured."""
    names = {row.name for row in results.rows}
    return [judge(results, mark) for mark in MARKS if mark.row in names]
