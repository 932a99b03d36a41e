"""Lanes come, are lost and come again; their processes are threads."""

import asyncio
import json
import socket
import threading
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

import service.lanes.pool
from service.arrays import LogitBatch, PixelBatch
from service.lanes.lane import Answer, BatchAnswer, Lane, LaneLost, LoadFailure
from service.lanes.orders import Loaded
from service.lanes.pool import LanePool
from service.lanes.program import serve
from service.lanes.wire import Item
from service.metrics import Metrics
from tests.doubles import SIDE, EchoEngine, FailingEngine, GatedEngine, ThreadLane, ThreadLanes, write_bundle
from tests.service.lanes.loading import order

pytestmark = pytest.mark.anyio


class WatchedLane(ThreadLane):
    """Says what it was asked to build, and when it has ended."""

    def __init__(self, connection: socket.socket, engine: EchoEngine, pid: int) -> None:
        self.pid = pid  # type: ignore[misc]
        self.ended = threading.Event()
        self.asked: list[tuple[int, str]] = []  # threads, engine
        super().__init__(connection, engine)

    def _serve(self, engine: EchoEngine) -> None:
        def find(bundle: object, threads: int, wanted: str, providers: list[str]) -> dict[str, object]:
            self.asked.append((threads, wanted))
            return {"double": lambda: engine}

        with suppress(OSError), self._connection:
            serve(self._connection, find)  # type: ignore[arg-type]
        self.ended.set()


class Spawner(ThreadLanes):
    """Each lane has the engine whose turn it is, the last one again and again; None: it cannot be started."""

    def __init__(self, *engines: EchoEngine | None) -> None:
        super().__init__(EchoEngine())
        self.engines = list(engines) or [self.engine]
        self.started: list[WatchedLane] = []  # type: ignore[assignment]
        self.attempts = 0

    def __call__(self, connection: socket.socket) -> WatchedLane:
        engine = self.engines[min(self.attempts, len(self.engines) - 1)]
        self.attempts += 1
        if engine is None:
            with connection:
                raise OSError("no process can be had")
        lane = WatchedLane(connection, engine, pid=-len(self.started) - 1)
        self.started.append(lane)
        return lane

    async def all_end(self) -> None:
        for lane in self.started:
            assert await asyncio.to_thread(lane.ended.wait, 10)


class Pool:
    """A pool, and what it says of itself."""

    def __init__(self, spawner: Spawner) -> None:
        self.metrics, self.freed = Metrics(), asyncio.Event()
        self.spawner = spawner
        self.lanes = LanePool("echo", spawner, self.metrics, self.freed.set)

    async def start(self, bundle: Path, lanes: int, **changes: object) -> Loaded:
        return await self.lanes.start(order(bundle, **changes), lanes, 3 * SIDE * SIDE)

    def count(self, name: str, **labels: str) -> float | None:
        return self.metrics.registry.get_sample_value(f"mixer_{name}", labels)

    async def ask(self, level: int, lane: Lane | None = None) -> object:
        item = Item(bytes([level] * (3 * SIDE * SIDE)), 1, is_pixels=True)
        return self.level(await self.run(lane or self.lanes.take(), item))

    async def run(self, lane: Lane, item: Item) -> BatchAnswer:
        return await self.lanes.run(lane, [item], 60, wide=False, alone=False)

    @staticmethod
    def level(answer: BatchAnswer) -> object:
        (outcome,) = answer.outcomes
        assert isinstance(outcome, Answer)
        return json.loads(outcome.answer)[0]["index"]

    async def replaced(self) -> None:
        async with asyncio.timeout(10):
            await self.freed.wait()
        self.freed.clear()


@pytest.fixture
def bundle(tmp_path: Path) -> Path:
    return write_bundle(tmp_path)


