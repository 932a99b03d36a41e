"""What is promised, on a clock that jumps."""

import asyncio
import random

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from service.images.announced import Announced
from service.scheduling.promises import Patience, Promises
from service.scheduling.times import DecodeTimes, PassTimes
from tests.service.scheduling.model import virtually


class Free:
    """Lanes that are free in so many seconds."""

    def __init__(self, *seconds: float) -> None:
        self.seconds = seconds
        self.ready = len(seconds)

    def free_at(self, now: float) -> list[float]:
        return [now + seconds for seconds in self.seconds]


def promises(
    *free_in: float,
    curve: dict[int, float] | None = None,
    images: int = 4,
    decode_seconds: float = 1e-6,
    target: float = 0.0,
    lag: float = 0.0,
) -> Promises:
    times = PassTimes(curve or {1: 0.1, 4: 0.1})
    return Promises(
        Free(*free_in), images, times, DecodeTimes(decode_seconds), Patience(target, deadline=5), lambda: lag
    )


def late(of: Promises, seconds: float, decode_seconds: float = 0.0) -> float:
    ticket = of.ticket(seconds)
    ticket.decode_seconds = decode_seconds
    return of.seconds_late(ticket, alone=False)


@virtually
async def test_who_asks_for_nothing_is_promised_the_target() -> None:
    await asyncio.sleep(100)
    ticket = promises(0, target=0.5).ticket()
    assert (ticket.promised_by, ticket.deadline, ticket.is_hard) == (100.5, 105, False)


@virtually
async def test_who_asks_for_a_time_is_promised_that() -> None:
    await asyncio.sleep(100)
    ticket = promises(0, target=0.5).ticket(0.8)
    assert (ticket.promised_by, ticket.serve_by, ticket.deadline) == (100.8, 100.8, 100.8)
    assert ticket.is_hard
    patient = promises(0).ticket(9)
    assert (patient.promised_by, patient.serve_by) == (109, 105)  # half of what it has beyond a second is left over


@virtually
async def test_bulk_has_time() -> None:
    ticket = promises(0, target=0.5).ticket(None, "bulk")
    assert (ticket.promised_by, ticket.deadline, ticket.priority) == (5, 5, "bulk")


@pytest.mark.parametrize(
    ("seconds", "lanes", "target"),
    [(0.001, 1, 0.35), (0.02, 1, 0.35), (0.1, 1, 48 / 4 * 0.1), (0.1, 2, 48 / 8 * 0.1), (3, 1, 5)],
    ids=["fast", "ordinary", "slow", "two lanes", "as slow as a deadline"],
)
@virtually
async def test_where_no_target_is_chosen_some_dozens_of_clients_are_never_refused(
    seconds: float, lanes: int, target: float
) -> None:
    ticket = promises(*[0] * lanes, curve={1: seconds, 4: seconds}).ticket()
    assert ticket.promised_by == pytest.approx(target, abs=0.001)


@virtually
async def test_an_image_is_forecast_to_be_a_usual_one_until_more_is_known() -> None:
    model = promises(0, decode_seconds=0.003)
    for _ in range(100):
        model.decode_times.learn(Announced("JPEG", 10**6), 0, 0.02)
    assert model.ticket().decode_seconds == pytest.approx(0.02, rel=0.01)


@virtually
async def test_a_batch_takes_hardly_longer_than_one_of_ordinary_images() -> None:
    limits = promises(0, decode_seconds=0.01).limits
    assert limits.images == 4
    assert limits.seconds == pytest.approx(1.25 * (4 * 0.01 + 0.1))


@virtually
async def test_who_is_ahead_is_known_until_a_lane_takes_it() -> None:
    model = promises(0)
    first, second = model.ticket(), model.ticket()
    for _ in range(2):  # the second time with what is new of it
        model.expect(first)
    model.expect(second)
    assert (len(model), first in model, second in model) == (2, True, True)
    model.forget(first, first)
    model.forget(second)
    assert len(model) == 0
    model.forget(second)  # it has left, and is not there any more


@virtually
async def test_decoding_ahead_is_counted_once() -> None:
    model = promises(0)
    ticket = model.ticket(100)
    for decode_seconds in (5, 1):
        ticket.decode_seconds = decode_seconds
        model.expect(ticket)
    bulk = model.ticket(200)
    bulk.decode_seconds = 0
    assert model.seconds_late(bulk, alone=False) < 0
    assert late(model, 1.05) < 0  # before it
    other = model.ticket(1.11)
    model.expect(other)
    model.forget(other)
    assert model._decoding == pytest.approx(1)


