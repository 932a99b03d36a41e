"""Our figures beside another generator's, for the same load on the same service."""

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

from scipy.special import bdtr

from benchmarks.load.undisturbed import undisturbed
from benchmarks.report import Row

_AGREES = 0.1  # the share by which figures may differ
_CONFIDENCE = 0.95


class Figures(NamedTuple):
    """What a generator says of one run; None where it says nothing, or nothing that compares."""

    images_per_second: float
    p50_ms: float | None = None
    p90_ms: float | None = None
    p99_ms: float | None = None


_TITLES = {"images_per_second": "img/s", "p50_ms": "p50 ms", "p90_ms": "p90 ms", "p99_ms": "p99 ms"}

Measure = Callable[[int], Figures]  # of a turn; no two of a generator have the same number


def median_interval(values: Sequence[float]) -> tuple[float, float] | None:
    """Where the median of what these are drawn from is, with 95 % confidence; None of less than six.

    Between two order statistics, whatever the distribution (David and Nagaraja, "Order Statistics", section 7.1).
    """
    outside = sum(bdtr(k, len(values), 0.5) < (1 - _CONFIDENCE) / 2 for k in range(len(values)))
    return (sorted(values)[outside - 1], sorted(values)[-outside]) if outside else None


@dataclass
class Comparison:
    """One load, measured by both in turn."""

    load: str
    other: str  # the generator
    measure_ours: Measure
    measure_other: Measure
    rounds: list[tuple[Figures, Figures]] = field(default_factory=list)  # ours and the other's
    failure: str | None = None  # what ended it

    def measure(self, number: int) -> None:
        """One round, unless an earlier one failed; in every other one the other generator goes first.

        Each measures twice, the first one first and last: a machine that becomes steadily slower or faster does so to
        both alike. Both have the same priority.
        """
        if self.failure is not None:
            return
        first, second = self.measure_ours, self.measure_other
        if number % 2:
            first, second = second, first
        with undisturbed():
            try:
                start = first(2 * number)
                between = _mean(second(2 * number), second(2 * number + 1))
                around = _mean(start, first(2 * number + 1))
            except (OSError, RuntimeError) as error:
                self.failure = str(error)
                return
        self.rounds.append((between, around) if number % 2 else (around, between))

    def rows(self) -> list[Row]:
        """A row for each figure that both have: medians of the rounds, and what the rounds' ratios say of theirs."""
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
            "95 % interval": f"{within[0]:.2f} to {within[1]:.2f}" if (within := median_interval(ratios)) else None,
            "agrees within 10 %": abs(ratio - 1) <= _AGREES,
        }


def _mean(first: Figures, second: Figures) -> Figures:
    pairs = zip(first, second, strict=True)
    return Figures(*(None if a is None or b is None else (a + b) / 2 for a, b in pairs))  # type: ignore[arg-type]
