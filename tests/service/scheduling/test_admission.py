import asyncio
from contextlib import ExitStack

import pytest
from service.lanes.decode_pool import DecodePool, PixelBudget
from service.lanes.engine_thread import EngineRunner

from service.engines.curve import PassTimes
from service.errors import DeadlineExceeded, InvalidImage, NotReady, Overloaded
from service.metrics import OUTCOMES, Metrics
from service.scheduling.admission import Admission
from service.scheduling.forecast import Prediction
from service.scheduling.loop_lag import LoopLag
from service.scheduling.pass_log import PassLog
from service.scheduling.scheduler import BatchPolicy, Scheduler
from service.scheduling.ticket import Ticket
from tests.doubles import EchoEngine

pytestmark = pytest.mark.anyio


class House:
    """An admission in front of two idle models whose passes take 100 ms, whatever their size, up to 4 images."""

    def __init__(self, max_images: int = 100, max_bytes: int = 1000, decode_seconds: float = 0.0) -> None:
        self.metrics, runner = Metrics(), EngineRunner()
        times = PassTimes({1: 0.1, 4: 0.1})
        self.runner = runner
        self.first, self.second = (
            Scheduler(
                name,
                EchoEngine(),
                runner,
                policy=BatchPolicy(4),
                pass_times=times,
                metrics=self.metrics,
                pass_log=PassLog(),
            )
            for name in ("first", "second")
        )
        pool = DecodePool(1, decode_seconds)
        self.prediction = Prediction(pool, LoopLag())
        self.admission = Admission(max_images, max_bytes, self.prediction, self.metrics)
        for scheduler in (self.first, self.second):
            self.metrics.add_model(scheduler.model, 1)
            scheduler.start()

    def ticket(self, seconds: float = 1000) -> Ticket:
        return Ticket(asyncio.get_running_loop().time() + seconds)

    def busy(self, seconds: float) -> None:
        self.runner.busy_until = asyncio.get_running_loop().time() + seconds

    def outcomes(self, model: str = "first") -> dict[str, float]:
        counts = {
            outcome: self.metrics.registry.get_sample_value("mixer_images_total", {"model": model, "outcome": outcome})
            for outcome in OUTCOMES
        }
        return {outcome: count for outcome, count in counts.items() if count}

    def late_for(self, ticket: Ticket) -> float:
        return self.prediction.seconds_late(self.first, ticket, alone=not self.admission.inflight)

    def late(self, seconds: float) -> float:
        return self.late_for(self.ticket(seconds))


@pytest.mark.parametrize(
    ("error", "outcome"),
    [
        (InvalidImage("x"), "invalid"),
        (DeadlineExceeded("x"), "expired"),
        (asyncio.CancelledError(), "cancelled"),
        (ZeroDivisionError(), "error"),
    ],
)
async def test_how_the_block_ends_is_how_the_image_ends(error: BaseException, outcome: str) -> None:
    house = House()
    with pytest.raises(type(error)), house.admission.admit(house.first, house.ticket()):
        raise error
    with house.admission.admit(house.first, house.ticket()):
        assert house.admission.inflight == 1
    assert house.outcomes() == {outcome: 1, "ok": 1}
    assert house.metrics.registry.get_sample_value("mixer_admitted_images_total", {"model": "first"}) == 2
    assert house.admission.inflight == 0


async def test_images_and_bytes_are_bounded() -> None:
    house = House(max_images=2, max_bytes=1000)
    with house.admission.admit(house.first, house.ticket(), 600):
        with pytest.raises(Overloaded) as caught, house.admission.admit(house.first, house.ticket(), 500):
            pass
        assert (caught.value.reason, caught.value.retry_after) == ("inflight_bytes", 1)
        with house.admission.admit(house.first, house.ticket(), 400):
            assert house.metrics.registry.get_sample_value("mixer_inflight_images") == 2
            with pytest.raises(Overloaded) as caught, house.admission.admit(house.second, house.ticket()):
                pass
            assert caught.value.reason == "inflight_images"
    with house.admission.admit(house.first, house.ticket(), 1000):
        pass
    assert house.outcomes() == {"rejected": 1, "ok": 3}
    assert house.outcomes("second") == {"rejected": 1}


async def test_whom_an_idle_engine_can_answer_is_let_in() -> None:
    house = House()
    assert house.late(0.11) < 0
    assert house.late(0.09) == pytest.approx(0.01, abs=0.005)


async def test_the_pass_in_flight_and_those_ahead_take_their_time() -> None:
    house = House()
    house.busy(1)
    assert house.late(1.15) < 0 < house.late(1.05)
    with ExitStack() as stack:
        for _ in range(4):
            stack.enter_context(house.admission.admit(house.first, house.ticket(10)))
        assert house.late(9) < 0
        assert house.late(1.15) < 0  # those with later deadlines let it go first
        for _ in range(4):
            stack.enter_context(house.admission.admit(house.first, house.ticket(1.16)))
        assert house.late(9) < 0
        assert house.late(1.17) > 0  # behind a full batch


async def test_nobody_is_let_in_who_would_make_another_late() -> None:
    house = House()
    house.busy(1)
    with ExitStack() as stack:
        for _ in range(4):  # just fit into one pass
            stack.enter_context(house.admission.admit(house.first, house.ticket(1.16)))
        with pytest.raises(Overloaded) as caught, house.admission.admit(house.first, house.ticket(1.155)):
            pass
        assert (caught.value.reason, caught.value.retry_after) == ("deadline", 1)
        assert house.late(1.3) < 0  # behind them there is room


