"""Our figures beside another generator's, for the same load on the same service."""

import statistics
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import NamedTuple

from benchmarks.load.undisturbed import undisturbed
from benchmarks.report import Row

_AGREES = 0.1  # the share by which figures may differ


class Figures(NamedTuple):
    """What a generator says of one run; None where it says nothing, or nothing that compares."""

    images_per_second: float
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None


_TITLES = {"images_per_second": "img/s", "p50_ms": "p50 ms", "p90_ms": "p90 ms", "p99_ms": "p99 ms"}

Measure = Callable[[int], Figures]  # of a round


@dataclass
class Comparison:
    """One load, measured by both in turn."""

    load: str
    other: str  # the generator
    measure_ours: Measure
    measure_other: Measure
    rounds: list[tuple[Figures, Figures]] = field(default_factory=list)  # ours and the other's

    def measure(self, number: int) -> None:
        """One round; in every other one the other generator goes first. Both have the same priority."""
        with undisturbed():
            if number % 2:
                other = self.measure_other(number)
                self.rounds.append((self.measure_ours(number), other))
            else:
                self.rounds.append((self.measure_ours(number), self.measure_other(number)))

    def rows(self) -> list[Row]:
        """A row for each figure that both have: medians of the rounds, and how the rounds' ratios are spread."""
        return [self._row(title, pairs) for name, title in _TITLES.items() if (pairs := self._pairs(name))]

    def _pairs(self, figure: str) -> list[tuple[float, float]]:
        both = ((getattr(ours, figure), getattr(other, figure)) for ours, other in self.rounds)
        return [(ours, other) for ours, other in both if ours and other]

    def _row(self, title: str, pairs: list[tuple[float, float]]) -> Row:
        ours, others = zip(*pairs, strict=True)
        ratios = [a / b for a, b in pairs]
        ratio = statistics.median(ratios)
        return {
            "load": self.load,
            "beside": self.other,
            "figure": title,
            "ours": round(statistics.median(ours), 2),
            "other": round(statistics.median(others), 2),
            "ratio": round(ratio, 2),
            "of rounds": f"{min(ratios):.2f} to {max(ratios):.2f}",
            "agrees within 10 %": abs(ratio - 1) <= _AGREES,
        }
