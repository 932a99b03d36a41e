"""When an image would be done if it came in now, and whom it would make late."""

import math
from functools import partial
from itertools import islice

from service.lanes.decode_pool import DecodePool
from service.scheduling.loop_lag import LoopLag
from service.scheduling.order import completion_times, ranks
from service.scheduling.scheduler import Scheduler
from service.scheduling.ticket import Ticket

_WEIGHT = 0.1  # of the newest answer in the running mean
_OUTLIER, _SMALL = 4.0, 0.005  # times the mean, and seconds: what a later answer counts as


class Prediction:
    """Looks at the pass in flight, those ahead, decoding and other models' turns, and learns what it does not see."""

    def __init__(self, decode_pool: DecodePool, loop_lag: LoopLag) -> None:
        self._decode_pool = decode_pool
        self._loop_lag = loop_lag
        self._lost = 0.0  # seconds that answers lately lost where no prediction looks

    @property
    def loop_alone_takes(self) -> float:
        """Seconds that an image is predicted to lose to the event loop."""
        return self._loop_lag.on_the_way

    @property
    def margin(self) -> float:
        """Seconds kept in hand before each promise."""
        return max(self._lost, self._loop_lag.on_the_way)

    def seconds_late(self, scheduler: Scheduler, ticket: Ticket, *, alone: bool) -> float:
        """By how much the worst of the promises would be missed because of `ticket`; not positive if none would.

        `alone`: no other image is inside, of whatever model.
        """
        now = scheduler.now()
        free_at = scheduler.engine_free_at(now)
        inside = ticket in scheduler.ahead
        if alone and len(scheduler.ahead) == inside and free_at <= now:
            # Whatever is believed of decoding and of this machine, an idle service tries, and learns.
            at_best = now + scheduler.pass_times.at_best(1)
            return at_best - ticket.due if at_best > ticket.due else -math.inf
        alone_at = free_at + scheduler.pass_times.seconds(1)
        if alone_at > ticket.due:
            return alone_at - ticket.due
        if not inside and scheduler.in_line and ticket.wanted_by >= scheduler.latest_wanted:
            late = self._late_as_the_last(scheduler, ticket, now, free_at)
            if late is not None:
                return late
        return self._late_by_playing_out(scheduler, ticket, now, free_at)

    def _late_as_the_last(self, scheduler: Scheduler, ticket: Ticket, now: float, free_at: float) -> float | None:
        """The same for the last of those who came in the order of their times: sums, which no queue makes longer.

        It makes those late a little who were promised less than their deadline, never the others. None if sums do
        not tell.
        """
        margin = self.margin
        by = ticket.due - margin if ticket.is_hard else ticket.due - min(margin, (ticket.due - now) / 3)
        full, rest = divmod(len(scheduler.ahead), scheduler.max_batch_size)
        turns = sum(self._turns(scheduler, len(scheduler.ahead) + 1))
        passes = turns + full * scheduler.seconds(scheduler.max_batch_size) + scheduler.seconds(rest + 1)
        decoded_at = now + self._decode_pool.seconds_for(self._decode_pool.waiting)
        soonest = max(free_at + passes, decoded_at + scheduler.pass_times.seconds(1))
        if soonest > by:
            return soonest - by
        in_time = decoded_at < free_at  # else a pass may begin without it
        latest = soonest if in_time else max(free_at, decoded_at) + scheduler.seconds(scheduler.max_batch_size) + passes
        beside = islice(reversed(scheduler.ahead), rest) if in_time else scheduler.ahead
        if ticket.is_hard and latest > by:
            return None
        if any(latest > other.due - margin for other in beside if other.is_hard):
            return None
        return soonest - by

    def _late_by_playing_out(self, scheduler: Scheduler, ticket: Ticket, now: float, free_at: float) -> float:
        margin = self.margin
        ahead = [*(other for other in self._waiting(scheduler) if other is not ticket), ticket]
        due = [other.due - margin if other.is_hard else other.due for other in ahead]
        earliest = min(due)
        turns = self._turns(scheduler, len(ahead))
        # If all were decoded first and then ran alone: mostly there is time even for that.
        decoding = sum(other.received and other.answer is None for other in ahead)
        decoded_at = max(free_at, now + self._decode_pool.seconds_for(decoding))
        slowest = decoded_at + len(ahead) * (scheduler.seconds(1) + max(turns))
        if slowest <= earliest:
            return slowest - due[-1]
        ready_at = self._ready_at(ahead, now)
        predict = partial(
            completion_times,
            engine_free_at=free_at,
            max_batch_size=scheduler.max_batch_size,
            seconds=scheduler.seconds,
            turns=turns,
        )
        by_rank = ranks(ahead, scheduler.max_batch_size, scheduler.seconds)
        times = predict(by_rank, ready_at)
        late = times[-1] - due[-1]
        if late <= 0 and any(time > by for time, by in zip(times, due, strict=True)):
            # Who would be late anyway is no reason to refuse another.
            before = predict(by_rank[:-1], ready_at[:-1])
            for with_it, without, by in zip(times, before, due, strict=False):
                if with_it > without:
                    late = max(late, with_it - by)
        return late

    def _ready_at(self, ahead: list[Ticket], now: float) -> list[float]:
        """When each is predicted to be decoded, in the order in which they came."""
        # Other models' images are decoded by the same threads.
        decoding = max(0, self._decode_pool.waiting - sum(one.received and one.answer is None for one in ahead))
        ready_at = []
        for other in ahead:
            if other.answer is not None:  # queued
                ready_at.append(-math.inf)
            else:
                ready_at.append(now + self._decode_pool.seconds_for(decoding))
                decoding += other.received  # what is still on its way keeps no thread busy
        return ready_at

    def learn(self, ticket: Ticket, now: float) -> None:
        """Keep as much time in hand as lately went where no prediction looks: on a busy event loop, before the queue
        and after the pass.
        """
        if ticket.ready_by is None:
            return
        lost = max(0.0, (now if ticket.queued_at is None else ticket.queued_at) - ticket.ready_by)
        lost += now - ticket.answered_at if ticket.answered_at is not None else 0.0
        self._take(lost)

    def learn_of_a_miss(self, ticket: Ticket, now: float) -> None:
        """Of a promise that was broken all of the time went unseen."""
        self._take(now - ticket.let_in_at)

    def _take(self, lost: float) -> None:
        self._lost += _WEIGHT * (min(lost, _OUTLIER * max(self._lost, _SMALL)) - self._lost)

    def _waiting(self, scheduler: Scheduler) -> list[Ticket]:
        return [ticket for ticket in scheduler.ahead if not ticket.settled]

    def _turns(self, scheduler: Scheduler, count: int) -> list[float]:
        """What other models' passes take before each pass of this one: each has a turn while it has tickets."""
        passes = -(-count // scheduler.max_batch_size)
        turns = [0.0] * passes
        for other in scheduler.rivals:
            left = len(other.ahead)
            for number in range(passes):
                size = min(other.max_batch_size, left)
                turns[number] += other.pass_times.seconds(size) if size else 0.0
                left -= size
        return turns
