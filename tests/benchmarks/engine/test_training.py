import pytest

from benchmarks.engine.gemm import measure_peaks
from benchmarks.engine.training import measure_training
from model_export.variants import config_of


def test_steps_by_precision_and_their_share_of_the_peak(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("benchmarks.engine.training.measure_peaks", lambda threads: {"fp32": 10.0, "bf16": 20.0})
    rows = measure_training(["tiny/4"], threads=1, batch=4, rounds=1, seconds=0.001).tables["rows"]
    assert [(row["model"], row["batch"], row["precision"]) for row in rows] == [
        ("tiny/4", 4, "fp32"),
        ("tiny/4", 4, "bf16"),
    ]
    assert rows[0]["over fp32"] == 1
    for row, peak in zip(rows, (10, 20), strict=True):
        rate = row["img/s"]
        assert isinstance(rate, float)
        gflops = rate * 6 * config_of("tiny/4", 1000).macs / 1e9
        assert row["% of GEMM peak"] == pytest.approx(100 * gflops / peak, abs=0.06)


def test_both_precisions_have_a_peak() -> None:
    assert measure_peaks(1, seconds=0.001, rounds=1).keys() >= {"fp32", "bf16"}
