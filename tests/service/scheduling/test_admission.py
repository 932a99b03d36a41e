"""Who is let in, on a clock that jumps."""

import asyncio
from contextlib import ExitStack

import pytest

from service.errors import ClientGone, DeadlineExceeded, EngineFailure, InvalidImage, NotReady, Overloaded
from service.images.announced import Announced
from service.metrics import OUTCOMES, Metrics
from service.scheduling.admission import Admission
from service.scheduling.loop_lag import LoopLag
from service.scheduling.shared_cores import SharedCores
from service.scheduling.ticket import Priority, Ticket
from tests.service.scheduling.model import Model, virtually


class SteadyModel(Model):
    curve = {1: 0.1, 4: 0.1}  # noqa: RUF012


class House:
    """An admission in front of two models, each with a lane whose passes take 100 ms, whatever their size, up to 4."""

    def __init__(
        self, max_images: int = 100, max_bytes: int = 1000, decode_seconds: float = 0.0, lanes: int = 1
    ) -> None:
        self.metrics, self.lag = Metrics(), LoopLag()
        self.first, self.second = (
            SteadyModel(
                lanes,
                decode_seconds,
                self.metrics,
                name=name,
                cores=SharedCores(1),
                loop_lag=lambda: self.lag.on_the_way,
            )
            for name in ("first", "second")
        )
        self.admission = Admission(max_images, max_bytes)

    def ticket(self, seconds: float = 1000, promised: float | None = None) -> Ticket:
        """Of an image that is wanted within so many seconds, and perhaps promised sooner."""
        now, usual = asyncio.get_running_loop().time(), self.first.promises.decode_times.usual
        return Ticket(now + seconds, promised_by=now + (promised or seconds), decode_seconds=usual)

    def busy(self, seconds: float) -> None:
        """The first model's lane is busy for so long."""
        self.first.lanes.take().busy_until = asyncio.get_running_loop().time() + seconds

    def outcomes(self, model: str = "first") -> dict[str, float]:
        sample, of = self.metrics.registry.get_sample_value, {"model": model, "version": "1"}
        counts = {outcome: sample("mixer_images_total", of | {"outcome": outcome}) for outcome in OUTCOMES}
        return {outcome: count for outcome, count in counts.items() if count}

    def rejected(self, reason: str, model: str = "first") -> float | None:
        labels = {"model": model, "version": "1", "reason": reason}
        return self.metrics.registry.get_sample_value("mixer_rejections_total", labels)

    def late_for(self, ticket: Ticket) -> float:
        return self.first.promises.seconds_late(ticket, alone=not self.admission.inflight)

    def late(self, seconds: float) -> float:
        return self.late_for(self.ticket(seconds))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InvalidImage("x"), "invalid"),
        (DeadlineExceeded("x"), "expired"),
        (EngineFailure("x"), "error"),
        (ClientGone("x"), "cancelled"),
        (asyncio.CancelledError(), "cancelled"),
        (ZeroDivisionError(), "error"),
    ],
)
@virtually
async def test_how_the_block_ends_is_how_the_image_ends(error: BaseException, outcome: str) -> None:
    house = House()
    with pytest.raises(type(error)), house.admission.admit(house.first, house.ticket()):
        raise error
    with house.admission.admit(house.first, house.ticket()):
        assert house.admission.inflight == 1
    assert house.outcomes() == {outcome: 1, "ok": 1}
    assert house.first.count("admitted_images_total") == 2
    assert house.admission.inflight == 0
    assert len(house.first.promises) == 0


@virtually
async def test_images_are_bounded_over_all_models() -> None:
    house = House(max_images=2)
    with house.admission.admit(house.first, house.ticket()), house.admission.admit(house.second, house.ticket()):
        with pytest.raises(Overloaded) as caught:
            house.admission.admit(house.second, house.ticket())
        assert (caught.value.reason, caught.value.retry_after) == ("inflight_images", 1)
    with house.admission.admit(house.second, house.ticket()):
        pass
    assert house.outcomes() == {"ok": 1}
    assert house.outcomes("second") == {"ok": 2, "rejected": 1}
    assert house.rejected("inflight_images", "second") == 1


@virtually
async def test_bytes_are_bounded_as_they_come() -> None:
    house = House(max_bytes=1000)
    with house.admission.admit(house.first, house.ticket()) as large:
        large.charge(400)
        large.charge(200)
        with house.admission.admit(house.second, house.ticket()) as small:
            with pytest.raises(Overloaded) as caught:
                small.charge(401)
            assert (caught.value.reason, caught.value.retry_after) == ("inflight_bytes", 1)
            small.charge(400)
        with house.admission.admit(house.second, house.ticket()) as another:
            another.charge(400)  # those of the one before are there no more
    with house.admission.admit(house.first, house.ticket()) as alone:
        alone.charge(1000)