@virtually
async def test_one_of_several_lanes_that_is_busy_for_long_keeps_nobody_out() -> None:
    model = promises(0, 60)
    assert late(model, 0.11) < 0 < late(model, 0.09)
    for _ in range(4):
        model.expect(model.ticket(0.15))
    assert late(model, 0.21) < 0 < late(model, 0.19)


@virtually
async def test_two_images_that_share_a_batch_wait_for_each_others_decoding() -> None:
    """By when all that is ahead is done on average somebody else's decoding is still to come."""
    model = promises(0.03, 0.03, 0.03, curve={1: 0.01, 2: 0.015, 4: 0.025}, decode_seconds=0.02)
    promised = model.ticket(0.075)
    promised.deadline = 10  # it would be answered later too
    model.expect(promised)
    assert model.seconds_late(model.ticket(0.075), alone=False) == pytest.approx(0.01)


@virtually
async def test_seconds_late_are_those_of_whoever_would_be_latest() -> None:
    model = promises(1)
    for _ in range(4):
        model.expect(model.ticket(1.16))
    assert late(model, 1.155) == pytest.approx(0.04, abs=0.001)  # the fourth of the others, who goes last
    assert late(model, 1.17) == pytest.approx(0.03, abs=0.001)  # behind them


@virtually
async def test_who_is_late_anyway_is_no_reason_to_refuse_another() -> None:
    model = promises(1)
    for _ in range(8):
        model.expect(model.ticket(0.5))
    assert late(model, 5) < 0


@virtually
async def test_of_a_promise_no_more_than_a_third_is_kept_in_hand() -> None:
    model = promises(0.2, lag=0.2)
    assert late(model, 0.51) < 0 < late(model, 0.49)  # of a deadline all of it
    ticket = model.ticket(10)
    ticket.promised_by = ticket.serve_by = 0.46  # two thirds of it are 0.307
    assert model.seconds_late(ticket, alone=False) < 0
    ticket.promised_by = ticket.serve_by = 0.44
    assert model.seconds_late(ticket, alone=False) > 0


@virtually
async def test_images_that_decode_slowly_do_not_have_bulk_go_first() -> None:
    """A batch takes few of them, so that the next one comes soon: bulk need not hurry."""
    model = promises(0.1, 0.1, curve={1: 0.001, 16: 0.006}, images=16, decode_seconds=0.002)
    for _ in range(100):
        model.decode_times.learn(Announced("PNG", 1280 * 720), 10**6, 0.05)
    assert model.full_batch == pytest.approx(0.8, abs=0.01)
    assert model.longest_batch == pytest.approx(0.051, abs=0.01)
    bulk = [model.ticket(5, "bulk") for _ in range(32)]
    await asyncio.sleep(1)
    interactive = model.ticket()
    assert model.order([*bulk, interactive], model.now()).tickets[0] is interactive
    await asyncio.sleep(1.9)  # it is to be served after 3 s
    assert model.order([bulk[0], model.ticket()], model.now()).tickets[0] is bulk[0]


@virtually
async def test_an_idle_service_tries_whoever_can_wait_whatever_it_believes() -> None:
    """A belief that is wrong is found out by a pass alone."""
    model = promises(0, curve={1: 1.0, 4: 1.0}, target=0.35)
    assert model.seconds_late(model.ticket(), alone=True) < 0
    assert model.seconds_late(model.ticket(0.9), alone=True) == pytest.approx(0.1)


@virtually
async def test_while_no_lane_serves_whoever_comes_waits_for_one() -> None:
    assert late(promises(), 0.001) < 0


@virtually
async def test_a_refusal_holds_for_who_comes_behind_until_a_lane_takes_a_batch() -> None:
    lanes = Free(0.5)
    busy = promises(0.5, target=0.55)
    busy._lanes = lanes
    for _ in range(4):
        busy.expect(busy.ticket())
    first = busy.seconds_late(busy.ticket(), alone=False)
    assert first > 0
    lanes.seconds = (0.0,)  # as no lane is before it has taken a batch: what was found is not looked for again
    await asyncio.sleep(0.05)
    assert busy.seconds_late(busy.ticket(), alone=False) == pytest.approx(first - 0.05, abs=1e-6)
    assert busy.seconds_late(busy.ticket(2), alone=False) < 0  # nor is it who asks for another time
    busy.forget(next(iter(busy._ahead)))
    assert busy.seconds_late(busy.ticket(), alone=False) < 0


@virtually
async def test_a_refusal_ends_with_the_time_that_it_was_for() -> None:
    busy = promises(0.5, target=0.55)
    for _ in range(4):
        busy.expect(busy.ticket())
    assert busy.seconds_late(busy.ticket(), alone=False) > 0
    busy._lanes = Free(0.0)
    await asyncio.sleep(0.2)
    assert busy.seconds_late(busy.ticket(), alone=False) < 0


