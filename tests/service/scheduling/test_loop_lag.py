import asyncio
import time

import pytest

from service.scheduling.loop_lag import LoopLag

pytestmark = pytest.mark.anyio


def test_it_rises_at_once_and_falls_slowly() -> None:
    lag = LoopLag()
    lag.take(0.1)
    assert lag.seconds == 0.1
    assert lag.on_the_way == pytest.approx(0.5)
    lag.take(0.0)
    assert lag.seconds == pytest.approx(0.08)
    lag.take(-1.0)  # a look that came early
    assert lag.seconds == pytest.approx(0.064)
    lag.take(0.3)
    assert lag.seconds == 0.3


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
