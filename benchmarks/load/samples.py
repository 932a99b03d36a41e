"""What happened to every query of a run, and what follows from it."""

from collections import Counter
from dataclasses import dataclass
from itertools import takewhile

import numpy as np
import numpy.typing as npt

Seconds = npt.NDArray[np.float64]

OK = "200"


@dataclass(frozen=True)
class Sample:
    """One query; times in seconds since the run began."""

    intended: float  # when it should have been sent; in a closed loop, when it was
    sent: float
    done: float
    code: str  # HTTP status, or the name of what went wrong; of several requests, the worst
    images: int

    @property
    def latency(self) -> float:
        """Seconds from when it should have been sent, so that a stall hurts all who would have come in it."""
        return self.done - self.intended


class Samples:
    """The queries that are done, in that order."""

    def __init__(self, samples: list[Sample] | None = None) -> None:
        self.all: list[Sample] = samples or []

    def __len__(self) -> int:
        return len(self.all)

    def intended_in(self, start: float, end: float) -> "Samples":
        """Those that should have been sent in [start, end)."""
        return Samples([sample for sample in self.all if start <= sample.intended < end])

    def done_in(self, start: float, end: float) -> "Samples":
        """Those that were done in [start, end)."""
        return Samples([sample for sample in self.all if start <= sample.done < end])

    def recent(self, start: float) -> "Samples":
        """Those that were done from then on, found from the end."""
        return Samples(list(takewhile(lambda sample: sample.done >= start, reversed(self.all))))

    def latencies(self, code: str = OK) -> Seconds:
        """Of those with this code, in order of their end."""
        return np.array([sample.latency for sample in self.all if sample.code == code])

    def lags(self) -> Seconds:
        """By how much each was sent too late: the generator's own fault."""
        return np.array([sample.sent - sample.intended for sample in self.all])

    def codes(self) -> dict[str, int]:
        """Queries by code, the most frequent first."""
        return dict(Counter(sample.code for sample in self.all).most_common())

    def images(self, within: float = float("inf")) -> int:
        """Images of good answers that took no longer than this."""
        return sum(sample.images for sample in self.all if sample.code == OK and sample.latency <= within)

    def missed(self, limit: float) -> int:
        """Queries that took longer than this, or went wrong."""
        return sum(sample.code != OK or sample.latency > limit for sample in self.all)


def quantile_ms(seconds: Seconds, percent: float) -> float | None:
    """Milliseconds; None where there are so few that not one lies beyond it."""
    if round(len(seconds) * (100 - percent), 6) < 100:
        return None
    return float(np.percentile(seconds, percent)) * 1000
