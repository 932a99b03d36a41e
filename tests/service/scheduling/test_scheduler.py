"""A scheduler on a clock that jumps: what waits, what is sent to a lane together, and what becomes of it."""

import asyncio
import hashlib
import math
from itertools import pairwise
from typing import Any

import pytest

from service.errors import DeadlineExceeded, EngineFailure, ImageTooLarge, InvalidImage, NotReady
from service.images.announced import Announced
from service.lanes.lane import BatchAnswer, LaneLost, Left
from service.lanes.wire import Item
from service.metrics import Metrics
from service.scheduling.shared_cores import SharedCores
from tests.service.scheduling.model import CURVE, Model, virtually
from tests.virtual_time import DAMAGED, KILLER, POISON, VirtualLane, VirtualLanes

HANGING = 9  # an image over which a lane is ended because it takes too long


class WatchedLanes(VirtualLanes):
    """Remembers how each batch was to be done, and hangs over images that are HANGING."""

    hangs_in_decoding = False

    def __init__(self, *arguments: Any) -> None:
        super().__init__(*arguments)
        self.orders: list[dict[str, Any]] = []

    async def run(self, lane: Any, items: list[Item], longest: float, *, wide: bool, alone: bool) -> BatchAnswer:
        self.orders.append({"longest": longest, "wide": wide, "alone": alone, "images": len(items)})
        if any(item.data[0] == HANGING for item in items):
            await asyncio.sleep(longest)
            self.lose(lane)
            raise LaneLost("hang", "hung", in_decoding=alone and self.hangs_in_decoding)
        return await super().run(lane, items, longest, wide=wide, alone=alone)

    def lose(self, lane: VirtualLane, back_in: float = 0.02) -> None:
        """Another takes its place after `back_in` seconds."""
        self.ready -= 1
        self._lanes.remove(lane)
        if lane in self._free:
            self._free.remove(lane)
        asyncio.get_running_loop().call_later(back_in, self._replace, lane)

    @property
    def first(self) -> VirtualLane:
        return self._lanes[0]


class WatchedModel(Model):
    lanes_are = WatchedLanes
    lanes: WatchedLanes


async def outcomes(tasks: list[asyncio.Task[int]]) -> list[object]:
    """The level of each, or the class of its error."""
    results = await asyncio.gather(*tasks, return_exceptions=True)
    return [result if isinstance(result, int) else type(result) for result in results]


@virtually
async def test_every_image_has_its_own_answer() -> None:
    model = Model(2)
    assert await asyncio.gather(*model.asks(*range(10, 256))) == list(range(10, 256))


@virtually
async def test_a_free_lane_takes_a_lone_image_at_once() -> None:
    model = Model()
    assert await asyncio.gather(*model.asks(10)) == [10]
    (batch,) = model.lanes.played
    assert (batch.began, batch.ended, batch.items) == (0, CURVE[1], [10])


@virtually
async def test_what_waits_while_every_lane_is_busy_becomes_the_next_batches() -> None:
    model = Model()
    first = model.asks(11)
    await asyncio.sleep(0.001)
    waiting = model.asks(12, 13, 14, 15, 16)
    await asyncio.sleep(0.001)
    assert model.count("queue_depth") == 5
    assert model.scheduler.inflight == 6
    assert await asyncio.gather(*first, *waiting) == [11, 12, 13, 14, 15, 16]
    assert model.batches == [[11], [12, 13, 14, 15], [16]]
    assert (model.count("passes_total", reason="idle"), model.count("passes_total", reason="full")) == (2, 1)
    assert (model.count("batch_size_sum"), model.count("batch_size_count")) == (6, 3)
    assert model.count("engine_core_seconds_total") == pytest.approx(2 * CURVE[1] + CURVE[4])
    assert (model.count("queue_depth"), model.scheduler.inflight) == (0, 0)
    assert model.scheduler.statistics.images == 6
    assert {size: total.count for size, total in model.scheduler.statistics.passes.items()} == {1: 2, 4: 1}


