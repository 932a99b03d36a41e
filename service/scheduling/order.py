"""Who is served first, and who shares a batch: the same for promising and for serving."""

import math
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from itertools import accumulate

from service.scheduling.ticket import Ticket

PassSecondsOf = Callable[[int], float]  # batch size -> forecast wall time of a pass

_HEAD_START = 0.05  # seconds, and two batches
_STEP = 8  # images
_LONG = 0.25  # of what a batch may take


@dataclass(frozen=True, slots=True)
class BatchLimits:
    """How large a batch may be: in images, and in forecast seconds, so that no batch makes the next one wait long."""

    images: int
    seconds: float

    def batch_size(
        self, decoding: Sequence[float], start: int, suspects: int, pass_seconds: PassSecondsOf
    ) -> tuple[int, float]:
        """How many go into one batch, at least one, and the seconds that it takes.

        `decoding` has the seconds of every image that waits, in their order, of which the first few are `suspects` and
        go alone; those from `start` on are next.
        """
        next_ones = decoding[start : start + self.images]
        size, taken = 1 if start < suspects else len(next_ones), sum(next_ones)
        if size > 1 and taken + pass_seconds(size) > self.seconds:
            together = list(accumulate(next_ones))
            size = max(1, bisect_right(range(1, size), self.seconds, key=lambda n: together[n - 1] + pass_seconds(n)))
        if size > 1 and self.is_long(max(next_ones)):
            size = next((place for place in range(1, size) if self.is_long(next_ones[place])), size)
        size = self.even(size)
        if size < len(next_ones):
            taken = sum(next_ones[:size])
        return size, taken + pass_seconds(size)

    def is_long(self, decode_seconds: float) -> bool:
        """Whether an image holds up those before it in its batch so much that it is to begin one."""
        return decode_seconds > _LONG * self.seconds

    def even(self, images: int) -> int:
        """How many of them go into one batch: beyond 8 a multiple of 8, unless it is full.

        An engine prepares itself anew for a size that is not the last one's, which costs a small model the time of
        several images.
        """
        return images if images in (self.images, 0) or images < _STEP else images - images % _STEP


class ServingOrder:
    """Tickets in the order in which they are served, and what a forecast needs of each, place by place.

    Suspects go first, each in a batch of its own. Interactive goes before bulk, each by when it is to be served; bulk
    that would be late if it waited goes by that too. A bulk ticket waits until the bulk before it, itself and a few
    batches more just fit into the time that it has left; so bulk is never starved, and what was promised to it holds.
    """

    def __init__(self, tickets: Iterable[Ticket], now: float, each: float, batch: float) -> None:
        """As it is `now` (loop time), if each image takes a lane `each` seconds, and a batch no more than `batch`."""
        self.at = now
        self._batch = batch
        given = list(tickets)
        bulk = sorted([ticket for ticket in given if ticket.priority == "bulk"], key=_serve_by)
        waits = {
            ticket
            for place, ticket in enumerate(bulk)
            if ticket.serve_by - now > place * each + 4 * batch + _HEAD_START
        }
        self.bulk_waits = bool(waits)
        suspects = [ticket for ticket in given if ticket.suspect]
        self.suspects = len(suspects)
        if bulk or suspects:
            given = [ticket for ticket in given if ticket not in waits and not ticket.suspect]
        wanted = [wanted_by(ticket, batch) for ticket in given]
        by_time = sorted(range(len(given)), key=wanted.__getitem__)
        self._wanted = [wanted[place] for place in by_time]  # of those between the suspects and the bulk that waits
        self.tickets = [
            *sorted(suspects, key=_serve_by),
            *[given[place] for place in by_time],
            *[ticket for ticket in bulk if ticket in waits and not ticket.suspect],
        ]
        self.decoding = [ticket.decode_seconds for ticket in self.tickets]
        # When an answer is promised, by a promise alone or by a deadline.
        self.promised = [math.inf if ticket.is_hard else ticket.promised_by for ticket in self.tickets]
        self.due = [ticket.promised_by if ticket.is_hard else math.inf for ticket in self.tickets]

    def place_of(self, ticket: Ticket) -> int:
        """Where one more would stand, interactive and no suspect."""
        return self.suspects + bisect_right(self._wanted, wanted_by(ticket, self._batch))

    def insert(self, ticket: Ticket) -> None:
        """Let one more stand in it, likewise."""
        place = self.place_of(ticket)
        self._wanted.insert(place - self.suspects, wanted_by(ticket, self._batch))
        self.tickets.insert(place, ticket)
        self.decoding.insert(place, ticket.decode_seconds)
        self.promised.insert(place, math.inf if ticket.is_hard else ticket.promised_by)
        self.due.insert(place, ticket.promised_by if ticket.is_hard else math.inf)

    def take_out(self, ticket: Ticket) -> int:
        """Let one leave it, for whoever looks at the others only once; returns the place that it had."""
        place = self.tickets.index(ticket)
        for each in (self.tickets, self.decoding, self.promised, self.due):
            del each[place]
        self.suspects -= ticket.suspect
        return place

    def learn_decoding(self, ticket: Ticket) -> bool:
        """Another forecast of one that stands in it; returns whether its times are what they were."""
        wanted = wanted_by(ticket, self._batch)
        first = self.suspects + bisect_left(self._wanted, wanted)
        try:
            place = self.tickets.index(ticket, first)
        except ValueError:
            return False
        self.decoding[place] = ticket.decode_seconds
        same_turn = self._wanted[place - self.suspects : place - self.suspects + 1] == [wanted]
        return same_turn and min(self.promised[place], self.due[place]) == ticket.promised_by


def wanted_by(ticket: Ticket, batch: float) -> float:
    """When an interactive ticket is to be served, among others, if a batch takes so many seconds.

    An answer after a deadline is worth nothing, one after a mere promise is: in a queue that runs late, whoever has a
    deadline goes before those who are wanted a little sooner and would wait longer. Who takes far less than others
    makes them wait little: it goes before those who came a while ago, and whoever came before that has waited enough.
    """
    return ticket.serve_by - ticket.haste - (2 * batch + _HEAD_START) * (ticket.promised_by == ticket.deadline)


def _serve_by(ticket: Ticket) -> float:
    return ticket.serve_by
