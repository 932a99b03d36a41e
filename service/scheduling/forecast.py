"""When those who wait will be answered: their batches, played out over the lanes."""

from collections.abc import Sequence
from heapq import heapify, heapreplace

from service.scheduling.order import BatchLimits, PassSecondsOf

Batch = tuple[int, int, float]  # those from a place to the one before another, and when they are done


def batches(
    decoding: Sequence[float],
    suspects: int,
    free_at: Sequence[float],
    limits: BatchLimits,
    pass_seconds: PassSecondsOf,
    way: float = 0.0,
) -> list[Batch]:
    """The batches of those who wait, in the order in which they are served, of which the first few are `suspects`.

    `decoding` has the seconds of each, and `way` is what every batch takes to its lane and back. Whichever lane is free
    first takes the next batch; `free_at` is when each will be.
    """
    lanes = list(free_at)
    heapify(lanes)
    found, start, full = list[Batch](), 0, pass_seconds(limits.images)
    while start < len(decoding):
        end = start + limits.images
        seconds = sum(next_ones := decoding[start:end]) + full
        together = end <= len(decoding) and seconds <= limits.seconds and not limits.is_long(max(next_ones))
        if start < suspects or not together:  # most are full
            size, seconds = limits.batch_size(decoding, start, suspects, pass_seconds)
            end = start + size
        done = lanes[0] + seconds + way
        heapreplace(lanes, done)
        found.append((start, end, done))
        start = end
    return found