@virtually
async def test_whose_client_left_is_dropped_when_the_batch_is_frozen() -> None:
    model = Model()
    first = model.asks(11)
    await asyncio.sleep(0.001)
    gone, stays = model.asks(12, 13)
    await asyncio.sleep(0.001)
    gone.cancel()
    assert await outcomes([*first, gone, stays]) == [11, asyncio.CancelledError, 13]
    assert model.batches == [[11], [13]]
    assert [record["dropped"] for record in model.pass_log.newest_first()] == [1, 0]


@virtually
async def test_whose_client_leaves_during_the_pass_takes_nobody_along() -> None:
    model = Model()
    tasks = model.asks(11, 12, 13)
    await asyncio.sleep(0.015)
    tasks[1].cancel()
    assert await outcomes(tasks) == [11, asyncio.CancelledError, 13]
    assert model.batches == [[11], [12, 13]]


@virtually
async def test_errors_are_each_images_own(caplog: pytest.LogCaptureFixture) -> None:
    model = Model()
    assert await outcomes(model.asks(11, 12, DAMAGED, POISON, 14)) == [11, 12, InvalidImage, EngineFailure, 14]
    assert model.count("batch_size_sum") == 1 + 2  # images that were answered
    (record,) = caplog.records
    assert record.image_sha256 == hashlib.sha256(bytes([POISON])).hexdigest()  # type: ignore[attr-defined]
    assert (record.image_bytes, record.image_format) == (1, "pixels")  # type: ignore[attr-defined]
    assert "poisoned" in record.getMessage()


@virtually
async def test_no_client_reads_what_went_wrong_in_an_engine() -> None:
    with pytest.raises(EngineFailure) as caught:
        await Model().ask(POISON)
    assert "poisoned" not in caught.value.message


@virtually
async def test_the_images_of_a_lost_lane_go_once_more_one_at_a_time() -> None:
    model = WatchedModel(2)
    tasks = model.asks(11, 12, 13, KILLER, 14, 15)
    assert await outcomes(tasks) == [11, 12, 13, EngineFailure, 14, 15]
    assert sorted(model.batches) == [[11], [12], [13], [14], [15]]
    assert [order["alone"] for order in model.lanes.orders] == [False, False, False, True, True, True, True]


@virtually
async def test_only_over_the_second_lane_that_is_lost_an_image_fails() -> None:
    model = WatchedModel()
    assert await outcomes(model.asks(11, KILLER)) == [11, EngineFailure]
    assert [order["images"] for order in model.lanes.orders] == [1, 1, 1]


@virtually
async def test_a_suspect_waits_for_another_lane_but_not_for_ever() -> None:
    class Dying(WatchedLanes):
        async def run(self, lane: Any, items: list[Item], longest: float, *, wide: bool, alone: bool) -> BatchAnswer:
            if self.orders:
                return await super().run(lane, items, longest, wide=wide, alone=alone)
            self.orders.append({})
            self.lose(lane, back_in=60)
            raise LaneLost("crash", "killed by somebody else", in_decoding=False)

    class DyingModel(WatchedModel):
        lanes_are = Dying

    model, loop = DyingModel(2), asyncio.get_running_loop()
    patient, hurried = model.ticket(seconds=5), model.ticket(seconds=1)
    assert await asyncio.gather(model.ask(11, hurried), model.ask(12, patient), model.ask(13)) == [11, 12, 13]
    tried = {level: batch.began for batch in model.lanes.played for level in batch.items}
    assert 0.5 <= tried[11] < 0.55  # half of its time is left
    assert loop.time() < 1.1


@virtually
async def test_a_suspect_is_not_tried_on_the_last_of_several_lanes() -> None:
    model = WatchedModel(2)
    lost = model.asks(KILLER)
    await asyncio.sleep(0.001)
    assert model.lanes.ready == 1
    others = model.asks(11, 12)
    assert await outcomes([*others, *lost]) == [11, 12, EngineFailure]
    began = [batch.began for batch in model.lanes.played]
    assert max(began) < 0.02  # before a lane took the lost one's place


