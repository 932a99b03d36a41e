import asyncio
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from itertools import pairwise

import numpy as np
import pytest
from service.lanes.engine_thread import EngineRunner
from service.lanes.shared_cores import Turns

from service.engines.curve import PassTimes
from service.errors import DeadlineExceeded, EngineFailure, NotReady
from service.metrics import Metrics
from service.scheduling.pass_log import PassLog
from service.scheduling.scheduler import BatchPolicy, Scheduler
from service.scheduling.ticket import Priority, Ticket
from tests.doubles import EchoEngine, FailingEngine, GatedEngine, level_pixels
from tests.virtual_time import VirtualRunner, run_virtually

pytestmark = pytest.mark.anyio


def make_scheduler(
    model: str, engine: EchoEngine, runner: EngineRunner, policy: BatchPolicy, metrics: Metrics
) -> Scheduler:
    times = PassTimes({1: 0.001, policy.max_batch_size: 0.001 * policy.max_batch_size})
    return Scheduler(model, engine, runner, policy=policy, pass_times=times, metrics=metrics, pass_log=PassLog())


def ticket(seconds: float = 60, priority: Priority = "interactive") -> Ticket:
    return Ticket(asyncio.get_running_loop().time() + seconds, priority)


@asynccontextmanager
async def running(
    engine: EchoEngine, max_batch_size: int = 4, metrics: Metrics | None = None, longest_pass: float = 60
) -> AsyncIterator[Scheduler]:
    metrics = metrics or Metrics()
    scheduler = make_scheduler("echo", engine, EngineRunner(), BatchPolicy(max_batch_size, 0, longest_pass), metrics)
    scheduler.start()
    try:
        yield scheduler
    finally:
        if isinstance(engine, GatedEngine):
            engine.gate.set()
        await scheduler.close()


def submit(scheduler: Scheduler, *levels: int) -> list[asyncio.Task[int]]:
    """Submit one image a level; each task's result is the level that came back."""

    async def one(level: int) -> int:
        return int((await scheduler.submit(level_pixels(level), ticket())).logits.argmax())

    return [asyncio.create_task(one(level)) for level in levels]


async def pass_begun(engine: GatedEngine) -> None:
    assert await asyncio.to_thread(engine.entered.acquire, timeout=10)


async def queued(condition: Callable[[], bool]) -> None:
    async with asyncio.timeout(10):
        while not condition():
            await asyncio.sleep(0)


async def test_every_image_gets_its_own_answer() -> None:
    async with running(EchoEngine()) as scheduler:
        assert await asyncio.gather(*submit(scheduler, *range(256))) == list(range(256))


async def test_an_idle_engine_takes_a_lone_image_at_once() -> None:
    engine = EchoEngine()
    async with running(engine) as scheduler:
        await asyncio.gather(*submit(scheduler, 5))
    assert engine.batch_sizes == [1]


async def test_what_waits_while_the_engine_runs_becomes_the_next_batches() -> None:
    engine, metrics = GatedEngine(), Metrics()
    async with running(engine, max_batch_size=4, metrics=metrics) as scheduler:
        first = submit(scheduler, 1)
        await pass_begun(engine)
        waiting = submit(scheduler, 2, 3, 4, 5, 6)
        await queued(lambda: metrics.registry.get_sample_value("mixer_queue_depth", {"model": "echo"}) == 5)
        engine.gate.set()
        assert await asyncio.gather(*first, *waiting) == [1, 2, 3, 4, 5, 6]
    assert engine.batch_sizes == [1, 4, 1]
    passes = {
        reason: metrics.registry.get_sample_value("mixer_passes_total", {"model": "echo", "reason": reason})
        for reason in ("idle", "full")
    }
    assert passes == {"idle": 2, "full": 1}
    assert metrics.registry.get_sample_value("mixer_batch_size_sum", {"model": "echo"}) == 6
    assert metrics.registry.get_sample_value("mixer_engine_core_seconds_total", {"model": "echo"}) > 0


async def test_a_cancelled_ticket_is_dropped_when_the_batch_freezes() -> None:
    engine = GatedEngine()
    async with running(engine) as scheduler:
        first = submit(scheduler, 1)
        await pass_begun(engine)
        gone, stays = submit(scheduler, 2, 3)
        await asyncio.sleep(0)
        gone.cancel()
        engine.gate.set()
        assert await asyncio.gather(*first, stays) == [1, 3]
    assert engine.batch_sizes == [1, 1]


async def test_cancelling_one_ticket_of_a_running_pass_leaves_the_others() -> None:
    engine = GatedEngine()
    async with running(engine) as scheduler:
        tasks = submit(scheduler, 1, 2, 3)
        await pass_begun(engine)
        tasks[1].cancel()
        engine.gate.set()
        assert await asyncio.gather(tasks[0], tasks[2]) == [1, 3]
    assert engine.batch_sizes == [3]


