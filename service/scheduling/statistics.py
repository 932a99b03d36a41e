"""One model's cumulative counters, as the Open Inference Protocol's statistics extension wants them."""

import time
from collections import defaultdict
from dataclasses import dataclass


@dataclass(slots=True)
class Total:
    """How many, and the seconds of all together."""

    count: int = 0
    seconds: float = 0.0

    def add(self, seconds: float) -> None:
        """One more."""
        self.count += 1
        self.seconds += seconds


class Statistics:
    """What a model did since it was loaded: requests by how they ended, passes by batch size."""

    def __init__(self) -> None:
        self.success, self.fail = Total(), Total()
        self.stages: defaultdict[str, Total] = defaultdict(Total)  # of successful requests, by stage
        self.passes: defaultdict[int, Total] = defaultdict(Total)  # by batch size
        self.last_pass = 0.0  # Unix time at which it was back

    def pass_ended(self, size: int, seconds: float) -> None:
        """A pass over `size` images is back."""
        self.passes[size].add(seconds)
        self.last_pass = time.time()

    def request_answered(self, seconds: float, stages: list[dict[str, float]]) -> None:
        """Every image of a request has its answer; `stages` are each one's seconds, of which the slowest counts."""
        self.success.add(seconds)
        first, *others = stages
        for stage, longest in first.items():
            self.stages[stage].add(max([longest, *[image[stage] for image in others]]) if others else longest)

    def request_failed(self, seconds: float) -> None:
        """A request, or one of its images, got an error."""
        self.fail.add(seconds)

    @property
    def images(self) -> int:
        """Images that passes were run over."""
        return sum(size * total.count for size, total in self.passes.items())
