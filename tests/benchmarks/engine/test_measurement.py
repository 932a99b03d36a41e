import io

import pytest
from PIL import Image

from benchmarks.engine.agreement import Agreement
from benchmarks.engine.chart import draw_chart
from benchmarks.engine.columns.column import Column, Precision
from benchmarks.engine.gemm import Gemm, peaks
from benchmarks.engine.measurement import Measurement, ratio_rows, speed_rows


def measurement(
    name: str, rates: list[float], precision: Precision = "fp32", ours: bool = False, batch: int = 8
) -> Measurement:
    column = Column(name, precision, lambda files, threads: pytest.fail("nothing is run"), ours)
    agreement = Agreement(cosine=0.99912345, top1=31 / 32, batch_invariant=batch > 1 or None)
    return Measurement("B/16", 2, batch, column, rates, gflop=2.5, peak=400, agreement=agreement)


THEIRS = measurement("theirs", [10, 5, 20])
SLOW = measurement("ours slow", [10, 10, 40], ours=True)  # beside theirs: 1, 2, 2 times as fast
FAST = measurement("ours fast", [40, 30, 50], "int8", ours=True)  # 4, 6, 2.5 times


def test_a_row_has_the_speed_and_what_it_is_worth() -> None:
    assert speed_rows([FAST]) == [
        {
            "model": "B/16",
            "engine": "ours fast",
            "precision": "int8",
            "threads": 2,
            "batch": 8,
            "img/s": 40,
            "img/s/core": 20,
            "GFLOP/s": 100,
            "% of GEMM peak": 25,
            "spread %": 50,
            "cosine": 0.999123,
            "top-1 %": 96.9,
            "batch-invariant": True,
        }
    ]


def test_a_ratio_is_the_median_of_the_rounds_ratios() -> None:
    panel = {"model": "B/16", "threads": 2, "batch": 8}
    slow, fast = ({**panel, "engine": f"ours {name}", "/ theirs": ratio} for name, ratio in (("slow", 2), ("fast", 4)))
    assert ratio_rows([THEIRS, FAST, SLOW], best_only=True) == [fast]
    assert ratio_rows([THEIRS, FAST, SLOW], best_only=False) == [fast, slow]
    assert ratio_rows([THEIRS], best_only=True) == []


def test_ratios_stay_within_their_batch_size() -> None:
    measurements = [
        THEIRS,
        SLOW,
        measurement("theirs", [1, 1, 1], batch=1),
        measurement("a", [7, 7, 7], "fp32", True, 1),
    ]
    assert [(row["batch"], row["/ theirs"]) for row in ratio_rows(measurements, best_only=True)] == [(8, 2), (1, 7)]


def test_the_peak_is_the_best_product_and_int8s_twice_bf16s() -> None:
    a, b, c = (
        Gemm(name, p, lambda threads: pytest.fail()) for name, p in (("a", "fp32"), ("b", "fp32"), ("c", "bf16"))
    )
    assert peaks({a: 220, b: 420, c: 930}) == {"fp32": 420, "bf16": 930, "int8": 1860}
    assert peaks({b: 420, a: 220}) == {"fp32": 420}


def test_the_chart_is_a_png_with_a_panel_for_every_batch() -> None:
    one = Image.open(io.BytesIO(draw_chart([THEIRS, FAST])))
    three = Image.open(
        io.BytesIO(draw_chart([m for batch in (1, 2, 4) for m in [measurement("a", [1, 2], batch=batch)]]))
    )
    assert (one.format, three.format) == ("PNG", "PNG")
    assert three.width > 1.5 * one.width
    one.load()
