"""Whatever arrives, whenever: what is let in is answered in time, exactly once, with its own answer; nothing hangs.

The real Admission, Promises and Scheduler run on a clock that jumps, with lanes that take exactly what is forecast.
"""

import asyncio
from dataclasses import dataclass, field
from typing import Literal

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from service.errors import DeadlineExceeded, EngineFailure, InvalidImage, Overloaded, ServiceError
from service.metrics import OUTCOMES, Metrics
from service.scheduling.admission import Admission
from service.scheduling.scheduler import Scheduler
from service.scheduling.ticket import Priority, Ticket
from tests.service.scheduling.model import CURVE, MAX_BATCH, Model
from tests.virtual_time import DAMAGED, KILLER, POISON, Played, run_virtually

Kind = Literal["good", "damaged", "poison", "killer"]
_LEVELS = {"damaged": DAMAGED, "poison": POISON, "killer": KILLER}


@dataclass(frozen=True)
class Arrival:
    """An image that comes `gap` after the one before it."""

    gap: float
    time_left: float
    priority: Priority = "interactive"
    kind: Kind = "good"
    patience: float | None = None  # after which its client leaves
    promise: float | None = None  # sooner than its deadline


# Off the grid of pass times: who comes at the very instant that a pass ends may be taken by the next one, or not.
seconds = st.integers(0, 60).map(lambda ms: (ms + 0.37) / 1000)
deadlines = st.integers(5, 150).map(lambda ms: ms / 1000)
priorities: st.SearchStrategy[Priority] = st.sampled_from(["interactive", "bulk"])
calm = st.lists(st.builds(Arrival, seconds | st.just(0.0), deadlines, priorities), max_size=40)
patient = st.builds(Arrival, seconds | st.just(0.0), st.just(10.0), promise=deadlines)
mixed = st.lists(patient | st.builds(Arrival, seconds | st.just(0.0), deadlines, priorities), max_size=40)
kinds: st.SearchStrategy[Kind] = st.sampled_from(["good", "good", "good", "damaged", "poison", "killer"])
rough = st.lists(
    st.builds(Arrival, seconds | st.just(0.0), deadlines, priorities, kinds, st.none() | seconds), max_size=40
)


class WatchedScheduler(Scheduler):
    """Checks every batch as it is frozen."""

    def _freeze(self, now: float, waited: str) -> "object":  # type: ignore[override]
        batch = super()._freeze(now, waited)
        assert len(batch.tickets) <= MAX_BATCH
        for left in self._waiting if batch.tickets else ():
            if left.suspect or batch.tickets[0].suspect:
                continue
            decoding = [ticket.decode_seconds for ticket in (*batch.tickets, left)]
            room = self._promises.limits.batch_size(decoding, 0, 0, self._promises.pass_times.seconds)[0]
            assert room == len(batch.tickets), "somebody was left waiting though there was room"
            alike = [
                t for t in batch.tickets if t.priority == left.priority == "interactive" and t.is_hard == left.is_hard
            ]
            assert all(t.promised_by <= left.promised_by for t in alike)
        return batch


class WatchedModel(Model):
    scheduler_is = WatchedScheduler


@dataclass
class Run:
    """What became of every arrival: the level that came back, or why none did."""

    results: list[int | BaseException | None] = field(default_factory=list)
    refused_rightly: list[bool] = field(default_factory=list)
    queued: list[float] = field(default_factory=list)
    played: list[Played] = field(default_factory=list)
    metrics: Metrics = field(default_factory=Metrics)


def run(arrivals: list[Arrival], lanes: int = 1, decode_seconds: float = 0.0) -> Run:
    """Play a scenario to its end."""
    return run_virtually(_run(arrivals, lanes, decode_seconds))


async def _run(arrivals: list[Arrival], lanes: int, decode_seconds: float) -> Run:
    done, loop = Run(), asyncio.get_running_loop()
    done.results = [None] * len(arrivals)
    model = WatchedModel(lanes, decode_seconds, done.metrics)
    admission = Admission(10**6, 10**12)

    async def one(number: int, arrival: Arrival) -> None:
        promised_by = loop.time() + (arrival.time_left if arrival.promise is None else arrival.promise)
        ticket = Ticket(loop.time() + arrival.time_left, arrival.priority, promised_by, decode_seconds=decode_seconds)
        try:
            with admission.admit(model, ticket):
                done.queued.append(loop.time())
                async with asyncio.timeout_at(ticket.deadline + 1e-6):
                    done.results[number] = await model.ask(_LEVELS.get(arrival.kind, 100 + number), ticket)
        except Overloaded as error:
            waiting = [t for t in model.promises._ahead if not t.settled]
            free_at = model.lanes.free_at(loop.time())
            done.refused_rightly.append(would_miss(waiting, ticket, free_at, loop.time()))
            done.results[number] = error
        except ServiceError as error:
            done.results[number] = error
        except TimeoutError:
            done.results[number] = DeadlineExceeded("by the clock")

    tasks = []
    for number, arrival in enumerate(arrivals):
        await asyncio.sleep(arrival.gap)
        tasks.append(asyncio.create_task(one(number, arrival)))
        if arrival.patience is not None:
            loop.call_later(arrival.patience, tasks[-1].cancel)
        await asyncio.sleep(0)
    await asyncio.gather(*tasks, return_exceptions=True)
    await model.scheduler.stop()
    done.played = model.lanes.played
    for number, task in enumerate(tasks):
        if task.cancelled():
            done.results[number] = asyncio.CancelledError()
    assert admission.inflight == 0
    assert len(model.promises) == 0
    return done


