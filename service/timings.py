"""Where a request's time went: measured once, reported as Server-Timing, JSON and histograms."""

import time
from collections.abc import Iterator
from contextlib import contextmanager


class StageTimings:
    """Seconds per stage of one request, plus the total since its head arrived."""

    def __init__(self) -> None:
        self.started = time.perf_counter()
        self.stages: dict[str, float] = {}

    @contextmanager
    def stage(self, name: str) -> Iterator[None]:
        """Time a block as one stage, even if it fails."""
        started = time.perf_counter()
        try:
            yield
        finally:
            self.stages[name] = time.perf_counter() - started

    def include(self, stages: dict[str, float]) -> None:
        """Add an image's stages; of several images the slowest counts."""
        for name, seconds in stages.items():
            self.stages[name] = max(seconds, self.stages.get(name, 0.0))

    @property
    def total(self) -> float:
        """Seconds since the request's head arrived."""
        return time.perf_counter() - self.started

    def milliseconds(self) -> dict[str, float]:
        """Stages and total in ms, for the JSON answer."""
        return {name: round(seconds * 1000, 3) for name, seconds in (*self.stages.items(), ("total", self.total))}

    def server_timing(self) -> str:
        """The Server-Timing header (W3C Server Timing: `name;dur=milliseconds`)."""
        return ", ".join(f"{name};dur={value}" for name, value in self.milliseconds().items())