@pytest.mark.parametrize(("in_decoding", "error"), [(True, ImageTooLarge), (False, EngineFailure)])
@virtually
async def test_an_image_that_hangs_fails_alone(in_decoding: bool, error: type[Exception]) -> None:
    model = WatchedModel(2)
    model.lanes.hangs_in_decoding = in_decoding
    assert await outcomes(model.asks(11, 12, 13, HANGING, 14)) == [11, 12, 13, error, 14]


@virtually
async def test_a_batch_hangs_after_two_seconds_or_twenty_times_its_forecast() -> None:
    model = WatchedModel()
    await model.ask(10)
    await model.ask(11, model.ticket(decode_seconds=0.5))
    assert [order["longest"] for order in model.lanes.orders] == pytest.approx([2.0, 20 * (0.5 + CURVE[1])])


@virtually
async def test_a_lone_image_has_all_cores_if_nobody_else_is_there() -> None:
    model = WatchedModel(2)
    await model.ask(10)
    await asyncio.gather(*model.asks(11, 12))
    first = model.asks(13)
    await asyncio.sleep(0.001)
    await asyncio.gather(*first, *model.asks(14))
    wide = [order["wide"] for order in model.lanes.orders]
    assert wide[0]
    assert not wide[-1]
    assert [record["wide"] for record in model.pass_log.newest_first()][-1]


@virtually
async def test_passes_on_all_cores_say_nothing_of_others() -> None:
    class Wide(WatchedLanes):
        async def run(self, lane: Any, items: list[Item], longest: float, *, wide: bool, alone: bool) -> BatchAnswer:
            answer = await super().run(lane, items, longest, wide=wide, alone=alone)
            if not wide:
                return answer
            return BatchAnswer(answer.outcomes, answer.began, answer.pass_started, answer.pass_started + 0.001)

    class WideModel(WatchedModel):
        lanes_are = Wide

    model = WideModel()
    for _ in range(50):
        await model.ask(10)
    assert model.times.seconds(1) == CURVE[1]


@virtually
async def test_forecasts_follow_what_batches_take() -> None:
    class Slow(WatchedLanes):
        async def run(self, lane: Any, items: list[Item], longest: float, *, wide: bool, alone: bool) -> BatchAnswer:
            answer = await super().run(lane, items, longest, wide=wide, alone=alone)
            ended = answer.pass_started + 2 * CURVE[len(items)]
            return BatchAnswer(answer.outcomes, answer.began, answer.pass_started, ended)

    class SlowModel(WatchedModel):
        lanes_are = Slow

    model = SlowModel()
    for _ in range(50):
        await asyncio.gather(*model.asks(10, 11, 12, 13, 14))
    assert model.times.seconds(4) == pytest.approx(2 * CURVE[4], rel=0.05)


@virtually
async def test_images_that_a_lane_had_no_time_for_have_another_batch() -> None:
    class Leaving(WatchedLanes):
        async def run(self, lane: Any, items: list[Item], longest: float, *, wide: bool, alone: bool) -> BatchAnswer:
            first, *others = items
            answer = await super().run(lane, [first], longest, wide=wide, alone=alone)
            return answer._replace(outcomes=[*answer.outcomes, *(Left() for _ in others)])

    class LeavingModel(WatchedModel):
        lanes_are = Leaving

    model = LeavingModel()
    tickets = [model.ticket() for _ in range(4)]
    tickets[3].image = Announced("PNG", 10**6)
    asked = [asyncio.create_task(model.ask(10 + n, ticket)) for n, ticket in enumerate(tickets)]
    await asyncio.sleep(0.001)
    asked[2].cancel()  # whose client leaves meanwhile
    assert await outcomes([asked[0], asked[1], asked[3]]) == [10, 11, 13]
    assert model.batches == [[10], [11], [13]]
    assert model.lanes.budgets[0] == pytest.approx(1.25 * CURVE[4], rel=0.01)  # what an ordinary batch may take
    assert tickets[3].decode_seconds > 0  # it was forecast anew
    assert (model.count("queue_depth"), model.scheduler.inflight, len(model.promises)) == (0, 0, 0)


