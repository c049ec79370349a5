# SPDX-License-Identifier: MIT
"""What was measured in all rounds, and the medians of it."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

from measure import Figures
from rows import Row

Field = Callable[[Figures], float | None]


def cost(figures: Figures) -> float | None:
    return figures.cost


def rate(figures: Figures) -> float | None:
    return figures.rate


@dataclass
class Results:
    """The figures of each row, loop and round."""

    rows: list[Row]
    loops: list[str]
    rounds: list[dict[tuple[str, str], Figures]] = field(default_factory=list)
    errors: dict[tuple[str, str], str] = field(default_factory=dict)

    def values(self, row: str, loop: str, what: Field = cost) -> list[float]:
        """Of the rounds that have it."""
        found = [r[row, loop] for r in self.rounds if (row, loop) in r]
        return [value for f in found if (value := what(f)) is not None]

    def median(self, row: str, loop: str, what: Field = cost) -> float | None:
        values = self.values(row, loop, what)
        return statistics.median(values) if values else None

    def ratios(
        self, row: str, loop: str, other: str, what: Field = cost
    ) -> list[float]:
        """loop's figure through other's, of each round that has both.

        What else the machine does falls on both figures of a round.
        """
        ratios = []
        for r in self.rounds:
            pair = r.get((row, loop)), r.get((row, other))
            if pair[0] is None or pair[1] is None:
                continue
            above, below = what(pair[0]), what(pair[1])
            if above is not None and below:
                ratios.append(above / below)
        return ratios

    def ratio(
        self, row: str, loop: str, other: str, what: Field = cost
    ) -> float | None:
        ratios = self.ratios(row, loop, other, what)
        return statistics.median(ratios) if ratios else None

    def to_json(self) -> dict[str, Any]:
        """Every figure, by row and loop, a list with one item per round."""
        table: dict[str, dict[str, list[Any]]] = {}
        for row in self.rows:
            for loop in self.loops:
                of_rounds = [r.get((row.name, loop)) for r in self.rounds]
                if any(of_rounds):
                    table.setdefault(row.name, {})[loop] = [
                        figures and figures._asdict() for figures in of_rounds
                    ]
        errors = [
            {"row": row, "loop": loop, "error": error}
            for (row, loop), error in self.errors.items()
        ]
        return {"figures": table, "errors": errors}
