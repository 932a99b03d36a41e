import numpy as np
import pytest

from service.arrays import LogitBatch, PixelBatch
from service.engines.measuring import measure_decode_seconds, measure_pass_seconds, warm_up


class Clocked:
    """A pass takes 10 ms and 5 ms an image, the first of each size ten times as long."""

    name = "clocked"

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now, self.sizes = 0.0, []  # type: tuple[float, list[int]]
        monkeypatch.setattr("time.perf_counter", lambda: self.now)

    def run(self, pixels: PixelBatch) -> LogitBatch:
        size = len(pixels)
        self.now += (0.010 + 0.005 * size) * (1 if size in self.sizes else 10)
        self.sizes.append(size)
        return np.zeros((size, 1), np.float32)


def test_the_curve_is_that_of_warm_passes(monkeypatch: pytest.MonkeyPatch) -> None:
    curve = measure_pass_seconds(Clocked(monkeypatch), 4, [1, 2, 8])
    assert curve == pytest.approx({1: 0.015, 2: 0.020, 8: 0.050})


@pytest.mark.parametrize("paused", [1, 2, 8])
def test_a_pause_of_the_machine_is_no_part_of_the_curve(monkeypatch: pytest.MonkeyPatch, paused: int) -> None:
    class Paused(Clocked):
        def run(self, pixels: PixelBatch) -> LogitBatch:
            if len(pixels) == paused and self.sizes.count(paused) == 1:  # warm, and measured for the first time
                self.now += 0.4
            return super().run(pixels)

    curve = measure_pass_seconds(Paused(monkeypatch), 4, [1, 2, 8])
    assert curve == pytest.approx({1: 0.015, 2: 0.020, 8: 0.050})


def test_a_smaller_batch_takes_no_longer_than_a_larger_one(monkeypatch: pytest.MonkeyPatch) -> None:
    class Slow(Clocked):
        def run(self, pixels: PixelBatch) -> LogitBatch:
            self.now += 0.4 * (len(pixels) == 1)
            return super().run(pixels)

    assert measure_pass_seconds(Slow(monkeypatch), 4, [1, 2])[1] == pytest.approx(0.020)


def test_every_size_that_can_occur_is_warmed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Clocked(monkeypatch)
    warm_up(engine, 4, 6)
    assert engine.sizes == [1, 2, 3, 4, 5, 6]
    engine.sizes.clear()
    warm_up(engine, 4, 100)
    assert engine.sizes == [*range(1, 17), 32, 64, 100]


def test_decoding_is_measured_on_a_real_jpeg() -> None:
    seen: list[bytes] = []
    assert measure_decode_seconds(seen.append) >= 0
    assert seen[0][:2] == b"\xff\xd8"