async def test_only_the_culprit_of_a_failed_pass_fails() -> None:
    engine = FailingEngine()
    async with running(engine, max_batch_size=8) as scheduler:
        results = await asyncio.gather(*submit(scheduler, 1, 66, 3, 4), return_exceptions=True)
        assert [results[0], *results[2:]] == [1, 3, 4]
        assert isinstance(results[1], EngineFailure)
        assert "secret" not in str(results[1])
        assert scheduler.engine_works
        assert await asyncio.gather(*submit(scheduler, 7)) == [7]


async def test_an_engine_that_fails_on_everything_is_noticed_and_so_is_its_recovery() -> None:
    engine = FailingEngine()
    async with running(engine) as scheduler:
        engine.broken = True
        with pytest.raises(EngineFailure):
            await scheduler.submit(level_pixels(1), ticket())
        assert not scheduler.engine_works
        engine.broken = False
        await scheduler.submit(level_pixels(1), ticket())
        assert scheduler.engine_works


async def test_a_wrong_number_of_rows_is_an_engine_failure() -> None:
    class ShortEngine(EchoEngine):
        def run(self, pixels):  # type: ignore[no-untyped-def]
            return super().run(pixels)[:-1]

    async with running(ShortEngine()) as scheduler:
        with pytest.raises(EngineFailure):
            await scheduler.submit(level_pixels(1), ticket())


async def test_closing_answers_what_waits_and_refuses_what_comes() -> None:
    engine, metrics = GatedEngine(), Metrics()
    async with running(engine, max_batch_size=2, metrics=metrics) as scheduler:
        tasks = submit(scheduler, 1, 2, 3, 4, 5)
        await pass_begun(engine)
        closing = asyncio.create_task(scheduler.close())
        await asyncio.sleep(0)
        with pytest.raises(NotReady):
            await scheduler.submit(level_pixels(9), ticket())
        engine.gate.set()
        await closing
        assert [task.result() for task in tasks] == [1, 2, 3, 4, 5]
        assert not scheduler.alive


