"""When each of those who wait will be answered: their batches, played out over the lanes."""

from collections.abc import Sequence
from heapq import heapify, heapreplace

from service.scheduling.order import BatchLimits, PassSecondsOf
from service.scheduling.ticket import Ticket


def completion_times(
    tickets: Sequence[Ticket], free_at: Sequence[float], limits: BatchLimits, pass_seconds: PassSecondsOf
) -> list[float]:
    """When each of `tickets`, in the order in which they are served, is done.

    Whichever lane is free first takes the next batch; `free_at` is when each lane will be.
    """
    lanes = list(free_at)
    heapify(lanes)
    times: list[float] = []
    while len(times) < len(tickets):
        size, seconds = limits.batch_size(tickets, len(times), pass_seconds)
        done = lanes[0] + seconds
        heapreplace(lanes, done)
        times += [done] * size
    return times