async def test_the_time_to_retry_is_how_late_it_would_have_been() -> None:
    house = House()
    house.busy(7)
    with pytest.raises(Overloaded) as caught, house.admission.admit(house.first, house.ticket(2)):
        pass
    assert caught.value.retry_after == 6


async def test_models_take_turns() -> None:
    house = House()
    with ExitStack() as stack:
        for _ in range(8):  # two passes of the other model
            stack.enter_context(house.admission.admit(house.second, house.ticket()))
        assert house.late(0.21) < 0 < house.late(0.19)  # one of them comes before this model's first


async def test_decoding_takes_its_time_too() -> None:
    house = House(decode_seconds=0.5)
    with house.admission.admit(house.first, house.ticket()) as first:
        assert house.late(0.61) < 0 < house.late(0.59)  # what is still being uploaded keeps no thread busy
        first.received = True
        assert house.late(1.11) < 0 < house.late(1.09)


async def test_an_idle_service_tries_whatever_it_believes_of_decoding() -> None:
    house = House(decode_seconds=500)
    assert house.late(0.2) < 0
    assert house.late(0.09) > 0  # a pass alone takes longer
    with house.admission.admit(house.first, house.ticket()):
        assert house.late(0.2) > 0


async def test_time_that_no_prediction_sees_is_kept_in_hand() -> None:
    house = House()
    loop = asyncio.get_running_loop()
    for _ in range(100):
        with house.admission.admit(house.first, house.ticket()) as ticket:
            ticket.ready_by = ticket.queued_at = loop.time()
            ticket.answered_at = loop.time() - 0.05  # the loop took so long to come round
    assert house.prediction.margin == pytest.approx(0.05, rel=0.1)
    house.busy(0.05)
    with house.admission.admit(house.first, house.ticket()):
        assert house.late(0.18) > 0
        assert house.late(0.22) < 0


async def test_who_is_promised_less_than_the_deadline_is_let_in_by_the_promise() -> None:
    house = House()
    house.busy(1)
    now = asyncio.get_running_loop().time()
    assert house.late_for(Ticket(now + 10, due=now + 1.05)) > 0
    assert house.late_for(Ticket(now + 10, due=now + 1.2)) < 0


def test_a_slow_upload_does_not_count_against_the_promise_but_against_the_deadline() -> None:
    ticket = Ticket(deadline=10.0, due=0.5)
    ticket.receive(now=2.0)
    assert (ticket.due, ticket.deadline, ticket.received) == (2.5, 10.0, True)
    ticket = Ticket(deadline=0.5)
    ticket.receive(now=0.2)
    assert ticket.due == 0.5


async def test_a_door_that_a_slow_spell_closed_opens_again() -> None:
    house = House()
    for _ in range(100):
        house.first.pass_times.learn(1, 0.8)  # eight times as long as at start
    assert house.first.pass_times.seconds(1) > 0.7
    assert house.late(0.2) < 0  # nothing else could prove the belief wrong
    assert house.late(0.09) > 0
    with house.admission.admit(house.first, house.ticket()):
        assert house.late(0.2) > 0


async def test_who_was_let_in_is_never_counted_as_rejected() -> None:
    house = House()
    with pytest.raises(Overloaded), house.admission.admit(house.first, house.ticket()):
        raise Overloaded("no time left after all")
    assert house.outcomes() == {"expired": 1}


async def test_a_dead_scheduler_takes_nobody() -> None:
    house = House()
    await house.first.close()
    with pytest.raises(NotReady), house.admission.admit(house.first, house.ticket()):
        pass
    assert house.outcomes() == {"rejected": 1}


async def test_pixels_are_bounded_by_waiting() -> None:
    budget, order = PixelBudget(10), []

    def hold(
        pixels: int, entered: asyncio.Event, leave: "asyncio.Future[None]", loop: asyncio.AbstractEventLoop
    ) -> None:
        with budget.reserve(pixels):
            order.append(pixels)
            loop.call_soon_threadsafe(entered.set)
            asyncio.run_coroutine_threadsafe(asyncio.wait_for(asyncio.shield(leave), 10), loop).result()

    loop = asyncio.get_running_loop()
    entered, leave = [asyncio.Event(), asyncio.Event()], [loop.create_future(), loop.create_future()]
    threads = [asyncio.create_task(asyncio.to_thread(hold, 7, entered[0], leave[0], loop))]
    await entered[0].wait()
    threads.append(asyncio.create_task(asyncio.to_thread(hold, 4, entered[1], leave[1], loop)))
    assert not entered[1].is_set()
    leave[0].set_result(None)
    await entered[1].wait()
    leave[1].set_result(None)
    await asyncio.gather(*threads)
    assert order == [7, 4]


async def test_a_model_is_forgotten_once_nobody_inside_needs_it() -> None:
    house = House()
    with house.admission.admit(house.first, house.ticket()):
        removal = asyncio.create_task(house.admission.wait_until_left(house.first))
        with house.admission.admit(house.first, house.ticket()):  # another image of the same request
            await asyncio.sleep(0)
        await asyncio.sleep(0)
        assert not removal.done()
    async with asyncio.timeout(10):
        await removal
    await house.admission.wait_until_left(house.second)
    assert house.admission.inflight == 0


async def test_a_ticket_inside_is_not_counted_twice_when_its_deadline_changes() -> None:
    house = House(decode_seconds=1000)
    with house.admission.admit(house.first, house.ticket(60)) as ticket:
        ticket.allow(30, house.first.now())
        house.admission.check_time(house.first, ticket)  # it is alone: whatever is believed of decoding
        ticket.allow(0.05, house.first.now())
        with pytest.raises(Overloaded, match="a deadline would be missed"):
            house.admission.check_time(house.first, ticket)
    assert house.outcomes() == {"ok": 1}
