"""What is promised to a model's images: how long each may take, who is ahead, whether there is time for one more."""

import asyncio
import math
from bisect import bisect_right
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from operator import itemgetter
from typing import Protocol

from service.images.announced import announced
from service.lanes.wire import Buffer
from service.scheduling.forecast import Batch, batches
from service.scheduling.order import BatchLimits, ServingOrder, wanted_by
from service.scheduling.running_mean import RunningMean
from service.scheduling.ticket import Priority, Ticket
from service.scheduling.times import DecodeTimes, PassTimes

_SLACK = 1.25  # times a full batch of ordinary images: what a batch may take
TARGET, TARGET_IMAGES = 0.35, 48  # seconds, and images that there is time for at least
_SMALL = 0.005  # seconds
_SAVED = 0.5  # of a lane's time, by an image that goes before others that take more
_HASTE = 2.0  # times the target, or its own time: who came so long before one that takes next to nothing stays ahead
_BULK_WAITS = 0.005  # seconds after which bulk that waited may wait no more


class Lanes(Protocol):
    """What a forecast needs to know of the lanes."""

    @property
    def ready(self) -> int:
        """How many serve."""

    def free_at(self, now: float) -> list[float]:
        """Of every lane that serves, when it is forecast to be free."""


@dataclass(frozen=True, slots=True)
class Patience:
    """How long, in seconds, an answer is worth waiting for where the client does not say."""

    target: float  # promised at the door; 0: what suits the model
    deadline: float  # the end of it


@dataclass(frozen=True, slots=True)
class _Late:
    """An interactive image would have been late. Nobody like it who is served no sooner is answered sooner."""

    decode_seconds: float
    wanted_by: float
    is_hard: bool  # more is kept in hand for a deadline
    done: float  # and what is kept in hand

    def seconds_late(self, ticket: Ticket, wanted_by: float) -> float:
        """By how much another would be late; not positive where that is to be found out."""
        like = ticket.decode_seconds >= self.decode_seconds and ticket.is_hard >= self.is_hard
        return self.done - ticket.promised_by if like and wanted_by >= self.wanted_by else 0.0


