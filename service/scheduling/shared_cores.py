"""Several models on the same cores: whose batch is next."""

from typing import Protocol


class Sharer(Protocol):
    """A scheduler, as far as sharing goes."""

    used: float  # seconds of cores, on the clock of `SharedCores`

    @property
    def threads(self) -> int:
        """Cores that a batch occupies."""

    @property
    def can_serve(self) -> bool:
        """Whether a batch waits and a lane is free to take it."""

    @property
    def has_work(self) -> bool:
        """Whether any image is in a lane or waits for one."""

    def serve_one(self) -> None:
        """Send a batch to a lane."""


class SharedCores:
    """No more batches run at once than there are cores; each model has as large a share of them as any other.

    The one that has used the least goes first (start-time fair queueing, Goyal, Vin and Cheng, SIGCOMM 1996).
    """

    def __init__(self, cores: int) -> None:
        self._cores = cores
        self._taken = 0
        self._clock = 0.0  # what the model that was served last had used
        self._sharers: list[Sharer] = []

    def wanted_by(self, sharer: Sharer) -> int:
        """How many models have work, `sharer` counted among them."""
        return 1 + sum(other.has_work for other in self._sharers if other is not sharer)

    def join(self, sharer: Sharer) -> None:
        """A model begins to serve."""
        self._sharers.append(sharer)

    def leave(self, sharer: Sharer) -> None:
        """A model serves no more; to leave twice does nothing."""
        if sharer in self._sharers:
            self._sharers.remove(sharer)

    def serve(self) -> None:
        """Send out batches while cores are free."""
        while waiting := [sharer for sharer in self._sharers if sharer.can_serve]:
            first = min(waiting, key=lambda sharer: sharer.used)
            if self._taken and self._taken + first.threads > self._cores:
                return
            self._clock = first.used = max(first.used, self._clock)
            self._taken += first.threads
            first.serve_one()

    def give_back(self, sharer: Sharer, seconds: float) -> None:
        """A batch is done, after so many seconds."""
        self._taken -= sharer.threads
        sharer.used += seconds * sharer.threads
        self.serve()
