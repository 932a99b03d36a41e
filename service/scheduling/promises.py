"""What is promised to a model's images: how long each may take, who is ahead, whether there is time for one more."""

import asyncio
import math
from collections.abc import Callable
from dataclasses import dataclass
from heapq import heapify, heapreplace
from itertools import islice
from typing import Protocol

from service.scheduling.forecast import completion_times
from service.scheduling.order import BatchLimits, serving_order
from service.scheduling.running_mean import RunningMean
from service.scheduling.ticket import Priority, Ticket
from service.scheduling.times import DecodeTimes, PassTimes

_SLACK = 1.25  # times a full batch of ordinary images: what a batch may take
_TARGET, _TARGET_IMAGES = 0.35, 48  # seconds, and images that there is time for at least
_SMALL = 0.005  # seconds


class Lanes(Protocol):
    """What a forecast needs to know of the lanes."""

    def free_at(self, now: float) -> list[float]:
        """Of every lane that serves, when it is forecast to be free."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, an answer is worth waiting for where the client does not say."""

    target: float  # promised at the door; 0: what suits the model
    deadline: float  # the end of it


@dataclass(frozen=True, slots=True)
class _Refused:
    """Holds until somebody is ahead no more, or a lane has answered: nobody like it, promised no sooner, is answered
    sooner."""

    decode_seconds: float
    promised_by: float
    done: float  # when it would have been

    def holds_for(self, ticket: Ticket) -> bool:
        """Whether that one would be late too."""
        in_time = ticket.promised_by >= self.done
        return not in_time and ticket.promised_by >= self.promised_by and ticket.decode_seconds >= self.decode_seconds


