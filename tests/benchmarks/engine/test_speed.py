import itertools
import json
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from PIL import Image

from benchmarks.__main__ import main
from benchmarks.engine.columns.column import Bind, Column, Pass
from benchmarks.engine.columns.competitors import COMPETITORS
from benchmarks.engine.columns.model_files import ModelFiles
from benchmarks.engine.columns.ours import OURS
from benchmarks.engine.gemm import Gemm
from benchmarks.engine.speed import measure_subject
from benchmarks.engine.subject import CLASSES, make_subject
from service.arrays import LogitBatch, PixelBatch


@pytest.fixture(autouse=True)
def torch_threads() -> Iterator[None]:
    """Put back, for the tests that follow, what measuring torch sets for the process."""
    threads = torch.get_num_threads()
    yield
    torch.set_num_threads(threads)


class Machine:
    """A clock that only passes move, and columns whose passes take known times."""

    def __init__(self, monkeypatch: pytest.MonkeyPatch) -> None:
        self.now = 0.0
        monkeypatch.setattr(time, "perf_counter", lambda: self.now)

    def column(self, name: str, seconds_by_round: list[float], ours: bool = False) -> Column:
        """Passes of half the time on two threads; in each round one that is not counted, then one that is."""

        def load(_: ModelFiles, threads: int) -> Bind:
            def bind(pixels: PixelBatch) -> Pass:
                calls = itertools.count()

                def run() -> LogitBatch:
                    self.now += seconds_by_round[next(calls) // 2 % len(seconds_by_round)] / threads
                    return np.ones((len(pixels), CLASSES), np.float32)

                return run

            return bind

        return Column(name, "fp32", load, ours)

    def gemm(self, seconds: float, gflop: float) -> Gemm:
        def load(threads: int) -> Pass:
            def run() -> LogitBatch:
                self.now += seconds / threads
                return np.zeros((1, 1), np.float32)

            return run

        return Gemm("product", "fp32", load, gflop)


def test_figures_follow_from_what_the_passes_took(monkeypatch: pytest.MonkeyPatch) -> None:
    machine = Machine(monkeypatch)
    columns = [machine.column("theirs", [0.5, 1, 0.25]), machine.column("ours", [0.25, 0.25, 0.25], ours=True)]
    subject = make_subject("tiny/4")
    measurements, products = measure_subject(
        subject, columns, [machine.gemm(0.5, gflop=10)], threads=[1, 2], batch_sizes=[1, 4], rounds=3, seconds=0.1
    )
    assert [(*m.panel, m.column.name) for m in measurements] == [
        ("tiny/4", threads, batch, name) for threads in (1, 2) for batch in (1, 4) for name in ("theirs", "ours")
    ]
    theirs, ours = measurements[2:4]  # one thread, four images
    assert theirs.rates == [8, 4, 16]
    assert (theirs.median, theirs.spread) == (8, 1.5)
    assert ours.rates == [16, 16, 16]
    assert ours.ratio_to(theirs) == 2
    assert measurements[6].rates == [16, 8, 32]  # two threads
    assert ours.gflop == pytest.approx(2 * 69_248 / 1e9)
    assert [m.peak for m in measurements] == [20] * 4 + [40] * 4
    assert [row["GFLOP/s"] for row in products] == [20, 40]
    assert not any(m.agreement.batch_invariant is False for m in measurements)


def test_every_column_runs_and_is_reported(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    options = ["--rounds", "1", "--seconds", "0.001", "--batch-sizes", "1,3", "--threads", "1", "--out", str(tmp_path)]
    monkeypatch.setattr(sys, "argv", ["benchmarks", "engine", "--variants", "tiny/4", *options])
    main()
    report = json.loads((tmp_path / "engine.json").read_text())
    columns = [*COMPETITORS, *OURS]
    assert [(row["engine"], row["batch"]) for row in report["rows"]] == [
        (column.name, batch) for batch in (1, 3) for column in columns
    ]
    for row in report["rows"]:
        assert row["img/s"] > 0
        assert row["cosine"] > 0.999
        if row["precision"] == "fp32":
            assert row["top-1 %"] == 100
        assert row["batch-invariant"] is (None if row["batch"] == 1 else "dynamic" not in row["engine"]), row
    assert [row["batch"] for row in report["ratios of our fastest"]] == [1, 3]
    assert {row["engine"] for row in report["ratios of each of ours"]} == {column.name for column in OURS}
    for row in report["ratios of each of ours"]:
        assert {f"/ {column.name}" for column in COMPETITORS} < row.keys()
    assert {row["product"] for row in report["matrix products"]} == {"torch fp32", "onnxruntime fp32", "torch bf16"}
    assert "![engine](engine.png)" in (tmp_path / "engine.md").read_text()
    with Image.open(tmp_path / "engine.png") as chart:
        assert chart.format == "PNG"


def test_a_wrong_name_is_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "argv", ["benchmarks", "engine", "--variants", "tiny/4,S/33"])
    with pytest.raises(SystemExit, match=r"S/33"):
        main()
