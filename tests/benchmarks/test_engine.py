import time
from pathlib import Path

import numpy as np
import pytest

from benchmarks.engine import images_per_second, measure_engine
from service.engine import LogitBatch, PixelBatch

DIGITS = Path(__file__).parent.parent.parent / "models" / "digits" / "1"


class TimedEngine:
    """A pass takes half a second of a clock that nothing else moves."""

    threads = 1

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def run(self, pixels: PixelBatch) -> LogitBatch:
        self.now += 0.5
        return np.zeros((len(pixels), 2), np.float32)


@pytest.mark.parametrize(("batch", "seconds", "rate"), [(1, 2, 2), (8, 2, 16), (8, 0.1, 16), (4, 1.2, 8)])
def test_the_rate_is_images_over_the_time_they_took(
    monkeypatch: pytest.MonkeyPatch, batch: int, seconds: float, rate: float
) -> None:
    engine = TimedEngine(monkeypatch)
    assert images_per_second(engine, np.zeros((batch, 1, 1, 3), np.uint8), seconds) == rate


def test_a_row_for_every_combination() -> None:
    rows = measure_engine(DIGITS, threads=[1, 2], batch_sizes=[1, 4], rounds=2, seconds=0.01)
    assert [(row["threads"], row["batch"]) for row in rows] == [(1, 1), (1, 4), (2, 1), (2, 4)]
    for row in rows:
        rate, threads = row["img/s"], row["threads"]
        assert isinstance(rate, int)
        assert isinstance(threads, int)
        assert rate > 0
        assert row["img/s/core"] == pytest.approx(rate / threads, abs=1)
        assert row["GFLOP/s"] == pytest.approx(rate * 2 * 0.021366, rel=0.02)