def would_miss(waiting: list[Ticket], newcomer: Ticket, free_at: list[float], now: float) -> bool:
    """Whether serving all by deadline, full batches first, misses one; written apart from the service's code."""
    queued = sorted([*waiting, newcomer], key=lambda ticket: ticket.deadline)
    lanes = sorted(free_at) or [now]  # at best, where every lane is being replaced
    while queued:
        batch, queued = queued[:MAX_BATCH], queued[MAX_BATCH:]
        lanes[0] += {1: 0.010, 2: 0.015, 3: 0.020, 4: 0.025}[len(batch)]
        if any(lanes[0] > ticket.deadline for ticket in batch):
            return True
        lanes.sort()
    return False


LANES = st.sampled_from([1, 2, 3])


@settings(max_examples=300, deadline=None)
@given(calm, LANES)
@example([Arrival(0, 0.150, "bulk")] * 8 + [Arrival(0.005, 0.030)] * 30, 1)
def test_what_is_let_in_is_answered_in_time_and_what_is_refused_would_have_missed(
    arrivals: list[Arrival], lanes: int
) -> None:
    done = run(arrivals, lanes)
    for number, result in enumerate(done.results):
        assert result == 100 + number or isinstance(result, Overloaded), (number, result)
    assert all(done.refused_rightly)


@settings(max_examples=500, deadline=None)
@given(mixed, LANES, st.sampled_from([0.0, 0.002, 0.020]))
def test_a_deadline_holds_whoever_else_is_promised_less(
    arrivals: list[Arrival], lanes: int, decode_seconds: float
) -> None:
    done = run(arrivals, lanes, decode_seconds)
    for number, (arrival, result) in enumerate(zip(arrivals, done.results, strict=True)):
        if (
            arrival.time_left <= decode_seconds + CURVE[1] + 1e-9
        ):  # an idle service tries, since its forecast may be wrong
            continue
        assert result == 100 + number or isinstance(result, Overloaded), (number, result)


@settings(max_examples=300, deadline=None)
@given(rough, LANES, st.sampled_from([0.0, 0.002, 0.020]))
def test_every_image_has_one_outcome_and_its_own_answer(
    arrivals: list[Arrival], lanes: int, decode_seconds: float
) -> None:
    done = run(arrivals, lanes, decode_seconds)
    for number, (arrival, result) in enumerate(zip(arrivals, done.results, strict=True)):
        if isinstance(result, int):
            assert arrival.kind == "good"
            assert result == 100 + number
        elif isinstance(result, EngineFailure):
            assert arrival.kind in ("poison", "killer")
        elif isinstance(result, InvalidImage):
            assert arrival.kind == "damaged"
        else:
            assert isinstance(result, (Overloaded, DeadlineExceeded, asyncio.CancelledError)), result
    sample = done.metrics.registry.get_sample_value
    outcomes = {
        outcome: sample("mixer_images_total", {"model": "m", "version": "1", "outcome": outcome}) or 0.0
        for outcome in OUTCOMES
    }
    admitted = sample("mixer_admitted_images_total", {"model": "m", "version": "1"})
    assert sum(outcomes.values()) - outcomes["rejected"] == admitted
    assert sum(outcomes.values()) == len(arrivals) - sum(result is None for result in done.results)


@settings(max_examples=300, deadline=None)
@given(calm, LANES)
def test_no_lane_is_idle_while_work_waits(arrivals: list[Arrival], lanes: int) -> None:
    """Each batch begins when the one before it on the lane ends, or when an image arrives at an idle lane."""
    done = run(arrivals, lanes)
    ends = {0.0, *(batch.ended for batch in done.played)}
    for batch in done.played:
        assert batch.began in ends or batch.began in done.queued


@pytest.mark.parametrize("lanes", [1, 2])
def test_only_the_image_that_ends_its_lane_fails(lanes: int) -> None:
    arrivals = [Arrival(0, 5), *[Arrival(0, 5)] * 3, Arrival(0, 5, kind="killer"), *[Arrival(0, 5)] * 3]
    done = run(arrivals, lanes)
    for number, result in enumerate(done.results):
        assert isinstance(result, EngineFailure) if number == 4 else result == 100 + number


def test_bulk_is_not_starved() -> None:
    """A flood of interactive work never keeps bulk from its promise."""
    flood = [Arrival(0.0055, 0.060) for _ in range(200)]
    done = run([Arrival(0, 1.0, "bulk"), *flood])
    assert done.results[0] == 100


def test_interactive_work_goes_before_bulk() -> None:
    done = run([Arrival(0, 0.5, "bulk")] * 12 + [Arrival(0.001, 0.5)])
    assert all(isinstance(result, int) for result in done.results)
    order = [item for batch in done.played for item in batch.items]
    assert order.index(112) == 1  # behind the one that found an idle lane


def test_an_operator_may_have_batches_fill_but_never_past_a_deadline() -> None:
    async def play() -> tuple[list[dict[str, object]], list[int]]:
        loop = asyncio.get_running_loop()
        model = WatchedModel(max_queue_delay=0.5)

        async def one(level: int, time_left: float) -> int:
            return await model.ask(level, Ticket(loop.time() + time_left))

        alone = await one(11, 5)  # waits in vain
        batch = await asyncio.gather(*(one(level, 5) for level in (12, 13, 14, 15)))  # fills at once
        patient = asyncio.create_task(one(16, 5))
        await asyncio.sleep(0.03)
        hurried = await one(17, 0.15)  # ends the other's wait
        await model.scheduler.stop()
        return model.pass_log.newest_first()[::-1], [alone, *batch, await patient, hurried]

    passes, answers = run_virtually(play())
    assert answers == [11, 12, 13, 14, 15, 16, 17]
    assert [(entry["reason"], entry["size"]) for entry in passes] == [("delay", 1), ("full", 4), ("deadline", 2)]
