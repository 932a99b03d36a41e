import numpy as np
import pytest

from service.arrays import LogitBatch, PixelBatch
from service.engines.measuring import (
    batch_sizes_up_to,
    best_batch_size,
    best_rate,
    measure_decode_seconds,
    measure_pass_seconds,
    thread_budget,
    warm_up,
)


class Clocked:
    """A pass takes 10 ms and 5 ms an image, the first of each size ten times as long."""

    name, threads = "clocked", 1

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
    assert best_rate(curve) == pytest.approx(160)


def test_every_size_that_can_occur_is_warmed(monkeypatch: pytest.MonkeyPatch) -> None:
    engine = Clocked(monkeypatch)
    warm_up(engine, 4, 6)
    assert engine.sizes == [1, 2, 3, 4, 5, 6]
    engine.sizes.clear()
    warm_up(engine, 4, 100)
    assert engine.sizes == [*range(1, 17), 32, 64, 100]


def test_measured_are_the_powers_of_two_and_the_largest() -> None:
    assert batch_sizes_up_to(1) == [1]
    assert batch_sizes_up_to(16) == [1, 2, 4, 8, 16]
    assert batch_sizes_up_to(24) == [1, 2, 4, 8, 16, 24]


def test_no_batch_is_larger_than_pays() -> None:
    assert best_batch_size({1: 0.01, 2: 0.02, 4: 0.04}) == 1
    assert best_batch_size({1: 0.01, 2: 0.015, 4: 0.0297, 8: 0.059}) == 2
    assert best_batch_size({1: 1.0, 2: 1.0, 4: 1.0, 8: 1.0}) == 8


def test_decoding_is_measured_on_a_real_jpeg() -> None:
    seen: list[bytes] = []
    assert measure_decode_seconds(seen.append) >= 0
    assert seen[0][:2] == b"\xff\xd8"


@pytest.mark.parametrize(
    ("cores", "engine_ms", "decode_ms", "engine", "decode"),
    [
        (16, 40, 2, 15, 1),
        (16, 2, 2, 8, 8),
        (16, 7, 3, 11, 5),
        (8, 0.1, 5, 1, 7),
        (2, 2, 2, 1, 1),  # a core each keeps both busy
        (2, 40, 2, 2, 0),  # a core of its own would leave decoding idle nearly all the time
        (2, 1, 3, 1, 1),
        (3.9, 30, 10, 2, 1),
        (1, 10, 10, 1, 0),
        (0.5, 10, 10, 1, 0),
    ],
)
def test_cores_go_where_the_time_goes(
    cores: float, engine_ms: float, decode_ms: float, engine: int, decode: int
) -> None:
    budget = thread_budget(cores, 0, engine_ms, decode_ms)
    assert (budget.engine_threads, budget.decode_threads) == (engine, decode)
    assert budget.decode_threads + budget.engine_threads <= max(1, cores)


@pytest.mark.parametrize(("cores", "threads", "decode"), [(8, 3, 5), (2, 1, 1), (2, 2, 0), (0.5, 1, 0)])
def test_the_operator_may_choose_the_engine_threads(cores: float, threads: int, decode: int) -> None:
    budget = thread_budget(cores, engine_threads=threads)
    assert (budget.decode_threads, budget.engine_threads) == (decode, threads)