class Promises:
    """Knows every image that was let in and that no lane has taken yet."""

    def __init__(
        self,
        lanes: Lanes,
        max_batch_size: int,
        pass_times: PassTimes,
        decode_times: DecodeTimes,
        patience: Patience,
        loop_lag: Callable[[], float] = lambda: 0.0,
    ) -> None:
        """`loop_lag` says how many seconds an image is forecast to lose to the event loop."""
        loop = asyncio.get_running_loop()  # looked up once: it costs a system call
        self.now, self.call_later = loop.time, loop.call_later
        self.max_batch_size = max_batch_size
        self.pass_times = pass_times
        self.decode_times = decode_times
        # Models that have work, this one included: each has as large a share of the cores.
        self.sharing: Callable[[], int] = lambda: 1
        self._lanes = lanes
        self._patience = patience
        self.loop_lag = loop_lag
        self._ahead: dict[Ticket, float] = {}  # and the seconds of decoding that each adds to those below
        self._unlike: set[Ticket] = set()  # of them, those that may be served before others that came sooner
        self._decoding = self._heaviest = 0.0  # of all together, and a bound of each one's
        self._earliest, self._latest = math.inf, -math.inf  # bounds of when any is promised, and is to be served
        self._refused: _Refused | None = None
        # Seconds that answers lately lost between the front and its lanes.
        self._lost = RunningMean(0.0, least=0.0, ordinary=_SMALL)

    def __len__(self) -> int:
        """How many are ahead."""
        return len(self._ahead)

    def __contains__(self, ticket: Ticket) -> bool:
        """Whether it is ahead."""
        return ticket in self._ahead

    def ticket(
        self, seconds: float | None = None, priority: Priority = "interactive", since: float | None = None
    ) -> Ticket:
        """For an image that came then (loop time; None: now); `seconds` and `priority` are what its client asks for.

        Only who asks for nothing is promised the target. Bulk has time.
        """
        now = self.now() if since is None else since
        if seconds is None and priority == "interactive":
            ticket = Ticket(now + self._patience.deadline, priority, promised_by=now + self._target())
        else:
            ticket = Ticket(math.inf, priority)
            ticket.allow(self._patience.deadline if seconds is None else seconds, now)
        ticket.decode_seconds = self.decode_times.usual
        return ticket

    def _target(self) -> float:
        """Seconds; where an operator chose none, some dozens of clients who wait for their answers are never refused,
        however slow the model or the machine.
        """
        return self._patience.target or max(_TARGET, _TARGET_IMAGES / self.max_batch_size * self.full_batch)

    @property
    def limits(self) -> BatchLimits:
        """A batch takes no longer than a full one of ordinary images, whatever is in it."""
        ordinary = self.pass_times.correction * self.max_batch_size * self.decode_times.ordinary
        return BatchLimits(self.max_batch_size, _SLACK * (ordinary + self.pass_times.seconds(self.max_batch_size)))

    @property
    def full_batch(self) -> float:
        """Forecast seconds of a full batch of usual images."""
        return self.max_batch_size * self.decode_times.usual + self.pass_times.seconds(self.max_batch_size)

    def expect(self, ticket: Ticket) -> None:
        """It is ahead from now on, or its times are others now."""
        self._decoding += ticket.decode_seconds - self._ahead.get(ticket, 0.0)
        self._ahead[ticket] = ticket.decode_seconds
        if ticket.is_hard or ticket.suspect or ticket.priority == "bulk":
            self._unlike.add(ticket)
        self._earliest = min(self._earliest, ticket.promised_by)
        self._latest = max(self._latest, ticket.serve_by)
        self._heaviest = max(self._heaviest, ticket.decode_seconds)

    def forget(self, *tickets: Ticket) -> None:
        """They are taken by a lane, have left, or upload so slowly that nobody need be sent away for them."""
        self._refused = None
        for ticket in tickets:
            self._decoding -= self._ahead.pop(ticket, 0.0)
            self._unlike.discard(ticket)
        if len(tickets) > 1 or not self._ahead:
            self._earliest = min((ticket.promised_by for ticket in self._ahead), default=math.inf)
            self._latest = max((ticket.serve_by for ticket in self._ahead), default=-math.inf)
            self._heaviest = max(self._ahead.values(), default=0.0)

    def seconds_late(self, ticket: Ticket, *, alone: bool) -> float:
        """By how much the worst of the promises would be missed because of `ticket`; not positive if none would.

        `alone`: no other image is inside, of whatever model.
        """
        now = self.now()
        if alone:  # whatever is believed of this machine, an idle service tries, and learns
            return now + self.pass_times.at_best(1) - ticket.promised_by
        free_at = self._lanes.free_at(now)
        if not free_at:  # every lane is being replaced: what is let in waits for one
            return -math.inf
        refused = self._refused
        if refused and refused.holds_for(ticket) and self._is_usual(ticket):
            return refused.done - ticket.promised_by
        return self._late_among_others(ticket, now, free_at)

    def _is_usual(self, ticket: Ticket) -> bool:
        return not ticket.is_hard and ticket.priority == "interactive" and ticket not in self._ahead

    def _refuse(self, ticket: Ticket, late: float) -> float:
        if self._is_usual(ticket):
            self._refused = _Refused(ticket.decode_seconds, ticket.promised_by, ticket.promised_by + late)
        return late

    def _late_among_others(self, ticket: Ticket, now: float, free_at: list[float]) -> float:
        margin = max(self._lost.value, self.loop_lag())
        before = len(self._ahead) - (ticket in self._ahead)
        decoding = self._decoding - self._ahead.get(ticket, 0.0) + ticket.decode_seconds
        one, full = self.pass_times.seconds(1), self.pass_times.seconds(self.max_batch_size)
        heaviest = max(self._heaviest, ticket.decode_seconds)
        longest = min(decoding, self.max_batch_size * heaviest) + full  # of any batch
        sharing = self.sharing()
        slowest = max(free_at) + sharing * ((decoding + (before + 1) * one) / len(free_at) + longest)
        if slowest + margin <= min(self._earliest, ticket.promised_by):
            return slowest - ticket.promised_by
        if ticket.serve_by >= self._latest:  # the last of all: what is ahead comes first
            until = ticket.promised_by - self._kept(ticket, now, margin)
            whole = decoding + before * min(one, full / self.max_batch_size)
            late = _poured_out(free_at, sharing * whole) - until
            if late > 0:
                return self._refuse(ticket, late)
            if ticket not in self._ahead and not ticket.is_hard and not self._unlike and longest <= self.limits.seconds:
                done, first = self._last_of_line(ticket, free_at, decoding / (before + 1))
                return now + sharing * (done - now) - min(until, first)
        return self._late_by_playing_out(ticket, now, free_at, margin)

    def _last_of_line(self, ticket: Ticket, free_at: list[float], decoding: float) -> tuple[float, float]:
        """When the last of images that are all alike is done, and what the first of its batch is promised.

        Alike: served in the order of their coming, in batches bounded by number alone; `decoding` seconds each. It is
        what playing them out comes to, by batches instead of by images: under a flood this is asked for each request.
        """
        limits, left = self.limits, len(self._ahead) + 1
        lanes = list(free_at)
        heapify(lanes)
        while True:
            size = limits.even(min(left, limits.images))
            done = lanes[0] + size * decoding + self.pass_times.seconds(size)
            if size == left:
                break
            heapreplace(lanes, done)
            left -= size
        first = next(islice(reversed(self._ahead), size - 2, None)) if size > 1 else ticket
        return done, first.promised_by

    def _late_by_playing_out(self, ticket: Ticket, now: float, free_at: list[float], margin: float) -> float:
        others = [other for other in self._ahead if other is not ticket and not other.settled]
        order = self._order([*others, ticket], now)
        times = dict(zip(order, self._times(order, now, free_at), strict=True))
        late = times[ticket] - (ticket.promised_by - self._kept(ticket, now, margin))
        if late > 0:
            return self._refuse(ticket, late)
        missed = [other for other in others if times[other] > other.promised_by - margin * other.is_hard]
        if missed:
            # Who would be late anyway is no reason to refuse another.
            order.remove(ticket)
            before = dict(zip(order, self._times(order, now, free_at), strict=True))
            for other in missed:
                if times[other] > before[other]:
                    late = max(late, times[other] - other.promised_by + margin * other.is_hard)
        return late

    def _order(self, tickets: list[Ticket], now: float) -> list[Ticket]:
        return serving_order(tickets, now, self.max_batch_size, self.full_batch)

    def _times(self, order: list[Ticket], now: float, free_at: list[float]) -> list[float]:
        times = completion_times(order, free_at, self.limits, self.pass_times.seconds)
        sharing = self.sharing()
        return [now + sharing * (time - now) for time in times] if sharing > 1 else times

    def _kept(self, ticket: Ticket, now: float, margin: float) -> float:
        """Seconds in hand; of a mere promise no more than a third."""
        return margin if ticket.is_hard else min(margin, (ticket.promised_by - now) / 3)

    def learn(self, lost: float) -> None:
        """An answer lost so many seconds between the front and its lane, and back."""
        self._lost.take(lost)
        self._refused = None


def _poured_out(free_at: list[float], work: float) -> float:
    """When lanes that are free at these times are done with `work` seconds, if it is poured over them like water.

    Lanes that are busy beyond that take no part in it.
    """
    together = 0.0
    lanes = sorted(free_at)
    for count, (free, next_free) in enumerate(zip(lanes, [*lanes[1:], math.inf], strict=True), start=1):
        together += free
        level = (together + work) / count
        if level <= next_free:
            break
    return level