async def test_a_dead_scheduler_leaves_nobody_waiting(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = EchoEngine()
    async with running(engine) as scheduler:

        def broken() -> None:
            raise AssertionError("a bug in the scheduler")

        monkeypatch.setattr(scheduler, "_freeze", broken)
        async with asyncio.timeout(10):
            with pytest.raises(NotReady):
                await scheduler.submit(level_pixels(1), ticket())
            assert not scheduler.alive
            with pytest.raises(NotReady):
                await scheduler.submit(level_pixels(1), ticket())


async def test_two_models_take_turns_on_the_one_engine_thread() -> None:
    runner, engines = EngineRunner(), [GatedEngine(), GatedEngine()]
    schedulers = [
        make_scheduler(f"m{i}", engine, runner, BatchPolicy(4), Metrics()) for i, engine in enumerate(engines)
    ]
    for scheduler in schedulers:
        scheduler.start()
    tasks = submit(schedulers[0], 1)
    await pass_begun(engines[0])
    tasks += submit(schedulers[1], 2)
    await asyncio.sleep(0)
    assert not engines[1].entered.acquire(blocking=False)
    engines[1].gate.set()
    engines[0].gate.set()
    assert await asyncio.gather(*tasks) == [1, 2]
    for scheduler in schedulers:
        await scheduler.close()


async def test_a_hung_pass_fails_its_tickets_and_those_behind_at_once() -> None:
    engine = GatedEngine()
    async with running(engine, max_batch_size=1, longest_pass=0.05) as scheduler:
        assert scheduler.beats
        tasks = submit(scheduler, 1, 2)
        results = await asyncio.gather(*tasks, return_exceptions=True)
        assert [type(result) for result in results] == [EngineFailure, EngineFailure]
        assert not scheduler.beats
        with pytest.raises(NotReady):
            await scheduler.submit(level_pixels(3), ticket())
        engine.gate.set()
        await queued(lambda: scheduler.beats)
        await queued(lambda: not scheduler.engine_works)
        assert await asyncio.gather(*submit(scheduler, 4)) == [4]
        assert scheduler.engine_works


async def test_a_hang_is_noticed_by_every_model_on_the_engine_thread() -> None:
    runner, engines = EngineRunner(), [GatedEngine(), GatedEngine()]
    hangs, waits = (
        make_scheduler(f"m{i}", engine, runner, BatchPolicy(4, longest_pass=0.05), Metrics())
        for i, engine in enumerate(engines)
    )
    for scheduler in (hangs, waits):
        scheduler.start()
    tasks = submit(hangs, 1)
    await pass_begun(engines[0])
    tasks += submit(waits, 2)
    results = await asyncio.gather(*tasks, return_exceptions=True)
    assert [type(result) for result in results] == [EngineFailure, EngineFailure]
    assert not waits.beats
    for engine in engines:
        engine.gate.set()
    await queued(lambda: waits.beats)
    assert await asyncio.gather(*submit(waits, 3)) == [3]
    for scheduler in (hangs, waits):
        await scheduler.close()


async def test_a_hang_while_images_are_retried_leaves_none_waiting() -> None:
    class FailsThenHangs(GatedEngine):
        def run(self, pixels):  # type: ignore[no-untyped-def]
            if len(pixels) > 1:
                raise RuntimeError("the whole batch fails")
            return super().run(pixels)

    engine = FailsThenHangs()
    async with running(engine, max_batch_size=4, longest_pass=0.05) as scheduler:
        results = await asyncio.gather(*submit(scheduler, 1, 2, 3, 4), return_exceptions=True)
        assert [type(result) for result in results] == [EngineFailure] * 4


async def test_a_ticket_whose_deadline_cannot_be_met_is_dropped_when_the_batch_freezes() -> None:
    engine = GatedEngine()
    async with running(engine) as scheduler:
        first = submit(scheduler, 1)
        await pass_begun(engine)
        late = asyncio.create_task(scheduler.submit(level_pixels(2), ticket(seconds=0.0005)))
        later = submit(scheduler, 3)
        await asyncio.sleep(0)
        engine.gate.set()
        with pytest.raises(DeadlineExceeded):
            await late
        assert await asyncio.gather(*first, *later) == [1, 3]
    assert engine.batch_sizes == [1, 1]


async def test_an_engine_that_stumbles_once_is_asked_again() -> None:
    class Stumbling(EchoEngine):
        def run(self, pixels):  # type: ignore[no-untyped-def]
            logits = super().run(pixels)
            if len(self.batch_sizes) == 1:
                raise RuntimeError("once")
            return logits

    engine = Stumbling()
    async with running(engine) as scheduler:
        assert await asyncio.gather(*submit(scheduler, 9)) == [9]
    assert engine.batch_sizes == [1, 1]


async def test_logits_that_are_no_numbers_fail_their_image_alone() -> None:
    class Poisoned(EchoEngine):
        def run(self, pixels):  # type: ignore[no-untyped-def]
            logits = super().run(pixels)
            logits[(pixels == 66).all(axis=(1, 2, 3))] = float("nan")
            return logits

    async with running(Poisoned()) as scheduler:
        good, bad = await asyncio.gather(*submit(scheduler, 5, 66), return_exceptions=True)
    assert good == 5
    assert isinstance(bad, EngineFailure)


def test_the_passes_of_a_load_take_turns_with_live_ones_and_are_foreseen() -> None:
    async def main() -> None:
        runner, engine = VirtualRunner(PassTimes({1: 0.1, 4: 0.4})), EchoEngine()
        scheduler = make_scheduler("echo", engine, runner, BatchPolicy(1), Metrics())
        scheduler.start()
        alone, began = scheduler.seconds(1), scheduler.now()
        assert (await runner.measure(engine, np.stack([level_pixels(1)])))[1] == pytest.approx(0.1)
        assert scheduler.seconds(1) == alone

        async def load() -> None:
            for _ in range(2):
                await runner.measure(engine, np.stack([level_pixels(3)] * 4))

        loading = asyncio.create_task(load())
        await asyncio.sleep(0)
        live = submit(scheduler, 1, 2)
        await asyncio.sleep(0.1)
        assert scheduler.engine_free_at(scheduler.now()) == pytest.approx(began + 0.1 + 0.4)
        assert scheduler.seconds(1) == pytest.approx(alone + 0.4)
        assert await asyncio.gather(*live) == [1, 2]
        await loading
        assert engine.batch_sizes == [1, 4, 1, 4, 1]
        assert all(end <= begin for (_, end), (begin, _) in pairwise(runner.passes))
        await scheduler.close()

    run_virtually(main())


def test_decoding_lets_a_pass_go_after_a_batch_of_whichever_model_has_the_largest() -> None:
    async def main() -> None:
        turns = Turns(16)
        runner = EngineRunner(turns)
        small, large = (make_scheduler("m", EchoEngine(), runner, BatchPolicy(size), Metrics()) for size in (2, 8))
        small.start()
        assert turns.images == 2
        large.start()
        assert turns.images == 8
        await large.close()
        assert turns.images == 2
        await small.close()

    run_virtually(main())


async def test_versions_of_a_model_add_up_in_its_queue_depth() -> None:
    metrics, engines = Metrics(), [GatedEngine(), GatedEngine()]
    runner = EngineRunner()
    versions = [make_scheduler("m", engine, runner, BatchPolicy(1), metrics) for engine in engines]
    for scheduler in versions:
        scheduler.start()
    tasks = submit(versions[0], 1)
    await pass_begun(engines[0])
    tasks += submit(versions[0], 2, 3) + submit(versions[1], 4)
    await asyncio.sleep(0)
    assert metrics.registry.get_sample_value("mixer_queue_depth", {"model": "m"}) == 3
    for engine in engines:
        engine.gate.set()
    assert await asyncio.gather(*tasks) == [1, 2, 3, 4]
    assert metrics.registry.get_sample_value("mixer_queue_depth", {"model": "m"}) == 0
    for scheduler in versions:
        await scheduler.close()