@pytest.fixture(autouse=True)
def quick(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(service.lanes.pool, "_SHORTEST_PAUSE", 0.001)
    monkeypatch.setattr(service.lanes.pool, "_LONGEST_PAUSE", 0.004)
    monkeypatch.setattr(service.lanes.pool, "_LOOK", 0.001)


@asynccontextmanager
async def serving(bundle: Path, lanes: int, *engines: EchoEngine | None, **changes: object) -> AsyncIterator[Pool]:
    pool = Pool(Spawner(*engines))
    await pool.start(bundle, lanes, **changes)
    try:
        yield pool
    finally:
        for engine in engines:
            if isinstance(engine, GatedEngine):
                engine.gate.set()
        await pool.lanes.close()
        await pool.spawner.all_end()
        await asyncio.sleep(0)


async def test_the_first_lane_chooses_and_the_others_do_as_it_did(bundle: Path) -> None:
    async with serving(bundle, 3) as pool:
        assert [lane.asked for lane in pool.spawner.started] == [[(1, "auto")], [(1, "double")], [(1, "double")]]
        assert (pool.lanes.size, pool.lanes.ready, pool.lanes.threads) == (3, 3, 1)
        assert pool.count("lanes_ready") == 3
        assert pool.lanes.idle
        assert not pool.lanes.given_up


async def test_a_lane_that_is_taken_is_free_again_once_it_has_run(bundle: Path) -> None:
    async with serving(bundle, 2) as pool:
        lanes = pool.lanes
        taken = [lanes.take(), lanes.take()]
        assert not lanes.has_free
        assert not lanes.idle
        taken[0].busy_until, taken[1].busy_until = 5.0, 7.0
        assert sorted(lanes.free_at(6.0)) == [6.0, 7.0]
        assert await pool.ask(3, taken[1]) == 3
        assert lanes.has_free
        assert not lanes.idle
        assert sorted(lanes.free_at(1.0)) == [1.0, 5.0]
        assert lanes.take() is taken[1]
        assert [await pool.ask(level, lane) for level, lane in zip((4, 5), taken, strict=True)] == [4, 5]
        assert lanes.idle


async def test_passes_take_what_they_take_in_company(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    clock = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: clock[0])

    class Sharing(EchoEngine):
        """Passes that are made at the same time make each other twice as slow."""

        together = threading.Barrier(2)

        def run(self, pixels: PixelBatch) -> LogitBatch:
            in_company = pool.lanes.ready == 2
            if in_company:
                self.together.wait(10)
            clock[0] += 0.1 * len(pixels)
            if in_company:
                self.together.wait(10)
            return super().run(pixels)

    pool = Pool(Spawner(Sharing(), Sharing()))
    loaded = await pool.start(bundle, 2)
    assert loaded.pass_seconds == pytest.approx({1: 0.2, 2: 0.4, 4: 0.8})
    await pool.lanes.close()
    await pool.spawner.all_end()


async def test_a_wide_lane_is_for_who_is_alone(bundle: Path) -> None:
    async with serving(bundle, 3) as pool:
        wide = pool.lanes.take()
        others = [pool.lanes.take(), pool.lanes.take()]
        wide.has_wide_engine = True
        for lane in (others[0], wide, others[1]):
            await pool.ask(1, lane)
        assert pool.lanes.take(wide=True) is wide
        await pool.ask(1, wide)
        assert [pool.lanes.take(), pool.lanes.take()] == others[::-1]  # the one that was busy last is warm
        assert pool.lanes.take() is wide  # rather than none


@pytest.mark.parametrize("broken", [0, 1, 2])
async def test_where_one_lane_cannot_load_none_is_left(bundle: Path, broken: int) -> None:
    failing = FailingEngine()
    failing.broken = True
    engines: list[EchoEngine | None] = [EchoEngine(), EchoEngine(), EchoEngine()]
    engines[broken] = failing
    pool = Pool(Spawner(*engines))
    with pytest.raises(LoadFailure, match="poisoned"):
        await pool.start(bundle, 3)
    assert pool.lanes.ready == 0
    assert pool.count("lanes_ready") == 0
    await pool.spawner.all_end()


async def test_where_no_process_can_be_had_none_is_left(bundle: Path) -> None:
    pool = Pool(Spawner(EchoEngine(), None, EchoEngine()))
    with pytest.raises(OSError, match="no process can be had"):
        await pool.start(bundle, 3)
    await pool.spawner.all_end()


async def test_a_start_that_is_given_up_leaves_no_lane(bundle: Path) -> None:
    gated = GatedEngine()
    pool = Pool(Spawner(EchoEngine(), EchoEngine(), gated))
    starting = asyncio.create_task(pool.start(bundle, 3))
    assert await asyncio.to_thread(gated.entered.acquire, timeout=10)
    starting.cancel()
    with pytest.raises(asyncio.CancelledError):
        await starting
    gated.gate.set()
    await pool.spawner.all_end()
    assert pool.count("lanes_ready") == 0


async def test_a_lost_lane_is_replaced_by_one_that_does_as_it_did(bundle: Path) -> None:
    async with serving(bundle, 2) as pool:
        pool.spawner.started[1].kill()
        await pool.replaced()
        assert pool.lanes.ready == 2
        assert pool.spawner.started[2].asked == [(1, "double")]
        assert pool.count("lane_restarts_total", reason="crash") == 1
        assert pool.count("lanes_ready") == 2
        assert [await pool.ask(level, pool.lanes.take()) for level in (7, 8)] == [7, 8]


async def test_a_lane_that_is_lost_with_a_batch_is_free_for_nobody(bundle: Path) -> None:
    gated = GatedEngine()
    gated.gate.set()
    async with serving(bundle, 2, gated, EchoEngine()) as pool:
        gated.gate.clear()
        gated.entered = threading.Semaphore(0)
        taken = {lane.process: lane for lane in (pool.lanes.take(), pool.lanes.take())}
        lane, other = (taken[process] for process in pool.spawner.started)
        batch = asyncio.create_task(pool.ask(5, lane))
        assert await asyncio.to_thread(gated.entered.acquire, timeout=10)
        pool.spawner.started[0].kill()
        with pytest.raises(LaneLost):
            await batch
        assert await pool.ask(6, other) == 6
        await pool.replaced()
        assert pool.lanes.ready == 2
        assert lane not in [pool.lanes.take(), pool.lanes.take()]


async def test_a_lane_whose_engine_works_no_more_ends_and_is_replaced(bundle: Path) -> None:
    failing = FailingEngine()
    async with serving(bundle, 1, failing, EchoEngine()) as pool:
        failing.broken = True
        await pool.run(pool.lanes.take(), Item(bytes(3 * SIDE * SIDE), 1, is_pixels=True))
        await pool.replaced()
        assert await pool.ask(9) == 9


async def test_replacing_is_tried_again_and_again_with_longer_and_longer_pauses(
    bundle: Path, caplog: pytest.LogCaptureFixture
) -> None:
    failing = FailingEngine()
    failing.broken = True
    async with serving(bundle, 1, EchoEngine(), None, failing, None, None, EchoEngine()) as pool:
        pool.spawner.started[0].kill()
        await pool.replaced()
        assert await pool.ask(9) == 9
        assert pool.count("lane_restarts_total", reason="crash") == 1
    pauses = [record.args[1] for record in caplog.records if "next attempt" in record.msg]  # type: ignore[index]
    assert pauses == [0.001, 0.002, 0.004, 0.004]


async def test_a_replacement_is_tried_again_whatever_stopped_it(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    async with serving(bundle, 1) as pool:
        wrong = [RuntimeError("can't start new thread")]

        def spawn(connection: socket.socket) -> WatchedLane:
            if wrong:
                with connection:
                    raise wrong.pop()
            return pool.spawner(connection)

        monkeypatch.setattr(pool.lanes, "_spawn", spawn)
        pool.spawner.started[0].kill()
        await pool.replaced()
        assert await pool.ask(5) == 5
    assert "next attempt in 0.001 s: can't start new thread" in caplog.text


async def test_a_lane_that_closes_its_connection_and_lives_on_is_ended(
    bundle: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with serving(bundle, 1) as pool:
        killed = threading.Event()
        monkeypatch.setattr(pool.spawner.started[0], "kill", killed.set)
        pool.spawner.started[0]._connection.shutdown(socket.SHUT_RDWR)
        await pool.replaced()
        assert killed.is_set()


async def test_once_no_lane_can_be_started_again_that_is_known_and_so_is_a_recovery(bundle: Path) -> None:
    failing = FailingEngine()
    async with serving(bundle, 2, EchoEngine(), EchoEngine(), failing) as pool:
        failing.broken = True
        pool.spawner.started[1].kill()
        async with asyncio.timeout(10):
            while pool.spawner.attempts < 12:
                await asyncio.sleep(0.001)
        assert not pool.lanes.given_up  # one serves
        pool.spawner.started[0].kill()
        async with asyncio.timeout(10):
            while not pool.lanes.given_up:
                await asyncio.sleep(0.001)
        assert pool.lanes.ready == 0
        failing.broken = False
        await pool.replaced()
        assert not pool.lanes.given_up


async def test_a_lane_that_outgrows_its_memory_is_replaced(bundle: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    held = {-1: 100, -2: 100}
    monkeypatch.setattr(service.lanes.pool, "held_bytes", lambda pid: held.get(pid, 0))
    async with serving(bundle, 2, memory=1000) as pool:
        assert pool.lanes.ready == 2
        held[-2] = 1000
        await pool.replaced()
        assert pool.count("lane_restarts_total", reason="memory") == 1
        assert pool.count("lane_restarts_total", reason="crash") == 0
        assert pool.lanes.ready == 2
        assert await pool.ask(4) == 4
        assert [lane.ended.is_set() for lane in pool.spawner.started] == [False, True, False]


@pytest.mark.parametrize("patient", [True, False])
async def test_what_a_batch_needs_for_a_while_is_no_reason_to_replace_its_lane(
    bundle: Path, monkeypatch: pytest.MonkeyPatch, patient: bool
) -> None:
    if patient:
        monkeypatch.setattr(service.lanes.pool, "_LOOKS", 10**6)
    looks = asyncio.Semaphore(0)

    def held(pid: int) -> int:
        if pid == -1:
            looks.release()
        return {-1: 1000}.get(pid, 0)

    gated = GatedEngine()
    gated.gate.set()
    async with serving(bundle, 1, gated, EchoEngine(), memory=1000) as pool:
        gated.gate.clear()
        asked = asyncio.create_task(pool.ask(4))
        await asyncio.sleep(0)
        monkeypatch.setattr(service.lanes.pool, "held_bytes", held)
        if patient:
            for _ in range(20):
                await looks.acquire()
            assert pool.count("lane_restarts_total", reason="memory") == 0
            gated.gate.set()
            assert await asked == 4
            await pool.replaced()  # it holds on to it, and is idle
        else:
            with pytest.raises(LaneLost):
                await asked
            await pool.replaced()
            gated.gate.set()
        assert pool.count("lane_restarts_total", reason="memory") == 1


async def test_who_closes_the_pool_ends_the_lanes_and_replaces_none(bundle: Path) -> None:
    async with serving(bundle, 2, EchoEngine(), EchoEngine(), None) as pool:
        pool.spawner.started[0].kill()
        async with asyncio.timeout(10):
            while pool.spawner.attempts < 4:
                await asyncio.sleep(0.001)
    assert pool.count("lanes_ready") == 0
    attempts = pool.spawner.attempts
    await asyncio.sleep(0.05)
    assert pool.spawner.attempts == attempts


async def test_a_lane_that_is_busy_when_the_pool_closes_is_ended(bundle: Path) -> None:
    gated = GatedEngine()
    gated.gate.set()
    async with serving(bundle, 1, gated) as pool:
        gated.gate.clear()
        gated.entered = threading.Semaphore(0)
        batch = asyncio.create_task(pool.ask(5))
        assert await asyncio.to_thread(gated.entered.acquire, timeout=10)
        await pool.lanes.close()
        with pytest.raises(LaneLost):
            await batch
    assert pool.count("lane_restarts_total", reason="hang") == 0