@virtually
async def test_images_that_take_long_to_decode_never_hold_every_lane() -> None:
    model = WatchedModel(2)
    slow = [asyncio.create_task(model.ask(level, model.ticket(decode_seconds=0.6))) for level in (20, 21)]
    await asyncio.sleep(0.001)
    assert len(model.lanes.orders) == 1
    assert model.lanes.has_free
    quick = model.asks(11)
    await asyncio.sleep(0)
    await asyncio.sleep(0)
    assert len(model.lanes.orders) == 2
    assert await asyncio.gather(*slow, *quick) == [20, 21, 11]
    assert model.batches.index([21]) > model.batches.index([20])


@virtually
@pytest.mark.parametrize("known", [{"longest_decode": math.inf}, {"longest_decode": 0.6}, {"suspect": True}])
async def test_images_that_may_take_long_to_decode_never_hold_every_lane(known: dict[str, Any]) -> None:
    model = WatchedModel(2)
    tickets = [model.ticket() for _ in range(2)]
    for ticket in tickets:
        for name, value in known.items():
            setattr(ticket, name, value)
    slow = [asyncio.create_task(model.ask(level, ticket)) for level, ticket in zip((20, 21), tickets, strict=True)]
    await asyncio.sleep(0.001)
    assert len(model.lanes.orders) == 1
    assert model.lanes.has_free
    assert await asyncio.gather(*slow) == [20, 21]


@virtually
async def test_with_one_lane_images_that_take_long_are_served_too() -> None:
    model = WatchedModel()
    slow = [asyncio.create_task(model.ask(level, model.ticket(decode_seconds=0.6))) for level in (20, 21)]
    assert await asyncio.gather(*slow) == [20, 21]


@virtually
async def test_whose_deadline_cannot_be_met_is_dropped_when_the_batch_is_frozen() -> None:
    model = Model()
    first = model.asks(11)
    await asyncio.sleep(0.001)
    late = asyncio.create_task(model.ask(12, model.ticket(0.015)))
    later = model.asks(13)
    assert await outcomes([*first, late, *later]) == [11, DeadlineExceeded, 13]
    assert model.batches == [[11], [13]]


@virtually
async def test_one_alone_is_tried_whatever_is_believed_of_passes() -> None:
    model = Model()
    for _ in range(50):
        model.times.learn(1, 0.1)  # ten times as long as at start
    model.lanes._times = type(model.times)(CURVE)  # which is no longer true
    assert await model.ask(11, model.ticket(0.02)) == 11
    with pytest.raises(DeadlineExceeded):
        await model.ask(12, model.ticket(0.009))


@virtually
async def test_stopping_answers_who_waits_and_refuses_who_comes() -> None:
    model = Model()
    tasks = model.asks(11, 12, 13, 14, 15, 16)
    await asyncio.sleep(0.001)
    stopping = asyncio.create_task(model.scheduler.stop())
    await asyncio.sleep(0.001)
    with pytest.raises(NotReady) as refused:
        await model.ask(17)
    assert refused.value.reason == "draining"
    await stopping
    assert [task.result() for task in tasks] == [11, 12, 13, 14, 15, 16]
    assert [record["reason"] for record in model.pass_log.newest_first()] == ["drain", "full", "idle"]
    assert model.count("queue_depth") == 0


@virtually
async def test_stopping_waits_for_no_lane_that_is_busy_for_nobody() -> None:
    model = WatchedModel()
    (task,) = model.asks(HANGING)
    await asyncio.sleep(0.001)
    stopping = asyncio.create_task(model.scheduler.stop())
    await asyncio.sleep(0.1)
    assert not stopping.done()
    task.cancel()
    await asyncio.sleep(0.001)
    assert stopping.done()


