"""Where a request's time went: measured once, reported as Server-Timing, JSON and histograms."""

import time


class StageTimings:
    """Seconds per stage of one request, plus the total since its head arrived."""

    def __init__(self, since: float | None = None) -> None:
        """`since`: when the head arrived (of `time.monotonic`); None: now."""
        self._since = time.monotonic() if since is None else since
        self.stages: dict[str, float] = {}

    def include(self, stages: dict[str, float]) -> None:
        """Add an image's stages; of several images the slowest counts."""
        known = self.stages
        for name, seconds in stages.items():
            if seconds > known.get(name, -1.0):
                known[name] = seconds

    @property
    def total(self) -> float:
        """Seconds since the request's head arrived."""
        return time.monotonic() - self._since

    def json(self) -> str:
        """Stages and total in ms, for the JSON answer."""
        stages = "".join([f'"{name}":{seconds * 1000:.3f},' for name, seconds in self.stages.items()])
        return f'{{{stages}"total":{self.total * 1000:.3f}}}'

    def server_timing(self) -> str:
        """The Server-Timing header (W3C Server Timing: `name;dur=milliseconds`)."""
        stages = "".join([f"{name};dur={seconds * 1000:.3f}, " for name, seconds in self.stages.items()])
        return f"{stages}total;dur={self.total * 1000:.3f}"