@dataclass(frozen=True, slots=True)
class _Delaying:
    """An interactive image would have made others late. So would one like it that is served before them."""

    decode_seconds: float
    haste: float
    others_wanted_by: float
    late: float

    def seconds_late(self, ticket: Ticket, wanted_by: float) -> float:
        """By how much they would be late; 0 where that is to be found out."""
        like = ticket.decode_seconds >= self.decode_seconds and ticket.haste <= self.haste
        return self.late if like and wanted_by <= self.others_wanted_by else 0.0


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
        self._decoding = self._heaviest = 0.0  # of all together, and a bound of each one's
        self._earliest, self._latest = math.inf, -math.inf  # bounds of when any is promised, and is to be served
        # Why somebody was refused: it holds until somebody is ahead no more, or a lane has answered.
        self._refused: dict[type, _Late | _Delaying] = {}
        self._order: ServingOrder | None = None  # of those that are ahead
        # Seconds that answers lately lost between the front and its lanes.
        self._lost = RunningMean(0.0, least=0.0, ordinary=_SMALL)
        self._way = RunningMean(0.0, least=0.0, ordinary=_SMALL)  # seconds of a batch to its lane and back

    def __len__(self) -> int:
        """How many are ahead."""
        return len(self._ahead)

    def __contains__(self, ticket: Ticket) -> bool:
        """Whether it is ahead."""
        return ticket in self._ahead

    def ticket(
        self,
        seconds: float | None = None,
        priority: Priority = "interactive",
        since: float | None = None,
        *,
        image: Buffer | None = None,
        size: float = math.inf,
    ) -> Ticket:
        """For an image that came then (loop time; None: now); `seconds` and `priority` are what its client asks for.

        `image` is it, encoded, if it is here; else `size` is the bytes of the body that it comes in, if they are known.

        Only who asks for nothing is promised the target. Bulk has time.
        """
        now = self.now() if since is None else since
        if seconds is None and priority == "interactive":
            ticket = Ticket(now + self._patience.deadline, priority, promised_by=now + self._target())
        else:
            ticket = Ticket(math.inf, priority)
            self.allow(ticket, self._patience.deadline if seconds is None else seconds, now)
        if image is None:
            by_size = self.decode_times.by_size(size)
            ticket.decode_seconds = min(by_size, self.decode_times.usual)
            self._hasten(ticket, by_size)
        else:
            self.foresee(ticket, image)
        return ticket

    def foresee(self, ticket: Ticket, data: Buffer, *, is_pixels: bool = False) -> None:
        """Forecast what its image takes, now that it is here: encoded, or as pixels that need no decoding."""
        if is_pixels:
            ticket.decode_seconds = 0.0
        else:
            ticket.image = announced(data)
            ticket.decode_seconds = self.decode_times.seconds(ticket.image, len(data))
            ticket.longest_decode = self.decode_times.longest(ticket.image, len(data))
        self._hasten(ticket, ticket.decode_seconds)

    def _hasten(self, ticket: Ticket, decode_seconds: float) -> None:
        """The less that is of what those ahead take, each, the more of them it goes before."""
        ticket.haste = 0.0
        others = len(self._ahead) - (ticket in self._ahead)
        if others and ticket.priority == "interactive":
            passing = self.pass_times.seconds(self.max_batch_size) / self.max_batch_size
            each = (self._decoding - self._ahead.get(ticket, 0.0)) / others + passing
            saved = 1 - (decode_seconds + passing) / each
            if saved > _SAVED:
                ticket.haste = saved * _HASTE * max(0.0, min(ticket.serve_by - self.now(), self._target()))

    def allow(self, ticket: Ticket, seconds: float, since: float) -> None:
        """See `Ticket.allow`; who has more time than others are promised is patient."""
        ticket.allow(seconds, since)
        ticket.haste = 0.0
        ticket.patient = seconds > self._target()

    def _target(self) -> float:
        """Seconds; where an operator chose none, some dozens of clients who wait for their answers are never refused,
        however slow the model or the machine.
        """
        if self._patience.target:
            return self._patience.target
        at_once = self.max_batch_size * max(1, self._lanes.ready)  # images, by all lanes together
        return max(TARGET, TARGET_IMAGES / at_once * self.full_batch)

    @property
    def limits(self) -> BatchLimits:
        """A batch takes no longer than a full one of ordinary images, whatever is in it."""
        ordinary = self.pass_times.correction * self.max_batch_size * self.decode_times.ordinary
        return BatchLimits(self.max_batch_size, _SLACK * (ordinary + self.pass_times.seconds(self.max_batch_size)))

    @property
    def full_batch(self) -> float:
        """Forecast seconds of a full batch of usual images."""
        return self.max_batch_size * self.decode_times.usual + self.pass_times.seconds(self.max_batch_size)

    @property
    def longest_batch(self) -> float:
        """Forecast seconds of a batch of as many usual images as one takes."""
        return min(self.full_batch, max(self.limits.seconds, self.decode_times.usual + self.pass_times.seconds(1)))

    @property
    def seconds_ahead(self) -> float:
        """Forecast seconds until those ahead are answered, if their images are usual."""
        usual = [self.decode_times.usual] * self.max_batch_size
        images, seconds = self.limits.batch_size(usual, 0, 0, self.pass_times.seconds)
        return len(self) / images * seconds * self.sharing() / max(1, self._lanes.ready)

    def order(self, tickets: Iterable[Ticket], now: float) -> ServingOrder:
        """That in which they are served, if it begins now."""
        return ServingOrder(tickets, now, self.full_batch / self.max_batch_size, self.longest_batch)

    def expect(self, ticket: Ticket) -> None:
        """It is ahead from now on, or its times are others now."""
        known = ticket in self._ahead
        self._decoding += ticket.decode_seconds - self._ahead.get(ticket, 0.0)
        self._ahead[ticket] = ticket.decode_seconds
        if self._order:
            if ticket.suspect or ticket.priority == "bulk" or (known and not self._order.learn_decoding(ticket)):
                self._order = None
            elif not known:
                self._order.insert(ticket)
        self._earliest = min(self._earliest, ticket.promised_by)
        self._latest = max(self._latest, ticket.serve_by)
        self._heaviest = max(self._heaviest, ticket.decode_seconds)

    def forget(self, *tickets: Ticket) -> None:
        """They are taken by a lane, have left, or upload so slowly that nobody need be sent away for them."""
        known = [ticket for ticket in tickets if ticket in self._ahead]
        if not known:
            return
        self._look_again()
        for ticket in known:
            self._decoding -= self._ahead.pop(ticket, 0.0)
        if len(known) > 1 or not self._ahead:
            self._earliest = min((ticket.promised_by for ticket in self._ahead), default=math.inf)
            self._latest = max((ticket.serve_by for ticket in self._ahead), default=-math.inf)
            self._heaviest = max(self._ahead.values(), default=0.0)

    def seconds_late(self, ticket: Ticket, *, alone: bool) -> float:
        """By how much the worst of the promises would be missed because of `ticket`; not positive if none would.

        `alone`: no other image is inside, of whatever model.
        """
        now = self.now()
        free_at = self._lanes.free_at(now)
        # Whatever is believed of this machine, an idle service tries, and learns; it is not idle if its lanes are busy
        # for somebody who has left.
        if alone and min(free_at, default=now) <= now:
            return now + self.pass_times.at_best(1) - ticket.deadline
        if not free_at:  # every lane is being replaced: what is let in waits for one
            return -math.inf
        if self._refused and ticket.priority == "interactive" and ticket not in self._ahead:
            wanted = wanted_by(ticket, self.longest_batch)
            for refused in self._refused.values():
                if (late := refused.seconds_late(ticket, wanted)) > 0:
                    return late
        return self._late_among_others(ticket, now, free_at)

    def _late_among_others(self, ticket: Ticket, now: float, free_at: list[float]) -> float:
        margin = max(self._lost.value, self.loop_lag())
        before = len(self._ahead) - (ticket in self._ahead)
        decoding = self._decoding - self._ahead.get(ticket, 0.0) + ticket.decode_seconds
        way = self._way.value
        one, full = self.pass_times.seconds(1) + way, self.pass_times.seconds(self.max_batch_size) + way
        heaviest = max(self._heaviest, ticket.decode_seconds)
        longest = min(decoding, self.max_batch_size * heaviest) + full  # of any batch
        sharing = self.sharing()
        slowest = max(free_at) + sharing * ((decoding + (before + 1) * one) / len(free_at) + longest)
        if slowest + margin <= min(self._earliest, ticket.promised_by):
            return slowest - ticket.promised_by
        if not ticket.haste and ticket.serve_by >= self._latest:  # the last of all: what is ahead comes first
            until = ticket.promised_by - self._kept(ticket, now, margin)
            whole = decoding + before * min(one, full / self.max_batch_size)
            late = _poured_out(free_at, sharing * whole) - until
            if late > 0:
                return self._refuse(ticket, late)
        return self._late_by_playing_out(ticket, now, free_at, margin)

    def _late_by_playing_out(self, ticket: Ticket, now: float, free_at: list[float], margin: float) -> float:
        others, place = self._others(ticket, now)
        with_it = [*others.decoding[:place], ticket.decode_seconds, *others.decoding[place:]]
        played = self._played_out(with_it, others.suspects + ticket.suspect, now, free_at)
        own = bisect_right(played, place, key=itemgetter(1))
        late = played[own][2] - (ticket.promised_by - self._kept(ticket, now, margin))
        if late > 0:
            return self._refuse(ticket, late)
        missing = []
        for start, end, done in played[own:]:
            start, end = start - (start > place), end - 1  # without it  # noqa: PLW2901
            promised, due = others.promised[start:end], others.due[start:end]
            if done > min(promised, default=math.inf) or done > min(due, default=math.inf) - margin:
                missing += [(done, each) for each in range(start, end)]
        if not missing:
            return late
        before = [
            done
            for start, end, done in self._played_out(others.decoding, others.suspects, now, free_at)
            for _ in range(start, end)
        ]
        delayed = []
        for done, each in missing:
            other, until = others.tickets[each], min(others.promised[each], others.due[each] - margin)
            if ticket.image and not (other.image or other.received):
                continue  # who is here is not refused for who is on the way
            if before[each] > until:
                # Who is late anyway is no reason to refuse another, but for the end of its patience.
                until = other.deadline - margin
            elif ticket.haste > other.haste or ticket.priority != other.priority == "bulk":
                # Who takes far less may break a mere promise, and use up what is in hand: how many go before another
                # is bounded by their haste. Bulk has to put up with as much from everybody.
                until = other.deadline
            if before[each] <= until < done:
                delayed.append((done - until, other))
        worst, whom = max(delayed, key=itemgetter(0), default=(late, None))
        return self._refuse(ticket, worst, whom) if whom and worst > 0 else late

    def _others(self, ticket: Ticket, now: float) -> tuple[ServingOrder, int]:
        """The order of the others, and the ticket's place in it.

        It is kept until one of them leaves: under a flood it is asked for at each request.
        """
        if ticket.priority == "bulk" or ticket in self._ahead:
            order = self._order_with([ticket], now, but=ticket)
            return order, order.take_out(ticket)
        if not self._order or (self._order.bulk_waits and now > self._order.at + _BULK_WAITS):
            self._order = self._order_with([], now)
        return self._order, self._order.place_of(ticket)

    def _order_with(self, tickets: list[Ticket], now: float, but: Ticket | None = None) -> ServingOrder:
        ahead = [other for other in self._ahead if other is not but and not other.settled]
        return self.order([*ahead, *tickets], now)

    def _refuse(self, ticket: Ticket, late: float, whom: Ticket | None = None) -> float:
        """So late would `whom` be, or else itself: remember it, if it is."""
        if late > 0 and ticket.priority == "interactive" and ticket not in self._ahead:
            wanted = wanted_by(whom or ticket, self.longest_batch)
            if whom:
                self._refused[_Delaying] = _Delaying(ticket.decode_seconds, ticket.haste, wanted, late)
            else:
                self._refused[_Late] = _Late(ticket.decode_seconds, wanted, ticket.is_hard, ticket.promised_by + late)
        return late

    def _played_out(self, decoding: list[float], suspects: int, now: float, free_at: list[float]) -> list[Batch]:
        played = batches(decoding, suspects, free_at, self.limits, self.pass_times.seconds, self._way.value)
        sharing = self.sharing()
        if sharing == 1:
            return played
        return [(start, end, now + sharing * (done - now)) for start, end, done in played]

    def _kept(self, ticket: Ticket, now: float, margin: float) -> float:
        """Seconds in hand; of a mere promise no more than a third."""
        return margin if ticket.is_hard else min(margin, (ticket.promised_by - now) / 3)

    def learn_way(self, seconds: float) -> None:
        """A batch was so long on its way to its lane and back."""
        self._way.take(seconds)
        self._look_again()

    def learn(self, lost: float) -> None:
        """An answer lost so many seconds between the front and its lane, and back."""
        self._lost.take(lost)
        self._look_again()

    def _look_again(self) -> None:
        """What was found of those who are ahead holds no longer."""
        self._refused.clear()
        self._order = None


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