@virtually
async def test_a_refusal_ends_with_a_lanes_answer_even_if_nobody_waits() -> None:
    lanes = Free(1.0)
    busy = promises(1.0, target=0.5)
    busy._lanes = lanes
    assert busy.seconds_late(busy.ticket(), alone=False) > 0
    lanes.seconds = (0.0,)
    busy.learn(0.0)
    assert busy.seconds_late(busy.ticket(), alone=False) < 0


@virtually
async def test_who_has_waited_to_be_read_is_promised_less() -> None:
    await asyncio.sleep(100)
    ticket = promises(0, target=0.5).ticket(since=99.8)
    assert (ticket.promised_by, ticket.deadline) == (100.3, 104.8)


@virtually
async def test_who_would_delay_another_is_refused_and_so_is_whoever_else_comes_before_that_one() -> None:
    busy = promises(0.1, images=1)
    for _ in range(3):
        ticket = busy.ticket(9)
        ticket.allow(0.45, busy.now())  # the third is done after 0.4 s
        busy.expect(ticket)
    assert late(busy, 0.3) == pytest.approx(0.05, abs=1e-4)
    busy._lanes = Free(0.0)  # what was found is not looked for again
    assert late(busy, 0.35) == pytest.approx(0.05, abs=1e-4)
    assert late(busy, 0.6) < 0
    busy.learn(0.0)
    assert late(busy, 0.35) < 0


@virtually
async def test_who_is_late_anyway_is_no_reason_to_refuse_another_until_its_patience_ends() -> None:
    busy = promises(0.1, curve={1: 0.1, 4: 0.2}, target=0.5)
    for _ in range(2):
        busy.expect(busy.ticket())
    await asyncio.sleep(0.6)  # they are still ahead: their bodies take long to read
    assert late(busy, 0.35) < 0  # though it makes their batch longer
    await asyncio.sleep(4.15)  # now they would just be done before their deadline, but not in a longer batch
    assert late(busy, 0.35) > 0


def png(width: int, height: int) -> bytes:
    """As much of one as is looked at."""
    return b"\x89PNG\r\n\x1a\n\0\0\0\rIHDR" + width.to_bytes(4, "big") + height.to_bytes(4, "big")


@virtually
async def test_who_takes_far_less_goes_before_those_who_have_not_waited_long() -> None:
    busy = promises(1.0, decode_seconds=0.002, target=1.0, curve={1: 0.001, 4: 0.001})
    early = busy.ticket(image=png(1000, 1000))
    busy.expect(early)
    await asyncio.sleep(1.9)
    late, alike = busy.ticket(image=png(1000, 1000)), busy.ticket(image=png(900, 900))
    for ticket in (late, alike):
        busy.expect(ticket)
    await asyncio.sleep(0.3)
    cheap = busy.ticket(image=png(28, 28))
    assert busy.order([late, alike, cheap, early], busy.now()).tickets == [early, cheap, late, alike]
    busy.foresee(cheap, png(1000, 1000))  # it is not, after all
    assert busy.order([late, alike, cheap, early], busy.now()).tickets == [early, late, alike, cheap]


@virtually
async def test_patience_buys_no_precedence_over_others_that_take_as_little() -> None:
    busy = promises(1.0, decode_seconds=0.002, curve={1: 0.001, 4: 0.001})
    for _ in range(4):
        busy.expect(busy.ticket(image=png(1000, 1000)))
    lone, formed, patient = (busy.ticket(seconds, image=png(28, 28)) for seconds in (None, 5, 600))
    assert all(ticket.haste for ticket in (lone, formed, patient))
    order = busy.order([patient, formed, lone], busy.now())
    assert order.tickets == [lone, formed, patient]


@virtually
async def test_who_is_bulk_no_more_stands_elsewhere() -> None:
    busy = promises(1.0, target=0.5)
    bulk = busy.ticket(60, "bulk")
    busy.expect(bulk)
    shot = busy.ticket()
    assert busy._others(shot, busy.now())[0].tickets == [bulk]
    bulk.priority = "interactive"
    busy.expect(bulk)
    assert busy._others(shot, busy.now())[1] == 0


@virtually
async def test_interactive_images_may_use_up_what_bulk_keeps_in_hand() -> None:
    for priority, is_late in (("bulk", False), ("interactive", True)):
        busy = promises(0.0, images=1, lag=0.05)
        for _ in range(2):
            busy.expect(busy.ticket(0.33, priority))  # the second is done after 0.2 s, or after 0.3
        assert (busy.seconds_late(busy.ticket(0.2), alone=False) > 0) is is_late