@pytest.mark.parametrize(
    ("lanes", "decode_seconds", "sharing", "seconds"),
    [
        (1, 0.0, 1, 3),  # 25 passes of 100 ms
        (3, 0.0, 1, 1),
        (1, 0.1, 1, 13),  # 25 batches of 4 times 100 ms and a pass
        (4, 0.1, 1, 4),
        (1, 0.1, 2, 25),  # on half of the cores
    ],
)
@virtually
async def test_the_time_to_retry_of_a_full_house_is_that_of_what_is_ahead(
    lanes: int, decode_seconds: float, sharing: int, seconds: int
) -> None:
    house = House(decode_seconds=decode_seconds, lanes=lanes)
    house.first.promises.sharing = lambda: sharing
    assert await retry_after_a_hundred(house) == seconds


@virtually
async def test_the_time_to_retry_is_that_of_short_batches_where_images_take_long_to_decode() -> None:
    house = House(decode_seconds=0.01)
    for _ in range(200):
        house.first.promises.decode_times.learn(Announced("JPEG", 10**7), 0, 0.5)
    assert await retry_after_a_hundred(house) == 60  # 100 batches of one image: 500 ms and a pass


@virtually
async def test_the_time_to_retry_while_every_lane_is_replaced_is_that_of_one() -> None:
    house = House()
    house.first.lanes.ready = 0
    assert await retry_after_a_hundred(house) == 3


@virtually
async def test_the_time_to_retry_is_a_second_at_least() -> None:
    house = House(max_images=1)
    with house.admission.admit(house.first, house.ticket()), pytest.raises(Overloaded) as caught:
        house.admission.admit(house.second, house.ticket())  # of which nobody is ahead
    assert caught.value.retry_after == 1


async def retry_after_a_hundred(house: House) -> int | None:
    """What the image behind them is told."""
    with ExitStack() as stack:
        for _ in range(100):
            stack.enter_context(house.admission.admit(house.first, house.ticket()))
        with pytest.raises(Overloaded) as caught:
            house.admission.admit(house.first, house.ticket())
        return caught.value.retry_after


@pytest.mark.parametrize(("priority", "seconds"), [("interactive", 1000.0), ("bulk", None)])
@virtually
async def test_the_patient_leave_places_to_the_others(priority: Priority, seconds: float | None) -> None:
    house = House(max_images=16)
    promises = house.first.promises
    with ExitStack() as stack:
        for _ in range(14):
            stack.enter_context(house.admission.admit(house.first, promises.ticket(seconds, priority)))
        with pytest.raises(Overloaded, match="14 images are inside, of 14") as caught:
            house.admission.admit(house.first, promises.ticket(seconds, priority))
        assert caught.value.reason == "inflight_images"
        for _ in range(2):
            stack.enter_context(house.admission.admit(house.first, promises.ticket()))
        with pytest.raises(Overloaded, match="16 images are inside, of 16"):
            house.admission.admit(house.first, promises.ticket())


@virtually
async def test_whom_an_idle_lane_can_answer_is_let_in() -> None:
    house = House()
    assert house.late(0.11) < 0
    assert house.late(0.09) == pytest.approx(0.01)


@virtually
async def test_the_pass_in_flight_and_those_ahead_take_their_time() -> None:
    house = House()
    house.busy(1)
    with ExitStack() as stack:
        stack.enter_context(house.admission.admit(house.second, house.ticket()))
        assert house.late(1.15) < 0 < house.late(1.05)
        for _ in range(4):
            stack.enter_context(house.admission.admit(house.first, house.ticket(10)))
        assert house.late(9) < 0
        assert house.late(1.15) < 0  # those with later deadlines let it go first
        for _ in range(4):
            stack.enter_context(house.admission.admit(house.first, house.ticket(1.16)))
        assert house.late(9) < 0
        assert house.late(1.17) > 0  # behind a full batch


@virtually
async def test_nobody_is_let_in_who_would_make_another_late() -> None:
    house = House()
    house.busy(1)
    with ExitStack() as stack:
        stack.enter_context(house.admission.admit(house.second, house.ticket()))
        for _ in range(4):  # just fit into one pass
            stack.enter_context(house.admission.admit(house.first, house.ticket(1.16)))
        with pytest.raises(Overloaded) as caught:
            house.admission.admit(house.first, house.ticket(1.155))
        assert (caught.value.reason, caught.value.retry_after) == ("deadline", 1)
        assert house.late(1.3) < 0  # behind them there is room
    assert house.rejected("deadline") == 1


@virtually
async def test_the_time_to_retry_is_how_late_it_would_have_been() -> None:
    house = House()
    house.busy(7)
    with house.admission.admit(house.second, house.ticket()):
        with pytest.raises(Overloaded) as caught:
            house.admission.admit(house.first, house.ticket(2))
        assert caught.value.retry_after == 6


@virtually
async def test_decoding_takes_its_time_too() -> None:
    house = House(decode_seconds=0.5)
    with house.admission.admit(house.first, house.ticket()):
        assert house.late(1.11) < 0 < house.late(0.59)
        house.busy(1)
        assert house.late(2.11) < 0 < house.late(1.59)


@virtually
async def test_an_idle_service_tries_whatever_it_believes_of_decoding() -> None:
    house = House(decode_seconds=500)
    assert house.late(0.2) < 0
    assert house.late(0.09) > 0  # a pass alone takes longer
    with house.admission.admit(house.second, house.ticket()):
        assert house.late(0.2) > 0


