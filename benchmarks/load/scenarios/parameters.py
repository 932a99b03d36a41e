"""What the scenarios can be told."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Parameters:
    """Each is some scenario's."""

    clients: tuple[int, ...] = (1, 8, 32, 64)  # offline: of closed loops, one after the other
    images_per_query: int = 8  # multi-stream
    resolution: float = 0.05  # server: of the rate that is found
    rate: float | None = None  # queries a second; server: instead of the search; overload, soak: instead of a share
    factor: float = 2.0  # overload: of the capacity
    share: float = 0.9  # soak: of the capacity
    soak_seconds: float = 600.0
    sweep: tuple[float, ...] = (0.1, 0.3, 0.5, 0.6, 0.7, 0.8, 0.9, 1.0, 1.2)  # of the capacity
