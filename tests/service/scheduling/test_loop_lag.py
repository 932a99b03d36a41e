import asyncio
import time

import pytest

from service.scheduling.loop_lag import LoopLag

pytestmark = pytest.mark.anyio


def test_it_rises_at_once_and_falls_slowly() -> None:
    lag = LoopLag()
    lag.take(0.1)
    assert lag.seconds == 0.1
    lag.take(0.0)
    assert lag.seconds == pytest.approx(0.08)
    lag.take(-1.0)  # a look that came early
    assert lag.seconds == pytest.approx(0.064)
    lag.take(0.3)
    assert lag.seconds == 0.3


def test_a_loop_that_is_held_now_and_then_is_not_held_at_every_step() -> None:
    now_and_then, always = LoopLag(), LoopLag()
    for look in range(100):
        now_and_then.take(0.1 if look % 10 == 0 else 0.0)
        always.take(0.1)
    now_and_then.take(0.1)
    assert 0.1 < now_and_then.on_the_way < 0.15
    assert always.on_the_way == pytest.approx(0.3, rel=0.01)


async def test_a_loop_that_is_held_is_behind() -> None:
    spent: list[float] = []
    looked = asyncio.Event()

    def count(seconds: float) -> None:
        spent.append(seconds)
        looked.set()

    lag = LoopLag(count)
    lag.start()
    await asyncio.sleep(0)
    while sum(spent) < 0.1:
        ended = time.thread_time() + 0.1
        while time.thread_time() < ended:
            pass
        looked.clear()
        await looked.wait()
    assert lag.seconds > 0.05
    lag.stop()


async def test_who_never_looked_may_stop() -> None:
    LoopLag().stop()
