"""Who is served first, and when each will be done: pure functions of times, the same for promising and for serving."""

from collections.abc import Callable, Sequence
from heapq import heappop, heappush

from service.scheduling.ticket import Ticket

PassSecondsOf = Callable[[int], float]  # batch size -> predicted wall time of a pass


_HEAD_START = 0.05  # seconds, and two full passes


def ranks(tickets: Sequence[Ticket], max_batch_size: int, seconds: PassSecondsOf) -> list[float]:
    """Of each ticket, the smallest goes first: when it is wanted.

    An answer after a deadline is worth nothing, one after a mere promise is: in a queue that runs late, whoever has a
    deadline goes before those who are wanted a little sooner and would wait longer.
    """
    head_start = 2 * seconds(max_batch_size) + _HEAD_START
    return [ticket.wanted_by - head_start if ticket.is_hard else ticket.wanted_by for ticket in tickets]


def serving_order(tickets: Sequence[Ticket], now: float, max_batch_size: int, seconds: PassSecondsOf) -> list[Ticket]:
    """Interactive before bulk, each by when it is due; bulk that would be late if it waited longer goes by that too.

    A bulk ticket waits until the bulk before it, itself and a few passes more just fit into the time that it has left;
    so bulk is never starved, and what was promised to it holds.
    """
    bulk = sorted((ticket for ticket in tickets if ticket.priority == "bulk"), key=_wanted_by)
    full = seconds(max_batch_size)
    waits = {
        ticket
        for place, ticket in enumerate(bulk)
        if ticket.wanted_by - now > (place // max_batch_size + 4) * full + _HEAD_START
    }
    rank = dict(zip(tickets, ranks(tickets, max_batch_size, seconds), strict=True))
    return sorted(tickets, key=lambda ticket: (ticket in waits, rank[ticket]))


def completion_times(
    ranks: Sequence[float],
    ready_at: Sequence[float],
    engine_free_at: float,
    max_batch_size: int,
    seconds: PassSecondsOf,
    turns: Sequence[float] = (),
) -> list[float]:
    """When each ticket is done if each pass takes what is ready before it begins, up to a full batch, by rank.

    If any order keeps every promise, this one does. `turns[k]` is the time that other models' passes take before this
    model's pass `k`, with which they take turns.
    """
    times = [0.0] * len(ranks)
    coming = sorted(range(len(ranks)), key=ready_at.__getitem__, reverse=True)
    ready: list[tuple[float, int]] = []
    at, number = engine_free_at, 0
    while coming or ready:
        while coming and (ready_at[coming[-1]] < at or not ready):
            at = max(at, ready_at[coming[-1]])  # an idle engine waits for the first
            heappush(ready, (ranks[coming[-1]], coming.pop()))
        batch = [heappop(ready)[1] for _ in range(min(max_batch_size, len(ready)))]
        at += (turns[number] if number < len(turns) else 0.0) + seconds(len(batch))
        number += 1
        for ticket in batch:
            times[ticket] = at
    return times


def _wanted_by(ticket: Ticket) -> float:
    return ticket.wanted_by