@virtually
async def test_stopping_waits_for_no_batch_to_fill() -> None:
    model = Model(max_queue_delay=10)
    tasks = model.asks(11, 12)
    await asyncio.sleep(1)
    await model.scheduler.stop()
    assert [task.result() for task in tasks] == [11, 12]
    assert asyncio.get_running_loop().time() < 2


@virtually
async def test_stopping_without_a_lane_leaves_nobody_waiting() -> None:
    model = WatchedModel()
    model.lanes.lose(model.lanes.first, back_in=1000)
    (task,) = model.asks(11)
    await asyncio.sleep(0.001)
    await model.scheduler.stop()
    assert await outcomes([task]) == [NotReady]
    assert model.count("queue_depth") == 0


@virtually
async def test_who_waits_while_no_lane_serves_is_answered_by_the_next() -> None:
    model = WatchedModel()
    model.lanes.lose(model.lanes.first, back_in=0.5)
    assert await asyncio.gather(*model.asks(11, 12)) == [11, 12]


@virtually
async def test_versions_of_a_model_add_up_in_its_queue_depth() -> None:
    metrics, cores = Metrics(), SharedCores(1)
    old, new = Model(metrics=metrics, cores=cores), Model(metrics=metrics, cores=cores)
    tasks = old.asks(11)
    await asyncio.sleep(0.001)
    tasks += old.asks(12, 13) + new.asks(14)
    await asyncio.sleep(0.001)
    assert old.count("queue_depth") == 3
    assert await asyncio.gather(*tasks) == [11, 12, 13, 14]
    assert old.count("queue_depth") == 0


@virtually
async def test_models_take_turns_on_the_cores_that_they_share() -> None:
    metrics, cores = Metrics(), SharedCores(1)
    first, second = (Model(metrics=metrics, name=name, cores=cores) for name in ("first", "second"))
    tasks = first.asks(*range(10, 22)) + second.asks(*range(30, 42))
    assert await asyncio.gather(*tasks) == [*range(10, 22), *range(30, 42)]
    played = sorted(
        (batch.began, batch.ended, model.metrics.model) for model in (first, second) for batch in model.lanes.played
    )
    assert all(ended <= began for (_, ended, _), (began, _, _) in pairwise(played))
    names = [name for _, _, name in played]
    assert names[:5] in (["first", "second"] * 2 + ["first"], ["first", "second", "second", "first", "second"])


@virtually
async def test_what_is_promised_counts_with_the_other_models_share() -> None:
    metrics, cores = Metrics(), SharedCores(1)
    first, second = (Model(metrics=metrics, name=name, cores=cores) for name in ("first", "second"))

    def late(seconds: float) -> float:
        return first.promises.seconds_late(first.ticket(seconds), alone=False)

    assert late(0.011) < 0 < late(0.009)
    tasks = second.asks(*range(10, 30))
    await asyncio.sleep(0)
    assert late(0.021) < 0 < late(0.019)
    await asyncio.gather(*tasks)
    assert late(0.011) < 0 < late(0.009)


@virtually
async def test_a_pass_log_says_how_a_batch_was() -> None:
    model = Model(decode_seconds=0.002)
    first = model.asks(11)
    await asyncio.sleep(0.004)
    await asyncio.gather(*first, *model.asks(12, 13, 14, 15, 16))
    record = model.pass_log.newest_first()[1]
    assert record == {
        "at": pytest.approx(0.012),
        "model": "m",
        "size": 4,
        "reason": "full",
        "left_waiting": 1,
        "dropped": 0,
        "waited_ms": pytest.approx(8),
        "forecast_ms": pytest.approx(25),
        "batch_ms": pytest.approx(33),
        "pass_ms": pytest.approx(25),
        "wide": False,
    }
