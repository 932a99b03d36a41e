import asyncio
import threading

import pytest

from service.lanes.decode_pool import DecodePool
from service.lanes.shared_cores import Turns

pytestmark = pytest.mark.anyio


async def test_work_is_done_off_the_loop_and_timed() -> None:
    pool = DecodePool(1, 0.0)
    (name, data), seconds = await pool.run(lambda data: (threading.current_thread().name, data), b"x")
    assert name.startswith("decode")
    assert data == b"x"
    assert seconds >= 0


async def test_a_caller_that_leaves_gives_nothing_back_before_its_thread_is_done() -> None:
    turns = Turns(4)
    pool, gate, begun = DecodePool(1, 0.0, turns), threading.Event(), threading.Event()

    def work(data: bytes) -> bytes:
        begun.set()
        assert gate.wait(10)
        raise ValueError("nobody hears of it")

    leaving = asyncio.create_task(pool.run(work, b""))
    assert await asyncio.to_thread(begun.wait, 10)
    queued = asyncio.create_task(pool.run(work, b""))
    await asyncio.sleep(0)
    for task in (leaving, queued):
        task.cancel()
    await asyncio.gather(leaving, queued, return_exceptions=True)
    assert leaving.cancelled()
    passing = asyncio.create_task(_enter(turns))
    for _ in range(5):
        await asyncio.sleep(0)
    assert not passing.done()  # the first still decodes
    gate.set()
    async with asyncio.timeout(10):
        await passing
    assert pool.waiting == 0


async def _enter(turns: Turns) -> None:
    async with turns.passing():
        pass


async def test_one_huge_image_does_not_make_all_look_huge(monkeypatch: pytest.MonkeyPatch) -> None:
    pool = DecodePool(1, 0.002)
    now = [0.0]
    monkeypatch.setattr("time.perf_counter", lambda: now[0])

    def work(seconds: float) -> None:
        now[0] += seconds

    await pool.run(lambda data: work(60), b"")
    assert pool.seconds_for(0) < 0.003
    for _ in range(200):
        await pool.run(lambda data: work(0.01), b"")
    assert pool.seconds_for(0) == pytest.approx(0.01, rel=0.01)
    assert pool.seconds_for(3) == pytest.approx(0.04, rel=0.01)


async def test_what_nobody_waits_for_is_not_begun() -> None:
    pool, gate, begun = DecodePool(1, 0.0), threading.Event(), []

    def work(data: bytes) -> None:
        begun.append(data)
        assert gate.wait(10)

    first = asyncio.create_task(pool.run(work, b"first"))
    left = asyncio.create_task(pool.run(work, b"left"))
    await asyncio.sleep(0)
    left.cancel()
    await asyncio.gather(left, return_exceptions=True)
    gate.set()
    await first
    await pool.run(work, b"last")
    assert begun == [b"first", b"last"]
    assert pool.waiting == 0
