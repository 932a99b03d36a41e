"""Who is served first, and when each will be done: pure functions of times, the same for promising and for serving."""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from service.ticket import Ticket

PassSecondsOf = Callable[[int], float]  # batch size -> predicted wall time of a pass


def serving_order(tickets: Sequence[Ticket], now: float, max_batch_size: int, seconds: PassSecondsOf) -> list[Ticket]:
    """Interactive before bulk, each by when it is due; bulk that would be late if it waited longer goes by that too.

    A bulk ticket is due once the bulk before it, itself and one more pass just fit into the time that it has left; so
    bulk is never starved, and what was promised to it holds.
    """
    bulk = sorted((ticket for ticket in tickets if ticket.priority == "bulk"), key=_due)
    full = seconds(max_batch_size)
    waits = {ticket for place, ticket in enumerate(bulk) if ticket.due - now > (place // max_batch_size + 2) * full}
    return sorted(tickets, key=lambda ticket: (ticket in waits, ticket.due))


def completion_times(
    due: Sequence[float],
    ready_at: Sequence[float],
    engine_free_at: float,
    max_batch_size: int,
    seconds: PassSecondsOf,
    turns: Sequence[float] = (),
) -> list[float]:
    """When each ticket is done if each pass takes what is ready before it begins, up to a full batch, by what is due.

    If any order keeps every promise, this one does. `turns[k]` is the time that other models' passes take before this
    model's pass `k`, with which they take turns.
    """
    times = [0.0] * len(due)
    coming = sorted(range(len(due)), key=ready_at.__getitem__, reverse=True)
    ready: list[tuple[float, int]] = []
    at, number = engine_free_at, 0
    while coming or ready:
        while coming and (ready_at[coming[-1]] < at or not ready):
            at = max(at, ready_at[coming[-1]])  # an idle engine waits for the first
            heappush(ready, (due[coming[-1]], coming.pop()))
        batch = [heappop(ready)[1] for _ in range(min(max_batch_size, len(ready)))]
        at += (turns[number] if number < len(turns) else 0.0) + seconds(len(batch))
        number += 1
        for ticket in batch:
            times[ticket] = at
    return times


def _due(ticket: Ticket) -> float:
    return ticket.due