@virtually
async def test_time_that_no_forecast_sees_is_kept_in_hand() -> None:
    house = House()
    for _ in range(100):
        house.first.promises.learn(0.05)
    house.busy(0.05)
    with house.admission.admit(house.second, house.ticket()):
        assert house.late(0.19) > 0
        assert house.late(0.21) < 0


@virtually
async def test_of_a_promise_that_was_broken_all_of_the_time_is_learnt() -> None:
    house = House()
    for received in (False, True):
        assert house.first.promises._lost.value == 0
        with pytest.raises(DeadlineExceeded), house.admission.admit(house.first, house.ticket(0.2)) as place:
            place.ticket.received = received  # a slow upload says nothing of the service
            await asyncio.sleep(0.2)
            raise DeadlineExceeded("the deadline passed")
    assert house.first.promises._lost.value > 0


@virtually
async def test_who_is_promised_less_than_the_deadline_is_let_in_by_the_promise() -> None:
    house = House()
    house.busy(1)
    with house.admission.admit(house.second, house.ticket()):
        assert house.late_for(house.ticket(10, promised=1.05)) > 0
        assert house.late_for(house.ticket(10, promised=1.2)) < 0


def test_a_slow_upload_does_not_count_against_the_promise_but_against_the_deadline() -> None:
    ticket = Ticket(deadline=10.0, promised_by=0.5, let_in_at=0.0)
    ticket.receive(2.0)
    assert (ticket.promised_by, ticket.deadline, ticket.received) == (2.5, 10.0, True)
    ticket = Ticket(deadline=0.5, let_in_at=0.0)
    ticket.receive(0.2)
    assert ticket.promised_by == 0.5


@virtually
async def test_a_door_that_a_slow_spell_closed_opens_again() -> None:
    house = House()
    for _ in range(100):
        house.first.times.learn(1, 0.8)  # eight times as long as at start
    assert house.first.times.seconds(1) > 0.7
    assert house.late(0.2) < 0  # nothing else could prove the belief wrong
    assert house.late(0.09) > 0
    with house.admission.admit(house.second, house.ticket()):
        assert house.late(0.2) > 0


@virtually
async def test_while_requests_arrive_faster_than_the_loop_reads_them_none_is_let_in() -> None:
    house = House()
    house.lag.take(0.5)
    with pytest.raises(Overloaded) as caught:
        house.admission.admit(house.first, house.ticket(house.lag.on_the_way - 0.1))
    assert (caught.value.reason, caught.value.retry_after) == ("event_loop", 1)
    assert house.rejected("event_loop") == 1
    with house.admission.admit(house.first, house.ticket(house.lag.on_the_way + 0.2)):
        pass


@virtually
async def test_who_finds_no_time_once_its_body_is_here_was_let_in_and_has_the_reason() -> None:
    house = House()
    house.busy(1)
    with (
        house.admission.admit(house.second, house.ticket(10)),
        pytest.raises(Overloaded),
        house.admission.admit(house.first, house.ticket(10)) as place,
    ):
        place.ticket.allow(0.5, place.ticket.let_in_at)
        house.admission.check_time(house.first, place.ticket)
    assert house.outcomes() == {"expired": 1}
    assert house.rejected("deadline") == 1


@virtually
async def test_a_model_whose_lanes_are_given_up_takes_nobody() -> None:
    house = House()
    house.first.serves = False
    with pytest.raises(NotReady) as caught:
        house.admission.admit(house.first, house.ticket())
    assert caught.value.reason == "no_lane"
    assert house.outcomes() == {"rejected": 1}
    assert house.rejected("no_lane") == 1


@virtually
async def test_while_every_lane_is_being_replaced_images_are_let_in() -> None:
    house = House()
    house.first.lanes._lanes.clear()
    with house.admission.admit(house.second, house.ticket()), house.admission.admit(house.first, house.ticket(0.2)):
        pass


@virtually
async def test_a_model_is_forgotten_once_nobody_inside_needs_it() -> None:
    house = House()
    with house.admission.admit(house.first, house.ticket()):
        removal = asyncio.create_task(house.admission.wait_until_left(house.first))
        with house.admission.admit(house.first, house.ticket()):  # another image of the same request
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not removal.done()
    await removal
    await house.admission.wait_until_left(house.second)
    assert house.admission.inflight == 0


@virtually
async def test_a_ticket_inside_is_not_counted_twice_when_its_deadline_changes() -> None:
    house = House(decode_seconds=1000)
    now = asyncio.get_running_loop().time()
    with house.admission.admit(house.first, house.ticket(60)) as place:
        place.ticket.allow(30, now)
        house.admission.check_time(house.first, place.ticket)  # it is alone: whatever is believed of decoding
        place.ticket.allow(0.05, now)
        with pytest.raises(Overloaded, match="a deadline would be missed"):
            house.admission.check_time(house.first, place.ticket)
    assert house.outcomes() == {"ok": 1}