@virtually
async def test_who_is_here_is_not_refused_for_an_image_that_is_on_its_way() -> None:
    for image, is_late in ((None, False), (png(28, 28), True)):
        busy = promises(0.0, curve={1: 0.1, 4: 0.2}, target=0.5)
        for _ in range(2):
            busy.expect(busy.ticket(0.15, image=image))  # done after 0.13 s, and after 0.17 s beside another
        assert (busy.seconds_late(busy.ticket(image=png(28, 28)), alone=False) > 0) is is_late


@virtually
async def test_who_takes_far_less_may_break_mere_promises_and_no_deadline() -> None:
    for seconds, is_late in ((None, False), (0.35, True)):
        busy = promises(0.0, decode_seconds=0.002, images=1, target=0.35, curve={1: 0.01, 4: 0.04})
        for _ in range(3):
            ticket = busy.ticket(seconds)
            ticket.decode_seconds, ticket.received = 0.1, True
            busy.expect(ticket)  # the last is done after 0.33 s
        cheap = busy.ticket(0.3, image=png(1000, 1000))
        assert 0.02 < cheap.decode_seconds < 0.05
        assert cheap.haste
        assert (busy.seconds_late(cheap, alone=False) > 0) is is_late


@virtually
async def test_who_takes_far_less_by_its_bytes_goes_before_others_until_more_is_known() -> None:
    busy = promises(1.0, decode_seconds=0.002, target=1.0, curve={1: 0.001, 4: 0.001})
    for _ in range(3):
        busy.decode_times.learn(Announced("PNG", 10**6), 0, 0.03)
        busy.expect(busy.ticket(image=png(1000, 1000)))
    small, large, unknown = busy.ticket(size=400), busy.ticket(size=10**6), busy.ticket()
    bulk = busy.ticket(None, "bulk", size=400)
    assert [bool(ticket.haste) for ticket in (small, large, unknown, bulk)] == [True, False, False, False]
    busy.expect(small)
    assert busy._others(large, busy.now())[0].tickets[0] is small
    busy.foresee(small, png(1000, 1000))
    busy.expect(small)
    assert busy._others(large, busy.now())[0].tickets[-1] is small


@settings(max_examples=200, deadline=None)
@given(st.integers(0, 10**6))
def test_what_is_kept_from_one_request_to_the_next_changes_no_answer(seed: int) -> None:
    """Images of all kinds come, become heavier and leave; each is looked at with what is kept and without."""
    chance = random.Random(seed)

    @virtually
    async def run() -> None:
        busy = promises(0.05, 0.2, images=8, curve={1: 0.01, 8: 0.03}, decode_seconds=0.002, target=0.5)
        for _ in range(120):
            kind = chance.random()
            if kind < 0.6:
                ticket = busy.ticket(since=busy.now() - chance.random() / 100)
            else:
                ticket = busy.ticket(0.1 + chance.random(), "bulk" if kind < 0.7 else "interactive")
            ticket.decode_seconds *= chance.choice((1, 1, 1, 5))
            kept = busy.seconds_late(ticket, alone=False)
            refused, busy._refused, busy._order = busy._refused, {}, None
            afresh = busy.seconds_late(ticket, alone=False)
            if kept <= 0:
                assert kept == pytest.approx(afresh)
            else:  # how heavy ones share batches may differ by the place of one
                assert afresh > 0 or kept < busy.limits.seconds
            busy._refused = refused
            if kept <= 0:
                busy.expect(ticket)
            ahead = list(busy._ahead)
            if ahead and kind < 0.1:
                busy.forget(*chance.sample(ahead, min(len(ahead), 5)))
            elif ahead and kind > 0.8:
                other = chance.choice(ahead)
                other.decode_seconds *= 1.5
                busy.expect(other)

    run()


@virtually
async def test_every_batch_that_waits_takes_its_way_to_its_lane_and_back_as_well() -> None:
    busy = promises(0.0, images=1)  # whose passes take 100 ms
    busy.learn_way(0.01)
    for _ in range(4):
        busy.expect(busy.ticket(0.55))
    assert late(busy, 0.6) == pytest.approx(5 * busy._way.value + busy._lost.value - 0.1, abs=1e-4)


@virtually
async def test_who_is_promised_another_time_stands_where_that_belongs() -> None:
    busy = promises(0.0, curve={1: 0.1, 4: 0.1}, images=1, target=0.5)
    tickets = [busy.ticket(0.5), busy.ticket(0.6), busy.ticket(0.7)]
    for ticket in tickets:
        busy.expect(ticket)
    assert late(busy, 0.25) < 0
    tickets[2].allow(0.1, busy.now())
    busy.expect(tickets[2])
    assert late(busy, 0.11) > 0  # it would make two late: itself, or the one that is now promised 100 ms
